"""What a file holds, and how that of an earlier format becomes what it holds today."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sklearn_mtl.kinds import OrdinalTarget, UnobservedTarget
from sklearn_mtl.networks import ConvTrunk, DenseTrunk
from sklearn_mtl.networks.conv import auto_stride

__all__ = ["FORMAT_VERSION", "STEPS", "Saved"]

# Raised whenever older versions could not read the file, or would read it wrongly; a step of
# `STEPS` makes what the last version wrote one of this, and a file of it is kept in tests/golden.
FORMAT_VERSION = 11


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
    stream : dict
        What the next call of `partial_fit` goes on with, such as the optimizer; empty if none is
        kept.
    precision : str
        In which it computes.
    channels_last : bool or None
        Whether images are computed in this memory order; None if nobody knows.
    frozen : list of str
        Names of parameters that are not trained.
    weights, rule : dict of str to Tensor
        State of the module, and of the rule that combines the losses.
    version : int
        Of the format of the file.
    """

    params: dict[str, Any]
    fitted: dict[str, Any]
    others: dict[str, Any]
    stream: dict[str, Any]
    precision: str
    channels_last: bool | None
    frozen: list[str]
    weights: dict[str, Tensor]
    rule: dict[str, Tensor]
    version: int = FORMAT_VERSION


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
    if first is None or not _is_dense(saved):
        return saved
    for name in ("frequency", "phase", "mixture"):
        name = f"trunk.embedding.{name}"
        if name in weights:
            weights[name] = torch.stack([weights[name]] * len(first))
    return saved._replace(weights=weights)


def _sixth(saved: Saved) -> Saved:
    """Say that means and scales of X were learned."""
    saved.fitted["reader"].standardize = saved.params["standardize"] = True
    return saved


def _seventh(saved: Saved) -> Saved:
    """Say that the labels of classes were not declared."""
    for kind in saved.fitted["encoder"].kinds_:
        if kind.is_class:
            vars(kind).setdefault("categories", None)
    return saved


def _eighth(saved: Saved) -> Saved:
    """Say that nothing was tuned; find the order in memory anew, and keep no optimizer.

    Nor were errors of rows left out measured.
    """
    saved.fitted["errors"] = {}
    for kind in saved.fitted["encoder"].kinds_:
        kind = kind.kind if isinstance(kind, UnobservedTarget) else kind
        if kind.is_class:
            names = ["threshold", "calibration"]
            names += [] if isinstance(kind, OrdinalTarget) else ["threshold_"]
            vars(kind).update(dict.fromkeys(names))
    return saved._replace(channels_last=None, stream={})


def _ninth(saved: Saved) -> Saved:
    """Say that images were not changed but by trunks."""
    return saved._replace(params=saved.params | {"augment": None})


def _tenth(saved: Saved) -> Saved:
    """Say that large images went into the stages of a `ConvTrunk` as they were.

    Names of it become the spec: 'auto' is another one for sequences since then.
    """
    trunk, shape = saved.params.get("trunk"), saved.fitted["reader"].input_shape_
    if not isinstance(shape, tuple) or len(shape) == 1:
        return saved
    if trunk in ("auto", "conv"):
        trunk = ConvTrunk()
    elif not isinstance(trunk, ConvTrunk):
        return saved
    if auto_stride(shape[1:]) > 1:
        trunk = ConvTrunk(**trunk.get_params() | {"stride": 1})
    return saved._replace(params=saved.params | {"trunk": trunk})


def _eleventh(saved: Saved) -> Saved:
    """Say nothing: weights without bounds are those of networks whose heads see clipped inputs."""
    return saved


STEPS = (
    *(_second, _third, _fourth, _fifth, _sixth, _seventh, _eighth, _ninth, _tenth),
    _eleventh,
)
