"""Tests of parts of files that are read one ahead."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from sklearn_mtl import MultiTaskCNNEstimator
from sklearn_mtl._data.ahead import read_ahead
from sklearn_mtl.networks import DenseTrunk


def test_all_parts_in_order() -> None:
    assert list(read_ahead(lambda part: part * 2, [])) == []
    assert list(read_ahead(lambda part: part * 2, iter([4]))) == [8]
    assert list(read_ahead(lambda part: part * 2, range(50))) == list(range(0, 100, 2))


def test_the_next_part_is_read_while_the_last_one_is_used() -> None:
    begun = [threading.Event() for _ in range(4)]

    def read(part: int) -> int:
        begun[part].set()
        return part

    for part in read_ahead(read, range(4)):
        for event in begun[: part + 2]:
            assert event.wait(5)
        time.sleep(0.02)
        assert not any(event.is_set() for event in begun[part + 2 :])  # and no more than that


def test_what_goes_wrong_is_raised_at_its_part() -> None:
    def read(part: int) -> int:
        return 1 // (2 - part)

    parts = read_ahead(read, range(5))
    assert [next(parts), next(parts)] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(parts)


def test_no_thread_goes_on() -> None:
    before = set(threading.enumerate())
    over = []

    def read(part: int) -> int:
        time.sleep(0.05)
        over.append(part)
        return part

    parts: Any = read_ahead(read, range(5))
    assert next(parts) == 0
    parts.close()
    assert over == [0, 1]
    assert set(threading.enumerate()) == before


@pytest.fixture
def rows(tmp_path: Path) -> Iterator[Any]:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["X"] = np.random.default_rng(0).normal(size=(90, 4))
        yield file["X"]


def test_files_are_read_by_another_thread_and_arrays_are_not(rows: Any, monkeypatch: Any) -> None:
    threads: list[int] = []
    asarray = np.asarray

    def noting(*args: Any, **kwargs: Any) -> Any:
        threads.append(threading.get_ident())
        return asarray(*args, **kwargs)

    est = MultiTaskCNNEstimator(trunk=DenseTrunk((4,)), max_epochs=2, random_state=0)
    monkeypatch.setattr("sklearn_mtl._data.inputs.np.asarray", noting)
    X, y = rows[:], np.arange(90.0) % 7
    of_array = est.fit(X, y).predict(X)
    assert set(threads) == {threading.get_ident()}
    of_file = est.fit(rows, y).predict(rows)
    assert len(set(threads)) > 1
    np.testing.assert_array_equal(of_file, of_array)
