"""Metrics and scorers over the observed targets of one task.

scikit-learn's metrics refuse NaN in ``y_true``; `masked_score` applies any of them to the rows
where a target was observed. `task_scorer` does so with its scorers, for searches and
cross-validation, and `task_scorers` makes several of them. `concordance_index` scores numbers of
which some are known within bounds.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Mapping
from inspect import signature
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import (
    brier_score_loss,
    check_scoring,
    get_scorer,
    log_loss,
    make_scorer,
    roc_auc_score,
    top_k_accuracy_score,
)
from sklearn.utils import check_consistent_length
from sklearn.utils.metadata_routing import UNUSED

from sklearn_mtl._data.rows import take_rows
from sklearn_mtl._fitted import fitted_of
from sklearn_mtl._score import untrained
from sklearn_mtl._views import task_view
from sklearn_mtl.kinds.bounds import are_bounds, as_intervals, exact
from sklearn_mtl.kinds.concordance import concordance_index
from sklearn_mtl.kinds.scores import masked_score, typed

__all__ = ["concordance_index", "masked_score", "task_scorer", "task_scorers"]

Scorer = Callable[..., float]

# By the names of their scorers: metrics of probabilities, which would else take the labels of the
# scored rows for all that there are.
KNOWING: dict[str, tuple[Callable[..., float], dict[str, Any]]] = {
    "neg_log_loss": (log_loss, {"greater_is_better": False}),
    "neg_brier_score": (brier_score_loss, {"greater_is_better": False}),
    "top_k_accuracy": (top_k_accuracy_score, {}),
    "roc_auc_ovr": (roc_auc_score, {"multi_class": "ovr"}),
    "roc_auc_ovo": (roc_auc_score, {"multi_class": "ovo"}),
    "roc_auc_ovr_weighted": (roc_auc_score, {"multi_class": "ovr", "average": "weighted"}),
    "roc_auc_ovo_weighted": (roc_auc_score, {"multi_class": "ovo", "average": "weighted"}),
}


def task_scorer(task: str, metric: str | Scorer | None = None) -> Scorer:
    """Scorer of one task on its observed targets, for ``scoring=`` of scikit-learn's tools.

    Parameters
    ----------
    task : str
        Name of the task.
    metric : str, callable or None, default=None
        Name of a scorer of scikit-learn, such as 'r2', 'roc_auc' or 'neg_log_loss', see
        `sklearn.metrics.get_scorer_names`; or a scorer, as `sklearn.metrics.make_scorer` makes
        them. It is given a classifier or regressor of this task, see `sklearn_mtl.task_view`, and
        the rows in which the target was observed; those in which it is exact, where others are
        known within bounds, unless the metric is `concordance_index`. None is the task's part in
        the estimator's own `score`: accuracy of classes, the concordance index where numbers are
        known within bounds, R2 or D2 of the others.

    Returns
    -------
    scorer : callable
        ``scorer(estimator, X, y, sample_weight=None) -> float``, higher is better. `estimator` is a
        fitted `MultiTaskCNNEstimator`, a pipeline that ends in one, or a search over it; y and
        `sample_weight` are laid out as in `fit`. NaN, with an `UndefinedMetricWarning`, where no
        target was observed, here or in `fit`. With metadata routing,
        ``set_score_request(sample_weight=True)`` asks for weights.

    See Also
    --------
    task_scorers : Several of them, for searches with more than one metric.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.model_selection import cross_val_score
    >>> from sklearn_mtl import MultiTaskCNNEstimator
    >>> from sklearn_mtl.metrics import task_scorer
    >>> X = np.random.default_rng(0).normal(size=(200, 3))
    >>> y = np.column_stack([X[:, 0] > 0, np.where(X[:, 0] > 0, X[:, 1], np.nan)])
    >>> estimator = MultiTaskCNNEstimator(max_epochs=20, random_state=0)
    >>> scores = cross_val_score(estimator, X, y, scoring=task_scorer("y1", "r2"), cv=3)
    >>> bool(scores.mean() > 0.5)
    True
    """
    if isinstance(metric, str):
        get_scorer(metric)  # an unknown name fails here
    elif callable(metric):
        check_scoring(scoring=metric)  # a metric that is no scorer fails here
    elif metric is not None:
        raise ValueError(
            f"metric={metric!r} is not understood. Pass the name of a scorer, a scorer, or None."
        )
    return TaskScorer(task, metric)


def task_scorers(
    metrics: Mapping[str, str | Scorer | list[str] | tuple[str, ...] | Mapping[str, Any] | None],
) -> dict[str, Scorer]:
    """Scorers of several tasks, for searches and cross-validation with more than one metric.

    Parameters
    ----------
    metrics : dict
        From the name of a task to what `task_scorer` takes, to a list of names, or to a dict from
        names to scorers.

    Returns
    -------
    scorers : dict of str to callable
        For ``scoring=``; ``refit=`` takes any of its keys, which are ``'{task}_{metric}'``, or
        ``'{task}'`` for scorers without a name.

    Examples
    --------
    >>> from sklearn_mtl.metrics import task_scorers
    >>> list(task_scorers({"defect": ["accuracy", "roc_auc"], "size": "r2", "cost": None}))
    ['defect_accuracy', 'defect_roc_auc', 'size_r2', 'cost']
    """
    if not isinstance(metrics, Mapping):
        raise ValueError(f"metrics={metrics!r} is not understood. Pass a dict {{task: metric}}.")
    scorers: dict[str, Scorer] = {}
    for task, wanted in metrics.items():
        if isinstance(wanted, str):
            wanted = [wanted]
        if isinstance(wanted, list | tuple):
            wanted = {name: name for name in wanted}
        named = wanted.items() if isinstance(wanted, Mapping) else [("", wanted)]
        for name, metric in named:
            key = f"{task}_{name}" if name else task
            if key in scorers:
                raise ValueError(f"Two scorers are called {key!r}. Name them by a dict.")
            scorers[key] = task_scorer(task, metric)
    return scorers


def _strangers(view: Any, y_true: Any) -> list[Any]:
    """Labels that the classifier of a task does not know."""
    return sorted(set(y_true.tolist()) - set(getattr(view, "classes_", y_true).tolist()))


def _metrics_for(task: str, classes: Any) -> str:
    """Say which metrics a task can be scored by, which that of an error may be one of."""
    if classes is None:
        return f"Task {task!r} holds numbers, which metrics of numbers score, such as 'r2'."
    if len(classes) == 2:
        labels = classes.tolist()
        return (
            f"Task {task!r} holds the classes {labels}, which metrics of classes score. One of a "
            f"single label is told which, as by make_scorer(f1_score, pos_label={labels[1]!r})."
        )
    return (
        f"Task {task!r} holds {len(classes)} classes, which metrics of several score, such as "
        "'accuracy', 'f1_macro' or 'roc_auc_ovr'."
    )


def _measures_order(scorer: Any) -> bool:
    """Tell scorers that know what to make of bounds."""
    return getattr(scorer, "_score_func", None) is concordance_index


def _scorer_of(name: str, view: Any) -> Scorer:
    """Scorer of a view by its name; metrics that can be told all labels are."""
    if name not in KNOWING or not hasattr(view, "classes_"):
        return get_scorer(name)
    metric, params = KNOWING[name]
    labels = view.classes_
    if len(labels) == 2 and "pos_label" in signature(metric).parameters:
        params = params | {"pos_label": labels[1]}
    return make_scorer(metric, response_method="predict_proba", labels=labels, **params)


class TaskScorer(BaseEstimator):
    """What `task_scorer` returns; a base estimator for its repr, clone and metadata requests."""

    __metadata_request__score: ClassVar = {"estimator": UNUSED}  # an argument, not metadata

    def __init__(self, task: str, metric: str | Scorer | None) -> None:
        self.task = task
        self.metric = metric

    def score(self, estimator: Any, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Score a fitted estimator."""
        encoder = fitted_of(estimator).encoder
        self.check_task(encoder.names)
        view = task_view(estimator, self.task)
        columns, weight = encoder.read(y, sample_weight)
        k = encoder.names.index(self.task)
        check_consistent_length(X, weight)
        rows, values = columns[k].rows, columns[k].values
        scorer: Any = self.metric or type(view).score
        if are_bounds(values):
            orders = self.metric is None or _measures_order(self.metric)
            rows = rows if orders else rows[exact(values[rows])]
            values = as_intervals(values) if orders else values["lower"]
        if len(rows) == 0 or encoder.unobserved[k]:
            lacking = f"Task {self.task!r} has no observed rows: its score is NaN."
            message = untrained(self.task) if encoder.unobserved[k] else lacking
            warnings.warn(message, UndefinedMetricWarning, stacklevel=2)
            return float("nan")
        y_true = typed(values[rows])
        weights = {} if sample_weight is None else {"sample_weight": weight[rows, k]}
        if len(rows) < len(weight):
            X = take_rows(X, rows)
        if isinstance(scorer, str):
            if scorer in KNOWING and (strangers := _strangers(view, y_true)):
                warnings.warn(
                    f"Task {self.task!r}: y holds labels {strangers} that were not seen in "
                    f"fit, and have no probability: {scorer} is NaN. List all labels, "
                    f"Task({self.task!r}, ..., categories=[...]).",
                    UndefinedMetricWarning,
                    stacklevel=2,
                )
                return float("nan")
            scorer = _scorer_of(scorer, view)
        try:
            return float(scorer(view, X, y_true, **weights))
        except (AttributeError, ValueError) as error:
            known: Any = getattr(view, "classes_", None)
            here = np.unique(y_true)
            of_labels = isinstance(error, ValueError) and known is not None
            if not of_labels or np.array_equal(known, here):
                error.add_note(_metrics_for(self.task, known))
                raise
            raise ValueError(
                f"Task {self.task!r} has the labels {known.tolist()}, but these rows the labels "
                f"{here.tolist()}, of which {self.metric!r} says: {error}"
            ) from error

    __call__ = score

    def check_task(self, names: Collection[str]) -> None:
        """Refuse the name of a task that is not among these.

        Parameters
        ----------
        names : collection of str
        """
        if self.task not in names:
            raise ValueError(f"task_scorer: {self.task!r} is not a task. Use one of {list(names)}.")

    def _accept_sample_weight(self) -> bool:
        """Tell searches whether to pass on the weights of `fit`, as scikit-learn's scorers do."""
        metric: Any = get_scorer(self.metric) if isinstance(self.metric, str) else self.metric
        if hasattr(metric, "_accept_sample_weight"):
            return metric._accept_sample_weight()
        return metric is None or "sample_weight" in signature(metric).parameters
