"""What was observed of each task: kinds are fitted on it, and tasks without are told of."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sklearn_mtl._data.tables import Column
from sklearn_mtl._data.tasks import Task, naming, warn_together
from sklearn_mtl.kinds import Kind, UnobservedTarget
from sklearn_mtl.kinds.bounds import are_bounds
from sklearn_mtl.kinds.censored import censored
from sklearn_mtl.kinds.values import are_numbers, as_column, first

__all__ = [
    "AS_BEFORE",
    "NOT_TRAINED",
    "TO_COME",
    "fit_kind",
    "heard",
    "refuse_unknown",
    "require_observed",
    "warn_of_one_label",
    "warn_of_unobserved",
]

FloatArray = NDArray[np.float64]

# What comes of tasks without an observed value.
NOT_TRAINED = (
    "Nothing is learned there: predictions and scores are NaN (labels known beforehand are equally "
    "probable). Drop the column, or pass rows in which it was observed."
)
TO_COME = "Until a call holds some, predictions are NaN (known labels equally probable)."
AS_BEFORE = "What their heads learned before stays."


def require_observed(tasks: Sequence[Task], columns: Sequence[Column]) -> None:
    """Refuse a y in which nothing is observed of any task."""
    if any(column.n_seen for column in columns):
        return
    names, n = [task.name for task in tasks], columns[0].n_rows
    whose = f"Task {names[0]!r} has no" if len(names) == 1 else f"None of the tasks {names} has an"
    raise ValueError(
        f"{whose} observed value (of non-zero weight) in {n} rows. Pass rows with observed targets."
    )


def fit_kind(task: Task, column: Column, weight: FloatArray, labels: Any = ()) -> Kind:
    """Fit the kind of one task on its observed values, and on `labels` that are yet to come.

    Where none is observed it is an `UnobservedTarget`.
    """
    kind: Any = task.make_kind()
    with naming(task):
        values, weight = column.observed, weight[column.rows]
        if not len(values):
            known = kind.is_class and (len(labels) or len(kind.labels_to_come(None)))
            return UnobservedTarget(
                kind.fit(as_column(labels), np.zeros(len(labels)), column.order) if known else kind
            )
        if len(labels):
            if are_numbers(labels) != are_numbers(values):
                raise ValueError(
                    f"classes={labels.tolist()!r}, but y holds labels like {first(values)!r}. Pass "
                    "labels of the same type."
                )
            values = np.concatenate([values, labels])
            weight = np.concatenate([weight, np.zeros(len(labels))])
        if are_bounds(values):
            kind = censored(kind)
        kind.fit(values, weight, column.order)
    return kind


def refuse_unknown(declared: Any, tasks: Sequence[Task], kinds: Sequence[Any]) -> None:
    """Refuse the first rows of a stream if they leave open what the head of a task has to be."""
    for task, kind in zip(tasks, kinds, strict=True):
        if not isinstance(kind, UnobservedTarget):
            continue
        if declared is None or (isinstance(declared, Mapping) and task.name not in declared):
            raise ValueError(
                f"Task {task.name!r} has no observed value in the first rows of the stream, and "
                f"its kind is not declared. Pass tasks={{{task.name!r}: kind}}, or rows in "
                "which it was observed."
            )
        if kind.is_class and not kind.is_known:
            raise ValueError(
                f"Task {task.name!r} has no observed value in the first rows of the stream, and "
                f"its labels are not known. List them, Task({task.name!r}, {task.kind_name!r}, "
                f"categories=[...]), or pass classes={{{task.name!r}: [...]}}."
            )


def heard(kinds: Sequence[Kind], columns: Sequence[Column]) -> list[Column]:
    """Columns without the targets of tasks that were not observed in training."""
    return [
        column.where(np.zeros(column.n_rows, dtype=bool))
        if isinstance(kind, UnobservedTarget)
        else column
        for kind, column in zip(kinds, columns, strict=True)
    ]


def warn_of_unobserved(tasks: Sequence[Task], columns: Sequence[Column], outcome: str) -> None:
    """Warn once of all tasks without an observed value, and say what comes of them."""
    names = [t.name for t, column in zip(tasks, columns, strict=True) if not column.n_seen]
    if names:
        whose = f"Task {names[0]!r} has" if len(names) == 1 else f"The tasks {names} have"
        warnings.warn(
            f"{whose} no observed value (of non-zero weight) in {columns[0].n_rows} rows. "
            f"{outcome}",
            UserWarning,
            stacklevel=3,
        )


def warn_of_one_label(fitted: Iterable[tuple[str, Any]]) -> None:
    """Say which class tasks, given by name and fitted kind, have a single observed label."""
    warn_together(
        {
            name: f"Task {name!r} has one observed label, {first(kind.classes_)!r}, which will "
            "always be predicted. Pass rows with other labels, or drop the column."
            for name, kind in fitted
            if kind.is_class and len(kind.classes_) == 1
        },
        stacklevel=3,
    )
