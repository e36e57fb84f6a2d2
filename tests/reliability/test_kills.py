"""Processes that are killed while they save: what stands there is the old file or the new one."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from _saved import make
from _trials import Trials, several

from sklearn_mtl import MultiTaskCNNEstimator
from sklearn_mtl._files.disk import write_file
from sklearn_mtl.networks import DenseTrunk

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a child"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]
X = np.random.default_rng(0).normal(size=(30, 3))


def seconds_of(act: Callable[[], None]) -> float:
    """Act once in a child, where the first time takes longer: its memory is copied as it writes."""
    start = time.perf_counter()
    child = os.fork()
    if child == 0:
        try:
            act()
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0, "the child has failed"
    return time.perf_counter() - start


def killed(act: Callable[[], None], seconds: float) -> None:
    """Act again and again in a child, until it is killed."""
    child = os.fork()
    if child == 0:
        try:
            while True:
                act()
        finally:
            os._exit(1)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), "the child has failed"


def leftovers(path: Path) -> list[Path]:
    return [other for other in path.parent.iterdir() if other != path]


def check_all_happened(trials: Trials) -> None:
    """Kills at all moments leave old files, new ones, and parts of them."""
    if trials.n > 100 and trials.are_all:
        assert min(trials.outcomes[k] for k in ("the old one", "a new one", "a part beside")) > 0


@several("kills in save", few=3, many=200)
def test_a_kill_in_save_leaves_a_whole_file(trials, tmp_path):
    path = tmp_path / "model"
    old, new = (
        make(trunk=DenseTrunk((200, 200), n_members=4, n_frequencies=0), random_state=k).fit(X, X)
        for k in range(2)
    )
    new.save(path)
    contents = [path.read_bytes()]
    seconds = seconds_of(lambda: old.save(path))
    contents.append(path.read_bytes())
    expected = [est.predict(X) for est in (new, old)]
    for rng in trials:
        assert path.read_bytes() == contents[1]
        killed(lambda: new.save(path), rng.uniform(0.2, 2) * seconds)
        which = contents.index(path.read_bytes())
        np.testing.assert_array_equal(MultiTaskCNNEstimator.load(path).predict(X), expected[which])
        trials.saw(["a new one", "the old one"][which])
        trials.saw("a part beside", len(leftovers(path)))
        old.save(path)
        assert leftovers(path) == []
    check_all_happened(trials)


@several("kills while a file is written", few=8, many=500)
def test_a_kill_while_a_file_is_written_leaves_a_whole_one(trials, tmp_path):
    path, contents = tmp_path / "file", [b"a" * 3_000_000, b"b" * 2_000_000]
    for rng in trials:
        write_file(path, contents[0])
        assert leftovers(path) == []
        killed(lambda: write_file(path, contents[1]), rng.uniform(0.0005, 0.02))
        trials.saw(["the old one", "a new one"][contents.index(path.read_bytes())])
        trials.saw("a part beside", len(leftovers(path)))
    check_all_happened(trials)
