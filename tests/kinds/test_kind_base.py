"""What holds of every kind: codes and back, the best constant, fitted tasks, kinds of one's own."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from _inputs import EVERY_KIND, make_every_kind
from _observed import (
    EVERY_LOSS,
    EVERY_OBSERVED,
    NUMBERS,
    clone_kind,
    fitted,
    loss_of,
    perfect,
    small,
    trained,
)
from scipy.optimize import minimize
from sklearn.base import clone

from sklearn_mtl.kinds import ClassificationTarget, QuantileTarget

# -- codes and back -------------------------------------------------------------------------


@EVERY_OBSERVED
def test_a_network_that_knows_the_codes_gives_the_values_back(name: str) -> None:
    _, kind, values, _ = fitted(name)
    back = kind.decode(perfect(kind, kind.encode(values)))
    if name in NUMBERS:
        np.testing.assert_allclose(back, values, rtol=1e-12, atol=1e-9 * kind.scale_)
    else:
        assert back.tolist() == values.tolist()
    assert kind.metric(kind.measured(values), kind.measured(back)) == pytest.approx(1, abs=1e-8)


@EVERY_OBSERVED
def test_a_copy_of_a_kind_is_the_same(name: str) -> None:
    _, kind, values, _ = fitted(name)
    copied = clone_kind(kind)
    np.testing.assert_array_equal(copied.encode(values), kind.encode(values))
    assert copied.n_outputs == kind.n_outputs
    assert copied.loss_params == kind.loss_params


# -- the best constant ----------------------------------------------------------------------


@pytest.mark.parametrize("family", ["likelihood", "squared"])
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@EVERY_OBSERVED
def test_no_constant_is_better_than_the_best(name: str, weighted: bool, family: str) -> None:
    kind_name, kind, values, weight = fitted(name, weighted)
    codes = kind.encode(values)
    loss, constant = loss_of(kind_name, kind, family, codes, weight), kind.constant(codes, weight)
    assert constant.shape == (kind.n_outputs,)
    found = minimize(loss, constant + 0.5, method="Nelder-Mead", options={"fatol": 1e-10})
    assert loss(constant) <= found.fun * (1 + 1e-7)
    away = [loss(constant + step) for step in (-0.3, 0.3)]
    if name != "classes":  # whose logits have a common shift without an effect
        assert loss(constant) < min(away)


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@EVERY_OBSERVED
def test_what_the_best_constant_predicts(name: str, weighted: bool) -> None:
    """The weighted mean, quantile, or class frequencies."""
    _, kind, values, weight = fitted(name, weighted)
    raw = kind.constant(kind.encode(values), weight).reshape(1, 1, -1)
    if isinstance(kind, ClassificationTarget):
        mass = np.array([weight[values == label].sum() for label in kind.classes_])
        np.testing.assert_allclose(kind.proba(raw)[0], mass / mass.sum(), rtol=1e-12)
    elif isinstance(kind, QuantileTarget):
        ordered = values.argsort()
        share = weight[ordered].cumsum() / weight.sum()
        (predicted,) = kind.decode(raw)
        assert predicted == pytest.approx(values[ordered][(share < kind.quantile).sum()])
    else:
        np.testing.assert_allclose(kind.decode(raw), np.average(values, weights=weight))


def test_classes_and_quantiles_are_left_as_trained() -> None:
    for name in ("classes", "ordered words", "upper quantile"):
        _, kind, values, weight = fitted(name)
        codes = kind.encode(values)
        shift = kind.balance(perfect(kind, codes) + 0.1, codes, weight)
        assert shift.tolist() == [0] * kind.n_outputs


def test_estimators_with_every_kind_are_cloned_and_pickled() -> None:
    X, y = make_every_kind()
    est = small(tasks=EVERY_KIND)
    assert clone(est).tasks == EVERY_KIND
    assert "Task('wait', 'quantile', quantile=0.7)" in repr(est)
    est.fit(X, y)
    again = pickle.loads(pickle.dumps(est))
    np.testing.assert_array_equal(again.predict(X), est.predict(X))
    np.testing.assert_array_equal(clone(est).fit(X, y).predict(X), est.predict(X))


# -- fitted estimators ----------------------------------------------------------------------


@EVERY_LOSS
def test_every_kind_learns(loss: str) -> None:
    """Beside the others, better than its constant."""
    X, y = make_every_kind(300)
    est = trained(tasks=EVERY_KIND, loss=loss).fit(X, y)
    scores = est.score_tasks(X, y)
    assert list(scores) == [task.name for task in EVERY_KIND]
    assert scores.pop("color") < 0.6  # of noise
    if loss == "masked_mse":
        del scores["amount"]  # trained by a squared error, and scored by a deviance
    assert min(scores.values()) > 0.1
    first, last = est.history_["train_loss"][[0, -1]]
    assert (last < first).all()


@EVERY_LOSS
def test_early_stopping_with_every_kind(loss: str) -> None:
    X, y = make_every_kind(200)
    est = trained(tasks=EVERY_KIND, loss=loss, early_stopping=True, n_iter_no_change=2, tol=0.05)
    est.fit(X, y)
    assert est.n_iter_ < 60
    assert np.isfinite(est.history_["valid_loss"]).all()
    assert est.score(X, y) > 0


@EVERY_LOSS
def test_inputs_far_from_all_others(loss: str) -> None:
    """Predictions stay finite, and counts and amounts positive."""
    X, y = make_every_kind(100)
    est = trained(tasks=EVERY_KIND, loss=loss, max_epochs=30).fit(X, y)
    far = np.vstack([s * size * np.eye(3) for s in (1, -1) for size in (1e2, 1e5, 1e10)])
    predicted = est.predict(far)
    assert np.isfinite(predicted).all()
    assert (predicted[:, [0, 2]] > 0).all()
    for proba in est.predict_proba(far):
        np.testing.assert_allclose(proba.sum(axis=1), 1, rtol=1e-9)


# -- found by breaking it -------------------------------------------------------------------


def test_inputs_out_of_all_bounds_are_refused() -> None:
    X = np.random.default_rng(0).normal(size=(60, 3))
    est = small(tasks={"y0": "poisson"}, precision="float32").fit(X, np.arange(60) % 4)
    assert np.isfinite(est.predict(X * 1e6)).all()
    X[[7, 9]] = 1e300
    with pytest.raises(ValueError, match=r"not finite in 2 rows of X, the first \[7, 9\]"):
        est.predict(X)


def test_huge_weights_are_weights() -> None:
    X, y = make_every_kind(60)
    fits = [small(tasks=EVERY_KIND).fit(X, y, np.full(60, w)).predict(X) for w in (1.0, 1e308)]
    np.testing.assert_array_equal(*fits)
