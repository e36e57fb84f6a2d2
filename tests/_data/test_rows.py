"""Rows: weights, seeds and splits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sklearn_mtl._data.rows import check_groups, check_weights, random_seed, split_rows


@pytest.mark.parametrize(
    ("weight", "expected"),
    [
        (None, [[1, 1], [1, 1], [1, 1]]),
        (2, [[2, 2], [2, 2], [2, 2]]),
        ([1, 0, 2], [[1, 1], [0, 0], [2, 2]]),
        (np.array([True, False, True]), [[1, 1], [0, 0], [1, 1]]),
        (pd.Series([1, 0, 2], index=[5, 6, 7]), [[1, 1], [0, 0], [2, 2]]),
        ([[1, 2], [0, 0], [3, 0]], [[1, 2], [0, 0], [3, 0]]),
        (pd.DataFrame([[1, 2], [0, 0], [3, 0]]), [[1, 2], [0, 0], [3, 0]]),
    ],
)
def test_weights_by_row_and_by_cell(weight: Any, expected: Any) -> None:
    out = check_weights(weight, 3, ["a", "b"])
    assert out.dtype == np.float64
    np.testing.assert_array_equal(out, expected)
    assert not np.shares_memory(out, weight)
    assert not out.flags.writeable  # a weight per row is one number in memory


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        ([1, 2], r"sample_weight has shape \(2,\), expected \(3,\) or \(3, 2\)"),
        (np.ones((3, 3)), r"sample_weight has shape \(3, 3\), expected \(3,\) or \(3, 2\)"),
        (np.ones((3, 1)), r"sample_weight has shape \(3, 1\), expected \(3,\) or \(3, 2\)"),
        (np.ones((1, 3, 2)), r"sample_weight has shape \(1, 3, 2\)"),
        ([1, -1, 1], r"non-finite values at 1 positions, the first \[1\]. Pass weights >= 0"),
        ([1, np.nan, 1], "sample_weight holds negative or non-finite"),
        ([1, None, 1], "sample_weight holds None at position 1"),
        ([1, np.inf, 1], "sample_weight holds negative or non-finite"),
        ([0, 0, 0], "sample_weight is zero everywhere. Pass at least one non-zero"),
        (["a", "b", "c"], "sample_weight holds 'a' at position 0, which is no number"),
        ([[1], [1, 2], [1]], "sample_weight is a list of rows of different lengths"),
    ],
)
def test_bad_weights(weight: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_weights(weight, 3, ["a", "b"])


def test_random_seed() -> None:
    assert random_seed(7) == random_seed(np.int64(7)) == 7
    one, other = (random_seed(np.random.RandomState(3)) for _ in range(2))
    assert one == other
    state = np.random.get_state()[1].copy()  # noqa: NPY002 (the global state is left alone)
    assert random_seed(None) != random_seed(None)
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002
    shared = np.random.RandomState(3)
    assert random_seed(shared) != random_seed(shared)  # each fit draws anew, as in scikit-learn


# -- splits ---------------------------------------------------------------------------------


def split(
    observed: np.ndarray, fraction: float = 0.25, seed: int = 0, codes: Any = None
) -> tuple[np.ndarray, np.ndarray]:
    codes = np.zeros((len(observed), 0)) if codes is None else codes
    names = [f"y{k}" for k in range(observed.shape[1])]
    return split_rows(observed, codes, fraction, names, np.random.default_rng(seed))


@settings(max_examples=200, deadline=None)
@given(
    n=st.integers(4, 60),
    n_tasks=st.integers(1, 6),
    share=st.floats(0.1, 1),
    fraction=st.floats(0.01, 0.99),
    seed=st.integers(0, 2**20),
)
def test_observed_rows_of_every_task_on_both_sides(
    n: int, n_tasks: int, share: float, fraction: float, seed: int
) -> None:
    observed = np.random.default_rng(seed).random((n, n_tasks)) < share
    assume((observed.sum(axis=0) >= 2).all())
    try:
        train, valid = split(observed, fraction, seed)
    except ValueError:
        # Only tasks that share few rows can make it impossible.
        assert observed.sum(axis=0).min() <= 3
        return
    assert sorted([*train, *valid]) == list(range(n))
    assert (np.diff(train) > 0).all()
    assert (np.diff(valid) > 0).all()
    assert observed[train].any(axis=0).all()
    assert observed[valid].any(axis=0).all()
    wanted = min(max(1, round(fraction * n)), n - 1)
    assert abs(len(valid) - wanted) <= 2 * n_tasks  # rare tasks may move a row each


@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.5, 0.8])
def test_share_and_strata(fraction: float) -> None:
    rng = np.random.default_rng(0)
    codes = rng.choice(3, p=[0.7, 0.2, 0.1], size=(1000, 1)).astype(float)
    observed = np.column_stack([np.ones(1000, bool), rng.random(1000) < 0.3])
    _, valid = split(observed, fraction, codes=codes)
    assert len(valid) == 1000 * fraction
    for code in range(3):
        for seen in (False, True):
            stratum = (codes[:, 0] == code) & (observed[:, 1] == seen)
            assert abs(stratum[valid].sum() - fraction * stratum.sum()) <= 1.5


def test_split_follows_the_seed() -> None:
    observed = np.ones((100, 1), dtype=bool)
    one, same, other = (split(observed, seed=seed)[1] for seed in (1, 1, 2))
    assert one.tolist() == same.tolist() != other.tolist()


def test_rows_in_order_are_split_at_random() -> None:
    _, valid = split(np.ones((1000, 1), dtype=bool))
    assert 400 < np.median(valid) < 600
    assert len(set(np.diff(valid))) > 3


@pytest.mark.parametrize("count", [0, 1])
def test_task_that_cannot_be_on_both_sides(count: int) -> None:
    observed = np.ones((20, 2), dtype=bool)
    observed[count:, 1] = False
    with pytest.raises(
        ValueError, match=rf"task 'y1' has {count} in n_samples=20 rows\. Pass X_val and y_val"
    ):
        split(observed)


def test_tasks_that_cannot_all_be_on_both_sides() -> None:
    """Three rows, each pair of them shared by a task: one pair must stay together."""
    observed = np.zeros((10, 4), dtype=bool)
    observed[:, 3] = True
    observed[[0, 1], 0] = observed[[1, 2], 1] = observed[[0, 2], 2] = True
    with pytest.raises(ValueError, match=r"no split .* every task.*'y\d'.*Pass X_val and y_val"):
        split(observed)


def test_many_rare_tasks_find_a_split() -> None:
    rng = np.random.default_rng(0)
    observed = np.zeros((200, 80), dtype=bool)
    for k in range(80):
        observed[rng.choice(200, size=3, replace=False), k] = True
    train, valid = split(observed, 0.1)
    assert observed[train].any(axis=0).all()
    assert observed[valid].any(axis=0).all()


@pytest.mark.parametrize("label", [np.void(b"ab"), {1: 2}, object()])
def test_groups_are_labels_that_can_be_told_apart(label: object) -> None:
    groups = np.array([0, 1, None], dtype=object)
    groups[2] = label
    with pytest.raises(ValueError, match=r"^groups holds labels that cannot be ordered"):
        check_groups(groups, 3)


def test_groups_of_fields_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^groups holds"):
        check_groups(np.zeros(3, dtype=[("a", int)]), 3)
