"""Metrics with holes equal scikit-learn's on the rows that were observed."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    fbeta_score,
    log_loss,
    max_error,
    mean_absolute_error,
    mean_pinball_loss,
    mean_squared_error,
    r2_score,
    roc_auc_score,
)

from sklearn_mtl.metrics import masked_score

N = 30
rng = np.random.default_rng(0)
SEEN = rng.random(N) < 0.6
WEIGHT = rng.random(N) + 0.1
NUMBER, GUESS = rng.normal(size=N), rng.normal(size=N)
LABEL, LABEL_GUESS = rng.integers(2, size=N), rng.integers(2, size=N)
PROBA = rng.random(N)

CASES: dict[str, tuple[Any, np.ndarray, np.ndarray]] = {
    "r2": (r2_score, NUMBER, GUESS),
    "squared error": (mean_squared_error, NUMBER, GUESS),
    "pinball": (partial(mean_pinball_loss, alpha=0.2), NUMBER, GUESS),
    "accuracy": (accuracy_score, LABEL, LABEL_GUESS),
    "balanced accuracy": (balanced_accuracy_score, LABEL, LABEL_GUESS),
    "f2": (partial(fbeta_score, beta=2), LABEL, LABEL_GUESS),
    "auc": (roc_auc_score, LABEL, PROBA),
    "log loss of a matrix": (log_loss, LABEL, np.column_stack([1 - PROBA, PROBA])),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("weighted", [False, True])
def test_equals_scikit_learn_on_observed_rows(case: str, weighted: bool) -> None:
    metric, y_true, y_pred = CASES[case]
    holes, guess = np.where(SEEN, y_true, np.nan), y_pred.astype(float)
    guess[~SEEN] = np.nan  # what was predicted elsewhere does not matter
    weight = {"sample_weight": WEIGHT} if weighted else {}
    seen_weight = {"sample_weight": WEIGHT[SEEN]} if weighted else {}
    expected = metric(y_true[SEEN], y_pred[SEEN], **seen_weight)
    assert masked_score(metric, holes, guess, **weight) == expected


@pytest.mark.parametrize(
    "make",
    [
        lambda labels: labels,
        lambda labels: np.array(labels, dtype=object),
        lambda labels: pd.Series(labels),
        lambda labels: pd.Series(labels, dtype="category"),
        lambda labels: pd.Series(labels, dtype=object),
        lambda labels: pd.DataFrame({"a": labels}),
        lambda labels: pl.Series(labels),
        lambda labels: [np.nan if v is None else v for v in labels],
        lambda labels: np.array([pd.NA if v is None else v for v in labels], dtype=object),
    ],
    ids=["list", "object", "str", "category", "objects", "frame", "polars", "NaN", "NA"],
)
@pytest.mark.parametrize(
    "labels", [["a", "b", None, "a"], [True, False, None, True], [3, 5, None, 3]]
)
def test_holes_of_every_kind(make: Any, labels: list[Any]) -> None:
    guess = np.array([labels[0], labels[0], labels[1], labels[0]])
    y_true = make(labels)
    assert masked_score(accuracy_score, y_true, guess) == pytest.approx(2 / 3)


@pytest.mark.parametrize("dtype", ["Int64", "Float64", "boolean", "int64[pyarrow]"])
def test_nullable_columns(dtype: str) -> None:
    y_true = pd.Series([0, 1, None, 1], dtype=dtype)
    assert masked_score(accuracy_score, y_true, [0, 0, 0, 1]) == pytest.approx(2 / 3)


def test_nothing_missing_is_scikit_learn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert masked_score(r2_score, NUMBER, GUESS) == r2_score(NUMBER, GUESS)


@pytest.mark.parametrize(
    ("y_true", "weight", "min_samples", "said"),
    [
        ([np.nan, np.nan], None, 1, "'size' has 0 observed rows, r2_score needs 1"),
        ([1.0, np.nan], None, 2, "'size' has 1 observed rows, r2_score needs 2"),
        ([1.0, 2.0], [0, 1], 2, "'size' has 1 observed rows"),
        ([1.0, 2.0], [0, 0], 1, "'size' has 0 observed rows"),
        ([None, None], None, 1, "'size' has 0 observed rows"),
        ([], [], 1, "'size' has 0 observed rows"),
    ],
)
def test_too_few_rows_warn_and_give_nan(
    y_true: Any, weight: Any, min_samples: int, said: str
) -> None:
    with pytest.warns(UndefinedMetricWarning, match=said) as record:
        score = masked_score(
            r2_score,
            y_true,
            np.ones(len(y_true)),
            sample_weight=weight,
            min_samples=min_samples,
            name="size",
        )
    assert np.isnan(score)
    assert isinstance(score, float)
    assert record[0].filename == __file__  # points at the caller


def test_metric_without_a_name_may_warn() -> None:
    class Metric:
        def __call__(self, y_true, y_pred):
            return 0.0

    with pytest.warns(UndefinedMetricWarning, match="the metric needs 1"):
        masked_score(Metric(), [np.nan], [1.0])
    with pytest.warns(UndefinedMetricWarning, match="mean_pinball_loss needs 1"):
        masked_score(partial(mean_pinball_loss, alpha=0.2), [np.nan], [1.0])


def test_rows_of_weight_zero_are_not_observed() -> None:
    weight = np.where(SEEN, WEIGHT, 0)
    expected = r2_score(NUMBER[SEEN], GUESS[SEEN], sample_weight=WEIGHT[SEEN])
    assert masked_score(r2_score, NUMBER, GUESS, sample_weight=weight) == expected


def test_metric_that_takes_no_weight() -> None:
    y_true = np.where(SEEN, NUMBER, np.nan)
    assert masked_score(max_error, y_true, GUESS) == max_error(NUMBER[SEEN], GUESS[SEEN])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(-9, 9), st.booleans(), st.integers(1, 3)), min_size=1))
def test_weight_of_two_is_the_row_twice(rows: list[tuple[float, bool, int]]) -> None:
    value, seen, repeat = (np.array(column) for column in zip(*rows, strict=True))
    y_true, guess = np.where(seen, value, np.nan), np.zeros(len(rows))
    if not seen.any():
        y_true[0] = 1.0
    weighted = masked_score(mean_absolute_error, y_true, guess, sample_weight=repeat)
    repeated = masked_score(
        mean_absolute_error, np.repeat(y_true, repeat), np.repeat(guess, repeat)
    )
    assert weighted == pytest.approx(repeated)


@pytest.mark.parametrize(
    ("y_true", "y_pred", "weight", "message"),
    [
        ([1.0, 2.0], [1.0], None, "inconsistent numbers of samples"),
        ([1.0, 2.0], [1.0, 2.0], [1.0], "inconsistent numbers of samples"),
        ([[1.0, 2.0], [3.0, 4.0]], [1.0, 2.0], None, "1d array"),
        ([1.0, 2.0], [1.0, 2.0], [1.0, -1.0], "sample_weight holds negative"),
        ([1.0, 2.0], [1.0, 2.0], [1.0, np.nan], "sample_weight holds .* non-finite"),
        ([1.0, 2.0], [1.0, 2.0], [[1.0, 1.0], [1.0, 1.0]], "1d array"),
    ],
)
def test_bad_input(y_true: Any, y_pred: Any, weight: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        masked_score(r2_score, y_true, y_pred, sample_weight=weight)


def test_nothing_passed_is_changed() -> None:
    y_true, guess, weight = np.where(SEEN, NUMBER, np.nan), GUESS.copy(), WEIGHT.copy()
    kept = y_true.copy()
    masked_score(r2_score, y_true, guess, sample_weight=weight)
    np.testing.assert_array_equal(y_true, kept)
    np.testing.assert_array_equal(guess, GUESS)
    np.testing.assert_array_equal(weight, WEIGHT)
