"""Several inputs per row: named parts, of which a row may lack one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse

from sklearn_mtl._data.lazy import RowView
from sklearn_mtl._data.rows import take_rows

__all__ = ["Absent", "Holed", "MultiInput", "Parts", "columns_of", "is_part_name"]


class MultiInput(RowView):
    """Several inputs of the same rows, such as a photograph and a line of a table.

    X of any `fit`, `predict` or `score` of the estimator, of searches and cross-validation: it is
    cut into rows as an array is. A :class:`~sklearn_mtl.networks.Fusion`, which is the default
    trunk, reads each part by a trunk of its own.

    A row may lack a part, such as a photograph that was not taken: NaN in all of its values, or
    None in a list, or among the paths of :class:`ImageFiles`. The part then takes no
    share in what the row says, nor in means and scales, and the network is told. A part that is NaN
    here and there is an error, as it is alone; impute it.

    Parameters
    ----------
    **parts : array-like of shape (n_samples, ...)
        Each is an X of its own: an array, a frame, a sparse matrix, a list, `ImageFiles`,
        `RowsOnDisk`, or an array of HDF5 or Zarr.

    Attributes
    ----------
    parts : dict of str to array-like
        As they were passed.
    shape : tuple of int
        Number of rows, and of values in a row of all parts.

    Raises
    ------
    TypeError
        If a part has no rows.
    ValueError
        If parts have different numbers of rows, or there are none.

    See Also
    --------
    sklearn_mtl.networks.Fusion : The trunk for it.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_mtl.datasets import MultiInput
    >>> X = MultiInput(image=np.zeros((5, 3, 8, 8)), table=np.ones((5, 2)))
    >>> X
    MultiInput of 5 rows: image (3, 8, 8), table (2,)
    >>> X[:2]
    MultiInput of 2 rows: image (3, 8, 8), table (2,)
    >>> X["table"].shape
    (5, 2)
    """

    ndim = 2

    def __init__(self, /, **parts: Any) -> None:
        if not parts:
            raise ValueError(
                "MultiInput has no parts. Pass some: MultiInput(image=..., table=...)."
            )
        lengths = {name: _n_rows(name, part) for name, part in parts.items()}
        if bad := [name for name in parts if not is_part_name(name)]:
            raise ValueError(
                f"MultiInput has a part called {bad[0]!r}. Names stand in parameters such as "
                "trunk__image__width: pass one without two underscores."
            )
        if len(set(lengths.values())) > 1:
            each = ", ".join(f"{name!r} has {n}" for name, n in lengths.items())
            raise ValueError(
                f"The parts of MultiInput have different numbers of rows: {each}. Pass one row of "
                "each for every sample; where one is missing, NaN or None."
            )
        self.parts = parts

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows, and of values in a row of all parts."""
        return len(self), sum(math.prod(_sample_shape(part)) for part in self.parts.values())

    def __len__(self) -> int:
        """Return the number of rows."""
        name, part = next(iter(self.parts.items()))
        return _n_rows(name, part)

    def __repr__(self) -> str:
        """Tell the parts, and the shapes of their samples."""
        each = ", ".join(f"{name} {_sample_shape(part)}" for name, part in self.parts.items())
        return f"MultiInput of {len(self)} rows: {each}"

    def __getitem__(self, key: Any) -> Any:
        """Return a part by its name, rows by a slice, numbers or a mask, or a row as a dict."""
        if isinstance(key, str):
            if key not in self.parts:
                raise KeyError(f"{key!r} is no part. There are {list(self.parts)}.")
            return self.parts[key]
        return super().__getitem__(key)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Refuse: parts are arrays, and not all of them together."""
        raise TypeError(
            f"MultiInput is no array, but has the parts {list(self.parts)}. Take one, as "
            f"X[{next(iter(self.parts))!r}]; or pass it to what cuts X into rows, and no further."
        )

    def _row(self, row: int) -> dict[str, Any]:
        return {name: _sample(part, row) for name, part in self._lists().items()}

    def _part(self, rows: Any) -> MultiInput:
        chosen = slice(rows.start, rows.stop, rows.step) if _is_forward(rows) else np.asarray(rows)
        return MultiInput(**{name: _cut(part, chosen) for name, part in self.parts.items()})

    def _lists(self) -> dict[str, Any]:
        """Return frames as arrays."""
        return {n: np.asarray(p) if hasattr(p, "columns") else p for n, p in self.parts.items()}


def _is_forward(rows: Any) -> bool:
    return isinstance(rows, range) and rows.step > 0


def is_part_name(name: Any) -> bool:
    """Tell what can be the name of a part, as it stands in names of parameters."""
    return isinstance(name, str) and name != "" and "__" not in name


def _cut(part: Any, rows: Any) -> Any:
    """Return some rows of a part; of a sparse matrix of any format, as scikit-learn does."""
    return take_rows(part.tocsr() if issparse(part) else part, rows)


def _sample(part: Any, row: int) -> Any:
    """Return a row of a part; None where files have no image."""
    missing = getattr(part, "missing", None)
    if isinstance(missing, np.ndarray) and missing[row]:
        return None
    return _cut(part, np.array([row]))[0]


def _n_rows(name: str, part: Any) -> int:
    shape = getattr(part, "shape", None)
    if isinstance(shape, tuple) and shape and not isinstance(part, MultiInput):
        return int(shape[0])
    has_rows = hasattr(part, "__len__") and hasattr(part, "__getitem__") and shape is None
    if isinstance(part, str | bytes | Mapping | MultiInput) or not has_rows:
        raise TypeError(
            f"Part {name!r} of MultiInput is a {type(part).__name__}, which has no rows. Pass an "
            "array, a frame, a list or ImageFiles."
        )
    return len(part)


def _sample_shape(part: Any) -> tuple[int, ...]:
    """Shape of a sample; of lists, that of the first one that is there."""
    shape = getattr(part, "shape", None)
    if shape is None:
        return tuple(np.shape(next((sample for sample in part if sample is not None), 0.0)))
    return tuple(int(side) for side in shape[1:])


class Parts:
    """A `MultiInput` whose parts are arrays of numbers, in memory or in files.

    Parameters
    ----------
    arrays : dict of str to array
        Of the same number of rows.
    """

    def __init__(self, arrays: dict[str, Any]) -> None:
        self.arrays = arrays
        n_rows = next(iter(arrays.values())).shape[0]
        self.shape = n_rows, sum(math.prod(array.shape[1:]) for array in arrays.values())


class Holed:
    """An array of which some rows are missing: read, they are NaN.

    Parameters
    ----------
    array : array-like
        What stands in these rows, is not read.
    missing : ndarray of bool of shape (n_rows,)
    """

    def __init__(self, array: Any, missing: NDArray[np.bool_]) -> None:
        self.array, self.missing, self.shape = array, missing, array.shape
        small = np.dtype(np.float32 if array.dtype.itemsize <= 2 else np.float64)  # that is exact
        self.dtype = array.dtype if array.dtype.kind == "f" else small
        if hasattr(array, "chunks"):  # it is in files
            self.chunks, self.stored = array.chunks, array

    def __getitem__(self, key: Any) -> NDArray[Any]:
        """Read some rows."""
        rows = np.arange(self.shape[0])[key]
        there = ~self.missing[rows]
        taken = np.full((len(rows), *self.shape[1:]), np.nan, self.dtype)
        if there.any():
            taken[there] = np.asarray(self.array[rows[there]])
        return taken


class Absent:
    """A part that is missing in all rows, so that nobody sees the shape of its samples.

    Parameters
    ----------
    n_rows : int
    """

    def __init__(self, n_rows: int) -> None:
        self.shape = (n_rows,)

    def of_shape(self, sample_shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Return NaN in samples of a shape that is known from elsewhere, without memory."""
        return np.broadcast_to(np.float32(np.nan), (*self.shape, *sample_shape))


class Columns:
    """Some columns of a table in files, read by rows.

    Parameters
    ----------
    table : array-like of shape (n, d)
        Of HDF5 or Zarr.
    start, stop : int
        The first column, and the one behind the last.
    """

    def __init__(self, table: Any, start: int, stop: int) -> None:
        self.table, self.stored, self.columns = table, table, slice(start, stop)
        self.shape, self.dtype, self.chunks = (table.shape[0], stop - start), table.dtype, (1,)

    def __getitem__(self, rows: Any) -> NDArray[Any]:
        """Read some rows."""
        by_row = getattr(self.table, "oindex", self.table)
        return np.asarray(by_row[rows, self.columns])


def columns_of(table: Any, start: int, stop: int) -> Any:
    """Return some columns of a table, without a copy where that is possible."""
    if isinstance(table, np.ndarray) or issparse(table):
        return table[:, start:stop]
    return Columns(table, start, stop)
