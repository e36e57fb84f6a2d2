"""What trainings and reports leave to look at: objects that print and plot themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.plotting import PlotAccessor

from sklearn_mtl.plotting.axes import shortened
from sklearn_mtl.plotting.history import TrainingHistoryDisplay
from sklearn_mtl.plotting.transfer import COLUMNS, TransferDisplay

__all__ = ["TrainingHistory", "TransferReport"]

FloatArray = NDArray[np.float64]

MOST_TASKS = 20  # that are printed


class TrainingHistory(dict[str, FloatArray]):
    """Losses and weights of the tasks, epoch by epoch: the `history_` of an estimator.

    It is a dict of arrays that prints as a table, and plots.

    Parameters
    ----------
    record : dict of str to ndarray of shape (n_epochs, n_tasks)
        'train_loss', 'effective_weight', and where there are some 'valid_loss' and 'oob_loss'.
    task_names : list of str
        Names of the tasks.
    best_epoch : int, default=None
        Epoch, counted from 1, with the best objective on rows left out, or else on validation data.
        None if it is not known: without such rows, after `load`, and of streams.

    Attributes
    ----------
    task_names : list of str
        Names of the tasks.
    best_epoch : int or None
        The best epoch.

    See Also
    --------
    sklearn_mtl.plotting.TrainingHistoryDisplay : What `plot` draws.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_mtl import MultiTaskCNNEstimator
    >>> X = np.random.default_rng(0).normal(size=(100, 3))
    >>> y = np.column_stack([X[:, 0] > 0, X[:, 1]])
    >>> history = MultiTaskCNNEstimator(max_epochs=4, random_state=0).fit(X, y).history_
    >>> history["train_loss"].shape
    (4, 2)
    >>> history.to_frame()["train_loss"].columns.tolist()
    ['y0', 'y1']
    """

    def __init__(
        self,
        record: Mapping[str, FloatArray],
        task_names: Sequence[str],
        best_epoch: int | None = None,
    ) -> None:
        super().__init__(record)
        self.task_names = list(task_names)
        self.best_epoch = best_epoch

    def plot(self, ax: Any = None, **kwargs: Any) -> TrainingHistoryDisplay:
        """Plot the losses.

        Parameters
        ----------
        ax : matplotlib Axes or array-like of Axes, default=None
            Axes for each panel, or one to be divided; None makes a new figure.
        **kwargs : dict
            Passed to `sklearn_mtl.plotting.TrainingHistoryDisplay.plot`.

        Returns
        -------
        display : TrainingHistoryDisplay
            It holds the losses, and what was drawn.
        """
        display = TrainingHistoryDisplay(self, self.task_names, best_epoch=self.best_epoch)
        return display.plot(ax=ax, **kwargs)

    def to_frame(self) -> pd.DataFrame:
        """Return all of it as one table.

        Returns
        -------
        frame : DataFrame of shape (n_epochs, n_columns)
            A row for each epoch, counted from 1. The columns are pairs of what it is, such as
            'train_loss', and the name of the task.
        """
        parts = {
            name: pd.DataFrame(values, columns=self.task_names) for name, values in self.items()
        }
        frame = pd.concat(parts, axis=1, names=[None, "task"])
        frame.index = pd.RangeIndex(1, len(frame) + 1, name="epoch")
        return frame

    def __repr__(self) -> str:
        n = len(next(iter(self.values()), ()))
        best = "" if self.best_epoch is None else f", the best one {self.best_epoch}"
        shown = {"first": 0} | ({} if self.best_epoch is None else {"best": self.best_epoch - 1})
        shown |= {"last": n - 1}
        table = {
            (name.replace("_", " "), when): self[name][epoch]
            for name in self
            for when, epoch in shown.items()
            if n
        }
        names = [shortened(name) for name in self.task_names]
        frame = pd.DataFrame(table, index=pd.Index(names, name="task"))
        text = frame.to_string(max_rows=MOST_TASKS, float_format="{:#.3g}".format)
        return f"Training history: {n} epochs{best}\n{text}"


class TransferReport(pd.DataFrame):
    """What `transfer_report` returns: a table that prints shortly, and plots as a forest.

    It is a pandas DataFrame. ``report.plot()`` draws a `sklearn_mtl.plotting.TransferDisplay`;
    ``report.plot.bar()`` and other plots of pandas are there too.

    Parameters
    ----------
    data : array-like, dict or DataFrame, default=None
        As of `pandas.DataFrame`.
    index : Index or array-like, default=None
        As of `pandas.DataFrame`.
    columns : Index or array-like, default=None
        As of `pandas.DataFrame`.
    dtype : dtype, default=None
        As of `pandas.DataFrame`.
    copy : bool, default=None
        As of `pandas.DataFrame`.

    See Also
    --------
    transfer_report : What makes it.

    Examples
    --------
    >>> from sklearn_mtl.inspection import TransferReport
    >>> report = TransferReport(
    ...     {"joint": [0.8], "separate": [0.7], "difference": [0.1], "ci_low": [0.05]}
    ...     | {"ci_high": [0.15], "verdict": ["joint"]},
    ...     index=["defect"],
    ... )
    >>> report
            joint  separate  difference          interval verdict
    defect  0.800     0.700       0.100  [+0.050, +0.150]   joint
    """

    @classmethod
    def of(
        cls, rows: Sequence[Mapping[str, Any]], task_names: Sequence[str], confidence: float
    ) -> TransferReport:
        """Make a report of what was measured for each task.

        Parameters
        ----------
        rows : sequence of dict
            Values of the columns, a dict for each task.
        task_names : sequence of str
            Names of the tasks, in the same order.
        confidence : float in (0, 1)
            Level of the intervals.

        Returns
        -------
        report : TransferReport
            With a row for each task.
        """
        report = cls(rows, index=pd.Index(task_names, name="task"))
        report.attrs["confidence"] = confidence
        return report

    @property
    def _constructor(self) -> type[TransferReport]:
        return TransferReport

    @property
    def plot(self) -> Any:
        """Plot a forest, or what pandas does by its methods."""
        return _Plot(self)

    @property
    def is_whole(self) -> bool:
        """Whether it has all columns of a report, and is no part of one."""
        return isinstance(self.columns, pd.Index) and set(COLUMNS) <= set(self.columns)

    def __repr__(self) -> str:
        if not self.is_whole:
            return super().__repr__()
        columns = ["n_observed", "joint", "separate", "difference"]
        shown = pd.DataFrame(self)[[c for c in columns if c in self.columns]]
        level = self.attrs.get("confidence")
        ends = zip(self["ci_low"], self["ci_high"], strict=True)
        name = "interval" if level is None else f"{100 * level:g} % interval"
        shown[name] = [
            "not known" if pd.isna(low) else f"[{low:+.3f}, {high:+.3f}]" for low, high in ends
        ]
        shown["verdict"] = self["verdict"]
        return shown.to_string(float_format="{:.3f}".format)


class _Plot(PlotAccessor):
    """That of pandas, but called without x, y and kind, it draws a forest."""

    def __init__(self, report: TransferReport) -> None:
        super().__init__(report)
        self.report = report

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.report.is_whole and not {"x", "y", "kind"} & set(kwargs) and len(args) <= 1:
            kwargs |= {"ax": args[0]} if args else {}
            return TransferDisplay.from_report(self.report, **kwargs)
        return super().__call__(*args, **kwargs)
