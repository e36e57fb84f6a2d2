"""Labels that are likely to be none: holes and numbers that were made text, measurements."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import date, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sklearn_mtl._data.likely import find_codes
from sklearn_mtl._data.tables import Column
from sklearn_mtl._data.tasks import Task, naming, warn_together
from sklearn_mtl.kinds import OrdinalTarget
from sklearn_mtl.kinds.bounds import are_bounds
from sklearn_mtl.kinds.values import first

__all__ = ["check_column", "question_flags", "question_labels", "question_numbers"]

# Texts by which holes are written. numpy makes 'nan' of NaN among text, and '--' of masked values.
HOLES = {
    "",
    "nan",
    "-nan",
    "na",
    "n/a",
    "n.a.",
    "<na>",
    "nat",
    "none",
    "null",
    "missing",
    "?",
    "--",
}
HOLES |= {"#n/a", "#div/0!", "#name?", "#num!", "#ref!", "#value!"}

# With so few rows, each may have a label of its own. As in `sklearn.utils.multiclass`.
FEW = 20

# Signs and units around a number.
AFFIXES = re.compile(
    r"[<>=~≈≤≥\s]*([-+]?)[$€£¥]?\s*(.*?)(\s*[%‰$€£¥]|\s+[^\W\d]\S*)?\s*", re.DOTALL
)

BOUNDS = set("<>\u2264\u2265")  # signs before a number that is a bound

GLANCE = 1000  # numbers that are looked at, or twice as many


def question_labels(
    tasks: Sequence[Task], kinds: Sequence[Any], columns: Sequence[Column], declared: Any = ()
) -> None:
    """Warn of labels of class tasks that are likely to be something else.

    Parameters
    ----------
    tasks, kinds, columns : sequence
        Each task, its kind, fitted if it is of class, and its column of y.
    declared : collection of str
        Tasks whose labels were listed: that there are many of them is meant.

    Raises
    ------
    ValueError
        If numpy has made text of NaN.
    """
    kinds_of_fault = ("holes", "numbers", "spaces", "many", "fractions")
    said: dict[str, dict[str, str]] = {fault: {} for fault in kinds_of_fault}
    for task, kind, column in zip(tasks, kinds, columns, strict=True):
        n = column.n_seen
        if not kind.is_class or n == 0 or getattr(kind, "categories", None) is not None:
            continue
        labels = kind.classes_
        text = [label for label in labels.tolist() if isinstance(label, str)]
        if holes := _holes(text):
            _refuse(task.name, holes, column)
            said["holes"][task.name] = _of_hole(task.name, holes[0], column)
        numbers = [label for label in text if _as_number(label) is not None]
        n_labels, listed = len(labels), task.name in declared
        if 2 * n_labels > n:  # of which some may be those that are yet to come
            n_labels = len(set(column.observed.tolist()))
        mostly_unique = 2 * n_labels > n and not listed
        many = n_labels > FEW and not listed
        finer = _fractions(labels)
        apart = n > FEW and not listed and (many or not isinstance(kind, OrdinalTarget))
        if 2 * len(numbers) > len(labels) and (many or (mostly_unique and _fractions(numbers))):
            said["numbers"][task.name] = _of_numbers(task.name, numbers, len(labels))
        elif mostly_unique and (n > FEW or finer):
            said["many"][task.name] = _of_many(task.name, first(labels), n_labels, n)
        elif finer and apart:
            said["fractions"][task.name] = _of_fractions(task.name, labels)
        if same := _spelt_alike(text):
            said["spaces"][task.name] = _of_same(task.name, same)
    for messages in said.values():
        warn_together(messages, stacklevel=4)


def question_flags(columns: Sequence[Column]) -> None:
    """Warn of columns, whose kinds are inferred, that are likely to be one class as flags."""
    if len(columns) < 2 or columns[0].n_rows <= FEW:
        return
    total = np.zeros(columns[0].n_rows)
    for column in columns:
        values = column.observed
        if not (len(values) == column.n_rows and values.dtype.kind in "biuf" and values.any()):
            return
        if not np.isin(values, (0, 1)).all():
            return
        total += values
    if (total == 1).all():
        warnings.warn(
            f"Exactly one of the {len(columns)} columns of y is 1 in each row, and the others are "
            "0. If that is one class, pass its labels: y.argmax(axis=1) of an array, "
            "y.idxmax(axis=1) of a frame. If not, declare the tasks.",
            UserWarning,
            stacklevel=4,
        )


def question_numbers(
    tasks: Sequence[Task], kinds: Sequence[Any], columns: Sequence[Column], declared: Any
) -> None:
    """Warn of numbers that are likely to mean *not observed*; tasks are inferred but `declared`."""
    far, flags, two = {}, {}, {}
    for task, kind, column in zip(tasks, kinds, columns, strict=True):
        values = column.observed
        if kind.is_class or len(values) == 0 or are_bounds(values):  # limits do repeat
            continue
        some = values[:: 1 + len(values) // GLANCE].astype(np.float64)
        levels = np.unique(some)
        code = levels[0] if levels[0] < 0 else levels[-1]
        if task.name not in declared and len(levels) == 3 and np.isin((0, 1), levels).all():
            if not 1 < code < 9:
                flags[task.name] = (
                    f"Task {task.name!r} holds {code:g} beside 0 and 1, and is taken for numbers. "
                    f"If it means not observed, pass missing_values={code:g}; if not, declare the "
                    f"task: Task({task.name!r}, 'regression'), or 'classification'."
                )
        elif task.name not in declared and _are_two_codes(levels, len(values)):
            two[task.name] = (
                f"Task {task.name!r} holds {levels[0]:g} and {levels[1]:g} only, and is taken for "
                f"numbers. If they are classes, declare the task: Task({task.name!r}, "
                "'classification'); if not, 'regression'."
            )
        elif codes := sorted(find_codes(some[:, None])):
            far[task.name] = (
                f"Task {task.name!r} holds {', '.join(f'{code:g}' for code in codes)} again and "
                "again, far from all other values. If that means not observed, pass "
                f"missing_values={codes if len(codes) > 1 else codes[0]}."
            )
    warn_together(flags, stacklevel=4)
    warn_together(two, stacklevel=4)
    warn_together(far, stacklevel=4)


def _are_two_codes(levels: NDArray[np.float64], n: int) -> bool:
    """Tell whether a column of n numbers holds two whole ones, as classes are coded: -1 and 1."""
    return len(levels) == 2 < FEW < n and bool((levels == np.round(levels)).all())


def check_column(task: Task, kind: Any, column: Column) -> None:
    """Refuse what a fitted kind cannot hold, and the text that numpy makes of NaN."""
    values = column.observed
    with naming(task):
        kind.check(values)
    if kind.is_class and values.dtype.kind in "OU":
        _refuse(task.name, set(values[kind.encode(values) < 0].tolist()), column)


def _refuse(name: str, labels: Iterable[Any], column: Column) -> None:
    for label in labels:
        if isinstance(label, str) and label.strip().lower() == "nan":
            rows = column.rows[column.observed == label]
            raise ValueError(
                f"Column {name!r} of y holds the text {label!r} in {len(rows)} rows, the first "
                f"{rows[:5].tolist()}: an array of text cannot hold NaN. Pass "
                f"missing_values={label!r}, or y as a frame or as an array of objects."
            )


def _holes(labels: Iterable[str]) -> list[str]:
    return [label for label in labels if label.strip().lower() in HOLES]


def _of_hole(name: str, hole: str, column: Column) -> str:
    n = (column.observed == hole).sum()
    return (
        f"Task {name!r} has the label {hole!r} in {n} of {column.n_seen} rows. If it means not "
        f"observed, pass missing_values={hole!r}; if it is a label, list the labels in "
        f"Task({name!r}, ..., categories=[...])."
    )


def _of_numbers(name: str, numbers: list[str], n_labels: int) -> str:
    mend = "convert the column: pd.to_numeric(column, errors='coerce')"
    if 2 * sum(number.strip() != _bare(number) for number in numbers) > len(numbers):
        mend = "convert the column, without signs and units, to numbers"
        if any(number.strip()[:1] in BOUNDS for number in numbers):
            mend = "pass sklearn_mtl.to_intervals(column), without units, and declare 'regression'"
    elif any("," in number for number in numbers):
        mend = "read the file with decimal=',' or thousands=','"
    return (
        f"Task {name!r}: {len(numbers)} of {n_labels} labels are numbers written as text, such as "
        f"{numbers[0]!r}. If they are measurements, {mend}."
    )


def _of_many(name: str, label: Any, n_labels: int, n: int) -> str:
    mend = f"are numbers, declare another kind, such as Task({name!r}, 'regression')"
    if isinstance(label, date | timedelta):
        mend = "are to be predicted as times, pass numbers, such as days since a first one"
    return (
        f"Task {name!r} has {n_labels} different labels in {n} rows, such as {label!r}. If they "
        f"{mend}; if they name rows, drop the column; if they are classes, list them: "
        f"Task({name!r}, ..., categories=[...])."
    )


def _of_fractions(name: str, labels: Any) -> str:
    return (
        f"Task {name!r} takes numbers with fractions, such as {labels[labels % 1 != 0][0]:g}, for "
        f"{len(labels)} classes. If they are measurements, declare another kind, such as "
        f"Task({name!r}, 'regression'); if they are classes, list them: Task({name!r}, ..., "
        "categories=[...])."
    )


def _of_same(name: str, labels: list[str]) -> str:
    of_spaces = len({label.strip() for label in labels}) == 1
    if of_spaces:
        how, mend = "differ by spaces alone", "Strip them, column.str.strip()"
    else:
        how, mend = "spell one number", "Write them alike"
    return f"Task {name!r} has the labels {labels}, which {how}. {mend}, if they are the same."


def _as_number(label: str) -> float | None:
    """Return the number that a text spells, with a point or a comma, signs and units."""
    if len(label) > 40:
        return None
    number = _bare(label)
    of_thousands = "." in number or number.count(",") > 1
    try:
        return float(number.replace(",", "" if of_thousands else "."))
    except ValueError:
        return None


def _bare(label: str) -> str:
    """Return a text without the signs and units that may stand around a number."""
    found = AFFIXES.fullmatch(label)
    return found[1] + found[2] if found else label


def _fractions(labels: Any) -> bool:
    """Tell whether labels, numbers or their texts, are more than whole numbers."""
    if isinstance(labels, list):
        labels = np.array([_as_number(label) for label in labels], dtype=np.float64)
    return labels.dtype.kind == "f" and bool((labels % 1 != 0).any())


def _spelt_alike(labels: list[str]) -> list[str]:
    """Find the first labels that are the same but for spaces around them, or the same number."""
    alike: dict[str | float, list[str]] = {}
    for label in labels:
        key: str | float = label.strip()
        with suppress(ValueError):
            key = float(label)
        alike.setdefault(key, []).append(label)
    return next((same for same in alike.values() if len(same) > 1), [])
