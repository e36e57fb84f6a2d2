"""Long runs hold no more memory, and no more objects, in the end than after some warming up."""

from __future__ import annotations

import gc
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from _inputs import make_table
from _saved import make
from _trials import several

from sklearn_mtl import MultiTaskCNNEstimator
from sklearn_mtl.networks import DenseTrunk

MB = 2**20
X, Y = make_table(60)


def held() -> int:
    """Return the bytes that this process holds."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")


def _refused(est: MultiTaskCNNEstimator) -> None:
    with pytest.raises(ValueError, match="NaN"):
        est.fit(np.full_like(X, np.nan), Y)


CALLS: dict[str, tuple[int, Callable[[MultiTaskCNNEstimator, Path], Any]]] = {
    "predict": (20, lambda est, path: est.predict(X)),
    "predict_proba": (20, lambda est, path: est.predict_proba(X)),
    "score": (5, lambda est, path: est.score(X, Y)),
    "partial_fit": (5, lambda est, path: est.partial_fit(X, Y)),
    "fit": (1, lambda est, path: est.fit(X, Y)),
    "a fit that fails": (5, lambda est, path: _refused(est)),
    "save and load": (1, lambda est, path: est.save(path) or type(est).load(path)),
    "pickle": (2, lambda est, path: pickle.loads(pickle.dumps(est))),
    "task_view": (5, lambda est, path: est.task_view("y0").predict(X)),
}


@several("rounds of a long run", few=3, many=1_000)
def test_a_long_run_does_not_grow(trials, tmp_path):
    """A round is some calls of each kind."""
    est = make(trunk=DenseTrunk((4,), n_members=2, n_frequencies=0)).partial_fit(X, Y)

    def run() -> None:
        for times, call in CALLS.values():
            for _ in range(times):
                call(est, tmp_path / "model")

    for _ in range(max(2, trials.n // 10)):
        run()
    gc.collect()
    bytes_before, objects_before = held(), len(gc.get_objects())
    for _ in trials:
        run()
        for name, (times, _) in CALLS.items():
            trials.saw(name, times)
    gc.collect()
    assert len(gc.get_objects()) - objects_before < 100 + trials.done
    assert held() - bytes_before < 10 * MB + 1000 * trials.done
