"""`ConditionalTargetDisplay`: what is predicted of a target, and whether it applies."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sklearn_mtl._data.contents import holes
from sklearn_mtl._data.gates import holds
from sklearn_mtl._data.targets import TargetEncoder
from sklearn_mtl._fitted import fitted_of, through
from sklearn_mtl.kinds.values import are_numbers
from sklearn_mtl.plotting.axes import BLUE, GREY, ORANGE, legend_above, one_axes, pyplot, shortened
from sklearn_mtl.plotting.reading import as_numbers

__all__ = ["ConditionalTargetDisplay"]

FloatArray = NDArray[np.float64]


class ConditionalTargetDisplay:
    """Probability that a conditional target applies, against its predicted value.

    Each row of X is a point. The further right, the more sure the network is that the target
    applies; its height is the value that the target has if so. Colours say what is true. It is
    recommended to make one by `from_estimator` or `from_predictions`. All parameters are stored as
    attributes.

    Parameters
    ----------
    probability : ndarray of shape (n_samples,)
        Probability that the target applies.
    y_pred : ndarray of shape (n_samples,)
        What is predicted if it applies: numbers or labels.
    applies : array-like of shape (n_samples,), default=None
        1 or True where it applies, 0 or False where not, NaN where nobody knows. None is that
        nobody knows anything.
    boundary : float, default=None
        Probability from which on the target is predicted to apply.
    task_name : str, default='target'
        Name of the task.
    condition : str, default='it applies'
        When it applies, in words, for the axis of probabilities.
    labels : array-like, default=None
        Labels of a class in the order in which they are to stand above each other. None sorts
        them.

    Attributes
    ----------
    points_ : dict of str to PathCollection
        Points: 'applies', 'does not apply' and 'not known', those that there are.
    boundary_ : matplotlib Line2D or None
        The boundary.
    ax_ : matplotlib Axes
        Axes with the plot.
    figure_ : matplotlib Figure
        Figure that holds it.

    See Also
    --------
    TargetsDisplay : Where targets apply and were observed.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_mtl import MultiTaskCNNEstimator, Task
    >>> from sklearn_mtl.plotting import ConditionalTargetDisplay
    >>> X = np.random.default_rng(0).normal(size=(100, 3))
    >>> defect = X[:, 0] > 0
    >>> y = np.column_stack([defect, np.where(defect, X[:, 1], np.nan)])
    >>> tasks = [Task("defect", "classification"), Task("size", "regression", given=("defect", 1))]
    >>> estimator = MultiTaskCNNEstimator(tasks, random_state=0).fit(X, y)
    >>> display = ConditionalTargetDisplay.from_estimator(estimator, X, y)
    >>> display.task_name, display.condition
    ('size', 'defect is 1')
    """

    def __init__(
        self,
        probability: FloatArray,
        y_pred: NDArray[Any],
        *,
        applies: Any = None,
        boundary: float | None = None,
        task_name: str = "target",
        condition: str = "it applies",
        labels: Any = None,
    ) -> None:
        self.probability = probability
        self.y_pred = y_pred
        self.applies = applies
        self.boundary = boundary
        self.task_name = task_name
        self.condition = condition
        self.labels = labels

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any = None,
        *,
        task: str | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> ConditionalTargetDisplay:
        """Predict by a fitted estimator, and plot.

        Parameters
        ----------
        estimator : MultiTaskCNNEstimator, Pipeline, search or FrozenEstimator
            Fitted. X goes through the transformers of a pipeline.
        X : array-like of shape (n_samples, ...)
            As the estimator takes it.
        y : array-like or frame of shape (n_samples,) or (n_samples, n_tasks), default=None
            True targets, laid out as in `fit`, of which gates are read. None plots all points as
            not known.
        task : str, default=None
            Name of a task with ``given=``. None is the only one.
        ax : matplotlib Axes, default=None
            Axes to plot on; None makes a new figure.
        **kwargs : dict
            Passed to `plot`.

        Returns
        -------
        display : ConditionalTargetDisplay
            It holds the predictions, and what was drawn.

        Raises
        ------
        ValueError
            If `task` is not conditional, or is needed as there are several.
        """
        pyplot(cls.__name__)
        fitted = fitted_of(estimator)
        encoder = fitted.encoder
        k = _conditional(encoder, task)
        raw = fitted.raw(through(estimator, X))
        predicted = encoder.decode(raw)
        holding, probability = encoder.chains(raw, predicted)[k]
        applies = None if y is None else _applies(encoder, k, y, len(probability))
        display = cls(
            probability,
            predicted[k],
            applies=applies,
            boundary=_boundary(probability, holding),
            task_name=encoder.names[k],
            condition=_condition(encoder, k),
            labels=encoder.classes.get(k),
        )
        return display.plot(ax=ax, **kwargs)

    @classmethod
    def from_predictions(
        cls,
        probability: Any,
        y_pred: Any,
        *,
        applies: Any = None,
        task_name: str = "target",
        condition: str = "it applies",
        ax: Any = None,
        **kwargs: Any,
    ) -> ConditionalTargetDisplay:
        """Plot predictions, such as those of rows that were left out.

        Parameters
        ----------
        probability : array-like of shape (n_samples,)
            Probability that the target applies.
        y_pred : array-like of shape (n_samples,)
            What is predicted if it applies; NaN or None where nothing is, which is not drawn.
        applies : array-like of shape (n_samples,), default=None
            1 where it applies, 0 where not, NaN where nobody knows.
        task_name : str, default='target'
            Name of the task.
        condition : str, default='it applies'
            When it applies, in words, for the axis of probabilities.
        ax : matplotlib Axes, default=None
            Axes to plot on; None makes a new figure.
        **kwargs : dict
            Passed to `plot`.

        Returns
        -------
        display : ConditionalTargetDisplay
            It holds the predictions, and what was drawn.
        """
        probability, y_pred = np.asarray(probability, dtype=float), np.asarray(y_pred)
        said = {"applies": applies, "task_name": task_name, "condition": condition}
        return cls(probability, y_pred, **said).plot(ax=ax, **kwargs)

    def plot(self, ax: Any = None, *, scatter_kwargs: Any = None) -> ConditionalTargetDisplay:
        """Plot the points.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to plot on; None makes a new figure.
        scatter_kwargs : dict, default=None
            Passed to `matplotlib.axes.Axes.scatter`.

        Returns
        -------
        display : ConditionalTargetDisplay
            The object itself.
        """
        n = len(self.probability)
        applies = np.full(n, np.nan) if self.applies is None else np.asarray(self.applies, float)
        if not n == len(self.y_pred) == len(applies):
            raise ValueError(
                f"probability has {n} rows, y_pred {len(self.y_pred)} and applies {len(applies)}. "
                "Pass one value of each for each row."
            )
        ax = one_axes(type(self).__name__, ax, (6.4, 4.4))
        heights = self._heights(ax)
        known = ~np.isnan(applies)
        groups = {
            "does not apply": (
                known & (applies < 0.5),
                {"facecolors": "none", "edgecolors": ORANGE},
            ),
            "not known": (~known, {"c": GREY}),
            "applies": (applies > 0.5, {"c": BLUE}),
        }
        size = {"s": 26 if n < 500 else 12, "alpha": 0.75} | (scatter_kwargs or {})
        self.points_ = {}
        for name, (rows, look) in groups.items():
            if rows.any():
                where = self.probability[rows], heights[rows]
                label = f"{name} ({rows.sum():,})"
                self.points_[name] = ax.scatter(*where, label=label, **(look | size))
        self.boundary_ = None
        if self.boundary is not None:
            line = {"color": GREY, "linestyle": "--", "linewidth": 1, "zorder": 0}
            self.boundary_ = ax.axvline(self.boundary, **line)
            ax.axvspan(-0.03, self.boundary, color=GREY, alpha=0.12, linewidth=0, zorder=0)
        name = shortened(self.task_name)
        ax.set(xlim=(-0.03, 1.03), xlabel=f"probability that {self.condition}")
        ax.set_ylabel(f"{name}\nas predicted, if it applies")
        for side in ("top", "right"):
            ax.spines[side].set_visible(False)
        legend_above(ax)
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _heights(self, ax: Any) -> FloatArray:
        """Heights of the points; those of labels are spread a little, as many have the same."""
        predicted = as_numbers(self.y_pred)
        if self.labels is None and are_numbers(predicted):
            return predicted.astype(float)
        seen = ~holes(predicted)
        found = predicted[seen].tolist()
        labels = sorted(set(found)) if self.labels is None else list(self.labels)
        place = {label: i for i, label in enumerate(labels)}
        ax.set_yticks(range(len(labels)), [shortened(str(label)) for label in labels])
        heights = np.full(len(predicted), np.nan)
        heights[seen] = [place[label] for label in found]
        return heights + np.random.default_rng(0).uniform(-0.25, 0.25, len(predicted))


def _conditional(encoder: TargetEncoder, task: str | None) -> int:
    """Position of the conditional task to show."""
    names = encoder.names
    gated = [names[k] for k, gate in enumerate(encoder.gates) if gate is not None]
    if task is None and len(gated) == 1:
        return names.index(gated[0])
    if task in gated:
        return names.index(task)
    if not gated:
        raise ValueError(f"None of the tasks {names} is conditional. Declare one with given=.")
    raise ValueError(f"task={task!r} does not fit. Pass one of the conditional tasks {gated}.")


def _condition(encoder: TargetEncoder, k: int) -> str:
    """Say when a task applies; of its chain of gates, what is nearest."""
    task = encoder.tasks_[k]
    gate = task.given[0] if task.given else ""
    said = f"{shortened(gate)} is {shortened(' or '.join(map(str, task.labels)))}"
    above = encoder.gates[k]
    return said if above is None or encoder.gates[above] is None else f"{said}, and applies itself"


def _applies(encoder: TargetEncoder, k: int, y: Any, n: int) -> FloatArray:
    """Tell where task `k` applies: 1, 0, or NaN where nobody knows."""
    columns, weight = encoder.read(y)
    if len(weight) != n:
        raise ValueError(f"X has {n} rows, but y has {len(weight)}. Pass the same rows of both.")
    gate = encoder.gates[k]
    if gate is None:
        return np.ones(n)
    applies, known = np.full(n, np.nan), columns[gate].seen
    applies[known] = holds(encoder.tasks_[k], columns[gate].values[known])
    applies[_applies(encoder, gate, y, n) == 0] = 0
    applies[columns[k].seen] = 1
    return applies


def _boundary(probability: FloatArray, holding: NDArray[np.bool_]) -> float | None:
    """Return the probability that parts rows in which a target is predicted to apply from others.

    None if no probability does, as for a gate of several classes.
    """
    low = probability[~holding].max(initial=0.0)
    high = probability[holding].min(initial=1.0)
    if low > high:
        return None
    return 0.5 if low <= 0.5 <= high else float(low + high) / 2
