"""X of several parts: each is read as an X of its own, and they stand side by side in flat rows."""

from __future__ import annotations

import contextlib
import copy
import functools
import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sklearn_mtl._data.ahead import Ahead
from sklearn_mtl._data.inputs import (
    KEPT_DTYPES,
    NO_PIXELS,
    InputReader,
    Names,
    Pixels,
    Rows,
    Source,
    as_input,
)
from sklearn_mtl._data.on_disk import in_blocks
from sklearn_mtl._data.parts import Absent, Holed, MultiInput, Parts, columns_of
from sklearn_mtl._data.refusals import listed
from sklearn_mtl._data.scaling import Together, alone

__all__ = ["FusedReader", "PartReader", "as_inputs", "reader_for"]

FloatArray = NDArray[np.floating[Any]]


def as_inputs(X: Any, name: str = "X") -> Any:
    """As `as_input`, but a `MultiInput` becomes `Parts`, each of which is such an array."""
    if isinstance(X, MultiInput):
        return Parts({n: _opened(part, f"{name}[{n!r}]") for n, part in X.parts.items()})
    return as_input(X, name)


def _opened(part: Any, name: str) -> Any:
    """Return a part as an array of numbers, whose missing rows are NaN."""
    missing = getattr(part, "missing", None)
    if isinstance(missing, np.ndarray):  # of files
        return Holed(part, missing) if missing.any() else as_input(part, name)
    if isinstance(part, list | tuple) or (
        isinstance(part, np.ndarray | pd.Series) and part.dtype == object and part.ndim == 1
    ):
        samples = list(part)
        missing = np.array([_is_hole(sample) for sample in samples], dtype=bool)
        if samples and missing.all():
            return Absent(len(samples))
        if missing.any():
            return _with_holes(samples, missing, name)
    return as_input(part, name)


def _is_hole(sample: Any) -> bool:
    return sample is None or (pd.api.types.is_scalar(sample) and bool(pd.isna(sample)))


def _with_holes(samples: list[Any], missing: NDArray[np.bool_], name: str) -> Any:
    """Return a list of samples as an array; in the holes there is any other sample, unread."""
    filler = samples[int(np.flatnonzero(~missing)[0])]
    pairs = zip(samples, missing, strict=True)
    return Holed(as_input([filler if hole else sample for sample, hole in pairs], name), missing)


def reader_for(
    X: Any, input_shape: Any, data_format: str, estimator_name: str, standardize: Any = "auto"
) -> InputReader:
    """Make the reader of an X: of several parts, if it has them, or `input_shape` names them."""
    if isinstance(X, MultiInput):
        names = list(X.parts)
    elif isinstance(input_shape, Mapping):
        names = list(input_shape)
    else:
        return InputReader(input_shape, data_format, estimator_name, standardize)
    return FusedReader(names, input_shape, data_format, estimator_name, standardize)


class PartReader(InputReader):
    """Reads one part: as `InputReader`, but rows of NaN are rows that lack it.

    Attributes
    ----------
    lacks_ : bool
        Whether a row to train on lacked it.
    """

    lacks_: bool
    may_lack = True

    def fit(
        self,
        X: Any,
        rows: NDArray[np.intp],
        weight: FloatArray,
        masked: Names = (),
        pixels: Pixels = NO_PIXELS,
        together: Together = alone,
    ) -> PartReader:
        """Learn from rows that have the part."""
        self.lacks_ = False
        super().fit(X, rows, weight, masked, pixels, together)
        self.lacks_ = any(together(self.lacks_))
        return self

    def glance(self, X: Any, rows: NDArray[np.intp], masked: bool = False) -> FloatArray:
        """Return some of the samples that are there."""
        samples = super().glance(X, rows, masked)
        return samples[~_are_missing(samples)]

    def _parts(self, X: Any, rows: NDArray[np.intp]) -> Iterator[NDArray[Any]]:
        for part in super()._parts(X, rows):
            self.lacks_ = self.lacks_ or bool(_are_missing(part).any())
            yield part

    def _require_finite(self, batch: NDArray[Any], rows: Rows, name: str) -> None:
        missing = np.isnan(batch).reshape(len(batch), -1).all(axis=1)
        super()._require_finite(batch[~missing], np.asarray(rows)[~missing], name)


def _are_missing(samples: NDArray[Any]) -> NDArray[np.bool_]:
    """Tell which samples are missing: NaN, which they are as a whole or not at all."""
    return np.isnan(samples.reshape(len(samples), -1)[:, 0])


class FusedReader(InputReader):
    """Reads rows of several parts as flat ones: the values of all parts side by side.

    In them, a part that is missing is NaN.

    Parameters
    ----------
    names : sequence of str
        Of the parts, in their order.
    input_shape : dict of str to tuple, or None
        Shapes of samples; of a matrix of all parts side by side, those of all.
    data_format, estimator_name
        As of `InputReader`.
    standardize : object
        As of `InputReader`, or a dict from parts to it.

    Attributes
    ----------
    readers_ : dict of str to PartReader
        Of the parts, in the order in which they stand in a row.
    sample_shape_ : tuple of int
        ``(d,)``, for all values of a row.
    input_shape_ : dict of str to tuple of int
        Of the samples of each part as the network sees them.
    mean_, scale_ : ndarray of shape (d,)
        For each value of a row.
    two_valued_ : dict of str to tuple of int
        As of `InputReader`, of each part.
    """

    def __init__(
        self,
        names: Sequence[str],
        input_shape: Any,
        data_format: str,
        estimator_name: str,
        standardize: Any = "auto",
    ) -> None:
        super().__init__(input_shape, data_format, estimator_name, standardize)
        shapes = _by_part("input_shape", {} if input_shape is None else input_shape, names)
        if bad := [shape for shape in shapes.values() if not isinstance(shape, list | tuple)]:
            raise ValueError(
                f"input_shape has {bad[0]!r} for a part. Pass the shape of one sample, channels "
                "first: (d,), (C, L), (C, H, W) or (C, D, H, W)."
            )
        told = standardize
        if not isinstance(standardize, Mapping):
            told = dict.fromkeys(names, standardize)
        told = _by_part("standardize", told, names)
        if bad := [how for how in told.values() if not _is_standardize(how)]:
            raise ValueError(
                f"standardize has {bad[0]!r} for a part. Pass 'auto', True, False, 'imagenet' or a "
                "tuple (mean, std)."
            )
        shapes = {name: shape for name, shape in shapes.items() if not _is_open(shape)}
        self.readers_ = {
            name: PartReader(shapes.get(name), data_format, estimator_name, told.get(name, "auto"))
            for name in names
        }

    @property
    def names(self) -> list[str | None]:
        """Of the parts."""
        return list(self.readers_)

    def fit_names(self, X: Any) -> FusedReader:
        """Learn the names of columns of each part; or of X, if it is one table."""
        if isinstance(X, MultiInput):
            for name, reader in self.readers_.items():
                reader.fit_names(X.parts[name])
        else:
            super().fit_names(X)
        return self

    def check_names(self, X: Any) -> None:
        """Refuse columns of other names, or in another order, than those seen in `fit_names`."""
        if isinstance(X, MultiInput):
            for name in self.readers_.keys() & X.parts.keys():
                self.readers_[name].check_names(X.parts[name])
        else:
            super().check_names(X)

    def fit(
        self,
        X: Any,
        rows: NDArray[np.intp],
        weight: FloatArray,
        masked: Names = (),
        pixels: Pixels = NO_PIXELS,
        together: Together = alone,
    ) -> FusedReader:
        """Learn the shape of each part, and what its values are."""
        arrays = X.arrays if isinstance(X, Parts) else self._cut(X, _widths(self.input_shape, X))
        for name, reader in self.readers_.items():
            with _blaming(name):
                if isinstance(arrays[name], Absent):
                    raise ValueError("It is missing in all rows to train on. Leave this part out.")
                known: Pixels = {None: pixels[name]} if name in pixels else NO_PIXELS
                reader.fit(arrays[name], rows, weight, [None] * (name in masked), known, together)
        readers = list(self.readers_.values())
        self.sample_shape_ = (sum(math.prod(r.sample_shape_) for r in readers),)
        self.input_shape_ = {name: r.input_shape_ for name, r in self.readers_.items()}
        self.mean_, self.scale_ = (
            np.concatenate([np.broadcast_to(v, r.input_shape_).ravel() for r, v in values])
            for values in ([(r, r.mean_) for r in readers], [(r, r.scale_) for r in readers])
        )
        self.two_valued_ = {name: r.two_valued_ for name, r in self.readers_.items()}
        return self

    def forget_levels(self) -> None:
        """Take nothing for certain of how many values a column takes."""
        for reader in self.readers_.values():
            reader.forget_levels()
        self.two_valued_ = dict.fromkeys(self.readers_, ())

    def with_more(self) -> FusedReader:
        """Return a reader for further rows to train on, which may lack other parts."""
        twin = copy.copy(self)
        twin.readers_ = {name: copy.copy(reader) for name, reader in self.readers_.items()}
        return twin

    def look_for_missing(self, X: Any, rows: Any, together: Together = alone) -> None:
        """Notice parts that are missing in further rows to train on."""
        for name, reader, array in self.each(X):
            if not reader.lacks_ and array.dtype.kind == "f":
                with _blaming(name):
                    deque(reader._parts(array, rows), maxlen=0)
                reader.lacks_ = any(together(reader.lacks_))

    def each(self, X: Any) -> Iterator[tuple[str, PartReader, Any]]:
        """Return names, readers and arrays of the parts."""
        for name, array in self._arrays(X).items():
            yield name, self.readers_[name], array

    def of(self, X: Any, name: str = "X", to_predict: bool = False) -> Source:
        """Bind the reader to an X; `to_predict`, no part may be missing that never was in `fit`."""
        arrays = self._arrays(X)
        sources = {n: self.readers_[n].of(a, f"{name}[{n!r}]") for n, a in arrays.items()}
        kept = [a.dtype if a.dtype in KEPT_DTYPES else np.float64 for a in arrays.values()]
        dtype = np.result_type(*kept)
        read = functools.partial(self._read_parts, sources, dtype, name, to_predict)
        ahead = Ahead.of_all([each.ahead for each in sources.values()])
        row, size = (self.sample_shape_, self.mean_, self.scale_), self.mean_.size * dtype.itemsize
        return Source(read, *row, ahead, in_blocks(*arrays.values()), size)

    def check_shape(self, X: Any, name: str = "X") -> None:
        """Refuse an X whose parts, or their shapes, differ from those seen in `fit`."""
        if not isinstance(X, Parts):
            if tuple(X.shape[1:]) == self.sample_shape_:
                return
            parts = ", ".join(f"{n} {r.sample_shape_}" for n, r in self.readers_.items())
            raise ValueError(
                f"{name} has samples of shape {tuple(X.shape[1:])}, but {self.estimator_name} was "
                f"fitted on the parts {parts}, {self.sample_shape_[0]} values. Pass "
                f"{name} in the same layout."
            )
        if set(X.arrays) != set(self.readers_):
            raise ValueError(
                f"{name} has the parts {list(X.arrays)}, but {self.estimator_name} was fitted on "
                f"{list(self.readers_)}. Pass these."
            )
        for n, array in self._arrays(X).items():
            self.readers_[n].check_shape(array, f"{name}[{n!r}]")

    def _arrays(self, X: Any) -> dict[str, Any]:
        """Return the parts of X by name, in order."""
        if isinstance(X, Parts):
            arrays = {name: X.arrays[name] for name in self.readers_}
            return {
                n: a.of_shape(self.readers_[n].sample_shape_) if isinstance(a, Absent) else a
                for n, a in arrays.items()
            }
        return self._cut(X, {n: math.prod(r.sample_shape_) for n, r in self.readers_.items()})

    def _cut(self, X: Any, widths: dict[str, int]) -> dict[str, Any]:
        """Cut a table into parts."""
        stops = np.cumsum([widths[name] for name in self.readers_]).tolist()
        places = zip(self.readers_, [0, *stops[:-1]], stops, strict=True)
        return {name: columns_of(X, start, stop) for name, start, stop in places}

    def _read_parts(
        self, sources: dict[str, Source], dtype: Any, name: str, to_predict: bool, rows: Rows
    ) -> NDArray[Any]:
        """Return the flat samples of `rows`."""
        flat, start = np.empty((len(rows), *self.sample_shape_), dtype), 0
        empty = np.full(len(rows), dtype.kind == "f")
        for n, source in sources.items():
            part = source.read(rows).reshape(len(rows), -1)
            flat[:, start : start + part.shape[1]] = part
            start += part.shape[1]
            if dtype.kind == "f":
                missing = _are_missing(part)
                empty &= missing
                if to_predict and missing.any() and not self.readers_[n].lacks_:
                    raise ValueError(
                        f"{name}[{n!r}] is missing in {missing.sum()} of the {len(rows)} rows read "
                        f"together, the first {_first(rows, missing)}, but was in no row of fit "
                        "that was trained on, so that the network has not learned to do without. "
                        "Impute it; or fit with rows that lack it, which may be some of yours."
                    )
        if empty.any():
            raise ValueError(
                f"{name} lacks all of its parts in {empty.sum()} of the {len(rows)} rows read "
                f"together, the first {_first(rows, empty)}. Leave these rows out."
            )
        return flat


def _first(rows: Rows, chosen: NDArray[np.bool_]) -> list[int]:
    return sorted(np.asarray(rows)[chosen].tolist())[:5]


@contextlib.contextmanager
def _blaming(name: str) -> Iterator[None]:
    """Name the part of which an error speaks."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"Part {name!r} of X: {error}") from error


def _by_part(parameter: str, given: Any, names: Sequence[str]) -> dict[str, Any]:
    """Return what a parameter says of each part."""
    if not isinstance(given, Mapping):
        raise ValueError(
            f"{parameter}={given!r} is of one input, but X has the parts {listed(list(names))}. "
            f"Pass a dict: {parameter}={{{names[0]!r}: ...}}."
        )
    unknown = [name for name in given if name not in names]
    if unknown:
        raise ValueError(
            f"{parameter} names the parts {unknown}, which X does not have. Its parts are "
            f"{listed(list(names))}."
        )
    return dict(given)


def _is_standardize(how: Any) -> bool:
    """Tell what the estimator takes as `standardize` of one input."""
    known = isinstance(how, bool | np.bool_ | tuple | list)
    return known or (isinstance(how, str) and how in ("auto", "imagenet"))


def _is_open(shape: Any) -> bool:
    """Tell the shape of a part that has the columns that are left."""
    return isinstance(shape, list | tuple) and tuple(shape) == (-1,)


def _widths(input_shape: Any, X: Any) -> dict[str, int]:
    """Return how many columns of a table each part has; one that is -1 has the rest."""
    n_columns = X.shape[1] if len(X.shape) == 2 else 0
    try:
        shapes = {name: tuple(int(s) for s in shape) for name, shape in input_shape.items()}
    except (TypeError, ValueError):  # no whole numbers
        shapes = {"": (0,)}
    open_ = [name for name, shape in shapes.items() if _is_open(shape)]
    widths = {name: math.prod(shape) for name, shape in shapes.items() if name not in open_}
    rest = n_columns - sum(widths.values())
    if len(open_) == 1 and rest > 0:
        widths[open_[0]], rest = rest, 0
    if rest or len(widths) < len(shapes) or min(widths.values()) < 1:
        raise ValueError(
            f"input_shape={dict(input_shape)!r} does not fit X of shape {tuple(X.shape)}. Pass the "
            "shape of each part, in the order of the columns, with as many values as there are "
            "columns, or (-1,) for one that has the rest; or pass a MultiInput of "
            "sklearn_mtl.datasets."
        )
    return widths
