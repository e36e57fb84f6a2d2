"""Observed values of every kind of target, and estimators that fit them."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from _inputs import lbfgs

from sklearn_mtl import MultiTaskCNNEstimator
from sklearn_mtl.kinds import (
    ClassificationTarget,
    GammaTarget,
    Kind,
    OrdinalTarget,
    PoissonTarget,
    QuantileTarget,
    RegressionTarget,
)
from sklearn_mtl.losses import LOSSES, KindLoss, TaskLosses
from sklearn_mtl.networks import DenseTrunk

RNG = np.random.default_rng(0)
LEVELS = ["low", "mid", "high"]  # not in the order of the alphabet

# Each kind with observed values: name in `KINDS`, kind, values.
OBSERVED: dict[str, tuple[str, Kind, np.ndarray]] = {
    "classes": ("classification", ClassificationTarget(), np.array(list("abacabbbbc"))),
    "ordered words": ("ordinal", OrdinalTarget(LEVELS), np.array(LEVELS)[[0, 1, 1, 2, 2, 2, 2, 0]]),
    "ordered numbers": ("ordinal", OrdinalTarget(), np.array([5, 1, 1, 2, 9, 5, 5, 5, 2, 2])),
    "two ordered classes": ("ordinal", OrdinalTarget(), np.array([0, 1, 1, 1, 1, 0, 1, 1])),
    "numbers": ("regression", RegressionTarget(), RNG.normal(3, 2, size=31)),
    "median": ("quantile", QuantileTarget(), RNG.normal(3, 2, size=31)),
    "upper quantile": ("quantile", QuantileTarget(0.9), RNG.exponential(size=31)),
    "lower quantile": ("quantile", QuantileTarget(0.25), RNG.exponential(size=30) - 5),
    "counts": ("poisson", PoissonTarget(), RNG.poisson(1.3, size=31)),
    "rates": ("poisson", PoissonTarget(), RNG.poisson(1.3, size=31) / RNG.uniform(1, 9, size=31)),
    "amounts": ("gamma", GammaTarget(), RNG.gamma(2, 1000, size=31)),
}
EVERY_OBSERVED = pytest.mark.parametrize("name", OBSERVED)
NUMBERS = [
    name for name, (kind, _, _) in OBSERVED.items() if kind not in ("classification", "ordinal")
]
MEANS = ["numbers", "counts", "rates", "amounts"]


def fitted(name: str, weighted: bool = False) -> tuple[str, Kind, np.ndarray, np.ndarray]:
    """Name in `KINDS`, fitted kind, values and weights."""
    kind_name, kind, values = OBSERVED[name]
    rng = np.random.default_rng(1)
    weight = rng.uniform(0.5, 2, size=len(values)) if weighted else np.ones(len(values))
    return kind_name, clone_kind(kind).fit(values, weight), values, weight


def clone_kind(kind: Kind) -> Kind:
    return pickle.loads(pickle.dumps(kind))


def loss_of(
    measure: str | KindLoss, kind: Kind, family: str, codes: np.ndarray, weight: np.ndarray
) -> Any:
    """Mean loss of a constant raw output; `measure` is the name of the kind, or its losses."""
    losses = TaskLosses([measure], [kind.n_outputs], family, [kind.loss_params])
    target, mass = (torch.from_numpy(part).unsqueeze(-1) for part in (codes, weight))

    def loss(raw: np.ndarray) -> float:
        output = torch.from_numpy(np.asarray(raw, dtype=float)).expand(len(codes), -1)
        return losses(output, target, mass)[0].item()

    return loss


def decode(kind: Kind, *raw: float) -> Any:
    """Prediction of one row."""
    return kind.decode(np.array(raw, dtype=float).reshape(1, 1, -1)).tolist()[0]


def perfect(kind: Kind, codes: np.ndarray) -> np.ndarray:
    """Raw outputs (n, 1, n_outputs) of a network that knows the codes."""
    if isinstance(kind, OrdinalTarget):
        steps = np.where(codes[:, None] > np.arange(kind.n_outputs), 60.0, -60.0)
        return steps[:, None, :]
    if isinstance(kind, ClassificationTarget):
        return 60 * np.eye(kind.n_outputs)[codes.astype(int)][:, None, :]
    if isinstance(kind, (PoissonTarget, GammaTarget)):
        codes = np.log(np.maximum(codes, 1e-30)) / kind.spread_
    return codes[:, None, None]


# -- fitted estimators ----------------------------------------------------------------------


def small(**params: Any) -> MultiTaskCNNEstimator:
    """An estimator that fits in milliseconds, on full batches of float64."""
    defaults = {
        "trunk": DenseTrunk((4,), n_members=2),
        "max_epochs": 2,
        "batch_size": 1000,
        "random_state": 0,
    }
    return MultiTaskCNNEstimator(**(defaults | params))


def trained(**params: Any) -> MultiTaskCNNEstimator:
    """No weight decay, and steps enough to learn."""
    defaults = {"trunk": DenseTrunk((16,)), "max_epochs": 60, "learning_rate": 0.03}
    return small(**(defaults | {"weight_decay": 0.0} | params))


def optimal(**params: Any) -> MultiTaskCNNEstimator:
    """Linear heads at their optimum."""
    linear = {"trunk": DenseTrunk(()), "loss": "weighted", "optimizer": lbfgs, "max_epochs": 3}
    return trained(**(linear | {"learning_rate": 1.0, "batch_size": 10_000} | params))


EVERY_LOSS = pytest.mark.parametrize("loss", LOSSES)
