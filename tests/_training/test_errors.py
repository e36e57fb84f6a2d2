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


# -- as how many rows they count -----------------------------------------------------------------


def test_rows_of_equal_weight_count_each() -> None:
    rows = np.arange(7)
    assert errors.effective_size(np.full(7, 0.3), rows, rows) == pytest.approx(7)


def test_rows_of_small_weight_count_less() -> None:
    """As in Kish's effective size."""
    rows, weight = np.arange(50), np.random.default_rng(0).exponential(size=50)
    expected = weight.sum() ** 2 / (weight**2).sum()
    assert errors.effective_size(weight, rows, rows) == pytest.approx(expected)
    weight = np.where(rows < 5, 1, 1e-9)
    assert errors.effective_size(weight, rows, rows) == pytest.approx(5)


@pytest.mark.parametrize("grouped", [False, True])
def test_a_row_of_weight_two_counts_as_the_row_twice(grouped: bool) -> None:
    rng = np.random.default_rng(0)
    rows, weight = np.arange(30), rng.integers(1, 4, size=30)
    groups = rng.integers(6, size=30) if grouped else rows
    again = np.repeat(rows, weight)
    found = errors.effective_size(weight.astype(float), groups, rows)
    assert errors.effective_size(np.ones(len(again)), groups[again], again) == pytest.approx(found)


def test_a_large_group_does_not_outweigh_the_others() -> None:
    groups = np.concatenate([np.zeros(500, dtype=int), np.arange(1, 40)])
    rows = np.arange(len(groups))
    assert errors.effective_size(np.ones(len(rows)), groups, rows) == pytest.approx(40)
    light = np.where(groups == 0, 1.0, 1e-6)
    assert errors.effective_size(light, groups, rows) == pytest.approx(1, rel=1e-3)


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
