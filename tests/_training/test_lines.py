"""What `verbose` shows."""

from __future__ import annotations

import io
import pickle
import sys

import numpy as np
import pytest
from _fits import N_TASKS, X, Y, make

from sklearn_mtl import MultiTaskCNNEstimator, Task


def printed(capsys, estimator, *data, **validation):
    estimator.fit(*(data or (X, Y)), **validation)
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("validated", [False, True])
def test_each_task_has_a_column(validated, capsys):
    validation = {"X_val": X[:20], "y_val": Y[:20]} if validated else {}
    estimator = make(verbose=1)
    head, line, *rows = printed(capsys, estimator, **validation)
    watched = "valid_loss" if validated else "train_loss"
    objectives = ["train_loss"] + ["valid_loss"] * validated
    tasks = [f"y{k}" for k in range(N_TASKS)]
    assert head.split() == ["epoch", "left", *objectives, "score", *tasks]
    assert len(rows) == 3
    for k, (row, epoch) in enumerate(zip(rows, estimator.net_.history, strict=True)):
        cells = row.replace("*", "").split()
        assert cells[0] == f"{k + 1}/3"
        assert [float(cell) for cell in cells[2:-4]] == pytest.approx(
            [epoch[name] for name in objectives], abs=1e-4
        )
        losses = estimator.history_[watched][k]
        assert cells[-3:] == [f"{loss:.4f}" for loss in losses]
        score = np.mean(1 - losses / estimator.net_.constant_losses_)
        assert float(cells[-4]) == pytest.approx(score, abs=1e-4)
        assert ("*" in row) == epoch[f"{watched}_best"]
    assert len(line) == len(head)


def test_lines_are_aligned_and_have_no_colours(capsys):
    lines = printed(capsys, make(verbose=1, max_epochs=12))
    assert len({len(line) for line in lines}) == 1
    assert "\x1b" not in "".join(lines)
    ends = [i for i, dash in enumerate(lines[1]) if dash == "-" and lines[1][i + 1 : i + 2] != "-"]
    for line in lines[2:]:  # numbers end where their columns do, or before an asterisk
        assert all(line[end] not in " " or line[end - 1] not in " " for end in ends)


@pytest.mark.parametrize("columns", ["40", "80", "300", None])
def test_many_tasks_share_a_column(columns, capsys, monkeypatch):
    if columns is not None:
        monkeypatch.setenv("COLUMNS", columns)
    y = np.repeat(X[:, :1], 40, axis=1) + np.arange(40)
    estimator = make(verbose=1)
    head, _, *rows = printed(capsys, estimator, X, y)
    assert len(head) <= {"40": 64, "80": 80}.get(columns, 100)
    shown = head.split()[4:-2]
    assert shown == [f"y{k}" for k in range(len(shown))]
    assert head.endswith(f"{40 - len(shown)} others")
    others = estimator.history_["train_loss"][-1, len(shown) :].mean()
    assert rows[-1].split()[-1] == f"{others:.4f}"


def test_names_of_any_length_and_losses_that_are_lacking(capsys):
    estimator = MultiTaskCNNEstimator(
        [Task("a" * 40 + "zz", "regression"), Task("b", "regression")],
        max_epochs=2,
        random_state=0,
        verbose=1,
    )
    y = np.column_stack([X[:, 0], X[:, 1]])
    held_out = np.column_stack([X[:5, 0], np.full(5, np.nan)])
    head, _, *rows = printed(capsys, estimator, X, y, X_val=X[:5], y_val=held_out)
    assert head.split()[-2] == "a" * 12 + "..zz"
    assert rows[-1].split()[-1] == "-"


def test_huge_losses_keep_their_columns(capsys):
    y = X[:, 0] * 1.0
    estimator = make(verbose=1, standardize=False, loss="weighted", max_epochs=1)
    head, _, row = printed(capsys, estimator, X * 1e4, y)
    assert len(row) == len(head)


def test_what_is_left_is_at_most_where_the_data_say_when_to_end(capsys):
    rows = printed(capsys, MultiTaskCNNEstimator(random_state=0, verbose=1))[2:]
    assert all(row.split()[1].startswith("<") for row in rows[:-1])
    rows = printed(capsys, make(verbose=1))[2:]
    assert not any("<" in row for row in rows)
    assert rows[-1].split()[:2] == ["3/3", "0:00"]


def test_a_bar_shows_the_epoch_under_way(capsys):
    estimator = make(verbose=2).fit(X, Y)
    out, err = capsys.readouterr()
    assert "epoch 3/3" in err
    assert "/4" in err  # batches
    assert len(out.splitlines()) == 5
    twin = pickle.loads(pickle.dumps(estimator))
    np.testing.assert_array_equal(twin.predict(X), estimator.predict(X))
    quiet = make().fit(X, Y)
    assert capsys.readouterr() == ("", "")
    np.testing.assert_array_equal(quiet.predict(X), estimator.predict(X))


def test_without_tqdm_there_are_lines_alone(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    make(verbose=2).fit(X, Y)
    out, err = capsys.readouterr()
    assert (len(out.splitlines()), err) == (5, "")


def test_an_interrupted_epoch_leaves_no_bar(monkeypatch):
    from _fits import Recorder

    def stop():
        raise KeyboardInterrupt

    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    recorder = Recorder("batch_end", 6, stop)
    with pytest.warns(UserWarning, match="interrupted"):
        estimator = make([recorder], verbose=2).fit(X, Y)
    bars = [callback for name, callback in estimator.net_.callbacks_ if name == "epoch_bar"]
    assert bars[0].bar_ is None


def test_a_stream_has_one_head(capsys):
    estimator = make(verbose=1)
    for _ in range(2):
        estimator.partial_fit(X, Y)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["epoch", "---------", "1/1", "1/1"]
