"""`TransferDisplay`: what learning the tasks together is worth, a forest plot."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

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

__all__ = ["TransferDisplay"]

FloatArray = NDArray[np.float64]

COLUMNS = ("joint", "separate", "difference", "ci_low", "ci_high", "verdict")

# Verdicts: how they are drawn, and what they are called. Losses are as plain as wins.
VERDICTS = {
    "joint": ({"color": BLUE, "marker": "o"}, "joint is better"),
    "separate": ({"color": VERMILION, "marker": "s"}, "separate is better"),
    "undecided": ({"color": GREY, "marker": "D"}, "undecided"),
}


class TransferDisplay:
    """Difference of the scores of the joint model and of separate ones, with its interval, by task.

    To the right of 0, learning the tasks together is better. It is recommended to make one by
    `from_report`. All parameters are stored as attributes.

    Parameters
    ----------
    report : DataFrame of shape (n_tasks, n_columns)
        As `sklearn_mtl.inspection.transfer_report` returns it, with the columns 'joint',
        'separate', 'difference', 'ci_low', 'ci_high' and 'verdict'.

    Attributes
    ----------
    points_ : list of Line2D
        Differences, in the order of the tasks.
    intervals_ : LineCollection
        Intervals of the tasks that have one.
    ax_ : matplotlib Axes
        Axes with the plot.
    figure_ : matplotlib Figure
        Figure that holds it.

    See Also
    --------
    sklearn_mtl.inspection.transfer_report : What is shown.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn_mtl.plotting import TransferDisplay
    >>> report = pd.DataFrame(
    ...     {"joint": [0.8, 0.5], "separate": [0.7, 0.6], "difference": [0.1, -0.1]}
    ...     | {"ci_low": [0.05, -0.3], "ci_high": [0.15, 0.1], "verdict": ["joint", "undecided"]},
    ...     index=["defect", "size"],
    ... )
    >>> display = TransferDisplay.from_report(report)
    >>> [float(point.get_xdata()[0]) for point in display.points_]
    [0.1, -0.1]
    """

    def __init__(self, report: pd.DataFrame) -> None:
        self.report = report

    @classmethod
    def from_report(cls, report: Any, *, ax: Any = None, **kwargs: Any) -> TransferDisplay:
        """Plot a report, or some of its rows.

        Parameters
        ----------
        report : DataFrame of shape (n_tasks, n_columns)
            As `sklearn_mtl.inspection.transfer_report` returns it; rows may be sorted, or left out.
        ax : matplotlib Axes, default=None
            Axes to plot on; None makes a new figure.
        **kwargs : dict
            Passed to `plot`.

        Returns
        -------
        display : TransferDisplay
            It holds the report, and what was drawn.
        """
        return cls(report).plot(ax=ax, **kwargs)

    def plot(self, ax: Any = None, *, sort: bool = False) -> TransferDisplay:
        """Plot the differences.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to plot on; None makes a new figure.
        sort : bool, default=False
            Whether to order tasks by their difference, the largest one above, instead of as they
            are in the report.

        Returns
        -------
        display : TransferDisplay
            The object itself.
        """
        report, columns = self.report, getattr(self.report, "columns", ())
        lacking = [name for name in COLUMNS if name not in columns]
        if lacking or not len(report):
            raise ValueError(
                f"report lacks the columns {lacking}, or has no rows. Pass what transfer_report "
                "returns."
            )
        if sort:
            report = report.sort_values("difference", ascending=False)
        ax = one_axes(type(self).__name__, ax, (6.4, tall(len(report))))
        self._draw(ax, report)
        task_axis(ax, [str(name) for name in report.index])
        ax.set_xlabel("score of the joint model \N{MINUS SIGN} that of separate models")
        for place, (_, row) in enumerate(report.iterrows()):
            at = {"transform": ax.get_yaxis_transform(), "va": "center", "fontsize": "small"}
            text = f"{row['joint']:.2f} / {row['separate']:.2f}"
            ax.text(1.02, place, text, **at)
        ax.text(1.02, -0.75, "joint / separate", **at, color=GREY)
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _draw(self, ax: Any, report: pd.DataFrame) -> None:
        plt = pyplot(type(self).__name__)
        low, high = (report[name].to_numpy(dtype=float) for name in ("ci_low", "ci_high"))
        verdicts = [v if v in VERDICTS else "undecided" for v in report["verdict"]]
        looks = [VERDICTS[verdict][0] for verdict in verdicts]
        known = np.flatnonzero(np.isfinite(low) & np.isfinite(high))
        ax.axvline(0, color=GREY, linewidth=1, zorder=0)
        ax.grid(axis="x", alpha=0.25)
        colors = [looks[k]["color"] for k in known]
        self.intervals_ = ax.hlines(known, low[known], high[known], colors=colors, linewidth=2.5)
        self.points_ = []
        for place, (look, difference) in enumerate(
            zip(looks, report["difference"].to_numpy(dtype=float), strict=True)
        ):
            dot = {"linestyle": "", "markersize": 7} | look
            if place not in known:  # how much it varies is not known
                dot["markerfacecolor"] = "none"
            self.points_ += ax.plot(difference, place, **dot)
        far = np.abs(np.concatenate([low[known], high[known], report["difference"]]).astype(float))
        reach = 1.08 * far[np.isfinite(far)].max(initial=0.01)
        ax.set_xlim(-reach, reach)  # gains and losses have the same room
        handles = [
            plt.Line2D([], [], linestyle="", markersize=7, **look, label=label)
            for verdict, (look, label) in VERDICTS.items()
            if verdict in verdicts
        ]
        legend_above(ax, handles)
