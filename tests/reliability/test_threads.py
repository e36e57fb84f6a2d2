"""Calls in many threads at once: each gives what it gives alone."""

from __future__ import annotations

import pickle
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from _inputs import make_table
from _saved import make
from _trials import several
from sklearn.base import clone

from sklearn_mtl import MultiTaskCNNEstimator, Task
from sklearn_mtl.networks import DenseTrunk

N_THREADS = 8
X, Y = make_table(50)
TASKS = [
    Task("y0", "classification"),
    Task("y1", "regression"),
    Task("y2", "regression", given=("y0", 1)),
]


@pytest.fixture(scope="module")
def fitted() -> MultiTaskCNNEstimator:
    return make(tasks=TASKS, trunk=DenseTrunk((4,), n_members=2, n_frequencies=1)).fit(X, Y)


Call = Callable[[MultiTaskCNNEstimator, Path], Any]


def _refitted(est: MultiTaskCNNEstimator, path: Path) -> Any:
    return clone(est).fit(X, Y).predict(X)


def _streamed(est: MultiTaskCNNEstimator, path: Path) -> Any:
    return clone(est).partial_fit(X, Y).partial_fit(X[::2], Y[::2]).predict(X)


def _trained_further(est: MultiTaskCNNEstimator, path: Path) -> Any:
    return pickle.loads(pickle.dumps(est)).set_params(warm_start=True).fit(X, Y).predict(X)


def _saved_where_all_do(est: MultiTaskCNNEstimator, path: Path) -> Any:
    est.save(path / "shared")
    return MultiTaskCNNEstimator.load(path / "shared").predict(X)


def _saved_apart(est: MultiTaskCNNEstimator, path: Path) -> Any:
    own = path / f"of {threading.get_ident()}"
    est.save(own)
    return own.read_bytes()


# How often each is called, and what is called.
CALLS: dict[str, tuple[int, Call]] = {
    "predict": (40, lambda est, path: est.predict(X)),
    "predict_proba": (20, lambda est, path: est.predict_proba(X)),
    "predict_frame": (5, lambda est, path: est.predict_frame(X).to_numpy()),
    "embed": (5, lambda est, path: est.embed(X)),
    "score": (10, lambda est, path: est.score(X, Y)),
    "score_tasks": (5, lambda est, path: list(est.score_tasks(X, Y).values())),
    "task_view": (4, lambda est, path: est.task_view("y1").predict(X)),
    "clone": (4, lambda est, path: clone(est).get_params(deep=False).keys()),
    "pickle": (2, lambda est, path: pickle.loads(pickle.dumps(est)).predict(X)),
    "save, shared": (3, _saved_where_all_do),
    "save, apart": (3, _saved_apart),
    "fit of a clone": (2, _refitted),
    "partial_fit of a clone": (2, _streamed),
    "fit from where it was": (1, _trained_further),
}
NAMES = [name for name, (share, _) in CALLS.items() for _ in range(share)]


def together(works: list[Callable[[], None]]) -> None:
    """Run each in a thread of its own; what one of them raises is raised."""
    errors: list[BaseException] = []

    def guarded(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for error in errors:
        raise error


@several("threaded calls, a thousand a trial", few=1, many=10)
def test_calls_in_threads_give_what_they_give_alone(trials, fitted, tmp_path):
    alone = {name: call(fitted, tmp_path) for name, (_, call) in CALLS.items()}
    n_calls = 1000 if trials.n > 1 else 100
    for rng in trials:
        names = [rng.choice(NAMES, size=n_calls // N_THREADS) for _ in range(N_THREADS)]
        done: Counter[str] = Counter()

        def work(mine, done=done):
            for name in mine:
                found = CALLS[name][1](fitted, tmp_path)
                assert type(found) is type(alone[name]), name
                if isinstance(found, np.ndarray | list | float):
                    np.testing.assert_array_equal(found, alone[name], err_msg=name)
                else:
                    assert found == alone[name], name
                done[str(name)] += 1

        together([lambda mine=mine: work(mine) for mine in names])
        for name, times in done.items():
            trials.saw(name, times)


@several("graphs written by threads", few=0, many=8)
def test_graphs_written_in_threads_are_those_written_alone(trials, fitted, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    fitted.to_onnx(tmp_path / "alone")
    sample = X.astype(np.float32)
    expected = onnxruntime.InferenceSession(tmp_path / "alone").run(None, {"X": sample})
    for _ in trials:
        paths = [tmp_path / name for name in ("graph", "shared", "shared")]
        jobs = [lambda p=p: fitted.to_onnx(p) for p in paths]
        together([*jobs, lambda: [fitted.predict(X) for _ in range(50)]])
        for path in set(paths):
            found = onnxruntime.InferenceSession(path).run(None, {"X": sample})
            for a, b in zip(found, expected, strict=True):
                np.testing.assert_array_equal(a, b)
            trials.saw("graphs")
