"""Numbers of which some are known within bounds: censored measurements, times without an event."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sklearn_mtl.kinds.base import Kind
from sklearn_mtl.kinds.bounds import are_bounds, as_bounds, exact
from sklearn_mtl.kinds.concordance import concordance_index
from sklearn_mtl.kinds.numbers import GammaTarget, RegressionTarget
from sklearn_mtl.kinds.tobit import Tobit, fit_tobit
from sklearn_mtl.losses import CENSORED
from sklearn_mtl.losses.links import exp, log_mean

__all__ = ["CensoredAmount", "CensoredTarget", "censored", "least_of"]

FloatArray = NDArray[np.float64]


class CensoredTarget(Kind):
    """Stands in for a kind of number where some values are known within bounds only.

    The noise around the mean is taken to be normal. A bounded target counts by the probability of
    its interval (the Tobit model [1]_), an exact one by its squared error; how large the noise is,
    is learned with the mean. Scores are concordance indices.

    Codes are pairs of bounds, in standard deviations of the noise around the best constant.

    Parameters
    ----------
    kind : Kind
        What the task holds, not fitted.

    References
    ----------
    .. [1] J. Tobin, "Estimation of Relationships for Limited Dependent Variables", Econometrica 26,
       1958.

    Examples
    --------
    >>> from sklearn_mtl.kinds import CensoredTarget, RegressionTarget
    >>> CensoredTarget(RegressionTarget()).is_class
    False
    """

    cell_loss = CENSORED
    is_mean = True
    center_: float
    scale_: float

    def __init__(self, kind: Kind) -> None:
        self.kind = kind

    def fit(
        self, values: NDArray[Any], weight: FloatArray, order: Sequence[Any] | None = None
    ) -> CensoredTarget:
        """Learn mean and noise of the likeliest constant."""
        self.center_, self.scale_ = self._constant(_pairs(values), weight)
        return self

    def _constant(self, bounds: NDArray[Any], weight: FloatArray) -> tuple[float, float]:
        """Mean and standard deviation of the likeliest constant."""
        if _leave_open(bounds):
            side = "lower" if np.isfinite(bounds["lower"]).any() else "upper"
            raise ValueError(
                f"the target is known by its {side} bounds alone, which say nothing of how far "
                "beyond them it is. Pass rows with exact values, or with bounds on the other side."
            )
        ends = np.concatenate([bounds["lower"], bounds["upper"]])
        ends = ends[np.isfinite(ends)]
        unit = float(np.abs(ends).max()) or 1.0  # squares of 1e200 do not overflow
        middle, spread = (ends / unit).mean() * unit, (ends / unit).std() * unit
        if spread <= 10 * np.finfo(np.float64).eps * abs(middle):
            spread = 1.0  # a constant target
        found = fit_tobit(_moved(bounds, middle, spread), weight)
        return float(middle + found.shift * spread), float(found.scale * spread)

    def encode(self, values: NDArray[Any]) -> NDArray[Any]:
        """Pairs of bounds, in standard deviations of the noise around the best constant."""
        return _moved(_pairs(values), self.center_, self.scale_)

    # -- loss --------------------------------------------------------------------------------

    @property
    def loss_params(self) -> dict[str, float]:
        """Noise around the best constant, to begin with."""
        return {"scale": 1.0}

    def constant(self, codes: NDArray[Any], weight: FloatArray) -> FloatArray:
        """Raw outputs of the best constant predictor."""
        return np.zeros(1)

    def shrink(
        self, raw: FloatArray, codes: NDArray[Any], weight: FloatArray
    ) -> tuple[float, FloatArray]:
        """Slope and shift of the Tobit regression of targets on predictions."""
        if _leave_open(codes):
            return 1.0, np.zeros(1)
        found = fit_tobit(codes, weight, raw[..., 0].mean(axis=1))
        return found.slope, np.array([found.shift + self._from_center(found)])

    def _from_center(self, found: Tobit) -> float:
        """Shift of a raw output from the center of the noise to what is predicted."""
        return 0.0

    def noise_std(self, raw: FloatArray, codes: NDArray[Any], weight: FloatArray) -> float:
        """Return the standard deviation of noise that makes what is known likeliest."""
        predicted = raw[..., 0].mean(axis=1)
        return fit_tobit(codes, weight, predicted, slope=1.0, shift=0.0).scale * self.scale_

    # -- raw outputs to y --------------------------------------------------------------------

    @property
    def units(self) -> tuple[float, float]:
        """Noise and mean of the best constant."""
        return self.scale_, self.center_

    def link(self, raw: Any) -> Any:
        """Distances to the best constant, in standard deviations of the noise around it."""
        return raw[..., 0]

    @property
    def metric(self) -> Callable[..., float]:
        """Share of the pairs of rows whose order is predicted, of those whose order is known."""
        return concordance_index


class CensoredAmount(CensoredTarget):
    """The same for amounts and durations > 0, whose logarithms have normal noise.

    The raw output times `spread_` is the mean of the logarithm, less `center_`; at the end of `fit`
    (not of `partial_fit`), it is shifted to predict the mean of the amount.

    Parameters
    ----------
    kind : Kind
        What the task holds, not fitted.

    Examples
    --------
    >>> from sklearn_mtl.kinds import CensoredAmount, GammaTarget
    >>> CensoredAmount(GammaTarget()).is_class
    False
    """

    bounds = (0.0, np.inf)
    errs_by_ratio = True
    spread_: float

    def fit(
        self, values: NDArray[Any], weight: FloatArray, order: Sequence[Any] | None = None
    ) -> CensoredAmount:
        """Learn mean and noise of the likeliest constant logarithm."""
        bounds = _pairs(values)
        self.check(bounds)
        self.center_, self.spread_ = self._constant(_logarithms(bounds), weight)
        self.scale_ = float(np.exp(self.center_))
        return self

    def check(self, values: NDArray[Any]) -> None:
        """Refuse what is not above 0."""
        bounds = _pairs(values)
        # No lower bound is one of 0.
        wrong = (np.isfinite(bounds["lower"]) & (bounds["lower"] < 0)) | (bounds["upper"] <= 0)
        if wrong.any():
            low, high = bounds[wrong][0].tolist()
            known = f"{low!r}" if low == high else f"bounds {low:g} and {high:g}"
            raise ValueError(
                f"the target must hold values > 0, got {known} (in {wrong.sum()} rows). Pass a "
                "lower bound of 0, or none, where nothing else is known; declare it as "
                "'regression' if it may hold others."
            )

    def encode(self, values: NDArray[Any]) -> NDArray[Any]:
        """Pairs of bounds of the logarithm, in standard deviations around the best constant."""
        return _moved(_logarithms(_pairs(values)), self.center_, self.spread_)

    def balance(self, raw: FloatArray, codes: NDArray[Any], weight: FloatArray) -> FloatArray:
        """Shift from the mean of the logarithm to the logarithm of the mean."""
        return np.array([self._from_center(self._residual(raw, codes, weight))])

    def _residual(self, raw: FloatArray, codes: NDArray[Any], weight: FloatArray) -> Tobit:
        shift = 0.0 if _leave_open(codes) else None
        return fit_tobit(codes, weight, raw[..., 0].mean(axis=1), slope=1.0, shift=shift)

    def _from_center(self, found: Tobit) -> float:
        return found.scale**2 * self.spread_ / 2  # of a lognormal number

    def noise_std(self, raw: FloatArray, codes: NDArray[Any], weight: FloatArray) -> float:
        """Return that of lognormal noise around the predictions, in the mean over rows."""
        variance = (self._residual(raw, codes, weight).scale * self.spread_) ** 2
        predicted = self.decode(raw)
        largest = np.abs(predicted).max() or 1.0
        square = np.average((predicted / largest) ** 2, weights=weight)
        return float(np.sqrt(square * np.expm1(min(variance, 700.0))) * largest)

    @property
    def units(self) -> tuple[float, float]:
        """Amount of the best constant logarithm."""
        return self.scale_, 0.0

    def link(self, raw: Any) -> Any:
        """Amounts, in units of that of the best constant logarithm."""
        return exp(log_mean(raw, self.spread_))


def censored(kind: Kind) -> CensoredTarget:
    """Return what stands in for a kind where values are known within bounds.

    Raises
    ------
    ValueError
        If the kind has no use for bounds.
    """
    if isinstance(kind, RegressionTarget):
        return CensoredTarget(kind)
    if isinstance(kind, GammaTarget):
        return CensoredAmount(kind)
    raise ValueError(
        f"{type(kind).__name__} takes no bounds. Declare the task as 'regression', or as 'gamma' "
        "for amounts and durations > 0."
    )


def least_of(kind: Kind) -> float:
    """Smallest number that there can be: to be above that says nothing."""
    return 0.0 if isinstance(getattr(kind, "kind", kind), GammaTarget) else -np.inf


def _pairs(values: NDArray[Any]) -> NDArray[Any]:
    """Pairs of bounds, which are those of exact numbers too."""
    if are_bounds(values):
        return values
    numbers = values.astype(np.float64)
    return as_bounds(numbers, numbers)


def _moved(bounds: NDArray[Any], center: float, scale: float) -> NDArray[Any]:
    """Bounds in units of the scale from the center."""
    return as_bounds((bounds["lower"] - center) / scale, (bounds["upper"] - center) / scale)


def _logarithms(bounds: NDArray[Any]) -> NDArray[Any]:
    with np.errstate(divide="ignore"):
        lower = np.maximum(bounds["lower"], 0)  # -inf: of amounts, no bound is 0
        return as_bounds(np.log(lower), np.log(bounds["upper"]))


def _leave_open(bounds: NDArray[Any]) -> bool:
    """Tell whether all are open on the same side: the likeliest number is infinite."""
    if exact(bounds).any():
        return False
    return not (np.isfinite(bounds["lower"]).any() and np.isfinite(bounds["upper"]).any())
