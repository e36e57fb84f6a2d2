"""Training: a net runs through its batches, and what it ends with is looked at."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from skorch.callbacks import Callback, LRScheduler

from sklearn_mtl._data.tasks import warn_together
from sklearn_mtl._memory import naming_memory
from sklearn_mtl._training.averaging import AveragedWeights
from sklearn_mtl._training.batches import Batches, LeftOut
from sklearn_mtl._training.ctrl_c import CtrlC
from sklearn_mtl._training.listeners import (
    ConstantSchedule,
    CosineSchedule,
    OfOneTraining,
    check_callbacks,
    mend_of,
    plain_module,
    refuse_schedules,
)
from sklearn_mtl._training.net import TaskNet
from sklearn_mtl._training.random import Draws
from sklearn_mtl._training.recipe import Recipe
from sklearn_mtl._training.thawing import Thawing

__all__ = ["rescale_outputs", "run", "run_one_pass", "warn_of_constants"]

CONSTANT = 0.99  # of the loss of the best constant: what ends above was not learned
DIVERGED = 10  # times that: a network, or one of its members, has run away
NOISE, ROUNDING = 0.1, 1e-6  # losses of constants that are too small to compare others with, or any

_SMALLER = "Lower batch_size, which is {}, or make the trunk smaller."


def run(
    net: TaskNet,
    recipe: Recipe,
    batches: Batches,
    valid: Batches | None,
    own: list[OfOneTraining],
    task_weights: NDArray[np.float64],
    draws: Draws,
    ctrl_c: CtrlC,
) -> None:
    """Train the net in place, with our schedule, and callbacks of the caller behind all others.

    The caller holds it back until all went well.
    """
    watches = recipe.patience is not None and recipe.patience.watched == "oob_loss"
    _equip(net, batches, draws, ctrl_c)
    net.left_out_ = LeftOut(batches) if watches else None
    _initialize(net, draws, has_valid=valid is not None)
    schedule = _own_callbacks(net, recipe, len(batches), task_weights)
    net.callbacks_ += [(type(callback).__name__, callback) for callback in schedule]
    kept = list(net.callbacks_)
    net.callbacks_ += [(type(c).__name__, c) for c in [*Thawing.of(net), *own]]
    try:
        with naming_memory(_SMALLER.format(recipe.batch_size)):
            net.partial_fit((batches, valid))
    finally:
        net.callbacks_, net.left_out_ = kept, None
        _lay_down(net)
    _check_outcome(net, recipe)


def _equip(net: TaskNet, batches: Batches, draws: Draws, ctrl_c: CtrlC) -> None:
    """Give a net what it has in training only."""
    net.draws_ = net.own_draws_ = draws
    net.ctrl_c_, net.stop_asked_ = ctrl_c, False
    if batches.group.size > 1:
        net.group_, net.seed_ = batches.group, draws.seed
        net.own_draws_ = Draws(draws.seed, batches.device)


def _lay_down(net: TaskNet) -> None:
    net.draws_ = net.own_draws_ = net.ctrl_c_ = net.group_ = None


def _own_callbacks(
    net: TaskNet, recipe: Recipe, n_batches: int, task_weights: NDArray[np.float64]
) -> list[Callback]:
    """Our schedule, unless the user brings one, and what says when to end."""
    if recipe.patience is None:
        callbacks: list[Callback] = [CosineSchedule(n_batches * recipe.max_epochs)]
    else:
        callbacks = [ConstantSchedule()]
    if any(isinstance(callback, LRScheduler) for _, callback in net.callbacks_):
        callbacks = []
    if recipe.patience is not None:
        callbacks.append(AveragedWeights(n_batches, recipe.patience, task_weights))
    return [callback.initialize() for callback in callbacks]


def run_one_pass(
    net: TaskNet, recipe: Recipe, batches: Batches, draws: Draws, ctrl_c: CtrlC
) -> None:
    """Train the net in place for one pass over some rows of a stream, at a constant rate."""
    _equip(net, batches, draws, ctrl_c)
    _initialize(net, draws, has_valid=False)
    refuse_schedules(net)
    kept = list(net.callbacks_)
    net.callbacks_ += [(type(callback).__name__, callback) for callback in Thawing.of(net)]
    try:
        with naming_memory(_SMALLER.format(recipe.batch_size)):
            net.partial_fit((batches, None))
    finally:
        net.callbacks_ = kept
        _lay_down(net)
    _check_outcome(net, recipe)


def _initialize(net: TaskNet, draws: Draws, has_valid: bool) -> None:
    if not net.initialized_:
        try:
            with draws.drawing():
                net.initialize()
        except (OSError, MemoryError, ImportError):
            raise
        except Exception as error:  # of an optimizer, or of callbacks
            name = getattr(net.optimizer, "__name__", repr(net.optimizer))
            raise ValueError(
                f"optimizer={name} and net_params do not go together: {error}"
            ) from error
        has_left_out = net.left_out_ is not None
        losses = ["train_loss", *["valid_loss"] * has_valid, *["oob_loss"] * has_left_out]
        check_callbacks(net, losses)


def _check_outcome(net: TaskNet, recipe: Recipe) -> None:
    """Refuse what is no success, and say so if a callback interrupted."""
    if net.pressed_:
        raise KeyboardInterrupt
    net.flags_ = {name: p.requires_grad for name, p in plain_module(net).named_parameters()}
    if not all(torch.isfinite(p).all() for p in net.module_.parameters()):
        raise ValueError(f"Training ended with non-finite weights. {mend_of(net)}")
    if net.interrupted_:
        warnings.warn(
            f"A callback interrupted the training in epoch {len(net.record_['train_loss'])} of "
            f"{recipe.max_epochs}; the weights so far are kept.",
            ConvergenceWarning,
            stacklevel=5,
        )


def warn_of_constants(
    net: TaskNet, recipe: Recipe, task_weights: NDArray[np.float64], learns: bool
) -> None:
    """Warn of tasks whose loss on what was trained on ended far above that of the best constant.

    `learns` says that the number of epochs is automatic, and that no rows are left out: then of
    tasks that are no better than constants, too. Where a callback has put back the weights of an
    epoch of its own choice, nothing is said of running away.
    """
    kept = -1
    if recipe.patience is not None:
        kept = int(np.argmin(net.history[:, recipe.patience.watched]))
    restored = any(getattr(callback, "load_best", False) for _, callback in net.callbacks_)
    known = zip(
        *(net.task_names_, net.record_["train_loss"][kept], net.constant_losses_, task_weights),
        strict=True,
    )
    not_learned = {}
    for name, loss, constant, weight in known:
        ran_away = not restored and loss > DIVERGED * max(constant, NOISE)
        if (
            weight > 0
            and constant > ROUNDING
            and (ran_away or (learns and loss > CONSTANT * constant))
        ):
            not_learned[name] = (
                f"Task {name!r} was not learned: the loss on its training rows ended at "
                f"{loss / constant:.3g} times that of the best constant. "
                f"{_shorter(net) if ran_away else _longer(recipe)}"
            )
    warn_together(not_learned, ConvergenceWarning, stacklevel=5)


def _shorter(net: TaskNet) -> str:
    """Say what may help where a network, or one of its members, has run away."""
    groups = net.optimizer_.param_groups
    if isinstance(net.optimizer_, torch.optim.LBFGS) and not groups[0]["line_search_fn"]:
        search = '{"optimizer__line_search_fn": "strong_wolfe"}'
        return f"Lower learning_rate (here {net.lr:.3g}), or pass net_params={search}."
    return f"Lower learning_rate (here {net.lr:.3g}), or try another optimizer."


def _longer(recipe: Recipe) -> str:
    """Say what may help where a task stays at its constant."""
    decay, patience = recipe.weight_decay, recipe.patience
    lower = f"lower weight_decay (here {decay:.3g}), " if decay else ""
    longer = f"max_epochs (here {recipe.max_epochs})"
    if patience is not None:
        longer = f"n_iter_no_change (here {patience.least})"
    return (
        f"If X has something to say about it, {lower}raise {longer}, or try another learning_rate "
        "or random_state."
    )


def rescale_outputs(net: TaskNet, slope: NDArray[np.float64], shift: NDArray[np.float64]) -> bool:
    """Multiply the raw outputs and add constants, both (n_outputs,), unless heads are frozen.

    Returns
    -------
    done : bool
    """
    if not (np.isfinite(shift).all() and np.isfinite(slope).all()):
        raise ValueError(f"Training ended with outputs that are not finite. {mend_of(net)}")
    heads = net.module_.heads
    if not heads.bias.requires_grad or not (heads.weight.requires_grad or (slope == 1).all()):
        return False
    with torch.no_grad():
        if (slope != 1).any():
            heads.rescale(torch.from_numpy(slope).to(heads.bias))
        heads.bias += torch.from_numpy(shift).to(heads.bias)
    return True
