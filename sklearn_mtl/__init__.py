"""Deep multi-task learning for people who use scikit-learn.

One network learns several targets of the same rows: classes and numbers side by side in one y,
with NaN wherever a target was not observed or does not exist. `MultiTaskCNNEstimator` is the
estimator, `Task` declares a column of y, `to_intervals` reads numbers such as "<0.1", `task_view`
makes a classifier or regressor of one of them. `predict_frame`, `predict_proba_frame`,
`predict_interval`, `predict_interval_frame`, `predict_set`, `score_tasks`, `embed` and `save` are
methods of the estimator, as functions for pipelines and searches; `data_parallel` lets several
processes train one estimator. The parts are public, for those who build on them:

- `sklearn_mtl.losses`: masked losses per task, and rules that make them one number;
- `sklearn_mtl.networks`: trunks and the multi-head module;
- `sklearn_mtl.metrics`: scikit-learn's metrics and scorers on observed targets;
- `sklearn_mtl.model_selection`: out-of-fold predictions of every task;
- `sklearn_mtl.inspection`: what learning the tasks together is worth;
- `sklearn_mtl.plotting`: pictures of targets, trainings and predictions;
- `sklearn_mtl.augmentation`: images changed at random, and targets that move with them;
- `sklearn_mtl.datasets`: images from files, and scenes with a class, a number and a conditional
  number.

A class, a number, and a number with holes, from a plain float matrix:

>>> import numpy as np
>>> from sklearn_mtl import MultiTaskCNNEstimator
>>> rng = np.random.default_rng(0)
>>> X = rng.normal(size=(200, 5))
>>> positive = X[:, 0] > 0
>>> y = np.column_stack([positive, X[:, 1], np.where(positive, X[:, 2], np.nan)])
>>> estimator = MultiTaskCNNEstimator(random_state=0).fit(X, y)
>>> estimator.predict(X).shape
(200, 3)
>>> estimator.n_observed_.tolist() == [200, 200, positive.sum()]
True
>>> estimator.score(X, y) > 0.8
True
"""

import importlib
from typing import Any

from sklearn_mtl._data.bounds import to_intervals
from sklearn_mtl._data.tasks import Task
from sklearn_mtl._estimator import MultiTaskCNNEstimator
from sklearn_mtl._through import (
    embed,
    predict_frame,
    predict_interval,
    predict_interval_frame,
    predict_proba_frame,
    predict_set,
    save,
    score_tasks,
)
from sklearn_mtl._training.group import data_parallel
from sklearn_mtl._views import task_view

__version__ = "0.1.0"

__all__ = [
    "MultiTaskCNNEstimator",
    "Task",
    "__version__",
    "data_parallel",
    "embed",
    "predict_frame",
    "predict_interval",
    "predict_interval_frame",
    "predict_proba_frame",
    "predict_set",
    "save",
    "score_tasks",
    "task_view",
    "to_intervals",
]

# Imported when they are first asked for, if nothing else has done so.
SUBMODULES = (
    "augmentation",
    "datasets",
    "inspection",
    "kinds",
    "losses",
    "metrics",
    "model_selection",
    "networks",
    "plotting",
)


def __getattr__(name: str) -> Any:
    if name in SUBMODULES:
        return importlib.import_module(f"sklearn_mtl.{name}")
    raise AttributeError(f"module 'sklearn_mtl' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *SUBMODULES})
