"""What scikit-learn is about to ask of a fit, so that it is refused before, and not after it.

Cross-validation turns errors of scorers into NaN, once everything is fitted; and its probabilities
are those of a y that was made codes before `fit`. Who asks stands in the frames of the interpreter
from which `fit` is called. They are known by private names of scikit-learn, and looked up without
an import: a version in which these are others costs the early message, and nothing else.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from sklearn_mtl._data.rows import take_rows
from sklearn_mtl._data.tables import read_table
from sklearn_mtl.kinds.values import is_hole
from sklearn_mtl.metrics import TaskScorer

__all__ = ["check_callers"]

MODULE = "sklearn.model_selection._validation"
ASKED = {
    "_fit_and_score": ("scorer", "y", "test"),
    "_fit_and_predict": ("method",),
    "cross_val_predict": ("le",),  # once it has made codes of one column
}
SCORER = ("_response_method", "_score_func", "_kwargs")  # of scikit-learn's scorers


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
    for asked in _calls():
        if "le" in asked:
            _check_codes(getattr(asked["le"], "classes_", ()))
        elif "method" in asked:
            _check_method(asked["method"], tasks, y)
        else:
            _check_scoring(asked["scorer"], tasks, y, asked)


def _calls() -> Iterator[dict[str, Any]]:
    """Yield what calls of `ASKED` that are under way were given."""
    frame: Any = sys._getframe()
    while frame is not None:
        names = ASKED.get(frame.f_code.co_name)
        if names is not None and frame.f_globals.get("__name__") == MODULE:
            given = frame.f_locals
            if all(name in given for name in names):
                yield {name: given[name] for name in names}
        frame = frame.f_back


def _check_method(method: str, tasks: Any, y: Any) -> None:
    """Refuse probabilities of several columns, or of listed labels, which are made codes."""
    listed = tasks.values() if isinstance(tasks, Mapping) else tasks or ()
    kinds = [getattr(task, "kind", task) for task in listed] + list(listed)
    if method != "predict" and np.ndim(y) == 2:
        _refuse(f"method={method!r}", "all columns of y, numbers and holes too")
    if method != "predict" and any(getattr(k, "categories", None) is not None for k in kinds):
        _refuse(f"method={method!r}", "labels, which the categories of the task do not list")


def _check_codes(labels: Any) -> None:
    """Refuse holes that were made a label."""
    if any(is_hole(label) for label in labels):
        _refuse("method='predict_proba'", "holes in y, too")


def _refuse(asked: str, what: str) -> None:
    raise ValueError(
        f"cross_val_predict({asked}) makes codes of {what}. Use "
        "sklearn_mtl.model_selection.cross_val_predict_tasks."
    )


def _check_scoring(scorer: Any, tasks: Any, y: Any, asked: Mapping[str, Any]) -> None:
    """Refuse scorers, one or several, that cannot score the tasks of a fit."""
    for each in getattr(scorer, "_scorers", {"": scorer}).values():
        if isinstance(each, TaskScorer):
            each.check_task(_names(tasks, y))
        elif all(hasattr(each, name) for name in SCORER):
            _check_scorer(each, take_rows(asked["y"], asked["test"]))


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
