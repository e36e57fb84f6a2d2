"""Kinds of task: what a column of y holds, and what the network's outputs for it mean.

A kind is a small object that is fitted on the observed targets of one task, turns them into the
codes that the network learns from, and turns raw outputs back into labels or numbers. `KINDS` maps
names to kinds; how a kind is *measured* stands under the same name in
`sklearn_mtl.losses.CELL_LOSSES`.

>>> import numpy as np
>>> from sklearn_mtl.kinds import KINDS
>>> counts = np.array([0.0, 2.0, 7.0])
>>> kind = KINDS["poisson"]().fit(counts, np.ones(3))
>>> raw = kind.constant(kind.encode(counts), np.ones(3))  # the log of the mean, scaled
>>> kind.decode(raw.reshape(1, 1, 1)).round(6).tolist()
[3.0]
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import log_expit, logit, softmax
from sklearn.metrics import (
    accuracy_score,
    d2_absolute_error_score,
    d2_pinball_score,
    mean_gamma_deviance,
    mean_poisson_deviance,
    r2_score,
)

from sklearn_mtl._tables import are_numbers, as_column, first

__all__ = [
    "KINDS",
    "ClassificationTarget",
    "GammaTarget",
    "Kind",
    "OrdinalTarget",
    "PoissonTarget",
    "QuantileTarget",
    "RegressionTarget",
]

FloatArray = NDArray[np.float64]


class Kind:
    """Base of all kinds.

    A kind overrides `fit`, `encode`, `constant`, `decode` and `metric`, and the rest where it needs
    to. Arrays hold observed targets only; weights are positive. Kinds of class derive from
    `ClassificationTarget`.

    Attributes
    ----------
    n_outputs : int
        Raw outputs that the network has for the task.
    is_mean : bool
        Whether predictions are expected values, so that their product with the probability that
        the target applies is one too (``conditional_output='expected'``).
    min_samples : int
        Observed targets that the metric needs.
    """

    n_outputs: int = 1
    is_mean: ClassVar[bool] = False
    min_samples: ClassVar[int] = 2

    def fit(
        self, values: NDArray[Any], weight: FloatArray, order: Sequence[Any] | None = None
    ) -> Kind:
        """Learn from observed `values` (n,); `order` lists labels as y's type orders them."""
        raise NotImplementedError

    def check(self, values: NDArray[Any]) -> None:
        """Refuse `values` (n,) that this kind cannot hold."""

    def encode(self, values: NDArray[Any]) -> FloatArray:
        """Turn values (n,) into what the network learns from."""
        raise NotImplementedError

    def constant(self, codes: FloatArray, weight: FloatArray) -> FloatArray:
        """Raw outputs (n_outputs,) of the best constant predictor."""
        raise NotImplementedError

    def decode(self, raw: FloatArray) -> NDArray[Any]:
        """Turn raw outputs (n, M, n_outputs) of M ensemble members into predictions (n,)."""
        raise NotImplementedError

    def balance(self, raw: FloatArray, codes: FloatArray, weight: FloatArray) -> FloatArray:
        """Shift (n_outputs,) of the raw outputs (n, M, n_outputs) of trained rows, to end with."""
        return np.zeros(self.n_outputs)

    @property
    def loss_params(self) -> dict[str, float]:
        """Numbers that the loss of this kind takes as keyword arguments."""
        return {}

    @property
    def metric(self) -> Callable[..., float]:
        """Default metric ``(y_true, y_pred, sample_weight=None) -> float``, higher is better."""
        raise NotImplementedError

    def measured(self, values: NDArray[Any]) -> NDArray[Any]:
        """Turn true or predicted values (n,) into what `metric` takes."""
        return values


def _over_members(values: NDArray[Any]) -> NDArray[Any]:
    """Mean over the members of an ensemble, the second axis; of one member, the values."""
    return values[:, 0] if values.shape[1] == 1 else np.asarray(values.mean(axis=1))


# -- classes ---------------------------------------------------------------------------------


class ClassificationTarget(Kind):
    """Classes without an order; raw outputs are logits.

    Attributes
    ----------
    classes_ : ndarray
        Observed labels, sorted.
    """

    min_samples = 1

    def fit(
        self, values: NDArray[Any], weight: FloatArray, order: Sequence[Any] | None = None
    ) -> ClassificationTarget:
        """Learn the classes of the observed `values`."""
        self.classes_ = self._sorted(values)
        self.n_outputs = len(self.classes_)
        return self

    def _sorted(self, values: NDArray[Any]) -> NDArray[Any]:
        try:
            return np.unique(values)
        except TypeError as error:
            types = sorted({type(v).__name__ for v in values})
            raise ValueError(
                f"labels of mixed types {types} cannot be ordered. Convert them to one type."
            ) from error

    def check(self, values: NDArray[Any]) -> None:
        """Refuse strings where `fit` saw numbers, and numbers where it saw strings."""
        if len(values) and are_numbers(values) != are_numbers(self.classes_):
            raise ValueError(
                f"y holds labels like {first(values)!r}, but fit saw {self.classes_.tolist()}. "
                "Pass labels of the same type."
            )

    def encode(self, values: NDArray[Any]) -> FloatArray:
        """Class codes of observed `values`; -1 for a label that was not seen in `fit`."""
        return _positions(self.classes_, values)

    def constant(self, codes: FloatArray, weight: FloatArray) -> FloatArray:
        """Raw outputs of the best constant predictor: the log of the class frequencies."""
        return np.log(self._frequencies(codes, weight))

    def _frequencies(self, codes: FloatArray, weight: FloatArray) -> FloatArray:
        """Class frequencies, none of them 0."""
        frequency = np.bincount(codes.astype(int), weights=weight, minlength=len(self.classes_))
        # Classes without weight get half an observation, so that the logarithm exists.
        return np.maximum(frequency / weight.sum(), 0.5 / (len(codes) + 1))

    def proba(self, raw: FloatArray) -> FloatArray:
        """Class probabilities (n, n_classes), averaged over ensemble members."""
        return _over_members(softmax(raw, axis=-1))

    def decode(self, raw: FloatArray) -> NDArray[Any]:
        """Return the most probable class."""
        return self.classes_[self.proba(raw).argmax(axis=1)]

    @property
    def metric(self) -> Callable[..., float]:
        """Accuracy."""
        return accuracy_score

    def measured(self, values: NDArray[Any]) -> NDArray[Any]:
        """Class codes: metrics do not take every type that a label may have."""
        return self.encode(values)


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
        Observed labels, from low to high.
    categories_ : ndarray
        All known labels, from low to high; distances are counted in them.

    References
    ----------
    .. [1] G. Tutz, "Sequential Models in Categorical Regression", Computational Statistics & Data
       Analysis 11, 1991.
    .. [2] X. Shi, W. Cao, S. Raschka, "Deep Neural Networks for Rank-Consistent Ordinal Regression
       Based on Conditional Probabilities", 2021, arXiv:2111.08851.
    """

    min_samples = 2

    def __init__(self, categories: Sequence[Any] | None = None) -> None:
        if categories is not None and not _is_order(categories):
            raise ValueError(
                f"categories={categories!r} is not understood. List each label once, from low to "
                "high."
            )
        self.categories = categories

    def fit(
        self, values: NDArray[Any], weight: FloatArray, order: Sequence[Any] | None = None
    ) -> OrdinalTarget:
        """Learn the classes and their order."""
        found = self._sorted(values)
        known = order if self.categories is None else self.categories
        if known is None and not are_numbers(found):
            raise ValueError(
                f"the order of the labels {found.tolist()} is not known. Pass "
                "categories=[lowest, ..., highest] to Task, ordered categories (pandas) or an Enum "
                "(polars), or numbers."
            )
        self._by_value = known is None
        self.categories_ = found if known is None else as_column(list(known))
        ranks = _positions(self.categories_, found)
        if (ranks < 0).any():
            raise ValueError(
                f"y holds labels {found[ranks < 0].tolist()} that are not among the categories "
                f"{self.categories_.tolist()}. List all labels, from low to high."
            )
        self.classes_ = found[ranks.argsort()]
        self.n_outputs = len(self.classes_) - 1
        return self

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

    def proba(self, raw: FloatArray) -> FloatArray:
        """Class probabilities (n, n_classes), averaged over ensemble members."""
        certain = np.zeros((*raw.shape[:-1], 1))
        reached = np.concatenate([certain, log_expit(raw).cumsum(axis=-1)], axis=-1)
        stay = np.concatenate([log_expit(-raw), certain], axis=-1)
        return _over_members(np.exp(reached + stay))

    def decode(self, raw: FloatArray) -> NDArray[Any]:
        """Return the median class."""
        at_most = self.proba(raw).cumsum(axis=1)[:, :-1]
        return self.classes_[(at_most < 0.5).sum(axis=1)]

    @property
    def metric(self) -> Callable[..., float]:
        """Share of the absolute error in ranks that is explained (D2)."""
        return d2_absolute_error_score

    def measured(self, values: NDArray[Any]) -> NDArray[Any]:
        """Ranks among the categories; a number that `fit` did not see stands between two."""
        ranks = _positions(self.categories_, values)
        if self._by_value:
            return np.where(ranks < 0, np.searchsorted(self.categories_, values) - 0.5, ranks)
        return np.where(ranks < 0, np.nan, ranks)


def _is_order(categories: Any) -> bool:
    """Tell whether labels are listed, each of them once; sets and dicts have no order."""
    if isinstance(categories, (str, bytes, set, frozenset, Mapping)):
        return False
    try:
        labels = list(categories)
        return 0 < len(labels) == len(set(labels))
    except TypeError:  # no collection, or of labels that cannot be compared
        return False


def _positions(labels: NDArray[Any], values: NDArray[Any]) -> FloatArray:
    """Position of each value among unique labels; -1 where there is none."""
    if {labels.dtype.kind, values.dtype.kind} == {"i", "u"}:  # numpy would compare as floats
        labels, values = labels.astype(object), values.astype(object)
    if are_numbers(labels) and are_numbers(values):
        order = labels.argsort()
        slot = np.searchsorted(labels, values, sorter=order).clip(max=len(labels) - 1)
        return np.where(labels[order][slot] == values, order[slot], -1).astype(np.float64)
    return pd.Index(labels).get_indexer(values).astype(np.float64)


# -- numbers ---------------------------------------------------------------------------------


class _Number(Kind):
    """What the kinds of number share: they hold numbers, with a mean and a standard deviation."""

    mean_: float
    scale_: float

    def check(self, values: NDArray[Any]) -> None:
        """Refuse what is not a number."""
        if len(values) and not are_numbers(values):
            raise ValueError(
                f"the target must hold numbers, got {first(values)!r}. "
                "Declare it as 'classification', or convert it to numbers."
            )

    def _standardise(self, values: NDArray[Any], weight: FloatArray) -> FloatArray:
        """Learn weighted mean and standard deviation; return the values as floats."""
        self.check(values)
        values = values.astype(np.float64)
        # Computed on values of order one, so that squares of 1e200 do not overflow.
        unit = float(np.abs(values).max()) or 1.0
        mean = np.average(values / unit, weights=weight)
        scale = np.sqrt(np.average((values / unit - mean) ** 2, weights=weight))
        if scale <= 10 * np.finfo(np.float64).eps * abs(mean):
            scale = 1.0 / unit  # a constant target
        self.mean_, self.scale_ = float(mean * unit), float(scale * unit)
        return values


class _Standardised(_Number):
    """Numbers that are coded as distances to a center, in standard deviations."""

    center_: float

    def encode(self, values: NDArray[Any]) -> FloatArray:
        """Distances to the center, in standard deviations."""
        return (values.astype(np.float64) - self.center_) / self.scale_

    def constant(self, codes: FloatArray, weight: FloatArray) -> FloatArray:
        """Raw outputs of the best constant predictor: the center."""
        return np.zeros(1)

    def decode(self, raw: FloatArray) -> FloatArray:
        """Numbers in the units of y, averaged over ensemble members."""
        return np.asarray(_over_members(raw[..., 0]) * self.scale_ + self.center_)


class RegressionTarget(_Standardised):
    """Numbers whose mean is predicted, by squared error."""

    is_mean = True

    def fit(
        self, values: NDArray[Any], weight: FloatArray, order: Sequence[Any] | None = None
    ) -> RegressionTarget:
        """Learn the weighted mean and standard deviation of the observed `values`."""
        self._standardise(values, weight)
        self.center_ = self.mean_
        return self

    @property
    def metric(self) -> Callable[..., float]:
        """Share of the variance that is explained (R2)."""
        return r2_score


class QuantileTarget(_Standardised):
    """Numbers of which a quantile is predicted, by the pinball loss.

    The loss is that of quantile regression [1]_.

    Parameters
    ----------
    quantile : float in (0, 1), default=0.5
        Level of the quantile; 0.5 is the median.

    References
    ----------
    .. [1] R. Koenker and G. Bassett, "Regression Quantiles", Econometrica 46, 1978.
    """

    def __init__(self, quantile: float = 0.5) -> None:
        level: Any = quantile  # of any type, as users pass it
        if isinstance(level, str) or not 0 < level < 1:
            raise ValueError(f"quantile={quantile!r} is out of range. Pass a level in (0, 1).")
        self.quantile = quantile

    def fit(
        self, values: NDArray[Any], weight: FloatArray, order: Sequence[Any] | None = None
    ) -> QuantileTarget:
        """Learn the weighted quantile and standard deviation of the observed `values`."""
        values = self._standardise(values, weight)
        self.center_ = float(
            np.quantile(values, self.quantile, weights=weight, method="inverted_cdf")
        )
        return self

    @property
    def loss_params(self) -> dict[str, float]:
        """Level of the quantile."""
        return {"quantile": self.quantile}

    @property
    def metric(self) -> Callable[..., float]:
        """Share of the pinball loss that is explained (D2)."""
        return partial(d2_pinball_score, alpha=self.quantile)


class _LogMean(_Number):
    """Numbers whose mean is predicted on a log scale.

    The raw output times `spread_` is the log of the mean in units of `scale_`, the overall mean.
    For lognormal numbers, `spread_` is the standard deviation of the log: raw outputs are of order
    one, as those of all kinds. Beyond e^±20 units the mean grows linearly and no longer
    exponentially, here as in the losses: an input far from all others is given a large prediction,
    and not an infinite one.

    After training, a constant is added to the raw outputs with which predicted and observed targets
    have the same sum over the training rows. A deviance alone does not see to that [1]_, and a
    gamma deviance tends to put the total too low.

    References
    ----------
    .. [1] M. V. Wüthrich, "Bias regularization in neural network models for general insurance
       pricing", European Actuarial Journal 10, 2020.
    """

    is_mean = True
    allowed: ClassVar[str]
    advice: ClassVar[str] = "Declare it as 'regression' if it may hold others."
    smallest: ClassVar[float]

    _deviance: Callable[..., float]

    def fit(
        self, values: NDArray[Any], weight: FloatArray, order: Sequence[Any] | None = None
    ) -> _LogMean:
        """Learn the weighted mean and coefficient of variation of the observed `values`."""
        self._standardise(values, weight)
        constant = values.min() == values.max()
        if self.mean_ == 0:
            self.scale_, self.spread_ = 1.0, 1.0
            return self
        variation = 0.0 if constant else min(self.scale_ / self.mean_, 1e100)
        # Smaller spreads would ask for more digits than float32 has.
        self.spread_ = max(float(np.sqrt(np.log1p(variation**2))), 1e-3)
        self.scale_ = float(values[0]) if constant else self.mean_  # codes of 1 have no deviance
        return self

    def check(self, values: NDArray[Any]) -> None:
        """Refuse what is not a number, or outside of the range."""
        super().check(values)
        outside = values[~self._inside(values)] if len(values) else values
        if len(outside):
            raise ValueError(
                f"the target must hold {self.allowed}, got {first(outside)!r} (in "
                f"{len(outside)} rows). {self.advice}"
            )

    def _inside(self, values: NDArray[Any]) -> NDArray[np.bool_]:
        raise NotImplementedError

    def encode(self, values: NDArray[Any]) -> FloatArray:
        """Numbers in units of `scale_`; those that float32 cannot hold are `smallest`."""
        codes = values.astype(np.float64) / self.scale_
        return np.where(codes < 1e-37, self.smallest, codes)

    def constant(self, codes: FloatArray, weight: FloatArray) -> FloatArray:
        """Raw outputs of the best constant predictor: the log of the mean."""
        # Without a single event there is half of one, so that the logarithm exists.
        mean = np.average(codes, weights=weight) or 0.5 / (len(codes) + 1)
        return np.log([mean]) / self.spread_

    def balance(self, raw: FloatArray, codes: FloatArray, weight: FloatArray) -> FloatArray:
        """Shift with which predicted and observed targets have the same sum."""
        predicted = np.average(self.decode(raw) / self.scale_, weights=weight)
        return self.constant(codes, weight) - np.log(predicted) / self.spread_

    def decode(self, raw: FloatArray) -> FloatArray:
        """Means in the units of y, averaged over ensemble members."""
        x = raw[..., 0] * self.spread_
        within = np.clip(x, -20, 20)
        log_mean = within + np.sign(x) * np.log1p(np.abs(x - within))
        return np.asarray(_over_members(np.exp(log_mean)) * self.scale_)

    @property
    def loss_params(self) -> dict[str, float]:
        """Spread of the log-mean."""
        return {"spread": self.spread_}

    @property
    def metric(self) -> Callable[..., float]:
        """Share of the deviance that is explained (D2)."""
        return partial(d2_deviance, self._deviance)


class PoissonTarget(_LogMean):
    """Counts and rates, whose mean is predicted by the Poisson deviance, with a log link."""

    allowed = "values >= 0"
    smallest = 0.0
    _deviance = staticmethod(mean_poisson_deviance)

    def _inside(self, values: NDArray[Any]) -> NDArray[np.bool_]:
        return values >= 0


class GammaTarget(_LogMean):
    """Amounts > 0, whose mean is predicted by the gamma deviance, with a log link.

    The error counts relative to the mean: twice the amount, twice the spread.
    """

    allowed = "values > 0"
    smallest = 1e-37
    advice = (
        "Where 0 stands for 'none', make that a classification task, and declare this one with "
        "given= it, NaN where there is none."
    )
    _deviance = staticmethod(mean_gamma_deviance)

    def _inside(self, values: NDArray[Any]) -> NDArray[np.bool_]:
        return values > 0


def d2_deviance(
    deviance: Callable[..., float], y_true: Any, y_pred: Any, sample_weight: Any = None
) -> float:
    """Share of a deviance that is explained, as `sklearn.metrics.d2_tweedie_score`.

    Also where all of `y_true` are equal: 1 if they are met, else 0, as `r2_score` has it.
    """
    unit = np.average(y_true, weights=sample_weight) or 1.0
    y_true, y_pred = y_true / unit, y_pred / unit
    residual = deviance(y_true, y_pred, sample_weight=sample_weight)
    if np.ptp(y_true) <= 1e-7:  # deviances are rounding errors: they are quadratic
        return float(residual <= 1e-14)
    total = deviance(y_true, np.ones_like(y_pred), sample_weight=sample_weight)
    return float(1 - residual / total)


KINDS: dict[str, Callable[..., Kind]] = {
    "classification": ClassificationTarget,
    "ordinal": OrdinalTarget,
    "regression": RegressionTarget,
    "quantile": QuantileTarget,
    "poisson": PoissonTarget,
    "gamma": GammaTarget,
}
