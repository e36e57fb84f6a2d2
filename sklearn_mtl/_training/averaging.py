"""Averaged weights, and the epoch of which they are kept."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from skorch import NeuralNet
from torch import Tensor, nn

from sklearn_mtl._training.listeners import Stopper, plain_module
from sklearn_mtl._training.recipe import Patience

__all__ = ["AveragedWeights"]

# Attributes that say how far an average is.
COUNTED = ("step_", "epoch_", "since_", "best_", "reference_", "eased_", "stopped")

NOISE = 0.1  # share of a task's loss that is taken for noise, as in `LogProd`
EASED = math.log(0.5 + NOISE)  # decay gives way below: half of what there is to learn is learned
PART = 1 / 4  # which of the decay is left


class AveragedWeights(Stopper):
    """Average the weights over about two epochs, keep those of the best one, and end after it.

    At a constant learning rate, averaged weights are where a falling rate would lead from here [1]_
    [2]_: they can be looked at in any epoch, without an end that is planned. The net validates
    them, and ends with those of the best epoch.

    Weight decay keeps noise from being learned by heart, and clean data from being learned. Where
    it may ease, it is divided by four when nothing gets better, as often as that helps.

    Parameters
    ----------
    n_batches : int
        Batches per epoch.
    patience : Patience
        When to end, and by which loss of the history.
    weights : ndarray of shape (n_tasks,)
        Of the tasks.

    References
    ----------
    .. [1] B. T. Polyak and A. B. Juditsky, "Acceleration of Stochastic Approximation by Averaging",
       SIAM Journal on Control and Optimization 30, 1992.
    .. [2] P. Izmailov et al., "Averaging Weights Leads to Wider Optima and Better Generalization",
       UAI 2018, arXiv:1803.05407.
    """

    def __init__(self, n_batches: int, patience: Patience, weights: NDArray[np.float64]) -> None:
        self.decay = math.exp(-1 / (2 * n_batches))
        self.patience, self.weights = patience, weights

    def on_train_begin(self, net: NeuralNet, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        """Begin with the weights as they are."""
        averaged = copy.deepcopy(plain_module(net)).requires_grad_(False).eval()
        vars(net)["averaged_"] = averaged  # past skorch, which would take it for a part to train
        self.pairs_ = list(zip(_state(averaged), _state(plain_module(net)), strict=True))
        self.step_ = self.epoch_ = self.since_ = 0
        self.best_ = self.reference_ = math.inf
        self.kept_: list[Tensor] | None = None
        self.decays_ = [group.get("weight_decay") for group in net.optimizer_.param_groups]
        self.eased_ = self.stopped = False

    def state_dict(self) -> dict[str, Any]:
        """Return how far it is, to go on from there."""
        averages = [average.detach() for average, _ in self.pairs_]
        return {n: getattr(self, n) for n in COUNTED} | {"averages": averages, "kept": self.kept_}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state; the training has begun."""
        self.__dict__.update({name: state[name] for name in COUNTED})
        self.kept_ = state["kept"]
        for (average, _), known in zip(self.pairs_, state["averages"], strict=True):
            average.copy_(known)

    def on_batch_end(
        self, net: NeuralNet, batch: Any = None, training: bool | None = None, **kwargs: Any
    ) -> None:
        """Take the weights in; the first ones count less from step to step."""
        if not training:
            return
        self.step_ += 1
        share = 1 - min(self.decay, self.step_ / (self.step_ + 10))
        with torch.no_grad():
            for average, now in self.pairs_:
                if average.is_floating_point():
                    average.lerp_(now, share)
                else:
                    average.copy_(now)

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Keep the averages if they are the best so far, and end if it is time to."""
        self.epoch_ += 1
        loss = net.history[-1][self.patience.watched]
        if loss < self.best_:
            self.best_ = loss
            self.kept_ = [average.clone() for average, _ in self.pairs_]
        level = self._level(net, loss)
        if level < self.reference_ - self.patience.tol:
            self.reference_, self.since_, self.eased_ = level, self.epoch_, False
        if self.epoch_ - self.since_ >= self.patience.epochs(self.since_):
            self._ease_or_end(net)

    def _ease_or_end(self, net: NeuralNet) -> None:
        """Go on with less decay, unless the last time that did not help; else end."""
        known = zip(net.optimizer_.param_groups, self.decays_, strict=True)
        default = getattr(net.optimizer_, "defaults", {}).get("weight_decay")
        groups = [group for group, decay in known if decay and decay == default]  # not their own
        if not (groups and self.patience.eases and not self.eased_ and self.reference_ < EASED):
            self.stopped = True
            raise KeyboardInterrupt
        for group in groups:
            group["weight_decay"] *= PART
        self.eased_, self.since_ = True, self.epoch_

    def _level(self, net: NeuralNet, loss: float) -> float:
        """Return what has to fall by `tol`: the loss, or what does not know its units.

        Of folds left out, the mean over tasks of log(L + 0.1), the task losses L in units of that
        of the constant predictor, so that all rules that combine losses end alike, and no weights
        of the tasks need to sum to something.
        """
        if self.patience.watched != "oob_loss":
            return loss
        with np.errstate(divide="ignore", invalid="ignore"):
            relative = net.record_["oob_loss"][-1] / net.constant_losses_
        counts = np.isfinite(relative) & (self.weights > 0)
        if not counts.any():  # constant targets
            return loss
        return float(np.average(np.log(relative[counts] + NOISE), weights=self.weights[counts]))

    def on_train_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Put the best averages in place of the weights, and decay back to what it was."""
        for group, decay in zip(net.optimizer_.param_groups, self.decays_, strict=False):
            if decay is not None:
                group["weight_decay"] = decay
        kept = [average for average, _ in self.pairs_] if self.kept_ is None else self.kept_
        with torch.no_grad():
            for (_, now), best in zip(self.pairs_, kept, strict=True):
                now.copy_(best)
        net.averaged_ = None
        self.pairs_, self.kept_ = [], None


def _state(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]
