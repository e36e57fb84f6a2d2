"""Concordance index: how many pairs of rows are predicted in the order that is known of them."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.utils import assert_all_finite, check_consistent_length, column_or_1d

from sklearn_mtl.kinds.bounds import are_bounds, as_bounds, exact

__all__ = ["concordance_index", "pairs_of"]

FloatArray = NDArray[np.float64]
Index = NDArray[np.intp]


def concordance_index(y_true: Any, y_pred: Any, sample_weight: Any = None) -> float:
    r"""Share of the pairs of rows that are predicted in the order that is known of them [1]_.

    The order of two rows is known where all that the one can be is below all that the other can be:
    of two exact numbers that differ, of 3 and "more than 5", of "2 to 4" and "5 to 6", but not of 6
    and "more than 5". An exact number counts as below a lower bound that is the same, as a death at
    the end of a study is before all deaths after it. Equal predictions count one half.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        Numbers, or `pandas.Interval` where they are known within bounds; NaN or None where not
        observed.
    y_pred : array-like of shape (n_samples,)
        Predictions, larger for larger numbers: of times, not of risks.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights of rows; a pair counts by the product of its two.

    Returns
    -------
    score : float
        1 for the order that is known, 0.5 for any. NaN, with an `UndefinedMetricWarning`, where the
        order of no pair is known.

    References
    ----------
    .. [1] F. E. Harrell et al., "Evaluating the yield of medical tests", Journal of the American
       Medical Association 247, 1982.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from sklearn_mtl.metrics import concordance_index
    >>> y_true = [1.0, 2.0, pd.Interval(3.0, np.inf), pd.Interval(1.5, np.inf)]
    >>> concordance_index(y_true, [1.0, 3.0, 2.0, 4.0])
    0.75
    """
    bounds, guess = pairs_of(y_true), column_or_1d(y_pred, dtype=np.float64)
    check_consistent_length(bounds, guess, sample_weight)
    weight = np.ones(len(guess))
    if sample_weight is not None:
        weight = column_or_1d(sample_weight, dtype=np.float64, input_name="sample_weight")
        if not (weight >= 0).all():
            raise ValueError("sample_weight holds negative values or NaN. Pass weights >= 0.")
    assert_all_finite(guess, input_name="y_pred")
    seen = ~np.isnan(bounds["lower"]) & (weight > 0)
    bounds, guess, weight = bounds[seen], guess[seen], weight[seen]
    concordant, tied, known = _count(bounds, guess, weight) if len(guess) else (0.0, 0.0, 0.0)
    if known <= 0:
        warnings.warn(
            "The order of no pair of rows is known: the concordance index is NaN.",
            UndefinedMetricWarning,
            stacklevel=2,
        )
        return float("nan")
    return float((concordant + tied / 2) / known)


def pairs_of(values: Any) -> NDArray[Any]:
    """Pairs of bounds of numbers and intervals, NaN where there is neither."""
    if isinstance(values, np.ndarray) and are_bounds(values):
        return values
    array = column_or_1d(np.asarray(values))
    if array.dtype != object or not len(array):
        return as_bounds(*[array.astype(np.float64)] * 2)
    of_pairs = [(v.left, v.right) if isinstance(v, pd.Interval) else (v, v) for v in array]
    lower, upper = (
        np.array([np.nan if pd.isna(end) else end for end in ends], dtype=np.float64)
        for ends in zip(*of_pairs, strict=True)
    )
    return as_bounds(lower, upper)


def _count(
    bounds: NDArray[Any], guess: FloatArray, weight: FloatArray
) -> tuple[float, float, float]:
    """Weights of concordant, tied and all pairs in which one row is known to be below another."""
    order = np.argsort(bounds["upper"], kind="stable")
    sorted_weight = weight[order]
    _, rank = np.unique(guess, return_inverse=True)
    below = np.concatenate([[0.0], np.cumsum(sorted_weight)])
    lower, ends = bounds["lower"], bounds["upper"][order]
    # So many of the others are below: exact rows are not below an exact one of the same number.
    known = exact(bounds)
    n_below = np.where(
        known, np.searchsorted(ends, lower, "left"), np.searchsorted(ends, lower, "right")
    )
    total = weight @ below[n_below]
    concordant = weight @ _less(rank[order], sorted_weight, n_below, rank)
    not_greater = weight @ _less(rank[order], sorted_weight, n_below, rank + 1)
    return float(concordant), float(not_greater - concordant), float(total)


def _less(rank: Index, weight: FloatArray, n_first: Index, limit: Index) -> FloatArray:
    """For each limit, the weight of those among the first n of the ranks that are below it.

    By a wavelet matrix: ranks are sorted bit by bit, all limits at once, in n log n steps.
    """
    out, start, stop = np.zeros(len(limit)), np.zeros_like(n_first), n_first
    limit = limit.copy()
    for bit in reversed(range(int(max(rank.max(), limit.max())).bit_length())):
        zero = (rank >> bit) & 1 == 0
        zeros = np.concatenate([[0], np.cumsum(zero)])
        mass = np.concatenate([[0.0], np.cumsum(weight * zero)])
        upper = (limit >> bit) & 1 == 1
        out += np.where(upper, mass[stop] - mass[start], 0)
        start, stop = (
            np.where(upper, zeros[-1] + at - zeros[at], zeros[at]) for at in (start, stop)
        )
        order = np.concatenate([np.flatnonzero(zero), np.flatnonzero(~zero)])
        rank, weight = rank[order], weight[order]
    return out
