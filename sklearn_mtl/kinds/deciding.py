"""Probabilities of classes, and decisions, by outputs on rows that were not trained on."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from inspect import signature
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import get_scorer

__all__ = ["fault_of_threshold", "find_threshold", "scale_logits"]

FloatArray = NDArray[np.float64]

# Thresholds that are tried: as many as of `TunedThresholdClassifierCV`.
CANDIDATES = 100


class _Decided(ClassifierMixin, BaseEstimator):
    """Predicts what it is given as X: decisions that are to be scored."""

    classes_ = np.array([0, 1])

    def fit(self, X: Any, y: Any) -> _Decided:
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def predict(self, X: Any) -> Any:
        return X


def fault_of_threshold(threshold: Any) -> str:
    """Say why this is no threshold, if it is not."""
    if threshold is None:
        return ""
    if isinstance(threshold, str) or callable(threshold):
        try:
            measure = _measure(threshold)
        except ValueError:
            return "names no scorer of scikit-learn; see sklearn.metrics.get_scorer_names()"
        try:
            float(measure(np.array([0, 1, 0, 1]), np.array([0, 1, 1, 1])))
        except Exception as error:  # of a scorer of probabilities, or of anybody's function
            return f"does not compare labels with labels ({str(error).splitlines()[0]})"
        return ""
    is_number = isinstance(threshold, (int, float, np.number)) and not isinstance(threshold, bool)
    return "" if is_number and 0 < threshold < 1 else "is no number between 0 and 1"


def find_threshold(
    proba: FloatArray, codes: FloatArray, weight: FloatArray, scoring: Any
) -> float | None:
    """Find the probability of the second class from which on it is best to predict it.

    Parameters
    ----------
    proba, codes, weight : ndarray of shape (n,)
        Probability of the second class, codes 0 and 1, and weights.
    scoring : str or callable
        Scorer of scikit-learn or its name, for which 1 is the positive label; or a function
        ``(y_true, y_pred, sample_weight=...)`` of codes, higher is better.

    Raises
    ------
    ValueError
        If it fails, or is NaN for each threshold.

    Returns
    -------
    threshold : float or None
        Between two values of `proba`, or before or behind all of them, or 0.5; None if only one
        class was observed.
    """
    if len(np.unique(codes)) < 2:
        return None
    truth = codes.astype(int)
    levels = np.unique(proba)
    between = (levels[1:] + levels[:-1]) / 2
    if len(between) > CANDIDATES:
        # By rank: as many rows lie between two candidates, wherever the probabilities are.
        steps = np.linspace(0, len(between) - 1, CANDIDATES).round().astype(int)
        between = between[steps]
    # Never and always predicting it are candidates too, and so is the most probable class.
    between = np.array([levels[0] / 2, *between, (1 + levels[-1]) / 2, 0.5])
    between = between[(between > 0) & (between < 1)]  # where probabilities are certain, or nearly
    # Weights are left out where they say nothing, as not every scorer takes them.
    weights = {} if (weight == weight[0]).all() else {"sample_weight": weight}
    measure = _measure(scoring)
    with warnings.catch_warnings():
        # To predict always the same is one of the candidates.
        warnings.simplefilter("ignore", UndefinedMetricWarning)
        try:
            values = [float(measure(truth, (proba >= t).astype(int), **weights)) for t in between]
        except Exception as error:  # of anybody's function
            how = "with sample_weight" if weights else "without weights"
            raise ValueError(
                f"threshold={scoring!r} cannot be called {how}, as these rows ask for: {error!r}. "
                "Let it take (y_true, y_pred, sample_weight=None) of codes 0 and 1, or tune "
                "another metric."
            ) from error
    if np.isnan(values).all():
        raise ValueError(f"threshold={scoring!r} is NaN for each threshold. Tune another metric.")
    best = np.flatnonzero(np.asarray(values) == np.nanmax(values))
    return float(between[best[np.abs(between[best] - 0.5).argmin()]])


def _measure(scoring: Any) -> Callable[..., float]:
    """Make a function of true and predicted codes of a scorer, or of its name."""
    if callable(scoring) and not _is_scorer(scoring):
        return scoring
    scorer = get_scorer(scoring)
    return lambda truth, found, **weights: scorer(_Decided(), found, truth, **weights)


def _is_scorer(function: Callable[..., Any]) -> bool:
    """Tell what scores estimators, such as `make_scorer` returns it, from what scores labels."""
    try:
        return next(iter(signature(function).parameters), None) == "estimator"
    except (TypeError, ValueError):  # of a builtin
        return False


def scale_logits(
    logits: FloatArray, codes: FloatArray, weight: FloatArray
) -> tuple[float, FloatArray]:
    """Find a slope and shifts with which logits become calibrated probabilities.

    The likelihood is largest with them. For two classes this is Platt's sigmoid [1]_, for more it
    is temperature scaling [2]_ with a bias. A normal prior, of the weight of one row, is around the
    logits as they are: where classes can be separated, the likelihood has no maximum.

    Parameters
    ----------
    logits : ndarray of shape (n, n_classes)
        Of rows that were not trained on.
    codes, weight : ndarray of shape (n,)

    Returns
    -------
    slope : float
        Positive.
    shifts : ndarray of shape (n_classes,)

    References
    ----------
    .. [1] J. Platt, "Probabilistic Outputs for Support Vector Machines and Comparisons to
       Regularized Likelihood Methods", Advances in Large Margin Classifiers, 1999.
    .. [2] C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger, "On Calibration of Modern Neural Networks",
       ICML 2017.
    """
    n_classes = logits.shape[1]
    weight = weight / weight.mean()
    is_class = codes[:, None] == np.arange(n_classes)

    def loss(theta: FloatArray) -> tuple[float, FloatArray]:
        slope, shifts = np.exp(theta[0]), theta[1:]
        z = slope * logits + shifts
        error = weight[:, None] * (softmax(z, axis=1) - is_class)
        value = -(weight[:, None] * log_softmax(z, axis=1))[is_class].sum() + (theta**2).sum() / 2
        gradient = np.concatenate([[slope * (error * logits).sum()], error.sum(axis=0)])
        return float(value), gradient + theta

    found = minimize(loss, np.zeros(1 + n_classes), jac=True, method="L-BFGS-B").x
    return float(np.exp(found[0])), found[1:]
