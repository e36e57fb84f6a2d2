"""y in every container: read as columns that know their holes, and laid out the same way again.

Arrays, lists, pandas and polars frames and series become numpy columns (`read_table`, `clean`), and
predictions become a frame of y's type (`Template.build`).
"""

from __future__ import annotations

import itertools
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
from sklearn_mtl._data.opening import opened, tells_holes

__all__ = [
    "Column",
    "RawColumn",
    "Table",
    "Template",
    "are_few",
    "clean",
    "read_table",
]

BoolArray = NDArray[np.bool_]
RowIndex = NDArray[np.integer[Any]]

FEW = 4  # times as many cells as are observed, and more: only these are kept


def are_few(n_seen: int, n: int) -> bool:
    """Tell whether so few of n cells are observed that only these are to be kept."""
    return n_seen * FEW < n


class RawColumn(NamedTuple):
    """A column of y as a 1-D numpy array, and what its type says."""

    values: NDArray[Any]
    categorical: bool = False  # 'class'
    order: tuple[Any, ...] | None = None  # labels from low to high
    stored: tuple[RowIndex, int] | None = None  # rows of the values, and how many there are in all


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
        array = y if tells_holes(y) else as_array(y)
        if array.ndim not in (1, 2) or 0 in array.shape:
            raise ValueError(
                f"y has shape {array.shape}. Pass a vector, or a matrix with one row per sample "
                "and one column per task, none empty."
            )
        if tells_holes(y):
            return Table(_read_cells(y), y.ndim, Template())
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


def _read_cells(matrix: Any) -> dict[str, RawColumn]:
    """Return the columns of a sparse matrix, whose cells that are not stored are holes."""
    columns = matrix if matrix.ndim == 2 else matrix.tocoo().reshape((-1, 1))
    cells = columns.tocsc(copy=True)
    cells.sum_duplicates()
    data = cells.data.astype(np.result_type(cells.dtype, np.float64), copy=False)
    parts = [slice(start, stop) for start, stop in itertools.pairwise(cells.indptr.tolist())]
    return {
        f"y{k}": RawColumn(data[part], stored=(cells.indices[part], cells.shape[0]))
        for k, part in enumerate(parts)
    }


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


class Column:
    """One target: its values, where they were observed, and what its type says.

    Where few were, only these are kept: `values` and `seen` are made of them when asked for.

    Parameters
    ----------
    values : ndarray of shape (n,)
        Meaningless where not seen.
    seen : ndarray of bool of shape (n,)
    categorical : bool
        Its type says 'class'.
    order : tuple or None
        Labels from low to high, where its type orders them.
    """

    def __init__(
        self,
        values: NDArray[Any],
        seen: BoolArray,
        categorical: bool = False,
        order: tuple[Any, ...] | None = None,
    ) -> None:
        self.n_rows, self.n_seen = len(seen), int(np.count_nonzero(seen))
        self.categorical, self.order = categorical, order
        self._seen: BoolArray | None = seen
        self._rows: RowIndex | None = None
        self._values = values
        if are_few(self.n_seen, self.n_rows):
            self._rows, self._seen, self._values = np.flatnonzero(seen), None, values[seen]

    @classmethod
    def of(
        cls,
        rows: RowIndex,
        observed: NDArray[Any],
        n_rows: int,
        categorical: bool = False,
        order: tuple[Any, ...] | None = None,
    ) -> Column:
        """Make a column of the rows, increasing, in which something was observed, and of that."""
        if not are_few(len(rows), n_rows):
            values, seen = np.zeros(n_rows, dtype=observed.dtype), np.zeros(n_rows, dtype=bool)
            values[rows], seen[rows] = observed, True
            return cls(values, seen, categorical, order)
        column = cls.__new__(cls)
        column.n_rows, column.n_seen = n_rows, len(rows)
        column.categorical, column.order = categorical, order
        column._seen, column._rows, column._values = None, rows, observed
        return column

    @property
    def values(self) -> NDArray[Any]:
        """Values (n,), meaningless where not seen."""
        if self._rows is None:
            return self._values
        out = np.zeros(self.n_rows, dtype=self._values.dtype)
        out[self._rows] = self._values
        return out

    @property
    def seen(self) -> BoolArray:
        """Where something was observed (n,)."""
        if self._seen is not None:
            return self._seen
        out = np.zeros(self.n_rows, dtype=bool)
        out[self._rows] = True
        return out

    @property
    def rows(self) -> RowIndex:
        """Rows in which something was observed (n_seen,), increasing."""
        return np.flatnonzero(self.seen) if self._rows is None else self._rows

    @property
    def observed(self) -> NDArray[Any]:
        """Values (n_seen,) that were observed."""
        return self._values[self._seen] if self._rows is None else self._values

    def where(self, kept: BoolArray) -> Column:
        """Return the column as if nothing had been observed but where `kept` (n,) says so."""
        if kept.all():
            return self
        if self._seen is not None:
            return Column(self._values, self._seen & kept, self.categorical, self.order)
        some = kept[self.rows]
        of_type = self.categorical, self.order
        return Column.of(self.rows[some], self._values[some], self.n_rows, *of_type)

    def take(self, rows: RowIndex) -> Column:
        """Return some rows, by increasing numbers."""
        if len(rows) == self.n_rows:
            return self
        if self._seen is not None:
            return Column(self._values[rows], self._seen[rows], self.categorical, self.order)
        place = np.full(self.n_rows, -1, dtype=np.int32)
        place[rows] = np.arange(len(rows))
        found = place[self.rows]
        kept, of_type = found >= 0, (self.categorical, self.order)
        return Column.of(found[kept], self._values[kept], len(rows), *of_type)


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
        rows = rows if raw.stored is None else raw.stored[0][rows]
        raise ValueError(
            f"Column {name!r} of y holds infinity in {len(rows)} rows, the first "
            f"{rows[:5].tolist()}. Use NaN where a target was not observed."
        )
    order = raw.order and tuple(label for label in raw.order if label not in missing)
    if raw.stored is not None:
        rows, n_rows = raw.stored
        return Column.of(rows[seen], observed, n_rows, raw.categorical, order)
    if observed.dtype != values.dtype:
        return Column.of(np.flatnonzero(seen), observed, len(seen), raw.categorical, order)
    return Column(values, seen, raw.categorical, order)
