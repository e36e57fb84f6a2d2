"""How errors are measured: the scale of a row, either side, and rows that have no say in it."""

from __future__ import annotations

import numpy as np
import pytest

from sklearn_mtl._training import measure

# -- the scale of a row --------------------------------------------------------------------------


def test_slopes_of_the_scale_are_found() -> None:
    """Of errors that have the distribution that is assumed; the second feature says nothing."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(20_000, 2)) * [2.0, 0.3] + [5.0, -1.0]
    error = np.exp(0.4 * (features[:, 0] - 5) / 2) * rng.laplace(size=20_000)
    found = measure._scale(features, error, np.ones(20_000), penalty=1e-4)
    np.testing.assert_allclose(found["center"], [5, -1], atol=0.05)
    np.testing.assert_allclose(found["spread"], [2, 0.3], rtol=0.03)
    np.testing.assert_allclose(found["slope"], [0.4, 0], atol=0.03)


@pytest.mark.parametrize("factor", [1e-150, 1.0, 1e150])
def test_slopes_have_no_units(factor: float) -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(50, 2))
    error = features[:, 0] * rng.normal(size=50)
    expected = measure._scale(features, error, np.ones(50), 0.1)["slope"]
    found = measure._scale(features, factor * error, np.full(50, 1e-3), 0.1)["slope"]
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_errors_of_one_size_have_no_slope() -> None:
    rng = np.random.default_rng(0)
    found = measure._scale(np.ones((9, 2)), rng.normal(size=9), np.ones(9), 0.1)
    assert found["slope"].tolist() == [0, 0]
    found = measure._scale(rng.normal(size=(9, 2)), np.zeros(9), np.ones(9), 0.1)
    assert found["slope"].tolist() == [0, 0]


def test_skewed_errors_reach_farther_on_one_side() -> None:
    rng = np.random.default_rng(0)
    scaled = rng.exponential(size=4000) - np.log(2)
    below, above = measure._sides(scaled, np.ones(4000))
    assert above > 1.3 * below
    assert measure._sides(-scaled, np.ones(4000)) == (above, below)
    assert measure._sides(np.array([-4.0, 4.0]), np.ones(2)) == (2, 2)
    # Of one sign, or none: nobody knows how far the other side reaches, but some way.
    below, above = measure._sides(np.array([1.0, 2.0]), np.ones(2))
    assert 0 < below < above
    assert measure._sides(np.zeros(3), np.ones(3)) == (0.1, 0.1)
