"""`TaskScoresDisplay`: how well each task is predicted, beside a baseline."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sklearn_mtl._data.contents import holes
from sklearn_mtl._data.tables import Column
from sklearn_mtl._data.targets import TargetEncoder
from sklearn_mtl._fitted import fitted_of, through
from sklearn_mtl._score import score_columns
from sklearn_mtl.kinds import Kind
from sklearn_mtl.kinds.bounds import are_bounds
from sklearn_mtl.plotting.axes import (
    BLUE,
    GREY,
    VERMILION,
    legend_above,
    one_axes,
    pyplot,
    tall,
    task_axis,
)
from sklearn_mtl.plotting.reading import encoder_of, predicted_columns

__all__ = ["TaskScoresDisplay"]

FloatArray = NDArray[np.float64]

LOWEST = -1.0  # left end of the axis, where scores are lower: those are written down

SHORT = {"r2_score": "R2", "accuracy_score": "accuracy", "concordance_index": "concordance"}


class TaskScoresDisplay:
    """Score of each task, beside that of a baseline.

    It is recommended to make one by `from_estimator`, `from_predictions` or `from_scores`. All
    parameters are stored as attributes.

    Parameters
    ----------
    scores : dict of str to float
        Score of each task, NaN where there is none.
    baseline : dict of str to float, default=None
        Scores of what is to be surpassed.
    metrics : dict of str to str, default=None
        What the scores are, to stand beside the names of the tasks.
    baseline_name : str, default='baseline'
        Label of the baseline.

    Attributes
    ----------
    points_ : matplotlib PathCollection
        Scores, in the order of the tasks: blue where they are not below the baseline, vermilion
        where they are.
    baseline_points_ : matplotlib PathCollection or None
        Scores of the baseline.
    lines_ : matplotlib LineCollection or None
        From the baseline to the scores.
    ax_ : matplotlib Axes
        Axes with the plot.
    figure_ : matplotlib Figure
        Figure that holds it.

    See Also
    --------
    sklearn_mtl.score_tasks : The scores as numbers.
    TransferDisplay : What learning the tasks together is worth.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_mtl import MultiTaskCNNEstimator
    >>> from sklearn_mtl.plotting import TaskScoresDisplay
    >>> X = np.random.default_rng(0).normal(size=(100, 3))
    >>> y = np.column_stack([X[:, 0] > 0, X[:, 1]])
    >>> estimator = MultiTaskCNNEstimator(random_state=0).fit(X[:80], y[:80])
    >>> display = TaskScoresDisplay.from_estimator(estimator, X[80:], y[80:])
    >>> display.metrics
    {'y0': 'accuracy', 'y1': 'R2'}
    """

    def __init__(
        self,
        scores: Mapping[str, float],
        *,
        baseline: Mapping[str, float] | None = None,
        metrics: Mapping[str, str] | None = None,
        baseline_name: str = "baseline",
    ) -> None:
        self.scores = scores
        self.baseline = baseline
        self.metrics = metrics
        self.baseline_name = baseline_name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        sample_weight: Any = None,
        baseline: Any = "constant",
        ax: Any = None,
        **kwargs: Any,
    ) -> TaskScoresDisplay:
        """Score a fitted estimator on the observed targets of each task, and plot.

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
        baseline : 'constant', None, dict or estimator, default='constant'
            What the scores stand beside: those of the best constant for these rows, such as the
            most frequent label, or the mean; a dict from task to score; or those of another fitted
            estimator with tasks of the same names.
        ax : matplotlib Axes, default=None
            Axes to plot on; None makes a new figure.
        **kwargs : dict
            Passed to `plot`.

        Returns
        -------
        display : TaskScoresDisplay
            It holds the scores, and what was drawn.
        """
        pyplot(cls.__name__)
        fitted = fitted_of(estimator)
        encoder = fitted.encoder
        scores = fitted.score(through(estimator, X), y, sample_weight)
        columns, weight = encoder.read(y, sample_weight)
        beside, name = _baseline(baseline, encoder, columns, weight)
        if beside is None and baseline is not None:
            beside = fitted_of(baseline).score(through(baseline, X), y, sample_weight)
            name = type(baseline).__name__
        display = cls(
            scores, baseline=beside, metrics=_metrics(encoder, columns), baseline_name=name
        )
        return display.plot(ax=ax, **kwargs)

    @classmethod
    def from_predictions(
        cls,
        y_true: Any,
        y_pred: Any,
        *,
        tasks: Any = None,
        sample_weight: Any = None,
        baseline: Any = "constant",
        ax: Any = None,
        **kwargs: Any,
    ) -> TaskScoresDisplay:
        """Score predictions of each task on its observed targets, and plot.

        Parameters
        ----------
        y_true : array-like or frame of shape (n_samples,) or (n_samples, n_tasks)
            True targets, NaN where not observed.
        y_pred : array-like, frame or dict of str to array-like
            Predictions, laid out as `y_true`, or by the names of the tasks, as those of
            `sklearn_mtl.model_selection.cross_val_predict_tasks`.
        tasks : None, list of Task or dict of str to str or Task, default=None
            What the columns are, as in `MultiTaskCNNEstimator`. None infers it.
        sample_weight : array-like of shape (n_samples,) or (n_samples, n_tasks), default=None
            Weights of rows, or of single targets.
        baseline : 'constant', None or dict, default='constant'
            As in `from_estimator`.
        ax : matplotlib Axes, default=None
            Axes to plot on; None makes a new figure.
        **kwargs : dict
            Passed to `plot`.

        Returns
        -------
        display : TaskScoresDisplay
            It holds the scores, and what was drawn.
        """
        pyplot(cls.__name__)
        encoder = encoder_of(y_true, tasks)
        columns, weight = encoder.read(y_true, sample_weight)
        found = predicted_columns(encoder.names, y_pred, len(weight))
        _check_complete(encoder, columns, found)
        scores = score_columns(encoder.names, encoder.kinds_, columns, found, weight)
        beside, name = _baseline(baseline, encoder, columns, weight)
        if beside is None and baseline is not None:
            raise ValueError(
                f"baseline={baseline!r} is not understood. Pass 'constant', None or a dict."
            )
        display = cls(
            scores, baseline=beside, metrics=_metrics(encoder, columns), baseline_name=name
        )
        return display.plot(ax=ax, **kwargs)

    @classmethod
    def from_scores(
        cls,
        scores: Mapping[str, float],
        *,
        baseline: Mapping[str, float] | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> TaskScoresDisplay:
        """Plot scores that are known, such as `oob_score_`.

        Parameters
        ----------
        scores : dict of str to float
            Score of each task.
        baseline : dict of str to float, default=None
            Scores to stand beside.
        ax : matplotlib Axes, default=None
            Axes to plot on; None makes a new figure.
        **kwargs : dict
            Passed to `plot`.

        Returns
        -------
        display : TaskScoresDisplay
            It holds the scores, and what was drawn.
        """
        return cls(scores, baseline=baseline).plot(ax=ax, **kwargs)

    def plot(self, ax: Any = None, *, name: str = "model") -> TaskScoresDisplay:
        """Plot the scores.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to plot on; None makes a new figure.
        name : str, default='model'
            Label of the scores in the legend.

        Returns
        -------
        display : TaskScoresDisplay
            The object itself.
        """
        _check_scores("scores", self.scores)
        if self.baseline is not None:
            _check_scores("baseline", self.baseline)
        tasks = list(self.scores)
        unknown = sorted(set(self.baseline or ()) - set(tasks), key=str)
        if not tasks or unknown:
            raise ValueError(
                f"baseline names unknown tasks {unknown}; the tasks are {tasks}. Use these names."
                if unknown
                else "There are no scores. Pass a dict from task to score."
            )
        ax = one_axes(type(self).__name__, ax, (6.4, tall(len(tasks))))
        scores = np.array([self.scores[task] for task in tasks], dtype=float)
        beside = None
        if self.baseline is not None:
            beside = np.array([self.baseline.get(task, np.nan) for task in tasks], dtype=float)
        self._draw(ax, scores, beside, name)
        metrics = self.metrics or {}
        task_axis(ax, tasks)
        labels = [label.get_text() for label in ax.get_yticklabels()]
        told = [f"  ({metrics[task]})" if task in metrics else "" for task in tasks]
        ax.set_yticklabels([label + metric for label, metric in zip(labels, told, strict=True)])
        kinds = set(metrics.values())
        ax.set_xlabel(f"score ({kinds.pop()})" if len(kinds) == 1 else "score (1 is perfect)")
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _draw(self, ax: Any, scores: FloatArray, beside: FloatArray | None, name: str) -> None:
        """Draw points, those of the baseline, and what is between."""
        places = np.arange(len(scores))
        worse = np.zeros(len(scores), dtype=bool) if beside is None else scores < beside
        colors = [VERMILION if w else BLUE for w in worse]
        shown = np.maximum(scores, LOWEST)
        self.lines_ = self.baseline_points_ = None
        if beside is not None:
            self.lines_ = ax.hlines(
                places, np.maximum(beside, LOWEST), shown, colors=colors, linewidth=2.5, alpha=0.5
            )
            self.baseline_points_ = ax.scatter(
                beside, places, marker="|", s=90, linewidths=2, c=GREY, label=self.baseline_name
            )
        self.points_ = ax.scatter(scores, places, s=42, c=colors, zorder=3, label=name)
        known = scores[np.isfinite(scores)]
        others = known if beside is None else np.append(known, beside[np.isfinite(beside)])
        lowest = max(LOWEST, min(0.0, *others, 0.0)) if len(others) else 0.0
        ax.set_xlim(lowest - 0.03, max(1.0, *known, 1.0) + 0.03 if len(known) else 1.03)
        ax.axvline(0, color=GREY, linewidth=0.8, alpha=0.6, zorder=0)
        ax.grid(axis="x", alpha=0.25)
        for place, score in enumerate(scores):
            text = "no score" if np.isnan(score) else f"{score:.2f}"
            at = {"transform": ax.get_yaxis_transform(), "va": "center"}
            ax.text(1.02, place, text, fontsize="small", **at)
            if score < LOWEST:  # somewhere to the left
                ax.plot(LOWEST, place, marker="<", color=colors[place], clip_on=False)
        legend_above(ax, self._handles(ax, name, worse))

    def _handles(self, ax: Any, name: str, worse: NDArray[np.bool_]) -> list[Any]:
        """Entries of the legend: what there is, in its colours."""
        dot = {"marker": "o", "linestyle": "", "markersize": 6.5}
        line = pyplot(type(self).__name__).Line2D
        handles = []
        if not worse.all():
            handles.append(line([], [], color=BLUE, label=name, **dot))
        if worse.any():
            label = f"{name}, below the {self.baseline_name}"
            handles.append(line([], [], color=VERMILION, label=label, **dot))
        return handles + ([] if self.baseline_points_ is None else [self.baseline_points_])


def _check_scores(what: str, scores: Any) -> None:
    if not isinstance(scores, Mapping):
        raise TypeError(f"{what} is a {type(scores).__name__}. Pass a dict from task to score.")
    if bad := [name for name, score in scores.items() if not isinstance(score, Real)]:
        raise ValueError(
            f"{what} holds no number for {bad}. Pass one for each task, NaN where there is none."
        )


def _baseline(
    baseline: Any, encoder: TargetEncoder, columns: list[Column], weight: FloatArray
) -> tuple[dict[str, float] | None, str]:
    """Scores to stand beside, and what they are called; None if they are not known here."""
    if isinstance(baseline, Mapping):
        _check_scores("baseline", baseline)
        return {name: float(score) for name, score in baseline.items()}, "baseline"
    if not isinstance(baseline, str):
        return None, "baseline"
    if baseline != "constant":
        raise ValueError(
            f"baseline={baseline!r} is not understood. Pass 'constant', None, a dict from task to "
            "score, or a fitted estimator."
        )
    found = []
    for kind, column, w in zip(encoder.kinds_, columns, weight.T, strict=True):
        found.append(_constant(kind, column, w))
    scores = score_columns(encoder.names, encoder.kinds_, columns, found, weight, in_fit=True)
    return scores, "best constant"


def _constant(kind: Kind, column: Column, weight: FloatArray) -> NDArray[Any]:
    """Predict all rows by the constant that is best for those observed."""
    seen = column.seen
    codes = kind.encode(column.values[seen])
    known = codes >= 0 if kind.is_class else np.ones(len(codes), dtype=bool)
    if known.any():
        raw = kind.constant(codes[known], weight[seen][known])
    else:
        raw = np.zeros(kind.n_outputs)
    return kind.decode(np.broadcast_to(raw, (len(seen), 1, len(raw))))


def _metrics(encoder: TargetEncoder, columns: list[Column]) -> dict[str, str]:
    """Short names of the metrics of the tasks."""
    metrics = {}
    for name, kind, column in zip(encoder.names, encoder.kinds_, columns, strict=True):
        metric: Any = kind.metric
        long = getattr(getattr(metric, "func", metric), "__name__", "score")
        long = "concordance_index" if are_bounds(column.values) else long
        metrics[name] = SHORT.get(long, "D2" if long.startswith("d2_") else long)
    return metrics


def _check_complete(
    encoder: TargetEncoder, columns: list[Column], found: list[NDArray[Any]]
) -> None:
    """Refuse holes among predictions of targets that were observed."""
    for name, column, predicted in zip(encoder.names, columns, found, strict=True):
        if (rows := np.flatnonzero(holes(predicted) & column.seen)).size:
            raise ValueError(
                f"Task {name!r}: y_pred has no prediction in {len(rows)} rows in which the target "
                f"was observed, the first {rows[:5].tolist()}. Predict with "
                "conditional_output='estimate', or set these targets to NaN."
            )
