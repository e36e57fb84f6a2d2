"""The kind of classes from low to high."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit
from sklearn.metrics import d2_absolute_error_score

from sklearn_mtl.kinds.classes import ClassificationTarget
from sklearn_mtl.kinds.values import are_numbers, as_column, first, positions
from sklearn_mtl.losses import CELL_LOSSES
from sklearn_mtl.losses.links import exp, sequential_log_proba

__all__ = ["OrdinalTarget"]

FloatArray = NDArray[np.float64]


class OrdinalTarget(ClassificationTarget):
    r"""Classes from low to high.

    A sequential (continuation-ratio) logit model [1]_ [2]_,

    .. math:: P(y > c \mid y \ge c, x) = \sigma(r_c)

    with raw outputs r, one fewer than there are classes: from each class there is a step to the
    next, taken or not. The prediction is the median of the predicted distribution, which has the
    smallest expected distance in ranks.

    Parameters
    ----------
    categories : sequence of labels, optional
        All labels from low to high. By default the order of y's type (ordered categories of
        pandas, Enum of polars), or that of numbers.

    Attributes
    ----------
    classes_ : ndarray
        The categories that were passed, or else the observed labels, from low to high.
    categories_ : ndarray
        All known labels, from low to high; distances are counted in them.

    References
    ----------
    .. [1] G. Tutz, "Sequential Models in Categorical Regression", Computational Statistics & Data
       Analysis 11, 1991.
    .. [2] X. Shi, W. Cao, S. Raschka, "Deep Neural Networks for Rank-Consistent Ordinal Regression
       Based on Conditional Probabilities", 2021, arXiv:2111.08851.

    Examples
    --------
    >>> from sklearn_mtl import Task
    >>> from sklearn_mtl.kinds import OrdinalTarget
    >>> Task("health", OrdinalTarget(["poor", "fair", "good"]))
    Task('health', OrdinalTarget(categories=('poor', 'fair', 'good')))
    """

    cell_loss = CELL_LOSSES["ordinal"]
    min_samples = 2
    is_ordered = True

    _listed = "List each label once, from low to high."

    def __init__(self, categories: Sequence[Any] | None = None) -> None:
        super().__init__(categories)

    def fit(
        self, values: NDArray[Any], weight: FloatArray, order: Sequence[Any] | None = None
    ) -> OrdinalTarget:
        """Learn the classes and their order."""
        if self.categories is not None:
            self._refuse_strangers(values)
            values = np.concatenate([values, as_column(self.categories)])
        labels = self._sorted(values)
        known = order if self.categories is None else self.categories
        if known is None and not are_numbers(labels):
            raise ValueError(
                f"the order of the labels {labels.tolist()} is not known. Pass "
                "categories=[lowest, ..., highest] to Task, ordered categories (pandas) or an Enum "
                "(polars), or numbers."
            )
        self._by_value = known is None
        self.categories_ = labels if known is None else as_column(list(known))
        ranks = positions(self.categories_, labels)
        if (ranks < 0).any():
            raise ValueError(
                f"y holds labels {labels[ranks < 0].tolist()} that are not among the categories "
                f"{self.categories_.tolist()}. {self._listed}"
            )
        self.classes_ = labels[ranks.argsort()]
        self.n_outputs = len(self.classes_) - 1
        return self

    def labels_to_come(self, order: Sequence[Any] | None) -> NDArray[Any]:
        """All categories."""
        return as_column(self.categories or order or ())

    def ordered(self, order: Sequence[Any] | None) -> OrdinalTarget:
        """Return the kind with these categories, unless it has its own."""
        if self.categories is not None or order is None:
            return self
        kind = copy.copy(self)
        kind.categories = tuple(order)
        return kind

    def check(self, values: NDArray[Any]) -> None:
        """Refuse labels without a rank."""
        super().check(values)
        strangers = values[np.isnan(self.measured(values))]
        if len(strangers):
            raise ValueError(
                f"label {first(strangers)!r} has no rank among the categories "
                f"{self.categories_.tolist()}. Pass categories=[lowest, ..., highest] to Task."
            )

    def constant(self, codes: FloatArray, weight: FloatArray) -> FloatArray:
        """Raw outputs of the best constant predictor: how often each step is taken."""
        reached = self._frequencies(codes, weight)[::-1].cumsum()[::-1]
        return logit(reached[1:] / reached[:-1])

    def link(self, raw: Any) -> Any:
        """Class probabilities (..., n_classes)."""
        return exp(sequential_log_proba(raw))

    def strangeness(self, proba: FloatArray) -> FloatArray:
        """Say how probable the classes between each class and the median one are, that included.

        From the median class, the set of neighbours grows by the more probable of the next two: the
        classes that are less strange than a threshold are neighbours.
        """
        n_rows, n_classes = proba.shape
        rows = np.arange(n_rows)
        padded = np.pad(proba, [(0, 0), (1, 1)], constant_values=-1.0)  # beyond the ends
        low = high = 1 + self._median(proba)
        strange, inside = np.zeros_like(padded), padded[rows, low]
        for _ in range(n_classes - 1):
            down = padded[rows, low - 1] > padded[rows, high + 1]
            low, high = np.where(down, low - 1, low), np.where(down, high, high + 1)
            new = np.where(down, low, high)
            strange[rows, new] = inside
            inside = inside + padded[rows, new]
        return strange[:, 1:-1]

    def _median(self, proba: FloatArray) -> NDArray[np.intp]:
        return (proba.cumsum(axis=1)[:, :-1] < 0.5).sum(axis=1)

    def decode_mean(self, proba: FloatArray) -> NDArray[Any]:
        """Return the median class."""
        return self.classes_[self._median(proba)]

    @property
    def metric(self) -> Callable[..., float]:
        """Share of the absolute error in ranks that is explained (D2)."""
        return d2_absolute_error_score

    def measured(self, values: NDArray[Any]) -> NDArray[Any]:
        """Ranks among the categories; a number that `fit` did not see stands between two."""
        ranks = positions(self.categories_, values)
        if self._by_value:
            return np.where(ranks < 0, np.searchsorted(self.categories_, values) - 0.5, ranks)
        return np.where(ranks < 0, np.nan, ranks)
