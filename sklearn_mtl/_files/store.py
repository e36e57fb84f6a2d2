"""One file for a fitted estimator: safetensors, with all that is no array as JSON in its header."""

from __future__ import annotations

import contextlib
import json
import os
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from sklearn_mtl._files.codec import decode, encode
from sklearn_mtl._files.disk import read_file, write_file
from sklearn_mtl._files.formats import FORMAT_VERSION, STEPS, Saved

__all__ = [
    "CHECKPOINT",
    "NO_CHECKSUM",
    "Packed",
    "blaming",
    "open_file",
    "pack",
    "read",
    "seal",
    "unpack",
    "write",
]

# All metadata stand under one key: in safetensors, the order of several differs from run to run.
KEY = "sklearn_mtl"

# In the header of a checkpoint, and of nothing else.
CHECKPOINT = "checkpoint_version"

# Before the checksum of all else: eight bytes with the length of the header, and how this begins.
# It stands where it always stands, so that what damages it cannot hide it.
NO_CHECKSUM = f"{0:08x}"
BEFORE = f'{{"__metadata__":{{"{KEY}":"{{\\"checksum\\":\\"'.encode()
CHECKED_SINCE = 5

# Bytes of a header that any file may have; more with its size, as JSON takes much memory.
HEADER = 2**21

PARTS = ("params", "fitted", "others", "stream")

# Before the names of the weights of the module, and of what the loss has learned; arrays are named
# after the attributes that hold them.
MODULE, RULE = "module.", "rule."


class Packed(NamedTuple):
    """What a file holds."""

    header: str
    tensors: dict[str, Tensor]


def pack(saved: Saved) -> Packed:
    """Turn an estimator's parts into what a file can hold."""
    from sklearn_mtl import __version__  # known only once the package is imported

    tensors: dict[str, Tensor] = {}
    header = {
        "checksum": NO_CHECKSUM,
        "format_version": FORMAT_VERSION,
        "package_version": __version__,
        "precision": saved.precision,
        "channels_last": saved.channels_last,
        "frozen": saved.frozen,
        **{
            part: {n: encode(v, n, tensors) for n, v in getattr(saved, part).items()}
            for part in PARTS
        },
    }
    states = [(MODULE, saved.weights), (RULE, saved.rule)]
    for prefix, name, value in ((p, n, v) for p, state in states for n, v in state.items()):
        if not isinstance(value, Tensor):
            raise TypeError(
                f"trunk has the state {name!r} of type {type(value).__name__}, which a file of "
                "tensors cannot hold. Keep it in a buffer, or pickle the estimator."
            )
        # A copy: safetensors refuses tensors that share memory.
        tensors[prefix + name] = value.detach().cpu().contiguous().clone()
    return Packed(json.dumps(header, allow_nan=False, separators=(",", ":")), tensors)


def unpack(packed: Packed) -> Saved:
    """Turn the content of a file into an estimator's parts."""
    header, tensors = json.loads(packed.header), dict(packed.tensors)
    version = header["format_version"]
    if version == 1:  # attributes stood among what was fitted
        header |= {"others": {}, "frozen": []}
    if version < 8:
        header |= {"stream": {}, "channels_last": None}
    weights, rule = (
        {n.removeprefix(prefix): tensors.pop(n) for n in list(tensors) if n.startswith(prefix)}
        for prefix in (MODULE, RULE)
    )
    parts = [header[part] for part in PARTS]
    values = decode([list(part.values()) for part in parts], tensors)
    if tensors:
        raise ValueError(f"nothing holds the tensors {sorted(tensors)}")
    params, fitted, others, stream = (
        dict(zip(part, found, strict=True)) for part, found in zip(parts, values, strict=True)
    )
    state = header["precision"], header["channels_last"], header["frozen"], weights, rule, version
    saved = Saved(params, fitted, others, stream, *state)
    for step in STEPS[version - 1 :]:
        saved = step(saved)
    return saved


def write(path: str | os.PathLike[str], packed: Packed) -> None:
    """Write a file; what stands there stays until all is written."""
    content = safetensors.torch.save(packed.tensors, metadata={KEY: packed.header})
    write_file(path, *_sealed(content))


def seal(content: bytes) -> bytes:
    """Put the checksum into the content of a file."""
    return b"".join(_sealed(content))


def _sealed(content: bytes) -> tuple[Any, Any, Any]:
    """Return the content of a file with its checksum, in parts that are not copied."""
    start, stop, checksum = _checksum(content)
    return memoryview(content)[:start], checksum, memoryview(content)[stop:]


def _checksum(content: bytes) -> tuple[int, int, bytes]:
    """Return where the checksum of a content stands, and what it should be."""
    start = 8 + len(BEFORE)
    stop = start + len(NO_CHECKSUM)
    view = memoryview(content)
    return start, stop, f"{zlib.crc32(view[stop:], zlib.crc32(view[:start])):08x}".encode()


def read(path: str | os.PathLike[str]) -> Saved:
    """Read a file; a ValueError says why that is not possible."""
    packed, is_sealed = open_file(path)
    version = _check_version(path, packed.header, is_sealed)
    with blaming(path, version=version):
        return unpack(packed)


def open_file(
    path: str | os.PathLike[str], advice: str = "Save the estimator again."
) -> tuple[Packed, bool | None]:
    """Read what a file holds, and whether its checksum is right; None if it has none."""
    content = read_file(path)
    length = int.from_bytes(content[:8], "little")
    try:
        if HEADER + len(content) // 3 < length <= len(content):
            raise ValueError(f"its header of {length} bytes is longer than any of such a file")
        tensors = safetensors.torch.load(content)
        metadata = json.loads(content[8 : 8 + length]).get("__metadata__") or {}
    except (SafetensorError, ValueError, KeyError, RecursionError) as error:
        if content[:1] == b"\x80" and content[1:2] <= b"\x05":
            raise ValueError(
                f"{path} is a pickle, and not a file of `save`. joblib.load(path) reads it, but it "
                "may run code: do so only if you know who has written it."
            ) from None
        raise ValueError(
            f"{path} is damaged, or is not a safetensors file: {error}. {advice}"
        ) from error
    if KEY not in metadata:
        raise ValueError(
            f"{path} is a safetensors file, but not one that MultiTaskCNNEstimator.save has "
            "written."
        )
    start, stop, checksum = _checksum(content)
    is_sealed = content[start:stop] == checksum if content[8:start] == BEFORE else None
    return Packed(metadata[KEY], tensors), is_sealed


def _check_version(path: str | os.PathLike[str], text: str, is_sealed: bool | None) -> int:
    """Refuse what has changed since it was written, and what a newer version has written."""
    with blaming(path):
        header = json.loads(text)
        is_checkpoint = CHECKPOINT in header
    if is_checkpoint:
        raise ValueError(
            f"{path} is a checkpoint: the state of a fit that has not ended, and no estimator. Go "
            f"on with it, fit of an estimator with checkpoint={str(path)!r} and the parameters, X "
            "and y of then, and save what that returns."
        )
    with blaming(path):
        version, package = header["format_version"], header["package_version"]
        if type(version) is not int or version < 1:
            raise ValueError(f"there is no format {version!r}")
        if is_sealed is False or (is_sealed is None and version >= CHECKED_SINCE):
            raise ValueError("its checksum says that it was changed after it was written")
    if version > FORMAT_VERSION:
        raise ValueError(
            f"{path} has format {version}, written by sklearn-mtl {package}; this version reads "
            f"formats up to {FORMAT_VERSION}. Upgrade sklearn-mtl."
        )
    return int(version)


@contextlib.contextmanager
def blaming(
    path: str | os.PathLike[str], trunk: Any = None, version: int = FORMAT_VERSION
) -> Iterator[None]:
    """Say that the file is at fault, or the trunk that was passed to go with it."""
    try:
        yield
    except (ImportError, MemoryError):  # a library that y's type needs
        raise
    except Exception as error:  # whatever a damaged file, or a user's trunk, brings about
        if trunk is not None:
            raise ValueError(
                f"{path} cannot be loaded with this trunk, of type {type(trunk).__name__}: {error} "
                "Pass the trunk that the estimator was fitted with."
            ) from error
        if version < FORMAT_VERSION:
            raise ValueError(
                f"{path} has format {version}, and cannot be made one of format {FORMAT_VERSION}: "
                f"{error!r}. Load it with the version that wrote it, or fit again."
            ) from error
        raise ValueError(
            f"{path} cannot be loaded: {error!r}. It is damaged, was made by something else than "
            "save, or holds a kind of target of your own that is not in KINDS here: import its "
            "module first."
        ) from error
