"""Linear regression on targets of which some are known within bounds, by maximum likelihood."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_ndtr

from sklearn_mtl.kinds.bounds import exact

__all__ = ["Tobit", "fit_tobit"]

FloatArray = NDArray[np.float64]


class Tobit(NamedTuple):
    """Mean ``slope * x + shift``, and the standard deviation of the normal noise around it."""

    slope: float
    shift: float
    scale: float


def fit_tobit(
    bounds: NDArray[Any],
    weight: FloatArray,
    x: FloatArray | None = None,
    slope: float | None = None,
    shift: float | None = None,
) -> Tobit:
    r"""Find the line through x, and the noise, that make what is known of targets likeliest.

    The likelihood of a target between l and u is
    :math:`\Phi((u - m) / s) - \Phi((l - m) / s)`, that of an exact one the normal density [1]_. In
    :math:`1 / s` and the line over s, its logarithm is concave [2]_: there is one maximum.

    Parameters
    ----------
    bounds : ndarray of pairs, shape (n,)
        In units in which the noise is about 1.
    weight : ndarray of shape (n,)
    x : ndarray of shape (n,), optional
        None for 0.
    slope, shift : float, optional
        Those that are given are not searched for. A slope that is found is one from 0 to 1.

    References
    ----------
    .. [1] J. Tobin, "Estimation of Relationships for Limited Dependent Variables", Econometrica 26,
       1958.
    .. [2] R. J. Olsen, "Note on the Uniqueness of the Maximum Likelihood Estimator for the Tobit
       Model", Econometrica 46, 1978.
    """
    if x is None:
        x, slope = np.zeros(len(bounds)), 0.0
    known, share = exact(bounds), weight / weight.sum()
    lower, upper = bounds["lower"], bounds["upper"]
    truth = np.where(known, lower, 0)
    free = [slope is None, shift is None]

    def value_and_gradient(found: FloatArray) -> tuple[float, FloatArray]:
        a, b, scale = _filled(found, slope, shift)
        mean = a * x + b
        z = np.where(known, (truth - mean) / scale, 0)
        low, high = np.where(known, 0, [(lower - mean) / scale, (upper - mean) / scale])
        mass, density_low, density_high = _between(low, high)
        loss = np.where(known, z**2 / 2 + np.log(scale), -mass)
        by_mean = np.where(known, -z, density_high - density_low) / scale
        spread = _times(high, density_high) - _times(low, density_low)
        by_log_scale = np.where(known, 1 - z**2, spread)
        parts = [share @ (by_mean * x), share @ by_mean]
        gradient = [part for part, is_free in zip(parts, free, strict=True) if is_free]
        return float(share @ loss), np.array([*gradient, share @ by_log_scale])

    start = _start(x, truth, known, lower, upper, share)
    limits = [(0.0, 1.0), (None, None)]
    found = minimize(
        value_and_gradient,
        [*(start[i] for i in (0, 1) if free[i]), np.log(start[2])],
        jac=True,
        method="L-BFGS-B",
        bounds=[*(limits[i] for i in (0, 1) if free[i]), (np.log(1e-3), np.log(1e3))],
        options={"maxiter": 200, "ftol": 1e-13, "gtol": 1e-8},
    )
    return Tobit(*map(float, _filled(found.x, slope, shift)))


def _filled(
    found: FloatArray, slope: float | None, shift: float | None
) -> tuple[float, float, float]:
    """Slope, shift and scale: given, or found."""
    *line, log_scale = found
    parts = [line.pop(0) if part is None else part for part in (slope, shift)]
    return parts[0], parts[1], float(np.exp(log_scale))


def _start(
    x: FloatArray,
    truth: FloatArray,
    known: NDArray[np.bool_],
    lower: FloatArray,
    upper: FloatArray,
    share: FloatArray,
) -> tuple[float, float, float]:
    """Begin with what the finite bounds say, as if they were the truth."""
    middle = np.where(known, truth, np.where(np.isfinite(lower), lower, upper))
    spread = float(np.sqrt(share @ (middle - x - share @ (middle - x)) ** 2))
    return 1.0, float(share @ (middle - x)), float(np.clip(spread, 0.1, 10))


def _between(low: FloatArray, high: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Log-probability of normal noise to fall between, and the densities at both ends over it."""
    upside = low + high > 0  # there, the upper tail has the digits
    with np.errstate(invalid="ignore"):
        a, b = np.where(upside, -high, low), np.where(upside, -low, high)
    log_b = log_ndtr(b)
    with np.errstate(divide="ignore"):
        mass = log_b + np.log(-np.expm1(np.minimum(log_ndtr(a) - log_b, -1e-12)))
        density = [np.exp(-(z**2) / 2 - np.log(2 * np.pi) / 2 - mass) for z in (low, high)]
    return mass, *density


def _times(z: FloatArray, density: FloatArray) -> FloatArray:
    """Their product, 0 at infinity."""
    return np.where(np.isinf(z), 0, z) * density
