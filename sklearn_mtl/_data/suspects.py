"""Labels that are likely to be none: holes and numbers that were made text, measurements."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sklearn_mtl._data.tables import Column
from sklearn_mtl._data.tasks import Task, warn_together
from sklearn_mtl.kinds.values import first

__all__ = ["question_labels"]

# Texts by which holes are written; 'nan' is what numpy makes of NaN among text.
HOLES = {"", "nan", "na", "n/a", "none", "null", "<na>", "nat", "#n/a"}

# With so few rows, each may have a label of its own. As in `sklearn.utils.multiclass`.
FEW = 20


def question_labels(pairs: Iterable[tuple[Task, Column]]) -> None:
    """Warn of labels of class tasks that are likely to be something else.

    Parameters
    ----------
    pairs : iterable of (Task, Column)
        Class tasks, and their columns of y.

    Raises
    ------
    ValueError
        If numpy has made text of NaN.
    """
    holes, texts, many = {}, {}, {}
    for task, column in pairs:
        values = column.values[column.seen]
        known = {str(label) for label in task.categories or ()}
        written = values.astype(str) if values.dtype != object else [str(v) for v in values]
        labels, counts = np.unique(np.array(written), return_counts=True)
        if text := values.dtype.kind in "OU" and all(isinstance(v, str) for v in values):
            found = [str(s) for s in labels if s.strip().lower() in HOLES and s not in known]
            _refuse_nan(task.name, found, column)
            if found:
                n = counts[np.isin(labels, found)].sum()
                holes[task.name] = (
                    f"Task {task.name!r} has the label {found[0]!r} in {n} of {len(values)} "
                    f"rows. If it means not observed, pass missing_values={found[0]!r}; if it is "
                    "a label, give it another name."
                )
        n_numbers = counts[_are_numbers(labels)].sum() if text else 0
        if 2 * n_numbers > len(values) and len(labels) > FEW:
            texts[task.name] = (
                f"Task {task.name!r}: {n_numbers} of {len(values)} labels are numbers written as "
                f"text, such as {_number(labels)!r}. If they are measurements, convert the column: "
                "pd.to_numeric(column, errors='coerce')."
            )
        elif len(values) > FEW and (
            2 * len(labels) > len(values) or (len(labels) > FEW and _has_fractions(values))
        ):
            many[task.name] = _of_many(task.name, values, len(labels))
    for messages in (holes, texts, many):
        warn_together(messages, stacklevel=4)


def _refuse_nan(name: str, found: list[str], column: Column) -> None:
    """Refuse the text that numpy makes of NaN."""
    for label in (s for s in found if s.strip().lower() == "nan"):
        rows = np.flatnonzero(column.seen & (column.values.astype(str) == label))
        raise ValueError(
            f"Column {name!r} of y holds the text {label!r} in {len(rows)} rows, the first "
            f"{rows[:5].tolist()}: an array of text cannot hold NaN. Pass "
            f"missing_values={label!r}, or y as a frame or as an array of objects."
        )


def _has_fractions(values: NDArray[Any]) -> bool:
    return values.dtype.kind == "f" and bool((values % 1 != 0).any())


def _of_many(name: str, values: NDArray[Any], n_labels: int) -> str:
    return (
        f"Task {name!r} has {n_labels} different labels in {len(values)} rows, such as "
        f"{first(values)!r}. If they are numbers, declare another kind, such as "
        f"Task({name!r}, 'regression'); if they name rows, drop the column."
    )


def _are_numbers(labels: NDArray[np.str_]) -> NDArray[np.bool_]:
    return np.asarray(pd.to_numeric(pd.Series(labels, dtype=object), errors="coerce").notna())


def _number(labels: NDArray[np.str_]) -> str:
    return str(labels[_are_numbers(labels)][0])
