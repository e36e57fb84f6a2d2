"""Tasks in thousands: what is computed for many at once, and in parts, is what it was alone."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from _inputs import EVERY_KIND, make_every_kind

import sklearn_mtl._data.decoding as decoding
import sklearn_mtl._fitted as fitted
import sklearn_mtl._score as score
from sklearn_mtl import MultiTaskCNNEstimator
from sklearn_mtl._data import tables
from sklearn_mtl._fitted import fitted_of
from sklearn_mtl._training import calibrate, left_out, line
from sklearn_mtl.kinds import ClassificationTarget, RegressionTarget
from sklearn_mtl.networks import DenseTrunk


@pytest.fixture(scope="module")
def trained() -> tuple[MultiTaskCNNEstimator, Any, Any]:
    X, y = make_every_kind(60)
    return MultiTaskCNNEstimator(EVERY_KIND, max_epochs=2, random_state=0).fit(X, y), X, y


@pytest.fixture(autouse=True)
def a_few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "MANY", 1)


def test_tasks_computed_together_are_those_computed_alone(
    trained: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    estimator, X, _ = trained
    together, proba = estimator.predict(X), estimator.predict_proba(X)
    monkeypatch.setattr(decoding, "ALIKE", ())
    np.testing.assert_array_equal(together, estimator.predict(X))
    for some, alone in zip(proba, estimator.predict_proba(X), strict=True):
        np.testing.assert_allclose(some, alone, rtol=1e-12)


def test_few_tasks_at_a_time_change_nothing(trained: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    estimator, X, y = trained
    found, scores = estimator.predict(X), estimator.score_tasks(X, y)
    monkeypatch.setattr(decoding, "VALUES", 1)
    monkeypatch.setattr(score, "VALUES", 1)
    np.testing.assert_array_equal(found, estimator.predict(X))
    assert estimator.score_tasks(X, y) == pytest.approx(scores, nan_ok=True)


@pytest.mark.parametrize("rule", ["estimate", "nan", "expected"])
def test_rows_in_turn_are_predicted_as_all(
    rule: str, trained: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    estimator, X, _ = trained
    estimator.set_params(conditional_output=rule)
    found = estimator.predict(X)
    monkeypatch.setattr(fitted, "OUTPUTS", 200)  # few rows
    in_turn = estimator.predict(X)
    assert in_turn.dtype == found.dtype
    assert in_turn.shape == found.shape
    for one, other in zip(in_turn.T, found.T, strict=True):
        if all(isinstance(value, float) for value in other):
            np.testing.assert_allclose(one.astype(float), other.astype(float), rtol=1e-5)
        else:
            np.testing.assert_array_equal(one, other)


def test_a_kind_that_decodes_in_a_way_of_its_own_is_asked() -> None:
    class Opposite(ClassificationTarget):
        def decode(self, raw: Any) -> Any:
            return super().decode(-raw)

    class Doubled(RegressionTarget):
        def link(self, raw: Any) -> Any:
            return 2 * super().link(raw)

    kinds: list[Any] = [
        ClassificationTarget(),
        Opposite(),
        Opposite(),
        RegressionTarget(),
        Doubled(),
    ]
    for kind in kinds:
        kind.fit(np.array([0.0, 1.0]), np.ones(2))
    decoder = decoding.TargetDecoder()
    decoder.kinds_ = kinds
    raw = np.array([[0.0, 1.0] * 3 + [1.0, 1.0]])
    found = [column.item() for column in decoder.decode(raw)]
    assert found == [1, 0, 0, 1.0, 1.5]


# -- few observed cells --------------------------------------------------------------------------

N, N_TASKS = 400, 60


def sparse() -> tuple[np.ndarray, sp.csr_array]:
    """Rows, and numbers and flags with 94 % holes."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N, 5))
    y = X @ rng.normal(size=(5, N_TASKS)) + rng.normal(size=(N, N_TASKS))
    y[:, ::6] = y[:, ::6] > 0
    rows, tasks = np.nonzero(rng.random(y.shape) < 0.06)
    return X, sp.csr_array((y[rows, tasks], (rows, tasks)), shape=y.shape)


def small(**params: Any) -> MultiTaskCNNEstimator:
    trunk = DenseTrunk((8,), n_members=3)
    params = {"trunk": trunk, "max_epochs": 2, "batch_size": 50, "random_state": 0} | params
    return MultiTaskCNNEstimator(**params)


def learned(estimator: MultiTaskCNNEstimator, X: Any) -> dict[str, Any]:
    own = ("oob_prediction_", "oob_score_", "noise_std_", "n_observed_")
    errors = fitted_of(estimator).errors
    found = {name: getattr(estimator, name) for name in own if hasattr(estimator, name)}
    return found | {"y": estimator.predict(X), "loss": estimator.history_["train_loss"]} | errors


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"max_epochs": "auto"},
        {"early_stopping": ["y1", "y7"]},
        {"trunk": DenseTrunk((8,), n_members=1)},
        {"class_weight": "balanced", "task_weights": "n_observed"},
    ],
)
def test_few_cells_are_trained_on_as_arrays_are(
    params: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    X, y = sparse()
    few = learned(small(**params).fit(X, y), X)
    monkeypatch.setattr(tables, "FEW", 10**9)  # there are never so few
    monkeypatch.setattr(left_out, "VALUES", 1000)
    many = learned(small(**params).fit(X, y), X)
    assert set(few) == set(many)
    for name, values in few.items():
        if isinstance(values, dict):
            assert values == pytest.approx(many[name], rel=1e-9, nan_ok=True)
        else:
            np.testing.assert_allclose(values, many[name], rtol=1e-9, atol=1e-12)


def test_a_fit_needs_memory_for_what_was_observed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Besides that, for its `oob_prediction_`, and the outputs that this is made of."""
    rng = np.random.default_rng(0)
    n, n_tasks = 2000, 300
    X = rng.normal(size=(n, 4)).astype(np.float32)
    rows, tasks = np.repeat(np.arange(n), 3), rng.integers(n_tasks, size=3 * n)
    y = sp.csr_array(sp.coo_array((rng.normal(size=3 * n), (rows, tasks)), shape=(n, n_tasks)))
    monkeypatch.setattr(score, "VALUES", 2**12)
    monkeypatch.setattr(left_out, "VALUES", 2**14)
    monkeypatch.setattr(calibrate, "VALUES", 2**12)
    monkeypatch.setattr(line, "KEPT", 0)
    small().fit(X[:200], X[:200])  # the first one imports
    tracemalloc.start()
    try:
        small(max_epochs=1, batch_size=100).fit(X, y)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    dense = n * n_tasks * 8
    assert most < 2.6 * dense
