"""Kinds of number within bounds: what a fit learns, units, and what is predicted."""

from __future__ import annotations

import re

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import norm

from sklearn_mtl.kinds import (
    CensoredAmount,
    CensoredTarget,
    GammaTarget,
    PoissonTarget,
    QuantileTarget,
    RegressionTarget,
)
from sklearn_mtl.kinds.bounds import as_bounds, as_intervals, bounds_of, exact, reaching
from sklearn_mtl.kinds.censored import censored, least_of

RNG = np.random.default_rng(0)
Y = RNG.normal(3, 2, size=500)
LIMIT = RNG.normal(3.5, 1, size=500)
CUT = as_bounds(np.where(Y > LIMIT, LIMIT, Y), np.where(Y > LIMIT, np.inf, Y))
WEIGHT = RNG.uniform(0.5, 2, size=500)


def exp(bounds: np.ndarray, unit: float = 1.0) -> np.ndarray:
    return as_bounds(unit * np.exp(bounds["lower"]), unit * np.exp(bounds["upper"]))


def test_amounts_are_still_known_to_be_positive() -> None:
    kinds = RegressionTarget(), GammaTarget()
    for kind in (*kinds, *map(censored, kinds)):
        assert least_of(kind) == (0 if "Gamma" in repr(kind) else -np.inf)


def test_the_likeliest_constant() -> None:
    """Mean and noise, by a search over the likelihood in the plainest words."""

    def loss(found: np.ndarray) -> float:
        mean, scale = found[0], np.exp(found[1])
        known = CUT["lower"] == CUT["upper"]
        seen = norm.logpdf(CUT["lower"], mean, scale), norm.logsf(CUT["lower"], mean, scale)
        return float(-WEIGHT @ np.where(known, *seen))

    best = minimize(loss, [0.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-7}).x
    kind = CensoredTarget(RegressionTarget()).fit(CUT, WEIGHT)
    assert kind.center_ == pytest.approx(best[0], rel=1e-3)
    assert kind.scale_ == pytest.approx(np.exp(best[1]), rel=1e-3)
    assert kind.center_ == pytest.approx(3, abs=0.2)
    amounts = CensoredAmount(GammaTarget()).fit(exp(CUT), WEIGHT)
    assert amounts.center_ == pytest.approx(best[0], rel=1e-3)
    assert amounts.spread_ == pytest.approx(np.exp(best[1]), rel=1e-3)


@pytest.mark.parametrize("unit", [1e-200, 1e-9, 1.0, 1e12, 1e200])
def test_units_do_not_matter(unit: float) -> None:
    scaled = as_bounds(unit * CUT["lower"], unit * CUT["upper"])
    numbers = [CensoredTarget(RegressionTarget()).fit(b, WEIGHT) for b in (CUT, scaled)]
    amounts = [CensoredAmount(GammaTarget()).fit(exp(CUT, u), WEIGHT) for u in (1.0, unit)]
    raw = np.linspace(-3, 3, 7).reshape(-1, 1, 1)
    for first, second in (numbers, amounts):
        np.testing.assert_allclose(second.decode(raw) / unit, first.decode(raw), rtol=1e-5)
        assert second.noise_std(raw, _codes(second, 7), WEIGHT[:7]) / unit == pytest.approx(
            first.noise_std(raw, _codes(first, 7), WEIGHT[:7]), rel=1e-4
        )


def _codes(kind: CensoredTarget, n: int) -> np.ndarray:
    """Codes that do not depend on the kind."""
    return as_bounds(np.linspace(-1, 1, n), np.linspace(-1, 1, n))


def test_codes_come_back() -> None:
    for kind, values in [
        (CensoredTarget(RegressionTarget()), CUT),
        (CensoredAmount(GammaTarget()), exp(CUT)),
    ]:
        codes = kind.fit(values, WEIGHT).encode(values)
        ends = codes["lower"].reshape(-1, 1, 1)
        np.testing.assert_allclose(kind.decode(ends), values["lower"], rtol=1e-9)
        assert (exact(codes) == exact(values)).all()
        assert np.isinf(codes["upper"]).sum() == np.isinf(values["upper"]).sum() > 50
    numbers = CensoredTarget(RegressionTarget()).fit(CUT, WEIGHT)
    assert (numbers.encode(Y) == numbers.encode(as_bounds(Y, Y))).all()


def test_predictions_of_rows_left_out_are_shrunk_by_likelihood() -> None:
    """To a slope and a shift without the bias that dropping or clipping would have."""
    truth = RNG.normal(size=4000)
    y, limit = truth + RNG.normal(size=4000), RNG.normal(0.5, 1, size=4000)
    bounds = as_bounds(np.where(y > limit, limit, y), np.where(y > limit, np.inf, y))
    kind = CensoredTarget(RegressionTarget()).fit(bounds, np.ones(4000))
    codes, raw = kind.encode(bounds), ((2 * truth - 3) / kind.scale_).reshape(-1, 1, 1)
    slope, shift = kind.shrink(raw, codes, np.ones(4000))
    found = kind.decode(slope * raw + shift)
    assert slope == pytest.approx(0.5, abs=0.05)
    assert np.mean(found - truth) == pytest.approx(0, abs=0.05)
    noise = kind.noise_std(slope * raw + shift, codes, np.ones(4000))
    assert noise == pytest.approx(1, rel=0.05)


def test_amounts_are_means_and_not_medians() -> None:
    """Of lognormal numbers, half of the variance of the logarithm apart; `balance` says it too."""
    y = np.exp(RNG.normal(1, 0.8, size=6000))
    limit = np.exp(RNG.normal(1.5, 0.5, size=6000))
    bounds = as_bounds(np.where(y > limit, limit, y), np.where(y > limit, np.inf, y))
    weight = np.ones(6000)
    kind = CensoredAmount(GammaTarget()).fit(bounds, weight)
    codes, raw = kind.encode(bounds), np.zeros((6000, 1, 1))
    for shift in (kind.balance(raw, codes, weight), kind.shrink(raw, codes, weight)[1]):
        assert kind.decode(raw + shift)[0] == pytest.approx(y.mean(), rel=0.05)
    assert kind.decode(raw)[0] == pytest.approx(np.median(y), rel=0.05)
    assert kind.noise_std(raw + shift, codes, weight) == pytest.approx(y.std(), rel=0.1)


def test_bounds_there_and_back() -> None:
    bounds = as_bounds([1.0, -np.inf, 2.0, 3.0], [1.0, 4.0, np.inf, 5.0])
    start, reach = reaching(bounds)
    assert start.tolist() == [1, 4, 2, 3]
    assert reach.tolist() == [0, -np.inf, np.inf, 2]
    assert (bounds_of(start, reach) == bounds).all()
    assert [interval.left for interval in as_intervals(bounds)] == [1, -np.inf, 2, 3]


@pytest.mark.parametrize("side", ["lower", "upper"])
def test_bounds_on_one_side_alone_say_nothing(side: str) -> None:
    ends = {"lower": (Y, np.full(500, np.inf)), "upper": (np.full(500, -np.inf), Y)}[side]
    with pytest.raises(ValueError, match=f"known by its {side} bounds alone"):
        CensoredTarget(RegressionTarget()).fit(as_bounds(*ends), WEIGHT)
    kind = CensoredTarget(RegressionTarget()).fit(CUT, WEIGHT)
    slope, shift = kind.shrink(np.ones((500, 1, 1)), as_bounds(*ends), WEIGHT)
    assert (slope, shift.tolist()) == (1, [0])


def test_bins_and_limits_need_no_exact_number() -> None:
    bins = as_bounds(np.floor(Y), np.floor(Y) + 1)
    kind = CensoredTarget(RegressionTarget()).fit(bins, np.ones(500))
    assert kind.center_ == pytest.approx(Y.mean(), abs=0.02)
    assert kind.scale_ == pytest.approx(Y.std(), rel=0.02)
    sides = as_bounds(np.where(Y > LIMIT, LIMIT, -np.inf), np.where(Y > LIMIT, np.inf, LIMIT))
    kind = CensoredTarget(RegressionTarget()).fit(sides, np.ones(500))
    assert kind.center_ == pytest.approx(3, abs=0.5)


@pytest.mark.parametrize(
    ("low", "high", "message"),
    [
        (-1.0, 5.0, "got bounds -1 and 5 (in 1 rows). Pass a lower bound of 0"),
        (0.0, 0.0, "must hold values > 0, got 0.0 (in 1 rows)"),
        (-3.0, -3.0, "got -3.0"),
        (-np.inf, 0.0, "got bounds -inf and 0"),
    ],
)
def test_amounts_are_above_0(low: float, high: float, message: str) -> None:
    bounds = exp(CUT)
    bounds[0] = low, high
    for call in (
        lambda: CensoredAmount(GammaTarget()).fit(bounds, WEIGHT),
        lambda: CensoredAmount(GammaTarget()).check(bounds),
    ):
        if low == -np.inf and high > 0:
            continue
        with pytest.raises(ValueError, match=re.escape(message)):
            call()


@pytest.mark.parametrize("kind", [QuantileTarget(), PoissonTarget()])
def test_kinds_without_bounds(kind: object) -> None:
    with pytest.raises(ValueError, match=r"takes no bounds. Declare the task as 'regression'"):
        censored(kind)
