"""Targets and predictions of people, as columns by task."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sklearn_mtl._data.contents import holes
from sklearn_mtl._data.rows import take_rows
from sklearn_mtl._data.tables import read_table
from sklearn_mtl._data.targets import TargetEncoder
from sklearn_mtl.plotting.axes import shortened

__all__ = [
    "as_numbers",
    "choose",
    "chosen_rows",
    "encoder_of",
    "is_hole",
    "n_rows",
    "predicted_columns",
    "said",
    "take_rows_of_y",
]


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
    return [as_numbers(column) for column in found]


def as_numbers(column: NDArray[Any]) -> NDArray[Any]:
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
    wanted = list(tasks) if np.iterable(tasks) and not isinstance(tasks, str) else [tasks]
    unknown = [name for name in wanted if name not in names]
    if unknown or not wanted:
        raise ValueError(f"tasks={tasks!r} does not fit. Use some of {names}.")
    return [names.index(name) for name in wanted]


def chosen_rows(rows: Any, n: int, default: int = 12) -> NDArray[np.intp]:
    """Return positions of the rows to show: those named, else the first ones."""
    if rows is None:
        return np.arange(min(n, default))
    chosen = np.atleast_1d(np.asarray(rows))
    if chosen.dtype == bool and chosen.shape == (n,):
        chosen = np.flatnonzero(chosen)
    fits = chosen.ndim == 1 and len(chosen) and chosen.dtype.kind in "iu"
    if not fits or chosen.min() < -n or chosen.max() >= n:
        raise ValueError(f"rows={rows!r} does not fit {n} rows. Pass their positions, from 0.")
    return np.asarray(chosen % n, dtype=np.intp)


def n_rows(X: Any) -> int:
    """Return the number of rows; sparse matrices have no length."""
    return int(X.shape[0]) if hasattr(X, "shape") else len(X)


def take_rows_of_y(y: Any, rows: NDArray[np.intp], n: int) -> Any:
    """Return rows of a y that has as many as X."""
    if n_rows(y) != n:
        raise ValueError(f"X has {n} rows, but y has {n_rows(y)}. Pass the same rows of both.")
    return take_rows(y, rows)


def said(value: Any, width: int = 14) -> str:
    """Say a label or number shortly, and a hole by a dash."""
    if is_hole(value):
        return "\N{EN DASH}"
    if np.ndim(value) == 0 and getattr(value, "dtype", np.dtype(object)).names:  # of bounds
        low, high = value
        return f"{low:.3g}" if low == high else f"{low:.3g} to {high:.3g}"
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.number):
        return shortened(str(value), width)
    return f"{value:.3g}"


def is_hole(value: Any) -> bool:
    """Tell whether a single value is a hole: NaN, None or ``pd.NA``."""
    array = np.empty(1, dtype=object)
    array[0] = value
    return getattr(value, "dtype", array.dtype).names is None and bool(holes(array)[0])
