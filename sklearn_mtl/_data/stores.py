"""Where rows on disk stand: memmaps, chunks of HDF5 and Zarr, samples of data sets."""

from __future__ import annotations

import functools
import itertools
import math
import os
import threading
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import issparse

from sklearn_mtl._data.lazy import LazyRows
from sklearn_mtl._data.mapped import is_mapped, open_mapped, place_of, will_need
from sklearn_mtl._data.opening import is_frame, opened

__all__ = ["Store", "is_column", "refuse_closed", "store_of"]

BLOCK_BYTES = 2**18  # that are read at once where chunks are smaller
NUMBERS = {f"{kind}{bits}" for kind in ("int", "uint", "float") for bits in (8, 16, 32, 64)}
CHUNK_BYTES = 2**28  # of a larger chunk, only the rows that are asked for


class Store(Protocol):
    """Rows that can be read, and pickled as the way to them.

    Attributes
    ----------
    shape : tuple of int
    dtype : dtype
    block : int
        Rows that are read together.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    block: int

    @property
    def tell(self) -> Callable[[NDArray[np.intp]], None] | None:
        """Let the system read rows of a map before they are asked for; None of what is none."""

    def read(self, rows: NDArray[np.intp]) -> NDArray[Any]:
        """Read rows, which increase."""
        ...


def store_of(array: Any, column: Any) -> Store:
    """Return what reads rows of an array or a data set."""
    refuse_closed(array)
    has_shape = all(hasattr(array, name) for name in ("shape", "dtype"))
    is_array = has_shape and (hasattr(array, "__getitem__") or hasattr(array, "take"))
    kind = type(array).__name__
    if isinstance(array, torch.utils.data.IterableDataset):
        raise TypeError(
            f"array is a {kind}, which has no rows by number. Pass a Dataset with __len__ and "
            "__getitem__; or train by partial_fit, portion by portion."
        )
    is_loaded = isinstance(array, torch.Tensor | LazyRows) or issparse(array) or is_frame(array)
    if is_loaded or (isinstance(array, np.ndarray) and not is_mapped(array)):
        raise TypeError(f"array is a {kind}, and not in a file. Pass it as X, as it is.")
    if not is_array:
        has_rows = hasattr(array, "__len__") and hasattr(array, "__getitem__")
        has_names = hasattr(array, "keys") and not isinstance(array, torch.utils.data.Dataset)
        if has_names or not has_rows or isinstance(array, str | bytes | list | tuple):
            raise TypeError(
                f"array is a {kind}{_names(array) if has_names else ''}. Pass an array in a file, "
                "such as np.load(path, mmap_mode='r') or h5py.File(path)['X'], or a data set of "
                "torch or Hugging Face."
            )
        return _Samples(*_plain_samples(array, column))
    if column is not None:
        raise ValueError(
            f"column={column!r} is for data sets, but array is a {kind} of the shape "
            f"{tuple(array.shape)}. Leave it out."
        )
    if not array.shape:  # of HDF5, also None
        raise ValueError(f"array is a {kind} without axes. Pass one with a row for each sample.")
    if isinstance(array, np.ndarray):
        return _Mapped(array)
    if hasattr(array, "take") and not hasattr(array, "chunks"):
        return _Taken(array)
    kinds = {"h5py": _HDF5, "zarr": _Zarr}
    return kinds.get(type(array).__module__.partition(".")[0], _Chunked)(array)


def _plain_samples(samples: Any, column: Any) -> tuple[Any, Any]:
    """Let data sets of Hugging Face read one column, as arrays and not as lists."""
    if column is None and is_column(samples):
        samples, column = samples.source, samples.column_name
    if hasattr(samples, "select_columns") and column in samples.column_names:
        feature = samples.features[column]
        while hasattr(feature, "feature"):  # it is one of lists
            feature = feature.feature
        numbers = str(getattr(feature, "dtype", "")) in NUMBERS
        plain = {"type": "numpy", "dtype": np.dtype(feature.dtype)} if numbers else {"type": None}
        samples = samples.select_columns([column]).with_format(**plain)
    return samples, column


def is_column(samples: Any) -> bool:
    """Tell a column of a data set of Hugging Face."""
    return hasattr(samples, "source") and hasattr(samples, "column_name")


def refuse_closed(array: Any) -> None:
    """Refuse arrays of HDF5 whose file was closed, of which nothing can be asked."""
    if type(array).__module__.startswith("h5py.") and not array:
        raise ValueError(
            "An array of HDF5 stands in a file that was closed. Keep h5py.File(path, 'r') open as "
            "long as the array is read."
        )


def _as_told(values: Any, store: Store, rows: NDArray[np.intp] | range) -> NDArray[Any]:
    """Refuse rows of another shape or type than those that an array says that it has."""
    values = np.asarray(values)
    shape = (len(rows), *store.shape[1:])
    if values.shape != shape or not _fits(values.dtype, store.dtype):
        raise ValueError(
            f"X has the shape {store.shape} and the type {store.dtype}, but of rows {rows[0]} to "
            f"{rows[-1]} came {values.shape} of {values.dtype}, and not {shape}. Open it anew, if "
            "its file has changed; a class of your own has to return what its shape and dtype say."
        )
    return values.astype(store.dtype, copy=False)


def _fits(dtype: np.dtype[Any], into: np.dtype[Any]) -> bool:
    """Tell whether values keep what they are: rounded, but neither cut nor wrapped."""
    return np.can_cast(dtype, into, "same_kind" if into.kind == "f" else "safe")


class _Mapped:
    """Rows of a memmap."""

    block = 1

    def __init__(self, array: NDArray[Any]) -> None:
        self.array, self.shape, self.dtype = array, array.shape, array.dtype
        self.tell = functools.partial(will_need, array)

    def read(self, rows: NDArray[np.intp]) -> NDArray[Any]:
        return np.asarray(self.array[rows])

    def __reduce__(self) -> Any:
        return _opened_map, (place_of(self.array),)


def _opened_map(place: dict[str, Any]) -> _Mapped:
    return _Mapped(open_mapped(place))


class _Taken:
    """Rows of an object that knows best how to read some of them."""

    block, tell = 1, None

    def __init__(self, array: Any) -> None:
        self.array, self.shape, self.dtype = array, tuple(array.shape), np.dtype(array.dtype)

    def read(self, rows: NDArray[np.intp]) -> NDArray[Any]:
        return _as_told(self.array.take(rows), self, rows) if len(rows) else _no_rows(self)


def _no_rows(store: Store) -> NDArray[Any]:
    return np.empty((0, *store.shape[1:]), store.dtype)


class _Chunked:
    """Rows of an array that is stored by chunks, each of which is read in one piece.

    The last chunk of which some rows were read is kept: who goes through all rows in small parts
    reads each chunk once.
    """

    tell = None

    def __init__(self, array: Any) -> None:
        self.array, self.dtype = array, np.dtype(array.dtype)
        self.shape = tuple(int(side) for side in array.shape)
        chunks = getattr(array, "chunks", None)
        rows = chunks[0] if chunks else 1
        rows = max(rows) if isinstance(rows, tuple) else int(rows)  # of dask, each has its own
        row_bytes = max(1, math.prod(self.shape[1:]) * self.dtype.itemsize)
        self.keeps = _is_read_only(array) and rows * row_bytes <= CHUNK_BYTES
        self.block = rows * max(1, BLOCK_BYTES // (rows * row_bytes))
        self._kept: tuple[int, Any] = -1, None
        self._lock = threading.Lock()

    def read(self, rows: NDArray[np.intp]) -> NDArray[Any]:
        out = np.empty((len(rows), *self.shape[1:]), self.dtype)
        blocks = rows // self.block
        places = [0, *(np.flatnonzero(np.diff(blocks)) + 1).tolist(), len(rows)]
        with self._lock:
            for start, stop in itertools.pairwise(places):
                if stop > start:
                    self._read_block(int(blocks[start]), rows[start:stop], out[start:stop])
        return out

    def _read_block(self, block: int, rows: NDArray[np.intp], out: NDArray[Any]) -> None:
        """Read rows of one block."""
        first = block * self.block
        stop = min(first + self.block, self.shape[0])
        if self._kept[0] == block:
            out[...] = self._kept[1][rows - first]
        elif len(rows) == stop - first:
            self._read_into(out, first, stop)
        elif self.keeps:
            values = self._slice(first, stop)
            self._kept = block, values
            out[...] = values[rows - first]
        else:
            first, stop = int(rows[0]), int(rows[-1]) + 1
            out[...] = self._slice(first, stop)[rows - first]

    def _slice(self, start: int, stop: int) -> NDArray[Any]:
        return _as_told(self.array[start:stop], self, range(start, stop))

    def _read_into(self, out: NDArray[Any], start: int, stop: int) -> None:
        """Read rows to where they will stand: what is unpacked first and copied then, is dear."""
        refuse_closed(self.array)
        is_as_told = tuple(self.array.shape) == self.shape and self.array.dtype == self.dtype
        if is_as_told and self.dtype.kind in "iuf":
            self._unpack(out, start, stop)
        else:
            out[...] = self._slice(start, stop)

    def _unpack(self, out: NDArray[Any], start: int, stop: int) -> None:
        out[...] = self._slice(start, stop)

    def __reduce__(self) -> Any:
        return type(self), (self.array,)


def _is_read_only(array: Any) -> bool:
    """Tell whether an array of HDF5 or Zarr was opened to be read; all others stay as they are."""
    file = getattr(array, "file", None)
    return getattr(file, "mode", "r") == "r" and bool(getattr(array, "read_only", True))


class _Zarr(_Chunked):
    """Rows of an array of Zarr."""

    def _unpack(self, out: NDArray[Any], start: int, stop: int) -> None:
        from zarr.core.buffer.cpu import NDBuffer

        into: Any = out
        self.array.get_basic_selection(slice(start, stop), out=NDBuffer(into))


class _HDF5(_Chunked):
    """Rows of an array of HDF5, which another process opens by the path of the file."""

    def _slice(self, start: int, stop: int) -> NDArray[Any]:
        refuse_closed(self.array)
        return super()._slice(start, stop)

    def _unpack(self, out: NDArray[Any], start: int, stop: int) -> None:
        if hasattr(self.array, "read_direct"):
            self.array.read_direct(out, np.s_[start:stop])
        else:  # of another type than in the file, by `astype`
            super()._unpack(out, start, stop)

    def __reduce__(self) -> Any:
        refuse_closed(self.array)
        file = self.array.file
        if file.mode != "r" or file.driver not in ("sec2", "stdio"):
            raise ValueError(
                f"Other processes cannot open the HDF5 file of X, which is open with mode="
                f"{file.mode!r}, driver={file.driver!r}. Open it with h5py.File(path, 'r')."
            )
        path = os.path.abspath(os.fsdecode(file.filename))
        return _opened_hdf5, (path, self.array.name, self.shape, self.dtype)


def _opened_hdf5(path: str, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> _HDF5:
    import h5py

    array = h5py.File(path, "r").get(name)
    if getattr(array, "shape", None) != shape or array.dtype != dtype:
        raise ValueError(
            f"{path} has no array {name!r} of shape {shape} and type {dtype} any more, as it had "
            "when X was made. Make X anew from the file as it is."
        )
    return _HDF5(array)


class _Samples:
    """Samples of a data set, or one part of each."""

    block, tell = 1, None

    def __init__(self, samples: Any, column: Any) -> None:
        self.samples, self.column = samples, column
        if len(samples) == 0:
            raise ValueError("array has no samples. Pass some.")
        first = self._of(self._samples([0])[0], 0)
        self.shape, self.dtype = (len(samples), *first.shape), first.dtype

    def read(self, rows: NDArray[np.intp]) -> NDArray[Any]:
        out = np.empty((len(rows), *self.shape[1:]), self.dtype)
        numbers = rows.tolist()
        for place, (row, sample) in enumerate(zip(numbers, self._samples(numbers), strict=True)):
            values = self._of(sample, row)
            if values.shape != self.shape[1:]:
                raise ValueError(
                    f"X has samples of unequal shape: {self.shape[1:]} in row 0, and "
                    f"{values.shape} in row {row}. Let the data set resize, crop or pad them."
                )
            if not _fits(values.dtype, self.dtype):
                raise ValueError(
                    f"X has samples of the type {self.dtype} in row 0, and {values.dtype} in row "
                    f"{row}, which would be rounded. Let the data set give all of them one type."
                )
            out[place] = values
        return out

    def _samples(self, rows: list[int]) -> Any:
        """Ask for several samples at once, if the data set has a way to."""
        many = getattr(self.samples, "__getitems__", None)
        return [self.samples[row] for row in rows] if many is None else many(rows)

    def _of(self, sample: Any, row: int) -> NDArray[Any]:
        """Return what of a sample is read, as an array."""
        try:
            part = sample if self.column is None else sample[self.column]
        except (KeyError, IndexError, TypeError) as error:
            raise ValueError(
                f"column={self.column!r} is nothing in sample {row}, which is a "
                f"{type(sample).__name__}{_names(sample)}. Pass one that is there."
            ) from error
        plain = part if isinstance(part, tuple) else opened([part])[0]
        try:
            values = np.asarray(plain)
        except ValueError:  # of parts of different shapes
            values = np.empty(0, dtype=object)
        if values.dtype.kind not in "biuf" or isinstance(part, tuple):
            raise ValueError(
                f"Sample {row} is a {type(part).__name__}{_names(part)}, and no array of numbers. "
                "Pass column=, its place in the sample: 0 for the x of (x, y), or a name."
            )
        return values


def _names(sample: Any) -> str:
    """Tell what is in a sample."""
    if hasattr(sample, "keys"):
        return f" of {list(sample.keys())}"
    return f" of {len(sample)}" if isinstance(sample, list | tuple) else ""
