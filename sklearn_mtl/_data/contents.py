"""What y and its cells may be; all else is refused in a line that says what to pass."""

from __future__ import annotations

import reprlib
import warnings
from collections.abc import Collection, Iterator, Mapping, MappingView, Sequence, Set
from decimal import Decimal
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sklearn_mtl._data.opening import as_numpy, tells_holes
from sklearn_mtl.kinds.values import is_hole, narrow

__all__ = [
    "as_array",
    "check_cells",
    "check_container",
    "hide_missing",
    "holes",
    "listed_values",
    "to_numbers",
]

MENDS = {
    "M": "A date is no target: pass the days since a first one, (column - first).dt.days, for "
    "numbers, or column.astype(str) for labels",
    "m": "A duration is no number: pass it in a unit, such as column / pd.Timedelta('1h')",
    "c": "Make a column of the real and one of the imaginary part",
    "S": "Decode them: column.astype(str)",
}


def as_array(y: Any) -> NDArray[Any]:
    """Return an array or nested list as numpy; a mixed list as objects, not as strings."""
    check_container(y)
    mend = "Pass one value per task in every row, NaN or None where nothing was observed."
    array = as_numpy(y, "y", mend)
    mixed = array.dtype.kind in "US" and isinstance(y, list | tuple)
    return np.array(y, dtype=object) if mixed else array


def check_container(y: Any, name: str = "y") -> None:
    """Refuse what has no rows, or no columns, as numpy sees it."""
    kind = type(y).__name__
    if isinstance(y, type):
        raise TypeError(f"{name} is the class {y.__name__}. Pass the targets themselves.")
    if tells_holes(y):
        return
    if hasattr(y, "toarray"):
        raise TypeError(
            f"{name} is a sparse {kind}, which does not tell targets of 0 from holes. Pass a "
            f"csr_array of the observed cells; or {name}.toarray(), if its zeros are targets."
        )
    if isinstance(y, Mapping):
        raise TypeError(f"{name} is a {kind}. Pass a frame of its columns: pd.DataFrame({name}).")
    if isinstance(y, list | tuple) and len(y) > 0 and all(isinstance(row, Mapping) for row in y):
        raise TypeError(f"{name} is a {kind} of dicts. Pass a frame of them: pd.DataFrame({name}).")
    if isinstance(y, Set | Iterator | MappingView):
        raise TypeError(f"{name} is a {kind}. Pass a list, in the order of the rows of X.")
    if hasattr(y, "collect") and hasattr(y, "lazy"):  # of polars
        raise TypeError(f"{name} is a {kind}, which is not read yet. Pass {name}.collect().")
    if isinstance(y, str | bytes):
        raise TypeError(f"{name} is the text {y!r}. Pass the targets: one for each row of X.")
    if getattr(getattr(y, "dtype", None), "names", None):
        raise TypeError(
            f"{name} is an array of the fields {list(y.dtype.names)}. Pass a frame of them: "
            f"pd.DataFrame({name})."
        )


def check_cells(values: NDArray[Any], name: str) -> None:
    """Refuse columns that hold neither labels nor numbers, or several values in a cell."""
    if values.dtype.kind not in "biufOU":
        mend = MENDS.get(values.dtype.kind, "Convert the column to one of these")
        raise ValueError(
            f"Column {name!r} of y holds {values.dtype} values. Targets are numbers, strings, "
            f"bools or categories. {mend}."
        )
    for row, value in enumerate(values if values.dtype == object else ()):
        if isinstance(value, Collection) and not (
            isinstance(value, str | tuple) or value is np.ma.masked
        ):
            mend = "Make a column of each, or a label of all"
            if isinstance(value, Set):
                mend = "Make a column of 0 and 1 for each label, as MultiLabelBinarizer does"
            if isinstance(value, bytes | bytearray):
                mend = "Decode it to text"
            if isinstance(value, Mapping):
                mend = "Make a column of each: pd.DataFrame(list(column))"
            raise ValueError(
                f"Column {name!r} of y holds {reprlib.repr(value)} in row {row}, of type "
                f"{type(value).__name__}. A target is one value. {mend}."
            )


def holes(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Tell where nothing was observed: NaN, None, ``pd.NA``, and numpy's masked value."""
    if values.dtype != object:
        return np.asarray(pd.isna(values))
    empty = [value is np.ma.masked or _signals(value) for value in values]
    seen = values.copy()
    seen[empty] = None
    return np.asarray(pd.isna(seen))


def _signals(value: Any) -> bool:
    """Tell NaN of which even the comparison is an error."""
    return isinstance(value, Decimal) and value.is_snan()


def to_numbers(values: NDArray[Any], name: str) -> NDArray[Any]:
    """Return observed values as bools or numbers where all of them are; else as they are.

    Numbers that float64 cannot hold, or cannot tell apart, are refused.
    """
    try:
        numbers = narrow(values)
    except (ValueError, ArithmeticError):
        value = next(value for value in values if not _is_float(value))
        raise ValueError(
            f"Column {name!r} of y holds a number that float64 cannot: {reprlib.repr(value)}. Pass "
            "another unit, or NaN where nothing was observed."
        ) from None
    if numbers.dtype.kind == "f":
        with np.errstate(over="ignore"):  # of longer floats
            numbers = numbers.astype(np.float64, copy=False)
        if values.dtype == object:
            _check_digits(values, name)
    return numbers


def _is_float(value: Any) -> bool:
    try:
        float(value)
    except (ValueError, ArithmeticError):
        return False
    return True


def _check_digits(values: NDArray[Any], name: str) -> None:
    """Refuse whole numbers of more digits than floats have, if they become the same number."""
    whole = {v for v in values if isinstance(v, int) and abs(v) >= 2**63}
    if len({float(v) for v in whole}) < len(whole):
        raise ValueError(
            f"Column {name!r} of y holds whole numbers such as {max(whole)}, which float64 cannot "
            "tell apart. Pass text if they are labels; if they are numbers, subtract the smallest."
        )


def listed_values(missing_values: Any) -> list[Any]:
    """List the values that mean *not observed*, besides those that are holes by themselves."""
    several = isinstance(missing_values, list | tuple | set | frozenset)
    listed = list(missing_values) if several else [missing_values]
    return [value for value in listed if not is_hole(value)]


def hide_missing(values: NDArray[Any], missing: Sequence[Any], name: str) -> NDArray[np.bool_]:
    """Tell where observed values are none of those that mean *not observed*.

    An interval from a number to itself is that number.
    """
    seen, of_text = np.ones(len(values), dtype=bool), values.dtype.kind in "OU"
    if values.dtype == object:
        values = values.copy()
        for row, value in enumerate(values):
            if isinstance(value, pd.Interval) and value.left == value.right:
                values[row] = value.left
    for value in missing:
        if isinstance(value, Collection) and not isinstance(value, str):
            raise ValueError(f"missing_values holds {value!r}. List single values.")
        seen &= np.asarray(values != value, dtype=bool)
        twin = _other_type(value, of_text)
        if twin is not None and twin not in missing and (values == twin).any():
            warnings.warn(
                f"Column {name!r} of y holds {twin!r}, which is not missing_values={value!r}: one "
                f"is text. Pass missing_values={twin!r} if it means not observed.",
                UserWarning,
                stacklevel=2,
            )
    return seen


def _other_type(value: Any, to_text: bool) -> Any:
    """Return a number as text, or text as the number that it spells."""
    if to_text:
        return str(value) if isinstance(value, Real) else None
    try:
        return float(value) if isinstance(value, str) else None
    except ValueError:
        return None
