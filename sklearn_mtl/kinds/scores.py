"""scikit-learn's metrics over observed targets."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.utils import check_consistent_length, column_or_1d

__all__ = ["masked_score", "typed"]


def masked_score(
    metric: Callable[..., float],
    y_true: Any,
    y_pred: Any,
    *,
    sample_weight: Any = None,
    min_samples: int = 1,
    name: str = "y",
) -> float:
    """Apply a scikit-learn metric to the rows where ``y_true`` was observed.

    Parameters
    ----------
    metric : callable
        ``metric(y_true, y_pred)`` returning a float; with `sample_weight`, it is passed on.
    y_true : array-like of shape (n_samples,)
        Targets of one task; NaN, None or ``pd.NA`` where not observed.
    y_pred : array-like of shape (n_samples,) or (n_samples, n_classes)
        Predictions, or probabilities, as `metric` takes them.
    sample_weight : array-like of shape (n_samples,), default=None
        Row weights; rows of weight 0 count as not observed.
    min_samples : int, default=1
        Observed rows that the metric needs.
    name : str, default='y'
        Task name for the warning.

    Returns
    -------
    score : float
        NaN, with an `UndefinedMetricWarning`, where fewer than `min_samples` rows are observed.

    Examples
    --------
    >>> from sklearn.metrics import mean_absolute_error
    >>> from sklearn_mtl.metrics import masked_score
    >>> masked_score(mean_absolute_error, [1.0, float("nan"), 3.0], [1.0, 9.0, 5.0])
    1.0
    """
    # A list of strings and NaN is read as objects: numpy would make NaN the string "nan".
    y_true = column_or_1d(np.asarray(y_true, dtype=None if hasattr(y_true, "dtype") else object))
    y_pred = np.asarray(y_pred)
    check_consistent_length(y_true, y_pred, sample_weight)
    seen, weights = ~pd.isna(y_true), dict[str, Any]()
    if sample_weight is not None:
        weight = column_or_1d(sample_weight, dtype=np.float64, input_name="sample_weight")
        if not np.isfinite(weight).all() or (weight < 0).any():
            raise ValueError(
                "sample_weight holds negative or non-finite values. Pass weights >= 0."
            )
        seen &= weight > 0
        weights["sample_weight"] = weight[seen]
    if seen.sum() < min_samples:
        metric_name = getattr(getattr(metric, "func", metric), "__name__", "the metric")
        warnings.warn(
            f"Task {name!r} has {seen.sum()} observed rows, {metric_name} needs {min_samples}: its "
            "score is NaN.",
            UndefinedMetricWarning,
            stacklevel=2,
        )
        return float("nan")
    return float(metric(typed(y_true[seen]), y_pred[seen], **weights))


def typed(values: Any) -> Any:
    """Metrics want to see numbers or strings, not objects that happen to be such."""
    return np.asarray(values.tolist()) if values.dtype == object else values
