"""What scikit-learn is about to ask of a fit, so that it is refused before, and not after it.

Cross-validation turns errors of scorers into NaN, once everything is fitted; and its probabilities
are those of a y that was made codes before `fit`. Who asks stands in the frames of the interpreter
from which `fit` is called. These functions are scikit-learn's own: where they are not there, the
same is said later, or not at all.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from sklearn.metrics import _scorer
from sklearn.model_selection import _validation

from sklearn_mtl._data.rows import take_rows
from sklearn_mtl._data.tables import read_table
from sklearn_mtl.metrics import TaskScorer

__all__ = ["check_callers"]


def check_callers(tasks: Any, y: Any) -> None:
    """Refuse a fit whose scores, or predictions, could not be what was asked for.

    Parameters
    ----------
    tasks : object
        As the estimator takes them.
    y : array-like or frame of shape (n_samples,) or (n_samples, n_tasks)

    Raises
    ------
    ValueError
        If a scorer names an unknown task, or is one of scikit-learn for a single target, or if
        `cross_val_predict` asks for probabilities.
    """
    one_of_many = getattr(_scorer, "_BaseScorer", ())
    for asked in _calls_of("_fit_and_score"):
        scorer = asked.get("scorer")
        for each in getattr(scorer, "_scorers", {"": scorer}).values():
            if isinstance(each, TaskScorer):
                each.check_task(_names(tasks, y))
            elif isinstance(each, one_of_many):
                _check_scorer(each, take_rows(asked["y"], asked["test"]))
    for asked in _calls_of("_fit_and_predict"):
        if asked.get("method", "predict") != "predict" and np.ndim(y) == 2:
            raise ValueError(
                f"cross_val_predict(method={asked['method']!r}) makes codes of all columns of y, "
                "numbers and holes too. Use sklearn_mtl.model_selection.cross_val_predict_tasks."
            )


def _calls_of(name: str) -> Iterator[dict[str, Any]]:
    """Yield the arguments of calls of a function of scikit-learn that are under way."""
    code = getattr(getattr(_validation, name, None), "__code__", None)
    frame: Any = sys._getframe() if code is not None else None
    while frame is not None:
        if frame.f_code is code:
            yield frame.f_locals
        frame = frame.f_back


def _names(tasks: Any, y: Any) -> list[str]:
    """Names of the tasks that a fit will have."""
    if tasks is None or isinstance(tasks, Mapping):
        return list(read_table(y).columns)
    return [task.name for task in tasks]


def _check_scorer(scorer: Any, y: Any) -> None:
    """Refuse a scorer of scikit-learn that fails on y, were it predicted without an error."""
    try:
        if scorer._response_method != "predict":
            raise ValueError("it asks for probabilities of a single task")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scorer._score_func(y, y, **scorer._kwargs)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"scoring={scorer!r} fails for this y: {str(error).removesuffix('.')}. Pass "
            "task_scorer(task, metric) or task_scorers({task: metric}) of sklearn_mtl.metrics, "
            "which score the observed targets of a task each."
        ) from error
