"""`TaskWeightsDisplay`: how much each task counts, epoch by epoch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sklearn_mtl._fitted import fitted_of
from sklearn_mtl.plotting.axes import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    one_axes,
    pyplot,
    shortened,
    tall,
    task_axis,
)
from sklearn_mtl.plotting.reading import choose

__all__ = ["TaskWeightsDisplay"]

FloatArray = NDArray[np.float64]

COLORS = (BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY, GREY)
DASHES = ("-", "--", ":", "-.")
MOST_LINES = 8  # that people can follow


class TaskWeightsDisplay:
    """Effective weights of the tasks over the epochs of a fit.

    They are the factors by which the losses, in standardised units, entered the gradients: how
    'logprod', 'uncertainty' or a rule of your own balanced the tasks. It is recommended to make one
    by `from_estimator`. All parameters are stored as attributes.

    Parameters
    ----------
    weights : ndarray of shape (n_epochs, n_tasks)
        As ``history_['effective_weight']`` of the estimator.
    task_names : list of str
        Names of the tasks.

    Attributes
    ----------
    lines_ : dict of str to Line2D, or None
        Weights of each task, by its name; None in a map.
    image_ : matplotlib AxesImage or None
        The map, in which a row is a task.
    ax_ : matplotlib Axes
        Axes with the plot.
    figure_ : matplotlib Figure
        Figure that holds it.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_mtl import MultiTaskCNNEstimator
    >>> from sklearn_mtl.plotting import TaskWeightsDisplay
    >>> X = np.random.default_rng(0).normal(size=(100, 3))
    >>> y = np.column_stack([X[:, 0] > 0, X[:, 1]])
    >>> estimator = MultiTaskCNNEstimator(max_epochs=4, random_state=0).fit(X, y)
    >>> display = TaskWeightsDisplay.from_estimator(estimator)
    >>> list(display.lines_)
    ['y0', 'y1']
    """

    def __init__(self, weights: FloatArray, task_names: Sequence[str]) -> None:
        self.weights = weights
        self.task_names = task_names

    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: Any = None, **kwargs: Any) -> TaskWeightsDisplay:
        """Plot the weights of a fitted estimator.

        Parameters
        ----------
        estimator : MultiTaskCNNEstimator, Pipeline, search or FrozenEstimator
            Fitted; of a search, the best one.
        ax : matplotlib Axes, default=None
            Axes to plot on; None makes a new figure.
        **kwargs : dict
            Passed to `plot`.

        Returns
        -------
        display : TaskWeightsDisplay
            It holds the weights, and what was drawn.
        """
        pyplot(cls.__name__)
        fitted = fitted_of(estimator)
        display = cls(fitted.history["effective_weight"], fitted.encoder.names)
        return display.plot(ax=ax, **kwargs)

    def plot(self, ax: Any = None, *, tasks: Any = None, kind: str = "auto") -> TaskWeightsDisplay:
        """Plot the weights.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to plot on; None makes a new figure.
        tasks : str or list of str, default=None
            Names of the tasks to show. None shows all.
        kind : {'auto', 'lines', 'map'}, default='auto'
            A line for each task, or a map with a row for each. 'auto' is lines for at most 8 tasks.

        Returns
        -------
        display : TaskWeightsDisplay
            The object itself.
        """
        if kind not in ("auto", "lines", "map"):
            raise ValueError(f"kind={kind!r} is unknown. Use 'auto', 'lines' or 'map'.")
        names, weights = list(self.task_names), np.asarray(self.weights, dtype=float)
        if weights.ndim != 2 or weights.shape[1] != len(names) or 0 in weights.shape:
            raise ValueError(
                f"weights has the shape {weights.shape}, but there are {len(names)} task_names. "
                "Pass a row for each epoch, one at least, and a column for each task."
            )
        shown = choose(names, tasks)
        weights = weights[:, shown]
        names = [names[k] for k in shown]
        self.lines_: dict[str, Any] | None = None
        self.image_: Any = None
        as_lines = kind == "lines" or (kind == "auto" and len(names) <= MOST_LINES)
        size = (6.4, 3.6 if as_lines else tall(len(names), 0.22))
        ax = one_axes(type(self).__name__, ax, size)
        (self._draw_lines if as_lines else self._draw_map)(ax, weights, names)
        ax.set_xlabel("epoch")
        ax.xaxis.get_major_locator().set_params(integer=True)
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _draw_lines(self, ax: Any, weights: FloatArray, names: list[str]) -> None:
        """Draw lines, and name them at their ends, in the order of these."""
        epochs = np.arange(1, len(weights) + 1)
        self.lines_ = lines = dict[str, Any]()
        for k, name in enumerate(names):
            look = {"color": COLORS[k % len(COLORS)], "linestyle": DASHES[k % len(DASHES)]}
            look |= {"marker": "o"} if len(weights) == 1 else {}
            (lines[name],) = ax.plot(epochs, weights[:, k], linewidth=2, **look)
            lines[name].set_label(shortened(name))
        if _spans_decades(weights):
            ax.set_yscale("log")
            ax.yaxis.set_major_formatter(_plain_ticks())
            ax.yaxis.set_minor_formatter(_plain_ticks())
        ax.set_ylabel("effective weight")
        ax.grid(alpha=0.25)
        for side in ("top", "right"):
            ax.spines[side].set_visible(False)
        order = np.argsort(-np.nan_to_num(weights[-1]), kind="stable")
        handles = [lines[names[k]] for k in order]
        ax.legend(handles=handles, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)

    def _draw_map(self, ax: Any, weights: FloatArray, names: list[str]) -> None:
        """Draw a map, in which light is a large weight."""
        plt = pyplot(type(self).__name__)
        colors = plt.matplotlib.colors
        norm = (colors.LogNorm if _spans_decades(weights) else colors.Normalize)()
        extent = (0.5, len(weights) + 0.5, len(names) - 0.5, -0.5)
        shown = np.ma.masked_where(~(weights.T > 0), weights.T)
        look = {"aspect": "auto", "interpolation": "none", "cmap": "cividis", "norm": norm}
        self.image_ = ax.imshow(shown, extent=extent, **look)
        task_axis(ax, names)
        ax.set_ylim(len(names) - 0.5, -0.5)
        bar = ax.figure.colorbar(self.image_, ax=ax, pad=0.02)
        bar.set_label("effective weight")
        if _spans_decades(weights):
            bar.ax.yaxis.set_major_formatter(_plain_ticks())
            bar.ax.yaxis.set_minor_formatter(_plain_ticks())


def _spans_decades(weights: FloatArray) -> bool:
    """Tell whether weights are so different that their logarithms are to be shown."""
    known = weights[np.isfinite(weights) & (weights > 0)]
    return len(known) > 0 and bool(known.max() > 10 * known.min())


def _plain_ticks() -> Any:
    """Return what writes ticks of logarithmic axes as plain numbers."""
    from matplotlib.ticker import LogFormatter

    return LogFormatter(minor_thresholds=(2, 0.4))
