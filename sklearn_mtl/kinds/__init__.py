"""Kinds of task: what a column of y holds, and what the network's outputs for it mean.

A kind is a small object that is fitted on the observed targets of one task, turns them into the
codes that the network learns from, says how these are measured, and turns raw outputs back into
labels or numbers. `KINDS` maps names to kinds.

>>> import numpy as np
>>> from sklearn_mtl.kinds import KINDS
>>> counts = np.array([0.0, 2.0, 7.0])
>>> kind = KINDS["poisson"]().fit(counts, np.ones(3))
>>> raw = kind.constant(kind.encode(counts), np.ones(3))  # the log of the mean, scaled
>>> kind.decode(raw.reshape(1, 1, 1)).round(6).tolist()
[3.0]
"""

from __future__ import annotations

from collections.abc import Callable

from sklearn_mtl.kinds.base import Kind
from sklearn_mtl.kinds.censored import CensoredAmount, CensoredTarget
from sklearn_mtl.kinds.classes import ClassificationTarget
from sklearn_mtl.kinds.numbers import (
    GammaTarget,
    PoissonTarget,
    QuantileTarget,
    RegressionTarget,
)
from sklearn_mtl.kinds.ordinal import OrdinalTarget
from sklearn_mtl.kinds.unobserved import UnobservedTarget

__all__ = [
    "KINDS",
    "CensoredAmount",
    "CensoredTarget",
    "ClassificationTarget",
    "GammaTarget",
    "Kind",
    "OrdinalTarget",
    "PoissonTarget",
    "QuantileTarget",
    "RegressionTarget",
    "UnobservedTarget",
]

KINDS: dict[str, Callable[..., Kind]] = {
    "classification": ClassificationTarget,
    "ordinal": OrdinalTarget,
    "regression": RegressionTarget,
    "quantile": QuantileTarget,
    "poisson": PoissonTarget,
    "gamma": GammaTarget,
}
