"""Columns that take at most two values."""

from __future__ import annotations

import numpy as np
import pytest

from sklearn_mtl._data.levels import Levels

N = 300


def found(X: np.ndarray, size: int = N) -> list[int]:
    """Columns that are found in pieces of some rows."""
    levels = Levels(X.shape[1])
    for start in range(0, len(X), size):
        levels.look(X[start : start + size].astype(float))
    return levels.columns.tolist()


@pytest.mark.parametrize("size", [1, 7, 64, 65, N])
def test_columns_of_at_most_two_values(size: int) -> None:
    """In pieces of any size, and wherever a value first occurs."""
    rng = np.random.default_rng(0)
    X = rng.integers(0, np.arange(1, 7), size=(N, 6)).astype(float)
    late = np.zeros((N, N))  # column k has another value from row k on
    late[np.tril_indices(N)] = 1.0
    X = np.hstack([X, late, -late])
    X[:, 5] = rng.normal(size=N)
    expected = [k for k in range(X.shape[1]) if len(np.unique(X[:, k])) <= 2]
    assert len(expected) == 2 + 2 * N
    assert found(X, size) == expected


@pytest.mark.parametrize("size", [1, 7, 64, N])
@pytest.mark.parametrize("third", [-1.0, 0.5, 2.0, 1 + 2**-52])
@pytest.mark.parametrize("row", [0, 1, 63, 64, 100, N - 1])
def test_a_third_value_in_one_row(row: int, third: float, size: int) -> None:
    """Below, between or above the two."""
    X = np.random.default_rng(0).integers(0, 2, size=(N, 2)).astype(float)
    X[row, 0] = third
    assert found(X, size) == [1]


@pytest.mark.parametrize(
    "values",
    [[0.0], [0.0, -0.0], [0.0, -0.0, 1.0], [-1e308, 1e308], [1e9, 1e9 + 1e-6]],
)
def test_zeros_are_equal_and_all_else_is_told_apart(values: list[float]) -> None:
    X = np.resize(values, N)[:, None]
    assert found(X) == found(X, 1) == [0]
    X[-1] = np.nextafter(values[0] + 3, np.inf)
    assert found(X) == found(X, 1) == ([0] if len(set(values)) == 1 else [])


def test_without_columns() -> None:
    assert found(np.zeros((3, 0))) == []
