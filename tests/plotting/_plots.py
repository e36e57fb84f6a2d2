"""Small fits that displays show."""

from __future__ import annotations

import functools
import warnings
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd

from sklearn_mtl import MultiTaskCNNEstimator, Task
from sklearn_mtl.networks import ConvTrunk, DenseTrunk

mpl.use("Agg")

N = 80
TASKS = [
    Task("defect", "classification"),
    Task("size", "regression", given=("defect", "yes")),
    Task("grade", "ordinal", given=("defect", "yes"), categories=["low", "mid", "high"]),
    Task("count", "poisson"),
]
NAMES = [task.name for task in TASKS]


def _table() -> tuple[np.ndarray, pd.DataFrame]:
    rng = np.random.default_rng(3)
    X = rng.normal(size=(N, 4))
    defect = np.where(X[:, 0] + 0.5 * rng.normal(size=N) > 0, "yes", "no").astype(object)
    grade = np.array(["low", "mid", "high"], dtype=object)[np.digitize(X[:, 1], [-0.4, 0.4])]
    y = pd.DataFrame(
        {
            "defect": defect,
            "size": np.where(defect == "yes", X[:, 2], np.nan),
            "grade": np.where(defect == "yes", grade, None),
            "count": rng.poisson(np.exp(X[:, 3])).astype(float),
        }
    )
    y.loc[::7, "size"] = np.nan
    y.loc[3::11, "grade"] = None
    y.loc[::9, "defect"] = None  # where some values tell that the gate holds
    return X, y


X, Y = _table()
SMALL = DenseTrunk((8,), n_members=2)
ESTIMATOR = MultiTaskCNNEstimator(
    TASKS, trunk=SMALL, max_epochs=8, learning_rate=0.03, random_state=0
).fit(X, Y, X_val=X[:30], y_val=Y[:30])


def _images() -> tuple[np.ndarray, np.ndarray]:
    """Spots on images of 8 x 8: is it bright, how much, and where."""
    rng = np.random.default_rng(4)
    images, places = 0.1 * rng.random((30, 8, 8)), rng.integers(0, 8, size=(30, 2))
    level = rng.random(30)
    images[np.arange(30), places[:, 1], places[:, 0]] += 0.2 + 0.7 * level
    y = np.column_stack([level > 0.5, level, (places + 0.5) / 8])
    y[1::3, 1], y[1::4, 2:] = np.nan, np.nan
    return images, y


IMAGES, IMAGES_Y = _images()
OF_IMAGES = MultiTaskCNNEstimator(
    [
        Task("bright", "classification"),
        Task("level", "regression"),
        Task("x", "regression", geometry="x"),
        Task("y", "regression", geometry="y"),
    ],
    trunk=ConvTrunk(4),
    max_epochs=8,
    random_state=0,
).fit(IMAGES, IMAGES_Y)


@functools.cache
def many() -> tuple[Any, np.ndarray, pd.DataFrame]:
    """Thirty tasks with long names, some hardly observed: estimator, X and y."""
    rng = np.random.default_rng(5)
    X = rng.normal(size=(60, 4))
    names = [f"a_measurement_of_the_laboratory_in_the_second_year_{k}" for k in range(30)]
    y = pd.DataFrame(X @ rng.normal(size=(4, 30)), columns=names)
    y = y.mask(rng.random(y.shape) < np.linspace(0, 0.9, 30))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator = MultiTaskCNNEstimator(max_epochs=2, random_state=0).fit(X, y)
    return estimator, X, y
