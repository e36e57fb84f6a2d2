"""Ridge regressions on folds, and the shares of network and line."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from _fits import make
from sklearn.linear_model import Ridge

from sklearn_mtl import _predict
from sklearn_mtl._data.encoded import EncodedTargets
from sklearn_mtl._training import line as lines
from sklearn_mtl.networks import DenseTrunk, MemberTrunk


def table(n=90, d=4, noise=0.5, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)) + 3
    return X, X @ rng.normal(size=d) + noise * rng.normal(size=n) - 7


def ridges(X, Y, weight, folds, n_folds):
    """Intercepts (n_folds, n_tasks) and coefficients (n_folds, d, n_tasks) for the columns of Y."""
    weights = np.repeat(weight[:, None], Y.shape[1], axis=1)
    return lines._ridges(X, EncodedTargets(Y, weights), [*range(Y.shape[1])], folds, n_folds)


def mixed(network, line, y, weight):
    """Shares for each column, of deviations from the means."""
    pairs = [(network, network), (network, line), (line, line), (network, y), (line, y)]
    return lines.mix(*((weight * p * q).sum(axis=0) for p, q in pairs))


@pytest.mark.parametrize("weighted", [False, True])
def test_lines_are_ridge_regressions_without_a_fold(weighted):
    """The penalty is in units of the mean square, and the folds left out choose each task's."""
    X, signal = table()
    rng = np.random.default_rng(1)
    both = np.column_stack([signal, rng.normal(size=90)])
    weight = rng.integers(0, 4, size=90).astype(float) if weighted else np.ones(90)
    folds = np.arange(90) % 3
    chosen = []
    intercepts, coefficients = ridges(X, both, weight, folds, 3)
    found = zip(both.T, intercepts.T, coefficients.transpose(2, 0, 1), strict=True)
    for y, intercept, coefficient in found:
        errors = []
        for penalty in lines.PENALTIES:
            out = np.empty(90)
            for m in range(3):
                rest = (folds != m) & (weight > 0)
                ridge = Ridge(alpha=penalty * weight.sum())
                ridge.fit(X[rest], y[rest], sample_weight=weight[rest])
                out[folds == m] = ridge.predict(X[folds == m])
            errors.append((np.average((y - out) ** 2, weights=weight), penalty, out))
        _, penalty, out = min(errors, key=lambda of_penalty: of_penalty[0])
        chosen.append(penalty)
        for m in range(3):
            np.testing.assert_allclose(
                X[folds == m] @ coefficient[m] + intercept[m], out[folds == m], rtol=1e-6
            )
    assert chosen[0] < chosen[1]


def test_a_weight_of_two_is_the_row_twice_for_lines():
    X, y = table(30)
    times = np.arange(30) % 3
    y, folds = y[:, None], np.arange(30) % 5
    _, weighted = ridges(X, y, times.astype(float), folds, 5)
    _, repeated = ridges(
        *(np.repeat(part, times, axis=0) for part in (X, y, np.ones(30), folds)), 5
    )
    np.testing.assert_allclose(weighted, repeated, rtol=1e-8)
    _, scaled = ridges(X, y, 1e-3 * times, folds, 5)
    np.testing.assert_allclose(weighted, scaled, rtol=1e-8)


def test_a_fold_left_out_is_not_what_the_others_lack():
    """Around the means of all rows it would be, where there are more inputs than rows."""
    rng = np.random.default_rng(0)
    person = np.repeat(np.arange(6), 10)
    X = rng.normal(size=(6, 200))[person] + 0.5 * rng.normal(size=(60, 200))
    y = rng.normal(size=(6, 8))[person] + 0.1 * rng.normal(size=(60, 8))
    estimator = make(tasks=None, trunk="dense", max_epochs=1).fit(X, y, groups=person)
    assert np.mean([*estimator.oob_score_.values()]) < 0


def error(shares, network, line, y, weight):
    return np.average((y - shares[0] * network - shares[1] * line) ** 2, weights=weight)


@pytest.mark.parametrize("seed", range(12))
def test_shares_are_the_best_of_all(seed):
    """Against all of a grid in the triangle, also where a bound holds."""
    rng = np.random.default_rng(seed)
    y, weight = rng.normal(size=50), rng.uniform(0.1, 2, size=50)
    a, b = rng.uniform(-0.5, 2, size=2)
    network, line = a * y + rng.normal(size=50), b * y + rng.normal(size=50)
    y, network, line = (v - np.average(v, weights=weight) for v in (y, network, line))
    columns = np.stack([network, network[::-1]]), np.stack([line, line]), np.stack([y, -y])
    parts = [part.T for part in (*columns, np.stack([weight, weight]) / weight.sum())]
    found = tuple(float(share[0]) for share in mixed(*parts))  # each task has its own
    assert min(found) >= 0
    assert sum(found) <= 1 + 1e-12
    grid = [pair for pair in itertools.product(np.linspace(0, 1, 41), repeat=2) if sum(pair) <= 1]
    best = min(error(pair, network, line, y, weight) for pair in grid)
    assert error(found, network, line, y, weight) <= best + 1e-12


def test_shares_of_what_says_nothing():
    y = np.array([-1.0, 0.0, 1.0])
    zero, one = np.zeros(3), y
    pairs = [(zero, zero), (one, zero), (zero, one), (-one, -one), (one, one)]  # the same twice
    network, line = (np.stack(parts, axis=1) for parts in zip(*pairs, strict=True))
    truth = np.stack([y] * len(pairs), axis=1)
    of_network, of_line = mixed(network, line, truth, np.full(truth.shape, 1 / 3))
    np.testing.assert_allclose(of_network[:4], [0, 1, 0, 0], atol=1e-12)
    np.testing.assert_allclose(of_line[:4], [0, 0, 1, 0], atol=1e-12)
    assert of_network[4] + of_line[4] == pytest.approx(1)


def fitted(n=120, **params):
    X, y = table(n, noise=0.3)
    trunk = params.pop("trunk", DenseTrunk((4,), n_members=3))
    return X, y, make(tasks=None, trunk=trunk, max_epochs=1, **params).fit(X, y)


def test_a_line_is_in_the_heads_after_an_epoch():
    """One epoch teaches the network nothing, and the line all."""
    X, y, estimator = fitted(learning_rate=1e-5)
    assert estimator.score(X, y) > 0.9
    assert estimator.oob_score_["y0"] > 0.9


def test_hidden_heads_and_wide_tables_have_no_line(monkeypatch):
    assert fitted(learning_rate=1e-5, head_hidden_units=3)[2].oob_score_["y0"] < 0.9
    monkeypatch.setattr(lines, "WIDEST", 3)
    assert fitted(learning_rate=1e-5)[2].oob_score_["y0"] < 0.5


def test_lines_of_some_rows_are_nearly_those_of_all(monkeypatch):
    X, _, every = fitted(400, learning_rate=1e-5)
    monkeypatch.setattr(lines, "VALUES", 4 * 200)
    monkeypatch.setattr(lines, "ENOUGH", 100)
    some = fitted(400, learning_rate=1e-5)[2]
    difference = some.predict(X) - every.predict(X)
    assert 0 < np.sqrt(np.mean(difference**2)) < 0.1 * every.predict(X).std()
    assert np.isfinite(some.oob_prediction_).all()


def test_inputs_of_the_heads_are_those_of_lines():
    trunk = DenseTrunk((4,), n_members=2).build((3,))
    x = torch.randn(5, 3)
    net = SimpleNamespace(module=trunk)
    features = net.module(x)
    assert torch.equal(features[:, 0, -3:], trunk.straight(x))


def test_inputs_go_through_waves_in_the_chunks_of_predictions(monkeypatch):
    """A million rows at once would need gigabytes."""
    straight, sizes = MemberTrunk.straight, []
    monkeypatch.setattr(_predict, "CHUNK_ROWS", 50)
    monkeypatch.setattr(
        MemberTrunk, "straight", lambda trunk, x: sizes.append(len(x)) or straight(trunk, x)
    )
    fitted(120)
    assert sum(sizes) == 120
    assert max(sizes) <= 50
