"""Losses of single cells: pure functions of raw outputs and targets."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sklearn_mtl.losses.intervals import expected_square, interval_error, squared_distance
from sklearn_mtl.losses.links import log_mean, sequential_log_proba

__all__ = [
    "CELL_LOSSES",
    "CENSORED",
    "NO_CODE",
    "CellLoss",
    "KindLoss",
    "brier",
    "cross_entropy",
    "gamma_deviance",
    "pinball",
    "poisson_deviance",
    "ranked_probability",
    "sequential_logit",
    "squared_error",
    "squared_error_of_mean",
]

NO_CODE = -(2**62)  # to be ignored: PyTorch's own is -100, which would pass for a class

CellLoss = Callable[..., Tensor]
Param = float | Tensor


def squared_error(raw: Tensor, target: Tensor) -> Tensor:
    """Squared error of each cell; raw (..., 1), target (...)."""
    error = raw.squeeze(-1) - target
    return error * error  # the gradient of a power costs more


def cross_entropy(raw: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy of each cell; raw (..., C) are logits, target (...) class codes."""
    logits, codes = raw.flatten(0, -2), target.flatten().long()
    losses = nn.functional.cross_entropy(logits, codes, reduction="none", ignore_index=NO_CODE)
    return losses.view_as(target)


def brier(raw: Tensor, target: Tensor) -> Tensor:
    """Squared error between probabilities and one-hot label, summed over classes (Brier 1950)."""
    one_hot = nn.functional.one_hot(target.long(), raw.shape[-1])
    return (raw.softmax(dim=-1) - one_hot).square().sum(dim=-1)


def sequential_logit(raw: Tensor, target: Tensor) -> Tensor:
    """Negative log-probability of ordered classes; raw (..., C - 1), target (...) ranks.

    Output c is the log-odds of going beyond class c, given that it was reached.
    """
    return -sequential_log_proba(raw).gather(-1, target.long().unsqueeze(-1))[..., 0]


def ranked_probability(raw: Tensor, target: Tensor) -> Tensor:
    """Squared error of the probabilities to be above each class, summed (Epstein 1969)."""
    proba = nn.functional.logsigmoid(raw).cumsum(dim=-1).exp()
    rank = torch.arange(raw.shape[-1], device=raw.device)
    above = (target.unsqueeze(-1) > rank).to(raw.dtype)
    return (proba - above).square().sum(dim=-1)


def pinball(raw: Tensor, target: Tensor, quantile: Param = 0.5) -> Tensor:
    """Pinball loss of a quantile (Koenker and Bassett 1978); raw (..., 1), target (...)."""
    error = target - raw.squeeze(-1)
    return torch.maximum(quantile * error, (quantile - 1) * error)


def poisson_deviance(raw: Tensor, target: Tensor, spread: Param = 1.0, unit: Param = 1.0) -> Tensor:
    """Poisson deviance of each cell, in units of `unit`; target (...) >= 0.

    The mean is that of `log_mean`. Targets are in units of their overall mean.
    """
    mean = log_mean(raw, spread)
    ratio = mean - torch.where(target > 0, target, 1).log()
    deviance = torch.where(target > 0, target * (ratio.expm1() - ratio), mean.exp())
    return 2 * deviance / unit


def gamma_deviance(raw: Tensor, target: Tensor, spread: Param = 1.0, unit: Param = 1.0) -> Tensor:
    """Gamma deviance of each cell, in units of `unit`; target (...) > 0.

    The mean is that of `log_mean`. Targets are in units of their overall mean.
    """
    ratio = torch.where(target > 0, target, 1).log() - log_mean(raw, spread)  # 0 is under a mask
    return 2 * (ratio.expm1() - ratio) / unit


def squared_error_of_mean(
    raw: Tensor, target: Tensor, spread: Param = 1.0, unit: Param = 1.0
) -> Tensor:
    """Squared error over the variance of numbers of mean 1 and log-spread `spread`; target (...).

    The mean is that of `log_mean`. Targets are in units of their overall mean. `unit` is that of
    the deviances, and says nothing here.
    """
    variance = torch.as_tensor(spread, dtype=raw.dtype, device=raw.device).square().expm1()
    return (log_mean(raw, spread).exp() - target).square() / variance


class KindLoss(NamedTuple):
    """How a kind of task is measured, in each family of losses.

    Parameters
    ----------
    likelihood, squared : callable
        ``(raw, target, **params)`` to the loss of each cell, >= 0, and 0 for a perfect fit; raw
        (..., T, n_outputs) and target (..., T) for T tasks, params (T,). Masked cells hold 0.
    power : float, default=1.0
        Exponent of the loss in a product of losses: 1 where it measures a squared scale, as a
        squared error or a deviance, 2 where it measures a scale itself. ``power * log(loss)`` is
        then twice the logarithm of a scale for every kind, as in the profile likelihood.
    noise : callable, default=None
        Where targets may be known within bounds: ``(raw, target, reach, **params)`` to the expected
        square of each cell, in units of the square of the parameter `scale`, the noise that is
        learned from it. The two losses take `reach`, too.

    Examples
    --------
    >>> from sklearn_mtl.losses import CELL_LOSSES
    >>> CELL_LOSSES["quantile"].power, CELL_LOSSES["regression"].power
    (2.0, 1.0)
    """

    likelihood: CellLoss
    squared: CellLoss
    power: float = 1.0
    noise: CellLoss | None = None


CELL_LOSSES: dict[str, KindLoss] = {
    "classification": KindLoss(cross_entropy, brier),
    "ordinal": KindLoss(sequential_logit, ranked_probability),
    "regression": KindLoss(squared_error, squared_error),
    "quantile": KindLoss(pinball, pinball, power=2.0),  # squared errors have no quantiles
    "poisson": KindLoss(poisson_deviance, squared_error_of_mean),
    "gamma": KindLoss(gamma_deviance, squared_error_of_mean),
}

CENSORED = KindLoss(interval_error, squared_distance, noise=expected_square)
"""Losses of numbers of which some are known within bounds, `reach` away from the target."""
