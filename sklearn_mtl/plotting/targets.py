"""`TargetsDisplay`: the holes of y."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sklearn_mtl._data.gates import gates_first, holds
from sklearn_mtl._data.targets import TargetEncoder
from sklearn_mtl._fitted import fitted_of
from sklearn_mtl.plotting.axes import (
    BLUE,
    GREY,
    ORANGE,
    PURPLE,
    legend_above,
    one_axes,
    pyplot,
    shortened,
    tall,
    task_axis,
)
from sklearn_mtl.plotting.reading import encoder_of

__all__ = ["TargetsDisplay"]

# What a cell of y can be, in the order of its numbers.
STATES = ("observed", "missing", "not applicable", "gate missing")
COLORS = (BLUE, ORANGE, GREY, PURPLE)
OBSERVED, MISSING, NOT_APPLICABLE, GATE_MISSING = range(4)

MOST_ROWS = 2000  # of a picture of rows, which has no more pixels


class TargetsDisplay:
    """What was observed of each task, what is missing, and what does not apply.

    It is recommended to make one by `from_targets` or `from_estimator`. All parameters are stored
    as attributes.

    Parameters
    ----------
    states : ndarray of int of shape (n_samples, n_tasks)
        What each cell of y is: 0 observed; 1 missing; 2 not applicable, as the gate of a
        conditional target does not hold; 3 not observed either, but the gate is missing, so that
        nobody knows whether the target applies.
    task_names : list of str
        Names of the tasks.

    Attributes
    ----------
    counts_ : ndarray of int of shape (n_tasks, 4)
        Number of cells of each state.
    bars_ : dict of str to BarContainer, or None
        Bars of a state, by its name; None in a plot of rows.
    image_ : matplotlib AxesImage or None
        The rows, if they were plotted.
    ax_ : matplotlib Axes
        Axes with the plot.
    figure_ : matplotlib Figure
        Figure that holds it.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn_mtl import Task
    >>> from sklearn_mtl.plotting import TargetsDisplay
    >>> y = pd.DataFrame({"defect": ["yes", "no", None, "yes"], "size": [2.0, None, None, None]})
    >>> tasks = [
    ...     Task("defect", "classification"),
    ...     Task("size", "regression", given=("defect", "yes")),
    ... ]
    >>> display = TargetsDisplay.from_targets(y, tasks=tasks)
    >>> display.counts_
    array([[3, 1, 0, 0],
           [1, 1, 1, 1]])
    """

    def __init__(self, states: NDArray[np.int_], task_names: Sequence[str]) -> None:
        self.states = states
        self.task_names = task_names

    @classmethod
    def from_targets(
        cls, y: Any, *, tasks: Any = None, missing_values: Any = None, ax: Any = None, **kwargs: Any
    ) -> TargetsDisplay:
        """Read a y, before anything is fitted, and plot.

        Parameters
        ----------
        y : array-like or frame of shape (n_samples,) or (n_samples, n_tasks)
            Targets; NaN, None or ``pd.NA`` where not observed.
        tasks : None, list of Task or dict of str to str or Task, default=None
            What the columns are, as in `MultiTaskCNNEstimator`. None infers it; only declared tasks
            are conditional.
        missing_values : float, int, str or list of these, default=None
            Values that mean *not observed* too.
        ax : matplotlib Axes, default=None
            Axes to plot on; None makes a new figure.
        **kwargs : dict
            Passed to `plot`.

        Returns
        -------
        display : TargetsDisplay
            It holds the states of the cells, and what was drawn.

        Raises
        ------
        ValueError
            If nothing is observed at all, or y does not fit the tasks.
        """
        pyplot(cls.__name__)
        encoder = encoder_of(y, tasks, missing_values)
        return cls(_states(encoder, y), encoder.names).plot(ax=ax, **kwargs)

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: Any, y: Any, *, ax: Any = None, **kwargs: Any
    ) -> TargetsDisplay:
        """Read a y as a fitted estimator does, and plot.

        Parameters
        ----------
        estimator : MultiTaskCNNEstimator, Pipeline, search or FrozenEstimator
            Fitted.
        X : array-like
            Not used, present for consistency with other displays.
        y : array-like or frame of shape (n_samples,) or (n_samples, n_tasks)
            Targets, laid out as in `fit`.
        ax : matplotlib Axes, default=None
            Axes to plot on; None makes a new figure.
        **kwargs : dict
            Passed to `plot`.

        Returns
        -------
        display : TargetsDisplay
            It holds the states of the cells, and what was drawn.
        """
        pyplot(cls.__name__)
        encoder = fitted_of(estimator).encoder
        return cls(_states(encoder, y), encoder.names).plot(ax=ax, **kwargs)

    def plot(self, ax: Any = None, *, kind: str = "shares") -> TargetsDisplay:
        """Plot the holes.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to plot on; None makes a new figure.
        kind : {'shares', 'rows'}, default='shares'
            A bar for each task with the shares of its rows; or all rows, from the first one at the
            top, with a column for each task, which shows what is missing together.

        Returns
        -------
        display : TargetsDisplay
            The object itself.
        """
        if kind not in ("shares", "rows"):
            raise ValueError(f"kind={kind!r} is unknown. Use 'shares' or 'rows'.")
        names = list(self.task_names)
        self.counts_ = np.stack(
            [(self.states == s).sum(axis=0) for s in range(len(STATES))], axis=1
        )
        self.bars_: dict[str, Any] | None = None
        self.image_: Any = None
        if kind == "shares":
            ax = one_axes(type(self).__name__, ax, (6.4, tall(len(names))))
            self._draw_shares(ax, names)
        else:
            ax = one_axes(type(self).__name__, ax, (max(4.8, 1 + 0.3 * len(names)), 4.8))
            self._draw_rows(ax, names)
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _draw_shares(self, ax: Any, names: list[str]) -> None:
        shares = self.counts_ / len(self.states)
        places, left = np.arange(len(names)), np.zeros(len(names))
        self.bars_ = bars = dict[str, Any]()
        for state in np.flatnonzero(self.counts_.any(axis=0)):
            faint = {"alpha": 0.45} if state == NOT_APPLICABLE else {}
            look = {"color": COLORS[state], "label": STATES[state], "height": 0.72} | faint
            bars[STATES[state]] = ax.barh(places, shares[:, state], left=left, **look)
            left += shares[:, state]
        for place, observed in enumerate(self.counts_[:, OBSERVED]):
            at = {"transform": ax.get_yaxis_transform(), "va": "center", "fontsize": "small"}
            ax.text(1.02, place, f"{observed:,}", **at)
        ax.set(xlim=(0, 1), xlabel=f"share of {len(self.states):,} rows (right: observed)")
        ax.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
        task_axis(ax, names)
        legend_above(ax)

    def _draw_rows(self, ax: Any, names: list[str]) -> None:
        plt = pyplot(type(self).__name__)
        n = len(self.states)
        shown = self.states[np.linspace(0, n - 1, min(n, MOST_ROWS)).astype(int)]
        colors = [*COLORS[:2], "#C6C6C6", COLORS[3]]
        from matplotlib.colors import ListedColormap

        look = {"cmap": ListedColormap(colors), "vmin": -0.5, "vmax": len(STATES) - 0.5}
        extent = (-0.5, len(names) - 0.5, n, 0)
        self.image_ = ax.imshow(shown, aspect="auto", interpolation="none", extent=extent, **look)
        many = len(names) > 4 or max(map(len, names)) > 12
        turn = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if many else {}
        ax.set_xticks(range(len(names)), [shortened(name) for name in names], **turn)
        ax.set_ylabel("row")
        present = np.flatnonzero(self.counts_.any(axis=0))
        patch = plt.matplotlib.patches.Patch
        legend_above(ax, [patch(color=colors[s], label=STATES[s]) for s in present], n_cols=2)


def _states(encoder: TargetEncoder, y: Any) -> NDArray[np.int_]:
    """Say of each cell of y what it is."""
    columns, _ = encoder.read(y)
    states = np.full((len(columns[0].seen), len(columns)), MISSING)
    for k in gates_first(encoder.gates):
        gate = encoder.gates[k]
        if gate is not None:
            known = columns[gate].seen
            opens = np.zeros_like(known)
            opens[known] = holds(encoder.tasks_[k], columns[gate].values[known])
            states[~known, k] = GATE_MISSING
            states[(known & ~opens) | (states[:, gate] == NOT_APPLICABLE), k] = NOT_APPLICABLE
        states[columns[k].seen, k] = OBSERVED
    return states
