"""Kinds of number: means, quantiles, and means on a log scale."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date
from decimal import Decimal
from functools import partial
from numbers import Real
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import xlogy
from sklearn.metrics import (
    d2_pinball_score,
    mean_gamma_deviance,
    mean_poisson_deviance,
    r2_score,
)

from sklearn_mtl.kinds.base import Kind
from sklearn_mtl.kinds.bounds import are_bounds
from sklearn_mtl.kinds.values import are_numbers, first
from sklearn_mtl.losses import CELL_LOSSES
from sklearn_mtl.losses.links import exp, log_mean

__all__ = ["GammaTarget", "PoissonTarget", "QuantileTarget", "RegressionTarget"]

FloatArray = NDArray[np.float64]


class _Number(Kind):
    """What the kinds of number share: they hold numbers, with a mean and a standard deviation."""

    mean_: float
    scale_: float

    def check(self, values: NDArray[Any]) -> None:
        """Refuse what is not a number."""
        if len(values) and not are_numbers(values) and not are_bounds(values):
            objects = values.tolist()
            value = next((v for v in objects if not isinstance(v, Real | Decimal)), objects[0])
            how = "pd.to_numeric(column, errors='coerce')"
            if isinstance(value, date):
                how = "(column - first_day).dt.days"
            if any(str(v).strip()[:1] in ("<", ">") for v in objects):
                how = "sklearn_mtl.to_intervals(column)"
            raise ValueError(
                f"the target must hold numbers, got {value!r}. Convert the column, {how}, "
                "or declare it as 'classification'."
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
            scale = 1.0  # a constant target
        self.mean_, self.scale_ = float(mean * unit), float(scale * unit)
        return values

    def noise_std(self, raw: FloatArray, codes: FloatArray, weight: FloatArray) -> float:
        """Root mean squared residual."""
        scale, shift = self.units
        residual = self.decode(raw) - (codes * scale + shift)
        largest = np.abs(residual).max() or 1.0  # squares of 1e200 do not overflow
        return float(np.sqrt(np.average((residual / largest) ** 2, weights=weight)) * largest)


class _Standardised(_Number):
    """Numbers that are coded as distances to a center, in standard deviations."""

    center_: float

    def encode(self, values: NDArray[Any]) -> FloatArray:
        """Distances to the center, in standard deviations."""
        return (values.astype(np.float64) - self.center_) / self.scale_

    def constant(self, codes: FloatArray, weight: FloatArray) -> FloatArray:
        """Raw outputs of the best constant predictor: the center."""
        return np.zeros(1)

    @property
    def units(self) -> tuple[float, float]:
        """Standard deviation and center."""
        return self.scale_, self.center_

    def link(self, raw: Any) -> Any:
        """Distances to the center, in standard deviations."""
        return raw[..., 0]


class RegressionTarget(_Standardised):
    """Numbers whose mean is predicted, by squared error.

    Examples
    --------
    >>> from sklearn_mtl import Task
    >>> from sklearn_mtl.kinds import RegressionTarget
    >>> Task("size", RegressionTarget())
    Task('size', RegressionTarget())
    """

    cell_loss = CELL_LOSSES["regression"]
    is_mean = True
    least_squares = True

    def fit(
        self, values: NDArray[Any], weight: FloatArray, order: Sequence[Any] | None = None
    ) -> RegressionTarget:
        """Learn the weighted mean and standard deviation of the observed `values`."""
        self._standardise(values, weight)
        self.center_ = self.mean_
        return self

    def shrink(
        self, raw: FloatArray, codes: FloatArray, weight: FloatArray
    ) -> tuple[float, FloatArray]:
        """Slope and shift of the regression of targets on predictions, in closed form."""
        found = raw[..., 0].mean(axis=1)
        center, mean = np.average(found, weights=weight), np.average(codes, weights=weight)
        square = np.average((found - center) ** 2, weights=weight)
        product = np.average((found - center) * (codes - mean), weights=weight)
        slope = float(np.clip(product / square, 0, 1)) if square > 0 else 1.0
        return slope, np.array([mean - slope * center])

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

    Examples
    --------
    >>> from sklearn_mtl import Task
    >>> from sklearn_mtl.kinds import QuantileTarget
    >>> Task("wait", QuantileTarget(0.9))
    Task('wait', QuantileTarget(quantile=0.9))
    """

    cell_loss = CELL_LOSSES["quantile"]

    def __init__(self, quantile: float = 0.5) -> None:
        level: Any = quantile  # of any type, as users pass it
        if isinstance(level, list | tuple | np.ndarray):
            raise ValueError(
                f"quantile={quantile!r} is not one level. Make a task of each: the column of y "
                "twice, under two names."
            )
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
    and not an infinite one. Losses are measured in units of `unit_`, the mean deviance from the
    overall mean: that of the best constant predictor is 1, however heavy the tails are.

    At the end of `fit` (not of `partial_fit`), a constant is added to the raw outputs with which
    predicted and observed targets have the same sum over the training rows; where members of an
    ensemble have left out folds of them, what each predicts of its own fold. A deviance alone does
    not see to that [1]_, and a gamma deviance tends to put the total too low.

    References
    ----------
    .. [1] M. V. Wüthrich, "Bias regularization in neural network models for general insurance
       pricing", European Actuarial Journal 10, 2020.
    """

    is_mean = True
    bounds = (0.0, np.inf)
    unit_: float
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
            self.scale_ = self.spread_ = self.unit_ = 1.0
            return self
        variation = 0.0 if constant else min(self.scale_ / self.mean_, 1e100)
        # Smaller spreads would ask for more digits than float32 has.
        self.spread_ = max(float(np.sqrt(np.log1p(variation**2))), 1e-3)
        self.scale_ = float(values[0]) if constant else self.mean_  # codes of 1 have no deviance
        deviance = self._deviance_from_mean(self.encode(values))
        self.unit_ = max(float(np.average(deviance, weights=weight)), 1e-6)
        return self

    def _deviance_from_mean(self, codes: FloatArray) -> FloatArray:
        """Deviance of each code from the overall mean, which is 1."""
        raise NotImplementedError

    def check(self, values: NDArray[Any]) -> None:
        """Refuse what is not a number, or outside of the range."""
        super().check(values)
        if are_bounds(values):
            return
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

    @property
    def units(self) -> tuple[float, float]:
        """Overall mean."""
        return self.scale_, 0.0

    def link(self, raw: Any) -> Any:
        """Means, in units of the overall one."""
        return exp(log_mean(raw, self.spread_))

    @property
    def loss_params(self) -> dict[str, float]:
        """Spread of the log-mean, and unit of the deviance."""
        return {"spread": self.spread_, "unit": self.unit_}

    @property
    def metric(self) -> Callable[..., float]:
        """Share of the deviance that is explained (D2)."""
        return partial(d2_deviance, self._deviance)


class PoissonTarget(_LogMean):
    """Counts and rates, whose mean is predicted by the Poisson deviance, with a log link.

    Examples
    --------
    >>> from sklearn_mtl import Task
    >>> from sklearn_mtl.kinds import PoissonTarget
    >>> Task("visits", PoissonTarget())
    Task('visits', PoissonTarget())
    """

    cell_loss = CELL_LOSSES["poisson"]
    allowed = "values >= 0"
    smallest = 0.0
    _deviance = staticmethod(mean_poisson_deviance)

    def _inside(self, values: NDArray[Any]) -> NDArray[np.bool_]:
        return values >= 0

    def _deviance_from_mean(self, codes: FloatArray) -> FloatArray:
        return 2 * (xlogy(codes, codes) - codes + 1)


class GammaTarget(_LogMean):
    """Amounts > 0, whose mean is predicted by the gamma deviance, with a log link.

    The error counts relative to the mean: twice the amount, twice the spread.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_mtl.kinds import GammaTarget
    >>> GammaTarget().fit(np.array([1.0, 2.0, 6.0]), np.ones(3)).encode(np.array([3.0]))
    array([1.])
    """

    cell_loss = CELL_LOSSES["gamma"]
    allowed = "values > 0"
    smallest = 1e-37
    advice = (
        "Where 0 stands for 'none', make that a classification task, and declare this one with "
        "given= it, NaN where there is none."
    )
    _deviance = staticmethod(mean_gamma_deviance)

    def _inside(self, values: NDArray[Any]) -> NDArray[np.bool_]:
        return values > 0

    def _deviance_from_mean(self, codes: FloatArray) -> FloatArray:
        return 2 * (codes - 1 - np.log(codes))


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
