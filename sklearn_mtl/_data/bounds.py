"""Numbers within bounds, as y holds them: intervals, pairs of columns, or text such as '<0.1'."""

from __future__ import annotations

import itertools
import re
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sklearn_mtl._data.contents import listed_values
from sklearn_mtl._data.tables import Column, RawColumn, Table, clean
from sklearn_mtl.kinds.bounds import are_bounds, as_bounds, exact
from sklearn_mtl.kinds.values import are_numbers, is_hole

__all__ = ["are_measured", "columns_of", "read_columns", "to_intervals", "within_bounds"]

FloatArray = NDArray[np.float64]

NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
ONE = re.compile(rf"(<=|>=|<|>|≤|≥|=|)\s*({NUMBER})")
TWO = re.compile(rf"({NUMBER})\s*(?:-|\u2013|to)\s*({NUMBER})")

TOO_LARGE = "a number that float64 cannot hold. Pass another unit."


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
    if len(shape := getattr(values, "shape", (0,))) != 1:
        raise TypeError(
            f"values is a {type(values).__name__} of shape {shape}. Pass one column of it."
        )
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
    if not isinstance(value, str):
        ends = _ends_of_number(value, f"Row {row}")
        if ends is None:
            raise ValueError(f"Row {row} holds {value!r}, which is neither text nor a number.")
        return ends
    if found := ONE.fullmatch(value.strip()):
        sign, number = found[1], float(found[2])
        at_most, at_least = sign in ("<", "<=", "≤"), sign in (">", ">=", "≥")
        ends = -np.inf if at_most else number, np.inf if at_least else number
    elif found := TWO.fullmatch(value.strip()):
        number = max(ends := (float(found[1]), float(found[2])), key=abs)
    else:
        raise ValueError(
            f"Row {row} holds {value!r}, which is no number behind '<', '<=', '>', '>=' or "
            "nothing. Strip units, write decimals with a point, and make None of what was not "
            "measured."
        )
    if np.isinf(number):
        raise ValueError(f"Row {row} holds {value!r}, {TOO_LARGE}")
    if ends[0] > ends[1]:
        raise ValueError(f"Row {row} holds {value!r}, a range that ends below its beginning.")
    return ends


def _ends_of_number(value: Any, where: str) -> tuple[float, float] | None:
    """Both ends of an interval of numbers, and of a number; None for what is neither.

    Raises
    ------
    ValueError
        If it is an interval of dates, or no float can hold an end.
    """
    ends = (value.left, value.right) if isinstance(value, pd.Interval) else (value, value)
    if not all(isinstance(end, Real | Decimal) for end in ends):
        if not isinstance(value, pd.Interval):
            return None
        are_dates = isinstance(value.left, pd.Timestamp)
        how = "(left - first).days" if are_dates else "left / pd.Timedelta('1h')"
        raise ValueError(
            f"{where} holds {value!r}, an interval of {'dates' if are_dates else 'durations'}. "
            f"Pass numbers for both ends, such as {how}, as intervals or as two columns."
        )
    try:
        return float(ends[0]), float(ends[1])
    except OverflowError:
        raise ValueError(f"{where} holds {reprlib.repr(value)}, {TOO_LARGE}") from None


def are_measured(values: NDArray[Any]) -> bool:
    """Tell intervals that are measurements from bins, which are labels.

    Bins are half open and finite, as `pandas.cut` makes them, and do not overlap. Intervals beside
    numbers are measurements, and so are those that cannot be compared: they are to be refused.
    """
    if values.dtype != object:
        return False
    intervals = [v for v in values if isinstance(v, pd.Interval)]
    if not intervals or len(intervals) < len(values):
        others = (v for v in values if not isinstance(v, pd.Interval))
        return bool(intervals) and all(isinstance(v, Real | Decimal) for v in others)
    if any(v.closed in ("both", "neither") for v in intervals):
        return True
    try:
        found = sorted({(v.left, v.right) for v in intervals})
    except TypeError:
        return True
    if any(left == right or right - left == np.inf for left, right in found):
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
    if column.observed.dtype == object and any(isinstance(v, pd.Interval) for v in column.observed):
        values, seen = column.values, column.seen
        lower, upper = np.zeros((2, len(values)))
        missing = listed_values(missing_values)
        for row in np.flatnonzero(seen):
            where = f"Task {name!r}: row {row} of y"
            ends = _ends_of_number(values[row], where)
            if ends is None:
                raise ValueError(
                    f"{where} holds {values[row]!r} beside intervals of numbers. Pass numbers, or "
                    "intervals of them."
                )
            if np.isinf(ends).all() and ends[0] == ends[1]:
                raise ValueError(
                    f"{where} holds {values[row]!r}, infinity. Use NaN where a target was not "
                    "observed."
                )
            lower[row] = -np.inf if ends[0] in missing else ends[0]
            upper[row] = np.inf if ends[1] in missing else ends[1]
        column = Column(as_bounds(lower, upper), seen, False, None)
    return _known(column, least) if are_bounds(column.observed) else column


def _known(column: Column, least: float) -> Column:
    """Leave out what says nothing, and make numbers of pairs that are all exact."""
    lower, upper = column.values["lower"], column.values["upper"]
    seen = column.seen & ~(np.isin(lower, (least, -np.inf)) & (upper == np.inf))
    values = lower if exact(column.values[seen]).all() else column.values
    return Column(values, seen, column.categorical, column.order)


# -- pairs of columns ----------------------------------------------------------------------------


def columns_of(task: Any) -> tuple[str, ...]:
    """Names of the columns of y that hold a task: those of its bounds, or its own."""
    return (task.name,) if task.lower is None else (task.lower, task.upper)


def read_columns(table: Table, tasks: Any, missing_values: Any, by_name: bool) -> dict[str, Column]:
    """Columns of y by name; those of a task's lower and upper bounds as one, by that of the task.

    Where columns are found by place, the names are not those of the tasks, but in their order.

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
    ends = _by_name(raw, pairs, listed) if by_name else _by_position(list(raw), listed)
    taken = {name for pair in ends.values() for name in pair}
    at = {low: name for name, (low, _) in ends.items()}
    columns = {}
    for name, column in raw.items():
        if name in at:
            task = at[name]
            low, high = ((end, raw[end]) for end in ends[task])
            pair = _paired(task, low, high, missing_values)
            columns[task if by_name else name] = pair  # y0 may be the name of another task
        elif name not in taken:
            columns[name] = clean(column, name, missing_values)
    return columns


def _by_name(
    raw: Mapping[str, RawColumn], pairs: Sequence[Any], listed: Sequence[Any]
) -> dict[str, tuple[str, str]]:
    taken: dict[str, str] = {}
    for task in listed:
        for column in columns_of(task):
            if taken.setdefault(column, task.name) != task.name:
                raise ValueError(
                    f"Tasks {taken[column]!r} and {task.name!r} both take the column {column!r} of "
                    "y. Give each task columns of its own."
                )
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
        if column.n_seen and not are_numbers(column.observed):
            raise ValueError(
                f"Task {task!r}: column {name!r} of y holds "
                f"{column.observed[0]!r}. Bounds are numbers, NaN where there is none."
            )
        values = column.values if column.n_seen else np.zeros(column.n_rows)
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
