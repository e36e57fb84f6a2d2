"""Arrays in files, read by rows: folds of them are views, and other processes open the file."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse

from sklearn_mtl._data.ahead import Ahead
from sklearn_mtl._data.lazy import LazyRows, row_numbers
from sklearn_mtl._data.mapped import is_found, is_mapped, will_need
from sklearn_mtl._data.stores import Store, is_column, refuse_closed, store_of

__all__ = [
    "RowsOnDisk",
    "ahead_of",
    "in_blocks",
    "is_stored",
    "lazily",
    "refuse_data_sets",
    "take_samples",
]


class RowsOnDisk(LazyRows):
    """An array in a file, or a data set, that is cut into rows without being read.

    X of any `fit`, `predict` or `score` of the estimator, of searches and cross-validation. Folds
    are views: slices, and rows by numbers or by a mask, are RowsOnDisk again, which hold nothing
    but numbers of rows. Other processes, as of ``n_jobs=2``, are sent the path of the file, and
    open it. ``X[i]`` is a row as an array, and ``np.asarray(X)`` are all of them.

    Parameters
    ----------
    array : array-like of shape (n_samples, ...)
        A `numpy.memmap`; an array of HDF5 (h5py) or Zarr; a data set with rows by number, as a
        :class:`torch.utils.data.Dataset` or one of Hugging Face; or any other object with a
        `shape`, a `dtype`, and either ``take(rows)``, of increasing numbers, or `chunks` as those
        of HDF5 and slices ``array[start:stop]``, both of which return an array.
    column : int or str, default=None
        What of a sample is read, where samples are tuples or dicts, as in data sets: 0 is the x of
        (x, y). None are samples that are arrays.
    block : int, default=None
        Rows that stand together and are read together: `fit` shuffles blocks, and then the rows of
        many blocks (:ref:`blocks <blocks>`). None takes the chunks of `array`, several of them
        where they are small; and 1 for a memmap and a data set, whose rows are read one by one.

    Attributes
    ----------
    shape : tuple of int
        As of an array in memory.
    dtype : dtype
        As of an array in memory; of data sets, that of the first sample.
    block : int
        Rows that are read together.

    Raises
    ------
    TypeError
        If `array` is in memory, or has no rows by number.
    ValueError
        If `column` or `block` does not fit it.

    See Also
    --------
    ImageFiles : The same for files of images.

    Examples
    --------
    >>> import numpy as np
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from sklearn_mtl.datasets import RowsOnDisk
    >>> folder = TemporaryDirectory()
    >>> path = Path(folder.name) / "X.npy"
    >>> np.save(path, np.arange(12.0).reshape(6, 2))
    >>> X = RowsOnDisk(np.load(path, mmap_mode="r"))
    >>> X[X.shape[0] // 2 :]
    RowsOnDisk of the shape (3, 2)
    >>> X[[4, 1]].take([0])
    array([[8., 9.]])
    >>> del X
    >>> folder.cleanup()
    """

    def __init__(
        self, array: Any, column: int | str | None = None, *, block: int | None = None
    ) -> None:
        self._store: Store = store_of(array, column)
        self.dtype = self._store.dtype
        if block is None:
            block = self._store.block
        elif isinstance(block, bool) or not isinstance(block, int | np.integer) or block < 1:
            raise ValueError(f"block={block!r} is no number of rows. Pass an int from 1.")
        self.block = int(block)
        self._rows: Any = range(self._store.shape[0])

    @property
    def shape(self) -> tuple[int, ...]:
        """As of an array in memory."""
        return (len(self._rows), *self._store.shape[1:])

    @property
    def chunks(self) -> tuple[int, ...]:
        """What is read at once, as of arrays of HDF5 and Zarr."""
        return (self.block, *self._store.shape[1:])

    def blocks(self, rows: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return the number of the block in which each row stands.

        Parameters
        ----------
        rows : ndarray of int
            Numbers of rows.

        Returns
        -------
        blocks : ndarray of int
            Of the shape of `rows`; those of a block are read at once.
        """
        return self._places(rows) // self.block

    def take(self, rows: Any) -> NDArray[Any]:
        """Read some rows into an array.

        Parameters
        ----------
        rows : array-like of int, or range
            In any order, perhaps repeated.

        Returns
        -------
        values : ndarray of shape (len(rows), ...)
            In the order of `rows`.
        """
        if self._store.tell is not None:
            self._tell(rows)
        return self._read(rows)

    def _tell(self, rows: Any) -> None:
        """Let the system read rows of a map, before they are asked for."""
        assert self._store.tell is not None
        self._store.tell(self._places(rows))

    def _read(self, rows: Any) -> NDArray[Any]:
        places = self._places(rows)
        if len(places) < 2 or (np.diff(places) > 0).all():
            return self._store.read(places)
        forwards, back = np.unique(places, return_inverse=True)
        return self._store.read(forwards)[back]

    def _places(self, rows: Any) -> NDArray[np.intp]:
        """Return the numbers of rows in the file."""
        chosen = row_numbers(rows)
        if not isinstance(self._rows, range):
            return self._rows[chosen]
        n = len(self)
        if len(chosen) and not (-n <= chosen.min() and chosen.max() < n):
            raise IndexError(f"X has {n} rows, but not all from {chosen.min()} to {chosen.max()}.")
        return self._rows.start + self._rows.step * np.where(chosen < 0, chosen + n, chosen)

    def _part(self, rows: Any) -> RowsOnDisk:
        part = object.__new__(RowsOnDisk)
        if isinstance(rows, range) and isinstance(self._rows, range):
            start, step = self._rows.start, self._rows.step
            kept: Any = range(start + step * rows.start, start + step * rows.stop, step * rows.step)
        else:
            kept = self._places(rows)
        part.__dict__ |= self.__dict__ | {"_rows": kept}
        return part


def in_blocks(*arrays: Any) -> RowsOnDisk | None:
    """Return the array of which most rows are read at once, or None where each is read alone."""
    stored = [getattr(X, "stored", X) for X in arrays]
    blocks = [X for X in stored if isinstance(X, RowsOnDisk) and X.block > 1]
    return max(blocks, key=lambda X: X.block, default=None)


def is_stored(X: Any) -> bool:
    """Tell chunked array-likes (HDF5, Zarr, `ImageFiles`) from arrays in memory."""
    refuse_closed(X)
    return not isinstance(X, np.ndarray) and all(
        hasattr(X, name) for name in ("shape", "dtype", "chunks", "__getitem__")
    )


def refuse_data_sets(X: Any, name: str) -> None:
    """Say how data sets of Hugging Face are read, which numpy would read whole, as integers."""
    if not (is_column(X) or (hasattr(X, "select_columns") and hasattr(X, "column_names"))):
        return
    columns = [X.column_name] if is_column(X) else X.column_names
    whole = name if not is_column(X) else "dataset"
    raise ValueError(
        f"{name} is a {type(X).__name__} of Hugging Face. Pass RowsOnDisk({whole}, {columns[0]!r}) "
        f"of sklearn_mtl.datasets, for that column or another one"
        f"{'' if is_column(X) else f' of {columns}'}; or, of columns of numbers, a frame: "
        f"{whole}.to_pandas()."
    )


def ahead_of(X: Any) -> Ahead:
    """Return how rows of X are read before they are used."""
    if is_mapped(X):
        return Ahead(tell=functools.partial(_tell, X))
    if isinstance(X, RowsOnDisk) and X._store.tell is not None:
        return Ahead(tell=X._tell)
    return Ahead(by_thread=is_stored(X))


def _tell(X: NDArray[Any], rows: NDArray[np.intp] | range) -> None:
    will_need(X, np.asarray(rows, dtype=np.intp))


def take_samples(X: Any, rows: NDArray[np.intp] | range) -> NDArray[Any]:
    """Rows of X as a numpy array; those of maps as they come, unless `ahead_of` tells of them."""
    if isinstance(X, RowsOnDisk):
        return X._read(rows)
    if isinstance(X, LazyRows):
        return X.take(rows)
    if isinstance(rows, range):
        piece = X[rows.start : rows.stop]
        return piece.toarray() if issparse(piece) else np.asarray(piece)
    if issparse(X):
        return X[rows].toarray()
    if len(rows) and (np.diff(rows) == 1).all():  # one piece, not copied
        return np.asarray(X[rows[0] : rows[-1] + 1])
    return np.asarray(X[rows])


def lazily(X: Any) -> Any:
    """Return X, if it is in files that others can open, as rows that are views; else as it is."""
    if isinstance(X, LazyRows) or not (is_stored(X) or (is_mapped(X) and is_found(X))):
        return X
    return RowsOnDisk(X)
