"""The likeliest distribution of numbers within bounds: Kaplan-Meier, and what lies beyond."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from sklearn_mtl._training.likeliest import likeliest

INF = np.inf


def kaplan_meier(time: NDArray[np.float64], event: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Share of numbers at most as large as each exact one, in order."""
    alive, out = 1.0, []
    for t in np.sort(time[event]):
        alive *= 1 - (time[event] == t).sum() / (time >= t).sum()
        out.append(1 - alive)
    return np.array(out)


def test_exact_numbers_have_their_weights() -> None:
    atoms = likeliest(np.array([3.0, 1.0]), np.array([3.0, 1.0]), np.array([1.0, 3.0]), 2)
    assert atoms.at.tolist() == [1, 3]
    assert atoms.mass.tolist() == [0.75, 0.25]


@pytest.mark.parametrize("side", [1, -1])
def test_censored_numbers_have_the_kaplan_meier_estimate(side: int) -> None:
    rng = np.random.default_rng(0)
    truth, limit = rng.normal(size=(2, 3000))
    event = truth < limit
    seen, beyond = np.minimum(truth, limit), np.where(event, np.minimum(truth, limit), INF)
    low, high = (seen, beyond) if side > 0 else (-beyond, -seen)
    atoms = likeliest(low, high, np.ones(3000), 3000)
    at, mass = side * atoms.at[::side], atoms.mass[::side]
    exact = np.sort(truth[event])
    found = np.array([mass[at <= t].sum() for t in exact[:: len(exact) // 50]])
    expected = kaplan_meier(seen, event)[:: len(exact) // 50]
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_beyond_all_exact_numbers_it_is_the_likeliest_normal_one() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=2000)
    low, high = np.minimum(truth, 0.5), np.where(truth < 0.5, truth, INF)
    atoms = likeliest(low, high, np.ones(2000), 2000)
    for level, quantile in [(0.5, 0.0), (0.9, 1.2816), (0.975, 1.96)]:
        found = atoms.at[np.searchsorted(atoms.mass.cumsum(), level)]
        assert found == pytest.approx(quantile, abs=0.12)


def test_numbers_between_bounds_are_spread_over_them() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=3000)
    shift = rng.uniform(size=3000)  # bounds are not the same for all
    low = np.floor(truth + shift) - shift
    atoms = likeliest(low, low + 1, np.ones(3000), 3000)
    for level, quantile in [(0.1, -1.2816), (0.5, 0.0), (0.9, 1.2816)]:
        found = atoms.at[np.searchsorted(atoms.mass.cumsum(), level)]
        assert found == pytest.approx(quantile, abs=0.12)


def test_a_weight_of_two_is_the_number_twice() -> None:
    rng = np.random.default_rng(0)
    low = rng.normal(size=60)
    high = np.where(np.arange(60) % 3 == 0, INF, low)
    weight = rng.integers(1, 4, size=60)
    weighted = likeliest(low, high, weight.astype(float), 60)
    low, high = np.repeat(low, weight), np.repeat(high, weight)
    repeated = likeliest(low, high, np.ones(len(low)), 60)
    np.testing.assert_allclose(weighted.at, repeated.at, rtol=1e-4)
    np.testing.assert_allclose(weighted.mass, repeated.mass, atol=1e-5)


def test_what_is_far_beyond_all_else_has_a_place() -> None:
    low = np.concatenate([np.linspace(-1, 1, 50), [30.0]])
    high = np.where(low == 30, INF, low)
    atoms = likeliest(low, high, np.ones(51), 51)
    assert np.isfinite(atoms.mass).all()
    assert atoms.mass.sum() == pytest.approx(1)
    assert atoms.mass[atoms.at >= 30].sum() == pytest.approx(1 / 52, rel=0.2)


def test_expected_sizes_are_those_between_the_bounds() -> None:
    exact = np.array([-2.0, 1.0, 3.0, 5.0])
    atoms = likeliest(exact, exact, np.ones(4), 4)
    low, high = np.array([2.0, -3.0, 7.0, 1.0]), np.array([INF, 2.0, INF, 1.0])
    assert atoms.expected(low, high, 1).tolist() == [4, 1.5, 7, 1]
    assert atoms.expected(low, high, 2).tolist() == [17, 2.5, 49, 1]
