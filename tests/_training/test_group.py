"""Several processes train one estimator: as one would, and none is left alone."""

import functools
import signal

import _together
import numpy as np
import pytest

from sklearn_mtl import MultiTaskCNNEstimator, data_parallel
from sklearn_mtl._training.group import ALONE, present_group


def distance(mine, theirs):
    """The largest difference, of what is not missing in both."""
    mine, theirs = (np.asarray(values) for values in (mine, theirs))
    assert mine.shape == theirs.shape
    if mine.dtype.kind not in "fc":
        return 0.0 if np.array_equal(mine, theirs) else np.inf
    assert np.array_equal(np.isnan(mine), np.isnan(theirs))
    differ = ~np.isnan(mine) & (mine != theirs)  # infinities may be equal
    return float(np.max(np.abs(mine[differ] - theirs[differ]), initial=0))


@functools.cache
def in_one_process(name):
    return getattr(_together, name)()


@pytest.fixture
def alone(name):
    return in_one_process(name)


@pytest.mark.parametrize(
    ("n_processes", "name"),
    [
        (2, "losses_of_both"),
        (3, "losses_of_both"),
        (3, "training_of_both"),
        (3, "images_of_both"),
    ],
)
def test_any_number_of_processes_learns_the_same(n_processes, name, alone, tmp_path):
    """In float64 to 1e-10, and to the bit in each of them."""
    first, *rest = _together.launch(n_processes, name, tmp_path)
    assert isinstance(first, dict), first
    far = {}
    for case, found in alone.items():
        for what, values in found.items():
            apart = distance(values, first[case][what])
            if apart > 1e-10:
                far[f"{case}: {what}"] = apart
            for other in rest:
                assert np.array_equal(first[case][what], other[case][what], equal_nan=True), case
    assert not far


def test_an_error_of_one_process_is_one_of_all(tmp_path):
    first, second = _together.launch(2, "troubles", tmp_path, FOLDER=str(tmp_path))
    for event in ("on_batch_end", "on_epoch_end"):
        assert second["fail"][event] == (OverflowError, "the moon is full")
        kind, text = first["fail"][event]
        assert kind is RuntimeError
        assert text.startswith("Process 1 of 2 failed: OverflowError('the moon is full')")
        assert first["press"][event][0] is second["press"][event][0] is KeyboardInterrupt
        # A callback of one ends the training of both in the same step: it has learned the same.
        assert first["stop"][event][0] == second["stop"][event][0] == 2
        assert np.array_equal(first["stop"][event][1], second["stop"][event][1])
    for what, says in {
        "y": "y, or its weights, of process 1 differs from that of process 0",
        "X": "the shape of X of process 1",
        "parameter": "learning_rate of process 1",
        "seed": "random_state of process 1",
        "small": "batch_size=1 makes batches of 1 rows",
        "values": "NaN in 1 of the",
        "thread": "n_jobs=1",
    }.items():
        for found in (first, second):
            kind, text = found[what]
            assert kind is (RuntimeError if what == "thread" else ValueError)
            assert says in text, (what, text)
    told = {what: text for what, text in first.items() if what.startswith("differs")}
    assert len(told) == 15
    for what, (kind, text) in told.items():
        name = what.removeprefix("differs: ").partition("{")[0].strip()
        assert kind is ValueError, (what, text)
        assert text.startswith(f"{name} of process 1 differs from that of process 0"), (what, text)
        assert second[what] == (kind, text)
    assert first["values"][1].startswith("Process 1 of 2 failed: X contains NaN")

    assert issubclass(first["no folder"][0], OSError)
    assert second["no folder"][0] is RuntimeError
    for found in (first, second):  # a message per step, and one per epoch, of who wants to stop
        assert found["messages"][2] - found["messages"][1] == 10 * (4 + 1)
    check_same(first, second)
    check_files(first, second, tmp_path)


def check_same(first, second):
    """What is drawn anew in each process makes no difference between them, nor between buffers."""
    for before, after in (first["fresh"], second["fresh"]):
        assert not np.array_equal(before, after)
    assert np.array_equal(first["fresh"], second["fresh"])
    assert np.array_equal(first["dropout"], second["dropout"])
    for what, values in first["batch norm"].items():
        assert np.array_equal(values, second["batch norm"][what], equal_nan=True)


def check_files(first, second, folder):
    """One process writes; a fit that failed in one goes on in both, as if it had not."""
    for was_there, is_left, went_on, unbroken in (first["checkpoint"], second["checkpoint"]):
        assert was_there
        assert not is_left
        assert np.array_equal(went_on, unbroken)
    for loaded, there in (first["saved"], second["saved"]):
        assert np.array_equal(loaded, there)
    assert {path.name for path in folder.iterdir() if path.suffix != ".pickle"} == {
        "saved.safetensors"
    }


def test_a_process_that_ends_leaves_no_other_waiting(tmp_path):
    first, second = _together.launch(2, "killed", tmp_path)
    assert second == -signal.SIGKILL
    for kind, text in first.values():
        assert kind is RuntimeError
        assert "ended without a word" in text
    first, second = _together.launch(2, "gone", tmp_path)
    assert second == (OSError, "no bread in the house")
    assert first == (RuntimeError, "Process 1 of 2 failed: OSError('no bread in the house')")


def test_copies_are_not_trained_without_a_word(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert present_group() is ALONE  # without a rank, it is of something else
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(RuntimeError, match=r"Fit inside of `with sklearn_mtl.data_parallel\(\):`"):
        MultiTaskCNNEstimator(max_epochs=1).fit(*_together.table())
    monkeypatch.delenv("WORLD_SIZE")
    MultiTaskCNNEstimator(max_epochs=1).fit(*_together.table())


def test_one_process_is_as_it_would_be_without():
    X, y = _together.table()
    with data_parallel() as group, data_parallel() as inner:
        assert (group.rank, group.size) == (0, 1)
        assert inner is group
        inside = _together.fitted(X, y)
    for what, values in _together.fitted(X, y).items():
        assert np.array_equal(values, inside[what], equal_nan=True)


@pytest.mark.parametrize("timeout", [0, -1.0, float("nan"), float("inf"), "5", None])
def test_a_timeout_is_a_number_of_seconds(timeout):
    match = f"timeout={timeout!r} must be a number of seconds"
    with pytest.raises(ValueError, match=match), data_parallel(timeout):
        pass


def test_torchrun_starts_them(tmp_path):
    """By the function behind the command, whose processes find one another by the environment."""
    process = _together.STARTS.Process(target=_together.torchrun, args=(tmp_path,))
    process.start()
    process.join(timeout=120)
    code = process.exitcode
    process.kill()  # whoever is still there would be waited for in the end
    assert code == 0
    files = [tmp_path / f"{rank}_of_2.safetensors" for rank in (0, 1)]
    first, second = (MultiTaskCNNEstimator.load(file) for file in files)
    X, _ = _together.table()
    assert np.array_equal(first.predict(X), second.predict(X))
