"""Targets of two columns, and an estimator that fits them in milliseconds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from sklearn_mtl import MultiTaskCNNEstimator, Task
from sklearn_mtl._data.tables import Column, RawColumn, clean
from sklearn_mtl.networks import DenseTrunk

N = 24


def small(**params: Any) -> MultiTaskCNNEstimator:
    """An estimator that fits in milliseconds."""
    defaults = {"trunk": DenseTrunk((4,), n_members=1), "max_epochs": 1, "random_state": 0}
    return MultiTaskCNNEstimator(**(defaults | params))


def inputs(n_samples: int = N) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(n_samples, 3))


BOOL, WORD, REAL = [False, True] * 12, ["a", "b"] * 12, np.linspace(-1, 2, N).tolist()
WORD_HOLES, BOOL_HOLES, REAL_HOLES = [*WORD[:-1], None], [*BOOL[:-1], None], [*REAL[:-1], None]
CODE, CODE_HOLES = [3, 7] * 12, [*([3, 7] * 12)[:-1], None]
BIT_HOLES = [0, 1] * 11 + [None, 1]


def make_columns(**values: Any) -> list[Column]:
    """Columns of a few cells, None where not observed."""
    return [
        clean(RawColumn(np.array(cells, dtype=object)), name, None)
        for name, cells in values.items()
    ]


def words(**columns: Any) -> pd.DataFrame:
    return pd.DataFrame({"flag": ["no", "yes"] * 12, "size": REAL} | columns)


def gated(gate: Any, flag: str = "classification") -> list[Task]:
    return [Task("flag", flag), Task("size", "regression", given=gate)]


NO_SIZE = words(size=[np.nan, 1.5] * 12)
