"""One file for a fitted estimator: safetensors, with all that is no array as JSON in its header."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from sklearn_mtl._files.codec import decode, encode
from sklearn_mtl.networks import DenseTrunk

__all__ = ["Packed", "Saved", "blaming", "pack", "read", "unpack", "write"]

# Raised whenever older versions could not read the file, or would read it wrongly.
FORMAT_VERSION = 5

# All metadata stand under one key: in safetensors, the order of several differs from run to run.
KEY = "sklearn_mtl"

PARTS = ("params", "fitted", "others")

# Before the names of the weights of the module, and of what the loss has learned; arrays are named
# after the attributes that hold them.
MODULE, RULE = "module.", "rule."


class Saved(NamedTuple):
    """What an estimator is made of.

    Attributes
    ----------
    params : dict
        Of the estimator; it lacks 'trunk' where that is an object which is not data.
    fitted : dict
        `Fitted.state`.
    others : dict
        Further attributes of the estimator, such as requests of metadata.
    precision : str
        In which it computes.
    frozen : list of str
        Names of parameters that are not trained.
    weights, rule : dict of str to Tensor
        State of the module, and of the rule that combines the losses.
    """

    params: dict[str, Any]
    fitted: dict[str, Any]
    others: dict[str, Any]
    precision: str
    frozen: list[str]
    weights: dict[str, Tensor]
    rule: dict[str, Tensor]


class Packed(NamedTuple):
    """What a file holds."""

    header: str
    tensors: dict[str, Tensor]


def pack(saved: Saved) -> Packed:
    """Turn an estimator's parts into what a file can hold."""
    from sklearn_mtl import __version__  # known only once the package is imported

    tensors: dict[str, Tensor] = {}
    header = {
        "format_version": FORMAT_VERSION,
        "package_version": __version__,
        "precision": saved.precision,
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
    return Packed(json.dumps(header, allow_nan=False), tensors)


def unpack(packed: Packed) -> Saved:
    """Turn the content of a file into an estimator's parts."""
    header, tensors = json.loads(packed.header), packed.tensors
    version = header["format_version"]
    if version == 1:  # attributes stood among what was fitted
        header |= {"others": {}, "frozen": []}
    params, fitted, others = (
        {name: decode(data, tensors) for name, data in header[part].items()} for part in PARTS
    )
    weights, rule = (
        {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
        for prefix in (MODULE, RULE)
    )
    saved = Saved(params, fitted, others, header["precision"], header["frozen"], weights, rule)
    for step in STEPS[version - 1 :]:
        saved = step(saved)
    return saved


def write(path: str | os.PathLike[str], packed: Packed) -> None:
    """Write a file; what stands there stays until all is written."""
    target = Path(path).resolve()
    if not target.parent.is_dir():
        raise FileNotFoundError(f"{path}: there is no folder {target.parent}. Make it first.")
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        save_file(packed.tensors, part, metadata={KEY: packed.header})
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def read(path: str | os.PathLike[str]) -> Saved:
    """Read a file; a ValueError says why that is not possible."""
    try:
        with safe_open(path, framework="pt") as file:
            header = (file.metadata() or {}).get(KEY)
            if header is None:
                raise ValueError(
                    f"{path} is a safetensors file, but not one that MultiTaskCNNEstimator.save "
                    "has written."
                )
            _check_version(path, header)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(
            f"{path} is damaged, or is not a safetensors file: {error}. Save the estimator again."
        ) from error
    with blaming(path):
        return unpack(Packed(header, tensors))


def _check_version(path: str | os.PathLike[str], header: str) -> None:
    """Refuse what a newer version of this package has written."""
    with blaming(path):
        content = json.loads(header)
        version, package = content["format_version"], content["package_version"]
        if type(version) is not int or version < 1:
            raise ValueError(f"there is no format {version!r}")
    if version > FORMAT_VERSION:
        raise ValueError(
            f"{path} has format {version}, written by sklearn-mtl {package}; this version reads "
            f"formats up to {FORMAT_VERSION}. Upgrade sklearn-mtl."
        )


@contextlib.contextmanager
def blaming(path: str | os.PathLike[str], trunk: Any = None) -> Iterator[None]:
    """Say that the file is at fault, or the trunk that was passed to go with it."""
    try:
        yield
    except ImportError:  # a library that y's type needs
        raise
    except Exception as error:  # whatever a damaged file, or a user's trunk, brings about
        if trunk is not None:
            raise ValueError(
                f"{path} cannot be loaded with this trunk, a {type(trunk).__name__}: {error} "
                "Pass the trunk that the estimator was fitted with."
            ) from error
        raise ValueError(
            f"{path} cannot be loaded: {error!r}. It is damaged, was made by something else than "
            "save, or holds a kind of target of your own that is not in KINDS here: import its "
            "module first."
        ) from error


# -- earlier formats, each made one of the next --------------------------------------------------


def _second(saved: Saved) -> Saved:
    """Sort fitted attributes into the state and others."""
    attributes = saved.fitted
    saved.params.pop("compile", None)  # a parameter of then, which changed no prediction
    state = {
        "encoder": attributes.pop("_encoder"),
        "reader": attributes.pop("_reader"),
        **{name: attributes.pop(f"{name}_") for name in ("task_weights", "noise_std", "history")},
    }
    state["reader"].feature_names_in_ = attributes.pop("feature_names_in_", None)
    for kind in state["encoder"].kinds_:
        if hasattr(kind, "spread_"):  # by whose square deviances were divided
            kind.unit_ = kind.spread_**2
    derived = ("tasks_", "task_names_", "classes_", "n_features_in_", "n_iter_")
    for name in (*derived, "n_observed_", "n_applicable_"):  # from the encoder
        attributes.pop(name, None)
    return saved._replace(fitted=state, others=attributes)


def _third(saved: Saved) -> Saved:
    """Say that networks had waves of all features."""
    saved.fitted["reader"].two_valued_ = ()
    return saved


def _is_dense(saved: Saved) -> bool:
    trunk = saved.params.get("trunk")
    return isinstance(trunk, DenseTrunk) or trunk in ("auto", "dense")


def _fourth(saved: Saved) -> Saved:
    """Give members matrices of their own, where they shared one and differed by scales of it.

    Heads, which did not see the inputs, give them no weight.
    """
    saved.fitted["oob"] = {}  # no member left out rows
    trunk, weights = saved.params.get("trunk"), dict(saved.weights)
    if not _is_dense(saved):
        return saved
    places = sorted(int(n.split(".")[1]) for n in weights if n.endswith(".scale_in"))
    if not places:  # a single member, or images
        return saved
    if isinstance(trunk, str):
        trunk = DenseTrunk((256, 256), n_members=4, n_frequencies=16, frequency_scale=0.3)
    names = {f"trunk.1.{n}": f"trunk.embedding.{n}" for n in ("frequency", "phase", "mixture")}
    for i, place in enumerate(places):
        old, new = f"trunk.{place}", f"trunk.layers.{i}"
        names |= {f"{old}.shared.weight": f"{new}.weight", f"{old}.bias": f"{new}.bias"}
        scale_in, scale_out = weights.pop(f"{old}.scale_in"), weights.pop(f"{old}.scale_out")
        shared = weights[f"{old}.shared.weight"].T
        weights[f"{old}.shared.weight"] = shared * scale_in[:, :, None] * scale_out[:, None]
    repeated = ["heads.weight", "heads.bias"]
    if "heads.hidden.weight" in weights:
        repeated = ["heads.hidden.weight", "heads.hidden.bias", "heads.weight"]
    matrix = weights[repeated[0]].T
    inputs = matrix.new_zeros(math.prod(saved.fitted["reader"].input_shape_), matrix.shape[1])
    weights[repeated[0]] = torch.cat([matrix, inputs])
    for name in repeated:
        weights[name] = torch.stack([weights[name]] * len(scale_in))
    return saved._replace(
        params=saved.params | {"trunk": trunk},
        weights={names.get(name, name): tensor for name, tensor in weights.items()},
        # A matrix is frozen as the one was that members shared.
        frozen=[names.get(n, n) for n in saved.frozen if ".scale_" not in n],
    )


def _fifth(saved: Saved) -> Saved:
    """Give each member the waves that they shared."""
    weights = dict(saved.weights)
    first = weights.get("trunk.layers.0.weight")  # of members
    for name in ("frequency", "phase", "mixture") if first is not None else ():
        name = f"trunk.embedding.{name}"
        if _is_dense(saved) and name in weights:
            weights[name] = torch.stack([weights[name]] * len(first))
    return saved._replace(weights=weights)


STEPS = (_second, _third, _fourth, _fifth)
