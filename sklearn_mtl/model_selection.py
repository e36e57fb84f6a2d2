"""Cross-validated predictions of every task, probabilities included.

With ``method="predict"``, scikit-learn's `cross_val_predict` takes a y of several tasks as it
comes. With ``method="predict_proba"`` it turns every column of y into class codes before `fit`, so
that numbers would be trained on their ranks. `cross_val_predict_tasks` leaves y alone.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import get_config
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import Pipeline
from sklearn.utils import Tags, get_tags
from sklearn.utils.metadata_routing import get_routing_for_object

from sklearn_mtl._data.rows import sent_to_workers
from sklearn_mtl._data.targets import TargetEncoder
from sklearn_mtl._data.tasks import warn_together
from sklearn_mtl._fitted import fit_name, fitted_of, to_be_cut

__all__ = ["cross_val_predict_tasks"]


def cross_val_predict_tasks(
    estimator: Any,
    X: Any,
    y: Any,
    *,
    groups: Any = None,
    cv: Any = None,
    n_jobs: int | None = None,
    verbose: int = 0,
    params: Mapping[str, Any] | None = None,
    pre_dispatch: int | str = "2*n_jobs",
    method: str = "predict",
) -> dict[str, NDArray[Any]]:
    """Predict every row by an estimator that was not fitted to it, task by task.

    It is `sklearn.model_selection.cross_val_predict`, with an array for each task, and with
    probabilities that are right.

    Parameters
    ----------
    estimator : MultiTaskCNNEstimator, Pipeline or search
        A `MultiTaskCNNEstimator`, a pipeline that ends in one, or a search over either. A clone is
        fitted in each fold; the estimator itself stays as it is.
    X : array-like of shape (n_samples, ...)
        As the estimator takes it: rows, images, volumes.
    y : array-like or frame of shape (n_samples,) or (n_samples, n_tasks)
        Targets, laid out as in `fit`; NaN, None or ``pd.NA`` where not observed.
    groups : array-like of shape (n_samples,), default=None
        Groups of rows, for splitters such as `sklearn.model_selection.GroupKFold`, and for the
        fits, which keep rows of a group together too.
    cv : int, splitter or iterable, default=None
        Folds, which have to be a partition of the rows: a number of consecutive ones, a splitter,
        or pairs of training and test rows. None is 5.
    n_jobs : int, default=None
        Folds that are fitted at a time; None is 1 unless in a `joblib.parallel_config` context, -1
        all processors.
    verbose : int, default=0
        Verbosity of joblib.
    params : dict, default=None
        Parameters for `fit`, such as ``{"sample_weight": w}``, and ``{"step__sample_weight": w}``
        for a step of a pipeline. Those with a value per row are split with the rows.
    pre_dispatch : int or str, default='2*n_jobs'
        Jobs that are dispatched in advance, as in scikit-learn.
    method : {'predict', 'predict_proba'}, default='predict'
        What to ask of the estimator.

    Returns
    -------
    predictions : dict of str to ndarray
        By the names of the tasks, in their order. For 'predict' one of shape (n_samples,) per task,
        the column of the estimator's `predict`: floats for numbers, labels in their own type for
        classes. For 'predict_proba' one of shape (n_samples, n_classes) per class task. Its columns
        are the labels that y holds, sorted, as metrics want them: also those of an ordinal task,
        which are in the estimator's `classes_` from low to high.

    Raises
    ------
    ValueError
        If `method` is unknown, there is no class task to have probabilities, or the folds are no
        partition.
    TypeError
        If there is no `MultiTaskCNNEstimator` in the estimator.

    Warns
    -----
    RuntimeWarning
        If a label was not observed in the training rows of a fold. Its probability is 0 there.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_mtl import MultiTaskCNNEstimator
    >>> from sklearn_mtl.model_selection import cross_val_predict_tasks
    >>> X = np.random.default_rng(0).normal(size=(100, 3))
    >>> positive = X[:, 0] > 0
    >>> y = np.column_stack([positive, X[:, 1], np.where(positive, X[:, 2], np.nan)])
    >>> estimator = MultiTaskCNNEstimator(max_epochs=2, random_state=0)
    >>> list(cross_val_predict_tasks(estimator, X, y, cv=2))
    ['y0', 'y1', 'y2']
    >>> proba = cross_val_predict_tasks(estimator, X, y, cv=2, method="predict_proba")
    >>> {name: p.shape for name, p in proba.items()}
    {'y0': (100, 2)}
    """
    if method not in ("predict", "predict_proba"):
        raise ValueError(f"method={method!r} is unknown. Use 'predict' or 'predict_proba'.")
    fits = estimator = clone(estimator)
    encoder = _encoder_of(estimator, y, params or {})
    if method == "predict_proba":
        if not encoder.classes:
            raise ValueError(
                f"method='predict_proba', but none of the tasks {encoder.names} is a class task. "
                "Use method='predict'."
            )
        estimator = _Probabilities(estimator, encoder)
    if groups is not None:
        params = {fit_name(fits, "groups"): groups} | dict(params or {})
    with sent_to_workers():
        predictions = cross_val_predict(
            estimator,
            to_be_cut(X, fits),
            y,
            groups=None if get_config()["enable_metadata_routing"] else groups,
            cv=cv,
            n_jobs=n_jobs,
            verbose=verbose,
            params=params,
            pre_dispatch=pre_dispatch,
            method="predict",
        )
    if method == "predict_proba":
        return _unpacked(predictions, encoder)
    columns = predictions.reshape(len(predictions), -1).T
    return {
        name: _column(column, encoder.classes.get(k))
        for k, (name, column) in enumerate(zip(encoder.names, columns, strict=True))
    }


def _encoder_of(estimator: Any, y: Any, params: Mapping[str, Any]) -> TargetEncoder:
    """Learn the tasks and labels of the whole y, and let the estimator know the tasks."""
    prefix = ""  # by which `fit` of a pipeline hands weights to its last step
    while isinstance(estimator, Pipeline) or hasattr(estimator, "estimator"):
        if isinstance(estimator, Pipeline):
            prefix += f"{estimator.steps[-1][0]}__"
            estimator = estimator[-1]
        else:  # a search
            estimator = estimator.estimator
    if not hasattr(estimator, "tasks") or hasattr(estimator, "net_"):  # as in a frozen view
        raise TypeError(
            f"{type(estimator).__name__} is frozen, or has no tasks. Pass a "
            "MultiTaskCNNEstimator, a pipeline that ends in one, or a search over it."
        )
    encoder = TargetEncoder(estimator.tasks, estimator.missing_values)
    weight = params.get(f"{prefix}sample_weight", params.get("sample_weight"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # each fit says it for its own rows
        encoder.fit_encode(y, weight)
    estimator.set_params(tasks=encoder.tasks_)  # or a fold may take numbers for classes
    return encoder


class _Probabilities(BaseEstimator):
    """Its `predict` is `predict_proba` of an estimator, for every label of the whole y.

    The columns of all class tasks stand side by side, NaN for labels that `fit` did not see.
    """

    def __init__(self, estimator: Any, encoder: TargetEncoder) -> None:
        self.estimator = estimator
        self.encoder = encoder

    def fit(self, X: Any, y: Any, **params: Any) -> _Probabilities:
        """Fit the estimator."""
        self.estimator.fit(X, y, **params)
        return self

    def predict(self, X: Any) -> NDArray[np.float64]:
        """Probabilities, side by side."""
        proba = self.estimator.predict_proba(X)
        seen = fitted_of(self.estimator).encoder.classes  # a fold may take more for classes
        by_task = dict(zip(seen, proba if isinstance(proba, list) else [proba], strict=True))
        parts = []
        for k, labels in self.encoder.classes.items():
            part = np.full((len(by_task[k]), len(labels)), np.nan)
            part[:, self.encoder.kinds_[k].encode(seen[k]).astype(int)] = by_task[k]
            parts.append(part)
        return np.hstack(parts)

    def get_metadata_routing(self) -> Any:
        """Ask for what the estimator asks for."""
        return get_routing_for_object(self.estimator)

    def __sklearn_tags__(self) -> Tags:
        return get_tags(self.estimator)


def _unpacked(packed: NDArray[np.float64], encoder: TargetEncoder) -> dict[str, NDArray[Any]]:
    """Probabilities by task and sorted label, 0 where a fold did not know the label."""
    names, classes = encoder.names, encoder.classes
    ends = np.cumsum([len(labels) for labels in classes.values()])
    out, lacking = {}, {}
    for (k, labels), proba in zip(
        classes.items(), np.split(packed, ends[:-1], axis=1), strict=True
    ):
        unknown = np.isnan(proba)
        unknown[unknown.all(axis=1)] = False  # not trained, which the fit has told of
        if unknown.any():
            lacking[names[k]] = (
                f"Task {names[k]!r}: the labels {labels[unknown.any(axis=0)].tolist()} "
                "were not observed in the training rows of every fold. Where they were not, for "
                f"{unknown.any(axis=1).sum()} of {len(proba)} rows, their probability is 0."
            )
        out[names[k]] = np.where(unknown, 0.0, proba)[:, np.argsort(labels)]
    warn_together(lacking, RuntimeWarning, stacklevel=3)
    return out


def _column(column: NDArray[Any], labels: NDArray[Any] | None) -> NDArray[Any]:
    """One column of `predict` in the type of its numbers or labels."""
    if labels is None:
        return column.astype(float)
    if np.isin(column, labels).all():
        return column.astype(labels.dtype)
    # Holes, of conditional_output="nan".
    return column.astype(float if labels.dtype.kind in "biuf" else object)
