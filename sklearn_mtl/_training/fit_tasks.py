"""scikit-learn's callbacks: what they are told of a fit, and of its epochs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sklearn_mtl._data.rows import Samples, take_rows
from sklearn_mtl._fitted import OPTIONAL, Fitted
from sklearn_mtl._training.copies import copied
from sklearn_mtl._training.listeners import EpochListener
from sklearn_mtl._training.net import TaskNet

__all__ = ["FitTasks"]

# What the context of a fit inside a search calls the estimator: bars of scikit-learn begin with the
# names of both, and of 80 columns no more than these are left for them.
SHORT, MOST_LETTERS = "MTL", 64


class FitTasks:
    """A fit, and its epochs as tasks in it.

    Parameters
    ----------
    estimator : estimator
        With callbacks, or without.
    """

    def __init__(self, estimator: Any) -> None:
        self.estimator = estimator

    def begin(
        self,
        samples: Samples,
        scored: Samples,
        scored_rows: Any,
        max_epochs: int,
        learned: Callable[[TaskNet], Fitted],
    ) -> EpochListener:
        """Tell that the fit begins; return the callback of skorch that brings the news of epochs.

        Parameters
        ----------
        samples : Samples
            That the fit was given.
        scored : Samples
            That callbacks see at the end of an epoch, and of the fit.
        scored_rows : ndarray or None
            Those of them, None for all.
        max_epochs : int
            Epochs, unless a callback stops the fit.
        learned : callable
            From a net to what was learned if the fit ends with it.
        """
        self.samples, self.learned = _hooks(samples, None), learned
        self.scored = _hooks(scored, scored_rows)
        self.context = self.estimator._init_callback_context(max_subtasks=max_epochs)
        _shorten(self.context)
        self.context.call_on_fit_task_begin(estimator=self.estimator, **self.samples)
        return EpochListener(self._begin_epoch, self._end_epoch)

    def _begin_epoch(self) -> None:
        self.epoch = self.context.subcontext(task_name="epoch")
        self.epoch.call_on_fit_task_begin(estimator=self.estimator, **self.samples)

    def _end_epoch(self, net: Any) -> bool:
        """Tell whether a callback wants the fit to end."""
        return self.epoch.call_on_fit_task_end(
            estimator=self.estimator,
            **self.scored,
            reconstruction_attributes=lambda: self._anew(self.learned(copied(net))),
        )

    def end(self, fitted: Fitted) -> None:
        """Tell that the fit ends, with what was learned."""
        self.context.call_on_fit_task_end(
            estimator=self.estimator,
            **self.scored,
            reconstruction_attributes=self._anew(fitted),
        )

    def _anew(self, fitted: Fitted) -> dict[str, Any]:
        """Attributes for a copy of the estimator, and None for those of an earlier fit alone."""
        earlier = {name: None for name in OPTIONAL if hasattr(self.estimator, name)}
        return earlier | fitted.attributes()


def _shorten(context: Any) -> None:
    """Call the estimator by a short name where bars would have no room for the long one."""
    source, task = context.source_estimator_name, context.source_task_name
    name = f"{source} - {task} | {context.estimator_name} - {context.task_name} #0"
    if source is not None and len(name) > MOST_LETTERS:
        context.estimator_name = SHORT


def _hooks(samples: Samples, rows: Any) -> dict[str, Any]:
    """Keyword arguments of the hooks; some of the rows are taken once somebody asks for them."""

    def part(values: Any) -> Any:
        return values if rows is None else lambda: take_rows(values, rows)

    weight = samples.sample_weight
    metadata: Any = {}
    if weight is not None:
        some = rows is not None and hasattr(weight, "__len__")  # not one for all
        metadata = lambda: {"sample_weight": take_rows(weight, rows) if some else weight}  # noqa: E731
    return {"X": part(samples.X), "y": part(samples.y), "metadata": metadata}
