"""Weights of rows, tasks and classes, in whatever they come: numbers >= 0, and nothing else."""

from __future__ import annotations

import reprlib
from collections.abc import Iterator, Mapping, Set
from decimal import Decimal
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sklearn_mtl._data.opening import as_numpy, is_masked, opened

__all__ = ["read_weights"]


def read_weights(given: Any, name: str) -> NDArray[np.float64]:
    """Return weights as floats, of the shape that they have; all else is refused by its name."""
    sparse = hasattr(given, "toarray")
    if sparse or isinstance(given, Mapping | Set | Iterator | str):
        mend = "its toarray()" if sparse else "an array of weights >= 0"
        raise ValueError(f"{name} is of type {type(given).__name__}. Pass {mend}.")
    if is_masked(given):
        raise ValueError(
            f"{name} is an array with masked values. Pass 0 where a cell is not to count."
        )
    given = opened(given, name)
    array = as_numpy(given, name, "Pass an array of weights >= 0.")
    if array.dtype.kind not in "biuf" and isinstance(given, list | tuple):
        array = np.array(given, dtype=object)  # else one text makes text of all
    if array.dtype == object:
        array = _numbers(array, name)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} holds {array.dtype} values. Pass weights >= 0.")
    with np.errstate(over="ignore"):
        weights = array.astype(np.float64)
    bad = ~np.isfinite(weights) | (weights < 0)
    if bad.any():
        raise ValueError(
            f"{name} holds negative or non-finite values{_where(bad)}. Pass weights >= 0."
        )
    return weights


def _numbers(array: NDArray[Any], name: str) -> NDArray[np.float64]:
    """Return objects as floats; the first that is no number is refused."""
    out = np.empty(array.shape)
    for at, value in np.ndenumerate(array):
        try:
            if not isinstance(value, Real | Decimal | np.bool_):
                raise TypeError
            out[at] = float(value)
        except (TypeError, ValueError, ArithmeticError) as error:
            raise ValueError(
                f"{name} holds {reprlib.repr(value)} at position {at[0] if at else 0}, which "
                "is no number that float64 can hold. Pass weights >= 0."
            ) from error
    return out


def _where(bad: NDArray[np.bool_]) -> str:
    """Say where along the first axis, if there is one."""
    if bad.ndim == 0:
        return ""
    rows = np.flatnonzero(bad.reshape(len(bad), -1).any(axis=1))
    return f" at {len(rows)} positions, the first {rows[:5].tolist()}"
