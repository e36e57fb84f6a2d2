"""Labels and numbers, whatever they were: what all kinds, and the readers of y, ask of values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from numbers import Integral, Real
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = ["are_numbers", "as_column", "first", "is_hole", "narrow", "plain", "positions"]


def as_column(values: Sequence[Any]) -> NDArray[Any]:
    """Labels given one by one, as an array of their narrowest common type."""
    out = np.empty(len(values), dtype=object)
    out[:] = list(values)
    return narrow(out)


def narrow(values: NDArray[Any]) -> NDArray[Any]:
    """Python objects as bools or numbers where all of them are; else as they are."""
    if values.dtype != object:
        return values
    if all(isinstance(v, (bool, np.bool_)) for v in values):
        return values.astype(bool)
    if all(isinstance(v, (Real, Decimal, np.bool_)) for v in values):
        if all(isinstance(v, Integral) for v in values):
            narrowed = np.array(values.tolist())
            if narrowed.dtype.kind in "iu":
                return narrowed
            if values.min() >= 0 and values.max() < 2**64:  # numpy makes floats of some of them
                return values.astype(np.uint64)
        return values.astype(float)
    return values


def are_numbers(values: NDArray[Any]) -> bool:
    """Tell numbers and bools from all else."""
    return values.dtype.kind in "biuf"


def first(values: NDArray[Any]) -> Any:
    """First value as a Python object, for messages."""
    return values[:1].tolist()[0]


def is_hole(value: Any) -> bool:
    """Tell what means *not observed*, and is no label: None, NaN, ``pd.NA``, ``pd.NaT``."""
    return value is None or value is pd.NA or value is pd.NaT or _is_nan(value)


def _is_nan(value: Any) -> bool:
    return isinstance(value, Real) and bool(value != value)


def plain(labels: Iterable[Any]) -> list[Any]:
    """List labels of any container as Python objects, as scalars of numpy are shown with types."""
    return [label.item() if isinstance(label, np.generic) else label for label in labels]


def positions(labels: NDArray[Any], values: NDArray[Any]) -> NDArray[np.float64]:
    """Position of each value among unique labels; -1 where there is none."""
    if {labels.dtype.kind, values.dtype.kind} == {"i", "u"}:  # numpy would compare as floats
        labels, values = labels.astype(object), values.astype(object)
    if are_numbers(labels) and are_numbers(values):
        order = labels.argsort()
        slot = np.searchsorted(labels, values, sorter=order).clip(max=len(labels) - 1)
        return np.where(labels[order][slot] == values, order[slot], -1).astype(np.float64)
    # One by one: pandas would make ranges of intervals, and levels of tuples.
    known, found = (pd.Index(v, dtype=object, tupleize_cols=False) for v in (labels, values))
    return known.get_indexer(found).astype(np.float64)
