"""The kind of a task of which nothing was observed: it stays at what is known beforehand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sklearn_mtl.kinds.base import Kind
from sklearn_mtl.losses import KindLoss

__all__ = ["UnobservedTarget"]

FloatArray = NDArray[np.float64]


def _nothing(raw: Tensor, target: Tensor) -> Tensor:
    """Loss of cells of which none is observed."""
    return 0 * raw.sum(dim=-1)


class UnobservedTarget(Kind):
    """Stands in for the kind of a task until a target of it is observed.

    Predictions are holes: NaN among numbers, None among labels. Classes whose labels are known all
    the same, as they were declared, are as probable as one another. Scores are NaN.

    Parameters
    ----------
    kind : Kind
        What the task holds. One of class that knows its labels is fitted on them, others are not
        fitted.

    Examples
    --------
    >>> from sklearn_mtl.kinds import RegressionTarget, UnobservedTarget
    >>> UnobservedTarget(RegressionTarget()).is_class
    False
    """

    cell_loss = KindLoss(_nothing, _nothing)

    def __init__(self, kind: Kind) -> None:
        self.kind: Any = kind
        self.n_outputs = kind.n_outputs

    # As the class variables of other kinds; here they depend on the kind that is replaced.
    @property
    def is_class(self) -> bool:  # type: ignore[override]
        """Whether it is one of class."""
        return self.kind.is_class

    @property
    def is_ordered(self) -> bool:  # type: ignore[override]
        """Whether its classes go from low to high."""
        return self.kind.is_ordered

    @property
    def is_known(self) -> bool:
        """Whether it is one of class that knows its labels."""
        return hasattr(self.kind, "classes_")

    @property
    def classes_(self) -> NDArray[Any]:
        """Labels that are known, perhaps none."""
        return self.kind.classes_ if self.is_known else np.empty(0)

    def check(self, values: NDArray[Any]) -> None:
        """Refuse values that its known labels refuse."""
        if self.is_known:
            self.kind.check(values)

    def encode(self, values: NDArray[Any]) -> FloatArray:
        """Class codes of known labels, -1 for all else."""
        return self.kind.encode(values) if self.is_known else np.full(len(values), -1.0)

    def constant(self, codes: FloatArray, weight: FloatArray) -> FloatArray:
        """Raw outputs of the prior, in which each known label was seen once."""
        if not self.is_known:
            return np.zeros(self.n_outputs)
        return self.kind.constant(self.kind.encode(self.classes_), np.ones(len(self.classes_)))

    def shrink(
        self, raw: FloatArray, codes: FloatArray, weight: FloatArray
    ) -> tuple[float, FloatArray]:
        """Leave the outputs as they are."""
        return 1.0, np.zeros(self.n_outputs)

    def link(self, raw: Any) -> Any:
        """Probabilities of the known labels; of numbers, NaN."""
        if self.is_known:
            return self.kind.link(raw)
        return raw[..., :0] if self.is_class else raw[..., 0] * float("nan")

    def proba(self, raw: FloatArray) -> FloatArray:
        """Class probabilities, of no class where no label is known.

        Parameters
        ----------
        raw : ndarray of shape (n, M, n_outputs)
            Raw outputs of M members.

        Returns
        -------
        proba : ndarray of shape (n, n_classes)
            In the order of `classes_`.
        """
        return self.kind.proba(raw) if self.is_known else np.empty((len(raw), 0))

    def decode(self, raw: FloatArray) -> NDArray[Any]:
        """Holes, or what the prior of known labels predicts."""
        if self.is_known:
            return self.kind.decode(raw)
        return np.full(len(raw), None) if self.is_class else super().decode(raw)

    @property
    def metric(self) -> Callable[..., float]:
        """That of the kind, which is not asked."""
        return self.kind.metric

    def score(
        self, y_true: NDArray[Any], y_pred: NDArray[Any], weight: FloatArray, name: str
    ) -> float:
        """NaN, whatever the targets are: nothing was learned that could be scored."""
        return float("nan")
