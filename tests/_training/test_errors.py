"""What intervals are made of: quantiles of scores, the scale of a row, and members among others."""

from __future__ import annotations

import numpy as np
import pytest
from _fits import make

from sklearn_mtl._data.tables import Column
from sklearn_mtl._fitted import fitted_of
from sklearn_mtl._intervals import N_QUANTILES
from sklearn_mtl._training import errors
from sklearn_mtl.networks import DenseTrunk

# -- quantiles -----------------------------------------------------------------------------------


def test_quantiles_are_scores_that_as_many_do_not_exceed() -> None:
    rng = np.random.default_rng(0)
    scores = rng.permutation(np.arange(1.0, 6.0))
    found = errors._quantiles(scores, np.ones(5))
    levels = np.arange(1, N_QUANTILES + 1) / N_QUANTILES
    np.testing.assert_array_equal(found, np.ceil(levels * 5 - 1e-9))


def test_quantiles_of_a_weight_of_two_are_those_of_the_row_twice() -> None:
    rng = np.random.default_rng(0)
    scores, weight = rng.exponential(size=70), rng.integers(1, 4, size=70)
    weighted = errors._quantiles(scores, weight.astype(float))
    repeated = errors._quantiles(np.repeat(scores, weight), np.ones(weight.sum()))
    np.testing.assert_array_equal(weighted, repeated)


# -- the scale of a row --------------------------------------------------------------------------


def test_slopes_of_the_scale_are_found() -> None:
    """Of errors that have the distribution that is assumed; the second feature says nothing."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(20_000, 2)) * [2.0, 0.3] + [5.0, -1.0]
    error = np.exp(0.4 * (features[:, 0] - 5) / 2) * rng.laplace(size=20_000)
    found = errors._scale(features, error, np.ones(20_000), penalty=1e-4)
    np.testing.assert_allclose(found["center"], [5, -1], atol=0.05)
    np.testing.assert_allclose(found["spread"], [2, 0.3], rtol=0.03)
    np.testing.assert_allclose(found["slope"], [0.4, 0], atol=0.03)


@pytest.mark.parametrize("factor", [1e-150, 1.0, 1e150])
def test_slopes_have_no_units(factor: float) -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(50, 2))
    error = features[:, 0] * rng.normal(size=50)
    expected = errors._scale(features, error, np.ones(50), 0.1)["slope"]
    found = errors._scale(features, factor * error, np.full(50, 1e-3), 0.1)["slope"]
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_errors_of_one_size_have_no_slope() -> None:
    rng = np.random.default_rng(0)
    found = errors._scale(np.ones((9, 2)), rng.normal(size=9), np.ones(9), 0.1)
    assert found["slope"].tolist() == [0, 0]
    found = errors._scale(rng.normal(size=(9, 2)), np.zeros(9), np.ones(9), 0.1)
    assert found["slope"].tolist() == [0, 0]


def test_skewed_errors_reach_farther_on_one_side() -> None:
    rng = np.random.default_rng(0)
    scaled = rng.exponential(size=4000) - np.log(2)
    below, above = errors._sides(scaled, np.ones(4000))
    assert above > 1.3 * below
    assert errors._sides(-scaled, np.ones(4000)) == (above, below)
    assert errors._sides(np.array([-4.0, 4.0]), np.ones(2)) == (2, 2)
    # Of one sign, or none: nobody knows how far the other side reaches, but some way.
    below, above = errors._sides(np.array([1.0, 2.0]), np.ones(2))
    assert 0 < below < above
    assert errors._sides(np.zeros(3), np.ones(3)) == (0.1, 0.1)


# -- members -------------------------------------------------------------------------------------


def test_what_seeing_a_row_does_is_known_of_linear_members() -> None:
    """Ridge regressions on bootstrap samples: how far apart on new rows, from rows that were seen.

    Members share the targets, and differ by what they were fitted on, as here by random features.
    """
    rng = np.random.default_rng(0)
    n, d, n_members = 400, 120, 5
    truth = rng.normal(size=8)
    X, X_new = rng.normal(size=(2, n, 8))
    y = X @ truth + rng.normal(size=n)
    folds = np.arange(n) % n_members
    seen, new, left_out = np.empty((n, n_members)), np.empty((n, n_members)), np.empty(n)
    for m in range(n_members):
        W, b = rng.normal(size=(8, d)), rng.uniform(0, 6, size=d)
        Z, Z_new = np.cos(X @ W / 3 + b), np.cos(X_new @ W / 3 + b)
        rows = folds != m
        fit = np.linalg.solve(Z[rows].T @ Z[rows] + 0.3 * np.eye(d), Z[rows].T @ y[rows])
        seen[:, m], new[:, m] = Z @ fit, Z_new @ fit
        left_out[~rows] = y[~rows] - Z[~rows] @ fit
    others = seen[folds[:, None] != np.arange(n_members)].reshape(n, -1)
    nearness = errors._nearness(y[:, None] - others, left_out, np.ones(n))
    ratio = others.var(axis=1, ddof=1).mean() / new.var(axis=1, ddof=1).mean()
    assert 0.25 < ratio < 0.7
    assert ratio < nearness < 1.7 * ratio  # rather too careful
    # And so something is known of how much less their mean errs than single ones, not too much.
    gain = errors._gain_of_mean(others, left_out, np.ones(n), nearness)
    error = X_new @ truth + rng.normal(size=n) - new.mean(axis=1)
    assert np.sqrt((error**2).mean() / (left_out**2).mean()) < gain < 0.95


def test_what_cannot_be_known_of_members_is_not_guessed() -> None:
    zeros, ones = np.zeros((9, 4)), np.ones(9)
    assert errors._nearness(zeros, 0 * ones, ones) == 1
    assert errors._nearness(zeros, ones, ones) == errors.NEAREST
    assert errors._nearness(zeros + 5, ones, ones) == 1
    assert errors._gain_of_mean(zeros, 0 * ones, ones, 1) == 1
    apart = np.arange(36.0).reshape(9, 4)
    assert errors._gain_of_mean(apart, ones, ones, 1) == np.sqrt(errors.NEAREST)


@pytest.mark.parametrize("n_members", [1, 2, 3, 5])
def test_ensembles_of_any_size(n_members: int) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 3))
    trunk = DenseTrunk((4,), n_members=n_members)
    estimator = make(trunk=trunk, early_stopping=n_members == 1)
    estimator.set_params(validation_fraction=0.3).fit(X, X[:, 0])
    found = fitted_of(estimator).errors
    assert np.isfinite(found["ends"]).all()
    assert (found["slope"][0, 1] == 0) == (n_members < 3)  # who has left out a row is another
    assert np.isfinite(estimator.predict_interval(X)).all()


# -- rows ----------------------------------------------------------------------------------------


def test_rows_are_drawn_where_a_task_is_rare(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    monkeypatch.setattr(errors, "ENOUGH", 50)
    n = 1000
    X = rng.normal(size=(n, 3))
    y = X.copy()
    y[100:, 1] = np.nan
    y[20:, 2] = np.nan
    estimator = make(trunk=DenseTrunk((4,)), max_epochs=1).fit(X, y)
    fitted = fitted_of(estimator)
    columns = [Column(c, ~np.isnan(c), False, None) for c in y.T]
    drawn = errors._draw_rows(fitted.encoder, columns, 0)
    assert len(drawn) < 130
    assert [(drawn[:, None] < [n, 100, 20]).sum(axis=0).tolist()[k] >= 20 for k in range(3)]
    assert np.isin(np.arange(20), drawn).all()
    n = fitted.errors["n"]
    assert 50 <= n[0] < 130
    assert 50 <= n[1] <= 100
    assert n[2] == 20
