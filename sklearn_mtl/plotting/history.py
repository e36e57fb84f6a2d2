"""`TrainingHistoryDisplay`: losses of each task, epoch by epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sklearn_mtl._fitted import fitted_of, innermost
from sklearn_mtl.plotting.axes import BLUE, GREY, VERMILION, axes_for, pyplot, shortened
from sklearn_mtl.plotting.reading import choose

__all__ = ["TrainingHistoryDisplay"]

FloatArray = NDArray[np.float64]

# Names in the history, and in legends.
LOSSES = {
    "train_loss": ("training", {"color": BLUE, "linestyle": "-"}),
    "valid_loss": ("validation", {"color": VERMILION, "linestyle": "--"}),
    "oob_loss": ("rows left out", {"color": VERMILION, "linestyle": "--"}),
}


class TrainingHistoryDisplay:
    """Losses of each task over the epochs of a fit, a panel for each.

    It is recommended to make one by `from_estimator`. All parameters are stored as attributes.

    Parameters
    ----------
    history : dict of str to ndarray of shape (n_epochs, n_tasks)
        As `history_` of the estimator: 'train_loss', and where there are some 'valid_loss' and
        'oob_loss'.
    task_names : list of str
        Names of the tasks.
    best_epoch : int, default=None
        Epoch, counted from 1, in which the objective was best on validation data, or on the rows
        left out. None marks none.

    Attributes
    ----------
    lines_ : dict of str to dict of str to Line2D
        Lines by the name of the task, and that of the loss.
    best_lines_ : dict of str to Line2D
        Marks of the best epoch, by the name of the task; empty where it is not known.
    axes_ : ndarray of Axes of shape (n_panels,)
        Axes of the tasks.
    figure_ : matplotlib Figure
        Figure that holds them.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_mtl import MultiTaskCNNEstimator
    >>> from sklearn_mtl.plotting import TrainingHistoryDisplay
    >>> X = np.random.default_rng(0).normal(size=(200, 3))
    >>> y = np.column_stack([X[:, 0] > 0, X[:, 1]])
    >>> estimator = MultiTaskCNNEstimator(early_stopping=True, random_state=0).fit(X, y)
    >>> display = TrainingHistoryDisplay.from_estimator(estimator)
    >>> list(display.lines_["y0"])
    ['train_loss', 'valid_loss']
    """

    def __init__(
        self,
        history: Mapping[str, FloatArray],
        task_names: Sequence[str],
        *,
        best_epoch: int | None = None,
    ) -> None:
        self.history = history
        self.task_names = task_names
        self.best_epoch = best_epoch

    @classmethod
    def from_estimator(
        cls, estimator: Any, *, ax: Any = None, **kwargs: Any
    ) -> TrainingHistoryDisplay:
        """Plot the losses of a fitted estimator.

        Parameters
        ----------
        estimator : MultiTaskCNNEstimator, Pipeline, search or FrozenEstimator
            Fitted; of a search, the best one.
        ax : matplotlib Axes or array-like of Axes, default=None
            Axes for each panel, or one to be divided; None makes a new figure.
        **kwargs : dict
            Passed to `plot`.

        Returns
        -------
        display : TrainingHistoryDisplay
            It holds the losses, and what was drawn.
        """
        pyplot(cls.__name__)
        fitted = fitted_of(estimator)
        display = cls(
            innermost(estimator).history_, fitted.encoder.names, best_epoch=fitted.best_epoch
        )
        return display.plot(ax=ax, **kwargs)

    def plot(
        self,
        ax: Any = None,
        *,
        tasks: Any = None,
        n_cols: int | None = None,
        yscale: str = "linear",
    ) -> TrainingHistoryDisplay:
        """Plot the losses.

        Parameters
        ----------
        ax : matplotlib Axes or array-like of Axes, default=None
            Axes for each panel, or one to be divided; None makes a new figure.
        tasks : str or list of str, default=None
            Names of the tasks to show. None shows all.
        n_cols : int, default=None
            Panels side by side; None is at most 6.
        yscale : {'linear', 'log'}, default='linear'
            Scale of the losses.

        Returns
        -------
        display : TrainingHistoryDisplay
            The object itself.
        """
        if yscale not in ("linear", "log"):
            raise ValueError(f"yscale={yscale!r} is unknown. Use 'linear' or 'log'.")
        names = list(self.task_names)
        shown = choose(names, tasks)
        many = len(shown) > 6
        panel = (2.1, 1.7) if many else (3.2, 2.6)
        axes = axes_for(type(self).__name__, ax, len(shown), panel, n_cols)
        self.lines_: dict[str, dict[str, Any]] = {}
        self.best_lines_: dict[str, Any] = {}
        for panel_ax, k in zip(axes, shown, strict=True):
            self._draw(panel_ax, k, names[k])
            panel_ax.set_yscale(yscale)
            panel_ax.set_title(shortened(names[k]), fontsize="medium")
            if many:
                panel_ax.set_title(shortened(names[k], 20), fontsize="small")
                panel_ax.tick_params(labelsize="small")
        for panel_ax in axes[-min(len(axes), 6) :]:
            panel_ax.set_xlabel("epoch")
        axes[0].set_ylabel("loss")
        self.axes_, self.figure_ = axes, axes[0].figure
        self._add_legend(axes[0], whole=ax is None)
        return self

    def _draw(self, ax: Any, k: int, name: str) -> None:
        self.lines_[name] = {}
        for loss, (label, look) in LOSSES.items():
            if loss in self.history:
                values = np.asarray(self.history[loss])[:, k]
                marker = {"marker": "o", "markersize": 4} if len(values) == 1 else {}
                epochs = np.arange(1, len(values) + 1)
                style = {"label": label, "linewidth": 1.8} | look | marker
                (self.lines_[name][loss],) = ax.plot(epochs, values, **style)
        if self.best_epoch is not None:
            style = {"color": GREY, "linestyle": ":", "linewidth": 1.5, "zorder": 0}
            label = f"best epoch ({self.best_epoch})"
            self.best_lines_[name] = ax.axvline(self.best_epoch, label=label, **style)
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.grid(alpha=0.25)
        for side in ("top", "right"):
            ax.spines[side].set_visible(False)

    def _add_legend(self, ax: Any, whole: bool) -> None:
        """One legend for all panels: above those of a figure of our own, else in the first."""
        handles, labels = ax.get_legend_handles_labels()
        if whole:
            place = {"loc": "outside upper center", "ncols": len(handles)}
            self.figure_.legend(handles, labels, frameon=False, **place)
        else:
            ax.legend(handles, labels, fontsize="small")
