"""Tasks in thousands: what is computed for many at once, and in parts, is what it was alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from _inputs import EVERY_KIND, make_every_kind

import sklearn_mtl._data.decoding as decoding
import sklearn_mtl._fitted as fitted
import sklearn_mtl._score as score
from sklearn_mtl import MultiTaskCNNEstimator
from sklearn_mtl.kinds import ClassificationTarget, RegressionTarget


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
