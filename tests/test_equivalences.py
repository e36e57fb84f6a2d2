"""What the estimator reduces to: known models, and other ways to say the same thing."""

import numpy as np
import pytest
import torch
from _inputs import make_table
from sklearn.linear_model import LinearRegression, LogisticRegression

from sklearn_mtl import MultiTaskCNNEstimator
from sklearn_mtl.losses import LOSSES
from sklearn_mtl.networks import DenseTrunk

X, Y = make_table(60)
EVERY_LOSS = pytest.mark.parametrize("loss", LOSSES)
TIGHT = {"rtol": 1e-6, "atol": 1e-8}


def lbfgs(groups, lr, **kwargs):
    """Finds the optimum of a full batch, whatever the schedule."""
    params = [p for group in groups for p in group["params"]]
    return torch.optim.LBFGS(
        params,
        lr,
        max_iter=50,
        tolerance_grad=1e-12,
        tolerance_change=0,
        line_search_fn="strong_wolfe",
    )


def make(**params):
    """A small estimator on full batches."""
    defaults = {
        "trunk": DenseTrunk((8,)),
        "max_epochs": 10,
        "batch_size": 1000,
        "learning_rate": 0.01,
        "precision": "float64",
        "random_state": 0,
    }
    return MultiTaskCNNEstimator(**(defaults | params))


def make_linear(**params):
    """No hidden layer, no weight decay, trained to the optimum."""
    return make(trunk=DenseTrunk(()), optimizer=lbfgs, weight_decay=0, learning_rate=1.0, **params)


def assert_same_predictions(one, other, X=X):
    np.testing.assert_allclose(one.predict(X), other.predict(X), **TIGHT)
    if hasattr(one, "classes_"):
        np.testing.assert_allclose(one.predict_proba(X), other.predict_proba(X), **TIGHT)


# -- known models --------------------------------------------------------------------------------


def test_one_linear_regression_task_is_least_squares():
    rows = ~np.isnan(Y[:, 1])
    estimator = make_linear(loss="weighted").fit(X[rows], Y[rows, 1])
    expected = LinearRegression().fit(X[rows], Y[rows, 1])
    np.testing.assert_allclose(estimator.predict(X), expected.predict(X), **TIGHT)


def test_one_linear_class_task_is_logistic_regression():
    estimator = make_linear(loss="weighted").fit(X, Y[:, 0])
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


# -- weights, rows and holes ---------------------------------------------------------------------


@EVERY_LOSS
def test_integer_weights_repeat_rows(loss):
    """A weight of 2 is the row twice, and a weight of 0 the row removed."""
    times = np.arange(len(X)) % 3
    weighted = make(loss=loss).fit(X, Y, sample_weight=times)
    repeated = make(loss=loss).fit(np.repeat(X, times, axis=0), np.repeat(Y, times, axis=0))
    assert_same_predictions(weighted, repeated)


@EVERY_LOSS
def test_a_common_factor_of_the_weights_changes_nothing(loss):
    weight = np.random.default_rng(0).uniform(0.5, 2, size=Y.shape)
    assert_same_predictions(
        make(loss=loss).fit(X, Y, weight), make(loss=loss).fit(X, Y, 1e-3 * weight)
    )


@EVERY_LOSS
def test_a_cell_of_weight_zero_is_a_hole(loss):
    drop = np.random.default_rng(0).random(Y.shape) < 0.2
    drop[drop.all(axis=1), 0] = False  # a row of weight 0 would be no row
    weighted = make(loss=loss).fit(X, Y, sample_weight=np.where(drop, 0, 1))
    assert_same_predictions(weighted, make(loss=loss).fit(X, np.where(drop, np.nan, Y)))
    np.testing.assert_array_equal(weighted.n_observed_, (~drop & ~np.isnan(Y)).sum(axis=0))


@EVERY_LOSS
def test_a_hole_is_the_row_removed_from_that_task(loss):
    """Rows twice, so that the statistics of X stay; the second copy is not observed."""
    for k in range(3):
        seen = ~np.isnan(Y[:, k])
        Z, y = X[seen], Y[seen, k]
        holes = make(loss=loss).fit(np.vstack([Z, Z]), np.concatenate([y, np.full_like(y, np.nan)]))
        assert_same_predictions(holes, make(loss=loss).fit(Z, y))


@EVERY_LOSS
def test_rows_can_be_permuted(loss):
    order = np.random.default_rng(0).permutation(len(X))
    assert_same_predictions(make(loss=loss).fit(X, Y), make(loss=loss).fit(X[order], Y[order]))


# -- units ---------------------------------------------------------------------------------------


@EVERY_LOSS
@pytest.mark.parametrize(("scale", "shift"), [(1000, 0), (1e-3, 0), (1000, 5), (1, 1e6)])
def test_units_of_a_target_do_not_matter(loss, scale, shift):
    """Neither to the predictions, but for the units, nor to the other tasks."""
    units, origin = np.array([1, scale, 1]), np.array([0, shift, 0])
    plain, other = make(loss=loss).fit(X, Y), make(loss=loss).fit(X, Y * units + origin)
    np.testing.assert_allclose(
        (other.predict(X) - origin) / units, plain.predict(X), rtol=1e-6, atol=1e-8
    )
    np.testing.assert_allclose(other.noise_std_ / units, plain.noise_std_, rtol=1e-6)


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
