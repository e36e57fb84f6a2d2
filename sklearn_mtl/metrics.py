"""Metrics over the observed targets of one task.

scikit-learn's metrics refuse NaN in ``y_true``; `masked_score` applies any of them to the rows
where a target was observed.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import accuracy_score, r2_score

__all__ = ["masked_score"]

# The metric that `score` averages, and the observed rows it needs, for each kind of task.
DEFAULT_METRICS: dict[str, tuple[Callable[..., float], int]] = {
    "classification": (accuracy_score, 1),
    "regression": (r2_score, 2),
}


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
        ``metric(y_true, y_pred, sample_weight=...)`` returning a float.
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
    y_true, y_pred = np.asarray(y_true), np.asarray(y_pred)
    seen = ~pd.isna(y_true)
    weight = None if sample_weight is None else np.asarray(sample_weight, dtype=float)
    if weight is not None:
        seen &= weight > 0
    if seen.sum() < min_samples:
        warnings.warn(
            f"Task {name!r} has {seen.sum()} observed rows, {metric.__name__} needs "
            f"{min_samples}: its score is NaN.",
            UndefinedMetricWarning,
            stacklevel=2,
        )
        return float("nan")
    weight = None if weight is None else weight[seen]
    return float(metric(y_true[seen], y_pred[seen], sample_weight=weight))
