"""One task of a fitted estimator, as the classifier or regressor that scikit-learn's tools expect.

`task_view` makes a `TaskClassifier` or a `TaskRegressor`. Neither learns anything: they run the
estimator that they hold, and hand out one of its tasks.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from sklearn_mtl._fitted import available_if, fitted_of, there_is
from sklearn_mtl._intervals import (
    deviation_of_task,
    set_of_task,
    why_no_deviations,
    why_no_sets,
)
from sklearn_mtl._one_task import TaskView

__all__ = ["TaskClassifier", "TaskRegressor", "log_of", "task_view"]


def task_view(estimator: Any, name: str) -> TaskClassifier | TaskRegressor:
    """One task of a fitted estimator as a frozen classifier or regressor.

    Displays, calibration, thresholds and explanations ask for an estimator of one target. A view is
    one: its `fit` does nothing, `sklearn.base.clone` returns the view itself, and its `score` is
    the task's in `MultiTaskCNNEstimator.score_tasks`. Except for that `score`, the tools refuse NaN
    in y, so pass them the rows in which the task was observed.

    Parameters
    ----------
    estimator : MultiTaskCNNEstimator, Pipeline, search or FrozenEstimator
        Fitted. A pipeline that ends in a `MultiTaskCNNEstimator`, or a search that has refitted
        its best estimator, is viewed as a whole: X goes through its transformers.
    name : str
        Name of the task.

    Returns
    -------
    view : TaskClassifier or TaskRegressor
        A classifier with `classes_` (sorted, also where the task is ordinal) and `predict_proba`
        for classes, a regressor for numbers. For a conditional task: the probabilities, labels and
        numbers that are expected if it applies, whatever `conditional_output`. No weights are
        copied, and yet a later `fit` of the estimator leaves the view as it was.

    Raises
    ------
    ValueError
        If there is no task of that name.
    TypeError
        If there is no `MultiTaskCNNEstimator` in the estimator.
    sklearn.exceptions.NotFittedError
        If the estimator is not fitted.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import PolynomialFeatures
    >>> from sklearn_mtl import MultiTaskCNNEstimator, task_view
    >>> X = np.random.default_rng(0).normal(size=(100, 3))
    >>> y = np.column_stack([X[:, 0] > 0, X[:, 1]])
    >>> pipeline = make_pipeline(PolynomialFeatures(), MultiTaskCNNEstimator(random_state=0))
    >>> view = task_view(pipeline.fit(X, y), "y0")
    >>> view.predict_proba(X).shape
    (100, 2)
    """
    encoder = fitted_of(estimator).encoder
    if name not in encoder.names:
        raise ValueError(f"name={name!r} is not a task. Use one of {encoder.names}.")
    is_class = encoder.kinds_[encoder.names.index(name)].is_class
    return (TaskClassifier if is_class else TaskRegressor)(_frozen(estimator), name)


def _frozen(estimator: Any) -> Any:
    """Return a copy that no later `fit` changes.

    Of the last step a shallow one is enough: `fit` replaces fitted attributes, and never changes
    one. But a pipeline fits the transformers that it holds, and unions those that they hold.
    """
    if isinstance(estimator, Pipeline):
        *before, (name, last) = estimator.steps
        estimator = copy.copy(estimator)
        estimator.steps = [*copy.deepcopy(before), (name, _frozen(last))]
        return estimator
    if isinstance(estimator, FrozenEstimator):  # what it holds may be fitted all the same
        return _frozen(estimator.estimator)
    best = getattr(estimator, "best_estimator_", None)
    return copy.copy(estimator) if best is None else _frozen(best)


def _has_sets(view: TaskView) -> bool:
    fitted = fitted_of(view.estimator)
    return there_is(why_no_sets(fitted.encoder, fitted.errors))


class TaskClassifier(TaskView, ClassifierMixin, BaseEstimator):
    """One class task of a fitted `MultiTaskCNNEstimator`, frozen.

    `fit` does nothing and `sklearn.base.clone` returns the view itself.

    Parameters
    ----------
    estimator : MultiTaskCNNEstimator or Pipeline
        Fitted.
    task : str
        Name of one of its tasks, of kind 'classification' or 'ordinal'.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Labels of the task, sorted, those of an ordinal task too.
    n_features_in_ : int
        Number of values in one sample.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Column names of X, where it had string names.

    See Also
    --------
    sklearn_mtl.MultiTaskCNNEstimator.task_view : Makes it.
    """

    # Ordinal classes go from low to high in the estimator. But log_loss, roc_auc_score and others
    # take the columns of probabilities to be those of sorted labels, and see no labels to ask.
    @property
    def _order(self) -> NDArray[np.intp]:
        return np.argsort(self._kind.classes_)

    @property
    def classes_(self) -> NDArray[Any]:
        """Labels of the task, sorted."""
        return self._kind.classes_[self._order]

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Probabilities of the classes.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            As the estimator takes it.

        Returns
        -------
        proba : ndarray of shape (n_samples, n_classes)
            In the order of `classes_`. For a conditional task: given that its gate holds.
        """
        check_is_fitted(self)
        return self._kind.proba(self._outputs(X))[:, self._order]

    def predict_log_proba(self, X: Any) -> NDArray[np.float64]:
        """Logarithms of the probabilities of the classes.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            As the estimator takes it.

        Returns
        -------
        log_proba : ndarray of shape (n_samples, n_classes)
            In the order of `classes_`.
        """
        return log_of(self.predict_proba(X))

    @available_if(_has_sets)
    def predict_set(self, X: Any, confidence: Any = 0.9) -> NDArray[np.bool_]:
        """Labels among which the class is, with a given confidence.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            As the estimator takes it.
        confidence : float or sequence of float, default=0.9
            Share of new targets that are inside, between 0 and 1.

        Returns
        -------
        sets : ndarray of bool of shape (n_samples, n_classes[, n_levels])
            In the order of `classes_`, as `MultiTaskCNNEstimator.predict_set` returns them. For a
            conditional task: given that its gate holds.

        Raises
        ------
        AttributeError
            If the fit left out no rows.
        ValueError
            If `confidence` is not between 0 and 1.
        """
        return self._sure(X, confidence, set_of_task)[:, self._order]


def log_of(proba: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logarithm of probabilities: minus infinity, and no warning, where they are 0."""
    with np.errstate(divide="ignore"):
        return np.log(proba)


class TaskRegressor(TaskView, RegressorMixin, BaseEstimator):
    """One task of numbers of a fitted `MultiTaskCNNEstimator`, frozen.

    `fit` does nothing and `sklearn.base.clone` returns the view itself.

    Parameters
    ----------
    estimator : MultiTaskCNNEstimator or Pipeline
        Fitted.
    task : str
        Name of one of its tasks, of a kind of number.

    Attributes
    ----------
    n_features_in_ : int
        Number of values in one sample.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Column names of X, where it had string names.

    See Also
    --------
    sklearn_mtl.MultiTaskCNNEstimator.task_view : Makes it.
    """

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """Predict the task.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            As the estimator takes it.
        return_std : bool, default=False
            Whether to return standard deviations too.

        Returns
        -------
        y_pred : ndarray of shape (n_samples,)
            Numbers in the units of y. For a conditional task: the value expected if it applies,
            whatever `conditional_output` of the estimator.
        y_std : ndarray of shape (n_samples,)
            Only with `return_std`: the standard deviation of what is observed around each.
        """
        if not return_std:
            return super().predict(X)
        check_is_fitted(self)
        fitted, k = fitted_of(self.estimator), self._position
        encoder, errors = fitted.encoder, fitted.errors
        if (why := why_no_deviations(encoder, errors)) is not None:
            raise ValueError(why)
        part = self._outputs(X)
        return encoder.kinds_[k].decode(part), deviation_of_task(encoder, errors, k, part)
