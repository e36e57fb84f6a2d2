"""Training: a net runs through its batches, and what it ends with is looked at."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

from sklearn_mtl._training.batches import Batches
from sklearn_mtl._training.copies import plain_module
from sklearn_mtl._training.listeners import (
    EpochListener,
    check_callbacks,
    own_callbacks,
    refuse_schedules,
)
from sklearn_mtl._training.net import TaskNet
from sklearn_mtl._training.recipe import Recipe

__all__ = ["run", "run_one_pass", "shift_outputs"]


def run(
    net: TaskNet,
    recipe: Recipe,
    batches: Batches,
    valid: Batches | None,
    listener: EpochListener | None,
) -> None:
    """Train the net in place, with our schedule; the caller holds it back until all went well."""
    _initialize(net, has_valid=valid is not None)
    own = own_callbacks(net, recipe, n_steps=len(batches) * recipe.max_epochs)
    net.callbacks_ += [(type(callback).__name__, callback) for callback in own]
    kept = list(net.callbacks_)
    if listener is not None:
        net.callbacks_.append((type(listener).__name__, listener))
    try:
        net.partial_fit((batches, valid))
    finally:
        net.callbacks_ = kept
    _check_outcome(net, recipe)


def run_one_pass(net: TaskNet, recipe: Recipe, batches: Batches) -> None:
    """Train the net in place for one pass over some rows of a stream, at a constant rate."""
    _initialize(net, has_valid=False)
    refuse_schedules(net)
    net.partial_fit((batches, None))
    _check_outcome(net, recipe)


def _initialize(net: TaskNet, has_valid: bool) -> None:
    if not net.initialized_:
        net.initialize()
        check_callbacks(net, has_valid)


def _check_outcome(net: TaskNet, recipe: Recipe) -> None:
    """Refuse weights that are not finite, and say so if somebody interrupted."""
    net.flags_ = {name: p.requires_grad for name, p in plain_module(net).named_parameters()}
    if not all(torch.isfinite(p).all() for p in net.module_.parameters()):
        raise ValueError(
            "Training ended with non-finite weights. Lower learning_rate "
            f"(learning_rate={recipe.learning_rate}), or check X and y for extreme values."
        )
    if net.interrupted_:
        warnings.warn(
            f"Training was interrupted in epoch {len(net.record_['train_loss'])} of "
            f"{recipe.max_epochs}; the weights so far are kept.",
            ConvergenceWarning,
            stacklevel=4,
        )


def shift_outputs(net: TaskNet, shift: NDArray[np.float64]) -> NDArray[np.float64]:
    """Add constants (n_outputs,) to the raw outputs, but if they are frozen; return what it was."""
    if not np.isfinite(shift).all():
        raise ValueError("Training ended with outputs that are not finite. Lower learning_rate.")
    bias = net.module_.heads.bias
    if not bias.requires_grad:
        return np.zeros_like(shift)
    with torch.no_grad():
        bias += torch.from_numpy(shift).to(bias)
    return shift
