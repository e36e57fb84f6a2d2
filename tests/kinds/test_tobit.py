"""Tobit regression: its maximum, where nothing is cut, and far out."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import norm

from sklearn_mtl.kinds.bounds import as_bounds
from sklearn_mtl.kinds.tobit import fit_tobit

N = 1500


def cut(how: str, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inputs, pairs of bounds, weights; y = 0.6 x + 0.3 with noise of 0.8."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=N)
    y = 0.6 * x + 0.3 + 0.8 * rng.normal(size=N)
    low, high = y.copy(), y.copy()
    if how in ("above", "both"):
        limit = rng.normal(0.5, 0.3, size=N).clip(-0.1)
        low, high = np.where(y > limit, limit, low), np.where(y > limit, np.inf, high)
    if how in ("below", "both"):
        limit = rng.normal(-0.5, 0.1, size=N)
        low, high = np.where(y < limit, -np.inf, low), np.where(y < limit, limit, high)
    if how == "bins":
        low, high = np.floor(y), np.floor(y) + 1
    return x, as_bounds(low, high), rng.uniform(0.5, 2, size=N)


def likelihood(x: np.ndarray, bounds: np.ndarray, weight: np.ndarray, line: np.ndarray) -> float:
    """In the plainest words."""
    slope, shift, scale = line
    mean, low, high = slope * x + shift, bounds["lower"], bounds["upper"]
    exact = norm.logpdf(low, mean, scale)
    with np.errstate(divide="ignore"):
        inside = np.log(norm.cdf(high, mean, scale) - norm.cdf(low, mean, scale))
    return float(weight @ np.where(low == high, exact, inside))


@pytest.mark.parametrize("how", ["none", "above", "below", "both", "bins"])
def test_the_maximum_of_the_likelihood(how: str) -> None:
    x, bounds, weight = cut(how)
    found = fit_tobit(bounds, weight, x)
    searched = minimize(
        lambda line: -likelihood(x, bounds, weight, [line[0], line[1], np.exp(line[2])]),
        [0.5, 0.0, 0.0],
        method="Nelder-Mead",
        options={"xatol": 1e-8, "fatol": 1e-10, "maxiter": 5000},
    )
    expected = [searched.x[0], searched.x[1], np.exp(searched.x[2])]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found, [0.6, 0.3, 0.8], atol=0.15)


def test_without_bounds_it_is_least_squares() -> None:
    x, bounds, weight = cut("none")
    y = bounds["lower"]
    slope, shift = np.polyfit(x, y, 1, w=np.sqrt(weight))
    scale = np.sqrt(np.average((y - slope * x - shift) ** 2, weights=weight))
    np.testing.assert_allclose(fit_tobit(bounds, weight, x), [slope, shift, scale], rtol=1e-5)


def test_what_is_given_stays() -> None:
    x, bounds, weight = cut("above")
    assert fit_tobit(bounds, weight, x, slope=1.0, shift=0.0)[:2] == (1.0, 0.0)
    assert fit_tobit(bounds, weight, x, slope=1.0).slope == 1.0
    assert fit_tobit(bounds, weight).slope == 0.0


def test_slopes_from_0_to_1() -> None:
    """As what is predicted is shrunk, and not blown up, nor turned around."""
    x, bounds, weight = cut("above")
    assert fit_tobit(bounds, weight, -x).slope == 0
    assert fit_tobit(bounds, weight, x / 9).slope == 1


def test_weight_two_is_the_row_twice() -> None:
    x, bounds, _ = cut("both")
    weight = np.where(np.arange(N) < 50, 2.0, 1.0)
    again = np.concatenate([np.arange(N), np.arange(50)])
    np.testing.assert_allclose(
        fit_tobit(bounds, weight, x), fit_tobit(bounds[again], np.ones(N + 50), x[again]), rtol=1e-5
    )


@pytest.mark.parametrize("far", [1e2, 1e4, 1e6])
def test_bounds_far_out(far: float) -> None:
    x, bounds, weight = cut("both")
    bounds["lower"][0] = bounds["upper"][0] = far
    bounds["lower"][1], bounds["upper"][1] = far, np.inf
    bounds["lower"][2], bounds["upper"][2] = -far - 1e-3, -far
    found = fit_tobit(bounds, weight, x)
    assert np.isfinite(found).all()
    assert found.scale > 1
