"""What a classifier and a regressor of one task of a fitted estimator share."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import Tags, get_tags
from sklearn.utils.validation import check_is_fitted

from sklearn_mtl._fitted import available_if, fitted_of, innermost, there_is, through
from sklearn_mtl._intervals import interval_of_task, levels_of, warn_of_few, why_no_intervals

__all__ = ["TaskView"]


def _has_intervals(view: TaskView) -> bool:
    fitted = fitted_of(view.estimator)
    return there_is(why_no_intervals(fitted.encoder, fitted.errors, view._position))


class TaskView:
    """What both views share; stands before the mixins, whose `score` refuses holes."""

    # scikit-learn's displays name a curve by the class of the estimator: let it be the task.
    def __new__(cls, estimator: Any, task: str) -> Any:
        view: Any = cls
        return super().__new__(_named(view, task))

    def __init__(self, estimator: Any, task: str) -> None:
        self.estimator = estimator
        self.task = task

    def __reduce__(self) -> Any:
        return type(self).__base__, (self.estimator, self.task)

    def __repr__(self, N_CHAR_MAX: int = 700) -> str:
        shown: str = super().__repr__(N_CHAR_MAX)  # type: ignore[call-arg]
        return type(self).__qualname__ + shown.removeprefix(type(self).__name__)

    @property
    def n_features_in_(self) -> int:
        """Number of values in one sample."""
        return self.estimator.n_features_in_

    @property
    def feature_names_in_(self) -> NDArray[Any]:
        """Column names of X, where it had string names."""
        return self.estimator.feature_names_in_

    @property
    def _position(self) -> int:
        return fitted_of(self.estimator).encoder.names.index(self.task)

    @property
    def _kind(self) -> Any:
        return fitted_of(self.estimator).encoder.kinds_[self._position]

    def _outputs(self, X: Any) -> NDArray[np.float64]:
        """Raw outputs (n, M, n_outputs) for the task alone: none of its gates is asked."""
        fitted = fitted_of(self.estimator)
        return fitted.encoder.part_of(fitted.raw(through(self.estimator, X)), self._position)

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """Do nothing: the view is frozen.

        Parameters
        ----------
        X : object
            Ignored.
        y : object, default=None
            Ignored.
        sample_weight : object, default=None
            Ignored.

        Returns
        -------
        self : TaskClassifier or TaskRegressor
        """
        check_is_fitted(self)
        return self

    def predict(self, X: Any) -> NDArray[Any]:
        """Predict the task.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            As the estimator takes it.

        Returns
        -------
        y_pred : ndarray of shape (n_samples,)
            Labels in their own dtype, or numbers in the units of y. For a conditional task: the
            value expected if it applies, whatever `conditional_output` of the estimator.
        """
        check_is_fitted(self)
        return self._kind.decode(self._outputs(X))

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Score the task on observed targets, as `score_tasks` of the estimator does.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            As the estimator takes it.
        y : array-like of shape (n_samples,)
            True targets of the task; NaN, None or ``pd.NA`` where not observed.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of rows.

        Returns
        -------
        score : float
            Accuracy of classes, R2 or D2 of all else; higher is better. NaN, with a warning, where
            too few targets are observed.
        """
        check_is_fitted(self)
        fitted = fitted_of(self.estimator)
        return fitted.score_task(self._position, through(self.estimator, X), y, sample_weight)

    @available_if(_has_intervals)
    def predict_interval(self, X: Any, confidence: Any = 0.9) -> NDArray[Any]:
        """Intervals that hold the number, or the ordered class, with a given confidence.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            As the estimator takes it.
        confidence : float or sequence of float, default=0.9
            Share of new targets that are inside, between 0 and 1.

        Returns
        -------
        intervals : ndarray of shape (n_samples, 2[, n_levels])
            Lower and upper bound, as `MultiTaskCNNEstimator.predict_interval` returns them; of an
            ordinal task, the lowest and the highest label. For a conditional task: given that its
            gate holds, whatever `conditional_output` of the estimator.

        Raises
        ------
        AttributeError
            If the classes have no order, or the fit left out no rows.
        ValueError
            If `confidence` is not between 0 and 1.
        """
        return self._sure(X, confidence, interval_of_task)

    def _sure(self, X: Any, confidence: Any, measured: Any) -> NDArray[Any]:
        """Intervals, or sets, with an axis of levels only if there are several."""
        check_is_fitted(self)
        fitted, k = fitted_of(self.estimator), self._position
        levels, single = levels_of(confidence)
        warn_of_few(fitted.encoder, fitted.errors, levels, [k])
        found = measured(fitted.encoder, fitted.errors, k, self._outputs(X), levels)
        return np.asarray(found[..., 0] if single else found)

    def __sklearn_clone__(self) -> Any:
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(innermost(self.estimator), "tasks_")

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()  # type: ignore[misc]
        tags.input_tags = get_tags(self.estimator).input_tags
        tags._skip_test = True  # as FrozenEstimator: the common checks are about `fit`
        return tags


@functools.cache
def _named(view: type, task: str) -> type:
    """Return a class of views that is called as the task."""
    said = {name: getattr(view, name) for name in ("__module__", "__qualname__", "__doc__")}
    # Names of classes hold neither null characters nor half of a surrogate pair.
    shown = task.replace("\0", "?").encode("utf-8", "replace").decode("utf-8")
    return type(shown, (view,), said)
