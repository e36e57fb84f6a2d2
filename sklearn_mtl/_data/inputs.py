"""X of every rank and container: after this room, finite samples with channels first."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_array
from sklearn.utils.validation import _check_feature_names

from sklearn_mtl._data.ahead import Ahead
from sklearn_mtl._data.levels import Levels
from sklearn_mtl._data.on_disk import (
    RowsOnDisk,
    ahead_of,
    in_blocks,
    is_stored,
    lazily,
    refuse_data_sets,
    take_samples,
)
from sklearn_mtl._data.opening import is_readable, opened
from sklearn_mtl._data.parts import Parts
from sklearn_mtl._data.refusals import blame, check_objects, dates_in, listed, refusal
from sklearn_mtl._data.sampling import SAMPLE_VALUES, sampled
from sklearn_mtl._data.scaling import Moments, Together, alone, seen_steps, told_scaling
from sklearn_mtl._data.shapes import resolve_shape

__all__ = [
    "KEPT_DTYPES",
    "NO_PIXELS",
    "InputReader",
    "Names",
    "Pixels",
    "Rows",
    "Source",
    "as_input",
]

FloatArray = NDArray[np.floating[Any]]
Names = Collection[str | None]
Pixels = Mapping[str | None, tuple[Any, Any]]
NO_PIXELS: Pixels = MappingProxyType({})
Rows = NDArray[np.intp] | range  # ranges are read in one piece

# Types of samples that torch can subtract a mean from; all others become float64.
KEPT_DTYPES = frozenset(
    map(np.dtype, ("float64", "float32", "float16", "uint8", "int8", "int16", "int32", "int64"))
)

# Elements of X held as float64 at any one time while reading: 2**21 of them are 16 MB.
CHUNK_ELEMENTS = 2**21
GLANCE_ELEMENTS = 2**17  # that are looked at more closely


def as_input(X: Any, name: str = "X") -> Any:
    """Return X as something with ``shape`` and rows that can be read, without a float copy.

    Arrays of HDF5 and Zarr and images in files are returned as they are (they are read batch by
    batch), and sparse ones in CSR format (rows become dense when they are read); all else becomes a
    numeric numpy array of at least two dimensions. Finiteness is checked when rows are read.
    """
    # Numbers in an array are what they are: what is left to check, the readers check.
    plain = type(X) is np.ndarray and X.dtype.kind in "biuf" and X.ndim > 1 and X.size
    array = X = X if plain else opened(X, name)
    if is_stored(X):
        array = lazily(X)
        if hasattr(X, "check_rows"):  # `ImageFiles`, in which rows may have no file
            X.check_rows(name)
    elif not plain:
        refuse_data_sets(X, name)
        if not is_readable(X):
            raise refusal(X, TypeError(f"it is a {type(X).__name__}"), name)
        array = _checked(X, name)
    if dates := dates_in(X):
        raise ValueError(blame(dates, "dates or durations", name))
    if array.dtype.kind not in "biuf":
        raise refusal(X, TypeError(f"it holds {array.dtype} values"), name)
    if len(array.shape) < 2 or 0 in array.shape:
        raise refusal(X, ValueError(f"it has the shape {array.shape}"), name)
    return array


def _checked(X: Any, name: str) -> Any:
    """Return an array of numbers, or say what X is instead."""
    try:
        check_objects(X, name)
        array = check_array(X, accept_sparse="csr", allow_nd=True, ensure_all_finite=False)
        # Of lists, or of a frame.
        return array.astype(np.float64) if array.dtype.kind == "O" else array
    except (OSError, MemoryError):
        raise
    except ArithmeticError as error:
        raise ValueError(
            f"{name} holds a number that float64 cannot: {error!r}. Use another unit, or impute it."
        ) from error
    except Exception as error:  # of containers that are not ours, or numpy's
        raise refusal(X, error, name) from error


class Source(NamedTuple):
    """Samples by index, and what to standardise them by.

    Attributes
    ----------
    read : callable
        ``read(rows)`` returns samples (n, *input_shape): finite, channels first, in C order, of
        their own type if torch knows it, or else of float64.
    shape : tuple of int
        Shape of a sample.
    mean, scale : ndarray of float64
        Broadcastable to a sample.
    ahead : Ahead
        How samples of files are read before they are used.
    stored : RowsOnDisk or None
        Where rows are read in blocks.
    row_bytes : int
        Of a sample that was read.
    """

    read: Callable[[Rows], NDArray[Any]]
    shape: tuple[int, ...]
    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    ahead: Ahead = Ahead()
    stored: RowsOnDisk | None = None
    row_bytes: int = 1

    def parts(self, rows: Iterable[Rows]) -> Iterator[NDArray[Any]]:
        """Read one part of the rows after the other; those of files one ahead."""
        return self.ahead.parts(self.read, rows)


class InputReader:
    """Reads rows of X as finite, channels-first samples, and learns how to standardise them.

    Parameters
    ----------
    input_shape : tuple of int or None
        Shape of one sample, channels first; None takes it from X.
    data_format : {'channels_first', 'channels_last'}
        Where the channels stand in X.
    estimator_name : str
        Named in error messages.
    standardize : bool, 'auto', 'imagenet' or (mean, std), default='auto'
        Whether means and scales are learned; else what they are. 'auto' learns them, unless `fit`
        is given those of a pretraining.

    Attributes
    ----------
    feature_names_in_ : ndarray or None
        Column names of X.
    sample_shape_ : tuple of int
        Shape of one row of X as it was passed to `fit`.
    input_shape_ : tuple of int
        Shape of one sample as the network sees it: ``(d,)``, ``(C, L)``, ``(C, H, W)`` or
        ``(C, D, H, W)``.
    mean_, scale_ : ndarray of float64
        Weighted training statistics per feature, or per channel, broadcastable to `input_shape_`;
        or what `standardize` says.
    two_valued_ : tuple of int
        Positions of the features of a table that take at most two values in training.
    """

    may_lack = False  # samples

    def __init__(
        self,
        input_shape: Sequence[Any] | None,
        data_format: str,
        estimator_name: str,
        standardize: Any = "auto",
    ) -> None:
        self.input_shape = input_shape
        self.data_format = data_format
        self.estimator_name = estimator_name
        self.standardize = standardize
        self.feature_names_in_: NDArray[Any] | None = None

    def fit_names(self, X: Any) -> InputReader:
        """Learn the column names of X, if it has string names."""
        owner = self._owner()
        _check_feature_names(owner, X, reset=True)
        self.feature_names_in_ = getattr(owner, "feature_names_in_", None)
        return self

    def check_names(self, X: Any) -> None:
        """Refuse columns of other names, or in another order, than those seen in `fit_names`."""
        if self.feature_names_in_ is None and type(X) is np.ndarray:
            return
        owner = self._owner()
        if self.feature_names_in_ is not None:
            owner.feature_names_in_ = self.feature_names_in_
        _check_feature_names(owner, X, reset=False)

    def _owner(self) -> Any:
        """Make an object of the estimator's name, of which scikit-learn speaks in its messages."""
        return type(self.estimator_name, (), {})()

    def fit(
        self,
        X: Any,
        rows: NDArray[np.intp],
        weight: FloatArray,
        masked: Names = (),
        pixels: Pixels = NO_PIXELS,
        together: Together = alone,
    ) -> InputReader:
        """Learn shapes from X, and from `rows` what their values are, weighted by `weight`.

        In sequences that are `masked` (named None, but for parts of X), the last channel is a mask,
        and what stands behind their ends does not count. `pixels` has mean and standard deviation
        of those that a pretrained trunk knows, by the same names. Several processes, each of which
        has other rows, say `together` what they have found.
        """
        self.sample_shape_ = tuple(int(s) for s in X.shape[1:])
        self.input_shape_: Any = resolve_shape(
            self.sample_shape_, self.input_shape, self.data_format
        )
        levels = Levels(self.input_shape_[0] if len(self.input_shape_) == 1 else 0)
        # Of tables, files that may break, and parts that rows may lack, each row counts.
        each = len(self.input_shape_) == 1 or hasattr(X, "check_rows")
        each |= self.may_lack and X.dtype.kind == "f"
        some = sampled(len(rows), SAMPLE_VALUES // math.prod(self.sample_shape_), each)
        with np.errstate(over="ignore", invalid="ignore"):
            self.mean_, self.scale_ = self._statistics(
                *(X, rows[some], weight[some], levels, together), masked=None in masked
            )
        self.two_valued_: Any = tuple(levels.columns.tolist())
        is_told = self.standardize == "imagenet" or None in pixels
        bounds = self._bounds(X, rows[some], together) if is_told else (0.0, 0.0)
        told = told_scaling(self.standardize, self.input_shape_, *bounds, pixels.get(None))
        if told is not None:
            self.mean_, self.scale_ = told
        if not np.isfinite(self.scale_).all():
            raise ValueError("X holds values whose squares overflow float64. Rescale X.")
        return self

    def forget_levels(self) -> None:
        """Take nothing for certain of how many values a column takes."""
        self.two_valued_ = ()

    def with_more(self) -> InputReader:
        """Return a reader for further rows to train on."""
        return self

    def look_for_missing(self, X: Any, rows: Any, together: Together = alone) -> None:
        """Notice parts that further rows to train on lack: none, where there is only one."""

    @property
    def names(self) -> list[str | None]:
        """Of the parts of X: there is one, without a name."""
        return [None]

    def each(self, X: Any) -> Iterator[tuple[str | None, InputReader, Any]]:
        """Return names, readers and arrays of the parts of X."""
        yield None, self, X

    def of(self, X: Any, name: str = "X", to_predict: bool = False) -> Source:
        """Bind the reader to an X, which errors call by `name`."""
        read, shape = functools.partial(self._read, X, name), self.input_shape_
        size = math.prod(shape) * (X.dtype.itemsize if X.dtype in KEPT_DTYPES else 8)
        return Source(
            read, shape, self.mean_, self.scale_, ahead_of(X), in_blocks(X), row_bytes=size
        )

    def check_shape(self, X: Any, name: str = "X") -> None:
        """Refuse an X whose samples differ in shape from those seen in `fit`."""
        if isinstance(X, Parts):
            raise ValueError(
                f"{name} has the parts {listed(list(X.arrays))}, but {self.estimator_name} was "
                f"fitted on samples of shape {self.sample_shape_}. Pass {name} in the same layout."
            )
        shape = tuple(X.shape[1:])
        if shape == self.sample_shape_:
            return
        if len(shape) == len(self.sample_shape_) == 1:
            names = self.feature_names_in_
            known = "" if names is None else f": {listed(names)}"
            raise ValueError(
                f"{name} has {shape[0]} features, but {self.estimator_name} is expecting "
                f"{self.sample_shape_[0]} features as input{known}"
            )
        single = f", or {name}[None] if it is one sample" if X.shape == self.sample_shape_ else ""
        raise ValueError(
            f"{name} has samples of shape {shape}, but {self.estimator_name} was fitted on samples "
            f"of shape {self.sample_shape_}. Pass {name} in the same layout{single}."
        )

    def _read(self, X: Any, name: str, rows: Rows) -> NDArray[Any]:
        """Return the samples of `rows`, a part of X itself if possible."""
        batch = self._samples(X, rows, name)
        dtype = batch.dtype if batch.dtype in KEPT_DTYPES else np.float64
        # Arrays that cannot be written to are copied: as tensors they could be.
        copy = None if batch.flags.writeable else True
        samples = np.array(batch, dtype, order="C", copy=copy)
        return samples.reshape(-1).reshape(samples.shape)  # axes of length 1 may have odd strides

    def chunks(self, rows: NDArray[np.intp]) -> Iterator[NDArray[np.intp]]:
        """Cut `rows` into pieces that fit comfortably into memory."""
        size = max(1, CHUNK_ELEMENTS // max(1, math.prod(self.sample_shape_)))
        for start in range(0, len(rows), size):
            yield rows[start : start + size]

    def glance(self, X: Any, rows: NDArray[np.intp], masked: bool = False) -> FloatArray:
        """Return some of the samples, spread over `rows`; of what is no array, the first ones.

        Of sequences that are `masked`, their steps.
        """
        n = max(4, GLANCE_ELEMENTS // max(1, math.prod(self.sample_shape_)))
        some = rows[:: math.ceil(len(rows) / n)] if isinstance(X, np.ndarray) else rows[:n]
        samples = self._samples(X, some).astype(np.float64)
        return seen_steps(samples)[0] if masked and samples.ndim == 3 else samples

    def _samples(self, X: Any, rows: Rows, name: str = "X") -> NDArray[Any]:
        """Rows of X, checked to be finite, in the shape of the network's input."""
        batch = take_samples(X, rows)
        if batch.dtype.kind == "f":
            self._require_finite(batch, rows, name)
        shape = self.input_shape_
        if self.data_format == "channels_last" and len(shape) > 1:
            batch = batch.reshape(len(rows), *shape[1:], shape[0])
            return np.moveaxis(batch, -1, 1)
        return batch.reshape(len(rows), *shape)

    def _require_finite(self, batch: NDArray[Any], rows: Rows, name: str) -> None:
        """Name rows and columns that are not finite."""
        finite = np.isfinite(batch)
        if finite.all():
            return
        holes = bool(np.isnan(batch).any())
        bad = np.sort(np.asarray(rows)[~finite.all(axis=tuple(range(1, batch.ndim)))])
        where = ""
        if batch.ndim == 2:
            columns = np.flatnonzero(~finite.all(axis=0))
            names = self.feature_names_in_
            where = f", in column(s) {listed(columns if names is None else names[columns])}"
        what, how = ("NaN", "Impute") if holes else ("infinity", "Clip")
        raise ValueError(
            f"{name} contains {what} in {len(bad)} of the {len(rows)} rows read together, the "
            f"first {bad[:5].tolist()}{where}. {how} these values first, for example by a "
            f"{'SimpleImputer' if holes else 'FunctionTransformer'} in a Pipeline, or drop them."
        )

    def _bounds(self, X: Any, rows: Any, together: Together) -> tuple[float, float]:
        """Return the least and the greatest value of `rows`, and those of other processes."""
        ends = [  # but of what is missing
            (np.fmin.reduce(part, axis=None), np.fmax.reduce(part, axis=None))
            for part in self._parts(X, rows)
        ]
        lows, highs = zip(*(pair for found in together(ends) for pair in found), strict=True)
        return float(np.fmin.reduce(lows)), float(np.fmax.reduce(highs))

    def _parts(self, X: Any, rows: NDArray[np.intp]) -> Iterator[NDArray[Any]]:
        """Return the samples of `rows` in pieces."""
        read = functools.partial(self._samples, X)
        return ahead_of(X).parts(read, self.chunks(rows))

    def _statistics(
        self,
        X: Any,
        rows: NDArray[np.intp],
        weight: FloatArray,
        levels: Levels,
        together: Together,
        masked: bool,
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """One pass over `rows`, of which chunks are merged."""
        n_channels, n_spatial = self.input_shape_[0], math.prod(self.input_shape_[1:])
        found = Moments(n_channels)
        places = self.chunks(np.arange(len(rows)))
        for chunk, samples in zip(places, self._parts(X, rows), strict=True):
            batch = samples.astype(np.float64, order="C")
            missing = np.isnan(batch.reshape(len(chunk), -1)[:, 0])  # as parts of X may be
            if missing.any():
                batch, chunk = batch[~missing], chunk[~missing]
            if len(chunk) == 0:
                continue
            levels.look(batch.reshape(len(chunk), -1))
            batch, w = batch.reshape(len(chunk), n_channels, n_spatial), weight[chunk]
            if masked:
                batch, counts = seen_steps(batch)
                w = w.repeat(counts)
            found.add(batch, w)
        all_found, others = zip(*together((found, levels)), strict=True)
        found = Moments.merged(all_found)
        levels.merge(other for other in others if other is not levels)
        if found.total == 0:
            raise ValueError("It is missing in all rows to train on. Leave this part out.")
        shape = (n_channels, *[1] * (len(self.input_shape_) - 1))
        return found.mean.reshape(shape), found.scale.reshape(shape)
