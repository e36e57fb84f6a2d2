"""What learning the tasks together is worth.

`transfer_report` compares, task by task, the scores of a joint model with those of separate ones.
`TransferReport` is what it returns, and `TrainingHistory` is the `history_` of an estimator: both
print and plot themselves.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from inspect import signature
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student_t
from sklearn.base import clone
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.model_selection import check_cv
from sklearn.utils import indexable
from sklearn.utils.metaestimators import _safe_split
from sklearn.utils.parallel import Parallel, delayed

from sklearn_mtl._data.geometry import Geometry, pairs_of
from sklearn_mtl._data.rows import sent_to_workers, take_rows
from sklearn_mtl._data.tables import Column
from sklearn_mtl._data.targets import TargetEncoder
from sklearn_mtl._data.tasks import warn_together
from sklearn_mtl._fitted import fit_name, innermost, to_be_cut
from sklearn_mtl._results import TrainingHistory, TransferReport
from sklearn_mtl.kinds.bounds import are_bounds, as_intervals
from sklearn_mtl.losses import Combiner
from sklearn_mtl.metrics import Scorer, task_scorer

__all__ = ["TrainingHistory", "TransferReport", "transfer_report"]

FloatArray = NDArray[np.float64]


def transfer_report(
    estimator: Any,
    X: Any,
    y: Any,
    *,
    cv: Any = None,
    groups: Any = None,
    scoring: Mapping[str, Any] | None = None,
    sample_weight: Any = None,
    confidence: float = 0.95,
    n_jobs: int | None = None,
) -> TransferReport:
    r"""Compare the joint model with a separate one for each task, by cross-validation.

    In every fold the estimator is fitted to all tasks, and a twin of it to each task alone. Both
    are scored on the rows of the test fold in which the task was observed. Joint minus separate
    score is a paired difference, and those of all folds give a confidence interval.

    Parameters
    ----------
    estimator : MultiTaskCNNEstimator or Pipeline
        A `MultiTaskCNNEstimator`, or a pipeline that ends in one. Clones of it are fitted; the
        estimator itself stays as it is.
    X : array-like of shape (n_samples, ...)
        As the estimator takes it: rows, images, volumes.
    y : array-like or frame of shape (n_samples,) or (n_samples, n_tasks)
        Targets, laid out as in `fit`; NaN, None or ``pd.NA`` where not observed.
    cv : int, splitter or iterable, default=None
        Folds: a number of consecutive ones, a splitter, or pairs of training and test rows. None is
        5. Shuffle rows that have an order: ``KFold(5, shuffle=True, random_state=0)``. Repetitions,
        as by `sklearn.model_selection.RepeatedKFold`, make the interval narrower and steadier.
    groups : array-like of shape (n_samples,), default=None
        Groups of rows, for splitters such as `sklearn.model_selection.GroupKFold`, and for the
        fits, which keep rows of a group together too.
    scoring : dict, default=None
        From names of tasks to what `sklearn_mtl.metrics.task_scorer` takes: the name of a scorer of
        scikit-learn, or a scorer; higher is better. None, and tasks that are not named: accuracy of
        classes, R2 or D2 of the others.
    sample_weight : array-like of shape (n_samples,) or (n_samples, n_tasks), default=None
        Weights of rows, or of single targets, for fits and scores.
    confidence : float in (0, 1), default=0.95
        Level of the interval.
    n_jobs : int, default=None
        Fits at a time; None is 1 unless in a `joblib.parallel_config` context, -1 all processors.
        There are (n_tasks + 1) fits per fold.

    Returns
    -------
    report : TransferReport of shape (n_tasks, 8)
        A DataFrame of pandas that prints shortly; ``report.plot()`` draws a forest plot, see
        `sklearn_mtl.plotting.TransferDisplay`. One row per task, in their order; the index is
        called 'task'. The columns are

        - 'kind': of the task;
        - 'n_observed': rows in which it was observed;
        - 'joint', 'separate': mean scores over the folds;
        - 'difference': joint minus separate; above 0, sharing helps;
        - 'ci_low', 'ci_high': confidence interval of the difference; NaN where it is the same in
          all folds, as that of an accuracy on few rows may be by chance;
        - 'verdict': 'joint' if the interval lies above 0, 'separate' if below, else 'undecided'.

    Raises
    ------
    ValueError
        If `scoring` names unknown tasks, or `confidence` is not in (0, 1).
    TypeError
        If there is no `MultiTaskCNNEstimator` in the estimator, or it is frozen.

    Warns
    -----
    UserWarning
        If a task has no observed target in the training rows of a fold.
    UndefinedMetricWarning
        If a task cannot be scored in a fold, such as one in which it was not observed, for training
        or for test. The fold is left out for that task. With fewer than two folds left, the
        interval is NaN and the verdict 'undecided'.

    Notes
    -----
    The interval is that of the corrected resampled t-test [1]_,

    .. math::

       \bar d \pm t_{J - 1} \sqrt{
           \left( \frac{1}{J} + \frac{n_\text{test}}{n_\text{train}} \right) s_d^2 }

    with the mean :math:`\bar d` and the variance :math:`s_d^2` (over :math:`J - 1`) of the
    differences in :math:`J` folds, the quantile :math:`t_{J - 1}` of Student's distribution with
    :math:`J - 1` degrees of freedom, and the mean numbers of rows, for test and training, in which
    the task was observed. Folds share most of their training rows, so that their differences vary
    together. The second term in the brackets stands for that; it is an approximation, made for
    random splits, as no unbiased estimate exists. The interval is one for each task: of twenty
    tasks without any transfer, about one gets a verdict at the level of 0.95. Nor is a verdict a
    proof: it speaks of such data, of this number of rows and of these parameters. 'undecided' does
    not say that there is no difference. With ``random_state=None``, fits differ by chance as well,
    which the interval takes in.

    The twin has all parameters of the estimator, with these exceptions:

    - `tasks` is the task alone, without ``given=``: a conditional task is learned from the rows in
      which it exists. Rows in which the task was not observed are left out. 'auto' parameters, such
      as `max_epochs`, therefore follow the number of rows that it has, as they would in a model of
      its own; and the steps of a pipeline are fitted to these rows.
    - `class_weight` is that of the task.
    - `task_weights` is None, and a `loss` of `sklearn_mtl.losses` with weights is replaced by one
      of its class without: one weight would scale the loss of the twin, and 0 would switch it off.
      A callable of your own is used as it is, and has to serve one task.
    - `early_stopping` looks at the task.

    If `augment` turns images, the twin of one coordinate of a place has the other one beside it,
    with weight 0: the images can be turned, and nothing is learned of it.

    References
    ----------
    .. [1] C. Nadeau and Y. Bengio, "Inference for the Generalization Error", Machine Learning 52,
       2003.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_mtl import MultiTaskCNNEstimator
    >>> from sklearn_mtl.inspection import transfer_report
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(120, 3))
    >>> y = np.column_stack([X[:, 0] > 0, X[:, 0] + rng.normal(size=120)])
    >>> y[rng.permutation(120)[40:], 1] = np.nan  # the number is known for few rows
    >>> estimator = MultiTaskCNNEstimator(max_epochs=2, random_state=0)
    >>> report = transfer_report(estimator, X, y, cv=3)
    >>> report["n_observed"].to_dict()
    {'y0': 120, 'y1': 40}
    >>> (report["ci_low"] < report["difference"]).all()
    np.True_
    """
    level: Any = confidence
    if not isinstance(level, int | float) or not 0 < level < 1:
        raise ValueError(f"confidence={confidence!r} does not fit. Pass a number between 0 and 1.")
    joint = clone(estimator)
    inner = innermost(joint)
    if not hasattr(inner, "tasks") or inner is innermost(estimator):
        raise TypeError(
            f"{type(estimator).__name__} is frozen, a search, or has no tasks. Pass a "
            "MultiTaskCNNEstimator, or a pipeline that ends in one, such as the best_estimator_ of "
            "a search."
        )
    X, y, sample_weight, groups = indexable(to_be_cut(X, joint), y, sample_weight, groups)
    encoder = TargetEncoder(inner.tasks, inner.missing_values)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # each fit says it for its own rows
        encoder.fit_encode(y, sample_weight)
    scorers = _scorers(scoring, encoder.names)
    columns, weight = encoder.read(y, sample_weight)
    seen = np.column_stack([column.seen for column in columns])
    splits = _splits(cv, X, y, groups, len(seen))

    inner.set_params(tasks=encoder.tasks_)  # a fold might infer other kinds than the whole y
    twins = [_twin(estimator, encoder, k, column.order) for k, column in enumerate(columns)]
    own_y = [_as_y(columns, [k, *_beside(inner, encoder, k)]) for k in range(len(columns))]
    slots, jobs = list[Any](), list[Any]()  # of what the jobs return, among the scores
    for fold, (train, test) in enumerate(splits):
        tested = np.flatnonzero(seen[train].any(axis=0) & seen[test].any(axis=0)).tolist()
        slots.append((0, fold, tested))
        own = [scorers[k] for k in tested]
        jobs.append((joint, X, y, sample_weight, groups, train, test, own))
        for k in tested:
            slots.append((1, fold, [k]))
            rows = [split[seen[split, k]] for split in (train, test)]
            w = None if sample_weight is None else weight[:, k]
            jobs.append((twins[k], X, own_y[k], w, groups, *rows, [scorers[k]]))
    scores = np.full((2, len(splits), len(columns)), np.nan)
    with sent_to_workers():
        results = Parallel(n_jobs=n_jobs)(delayed(_fit_and_score)(*job) for job in jobs)
    for slot, result in zip(slots, results, strict=True):
        scores[slot] = result

    counts = np.array([[seen[rows].sum(axis=0) for rows in split] for split in splits])
    counts = counts.reshape(len(splits), 2, len(columns))  # also of no fold at all
    report = []
    for k, task in enumerate(encoder.tasks_):
        about = {"kind": task.kind_name, "n_observed": int(seen[:, k].sum())}
        compared = _compare(scores[0, :, k], scores[1, :, k], counts[:, :, k], confidence)
        report.append(about | compared)
    _warn_of_unscored(scores, encoder.names)
    return TransferReport.of(report, encoder.names, confidence)


def _scorers(scoring: Mapping[str, Any] | None, names: list[str]) -> list[Scorer]:
    """One scorer per task."""
    if scoring is None:
        scoring = {}
    if not isinstance(scoring, Mapping):
        raise ValueError(
            f"scoring={scoring!r} is not understood. Pass None, or a dict from task to metric."
        )
    unknown = [name for name in scoring if name not in names]
    if unknown:
        raise ValueError(
            f"scoring names unknown tasks {unknown}; the tasks are {names}. Pass a dict from task "
            "to metric, such as {'size': 'r2'}."
        )
    return [task_scorer(name, scoring.get(name)) for name in names]


def _splits(
    cv: Any, X: Any, y: Any, groups: Any, n_rows: int
) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Folds, as positions of rows."""
    rows = np.arange(n_rows)
    splits = [(rows[train], rows[test]) for train, test in check_cv(cv).split(X, y, groups)]
    if not splits:
        raise ValueError(f"cv={cv!r} has no folds. Pass a number of folds, a splitter or pairs.")
    return splits


def _twin(estimator: Any, encoder: TargetEncoder, k: int, order: Sequence[Any] | None) -> Any:
    """Clone of the estimator for task `k` alone; `order` lists labels as y's type orders them."""
    twin, task = clone(estimator), encoder.tasks_[k]
    task = task.with_order(order)
    inner = innermost(twin)
    others = [encoder.tasks_[j] for j in _beside(inner, encoder, k)]
    weights = [1.0, *[0.0] * len(others)] if others else None  # nothing is learned of others
    class_weight = inner.class_weight
    if isinstance(class_weight, Mapping):
        class_weight = {name: spec for name, spec in class_weight.items() if name == task.name}
    inner.set_params(
        tasks=[replace(t, given=None, lower=None, upper=None) for t in (task, *others)],
        task_weights=weights if isinstance(inner.loss, str) else None,
        class_weight=class_weight,
        loss=_with_weights(inner.loss, weights),
    )
    if inner.early_stopping:
        inner.set_params(early_stopping=[task.name] if others else True)
    return twin


def _beside(inner: Any, encoder: TargetEncoder, k: int) -> list[int]:
    """Tasks that the twin of task `k` has beside it: images of a place are turned by both."""
    if not getattr(inner.augment, "rotation", 0):
        return []
    pairs = pairs_of([Geometry.of(t.geometry) if t.geometry else None for t in encoder.tasks_])
    return [j for pair in pairs if k in pair for j in pair if j not in (k, None)]


def _as_y(columns: Sequence[Column], ks: Sequence[int]) -> NDArray[Any]:
    """Values of a task as an estimator takes them, and of those beside it, which are numbers."""
    values = columns[ks[0]].values
    if len(ks) > 1:
        return np.column_stack([np.where(columns[k].seen, columns[k].values, np.nan) for k in ks])
    return as_intervals(values) if are_bounds(values) else values


def _with_weights(loss: Any, weights: list[float] | None) -> Any:
    """Return a loss with the weights of the tasks of a twin, instead of those of all tasks."""
    if isinstance(loss, str):
        return loss
    if not isinstance(loss, Combiner):
        if weights is not None:
            raise ValueError(
                "augment turns images, for which the twin of a coordinate has the other one beside "
                f"it, with weight 0, but loss={loss!r} knows no weights. Pass a loss by its name, "
                "or augment__rotation=0."
            )
        return loss
    if loss.weights is None and weights is None:
        return loss
    names = [name for name in signature(type(loss)).parameters if name != "weights"]
    kept: dict[str, Any] = {name: getattr(loss, name) for name in names}
    return type(loss)(**kept | ({} if weights is None else {"weights": weights}))


def _fit_and_score(
    estimator: Any,
    X: Any,
    y: Any,
    sample_weight: Any,
    groups: Any,
    train: NDArray[np.intp],
    test: NDArray[np.intp],
    scorers: list[Scorer],
) -> list[float]:
    """Fit a clone to some rows, and score it on others."""
    if not scorers:
        return []
    estimator = clone(estimator)
    X_train, y_train = _safe_split(estimator, X, y, train)
    X_test, y_test = _safe_split(estimator, X, y, test, train)
    of_fit, of_score = {}, {}
    if sample_weight is not None:
        of_fit[fit_name(estimator, "sample_weight")] = take_rows(sample_weight, train)
        of_score["sample_weight"] = take_rows(sample_weight, test)
    if groups is not None:
        of_fit[fit_name(estimator, "groups")] = take_rows(groups, train)
    estimator.fit(X_train, y_train, **of_fit)
    return [_scored(scorer, estimator, X_test, y_test, of_score) for scorer in scorers]


def _scored(scorer: Scorer, estimator: Any, X: Any, y: Any, weights: dict[str, Any]) -> float:
    """Score, or NaN where a metric cannot, as that of a test fold without some label."""
    try:
        return scorer(estimator, X, y, **weights)
    except ValueError as error:
        warnings.warn(f"{scorer!r} fails in a fold: {error}", UndefinedMetricWarning, stacklevel=2)
        return np.nan


def _warn_of_unscored(scores: FloatArray, names: list[str]) -> None:
    """Say which tasks lack scores (2, n_folds, n_tasks)."""
    unknown = np.isnan(scores).any(axis=0)
    warn_together(
        {
            name: f"Task {name!r} cannot be scored in {lacking.sum()} of {len(lacking)} folds, "
            "which are left out for it."
            for name, lacking in zip(names, np.transpose(unknown), strict=True)
            if lacking.any()
        },
        UndefinedMetricWarning,
        stacklevel=3,
    )


def _compare(
    joint: FloatArray, separate: FloatArray, counts: NDArray[np.int_], confidence: float
) -> dict[str, Any]:
    """Report on a task with these scores (n_folds,), and rows (n_folds, 2) behind them."""
    known = ~np.isnan(joint - separate)
    low, high = _interval((joint - separate)[known], counts[known], confidence)
    means = [float(scores[known].mean()) if known.any() else np.nan for scores in (joint, separate)]
    return {
        "joint": means[0],
        "separate": means[1],
        "difference": means[0] - means[1],
        "ci_low": low,
        "ci_high": high,
        "verdict": "joint" if low > 0 else "separate" if high < 0 else "undecided",
    }


def _interval(
    differences: FloatArray, counts: NDArray[np.int_], confidence: float
) -> tuple[float, float]:
    """Interval of the corrected resampled t-test (Nadeau and Bengio 2003)."""
    n_folds = len(differences)
    if n_folds < 2 or np.ptp(differences) <= 1e-12:  # how much they vary is not known
        return np.nan, np.nan
    n_train, n_test = counts.mean(axis=0)
    variance = (1 / n_folds + n_test / n_train) * differences.var(ddof=1)
    half = student_t.ppf((1 + confidence) / 2, n_folds - 1) * np.sqrt(variance)
    return float(differences.mean() - half), float(differences.mean() + half)
