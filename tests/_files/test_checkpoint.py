"""The file of a fit that has not ended: whole or not there, of this fit, and nobody else's."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import signal
import stat
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from _broken import Breaking, assert_same_bits, break_off
from _inputs import make_table
from _saved import make, opened, put, rewrite
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score

import sklearn_mtl
from sklearn_mtl import MultiTaskCNNEstimator
from sklearn_mtl._files import checkpoint
from sklearn_mtl._files.checkpoint import Checkpoint
from sklearn_mtl._files.disk import locked
from sklearn_mtl._training import averaging
from sklearn_mtl._training.progress import Saved

X, Y = make_table(40)
FIT = {"X": "1", "y": "2"}
SAVED = Saved(3, "plan", {"a": [1.5, float("inf"), None], "b": torch.arange(3), "c": (2**100, "x")})


def fit_of(**params: Any) -> MultiTaskCNNEstimator:
    known = {"max_epochs": 4, "checkpoint_every": 0, "net_params": {"callbacks": [Breaking()]}}
    return make(**known | params)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "fit"


@pytest.fixture
def broken(path: Path) -> Path:
    break_off(fit_of(checkpoint=path), (3, 1), X, Y)
    return path


# -- what is written is read ----------------------------------------------------------------------


def test_what_is_written_is_read(path):
    with Checkpoint(path, 5).of(FIT) as file:
        assert file.read() is None
        assert file.every == 5
        file.write(SAVED)
        seed, plan, state = file.read()
        assert (seed, plan) == SAVED[:2]
        assert state["a"] == SAVED.state["a"]
        assert state["c"] == SAVED.state["c"]
        assert torch.equal(state["b"], SAVED.state["b"])
        file.write(SAVED._replace(seed=4))
        assert file.read().seed == 4
        file.remove()
        assert file.read() is None
        file.remove()
    assert not any(path.parent.iterdir())


def test_it_stays_when_the_fit_has_not_ended(path):
    with contextlib.suppress(ZeroDivisionError), Checkpoint(path, 0).of(FIT) as file:
        file.write(SAVED)
        raise ZeroDivisionError
    assert list(path.parent.iterdir()) == [path]


def test_it_is_plain_data(broken):
    header, tensors = opened(broken)
    assert set(header) == {"checksum", "checkpoint_version", "versions", "fit", "saved"}
    assert len(tensors) > 10


# -- what is refused ------------------------------------------------------------------------------


def test_a_damaged_file_is_refused(broken):
    content = broken.read_bytes()
    rng = np.random.default_rng(0)
    damaged = [content[: len(content) // 2], content[:3], b"", b"abc", content + b"a", bytes(999)]
    for _ in range(60):
        flipped = bytearray(content)
        flipped[rng.integers(len(content))] ^= 1 << rng.integers(8)
        damaged.append(bytes(flipped))
    for changed in damaged:
        broken.write_bytes(changed)
        with pytest.raises(ValueError, match="damaged") as info:
            fit_of(checkpoint=broken).fit(X, Y)
        assert str(broken) in str(info.value)
        assert broken.read_bytes() == changed
    broken.write_bytes(content)
    assert_same_bits(fit_of(checkpoint=broken).fit(X, Y), fit_of().fit(X, Y))


def empty_state(header: dict[str, Any], tensors: dict[str, Any]) -> None:
    header["saved"][2] = {"dict": []}
    tensors.clear()


@pytest.mark.parametrize(
    "change",
    [
        put("saved", value=[]),
        put("saved", value=[1, "x", {"dict": []}]),
        empty_state,
        put("fit", value=None),
        put("versions", value=3),
        lambda header, tensors: tensors.popitem() and None,
    ],
)
def test_an_edited_file_is_refused(change, broken):
    rewrite(broken, change)
    with pytest.raises(ValueError, match=r"is damaged|another fit|written with"):
        fit_of(checkpoint=broken).fit(X, Y)


@pytest.mark.parametrize(
    ("module", "name", "value"),
    [
        (sklearn_mtl, "__version__", "99.1"),
        (checkpoint, "VERSION", 99),
        (torch, "__version__", "99.1"),
    ],
)
def test_other_versions_are_refused(module, name, value, broken, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(module, name, value)
        with pytest.raises(ValueError, match=f"was written with .* and this is .*{value}"):
            fit_of(checkpoint=broken).fit(X, Y)
    fit_of(checkpoint=broken).fit(X, Y)


def test_what_is_counted_is_of_a_version():
    """Other counts want another one: files of before lack what is new."""
    counted = ("step_", "epoch_", "since_", "best_", "reference_", "eased_", "stopped")
    assert counted == averaging.COUNTED
    assert checkpoint.VERSION == 2


def test_an_estimator_is_no_checkpoint_and_stays(path):
    est = fit_of(net_params=None).fit(X, Y)
    est.save(path)
    content = path.read_bytes()
    with pytest.raises(ValueError, match="is a file of save, and no checkpoint"):
        fit_of(checkpoint=path).fit(X, Y)
    assert path.read_bytes() == content


def test_a_checkpoint_is_no_estimator(broken):
    said = f"{broken} is a checkpoint: the state of a fit that has not ended, and no estimator. "
    mend = f"Go on with it, fit of an estimator with checkpoint={str(broken)!r} and the"
    for trunk in (None, "dense"):
        with pytest.raises(ValueError, match=re.escape(said + mend)) as raised:
            MultiTaskCNNEstimator.load(broken, trunk=trunk)
        assert "damaged" not in str(raised.value)


@pytest.mark.parametrize("content", [b"my,own,file", b"\x80\x04"])
def test_other_files_are_refused_and_kept(content, path):
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"{path} is"):
        fit_of(checkpoint=path).fit(X, Y)
    assert path.read_bytes() == content


# -- where it is ----------------------------------------------------------------------------------


def test_places_that_cannot_be_are_told_of_before_anything_is_trained(tmp_path):
    trained = []

    class Telling(Breaking):
        def on_train_begin(self, net: Any, **kwargs: Any) -> None:
            trained.append(net)

    params = {"net_params": {"callbacks": [Telling()]}}
    with pytest.raises(FileNotFoundError, match="There is no folder"):
        fit_of(**params, checkpoint=tmp_path / "none" / "fit").fit(X, Y)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="no regular file"):
        fit_of(**params, checkpoint=tmp_path / "pipe").fit(X, Y)
    assert not trained


@pytest.mark.parametrize("value", [3, b"bytes", ["a"]])
def test_paths_are_paths(value):
    with pytest.raises(ValueError, match="'checkpoint' parameter"):
        fit_of(checkpoint=value).fit(X, Y)


def test_a_full_disk_is_an_error_and_the_last_state_stays(broken, monkeypatch):
    content = broken.read_bytes()

    def full(*args: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space left") as info:
            fit_of(checkpoint=broken).fit(X, Y)
    assert info.value.filename == str(broken)
    assert broken.read_bytes() == content
    assert_same_bits(fit_of(checkpoint=broken).fit(X, Y), fit_of().fit(X, Y))


def test_rights_are_those_of_the_umask(broken):
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(broken.stat().st_mode) == 0o666 & ~umask


def test_no_file_says_where_to_write_another(path):
    est = fit_of(net_params=None, checkpoint=path.with_name("other")).fit(X, Y)
    est.save(path)
    loaded = MultiTaskCNNEstimator.load(path)
    assert loaded.checkpoint is None
    assert loaded.checkpoint_every == 60
    for name in ("checkpoint", "checkpoint_every"):
        for part in ("params", "others"):
            est.save(path)
            rewrite(path, put(part, name, value="/tmp/x"))
            with pytest.raises(ValueError, match=f"takes no .*{name}"):
                MultiTaskCNNEstimator.load(path)


# -- who is at work with it -----------------------------------------------------------------------


def test_a_path_is_locked_once(path):
    with locked(path) as alone:
        assert alone
        with locked(path) as again:
            assert not again
        with locked(path.with_name("other")) as other:
            assert other
        with locked(path) as again:
            assert not again
    with locked(path) as alone:
        assert alone
    assert not any(path.parent.iterdir())


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_lock_dies_with_its_process(path):
    child = os.fork()
    if child == 0:  # pragma: no cover
        with locked(path):
            path.write_text("locked")
            time.sleep(60)
    while not path.exists():
        time.sleep(0.01)
    with locked(path) as alone:
        assert not alone
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with locked(path) as alone:
        assert alone
    assert list(path.parent.iterdir()) == [path]


def test_a_search_has_a_folder(tmp_path):
    grid = {"learning_rate": [0.001, 0.002]}
    est = fit_of(net_params=None, max_epochs=2)
    expected = GridSearchCV(est, grid, cv=2).fit(X, Y).cv_results_["mean_test_score"]
    for where in (tmp_path, tmp_path / "fit"):  # one after the other, a file is enough
        search = GridSearchCV(clone(est).set_params(checkpoint=where), grid, cv=2)
        np.testing.assert_array_equal(search.fit(X, Y).cv_results_["mean_test_score"], expected)
    assert not any(tmp_path.iterdir())


def test_a_search_that_broke_off_goes_on(tmp_path):
    break_off(fit_of(checkpoint=tmp_path, learning_rate=0.01), (3, 1), X[20:], Y[20:])
    (left,) = tmp_path.iterdir()
    scores = cross_val_score(fit_of(checkpoint=tmp_path, learning_rate=0.01), X, Y, cv=2)
    assert not left.exists()
    np.testing.assert_array_equal(scores, cross_val_score(fit_of(learning_rate=0.01), X, Y, cv=2))
    break_off(fit_of(checkpoint=tmp_path / "fit"), (3, 1), X[20:], Y[20:])
    with pytest.raises(ValueError, match="is of another fit, which differs in X, y"):
        cross_val_score(fit_of(checkpoint=tmp_path / "fit"), X[::-1], Y[::-1], error_score="raise")
