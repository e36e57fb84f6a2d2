"""Numbers that are known within bounds: arrays of pairs, and what is made of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = [
    "BOUNDS",
    "are_bounds",
    "as_bounds",
    "as_intervals",
    "bounds_of",
    "exact",
    "reaching",
]

FloatArray = NDArray[np.float64]

# The truth lies between; both are the same where it is known, and one may be infinite.
BOUNDS = np.dtype([("lower", np.float64), ("upper", np.float64)])


def are_bounds(values: NDArray[Any]) -> bool:
    """Tell pairs of bounds from plain numbers, and from all else."""
    return values.dtype == BOUNDS


def as_bounds(lower: Any, upper: Any) -> NDArray[Any]:
    """Make pairs of lower and upper bounds (n,)."""
    out = np.empty(len(lower), dtype=BOUNDS)
    out["lower"], out["upper"] = lower, upper
    return out


def as_intervals(bounds: NDArray[Any]) -> NDArray[Any]:
    """Make intervals of pandas, one by one, as users hold them."""
    out = np.empty(len(bounds), dtype=object)
    out[:] = [pd.Interval(*pair, closed="both") for pair in bounds.tolist()]
    return out


def exact(bounds: NDArray[Any]) -> NDArray[np.bool_]:
    """Tell where the truth is known."""
    return np.asarray(bounds["lower"] == bounds["upper"])


def reaching(bounds: NDArray[Any]) -> tuple[FloatArray, FloatArray]:
    """Turn pairs into a finite number (n,), and the way from there to the other bound (n,)."""
    lower, upper = bounds["lower"], bounds["upper"]
    from_below = np.isfinite(lower)
    start = np.where(from_below, lower, upper)
    return start, np.where(from_below, upper, lower) - start


def bounds_of(start: FloatArray, reach: FloatArray) -> NDArray[Any]:
    """Turn back what `reaching` returned."""
    end = start + reach
    return as_bounds(np.minimum(start, end), np.maximum(start, end))
