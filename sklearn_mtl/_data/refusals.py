"""Why an X cannot be read: what it is, where, and what to pass instead."""

from __future__ import annotations

import datetime
import os
import re
import reprlib
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import issparse

from sklearn_mtl._data.contents import check_container, holes
from sklearn_mtl._data.parts import MultiInput

__all__ = ["blame", "check_objects", "dates_in", "listed", "refusal", "rows_beside_y"]

ARRAY = (
    "Pass one array with a sample per row: (n, d), (n, H, W), (n, C, H, W) or (n, C, D, H, W); "
    "or a frame"
)
TWO_INPUTS = (
    "Pass one array, or MultiInput(image=..., table=...) of sklearn_mtl.datasets: a trunk for each"
)
OF_UNEQUAL_SIZE = (
    "as load_images of sklearn_mtl.datasets does with uint8 images (H, W) or (H, W, C), "
    "ImageFiles with files, and SequencePad with sequences"
)
NUMBERS = (*"biufc",)  # kinds of dtypes
FEW = 9  # so many items of a list may be inputs, more are samples
DATES = (datetime.date, datetime.time, datetime.timedelta, np.datetime64, np.timedelta64, pd.Period)

COMPLEX = (complex, np.complexfloating)

# How names of files of images end.
IMAGE = re.compile(r"\.(jpe?g|png|tiff?|bmp|gif|webp|avif|jp2|p[gp]m|heic)$", re.IGNORECASE)

# What may be wrong with columns, and how to mend it.
MENDS = {
    "dates or durations": (
        "Make numbers of them first, such as days since the first one, or month and weekday."
    ),
    "complex numbers": "Pass their real and imaginary parts, or their size, as columns.",
    "lists or arrays": (
        "Give each of their values a column, as by np.stack(X[column]), or pass an array (n, ...)."
    ),
    "text": "Encode it, for example by OneHotEncoder in a ColumnTransformer.",
    "numbers and text": (
        "Make numbers of the one and holes of the other, by pd.to_numeric(..., errors='coerce'), "
        "and impute these."
    ),
    "numbers as text": "Make numbers of it first, by astype(float) or pd.to_numeric.",
    "numbers and holes as objects": (
        "Make floats of them first, as by pd.to_numeric, and impute the holes."
    ),
    "a NaN that signals": "Put a plain one in its place, and impute it.",
    "no numbers": "Make numbers of them first, or drop them.",
}


def refusal(X: Any, error: Exception, name: str = "X") -> Exception:
    """Return what to raise for an X that another library could not read.

    Parameters
    ----------
    X : object
        What cannot be read.
    error : Exception
        What was raised for it.
    name : str, default='X'
        Of the parameter.
    """
    for why in (_image_paths, _no_array, _unequal_samples, _columns_without_numbers, _no_rows):
        if text := why(X, name):
            break
    else:
        text = f"{name} cannot be read as numbers: {str(error).removesuffix('.')}."
    if MENDS["no numbers"] in text and isinstance(error, TypeError):  # scikit-learn asks for it
        return TypeError(f"{text} {error}.")
    return ValueError(text)


def blame(labels: Sequence[Any], what: str, name: str = "X") -> str:
    """Say what columns hold, and how to mend it."""
    holds = "Column {} of {} holds" if len(labels) == 1 else "Columns {} of {} hold"
    return f"{holds.format(listed(labels), name)} {what}. {MENDS[what]}"


def listed(items: Sequence[Any] | NDArray[Any], limit: int = 5) -> str:
    """Put items in a row, the first few of many."""
    plain = [item.item() if isinstance(item, np.generic) else item for item in items[:limit]]
    more = f" and {len(items) - limit} more" if len(items) > limit else ""
    return ", ".join(map(repr, plain)) + more


def dates_in(X: Any) -> list[str]:
    """Return the columns of a frame that hold dates, of which some libraries make numbers."""
    if isinstance(X, np.ndarray | list | tuple) or hasattr(X, "iloc"):  # pandas makes none
        return []
    frame = _frame(X)
    return [] if frame is None else [n for n, t in frame.schema.items() if t.is_temporal()]


def check_objects(X: Any, name: str = "X") -> None:
    """Refuse objects of which numpy makes numbers, and loses what they are."""
    if isinstance(X, pd.DataFrame):
        objects = [j for j, dtype in enumerate(X.dtypes) if dtype.kind == "O"]
        columns = [(X.columns[j], X.iloc[:, j]) for j in objects]
    elif isinstance(X, np.ndarray) and X.dtype == object and X.size:
        columns = list(enumerate(X.reshape(len(X), -1).T)) if X.ndim else []
    else:
        return
    for label, values in columns:
        for kind in set(map(type, values)):
            if issubclass(kind, (*DATES, *COMPLEX)):
                what = "complex numbers" if issubclass(kind, COMPLEX) else "dates or durations"
                raise ValueError(blame([label], what, name))


def rows_beside_y(X: Any, n_samples: int, y: Any, names: tuple[str, str] = ("X", "y")) -> None:
    """Refuse X and y of different lengths; a list may hold inputs, where samples were expected."""
    check_container(y, names[1])
    shape = getattr(y, "shape", None)
    n = shape[0] if shape else len(y) if hasattr(y, "__len__") and shape is None else n_samples
    if n == n_samples:
        _warn_of_order(X, y, names)
        return
    if (
        isinstance(y, list | tuple)
        and n <= FEW
        and {len(v) for v in y if _is_column(v)} == {n_samples}
    ):
        raise ValueError(
            f"{names[1]} is a {type(y).__name__} of {n} columns. Pass one row of it for each "
            "sample: a frame, or np.column_stack of columns of numbers."
        )
    few = isinstance(X, list | tuple) and len(X) <= FEW
    if few and all((_shape(x) or (0,))[0] == n for x in X):
        raise ValueError(f"{names[0]} is a list of {len(X)} arrays of {n} rows. {TWO_INPUTS}.")
    raise ValueError(
        f"{' and '.join(names)} have inconsistent numbers of samples, {n_samples} and {n}. Pass "
        f"one row of {names[1]} for each sample of {names[0]}."
    )


def _is_column(values: Any) -> bool:
    return hasattr(values, "__len__") and not isinstance(values, str)


def _warn_of_order(X: Any, y: Any, names: tuple[str, str]) -> None:
    """Warn where labels of rows say that rows of X and y do not belong together."""
    if isinstance(X, MultiInput):
        for part, values in X.parts.items():
            _warn_of_order(values, y, (f"{names[0]}[{part!r}]", names[1]))
        return
    of_X, of_y = getattr(X, "index", None), getattr(y, "index", None)
    if not isinstance(of_X, pd.Index) or not isinstance(of_y, pd.Index) or of_X.equals(of_y):
        return
    if set(of_X) == set(of_y):
        warnings.warn(
            f"{names[0]} and {names[1]} have the same index in another order, and are paired by "
            f"position. If equal labels belong together, pass {names[1]}.loc[{names[0]}.index].",
            UserWarning,
            stacklevel=2,
        )


def _frame(X: Any) -> Any:
    try:
        frame: Any = nw.from_native(X, eager_only=True, pass_through=True)
    except ValueError:  # labels that are there twice
        return None
    return frame if isinstance(frame, nw.DataFrame) else None


def _kind_of(X: Any) -> str | None:
    return getattr(getattr(X, "dtype", None), "kind", None)


def _shape(value: Any) -> tuple[int, ...] | None:
    try:
        return tuple(int(s) for s in np.shape(value))
    except Exception:  # it holds values of different shapes itself, or cannot be read at all
        return None


# -- files -----------------------------------------------------------------------------------------


def _image_paths(X: Any, name: str) -> str | None:
    """Say how files of images are read."""
    is_column = getattr(X, "ndim", 2) == 1 and _kind_of(X) not in NUMBERS
    if (is_column or isinstance(X, list | tuple)) and (path := _image_path(X)):
        how = f"Pass ImageFiles({name}, size=64) of sklearn_mtl.datasets."
        return f"{name} holds paths of images, such as {path!r}. {how}"
    for label, values in _columns(X):
        if path := _image_path(values):
            return (
                f"Column {label!r} of {name} holds paths of images, such as {path!r}. Read them by "
                f"a first step of a pipeline: sklearn_mtl.datasets.ImageReader({label!r}, size=64)."
            )
    return None


def _image_path(values: Any) -> str | None:
    """Return the first text or path, if it is that of an image."""
    path = next((value for value in values if isinstance(value, str | os.PathLike)), "")
    is_path = not isinstance(path, str) or IMAGE.search(path)
    return str(os.fspath(path)) if is_path else None


# -- containers ----------------------------------------------------------------------------------


def _no_array(X: Any, name: str) -> str | None:
    kind = type(X).__name__
    if isinstance(X, type):
        return f"{name} is the class {X.__name__}, which is no array. {ARRAY}."
    if isinstance(X, Mapping):
        if all(len(_shape(value) or ()) == 1 for value in X.values()):
            return f"{name} is a {kind} of columns. Pass a frame: pd.DataFrame({name})."
        if len(X) == 1:
            return f"{name} is a {kind}, which holds one input. Pass {name}[{next(iter(X))!r}]."
        return (
            f"{name} is a {kind} of the inputs {listed(list(X))}, not one array. Pass "
            f"MultiInput(**{name}) of sklearn_mtl.datasets, which gives each a trunk."
        )
    if isinstance(X, list | tuple):
        if X and isinstance(X[0], Mapping):
            arrays = [key for key, value in X[0].items() if _shape(value) != ()]
            if arrays:
                key = repr(arrays[0])
                return (
                    f"{name} is a {kind} of dicts that hold arrays. Pass one array: "
                    f"np.stack([sample[{key}] for sample in {name}])."
                )
            return f"{name} is a {kind} of dicts. Pass a frame: pd.DataFrame({name})."
        return _inputs(X, name)
    if isinstance(X, np.matrix):
        return f"{name} is a matrix of numpy. Pass np.asarray({name})."
    if isinstance(X, np.ndarray) and X.dtype.names:
        return (
            f"{name} is a structured array with the fields {listed(X.dtype.names)}. Pass a frame: "
            f"pd.DataFrame({name})."
        )
    if hasattr(X, "collect") and not hasattr(X, "__len__"):
        return f"{name} is a {kind}, which is not computed yet. Pass {name}.collect()."
    counts = Counter(X.columns if isinstance(X, pd.DataFrame) else ())
    if twice := [label for label, count in counts.items() if count > 1]:
        return f"{name} has columns of the same name: {listed(twice)}. Rename them."
    if not (hasattr(X, "__array__") or issparse(X)) and _frame(X) is None:
        of = reprlib.repr(X) if X is None or np.isscalar(X) else f"a {kind}"
        return f"{name} is {of}, which is no array. {ARRAY}."
    if _kind_of(X) == "c":
        return (
            f"Complex data not supported: {name} holds {X.dtype} values. Pass their real and "
            "imaginary parts, or their size, as columns or channels of their own."
        )
    if issparse(X) and X.ndim != 2:
        return (
            f"{name} is a sparse array of the shape {X.shape}. Pass one with a row per sample, "
            "(n, d); input_shape= says how an image is read from a row."
        )
    return None


def _inputs(X: Sequence[Any], name: str) -> str | None:
    """Say that a few arrays of equally many rows are no samples."""
    shapes = [_shape(x) for x in X]
    few = 2 <= len(X) <= FEW and all(shape and len(shape) > 1 for shape in shapes)
    if not few or len({shape[0] for shape in shapes if shape}) > 1 or len(set(shapes)) == 1:
        return None
    if shapes[0] and shapes[0][0] <= len(X):
        return None
    return f"{name} is a list of arrays of shapes {listed(shapes)}. {TWO_INPUTS}."


# -- columns -------------------------------------------------------------------------------------


def _columns_without_numbers(X: Any, name: str) -> str | None:
    found: dict[str, list[Any]] = {}
    for label, values in _columns(X):
        if what := _held(values):
            found.setdefault(what, []).append(label)
    return " ".join(blame(found[what], what, name) for what in MENDS if what in found) or None


def _columns(X: Any) -> Iterator[tuple[Any, NDArray[Any]]]:
    frame = _frame(X)
    if frame is not None:
        for column in frame.iter_columns():
            yield column.name, np.asarray(column.to_numpy())
        return
    if _kind_of(X) in NUMBERS:
        return
    try:
        array = np.asarray(X) if isinstance(X, np.ndarray) else np.array(X, dtype=object)
    except Exception:  # samples of different shapes, or of a container that raises what it likes
        return
    if array.ndim == 2 and array.dtype.kind in "OUSmM":
        yield from enumerate(array.T)


def _held(values: NDArray[Any]) -> str | None:
    """Say what a column holds instead of numbers; None if it does hold them."""
    if values.ndim > 1:
        return "lists or arrays"
    if values.dtype.kind in "biuf":
        return None
    if values.dtype.kind in "mM":
        return "dates or durations"
    if values.dtype.kind == "c" or any(isinstance(v, COMPLEX) for v in values):
        return "complex numbers"
    if values.dtype.kind == "O":
        if any(isinstance(v, Decimal) and v.is_snan() for v in values):
            return "a NaN that signals"
        seen = list(values[~holes(values)])
        if any(isinstance(v, list | tuple | np.ndarray | pd.Series) for v in seen):
            return "lists or arrays"
        if any(isinstance(v, DATES) for v in seen):
            return "dates or durations"
        text = any(isinstance(v, str | bytes) for v in seen)
        if not text and not all(isinstance(v, int | float | np.number | Decimal) for v in seen):
            return "no numbers"
    else:
        seen, text = list(values), True
    n_numbers = sum(map(_is_number, seen))
    if n_numbers < len(seen):
        return "numbers and text" if 2 * n_numbers > len(seen) else "text"
    if text and values.dtype.kind != "O":
        return "numbers as text"
    return "numbers and holes as objects" if any(v is pd.NA for v in values) else None


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (ValueError, TypeError, ArithmeticError):
        return False
    return True


# -- samples -------------------------------------------------------------------------------------


def _unequal_samples(X: Any, name: str) -> str | None:
    """Name the first samples of each shape."""
    if not (isinstance(X, list | tuple | pd.Series) or _kind_of(X) == "O"):
        return None
    if getattr(X, "ndim", 1) == 0:
        return f"{name} is an array without axes. {ARRAY}."
    shapes: dict[Any, int] = {}
    for row, sample in enumerate(X):
        shapes.setdefault(_shape(sample), row)
    if None in shapes:
        return f"Row {shapes[None]} of {name} holds parts of different lengths. {ARRAY}."
    if len(shapes) > 1:
        first = [f"{shape} in row {row}" for shape, row in shapes.items()]
        rest = f", and {len(first) - 4} more" if len(first) > 4 else ""
        flat = all(len(shape) <= 1 for shape in shapes)
        what, how, by = "size", "Resize, crop or pad", f", {OF_UNEQUAL_SIZE}"
        if flat:
            what, how, by = "length", "Crop or pad", ", as SequencePad of sklearn_mtl.datasets does"
        return (
            f"Samples of {name} differ in {what}: {', '.join(first[:4])}{rest}. {how} them to one "
            f"{what} first{by}."
        )
    if len(next(iter(shapes), ())) > 0 and getattr(X, "ndim", 0) == 1:
        return f"{name} is a column of arrays. Pass one array: np.stack({name})."
    return None


def _no_rows(X: Any, name: str) -> str | None:
    """Say what is wrong with the axes: too few of them, or nothing on one."""
    shape = _shape(X)
    if shape is None:
        return None
    if 0 in shape[:1]:
        return f"{name} has 0 sample(s) (shape={shape}) while a minimum of 1 is required."
    if 0 in shape:
        return f"{name} has 0 feature(s) (shape={shape}) while a minimum of 1 is required."
    if len(shape) == 1:
        first = None if _kind_of(X) in NUMBERS else next(iter(X))
        if isinstance(first, str | bytes):
            return f"{name} holds text, such as {str(first)!r}, and no samples. {ARRAY}."
        return (
            f"{name} has the shape {shape}: Expected 2D array, got 1D array instead. Reshape your "
            f"data: {name}.reshape(-1, 1) if it has one feature, {name}.reshape(1, -1) if it is "
            "one sample."
        )
    return None
