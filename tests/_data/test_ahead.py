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
from sklearn_mtl._data.ahead import Ahead, read_ahead
from sklearn_mtl.datasets import MultiInput, RowsOnDisk
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


@pytest.mark.parametrize("n", [0, 1, 4])
@pytest.mark.parametrize("by_thread", [False, True])
def test_the_system_is_told_of_the_next_part(n: int, by_thread: bool) -> None:
    done: list[tuple[str, int]] = []

    def read(part: int) -> int:
        done.append(("read", part))
        return -part

    both = [Ahead(tell=lambda part: done.append(("told", part))), Ahead(by_thread), Ahead()]
    ahead = Ahead.of_all(both)
    assert ahead.by_thread == by_thread
    assert list(ahead.parts(read, range(n))) == [-part for part in range(n)]
    for part in range(n):
        assert done.count(("told", part)) == done.count(("read", part)) == 1
        assert done.index(("told", min(part + 1, n - 1))) < done.index(("read", part))
    done.clear()
    assert ahead.at_once(read, 7) == -7
    assert done == [("told", 7), ("read", 7)]
    assert not any(Ahead.of_all([Ahead(), Ahead()]))


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


@pytest.mark.parametrize("how", ["memmap", "RowsOnDisk", "a part"])
def test_maps_are_read_by_the_same_thread_and_told_once(
    how: str, tmp_path: Path, monkeypatch: Any
) -> None:
    told: list[Any] = []
    values = np.random.default_rng(0).normal(size=(90, 4))
    np.save(tmp_path / "X.npy", values)
    array = np.load(tmp_path / "X.npy", mmap_mode="r")
    for room in ("on_disk", "stores"):
        monkeypatch.setattr(
            f"sklearn_mtl._data.{room}.will_need", lambda _, rows: told.extend(rows.tolist())
        )
    X = {"memmap": lambda: array, "RowsOnDisk": lambda: RowsOnDisk(array)}
    X["a part"] = lambda: MultiInput(a=array[:, :2], b=RowsOnDisk(array[:, 2:]))
    y = values[:, 0] * 2
    est = MultiTaskCNNEstimator(trunk=DenseTrunk((4,), n_members=1), max_epochs=1, batch_size=16)
    before = set(threading.enumerate())
    started: list[Any] = []
    monkeypatch.setattr(threading.Thread, "start", lambda self: started.append(self))
    if how == "a part":
        est.set_params(trunk="auto")
    est.fit(X[how](), y)
    told.clear()
    est.predict(X[how]())
    assert sorted(told) == sorted([*range(90)] * (2 if how == "a part" else 1))
    assert not started
    assert set(threading.enumerate()) == before
