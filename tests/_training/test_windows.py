"""Tests of the order of rows that are read by blocks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import zarr
from _inputs import make_small

from sklearn_mtl._training import batches as reading
from sklearn_mtl._training.windows import shuffled_windows
from sklearn_mtl.datasets import MultiInput, RowsOnDisk


def order(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize(("n", "n_batches", "n_rows"), [(103, 10, 30), (64, 4, 1), (5, 5, 2)])
def test_all_rows_once_in_batches_of_nearly_equal_size(n: int, n_batches: int, n_rows: int) -> None:
    windows = shuffled_windows(np.arange(n) // 7, n_batches, n_rows, order())
    batches = [batch for window in windows for batch in window]
    assert len(batches) == n_batches
    assert {len(batch) for batch in batches} <= {n // n_batches, n // n_batches + 1}
    assert np.array_equal(np.sort(np.concatenate(batches)), np.arange(n))
    assert all((np.diff(batch) > 0).all() for batch in batches)


def test_a_window_has_few_blocks_and_a_batch_rows_of_many() -> None:
    blocks = np.arange(6400) // 64
    windows = shuffled_windows(blocks, 100, 1280, order())
    assert len(windows) == 5
    for window in windows:
        assert len(np.unique(blocks[np.concatenate(window)])) <= 21  # 20, and parts of two
        assert all(len(np.unique(blocks[batch])) > 15 for batch in window)
    first, again = (
        np.concatenate(windows[0])
        for windows in (windows, shuffled_windows(blocks, 100, 1280, order(1)))
    )
    assert not np.array_equal(np.sort(first), np.sort(again))  # other blocks come together


def test_one_window_is_the_order_of_rows_in_memory() -> None:
    (window,) = shuffled_windows(np.arange(50) // 8, 4, 50, order())
    expected = np.array_split(order().permutation(np.arange(50)), 4)
    for batch, rows in zip(window, expected, strict=True):
        np.testing.assert_array_equal(batch, np.sort(rows))


N = 600
VALUES = np.random.default_rng(0).normal(size=(N, 5)).astype(np.float32)
Y = np.column_stack([VALUES[:, 0] * VALUES[:, 1], VALUES[:, 2]])


class Counted:
    """Chunks of 16 rows, and how often each is read."""

    def __init__(self, values: np.ndarray) -> None:
        self.values, self.shape, self.dtype = values, values.shape, values.dtype
        self.chunks = (16, *values.shape[1:])
        self.counts = np.zeros(len(values), dtype=int)

    def __getitem__(self, rows: slice) -> np.ndarray:
        self.counts[rows] += 1
        return self.values[rows]


@pytest.fixture
def windows_of_96_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sklearn_mtl._data.stores.BLOCK_BYTES", 1)
    monkeypatch.setattr(reading, "WINDOW_BYTES", 96 * 20)


@pytest.mark.usefixtures("windows_of_96_rows")
@pytest.mark.parametrize("part", [slice(None), np.flatnonzero(np.arange(N) % 3)])
def test_an_epoch_reads_each_chunk_once_or_twice(part: Any) -> None:
    counts = []
    for max_epochs in (1, 3):
        X = Counted(VALUES)
        small = make_small(max_epochs=max_epochs, batch_size=16)
        small.fit(RowsOnDisk(X)[part], Y[part])
        counts.append(X.counts)
    per_epoch = (counts[1] - counts[0]) / 2
    assert 0.9 <= per_epoch.mean() <= 1.5  # the last one is kept


@pytest.mark.usefixtures("windows_of_96_rows")
def test_several_inputs_go_by_the_largest_blocks() -> None:
    X, y = Counted(VALUES), Y
    several = MultiInput(a=RowsOnDisk(X), b=VALUES[:, :2])
    small = make_small(trunk="auto", max_epochs=1, batch_size=16)
    before = small.fit(several, y) and X.counts.mean()
    small.set_params(max_epochs=3).fit(several, y)
    assert X.counts.mean() - 2 * before <= 3.5


@pytest.mark.parametrize("store", ["hdf5", "zarr"])
def test_what_fits_in_a_window_is_trained_as_in_memory(store: str, tmp_path: Path) -> None:
    if store == "hdf5":
        with h5py.File(tmp_path / "X.h5", "w") as file:
            file.create_dataset("X", data=VALUES, chunks=(16, 5), compression="gzip")
        X = h5py.File(tmp_path / "X.h5")["X"]
    else:
        X = zarr.create_array(tmp_path / "X", data=VALUES, chunks=(16, 5))
    found, expected = (make_small(batch_size=32).fit(x, Y).predict(x) for x in (X, VALUES))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.usefixtures("windows_of_96_rows")
def test_the_order_is_that_of_the_seed() -> None:
    X = RowsOnDisk(Counted(VALUES))
    fits = [make_small(batch_size=32, random_state=s).fit(X, Y).predict(X) for s in (0, 0, 1)]
    np.testing.assert_array_equal(fits[0], fits[1])
    assert not np.array_equal(fits[0], fits[2])
    whole = RowsOnDisk(Counted(VALUES), block=1)  # rows one by one, as in memory
    found, expected = (make_small().fit(x, Y).predict(x) for x in (whole, VALUES))
    np.testing.assert_array_equal(found, expected)
