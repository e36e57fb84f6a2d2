"""scikit-learn's callbacks: what they are told of a fit, and of its epochs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from sklearn_mtl._engine import Watch, copied
from sklearn_mtl._validation import take_rows

__all__ = ["OPTIONAL", "Data", "FitTasks"]


# Fitted attributes that not every fit sets.
OPTIONAL = ("classes_", "feature_names_in_")


class Data(NamedTuple):
    """Rows as the user passed them, or functions that return them."""

    X: Any
    y: Any
    sample_weight: Any = None

    def part(self, rows: Any) -> Data:
        """Return some of the rows, once somebody asks for them."""
        weight = self.sample_weight
        if hasattr(weight, "__len__"):  # not one for all
            weight = _later(weight, rows)
        return Data(_later(self.X, rows), _later(self.y, rows), weight)

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
            reconstruction_attributes=lambda: self._anew(self.attributes(copied(net))),
        )

    def end(self, attributes: dict[str, Any]) -> None:
        """End the fit, of which these are the fitted attributes."""
        self.context.call_on_fit_task_end(
            estimator=self.estimator,
            **self.scored.as_hook(),
            reconstruction_attributes=self._anew(attributes),
        )

    def _anew(self, attributes: dict[str, Any]) -> dict[str, Any]:
        """Attributes for a copy of the estimator, and None for those of an earlier fit alone."""
        earlier = {name: None for name in OPTIONAL if hasattr(self.estimator, name)}
        return earlier | attributes
