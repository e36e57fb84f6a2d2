"""A small table of several kinds, in types of pandas, for files that are damaged."""

from __future__ import annotations

import numpy as np
import pandas as pd

from sklearn_mtl import Task

N = 40
X = np.random.default_rng(4).normal(size=(N, 3))
Y = pd.DataFrame(
    {
        "size": X[:, 0] + 1,
        "class": pd.Categorical(np.where(X[:, 1] > 0, "in", "out")),
        "rate": np.where(X[:, 1] > 0, np.exp(X[:, 2]), np.nan),
        "grade": pd.Categorical(np.arange(N) % 3, ordered=True),
    }
)
TASKS = [
    Task("size", "quantile", quantile=0.6),
    Task("class", "classification"),
    Task("rate", "gamma", given=("class", "in")),
    Task("grade", "ordinal"),
]
