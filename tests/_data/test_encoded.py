"""Encoded targets: what is kept of the observed cells alone is what arrays hold."""

from __future__ import annotations

import numpy as np
import pytest

from sklearn_mtl._data.encoded import EncodedTargets, ObservedCells

N, N_TASKS = 40, 6


def arrays(bounded: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """A tenth of the cells; a task without one, and one with weights that are all the same."""
    rng = np.random.default_rng(0)
    weight = np.where(rng.random((N, N_TASKS)) < 0.1, rng.integers(1, 4, size=(N, N_TASKS)), 0.0)
    weight[:, 2] = 0
    weight[:, 3] = weight[:, 3] > 0
    values = np.where(weight > 0, rng.normal(size=(N, N_TASKS)), 0)
    reach = np.where(weight > 0, rng.exponential(size=(N, N_TASKS)), 0) if bounded else None
    return values, weight, reach


def both(bounded: bool = False) -> tuple[EncodedTargets, EncodedTargets]:
    """Arrays, and the observed cells of them."""
    values, weight, reach = arrays(bounded)
    whole = EncodedTargets(values, weight, reach)
    cells = [whole.cells(k) for k in range(N_TASKS)]
    few = EncodedTargets.of(cells, weight.shape, np.count_nonzero(weight), bounded)
    assert few.are_few
    assert not whole.are_few
    return whole, few


def assert_same(found: EncodedTargets, expected: EncodedTargets) -> None:
    assert len(found) == len(expected)
    assert found.shape == expected.shape
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    for name in ("values", "weight", "reach", "counts", "mass", "any_seen"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    for k in range(expected.shape[1]):
        np.testing.assert_array_equal(found.column(k), expected.column(k))
        for one, other in zip(found.cells(k), expected.cells(k), strict=True):
            np.testing.assert_array_equal(one, other)
    tasks = np.array([4, 0])
    np.testing.assert_array_equal(found.seen(tasks), expected.seen(tasks))


@pytest.mark.parametrize("bounded", [False, True])
def test_observed_cells_are_what_arrays_hold(bounded: bool) -> None:
    whole, few = both(bounded)
    assert_same(few, whole)


@pytest.mark.parametrize("rows", [np.arange(0, N, 3), np.arange(N) % 4 > 0, np.arange(0)])
def test_rows_are_taken_of_both(rows: np.ndarray) -> None:
    whole, few = both(bounded=True)
    assert few.take(rows).are_few
    assert_same(few.take(rows), whole.take(rows))


def test_many_cells_become_arrays() -> None:
    cells = [ObservedCells(np.arange(3), np.arange(3.0), np.ones(3))] * 2
    made = EncodedTargets.of(cells, (4, 2), 6, bounded=False)
    assert not made.are_few
    np.testing.assert_array_equal(made.values, [[0, 0], [1, 1], [2, 2], [0, 0]])


def test_cells_of_no_weight_are_not_kept_and_equal_weights_take_no_memory() -> None:
    cells = ObservedCells(np.arange(4), np.ones(4), np.array([2.0, 0.0, 2.0, 0.0])).compact()
    np.testing.assert_array_equal(cells.rows, [0, 2])
    np.testing.assert_array_equal(cells.weight, [2, 2])
    assert cells.weight.strides == (0,)
