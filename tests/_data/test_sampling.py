"""Tests of which rows stand for all of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from _inputs import make_small

from sklearn_mtl import Task
from sklearn_mtl._data.inputs import InputReader
from sklearn_mtl._data.sampling import LEAST_RUNS, sampled, spread_places


@pytest.mark.parametrize(("n", "n_chosen"), [(10, 3), (10_000, 1000), (10_000, 9_999), (5, 1)])
def test_runs_at_equal_distances(n: int, n_chosen: int) -> None:
    places = spread_places(n, n_chosen)
    assert (np.diff(places) > 0).all()
    assert 0.98 * n_chosen <= len(places) <= n_chosen
    assert 0 <= places[0] <= n / LEAST_RUNS or n_chosen < LEAST_RUNS
    gaps = np.diff([0, *places, n])
    assert gaps.max() <= 2 * n / min(LEAST_RUNS, n_chosen)


def test_one_row_where_a_sample_is_larger_than_all_that_is_read() -> None:
    assert spread_places(9, 0).tolist() == [4]


def test_all_where_there_are_few() -> None:
    np.testing.assert_array_equal(spread_places(7, 7), np.arange(7))
    assert sampled(7, 7, each=False) == slice(None)
    assert sampled(9, 7, each=True) == slice(None)
    assert len(sampled(900, 7, each=False)) == 7  # type: ignore[arg-type]


@pytest.fixture
def few_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let 60 images of 4 x 4 be too many."""
    for room in ("_data.inputs", "_training.fit"):
        monkeypatch.setattr(f"sklearn_mtl.{room}.SAMPLE_VALUES", 3000 * 16)
    monkeypatch.setattr("sklearn_mtl._training.fit.CLOSING_ROWS", 1000)


def images(n: int = 9000) -> np.ndarray:
    rng = np.random.default_rng(0)
    level = np.linspace(0, 200, n)[:, None, None, None]  # sorted, which runs must not mind
    return (level + 50 * rng.random((n, 1, 4, 4))).astype(np.uint8)


@pytest.mark.usefixtures("few_values")
def test_means_and_scales_are_close_to_those_of_all_rows() -> None:
    X = images()
    read: list[int] = []

    class Watched(InputReader):
        def chunks(self, rows: Any) -> Any:
            read.append(len(rows))
            return super().chunks(rows)

    reader = Watched(None, "channels_first", "Est")
    reader.fit(X, np.arange(len(X)), np.ones(len(X)))
    assert max(read) < 3500
    np.testing.assert_allclose(reader.mean_.ravel(), X.mean(), rtol=0.02)
    np.testing.assert_allclose(reader.scale_.ravel(), X.std(), rtol=0.02)
    read.clear()
    table = X.reshape(len(X), -1)  # in which each row may have a third value
    reader.fit(table, np.arange(len(X)), np.ones(len(X)))
    assert max(read) == len(X)


@pytest.mark.usefixtures("few_values")
def test_rows_of_a_sample_count_by_their_weights() -> None:
    """Rows are chosen whatever their weights are, and none of them twice."""
    X = images()
    weight = np.linspace(0.1, 4, len(X))
    reader = InputReader(None, "channels_first", "Est").fit(X, np.arange(len(X)), weight)
    mean = np.average(X.mean(axis=(1, 2, 3)), weights=weight)
    np.testing.assert_allclose(reader.mean_.ravel(), mean, rtol=0.02)
    assert abs(mean / X.mean() - 1) > 0.2


@pytest.mark.usefixtures("few_values")
def test_the_closing_pass_reads_some_rows_of_each_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a task with few targets, all of them."""
    import sklearn_mtl._training.fit as fitting

    X = images()
    rng = np.random.default_rng(1)
    y = np.column_stack([X.mean(axis=(1, 2, 3)), np.full(len(X), np.nan), rng.normal(size=len(X))])
    rare = np.array([7, 4000, 4001, 8990])
    y[rare, 1] = [1.0, 5.0, 3.0, 2.0]
    asked: list[Any] = []
    real = fitting.raw_of

    def watched(plan: Any, net: Any, source: Any, rows: Any) -> Any:
        asked.append(np.asarray(rows))
        return real(plan, net, source, rows)

    monkeypatch.setattr(fitting, "raw_of", watched)
    tasks = [Task("level", "regression"), Task("rare", "regression"), Task("noise", "regression")]
    small = make_small(tasks, trunk="conv", max_epochs=1, batch_size=256).fit(X, y)
    (rows,) = asked
    assert len(rows) < 4000
    assert set(rare) <= set(rows.tolist())
    noise = small.noise_std_
    assert np.isfinite(noise).all()
    np.testing.assert_allclose(noise[2], 1.0, rtol=0.1)
    monkeypatch.setattr(fitting, "SAMPLE_VALUES", 2**40)
    exact = make_small(tasks, trunk="conv", max_epochs=1, batch_size=256).fit(X, y).noise_std_
    np.testing.assert_allclose(noise, exact, rtol=0.1)
