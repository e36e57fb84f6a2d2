"""Callbacks of skorch: our schedule, early stopping, and who is told of epochs."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from fnmatch import fnmatch
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skorch import NeuralNet
from skorch.callbacks import (
    BatchScoring,
    Callback,
    EpochScoring,
    InputShapeSetter,
    LRScheduler,
    ParamMapper,
)

from sklearn_mtl.networks import Fused

__all__ = [
    "ConstantSchedule",
    "CosineSchedule",
    "EpochListener",
    "OfOneTraining",
    "Stopper",
    "check_callbacks",
    "check_losses",
    "check_whose",
    "mend_of",
    "plain_module",
    "refuse_schedules",
]


# Losses in the history: of training, validation, and the folds that members leave out.
LOSSES = ("train_loss", "valid_loss", "oob_loss")


class CosineSchedule(Callback):
    """Learning rate per step: a linear warm-up over the first 5 %, then a cosine to zero."""

    def __init__(self, n_steps: int) -> None:
        self.n_steps = n_steps

    def on_train_begin(self, net: NeuralNet, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        """Take the rates of the optimizer for the highest ones, and set those of the first step."""
        self.step_ = 0
        self.peaks_ = [group["lr"] for group in net.optimizer_.param_groups]
        self._set(net)

    def on_batch_end(
        self, net: NeuralNet, batch: Any = None, training: bool | None = None, **kwargs: Any
    ) -> None:
        """Record the rate of the step, as skorch's schedules do, and set that of the next one."""
        if training:
            net.history[-1]["batches"][-1]["event_lr"] = net.optimizer_.param_groups[0]["lr"]
            self.step_ += 1
            self._set(net)

    def state_dict(self) -> dict[str, Any]:
        """Return how far it is, to go on from there."""
        return {"step_": self.step_, "peaks_": self.peaks_}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state; the rates are those of the optimizer."""
        self.step_, self.peaks_ = state["step_"], state["peaks_"]

    def _set(self, net: NeuralNet) -> None:
        factor = self.factor(self.step_)
        for group, peak in zip(net.optimizer_.param_groups, self.peaks_, strict=False):
            group["lr"] = peak * factor

    def factor(self, step: int) -> float:
        """Return the share of the highest rate, from 0 to 1."""
        n_warm_up = math.ceil(self.n_steps / 20)
        if step < n_warm_up:
            return (step + 1) / n_warm_up
        progress = (step - n_warm_up) / max(1, self.n_steps - n_warm_up)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


class ConstantSchedule(CosineSchedule):
    """Learning rate per step: a linear warm-up over 20 steps, then constant."""

    def __init__(self) -> None:
        """Have no end."""

    def factor(self, step: int) -> float:
        """Return the share of the highest rate, from 0 to 1."""
        return min(1.0, (step + 1) / 20)


class Stopper(Callback):
    """A callback that may end the training, as one does who presses Ctrl-C."""

    stopped = False


class OfOneTraining(Callback):
    """A callback that the net forgets once a training has ended, and that no copy of it keeps."""


class EpochListener(Stopper, OfOneTraining):
    """Tell somebody of epochs, who may want the training to end.

    It stands behind all other callbacks. An epoch that another one ended, or Ctrl-C, is told of in
    the end. What those who are told draw at random changes nothing in the training.

    Parameters
    ----------
    begin : callable
        Called without arguments when an epoch begins.
    end : callable
        Called with the net when it has ended; returns whether the training shall end.
    """

    def __init__(self, begin: Callable[[], None], end: Callable[[NeuralNet], bool]) -> None:
        self.begin, self.end = begin, end
        self.is_open = False

    def on_epoch_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Say so."""
        with _aside(net):
            self.begin()
        self.is_open = True  # not before: who was interrupted there has no epoch to tell of

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Say so, and end the training as skorch's own callbacks do."""
        self.is_open = False
        with _aside(net):
            self.stopped = self.end(net)
        if self.stopped:
            raise KeyboardInterrupt

    def on_train_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Tell of an epoch that was not told of."""
        if self.is_open:
            self.is_open = False
            with _aside(net):
                self.end(net)


def _aside(net: Any) -> Any:
    return contextlib.nullcontext() if net.draws_ is None else net.draws_.aside()


def plain_module(net: NeuralNet) -> Any:
    """Return the module of a net as it was before skorch compiled it, if it did."""
    return getattr(net.module_, "_orig_mod", net.module_)


def check_whose(callbacks: Any) -> None:
    """Refuse callbacks of scikit-learn, which have another way in, and what is no list of them."""
    disabled = isinstance(callbacks, str) and callbacks == "disable"
    if not (callbacks is None or disabled or isinstance(callbacks, list | tuple)):
        raise ValueError(
            f"net_params holds callbacks={callbacks!r}. Pass a list of callbacks, or of pairs "
            "(name, callback)."
        )
    for given in callbacks if isinstance(callbacks, list | tuple) else ():
        callback = given[-1] if isinstance(given, tuple) else given
        if hasattr(callback, "on_fit_task_begin"):
            raise ValueError(
                f"net_params holds {type(callback).__name__}, a callback of scikit-learn. Pass it "
                "to set_callbacks."
            )
        if callback is not None and not hasattr(callback, "set_params"):
            raise ValueError(
                f"net_params holds {given!r} among its callbacks. Pass callbacks of skorch, or "
                "pairs (name, callback)."
            )


def check_callbacks(net: NeuralNet, losses: list[str]) -> None:
    """Refuse callbacks that take targets for one array, or name no parameter, or no loss."""
    for name, callback in net.callbacks_:
        if isinstance(callback, BatchScoring | EpochScoring):
            raise ValueError(
                f"net_params holds the callback {name}, a {type(callback).__name__} of skorch, "
                "which takes the targets of a batch for one array; here they are those of several "
                "tasks. Use a callback of scikit-learn: set_callbacks(ScoringMonitor(scoring=...))."
            )
        if isinstance(callback, InputShapeSetter):
            raise ValueError(
                f"net_params holds the callback {name}, an InputShapeSetter, but the trunk is "
                "built already. Pass a spec or a callable as trunk: lazy layers learn their sizes."
            )
        if isinstance(callback, ParamMapper):
            _check_patterns(net, name, callback)
        watched = getattr(callback, "monitor", None)
        if isinstance(watched, str) and watched.startswith(LOSSES):
            _check_watched(net, name, watched, losses)


def _check_watched(net: NeuralNet, name: str, watched: str, prefixes: list[str]) -> None:
    """Refuse to watch the loss of an unknown task, or of data that are not there."""
    losses = [*prefixes, *(f"{p}/{task}" for p in prefixes for task in net.task_names_)]
    if watched not in losses and watched not in [f"{loss}_best" for loss in losses]:
        advice = ""
        if "valid_loss" not in prefixes:
            advice += " Those of validation data ask for X_val or early_stopping."
        if "oob_loss" not in prefixes:
            advice += (
                " Those of folds left out ask for max_epochs='auto' without early_stopping, and a "
                "DenseTrunk of several members; or, if X is rows of numbers, an Ensemble."
            )
        raise ValueError(
            f"net_params holds the callback {name}, which watches {watched!r}. The losses are "
            f"{losses}.{advice}"
        )


def _check_patterns(net: NeuralNet, name: str, callback: ParamMapper) -> None:
    """Refuse patterns of Freezer, Unfreezer and Initializer that match no parameter."""
    names = [known for known, _ in net.get_all_learnable_params()]
    given = callback.patterns
    for pattern in given if isinstance(given, list | tuple) else [given]:
        if not any(pattern(n) if callable(pattern) else fnmatch(n, pattern) for n in names):
            raise ValueError(
                f"net_params holds the callback {name}, a {type(callback).__name__}, but no "
                f"parameter matches {pattern!r}. The names are {names}."
            )


def refuse_schedules(net: NeuralNet) -> None:
    """Refuse schedules of the learning rate in a stream, which has no end that they could know."""
    for name, callback in net.callbacks_:
        if isinstance(callback, LRScheduler):
            raise ValueError(
                f"net_params holds the schedule {name}, which would begin anew with each call of "
                "partial_fit. Leave it out, and set learning_rate between the calls."
            )


def check_losses(net: Any, prefix: str, losses: NDArray[np.float64]) -> None:
    """Refuse to go on once a loss of an epoch is infinite or NaN."""
    if not np.isfinite(losses).all():
        held_out = prefix == "valid"
        raise ValueError(
            f"The {'validation' if held_out else 'training'} loss is not finite in epoch "
            f"{len(net.history)}. {mend_of(net, 'X_val and y_val' if held_out else 'X and y')}"
        )


def mend_of(net: Any, data: str = "X and y") -> str:
    """Say what to do where numbers of a training are not finite."""
    readers = getattr(net.reader_, "readers_", {})
    lacking = [name for name, reader in readers.items() if reader.lacks_]
    if lacking and not any(isinstance(part, Fused) for part in plain_module(net).modules()):
        return (
            f"Rows lack the part {lacking[0]!r} of X, whose values are NaN in what the trunk gets: "
            "let it put numbers in their place, pass a Fusion, which does, or leave these rows out."
        )
    return f"Lower learning_rate (learning_rate={net.lr}), or check {data} for extreme values."
