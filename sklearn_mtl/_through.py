"""Methods of an estimator as functions, which take pipelines and searches too.

A `Pipeline` passes on no methods but those of scikit-learn.
"""

from __future__ import annotations

from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline

from sklearn_mtl._fitted import Fitted, fitted_of, steps_to, through
from sklearn_mtl._intervals import (
    intervals,
    label_sets,
    levels_of,
    side_by_side,
    why_no_intervals,
    why_no_sets,
)

__all__ = [
    "embed",
    "predict_frame",
    "predict_interval",
    "predict_interval_frame",
    "predict_proba_frame",
    "predict_set",
    "save",
    "score_tasks",
]


def predict_frame(estimator: Any, X: Any) -> Any:
    """Predict every task, as a frame.

    Parameters
    ----------
    estimator : MultiTaskCNNEstimator, Pipeline, search or FrozenEstimator
        Fitted. X goes through the transformers of a pipeline.
    X : array-like of shape (n_samples, ...)
        As the estimator takes it.

    Returns
    -------
    y_pred : DataFrame of shape (n_samples, n_tasks)
        Of the type of y in `fit` (pandas for arrays), with the names of the tasks; classes have
        y's dtypes. If both are of pandas, with the index of X, also behind transformers.

    Raises
    ------
    TypeError
        If there is no `MultiTaskCNNEstimator` in the estimator.
    sklearn.exceptions.NotFittedError
        If the estimator is not fitted.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from sklearn_mtl import MultiTaskCNNEstimator, predict_frame
    >>> X = pd.DataFrame({"a": [1.0, 2.0, 3.0], "b": [2.0, 0.0, 1.0]}, index=["x", "y", "z"])
    >>> y = pd.DataFrame({"kind": ["no", "yes", "yes"], "size": [1.0, 2.0, 3.0]})
    >>> mtl = MultiTaskCNNEstimator(max_epochs=1, random_state=0)
    >>> pipeline = make_pipeline(StandardScaler(), mtl).fit(X, y)
    >>> predict_frame(pipeline, X).columns.tolist()
    ['kind', 'size']
    >>> predict_frame(pipeline, X).index.tolist()
    ['x', 'y', 'z']
    """
    fitted = fitted_of(estimator)
    rule = steps_to(estimator)[-1].conditional_output
    return fitted.encoder.frame(fitted.decode(through(estimator, X), rule), index=_index(X))


def predict_proba_frame(estimator: Any, X: Any) -> Any:
    """Probabilities of the classes of every class task, as a frame.

    Parameters
    ----------
    estimator : MultiTaskCNNEstimator, Pipeline, search or FrozenEstimator
        Fitted. X goes through the transformers of a pipeline.
    X : array-like of shape (n_samples, ...)
        As the estimator takes it.

    Returns
    -------
    proba : DataFrame of shape (n_samples, total number of classes)
        Of the type of y in `fit` (pandas for arrays). Columns are called ``{task}_{label}``, in the
        order of `classes_`. For a conditional class: the probability given its gate.

    Raises
    ------
    ValueError
        If no task is a class task, or two columns would have the same name.
    TypeError
        If there is no `MultiTaskCNNEstimator` in the estimator.
    sklearn.exceptions.NotFittedError
        If the estimator is not fitted.
    """
    fitted = fitted_of(estimator)
    encoder = fitted.encoder
    if not encoder.classes:
        raise ValueError(
            f"None of the tasks {encoder.names} is a class task, so there are no probabilities. "
            "Use predict_frame."
        )
    names = [
        f"{encoder.names[k]}_{label}" for k, labels in encoder.classes.items() for label in labels
    ]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(
            f"Two columns would be called {twice!r}. Rename the tasks, or use predict_proba."
        )
    proba = np.hstack(list(encoder.probabilities(fitted.raw(through(estimator, X))).values()))
    return encoder.template.build(dict(zip(names, proba.T, strict=True)), (), _index(X))


def predict_interval(estimator: Any, X: Any, confidence: Any = 0.9) -> NDArray[Any]:
    """Intervals that hold the numbers, and ordered classes, with a given confidence.

    Parameters
    ----------
    estimator : MultiTaskCNNEstimator, Pipeline, search or FrozenEstimator
        Fitted. X goes through the transformers of a pipeline.
    X : array-like of shape (n_samples, ...)
        As the estimator takes it.
    confidence : float or sequence of float, default=0.9
        Share of new targets that are inside, between 0 and 1.

    Returns
    -------
    intervals : ndarray of shape (n_samples, n_tasks, 2[, n_levels]) or (n_samples, 2[, n_levels])
        As `MultiTaskCNNEstimator.predict_interval` returns them.

    Raises
    ------
    ValueError
        If `confidence` is not between 0 and 1, no task is a number or an ordered class, or the fit
        left out no rows.
    TypeError
        If there is no `MultiTaskCNNEstimator` in the estimator.
    sklearn.exceptions.NotFittedError
        If the estimator is not fitted.
    """
    fitted = fitted_of(estimator)
    found, single = _intervals(fitted, estimator, X, confidence)
    together = side_by_side(found)
    together = together[..., 0] if single else together
    return together[:, 0] if fitted.encoder.y_ndim_ == 1 else together


def predict_interval_frame(estimator: Any, X: Any, confidence: Any = 0.9) -> Any:
    """Intervals of the numbers and ordered classes, as a frame.

    Parameters
    ----------
    estimator : MultiTaskCNNEstimator, Pipeline, search or FrozenEstimator
        Fitted. X goes through the transformers of a pipeline.
    X : array-like of shape (n_samples, ...)
        As the estimator takes it.
    confidence : float or sequence of float, default=0.9
        As in `predict_interval`.

    Returns
    -------
    intervals : DataFrame of shape (n_samples, 2 * n_intervals)
        Of the type of y in `fit` (pandas for arrays), with the columns ``{task}_lower`` and
        ``{task}_upper`` of each number and ordered class; ``{task}_lower_{confidence}`` and so on
        if several levels were passed. Labels have y's dtypes. As in `predict_interval`, NaN where a
        task was not observed.

    Raises
    ------
    ValueError
        As in `predict_interval`, and if a level stands twice in `confidence`.
    TypeError
        If there is no `MultiTaskCNNEstimator` in the estimator.
    sklearn.exceptions.NotFittedError
        If the estimator is not fitted.
    """
    fitted = fitted_of(estimator)
    found, single = _intervals(fitted, estimator, X, confidence)
    levels = [""] if single else [f"_{level:g}" for level in np.asarray(confidence, dtype=float)]
    encoder = fitted.encoder
    columns: dict[str, NDArray[Any]] = {}
    names, dtypes = [], dict[str, Any]()
    for k, (name, interval) in enumerate(zip(encoder.names, found, strict=True)):
        if interval is None:
            continue
        of_labels = encoder.template.dtypes if encoder.kinds_[k].is_class else {}
        for j, level in enumerate(levels):
            for side, bound in enumerate(("lower", "upper")):
                names.append(f"{name}_{bound}{level}")
                columns[names[-1]] = interval[:, side, j]
                dtypes |= {names[-1]: of_labels[name]} if name in of_labels else {}
    if len(columns) < len(names):
        raise ValueError(f"confidence={confidence!r} holds a level twice. Pass each level once.")
    template = encoder.template._replace(labels={}, dtypes=dtypes)
    return template.build(columns, list(dtypes), _index(X))


def predict_set(
    estimator: Any, X: Any, confidence: Any = 0.9
) -> NDArray[np.bool_] | list[NDArray[np.bool_]]:
    """Labels among which the class is, with a given confidence.

    Parameters
    ----------
    estimator : MultiTaskCNNEstimator, Pipeline, search or FrozenEstimator
        Fitted. X goes through the transformers of a pipeline.
    X : array-like of shape (n_samples, ...)
        As the estimator takes it.
    confidence : float or sequence of float, default=0.9
        Share of new targets that are inside, between 0 and 1.

    Returns
    -------
    sets : ndarray of bool of shape (n_samples, n_classes[, n_levels]) or list of them
        As `MultiTaskCNNEstimator.predict_set` returns them.

    Raises
    ------
    ValueError
        If `confidence` is not between 0 and 1, no task is a class task, or the fit left out no
        rows.
    TypeError
        If there is no `MultiTaskCNNEstimator` in the estimator.
    sklearn.exceptions.NotFittedError
        If the estimator is not fitted.
    """
    fitted = fitted_of(estimator)
    _refuse(why_no_sets(fitted.encoder, fitted.errors))
    levels, single = levels_of(confidence)
    raw = fitted.raw(through(estimator, X))
    sets = list(label_sets(fitted.encoder, fitted.errors, raw, levels).values())
    sets = [each[..., 0] for each in sets] if single else sets
    return sets[0] if len(sets) == 1 else sets


def _intervals(
    fitted: Fitted, estimator: Any, X: Any, confidence: Any
) -> tuple[list[NDArray[Any] | None], bool]:
    """Interval (n, 2, n_levels) of each task that has one, and whether there is a single level."""
    _refuse(why_no_intervals(fitted.encoder, fitted.errors))
    levels, single = levels_of(confidence)
    rule, raw = steps_to(estimator)[-1].conditional_output, fitted.raw(through(estimator, X))
    return intervals(fitted.encoder, fitted.errors, raw, levels, rule), single


def _refuse(why: str | None) -> None:
    if why is not None:
        raise ValueError(why)


def score_tasks(estimator: Any, X: Any, y: Any, sample_weight: Any = None) -> dict[str, float]:
    """Score every task on its observed targets: accuracy of classes, R2 or D2 of the others.

    Parameters
    ----------
    estimator : MultiTaskCNNEstimator, Pipeline, search or FrozenEstimator
        Fitted. X goes through the transformers of a pipeline.
    X : array-like of shape (n_samples, ...)
        As the estimator takes it.
    y : array-like or frame of shape (n_samples,) or (n_samples, n_tasks)
        True targets, laid out as in `fit`.
    sample_weight : array-like of shape (n_samples,) or (n_samples, n_tasks), default=None
        Weights of rows, or of single targets.

    Returns
    -------
    scores : dict of str to float
        As `MultiTaskCNNEstimator.score_tasks` returns them.

    Raises
    ------
    TypeError
        If there is no `MultiTaskCNNEstimator` in the estimator.
    sklearn.exceptions.NotFittedError
        If the estimator is not fitted.
    """
    return fitted_of(estimator).score(through(estimator, X), y, sample_weight)


def embed(estimator: Any, X: Any) -> NDArray[np.float64]:
    """Shared representation: what the trunk makes of X.

    Parameters
    ----------
    estimator : MultiTaskCNNEstimator, Pipeline, search or FrozenEstimator
        Fitted. X goes through the transformers of a pipeline.
    X : array-like of shape (n_samples, ...)
        As the estimator takes it.

    Returns
    -------
    features : ndarray of shape (n_samples, n_features)
        As `MultiTaskCNNEstimator.embed` returns them.

    Raises
    ------
    TypeError
        If there is no `MultiTaskCNNEstimator` in the estimator.
    sklearn.exceptions.NotFittedError
        If the estimator is not fitted.
    """
    features = fitted_of(estimator).raw(through(estimator, X), embed=True)
    return features.astype(np.float64, copy=False)


def save(estimator: Any, path: str | PathLike[str], *, optimizer: bool = False) -> None:
    """Write a fitted estimator, or the one that a search found best, to one file of plain data.

    `MultiTaskCNNEstimator.load` reads it.

    Parameters
    ----------
    estimator : MultiTaskCNNEstimator, search or FrozenEstimator
        Fitted. Of a pipeline with transformers only the last step could be written: that is
        refused, as its predictions would be others.
    path : str or path-like
        File to write, such as ``"model.safetensors"``.
    optimizer : bool, default=False
        Whether to keep the state of the optimizer, for streams, as `MultiTaskCNNEstimator.save`
        does.

    Raises
    ------
    TypeError
        If there is no `MultiTaskCNNEstimator` in the estimator, or there are transformers before.
    sklearn.exceptions.NotFittedError
        If the estimator is not fitted.
    """
    fitted_of(estimator)
    *before, last = steps_to(estimator)
    if before:
        pipeline = "pipeline" if isinstance(estimator, Pipeline) else "search.best_estimator_"
        raise TypeError(
            f"The transformers of a {type(estimator).__name__} cannot be written as plain data. "
            f"Write all of it by joblib.dump, or the network alone: {pipeline}[-1].save(path)."
        )
    last.save(path, optimizer=optimizer)


def _index(X: Any) -> Any:
    return X.index if hasattr(X, "iloc") else None
