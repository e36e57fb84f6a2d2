"""The concordance index, against all pairs one by one."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import UndefinedMetricWarning

from sklearn_mtl.kinds.bounds import as_bounds
from sklearn_mtl.metrics import concordance_index, masked_score


def pairwise(low: np.ndarray, high: np.ndarray, guess: np.ndarray, weight: np.ndarray) -> float:
    """In the plainest words."""
    right = known = 0.0
    for i in range(len(low)):
        for j in range(len(low)):
            j_is_exact = low[j] == high[j]
            below = high[i] < low[j] if j_is_exact else high[i] <= low[j]
            if i != j and below:
                known += weight[i] * weight[j]
                half = 0.5 * (guess[i] == guess[j])
                right += weight[i] * weight[j] * ((guess[i] < guess[j]) + half)
    return right / known


@pytest.mark.parametrize("seed", range(20))
def test_all_pairs(seed: int) -> None:
    """With ties of bounds and of predictions; bounds on both sides, one, or none."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(5, 40))
    low = rng.integers(0, 9, size=n).astype(float)
    reach = rng.choice([0, 0, 1, 3, np.inf], size=n)
    high = low + reach
    low[rng.random(n) < 0.1] = -np.inf
    guess, weight = rng.integers(0, 6, size=n).astype(float), rng.uniform(0.5, 2, size=n)
    found = concordance_index(as_bounds(low, high), guess, weight)
    assert found == pytest.approx(pairwise(low, high, guess, weight))


@pytest.mark.parametrize("seed", range(5))
def test_as_in_survival_analysis(seed: int) -> None:
    metrics = pytest.importorskip("sksurv.metrics")
    rng = np.random.default_rng(seed)
    days, died = rng.integers(1, 30, size=80).astype(float), rng.random(80) < 0.6
    guess = days + rng.normal(size=80) * 9
    expected = metrics.concordance_index_censored(died, days, -guess)[0]
    truth = as_bounds(days, np.where(died, days, np.inf))
    assert concordance_index(truth, guess) == pytest.approx(expected)


def test_numbers_intervals_and_holes() -> None:
    truth = [1.0, np.nan, pd.Interval(2, 3), None, pd.Interval(5, np.inf), 4]
    assert concordance_index(truth, [0, 9, 1, -9, 3, 2]) == 1
    assert concordance_index(truth, [3, 9, 2, -9, 0, 1]) == 0
    assert concordance_index(truth, [3, 0, 3, 0, 3, 3]) == 0.5
    assert masked_score(concordance_index, truth, [0, 9, 1, -9, 3, 2]) == 1


def test_weight_two_is_not_a_pair_with_itself() -> None:
    """Rows that are there twice are of one order, which is not known: the same as weight 2."""
    rng = np.random.default_rng(0)
    truth, guess = rng.normal(size=20), rng.normal(size=20)
    again = np.concatenate([np.arange(20), np.arange(5)])
    weight = np.where(np.arange(20) < 5, 2.0, 1.0)
    assert concordance_index(truth, guess, weight) == pytest.approx(
        concordance_index(truth[again], guess[again])
    )


@pytest.mark.parametrize(
    "truth", [[1.0, 1.0], [pd.Interval(0, 9), 5.0], [np.nan, np.nan], [pd.Interval(1, np.inf)] * 2]
)
def test_no_order_is_known(truth: list[object]) -> None:
    with pytest.warns(UndefinedMetricWarning, match="of no pair"):
        assert np.isnan(concordance_index(truth, [1.0, 2.0]))


@pytest.mark.parametrize(
    ("guess", "weight", "message"),
    [
        ([1.0, 2.0, 3.0], None, "inconsistent numbers of samples"),
        ([1.0, 2.0], [1.0], "inconsistent numbers of samples"),
        ([1.0, 2.0], [1.0, -1.0], "sample_weight holds negative values or NaN"),
        ([1.0, np.nan], None, "y_pred contains NaN"),
    ],
)
def test_what_is_no_prediction_of_these_rows(guess: object, weight: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        concordance_index([1.0, 2.0], guess, weight)


def test_many_rows() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=60_000)
    assert concordance_index(truth, truth) == 1
    assert concordance_index(truth, rng.normal(size=60_000)) == pytest.approx(0.5, abs=0.01)
