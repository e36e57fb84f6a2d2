"""`TaskErrorsDisplay`: predicted against observed numbers of each task, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sklearn_mtl._data.tables import Column
from sklearn_mtl._data.targets import TargetEncoder
from sklearn_mtl._fitted import fitted_of, through
from sklearn_mtl._intervals import intervals, levels_of, why_no_intervals
from sklearn_mtl.kinds.bounds import are_bounds, exact
from sklearn_mtl.plotting.axes import BLUE, GREY, VERMILION, axes_for, pyplot, shortened
from sklearn_mtl.plotting.reading import choose, encoder_of, predicted_columns

__all__ = ["TaskErrorsDisplay"]

FloatArray = NDArray[np.float64]


class TaskErrorsDisplay:
    """Predicted against observed numbers, a panel for each task, with prediction intervals.

    It is scikit-learn's `PredictionErrorDisplay` for several tasks with holes. Each observed target
    is a point; a line through it is the interval in which it was expected. Points outside are
    vermilion, and titles say how many are inside. It is recommended to make one by
    `from_estimator` or `from_predictions`. All parameters are stored as attributes.

    Parameters
    ----------
    y_true : list of ndarray of shape (n_samples,)
        Observed numbers of each task, NaN where not observed.
    y_pred : list of ndarray of shape (n_samples,)
        Predicted numbers of each task.
    task_names : list of str
        Names of the tasks.
    intervals : list of ndarray of shape (n_samples, 2), default=None
        Intervals of each task.
    confidence : float, default=None
        Share of targets that are expected to be inside, for titles.

    Attributes
    ----------
    points_, outside_ : dict of str to PathCollection
        Points by the name of the task: those inside of their intervals, or all without; and those
        outside.
    interval_lines_ : dict of str to LineCollection
        Intervals by the name of the task; empty without.
    line_ : dict of str to Line2D
        Where observed and predicted numbers are the same, by the name of the task.
    axes_ : ndarray of Axes of shape (n_panels,)
        Axes of the tasks.
    figure_ : matplotlib Figure
        Figure that holds them.

    See Also
    --------
    sklearn.metrics.PredictionErrorDisplay : The same for one task, by `task_view`.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_mtl import MultiTaskCNNEstimator
    >>> from sklearn_mtl.plotting import TaskErrorsDisplay
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 3))
    >>> y = np.column_stack([X[:, 0] > 0, X[:, 1] + 0.3 * rng.normal(size=200)])
    >>> estimator = MultiTaskCNNEstimator(random_state=0).fit(X[:150], y[:150])
    >>> display = TaskErrorsDisplay.from_estimator(estimator, X[150:], y[150:])
    >>> display.task_names
    ['y1']
    """

    def __init__(
        self,
        y_true: Sequence[FloatArray],
        y_pred: Sequence[FloatArray],
        task_names: Sequence[str],
        *,
        intervals: Sequence[FloatArray] | None = None,
        confidence: float | None = None,
    ) -> None:
        self.y_true = y_true
        self.y_pred = y_pred
        self.task_names = task_names
        self.intervals = intervals
        self.confidence = confidence

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        confidence: float | None = 0.9,
        ax: Any = None,
        **kwargs: Any,
    ) -> TaskErrorsDisplay:
        """Predict by a fitted estimator, and plot.

        Parameters
        ----------
        estimator : MultiTaskCNNEstimator, Pipeline, search or FrozenEstimator
            Fitted. X goes through the transformers of a pipeline.
        X : array-like of shape (n_samples, ...)
            As the estimator takes it.
        y : array-like or frame of shape (n_samples,) or (n_samples, n_tasks)
            True targets, laid out as in `fit`. Those that are known within bounds are left out.
        confidence : float or None, default=0.9
            Share of new targets that are to be inside the intervals, as in `predict_interval`. None
            plots no intervals.
        ax : matplotlib Axes or array-like of Axes, default=None
            Axes for each panel, or one to be divided; None makes a new figure.
        **kwargs : dict
            Passed to `plot`.

        Returns
        -------
        display : TaskErrorsDisplay
            It holds the predictions, and what was drawn.

        Raises
        ------
        ValueError
            If no task is a number, or there are no intervals, as the fit left out no rows: then
            pass ``confidence=None``.
        """
        pyplot(cls.__name__)
        fitted = fitted_of(estimator)
        encoder = fitted.encoder
        numbers = _numbers(encoder)
        raw = fitted.raw(through(estimator, X))
        columns, weight = encoder.read(y)
        if len(weight) != len(raw):
            raise ValueError(
                f"X has {len(raw)} rows, but y has {len(weight)}. Pass the same rows of both."
            )
        predicted, inside = encoder.decode(raw), None
        if confidence is not None:
            if (why := why_no_intervals(encoder, fitted.errors)) is not None:
                raise ValueError(f"{why} Pass confidence=None to plot none.")
            levels, single = levels_of(confidence)
            if not single:
                raise ValueError(f"confidence={confidence!r} is no level. Pass a number, or None.")
            found = intervals(encoder, fitted.errors, raw, levels, "estimate")
            inside = [_or_nan(found[k], len(raw)) for k in numbers]
        display = cls(
            [_observed(columns[k]) for k in numbers],
            [predicted[k].astype(float) for k in numbers],
            [encoder.names[k] for k in numbers],
            intervals=inside,
            confidence=confidence,
        )
        return display.plot(ax=ax, **kwargs)

    @classmethod
    def from_predictions(
        cls,
        y_true: Any,
        y_pred: Any,
        *,
        intervals: Any = None,
        confidence: float | None = None,
        tasks: Any = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> TaskErrorsDisplay:
        """Plot predictions that are known, such as those of rows that were left out.

        Parameters
        ----------
        y_true : array-like or frame of shape (n_samples,) or (n_samples, n_tasks)
            True targets, NaN where not observed.
        y_pred : array-like, frame or dict of str to array-like
            Predictions, laid out as `y_true`, or by the names of the tasks.
        intervals : dict of str to array-like of shape (n_samples, 2), default=None
            Lower and upper ends by the names of tasks.
        confidence : float, default=None
            Share of targets that are expected to be inside, for titles.
        tasks : None, list of Task or dict of str to str or Task, default=None
            What the columns are, as in `MultiTaskCNNEstimator`. None infers it.
        ax : matplotlib Axes or array-like of Axes, default=None
            Axes for each panel, or one to be divided; None makes a new figure.
        **kwargs : dict
            Passed to `plot`.

        Returns
        -------
        display : TaskErrorsDisplay
            It holds the predictions, and what was drawn.
        """
        pyplot(cls.__name__)
        encoder = encoder_of(y_true, tasks)
        numbers, names = _numbers(encoder), encoder.names
        columns, weight = encoder.read(y_true)
        predicted = predicted_columns(names, y_pred, len(weight))
        inside = None if intervals is None else _given(intervals, encoder, numbers, len(weight))
        display = cls(
            [_observed(columns[k]) for k in numbers],
            [predicted[k].astype(float) for k in numbers],
            [names[k] for k in numbers],
            intervals=inside,
            confidence=confidence,
        )
        return display.plot(ax=ax, **kwargs)

    def plot(
        self,
        ax: Any = None,
        *,
        kind: str = "actual_vs_predicted",
        tasks: Any = None,
        n_cols: int | None = None,
        scatter_kwargs: Any = None,
    ) -> TaskErrorsDisplay:
        """Plot the points.

        Parameters
        ----------
        ax : matplotlib Axes or array-like of Axes, default=None
            Axes for each panel, or one to be divided; None makes a new figure.
        kind : {'actual_vs_predicted', 'residual_vs_predicted'}, default='actual_vs_predicted'
            Observed numbers, or observed minus predicted ones, against predicted ones.
        tasks : str or list of str, default=None
            Names of the tasks to show. None shows all that are numbers.
        n_cols : int, default=None
            Panels side by side; None is at most 6.
        scatter_kwargs : dict, default=None
            Passed to `matplotlib.axes.Axes.scatter`.

        Returns
        -------
        display : TaskErrorsDisplay
            The object itself.
        """
        if kind not in ("actual_vs_predicted", "residual_vs_predicted"):
            raise ValueError(
                f"kind={kind!r} is unknown. Use 'actual_vs_predicted' or 'residual_vs_predicted'."
            )
        names = list(self.task_names)
        shown = choose(names, tasks)
        many = len(shown) > 6
        panel = (2.0, 2.0) if many else (3.2, 3.2)
        axes = axes_for(type(self).__name__, ax, len(shown), panel, n_cols)
        self.points_: dict[str, Any] = {}
        self.outside_: dict[str, Any] = {}
        self.interval_lines_: dict[str, Any] = {}
        self.line_: dict[str, Any] = {}
        for panel_ax, k in zip(axes, shown, strict=True):
            share = self._draw(panel_ax, k, kind == "residual_vs_predicted", scatter_kwargs or {})
            title = shortened(names[k], 20 if many else 28)
            if share is not None:
                of = "" if self.confidence is None else f" ({self.confidence:.0%} expected)"
                title += f"\n{share:.0%} inside" + ("" if many else of)
            panel_ax.set_title(title, fontsize="small" if many else "medium")
            panel_ax.tick_params(labelsize="small" if many else "medium")
        for panel_ax in axes[-min(len(axes), 6) :]:
            panel_ax.set_xlabel("predicted")
        axes[0].set_ylabel("observed" + (" \N{MINUS SIGN} predicted" if kind[0] == "r" else ""))
        self.axes_, self.figure_ = axes, axes[0].figure
        return self

    def _draw(self, ax: Any, k: int, residuals: bool, style: dict[str, Any]) -> float | None:
        """Draw a task, and return the share of points that are inside of their intervals."""
        name, true, predicted = self.task_names[k], self.y_true[k], self.y_pred[k]
        rows = np.flatnonzero(~np.isnan(true) & ~np.isnan(predicted))
        true, predicted = true[rows], predicted[rows]
        below = predicted if residuals else np.zeros_like(predicted)
        inside, share = np.ones(len(rows), dtype=bool), None
        look = {"s": 18 if len(rows) < 300 else 7, "alpha": 0.8, "zorder": 3} | style
        if self.intervals is not None:
            low, high = np.asarray(self.intervals[k], dtype=float)[rows].T
            known = ~(np.isnan(low) | np.isnan(high))
            inside = ~known | ((low <= true) & (true <= high))
            share = float(inside[known].mean()) if known.any() else None
            faint = {"colors": GREY, "linewidth": 0.8, "alpha": 0.45 if len(rows) < 300 else 0.15}
            lines = ax.vlines(predicted, low - below, high - below, **faint)
            self.interval_lines_[name] = lines
        heights = true - below
        self.points_[name] = ax.scatter(predicted[inside], heights[inside], c=BLUE, **look)
        self.outside_[name] = ax.scatter(predicted[~inside], heights[~inside], c=VERMILION, **look)
        line = {"color": GREY, "linestyle": "--", "linewidth": 1, "zorder": 1}
        if residuals:
            self.line_[name] = ax.axhline(0, **line)
        else:
            ends = [min([*true, *predicted], default=0), max([*true, *predicted], default=1)]
            (self.line_[name],) = ax.plot(ends, ends, **line)
        ax.grid(alpha=0.25)
        for side in ("top", "right"):
            ax.spines[side].set_visible(False)
        return share


def _numbers(encoder: TargetEncoder) -> list[int]:
    """Positions of the tasks that are numbers."""
    numbers = [k for k, kind in enumerate(encoder.kinds_) if not kind.is_class]
    if not numbers:
        raise ValueError(
            f"None of the tasks {encoder.names} is a number. Use ConfusionMatrixDisplay of "
            "scikit-learn with task_view, or TaskScoresDisplay."
        )
    return numbers


def _observed(column: Column) -> FloatArray:
    """Numbers, NaN where they were not observed, or not exactly."""
    values, seen = column.values, column.seen.copy()
    if are_bounds(values):
        seen[seen] = exact(values[seen])
        values = values["lower"]
    return np.where(seen, values, np.nan).astype(float)


def _or_nan(interval: NDArray[Any] | None, n: int) -> FloatArray:
    return np.full((n, 2), np.nan) if interval is None else interval[:, :, 0].astype(float)


def _given(given: Any, encoder: TargetEncoder, numbers: list[int], n: int) -> list[FloatArray]:
    """Read intervals by the names of tasks; those of others are NaN."""
    if not isinstance(given, Mapping):
        raise ValueError(f"intervals is a {type(given).__name__}. Pass a dict from task to (n, 2).")
    names = [encoder.names[k] for k in numbers]
    if unknown := [name for name in given if name not in names]:
        raise ValueError(f"intervals names {unknown}, but the tasks that are numbers are {names}.")
    found = []
    for name in names:
        interval = np.asarray(given.get(name, np.full((n, 2), np.nan)), dtype=float)
        if interval.shape != (n, 2):
            raise ValueError(f"intervals[{name!r}] has shape {interval.shape}. Pass ({n}, 2).")
        found.append(interval)
    return found
