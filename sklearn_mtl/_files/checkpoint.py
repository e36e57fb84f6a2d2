"""The file of a fit that has not ended: how far it is, and whose it is."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from sklearn_mtl._files import store
from sklearn_mtl._files.codec import decode, encode
from sklearn_mtl._files.disk import locked
from sklearn_mtl._identity import fingerprint
from sklearn_mtl._training.progress import Saved

__all__ = ["Checkpoint", "CheckpointFile"]

# Raised with every change of what `Progress` keeps.
VERSION = 2

MEND = (
    "Let callbacks and modules keep plain values and tensors, or give them `state_dict` and "
    "`load_state_dict`; or leave checkpoint out."
)


ADVICE = "Remove it to fit from the beginning, or pass another path."


class Checkpoint:
    """Where fits are to be kept until they have ended.

    Parameters
    ----------
    path : str or path-like
        A file, or a folder that exists, in which each fit has a file of its own.
    every : float
        Seconds between two states that are kept.
    """

    def __init__(self, path: str | os.PathLike[str], every: float) -> None:
        self.path, self.every = Path(path), float(every)

    @contextlib.contextmanager
    def of(self, fit: Mapping[str, str]) -> Iterator[CheckpointFile]:
        """Open the file of one fit, which nobody else opens meanwhile.

        Parameters
        ----------
        fit : mapping of str to str
            Fingerprints of all that it was given, by name.

        Raises
        ------
        ValueError
            If another fit is at work with it.
        """
        path = self.path
        if path.is_dir():
            path = path / f"{fingerprint(dict(fit))[:16]}.checkpoint"
        with locked(path) as alone:
            if not alone:
                raise ValueError(
                    f"checkpoint={str(path)!r} is in use by another fit. Pass another path, or a "
                    "folder, in which each fit has a file of its own."
                )
            yield CheckpointFile(path, self.every, dict(fit))


class CheckpointFile:
    """The file of one fit.

    Parameters
    ----------
    path : Path
        Of the file, which need not exist.
    every : float
        Seconds between two states that are kept.
    fit : dict of str to str
        Fingerprints of all that the fit was given, by name.
    """

    def __init__(self, path: Path, every: float, fit: dict[str, str]) -> None:
        self.path, self.every, self.fit = path, every, fit

    def read(self) -> Saved | None:
        """Return what was written last, None if nothing was.

        Raises
        ------
        ValueError
            If it is damaged, of another fit, of another version, or no checkpoint at all.
        """
        if not self.path.exists():
            return None
        packed, is_sealed = store.open_file(self.path, ADVICE)
        with self.blaming():
            header = json.loads(packed.header)
            is_checkpoint = store.CHECKPOINT in header
        if not is_checkpoint:
            raise ValueError(
                f"checkpoint={str(self.path)!r} is a file of save, and no checkpoint. Pass another "
                "path: a checkpoint is replaced, and removed in the end."
            )
        with self.blaming():
            if not is_sealed:
                raise ValueError("its checksum says that it was changed after it was written")
            versions, fit = dict(header["versions"]), dict(header["fit"])
            seed, plan, encoded = header["saved"]
        if versions != _versions():
            raise ValueError(
                f"checkpoint={str(self.path)!r} was written with {_listed(versions)}, and this is "
                f"{_listed(_versions())}: the fit would not end as it began. Go on with those "
                "versions, or remove the file."
            )
        others = [n for n in fit | self.fit if fit.get(n) != self.fit.get(n)]
        if others:
            self.refuse(*others)
        with self.blaming():
            tensors = {name: t.clone() for name, t in packed.tensors.items()}  # each one aligned
            return Saved(seed, plan, decode(encoded, tensors))

    def refuse(self, *names: str) -> None:
        """Say that these differ from what the fit was given that the file is of."""
        raise ValueError(
            f"checkpoint={str(self.path)!r} is of another fit, which differs in "
            f"{', '.join(names)}. Pass what that was given to go on with it; to fit from the "
            "beginning, pass another path, or remove the file."
        )

    @contextlib.contextmanager
    def blaming(self) -> Iterator[None]:
        """Say of errors inside that the file is at fault."""
        try:
            yield
        except MemoryError:
            raise
        except Exception as error:  # whatever a damaged file brings about
            raise ValueError(
                f"checkpoint={str(self.path)!r} is damaged: {error!r}. {ADVICE}"
            ) from error

    def write(self, saved: Saved) -> None:
        """Replace what was written last."""
        tensors: dict[str, torch.Tensor] = {}
        header = {
            "checksum": store.NO_CHECKSUM,
            store.CHECKPOINT: VERSION,
            "versions": _versions(),
            "fit": self.fit,
            "saved": [saved.seed, saved.plan, encode(saved.state, "checkpoint", tensors, MEND)],
        }
        text = json.dumps(header, allow_nan=False, separators=(",", ":"))
        store.write(self.path, store.Packed(text, tensors))

    def remove(self) -> None:
        """Remove the file: the fit has ended."""
        self.path.unlink(missing_ok=True)


def _versions() -> dict[str, Any]:
    from sklearn_mtl import __version__  # known only once the package is imported

    return {"sklearn-mtl": __version__, "format": VERSION, "torch": str(torch.__version__)}


def _listed(versions: dict[str, Any]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())
