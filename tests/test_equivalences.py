"""What the estimator reduces to: known models, and other ways to say the same thing."""

import dataclasses

import numpy as np
import pytest
from _inputs import EVERY_KIND, lbfgs, make_every_kind, make_table
from sklearn.linear_model import (
    GammaRegressor,
    LinearRegression,
    LogisticRegression,
    PoissonRegressor,
    QuantileRegressor,
)
from sklearn.metrics import mean_pinball_loss

from sklearn_mtl import MultiTaskCNNEstimator, Task
from sklearn_mtl.losses import LOSSES, LogProd
from sklearn_mtl.networks import DenseTrunk

X, Y = make_table(60)
EVERY_LOSS = pytest.mark.parametrize("loss", LOSSES)
# Tasks, X, y: what an equivalence must hold for.
TABLES = {"classes and numbers": (None, X, Y), "every kind": (EVERY_KIND, *make_every_kind(60))}
EVERY_TABLE = pytest.mark.parametrize(("tasks", "X", "Y"), TABLES.values(), ids=TABLES.keys())
TIGHT = {"rtol": 1e-6, "atol": 1e-8}


def make(**params):
    """A small estimator on full batches."""
    defaults = {
        "trunk": DenseTrunk((8,), n_members=2),
        "max_epochs": 10,
        "batch_size": 1000,
        "learning_rate": 0.01,
        "precision": "float64",
        "random_state": 0,
    }
    return MultiTaskCNNEstimator(**(defaults | params))


def make_linear(**params):
    """No hidden layer, no weight decay, trained to the optimum."""
    linear = {"trunk": DenseTrunk(()), "weight_decay": 0}
    return make(**(linear | {"optimizer": lbfgs, "learning_rate": 1.0} | params))


def assert_same_predictions(one, other, X=X):
    np.testing.assert_allclose(one.predict(X), other.predict(X), **TIGHT)
    if hasattr(one, "classes_"):
        probabilities = [est.predict_proba(X) for est in (one, other)]
        if isinstance(one.classes_, list):
            probabilities = [np.hstack(each) for each in probabilities]
        np.testing.assert_allclose(*probabilities, **TIGHT)


# -- known models --------------------------------------------------------------------------------


SMOOTH = ["weighted", "uncertainty", LogProd(decay=None)]  # one function from step to step
EVERY_SMOOTH = pytest.mark.parametrize("loss", SMOOTH, ids=["weighted", "uncertainty", "logprod"])


@pytest.mark.parametrize(
    "loss", [*SMOOTH, "masked_mse"], ids=["weighted", "uncertainty", "logprod", "masked_mse"]
)
def test_one_linear_regression_task_is_least_squares(loss):
    rows = ~np.isnan(Y[:, 1])
    estimator = make_linear(loss=loss).fit(X[rows], Y[rows, 1])
    expected = LinearRegression().fit(X[rows], Y[rows, 1])
    np.testing.assert_allclose(estimator.predict(X), expected.predict(X), **TIGHT)


@EVERY_SMOOTH
def test_one_linear_class_task_is_logistic_regression(loss):
    estimator = make_linear(loss=loss).fit(X, Y[:, 0])
    expected = LogisticRegression(C=np.inf, tol=1e-10).fit(X, Y[:, 0])
    np.testing.assert_allclose(estimator.predict_proba(X), expected.predict_proba(X), atol=1e-5)


def test_linear_tasks_are_separate_models_on_their_own_rows():
    """Holes and weights of one task do not touch another, as no layer is shared."""
    weight = np.random.default_rng(0).uniform(0.5, 2, size=Y.shape)
    estimator = make_linear(loss="weighted").fit(X, Y, weight)
    for k in (1, 2):
        rows = ~np.isnan(Y[:, k])
        expected = LinearRegression().fit(X[rows], Y[rows, k], weight[rows, k])
        np.testing.assert_allclose(estimator.predict(X)[:, k], expected.predict(X), rtol=1e-4)
    expected = LogisticRegression(C=np.inf, tol=1e-10).fit(X, Y[:, 0], weight[:, 0])
    np.testing.assert_allclose(estimator.predict_proba(X), expected.predict_proba(X), atol=1e-4)


def test_logprod_of_one_task_is_least_squares():
    """The weight of a lone task changes the steps, not the optimum."""
    rows = ~np.isnan(Y[:, 1])
    estimator = make(trunk=DenseTrunk(()), weight_decay=0, max_epochs=300, learning_rate=0.1)
    expected = LinearRegression().fit(X[rows], Y[rows, 1])
    np.testing.assert_allclose(
        estimator.fit(X[rows], Y[rows, 1]).predict(X), expected.predict(X), atol=1e-4
    )


def test_logprod_of_one_class_task_is_logistic_regression():
    estimator = make(trunk=DenseTrunk(()), weight_decay=0, max_epochs=300, learning_rate=0.1)
    expected = LogisticRegression(C=np.inf, tol=1e-10).fit(X, Y[:, 0])
    np.testing.assert_allclose(
        estimator.fit(X, Y[:, 0]).predict_proba(X), expected.predict_proba(X), atol=1e-4
    )


def counts_and_amounts(n_samples=400):
    """X, counts and amounts of log-linear means, and weights."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n_samples, 3)) * [1, 10, 0.1] + [0, 5, 0]
    log_mean = X @ [0.5, -0.05, 2.0]
    y = np.column_stack([rng.poisson(np.exp(log_mean)), rng.gamma(2, np.exp(log_mean + 7))])
    return X, y, rng.uniform(0.5, 2, size=n_samples)


@pytest.mark.parametrize("weighted", [False, True])
def test_one_linear_count_is_poisson_regression(weighted):
    X, y, weight = counts_and_amounts()
    weight = weight if weighted else None
    estimator = make_linear(loss="weighted", tasks={"y0": "poisson"}).fit(X, y[:, 0], weight)
    expected = PoissonRegressor(alpha=0, tol=1e-10, max_iter=1000).fit(X, y[:, 0], weight)
    np.testing.assert_allclose(estimator.predict(X), expected.predict(X), rtol=1e-4)
    assert estimator.score(X, y[:, 0]) == pytest.approx(expected.score(X, y[:, 0]), rel=1e-6)


@pytest.mark.parametrize("weighted", [False, True])
def test_one_linear_amount_is_gamma_regression(weighted):
    """But for a factor, with which the training rows have their sum."""
    X, y, weight = counts_and_amounts()
    mass = weight if weighted else np.ones(len(X))
    estimator = make_linear(loss="weighted", tasks={"y0": "gamma"}).fit(X, y[:, 1], mass)
    expected = GammaRegressor(alpha=0, tol=1e-10, max_iter=1000).fit(X, y[:, 1], mass).predict(X)
    factor = (mass @ y[:, 1]) / (mass @ expected)
    assert abs(factor - 1) > 1e-3
    np.testing.assert_allclose(estimator.predict(X), factor * expected, rtol=1e-4)


@pytest.mark.parametrize("level", [0.25, 0.9])
def test_one_linear_quantile_is_quantile_regression(level):
    rows = ~np.isnan(Y[:, 1])
    Z, y = X[rows], Y[rows, 1]
    task = Task("y0", "quantile", quantile=level)
    estimator = make(
        trunk=DenseTrunk(()), tasks=[task], weight_decay=0, max_epochs=150, learning_rate=0.1
    ).fit(Z, y)
    expected = QuantileRegressor(quantile=level, alpha=0, solver="highs").fit(Z, y)
    best, loss = (
        mean_pinball_loss(y, est.predict(Z), alpha=level) for est in (expected, estimator)
    )
    assert best <= loss < 1.01 * best


def test_two_ordered_classes_are_logistic_regression():
    estimator = make_linear(loss="weighted", tasks={"y0": "ordinal"}).fit(X, Y[:, 0])
    expected = LogisticRegression(C=np.inf, tol=1e-10).fit(X, Y[:, 0])
    np.testing.assert_allclose(estimator.predict_proba(X), expected.predict_proba(X), atol=1e-5)
    np.testing.assert_array_equal(estimator.predict(X), expected.predict(X))


def test_linear_tasks_of_every_kind_are_separate_models():
    """Beside each other as alone, with holes and weights."""
    _, X, y = TABLES["every kind"]
    tasks = [EVERY_KIND[k] for k in (0, 1, 2, 5)]  # a quantile has no unique optimum
    y, weight = y[:, [0, 1, 2, 5]], np.random.default_rng(0).uniform(0.5, 2, size=(60, 4))
    weight[:, 1] += 1  # rows count alike, where one task is alone
    together = make_linear(loss="weighted", tasks=tasks).fit(X, y, weight)
    for k, task in enumerate(tasks):
        seen = ~np.isnan(y[:, k])
        task = dataclasses.replace(task, given=None)
        alone = make_linear(loss="weighted", tasks=[task])
        alone.fit(X[seen], y[seen, k], weight[seen, k])
        np.testing.assert_allclose(together.predict(X)[:, k], alone.predict(X), rtol=1e-3)


# -- weights, rows and holes ---------------------------------------------------------------------


@EVERY_TABLE
@EVERY_LOSS
def test_integer_weights_repeat_rows(loss, tasks, X, Y):
    """A weight of 2 is the row twice, and a weight of 0 the row removed."""
    times = np.arange(len(X)) % 3
    weighted, repeated = make(loss=loss, tasks=tasks), make(loss=loss, tasks=tasks)
    weighted.fit(X, Y, sample_weight=times)
    repeated.fit(np.repeat(X, times, axis=0), np.repeat(Y, times, axis=0))
    assert_same_predictions(weighted, repeated, X)


@EVERY_LOSS
def test_weights_are_repetitions_by_default(loss):
    """With waves and members, and all else as it comes: few rows are one batch in float64."""
    times = np.arange(len(X)) % 3
    weighted, repeated = (MultiTaskCNNEstimator(loss=loss, random_state=0) for _ in range(2))
    weighted.fit(X, Y, sample_weight=times)
    repeated.fit(np.repeat(X, times, axis=0), np.repeat(Y, times, axis=0))
    assert weighted.module_.heads.weight.dtype.itemsize == 8
    assert weighted.n_iter_ == repeated.n_iter_
    assert_same_predictions(weighted, repeated, X)


@EVERY_TABLE
@EVERY_LOSS
def test_a_common_factor_of_the_weights_changes_nothing(loss, tasks, X, Y):
    weight = np.random.default_rng(0).uniform(0.5, 2, size=Y.shape)
    one, other = make(loss=loss, tasks=tasks), make(loss=loss, tasks=tasks)
    assert_same_predictions(one.fit(X, Y, weight), other.fit(X, Y, 1e-3 * weight), X)


@EVERY_TABLE
@EVERY_LOSS
def test_a_cell_of_weight_zero_is_a_hole(loss, tasks, X, Y):
    drop = np.random.default_rng(0).random(Y.shape) < 0.2
    drop[drop.all(axis=1), 0] = False  # a row of weight 0 would be no row
    weighted, holes = make(loss=loss, tasks=tasks), make(loss=loss, tasks=tasks)
    weighted.fit(X, Y, sample_weight=np.where(drop, 0, 1))
    assert_same_predictions(weighted, holes.fit(X, np.where(drop, np.nan, Y)), X)
    np.testing.assert_array_equal(weighted.n_observed_, (~drop & ~np.isnan(Y)).sum(axis=0))


@EVERY_TABLE
@EVERY_LOSS
def test_a_hole_is_the_row_removed_from_that_task(loss, tasks, X, Y):
    """Rows twice, so that the statistics of X stay; the second copy is not observed."""
    for k in range(Y.shape[1]):
        task = None if tasks is None else [dataclasses.replace(tasks[k], given=None)]
        seen = ~np.isnan(Y[:, k])
        Z, y = X[seen], Y[seen, k]
        holes, removed = (make(loss=loss, tasks=task, max_epochs=4) for _ in range(2))
        holes.fit(np.vstack([Z, Z]), np.concatenate([y, np.full_like(y, np.nan)]))
        assert_same_predictions(holes, removed.fit(Z, y), X)


@pytest.mark.parametrize("params", [{}, {"early_stopping": True}, {"trunk": "auto"}], ids=str)
def test_rows_without_a_target_are_not_trained_on(params):
    """Nothing of them but what they tell of X: its mean and scale."""
    Z, y, n = X[:40], Y[:40], 5 * len(X)
    more = np.random.default_rng(0).normal(3, 2, size=(n, X.shape[1]))
    order = np.argsort(np.concatenate([np.linspace(0, n, len(Z)), np.arange(n)]), kind="stable")
    all_X = np.vstack([Z, more])[order]
    all_y = np.vstack([y, np.full((n, y.shape[1]), np.nan)])[order]
    told = params | {"batch_size": 8, "standardize": (Z.mean(axis=0), Z.std(axis=0))}
    one, other = make(**told).fit(all_X, all_y), make(**told).fit(Z, y)
    np.testing.assert_array_equal(one.predict(X), other.predict(X))
    if params.get("trunk") == "auto":
        holes = np.isnan(one.oob_prediction_).any(axis=1)
        np.testing.assert_array_equal(holes, np.isnan(all_y).all(axis=1))
    learned = make(max_epochs=1, **params).fit(all_X, all_y).net_.reader_
    far = np.abs(learned.mean_ - all_X.mean(axis=0)).max()  # but for rows that are held out
    assert far < (0.1 if "early_stopping" in params else 1e-12)


@EVERY_TABLE
@EVERY_LOSS
def test_rows_can_be_permuted(loss, tasks, X, Y):
    order = np.random.default_rng(0).permutation(len(X))
    one, other = make(loss=loss, tasks=tasks), make(loss=loss, tasks=tasks)
    assert_same_predictions(one.fit(X, Y), other.fit(X[order], Y[order]), X)


# -- units ---------------------------------------------------------------------------------------


@EVERY_LOSS
@pytest.mark.parametrize(("scale", "shift"), [(1000, 0), (1e-3, 0), (1000, 5), (1, 1e6)])
def test_units_of_a_target_do_not_matter(loss, scale, shift):
    """Neither to the predictions, but for the units, nor to the other tasks."""
    units, origin = np.array([1, scale, 1]), np.array([0, shift, 0])
    plain, other = make(loss=loss).fit(X, Y), make(loss=loss).fit(X, Y * units + origin)
    # Rounding of the targets is amplified: heads begin with 0, and the optimizer's first steps are
    # as long for the smallest gradient.
    close = {"rtol": 1e-3, "atol": 1e-3} if shift == 1e6 else {"rtol": 1e-6, "atol": 1e-8}
    np.testing.assert_allclose((other.predict(X) - origin) / units, plain.predict(X), **close)
    np.testing.assert_allclose(other.noise_std_ / units, plain.noise_std_, **close)


@EVERY_LOSS
@pytest.mark.parametrize("scale", [1e-3, 1000])
def test_units_of_counts_amounts_and_quantiles_do_not_matter(loss, scale):
    tasks, X, Y = TABLES["every kind"]
    units = np.array([scale, 1, scale, scale, 1, 1])
    plain, other = make(loss=loss, tasks=tasks), make(loss=loss, tasks=tasks)
    np.testing.assert_allclose(
        other.fit(X, Y * units).predict(X) / units, plain.fit(X, Y).predict(X), **TIGHT
    )
    # Nor the names of the levels.
    names = {3: 10, 1: 20, 2: 30}
    tasks = [dataclasses.replace(task, categories=None, given=None) for task in tasks]
    level = [np.nan if np.isnan(v) else names[v] for v in Y[:, 1]]
    renamed = np.column_stack([Y[:, 0], level, Y[:, 2:]])
    other = make(loss=loss, tasks=tasks).fit(X, renamed)
    np.testing.assert_array_equal(
        other.predict(X)[:, 1], [names[v] for v in plain.predict(X)[:, 1]]
    )


@pytest.mark.parametrize(("scale", "shift"), [(1000, 0), (1e-3, 5), (1, 1e6)])
def test_units_of_a_feature_do_not_matter(scale, shift):
    other = X * [1, scale, 1] + [0, shift, 0]
    np.testing.assert_allclose(
        make().fit(other, Y).predict(other), make().fit(X, Y).predict(X), rtol=1e-5, atol=1e-7
    )


def test_labels_do_not_matter():
    words = np.array(["low", "up"], dtype=object)[Y[:, 0].astype(int)]
    estimator = make().fit(X, words)
    np.testing.assert_array_equal(estimator.predict(X) == "up", make().fit(X, Y[:, 0]).predict(X))


# -- noise ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("loss", ["logprod", "weighted"])
def test_the_noise_of_each_number_is_found(loss, weighted):
    """Known noise in very different units and shares of holes, within four standard errors.

    A linear model has taken up one degree of freedom per coefficient.
    """
    rng = np.random.default_rng(0)
    X = rng.normal(size=(2000, 3))
    sigma, share = np.array([0.01, 5.0, 3e4, 1e-6]), np.array([1.0, 0.6, 0.2, 0.05])
    signal = X @ rng.normal(size=(3, 4)) * sigma * [5, 1, 2, 0.1]
    y = signal + sigma * rng.normal(size=signal.shape)
    y[rng.random(y.shape) >= share] = np.nan
    weight = rng.choice([0.5, 1.0, 2.0], size=y.shape)
    mass = np.where(np.isnan(y), 0, weight if weighted else 1)
    n = mass.sum(axis=0) ** 2 / (mass**2).sum(axis=0)  # as many rows of weight 1
    y[:, 0] += 100  # an offset is no noise
    steps = {"optimizer": "AdamW", "learning_rate": 0.1, "max_epochs": 60}
    params = steps if loss == "logprod" else {}  # whose weights follow the steps
    estimator = make_linear(loss=loss, batch_size=5000, **params)
    noise = estimator.fit(X, y, weight if weighted else None).noise_std_
    expected = sigma * np.sqrt(1 - 4 / n)
    np.testing.assert_array_less(np.abs(noise / expected - 1), 4 / np.sqrt(2 * n))
