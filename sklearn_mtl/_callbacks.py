"""scikit-learn's callbacks: what they are told of a fit, and of its epochs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from sklearn_mtl._engine import Watch, copied
from sklearn_mtl._validation import take_rows

__all__ = ["Data", "FitTasks"]


class Data(NamedTuple):
    """Rows as the user passed them, or functions that return them."""

    X: Any
    y: Any
    sample_weight: Any = None

    def part(self, rows: Any) -> Data:
        """Return some of the rows, once somebody asks for them."""
        X, y, weight = (None if d is None else _later(d, rows) for d in self)
        return Data(X, y, weight)

    def as_hook(self) -> dict[str, Any]:
        """Keyword arguments of the hooks."""
        weight = self.sample_weight
        if weight is None:
            return {"X": self.X, "y": self.y, "metadata": {}}
        found = weight if callable(weight) else lambda: weight
        return {"X": self.X, "y": self.y, "metadata": lambda: {"sample_weight": found()}}


def _later(data: Any, rows: Any) -> Callable[[], Any]:
    return lambda: take_rows(data, rows)


class FitTasks:
    """A fit, and its epochs as tasks in it.

    Parameters
    ----------
    estimator : estimator
        With callbacks, or without.
    data : Data
        Rows that the fit was given.
    scored : Data
        Rows that callbacks see at the end of an epoch, and of the fit.
    max_epochs : int
        Epochs, unless a callback stops the fit.
    attributes : callable
        From a net to the fitted attributes of an estimator that holds it.
    """

    def __init__(
        self,
        estimator: Any,
        data: Data,
        scored: Data,
        max_epochs: int,
        attributes: Callable[[Any], dict[str, Any]],
    ) -> None:
        self.estimator, self.data, self.scored = estimator, data, scored
        self.attributes = attributes
        self.context = estimator._init_callback_context(max_subtasks=max_epochs)
        self.context.call_on_fit_task_begin(estimator=estimator, **data.as_hook())

    def watch(self) -> Watch:
        """Return the callback of skorch that brings the news."""
        return Watch(self._begin_epoch, self._end_epoch)

    def _begin_epoch(self) -> None:
        self.epoch = self.context.subcontext(task_name="epoch")
        self.epoch.call_on_fit_task_begin(estimator=self.estimator, **self.data.as_hook())

    def _end_epoch(self, net: Any) -> bool:
        """Tell whether a callback wants the fit to end."""
        return self.epoch.call_on_fit_task_end(
            estimator=self.estimator,
            **self.scored.as_hook(),
            reconstruction_attributes=lambda: self.attributes(copied(net, "module_")),
        )

    def end(self) -> None:
        """End the fit; the estimator is fitted."""
        self.context.call_on_fit_task_end(
            estimator=self.estimator, **self.scored.as_hook(), reconstruction_attributes={}
        )
