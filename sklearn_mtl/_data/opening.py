"""Containers that numpy reads by half, or not at all: opened so that nothing of them is lost."""

from __future__ import annotations

from collections import UserList, deque
from collections.abc import Sequence
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.sparse import issparse

__all__ = [
    "as_numpy",
    "is_frame",
    "is_masked",
    "is_readable",
    "opened",
    "tells_holes",
]

MOST_AXES = 64  # that an array of numpy can have


def opened(values: Any, name: str = "X") -> Any:
    """Return what numpy reads as it was meant; all other containers as they are.

    Masked values become NaN, and tensors numpy arrays, whatever their gradients, device and type.
    Frames of sparse columns become such that scipy can read, or dense. Lists and columns of such
    things, and of images, are opened too.

    Parameters
    ----------
    values : object
        As the user passed them.
    name : str, default='X'
        Of the parameter.

    Raises
    ------
    ValueError
        If numpy would read something else than was meant: images whose pixels are no brightness,
        tensors without a plain array, lists of sparse rows, data sets of torch.
    """
    if type(values) is np.ndarray and values.dtype != object:
        return values
    if isinstance(values, np.ma.MaskedArray):
        return _filled(values)
    if isinstance(values, torch.Tensor):
        return _array(values, name)
    if isinstance(values, pd.DataFrame):
        return _with_zeros(values)
    if isinstance(values, torch.utils.data.Dataset):
        raise ValueError(
            f"{name} is a {type(values).__name__} of torch. Pass an array of its rows; or, as X, "
            "RowsOnDisk(X, 0) of sklearn_mtl.datasets, which reads the first part of each sample."
        )
    if isinstance(values, deque | UserList):
        values = list(values)
    if isinstance(values, list | tuple):
        types = set(map(type, values))
    elif isinstance(values, np.ndarray | pd.Series) and values.dtype.kind == "O":
        types = set(map(type, values)) if values.ndim == 1 else set()
    else:
        return values
    if any(hasattr(each, "toarray") for each in types):
        raise ValueError(f"{name} is a list of sparse rows. Pass scipy.sparse.vstack({name}).")
    if any(hasattr(each, "getpalette") for each in types):
        _check_images(values, name)
        return [np.asarray(image) for image in values]
    closed = any(issubclass(each, np.ma.MaskedArray | torch.Tensor) for each in types)
    if closed or (types & {list, tuple} and _is_closed(values)):
        return [opened(value, name) for value in values]
    return values


def as_numpy(values: Any, name: str, mend: str) -> NDArray[Any]:
    """Return what `opened` has left as an array; whatever goes wrong is an error of `name`.

    Parameters
    ----------
    values : object
        Of any container.
    name : str
        Of the parameter.
    mend : str
        What to pass instead of a list of lists of different lengths.
    """
    try:
        return np.asarray(values)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # of containers that are not ours, or numpy's
        if isinstance(error, ValueError) and isinstance(values, list | tuple):
            kind = type(values).__name__
            raise ValueError(f"{name} is a {kind} of rows of different lengths. {mend}") from error
        raise ValueError(
            f"{name} is a {type(values).__name__}, of which numpy cannot make an array: {error!r}. "
            "Pass an array, a list or a frame."
        ) from error


def tells_holes(values: Any) -> bool:
    """Tell sparse matrices of scipy that store cells one by one, zeros too if they were set."""
    return issparse(values) and values.format in ("csr", "csc", "coo", "lil", "dok")


def is_masked(values: Any) -> bool:
    """Tell arrays of which some values are masked."""
    return np.ma.isMaskedArray(values) and not values.dtype.names and np.ma.is_masked(values)


def is_frame(values: Any) -> bool:
    """Tell frames in memory, and their columns."""
    opened = nw.from_native(values, pass_through=True, allow_series=True)
    return isinstance(opened, nw.DataFrame | nw.Series)


def is_readable(values: Any) -> bool:
    """Tell arrays, sequences and frames from what has items, but in no order that is known."""
    known = hasattr(values, "__array__") or issparse(values) or isinstance(values, Sequence)
    return known or isinstance(nw.from_native(values, pass_through=True), nw.DataFrame)


def _is_closed(values: Any) -> bool:
    """Tell whether the first value in lists of lists is one to open."""
    for _ in range(MOST_AXES):  # a list may hold itself
        if not (isinstance(values, list | tuple) and values):
            break
        values = values[0]
    return isinstance(values, np.ma.MaskedArray | torch.Tensor) or hasattr(values, "getpalette")


def _filled(values: Any) -> Any:
    """Return masked values as NaN; integers with holes as objects, as floats lose their digits."""
    if values is np.ma.masked:
        return np.nan
    if not is_masked(values):
        return np.asarray(values)
    return (values if values.dtype.kind == "f" else values.astype(object)).filled(np.nan)


def _array(tensor: torch.Tensor, name: str) -> NDArray[Any]:
    plain = tensor.layout == torch.strided and not (tensor.is_nested or tensor.is_quantized)
    if not plain or tensor.is_meta:
        raise ValueError(
            f"{name} is a tensor of {tensor.dtype} on {tensor.device} that is sparse, nested, "
            "quantized or without values. Pass a plain tensor, an array or a scipy.sparse matrix."
        )
    tensor = tensor.detach().cpu().resolve_conj().resolve_neg()
    small = tensor.is_floating_point() and tensor.element_size() <= 2  # numpy has no bfloat16
    return (tensor.float() if small else tensor).numpy()


def _with_zeros(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a frame of sparse columns as one that scipy can read: of one type, and around 0."""
    dtypes = list(frame.dtypes)
    if not (dtypes and all(isinstance(dtype, pd.SparseDtype) for dtype in dtypes)):
        return frame
    if any(pd.isna(dtype.fill_value) or dtype.fill_value != 0 for dtype in dtypes):
        return frame.sparse.to_dense()
    return frame if len(set(dtypes)) == 1 else frame.astype(pd.SparseDtype(float, 0.0))


def _check_images(images: Any, name: str) -> None:
    """Refuse images of PIL whose values numpy would take for brightness."""
    modes = sorted({getattr(image, "mode", type(image).__name__) for image in images})
    palette = [mode for mode in modes if mode in ("P", "PA")]
    if palette or len(modes) > 1:
        why = "whose pixels are places in a palette" if palette else "which are not the same"
        raise ValueError(
            f"{name} holds images of the mode(s) {', '.join(map(repr, modes))}, {why}. Pass "
            f"[image.convert('RGB') for image in {name}], or another mode for all."
        )
