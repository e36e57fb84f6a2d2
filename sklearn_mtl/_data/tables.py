"""y in every container: read as columns that know their holes, and laid out the same way again.

Arrays, lists, pandas and polars frames and series become numpy columns (`read_table`, `clean`), and
predictions become a frame of y's type (`Template.build`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import narwhals.stable.v2 as nw
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sklearn_mtl._data.contents import (
    as_array,
    check_cells,
    hide_missing,
    holes,
    listed_values,
    to_numbers,
)
from sklearn_mtl._data.opening import opened

__all__ = [
    "Column",
    "RawColumn",
    "Table",
    "Template",
    "clean",
    "read_table",
]

BoolArray = NDArray[np.bool_]


class RawColumn(NamedTuple):
    """A column of y as a 1-D numpy array, and what its type says."""

    values: NDArray[Any]
    categorical: bool = False  # 'class'
    order: tuple[Any, ...] | None = None  # labels from low to high


class Template(NamedTuple):
    """How y was laid out, so that predictions can be laid out the same way."""

    named: bool = False
    backend: Any = None  # narwhals implementation of a frame; None for arrays and lists
    labels: Mapping[str, Any] = {}  # task name to column label (pandas allows any)
    dtypes: Mapping[str, Any] = {}  # task name to dtype

    def build(self, columns: dict[str, NDArray[Any]], restore: Sequence[str], index: Any) -> Any:
        """Make a frame; columns named in `restore` take y's dtype where it can hold them."""
        if self.backend is None or self.backend is nw.Implementation.PANDAS:
            frame = pd.DataFrame(columns, index=index)
            for name in (name for name in restore if name in self.dtypes):
                # A dtype without room for a hole (int64, bool) gives way to one that has it.
                with suppress(ValueError, TypeError):
                    column = frame[name].astype(self.dtypes[name])
                    if column.isna().equals(frame[name].isna()):
                        frame[name] = column
            return frame.rename(columns=self.labels)
        frame = nw.from_dict(columns, backend=self.backend)
        floats = [name for name in columns if frame[name].dtype.is_float()]
        frame = frame.with_columns(nw.col(n).fill_nan(None) for n in floats)  # NaN is no hole here
        return frame.with_columns(
            nw.col(n).cast(self.dtypes[n]) for n in restore if n in self.dtypes
        ).to_native()


class Table(NamedTuple):
    """y as columns by task name."""

    columns: dict[str, RawColumn]
    ndim: int
    template: Template


def read_table(y: Any) -> Table:
    """Read y (frame, series, array or list) into columns."""
    if isinstance(y, pd.DataFrame) and not y.columns.is_unique:
        twice = y.columns[y.columns.duplicated()][0]
        raise ValueError(f"y has the column {twice!r} twice. Give each target a name of its own.")
    y = opened(y, "y")
    data: Any = nw.from_native(y, eager_only=True, allow_series=True, pass_through=True)
    series: list[Any]
    labels: list[Any]
    if isinstance(data, nw.Series):
        series, ndim, labels = [data], 1, [data.name or None]
    elif isinstance(data, nw.DataFrame):
        series, ndim, labels = list(data.iter_columns()), 2, data.columns
    else:
        array = as_array(y)
        if array.ndim not in (1, 2) or 0 in array.shape:
            raise ValueError(
                f"y has shape {array.shape}. Pass a vector, or a matrix with one row per sample "
                "and one column per task, none empty."
            )
        matrix = array[:, None] if array.ndim == 1 else array
        columns = {f"y{k}": RawColumn(column) for k, column in enumerate(matrix.T)}
        return Table(columns, array.ndim, Template())
    if not series or len(data) == 0:
        raise ValueError(f"y has shape {data.shape}. Pass at least one row and one column.")
    named = all(isinstance(label, str) for label in labels)
    names = labels if named else [f"y{k}" for k in range(len(series))]
    template = Template(
        named,
        data.implementation,
        {n: label for n, label in zip(names, labels, strict=True) if label is not None},
        {n: _native_dtype(s) for n, s in zip(names, series, strict=True)},
    )
    columns = {n: _read_series(s) for n, s in zip(names, series, strict=True)}
    return Table(columns, ndim, template)


def _read_series(series: Any) -> RawColumn:
    """Return a column of a frame; narwhals calls ordered categories an Enum."""
    categorical = isinstance(series.dtype, nw.Categorical | nw.Enum | nw.Boolean)
    order = tuple(series.dtype.categories) if isinstance(series.dtype, nw.Enum) else None
    return RawColumn(_values(series), categorical, order)


def _values(series: Any) -> NDArray[Any]:
    """Return a column as numpy; integers with holes as objects, as floats lose their digits."""
    if series.dtype.is_integer() and (n_holes := series.null_count()):
        if n_holes == len(series):  # still numbers
            return np.full(n_holes, np.nan)
        return np.array(series.to_list(), dtype=object)
    values = np.asarray(series.to_numpy())
    if values.ndim != 1:  # of lists or structs
        raise ValueError(
            f"Column {series.name!r} of y holds several values per row. A target is one value: "
            "make a column of each."
        )
    return values


def _native_dtype(series: Any) -> Any:
    native = series.to_native()
    return native.dtype if isinstance(native, pd.Series) else series.dtype


class Column(NamedTuple):
    """One target: its values, where they were observed, and what its type says."""

    values: NDArray[Any]  # meaningless where not seen
    seen: BoolArray
    categorical: bool  # its type says 'class'
    order: tuple[Any, ...] | None  # labels from low to high, where its type orders them


def clean(raw: RawColumn, name: str, missing_values: Any) -> Column:
    """Tell observed values from holes: NaN, None, ``pd.NA`` and `missing_values`."""
    values = raw.values
    missing = listed_values(missing_values)
    check_cells(values, name)
    seen = ~holes(values)
    if missing:  # compared where seen, as pd.NA compares to nothing
        seen[seen] = hide_missing(values[seen], missing, name)
    observed = to_numbers(values[seen], name)
    if observed.dtype.kind == "f" and not np.isfinite(observed).all():
        rows = np.flatnonzero(seen)[~np.isfinite(observed)]
        raise ValueError(
            f"Column {name!r} of y holds infinity in {len(rows)} rows, the first "
            f"{rows[:5].tolist()}. Use NaN where a target was not observed."
        )
    if observed.dtype != values.dtype:
        values = np.zeros(len(seen), dtype=observed.dtype)
        values[seen] = observed
    order = raw.order and tuple(label for label in raw.order if label not in missing)
    return Column(values, seen, raw.categorical, order)
