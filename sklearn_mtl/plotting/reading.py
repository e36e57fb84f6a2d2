"""Targets and predictions of people, as columns by task."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sklearn_mtl._data.contents import holes
from sklearn_mtl._data.tables import read_table
from sklearn_mtl._data.targets import TargetEncoder

__all__ = ["choose", "encoder_of", "predicted_columns"]


def encoder_of(y: Any, tasks: Any, missing_values: Any = None) -> TargetEncoder:
    """Learn the tasks of a y, as `fit` would, but without a word."""
    encoder = TargetEncoder(tasks, missing_values)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fits have told, or will
        encoder.fit_encode(y)
    return encoder


def predicted_columns(names: list[str], y_pred: Any, n: int | None = None) -> list[NDArray[Any]]:
    """Read predictions: a frame or dict by the names of tasks, or an array in their order.

    Raises
    ------
    ValueError
        If tasks are lacking, or there are not `n` rows.
    """
    if isinstance(y_pred, Mapping):
        columns = {name: np.asarray(column) for name, column in y_pred.items()}
        named = True
    else:
        table = read_table(y_pred)
        columns = {name: column.values for name, column in table.columns.items()}
        named = table.template.named and table.ndim == 2
    if named and (missing := [name for name in names if name not in columns]):
        raise ValueError(f"y_pred lacks the tasks {missing}; it has {list(columns)}.")
    if not named and len(columns) != len(names):
        raise ValueError(f"y_pred has {len(columns)} columns, but there are the tasks {names}.")
    found = [columns[name] for name in names] if named else list(columns.values())
    for column in found:
        if column.ndim != 1 or (n is not None and len(column) != n):
            raise ValueError(
                f"y_pred holds a column of shape {column.shape}, but there are {n} rows. Pass one "
                "prediction for each row and task."
            )
    return [_as_numbers(column) for column in found]


def _as_numbers(column: NDArray[Any]) -> NDArray[Any]:
    """Return numbers of a column of objects as floats: so they are where others are labels."""
    if column.dtype.kind != "O":
        return column
    seen = ~holes(column)
    numbers = np.full(len(column), np.nan)
    if not all(isinstance(v, int | float | np.number) for v in column[seen].tolist()):
        return column
    numbers[seen] = column[seen].astype(float)
    return numbers


def choose(names: list[str], tasks: Any) -> list[int]:
    """Positions of the tasks to show: those named, one or several; None is all.

    Raises
    ------
    ValueError
        If a name is not that of a task, or there is none.
    """
    if tasks is None:
        return list(range(len(names)))
    wanted = [tasks] if isinstance(tasks, str) else list(tasks)
    unknown = [name for name in wanted if name not in names]
    if unknown or not wanted:
        raise ValueError(f"tasks={tasks!r} does not fit. Use some of {names}.")
    return [names.index(name) for name in wanted]
