"""Scores of every kind are those of scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from _inputs import EVERY_KIND, make_every_kind
from _observed import EVERY_OBSERVED, LEVELS, NUMBERS, fitted, trained
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import (
    accuracy_score,
    d2_absolute_error_score,
    d2_pinball_score,
    d2_tweedie_score,
    r2_score,
)

from sklearn_mtl import metrics
from sklearn_mtl.kinds.scores import masked_score, typed


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@EVERY_OBSERVED
def test_metrics_are_those_of_scikit_learn(name: str, weighted: bool) -> None:
    kind_name, kind, values, weight = fitted(name, weighted)
    predicted = np.roll(values, 1)
    if name in NUMBERS:
        predicted = predicted + 0.1
    options = {"sample_weight": weight} if weighted else {}
    actual = kind.metric(kind.measured(values), kind.measured(predicted), **options)
    if kind_name == "ordinal":
        known = LEVELS if name == "ordered words" else sorted(set(values.tolist()))
        ranks = {label: rank for rank, label in enumerate(known)}
        values, predicted = ([ranks[v] for v in part.tolist()] for part in (values, predicted))
    expected = {
        "classification": lambda: accuracy_score(values, predicted, **options),
        "ordinal": lambda: d2_absolute_error_score(values, predicted, **options),
        "regression": lambda: r2_score(values, predicted, **options),
        "quantile": lambda: d2_pinball_score(values, predicted, alpha=kind.quantile, **options),
        "poisson": lambda: d2_tweedie_score(values, predicted, power=1, **options),
        "gamma": lambda: d2_tweedie_score(values, predicted, power=2, **options),
    }
    assert actual == pytest.approx(expected[kind_name](), rel=1e-9)


def test_scores_by_hand() -> None:
    X, y = make_every_kind(200)
    est = trained(tasks=EVERY_KIND, max_epochs=20).fit(X, y)
    weight = np.random.default_rng(0).uniform(0.5, 2, size=len(X))
    scores, predicted = est.score_tasks(X, y, weight), est.predict(X)
    rank = np.array([np.nan, 1, 2, 0])  # of 3, 1, 2
    metrics = {
        "count": (d2_tweedie_score, {"power": 1}),
        "level": (d2_absolute_error_score, {}),
        "amount": (d2_tweedie_score, {"power": 2}),
        "wait": (d2_pinball_score, {"alpha": 0.7}),
        "color": (accuracy_score, {}),
        "size": (r2_score, {}),
    }
    assert list(scores) == list(metrics)
    for k, (name, (metric, options)) in enumerate(metrics.items()):
        seen = ~np.isnan(y[:, k])
        truth, guess = y[seen, k], predicted[seen, k]
        if name == "level":
            truth, guess = rank[truth.astype(int)], rank[guess.astype(int)]
        expected = metric(truth, guess, sample_weight=weight[seen], **options)
        assert scores[name] == pytest.approx(expected, rel=1e-9)
    assert est.score(X, y, weight) == pytest.approx(np.mean(list(scores.values())))


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@EVERY_OBSERVED
def test_a_kind_scores_what_was_measured(name: str, weighted: bool) -> None:
    """Labels in the units of y, ranks, and numbers; cells of weight 0 are left out."""
    _, kind, values, weight = fitted(name, weighted)
    predicted = np.roll(values, 1)
    if name in NUMBERS:
        predicted = predicted + 0.1
    weight[::4] = 0
    seen = weight > 0
    expected = kind.metric(
        kind.measured(values[seen]), kind.measured(predicted[seen]), sample_weight=weight[seen]
    )
    assert kind.score(values, predicted, weight, "a") == expected
    few = np.zeros(len(values))
    few[: kind.min_samples - 1] = 1
    metric = getattr(kind.metric, "func", kind.metric).__name__
    message = (
        f"Task 'a' has {kind.min_samples - 1} observed rows, {metric} needs {kind.min_samples}"
    )
    with pytest.warns(UndefinedMetricWarning, match=message):
        assert np.isnan(kind.score(values, predicted, few, "a"))


def test_as_few_rows_as_a_metric_needs_have_a_score() -> None:
    values = [1.0, np.nan, 3.0]
    assert masked_score(r2_score, values, [1.0, 9.0, 3.0], min_samples=2) == 1
    with pytest.warns(UndefinedMetricWarning) as said:
        assert np.isnan(masked_score(r2_score, values, [1.0, 9.0, 3.0], min_samples=3))
    assert said[0].filename == __file__


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (np.array([1, 2], dtype=object), np.int64),
        (np.array([1.5, 2], dtype=object), float),
        (np.array(["a", "b"], dtype=object), np.dtype("<U1")),
        (np.array([1, 2], dtype=np.int8), np.int8),
    ],
)
def test_metrics_see_numbers_and_strings(values: np.ndarray, dtype: Any) -> None:
    assert typed(values).dtype == dtype
    assert typed(values).tolist() == values.tolist()


def test_the_score_is_public_with_the_metrics() -> None:
    assert metrics.masked_score is masked_score
