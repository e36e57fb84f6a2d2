"""Numbers within bounds, as y holds them: intervals, pairs of columns, or text such as '<0.1'."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sklearn_mtl._data.contents import listed_values
from sklearn_mtl._data.tables import Column, RawColumn, Table, clean
from sklearn_mtl.kinds.bounds import are_bounds, as_bounds, exact
from sklearn_mtl.kinds.values import are_numbers, is_hole

__all__ = ["are_overlapping", "columns_of", "read_columns", "to_intervals", "within_bounds"]

FloatArray = NDArray[np.float64]

NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
ONE = re.compile(rf"(<=|>=|<|>|≤|≥|=|)\s*({NUMBER})")
TWO = re.compile(rf"({NUMBER})\s*(?:-|\u2013|to)\s*({NUMBER})")


def to_intervals(values: Any) -> pd.Series:
    """Read text such as '<0.1', '>=5', '2-4' and '3.2' as intervals, for y.

    Parameters
    ----------
    values : array-like of shape (n_samples,)
        Text and numbers; None, NaN and empty text are holes.

    Returns
    -------
    intervals : Series of shape (n_samples,)
        Of `pandas.Interval`: '<0.1' is all numbers below 0.1, 3.2 the interval from 3.2 to 3.2.
        With the index and the name of `values`, if that is a series.

    Raises
    ------
    ValueError
        If a value is neither a number, nor one behind '<', '<=', '>', '>=' or '=', nor a range of
        two.

    Examples
    --------
    >>> from sklearn_mtl import to_intervals
    >>> to_intervals(["<0.1", "2-4", 3.2, None]).tolist()
    [Interval(-inf, 0.1, closed='both'), Interval(2.0, 4.0, closed='both'), \
Interval(3.2, 3.2, closed='both'), nan]
    """
    index, name = getattr(values, "index", None), getattr(values, "name", None)
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise TypeError(f"values={values!r} is no column. Pass a series, or a list.")
    ends = [_ends_of(value, row) for row, value in enumerate(values)]
    lower, upper = zip(*ends, strict=True) if ends else ((), ())
    intervals = pd.arrays.IntervalArray.from_arrays(
        np.array(lower, dtype=np.float64), np.array(upper, dtype=np.float64), closed="both"
    )
    return pd.Series(intervals, index=index if isinstance(index, pd.Index) else None, name=name)


def _ends_of(value: Any, row: int) -> tuple[float, float]:
    """Bounds that a value spells; NaN for a hole."""
    if is_hole(value) or (isinstance(value, str) and not value.strip()):
        return np.nan, np.nan
    if isinstance(value, pd.Interval):
        return float(value.left), float(value.right)
    if isinstance(value, Real):
        return float(value), float(value)
    if not isinstance(value, str):
        raise ValueError(f"Row {row} holds {value!r}, which is neither text nor a number.")
    if found := ONE.fullmatch(value.strip()):
        sign, number = found[1], float(found[2])
        at_most, at_least = sign in ("<", "<=", "≤"), sign in (">", ">=", "≥")
        return -np.inf if at_most else number, np.inf if at_least else number
    if found := TWO.fullmatch(value.strip()):
        low, high = float(found[1]), float(found[2])
        if low <= high:
            return low, high
        raise ValueError(f"Row {row} holds {value!r}, a range that ends below its beginning.")
    raise ValueError(
        f"Row {row} holds {value!r}, which is no number behind '<', '<=', '>', '>=' or nothing. "
        "Strip units, write decimals with a point, and make None of what was not measured."
    )


def are_overlapping(values: NDArray[Any]) -> bool:
    """Tell intervals that are measurements from bins, which are labels: these do not overlap."""
    if values.dtype != object or not all(isinstance(v, pd.Interval) for v in values):
        return False
    found = sorted({(v.left, v.right) for v in values})
    if any(left == right for left, right in found):
        return True
    return any(after[0] < before[1] for before, after in itertools.pairwise(found))


def within_bounds(name: str, column: Column, least: float, missing_values: Any = None) -> Column:
    """Read the intervals of a column of numbers, if it holds some, as pairs of bounds.

    Parameters
    ----------
    name : str
        Of the task.
    column : Column
    least : float
        The smallest number that there can be: not to be below that is not to be known.
    missing_values : object
        Ends that are one of these are no bounds.

    Returns
    -------
    column : Column
        Of pairs; of plain numbers, if all are exact.
    """
    values, seen = column.values, column.seen
    if values.dtype == object and any(isinstance(v, pd.Interval) for v in values[seen]):
        lower, upper = np.zeros((2, len(values)))
        missing = listed_values(missing_values)
        for row in np.flatnonzero(seen):
            value = values[row]
            ends = (value.left, value.right) if isinstance(value, pd.Interval) else (value, value)
            if not all(isinstance(end, Real) for end in ends):
                raise ValueError(
                    f"Task {name!r}: row {row} of y holds {value!r} beside intervals of numbers. "
                    "Pass numbers, or intervals of them."
                )
            lower[row] = -np.inf if ends[0] in missing else ends[0]
            upper[row] = np.inf if ends[1] in missing else ends[1]
        column = Column(as_bounds(lower, upper), seen, False, None)
    return _known(column, least) if are_bounds(column.values) else column


def _known(column: Column, least: float) -> Column:
    """Leave out what says nothing, and make numbers of pairs that are all exact."""
    lower, upper = column.values["lower"], column.values["upper"]
    seen = column.seen & ~(np.isin(lower, (least, -np.inf)) & (upper == np.inf))
    values = lower if exact(column.values[seen]).all() else column.values
    return column._replace(values=values, seen=seen)


# -- pairs of columns ----------------------------------------------------------------------------


def columns_of(task: Any) -> tuple[str, ...]:
    """Names of the columns of y that hold a task: those of its bounds, or its own."""
    return (task.name,) if task.lower is None else (task.lower, task.upper)


def read_columns(table: Table, tasks: Any, missing_values: Any, by_name: bool) -> dict[str, Column]:
    """Columns of y by name; those of a task's lower and upper bounds as one, by that of the task.

    Parameters
    ----------
    table : Table
    tasks : None, list of Task or dict
        As they were declared.
    missing_values : object
    by_name : bool
        Whether columns are found by name; else each task takes the next one, or two.
    """
    raw = table.columns
    listed = tasks.values() if isinstance(tasks, Mapping) else () if tasks is None else tasks
    listed = [t for t in listed if hasattr(t, "lower") and not isinstance(t, str)]  # no kinds
    pairs = [task for task in listed if len(columns_of(task)) == 2]
    if not pairs:
        return {name: clean(column, name, missing_values) for name, column in raw.items()}
    ends = _by_name(raw, pairs) if by_name else _by_position(list(raw), listed)
    taken = {name for pair in ends.values() for name in pair}
    at = {low: name for name, (low, _) in ends.items()}
    columns = {}
    for name, column in raw.items():
        if name in at:
            task = at[name]
            low, high = ((end, raw[end]) for end in ends[task])
            columns[task] = _paired(task, low, high, missing_values)
        elif name not in taken:
            columns[name] = clean(column, name, missing_values)
    return columns


def _by_name(raw: Mapping[str, RawColumn], pairs: Sequence[Any]) -> dict[str, tuple[str, str]]:
    for task in pairs:
        if lacking := [end for end in (task.lower, task.upper) if end not in raw]:
            raise ValueError(
                f"Task {task.name!r}: y has no column {lacking[0]!r}; it has {list(raw)}."
            )
        if task.name in raw and task.name not in (task.lower, task.upper):
            raise ValueError(
                f"Task {task.name!r}: y has a column of this name beside {task.lower!r} and "
                f"{task.upper!r}. Drop it, or give the task another name."
            )
    return {task.name: (task.lower, task.upper) for task in pairs}


def _by_position(names: list[str], listed: Sequence[Any]) -> dict[str, tuple[str, str]]:
    widths = [len(columns_of(task)) for task in listed]
    if sum(widths) != len(names):
        raise ValueError(
            f"y has {len(names)} columns, but tasks lists {len(listed)}, of which "
            f"{widths.count(2)} take two columns, lower= and upper=: {sum(widths)} in all."
        )
    starts = np.cumsum([0, *widths])
    places = zip(listed, widths, starts.tolist(), strict=False)
    return {task.name: (names[at], names[at + 1]) for task, width, at in places if width == 2}


def _paired(
    task: str, low: tuple[str, RawColumn], high: tuple[str, RawColumn], missing_values: Any
) -> Column:
    """Make one column of two; where one end is a hole, it is open."""
    ends = []
    for (name, raw), side in ((low, -np.inf), (high, np.inf)):
        column = clean(_without(raw, side), name, missing_values)
        if column.seen.any() and not are_numbers(column.values):
            raise ValueError(
                f"Task {task!r}: column {name!r} of y holds "
                f"{column.values[column.seen][0]!r}. Bounds are numbers, NaN where there is none."
            )
        values = column.values if column.seen.any() else np.zeros(len(column.seen))
        ends.append((np.where(column.seen, values.astype(np.float64), side), column.seen))
    (lower, has_lower), (upper, has_upper) = ends
    wrong = np.flatnonzero(lower > upper)
    if len(wrong):
        row = wrong[0]
        raise ValueError(
            f"Task {task!r}: {low[0]!r} is above {high[0]!r} in {len(wrong)} rows, the first "
            f"{wrong[:5].tolist()}, with {lower[row]:g} and {upper[row]:g}. Swap them, or leave "
            "the wrong one out as NaN."
        )
    return Column(as_bounds(lower, upper), has_lower | has_upper, False, None)


def _without(raw: RawColumn, infinity: float) -> RawColumn:
    """Make holes of the infinities that say the same."""
    values = raw.values
    if values.dtype.kind == "f":
        values = np.where(values == infinity, np.nan, values)
    elif values.dtype == object:
        values = values.copy()
        values[[isinstance(v, Real) and v == infinity for v in values]] = None
    return raw._replace(values=values)
