"""scikit-learn's callbacks: what they are told of a fit and its epochs, and what they may ask."""

from __future__ import annotations

import pickle
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from _inputs import EVERY_KIND, make_every_kind, make_table
from sklearn.base import clone
from sklearn.callback import ProgressBar, ScoringMonitor
from sklearn.callback._callback_context import get_context_path
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import Callback, LRScheduler
from torch import nn

from sklearn_mtl import MultiTaskCNNEstimator, task_view
from sklearn_mtl._training.listeners import EpochListener
from sklearn_mtl.metrics import task_scorers
from sklearn_mtl.networks import DenseTrunk


class Recorder:
    """Keeps what it is told, and what a function makes of it."""

    def __init__(self, look: Any = None, stop_after: int | None = None) -> None:
        self.look, self.stop_after = look, stop_after
        self.told: list[tuple[str, str, int]] = []
        self.seen: list[Any] = []

    def setup(self, estimator: Any, context: Any) -> None:
        self._tell("setup", context)

    def teardown(self, estimator: Any, context: Any) -> None:
        self._tell("teardown", context)

    def _tell(self, event: str, context: Any) -> None:
        self.told.append((event, context.task_name, context.task_id))

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        self._tell("begin", context)

    def on_fit_task_end(
        self,
        estimator: Any,
        context: Any,
        *,
        X: Any = None,
        y: Any = None,
        metadata: Any = None,
        fitted_estimator: Any = None,
    ) -> bool:
        self._tell("end", context)
        if self.look is not None:
            self.seen.append(self.look(fitted_estimator, X, y, metadata))
        n_epochs = [told[:2] for told in self.told].count(("end", "epoch"))
        return n_epochs == self.stop_after


class Deep(Recorder):
    """Goes down to the estimators inside others."""

    max_propagation_depth = None

    def _tell(self, event: str, context: Any) -> None:
        names = [part.estimator_name for part in get_context_path(context)]
        self.told.append((event, "/".join([*names, context.task_name]), context.task_id))


def small(**params: Any) -> MultiTaskCNNEstimator:
    params = {"max_epochs": 3, "random_state": 0} | params
    return MultiTaskCNNEstimator(trunk=DenseTrunk(hidden_layer_sizes=(8,)), **params)


def test_a_fit_is_a_task_and_its_epochs_are_tasks_in_it() -> None:
    recorder = Recorder()
    small().set_callbacks(recorder).fit(*make_table())
    epochs = [(event, "epoch", k) for k in range(3) for event in ("begin", "end")]
    fit = [("setup", "fit", 0), ("begin", "fit", 0), *epochs]
    assert recorder.told == [*fit, ("end", "fit", 0), ("teardown", "fit", 0)]


def test_callbacks_change_nothing() -> None:
    X, y = make_every_kind()
    watched = small(tasks=EVERY_KIND).set_callbacks(Recorder(lambda est, *_: est.predict(X)))
    plain = small(tasks=EVERY_KIND)
    np.testing.assert_array_equal(watched.fit(X, y).predict(X), plain.fit(X, y).predict(X))


def constant_rate() -> LRScheduler:
    """With it, epochs do not know how many there will be."""
    return LRScheduler("StepLR", step_size=99)


def test_an_epoch_shows_the_estimator_that_a_shorter_fit_gives() -> None:
    X, y = make_every_kind(90)
    params = {"tasks": EVERY_KIND, "net_params": {"callbacks": [("rate", constant_rate())]}}
    recorder = Recorder(lambda est, *_: est)
    last = small(**params).set_callbacks(recorder).fit(X, y)
    for k, found in enumerate(recorder.seen[:3], start=1):
        short = small(**params, max_epochs=k).fit(X, y)
        np.testing.assert_array_equal(found.predict(X), short.predict(X))
        np.testing.assert_array_equal(found.noise_std_, short.noise_std_)
        for name, rows in short.history_.items():
            np.testing.assert_array_equal(found.history_[name], rows)
        assert found.n_iter_ == k
        assert found.net_ is not last.net_
        pickle.dumps(found.net_)
    assert recorder.seen[3].net_ is last.net_  # at the end of the fit
    np.testing.assert_array_equal(recorder.seen[2].predict(X), last.predict(X))


def test_what_an_epoch_shows_may_be_used_at_once() -> None:
    X, y = make_table()
    views = Recorder(lambda est, *_: task_view(est, "y0").predict_proba(X))
    estimator = small().set_callbacks(views).fit(X, y)
    np.testing.assert_array_equal(views.seen[-1], estimator.predict_proba(X))
    assert not np.array_equal(views.seen[0], views.seen[-1])


def test_callbacks_see_the_training_rows() -> None:
    X, y = make_table()
    weight = np.arange(1.0, 61)
    seen = Recorder(lambda est, *data: data)
    small().set_callbacks(seen).fit(X, y, weight)
    for X_seen, y_seen, metadata in seen.seen:
        assert X_seen is X
        assert y_seen is y
        assert metadata["sample_weight"] is weight
    small().set_callbacks(seen).fit(X, y)
    assert seen.seen[-1][2] == {}


@pytest.mark.parametrize("weighted", [False, True])
def test_callbacks_see_validation_data_if_there_are_any(weighted: bool) -> None:
    X, y = make_table(80)
    X_val, y_val = X[60:], y[60:]
    weight = np.arange(1.0, 21) if weighted else None
    seen = Recorder(lambda est, *data: data)
    small().set_callbacks(seen).fit(
        X[:60], y[:60], X_val=X_val, y_val=y_val, sample_weight_val=weight
    )
    assert len(seen.seen) == 4
    for X_seen, y_seen, metadata in seen.seen:
        assert X_seen is X_val
        assert y_seen is y_val
        assert metadata == ({"sample_weight": weight} if weighted else {})


@pytest.mark.parametrize("frame", [False, True])
def test_callbacks_see_the_rows_held_out(frame: bool) -> None:
    X, y = make_table(100)
    weight = np.arange(1.0, 101)
    data = (X, pd.DataFrame(y, columns=["a", "b", "c"])) if frame else (X, y)
    seen = Recorder(lambda est, *data: data)
    small(early_stopping=True).set_callbacks(seen).fit(*data, weight)
    for X_seen, y_seen, metadata in seen.seen:
        rows = metadata["sample_weight"].astype(int) - 1
        assert 8 <= len(rows) <= 12
        np.testing.assert_array_equal(X_seen, X[rows])
        np.testing.assert_array_equal(y_seen, y[rows])


def test_rows_are_copied_only_for_those_who_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sklearn_mtl._training.fit_tasks.take_rows", None)
    monkeypatch.setattr("sklearn_mtl._training.fit_tasks.copied", None)

    class Deaf(Recorder):
        def on_fit_task_end(self, estimator: Any, context: Any) -> bool:  # type: ignore[override]
            return False

    small(early_stopping=True).set_callbacks(Deaf()).fit(*make_table(100))


@pytest.mark.parametrize("early_stopping", [False, True])
def test_a_callback_ends_the_fit(early_stopping: bool) -> None:
    X, y = make_table(100)
    stopping = Recorder(stop_after=2)
    estimator = small(max_epochs=9, early_stopping=early_stopping).set_callbacks(stopping)
    estimator.fit(X, y)  # without a warning, as it was asked for
    assert estimator.n_iter_ == 2
    assert estimator.predict(X).shape == y.shape
    assert stopping.told[-2:] == [("end", "fit", 0), ("teardown", "fit", 0)]


def test_the_epoch_at_which_a_callback_ends_the_fit_may_be_the_best() -> None:
    X, y = make_table(200, noise=0.1)
    params = {"max_epochs": 9, "early_stopping": True, "learning_rate": 0.05, "batch_size": 32}
    estimator = small(**params).set_callbacks(seen := Recorder(lambda e, *_: e, stop_after=3))
    estimator.fit(X, y)
    objective = estimator.net_.history[:, "valid_loss"]
    assert np.argmin(objective) == 2
    np.testing.assert_array_equal(seen.seen[2].predict(X), estimator.predict(X))


def test_an_interrupted_epoch_is_ended() -> None:
    class Interrupting(Callback):
        def on_batch_end(self, net: Any, **kwargs: Any) -> None:
            raise KeyboardInterrupt

    recorder = Recorder()
    estimator = small(net_params={"callbacks": [("stop", Interrupting())]})
    with pytest.warns(ConvergenceWarning, match="interrupted"):
        estimator.set_callbacks(recorder).fit(*make_table())
    events = [told[:2] for told in recorder.told]
    assert events[2:] == [("begin", "epoch"), ("end", "epoch"), ("end", "fit"), ("teardown", "fit")]


def test_what_a_callback_draws_changes_nothing() -> None:
    X, y = make_table()
    trunk = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5))
    plain = MultiTaskCNNEstimator(trunk=trunk, max_epochs=3, random_state=0)
    drawing = clone(plain).set_callbacks(Recorder(lambda *_: torch.rand(3)))
    np.testing.assert_array_equal(drawing.fit(X, y).predict(X), plain.fit(X, y).predict(X))


def test_checkpoints_of_epochs(tmp_path: Any) -> None:
    X, y = make_table()
    files = iter(tmp_path / f"{k}.safetensors" for k in range(4))
    saved = Recorder(lambda est, *_: (est.save(file := next(files)), file)[1])
    estimator = small().set_callbacks(saved).fit(X, y)
    loaded = [MultiTaskCNNEstimator.load(file) for file in saved.seen]
    np.testing.assert_array_equal(loaded[-1].predict(X), estimator.predict(X))
    assert not np.array_equal(loaded[0].embed(X), loaded[1].embed(X))


def test_an_epoch_shows_nothing_of_an_earlier_fit() -> None:
    X, y = make_table()
    frame = pd.DataFrame(X, columns=["p", "q", "r"])
    seen = Recorder(lambda est, X, y, metadata: est.predict(X))
    estimator = small().fit(frame, y).set_callbacks(seen)
    estimator.fit(X[:, :2], y[:, 1])  # without a warning about names
    np.testing.assert_array_equal(seen.seen[-1], estimator.predict(X[:, :2]))


def test_one_weight_for_all_rows() -> None:
    seen = Recorder(lambda est, X, y, metadata: metadata["sample_weight"])
    small(early_stopping=True).set_callbacks(seen).fit(*make_table(100), 2.0)
    assert set(seen.seen) == {2.0}


def test_a_callback_that_fails_at_the_end_leaves_the_earlier_fit() -> None:
    X, y = make_table()

    def fail(estimator: Any, *data: Any) -> None:
        if len(failing.seen) == 3:
            raise RuntimeError("no")

    failing = Recorder(fail)
    estimator = small().fit(X, y).set_callbacks(failing)
    before = estimator.predict(X)
    with pytest.raises(RuntimeError, match="no"):
        estimator.set_params(random_state=1).fit(X, y)
    np.testing.assert_array_equal(estimator.predict(X), before)


def test_rows_held_out_of_zarr() -> None:
    zarr = pytest.importorskip("zarr", reason="Zarr arrays need zarr")
    X, y = make_table(100)
    seen = Recorder(lambda est, X, y, metadata: X)
    small(early_stopping=True).set_callbacks(seen).fit(zarr.array(X), y)
    assert 8 <= len(seen.seen[0]) <= 12


def test_early_stopping_ends_the_last_epoch_too() -> None:
    recorder = Recorder()
    params = {"max_epochs": 9, "early_stopping": True, "n_iter_no_change": 1, "tol": 1e9}
    estimator = small(**params).set_callbacks(recorder).fit(*make_table(100))
    assert estimator.n_iter_ < 9
    told = [event for event, name, _ in recorder.told if name == "epoch"]
    assert told == ["begin", "end"] * estimator.n_iter_


def test_an_interrupted_fit_says_so() -> None:
    looks = iter([KeyboardInterrupt, None])

    def interrupt_once(*args: Any) -> None:
        if (error := next(looks)) is not None:
            raise error

    estimator = small().set_callbacks(Recorder(interrupt_once))
    with pytest.warns(ConvergenceWarning, match="interrupted the training in epoch 1 of 3"):
        estimator.fit(*make_table())
    assert estimator.n_iter_ == 1


@pytest.mark.parametrize("at", ["on_fit_task_begin", "on_fit_task_end", "setup"])
def test_a_failing_callback_leaves_a_fitted_estimator_as_it_was(at: str) -> None:
    X, y = make_table()
    estimator = small().fit(X, y)
    before = estimator.predict(X)

    def fail(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("no")

    failing = Recorder()
    setattr(failing, at, fail)
    estimator.set_callbacks(failing)
    with pytest.raises(RuntimeError, match="no"):
        estimator.set_params(random_state=1).fit(X, y)
    np.testing.assert_array_equal(estimator.predict(X), before)
    assert failing.told[-1][0] == "teardown" or at == "setup"


def test_scores_per_epoch() -> None:
    X, y = make_table(100)
    monitor = ScoringMonitor(
        scoring=task_scorers({"y0": "accuracy", "y2": ["r2", "neg_max_error"]})
    )
    estimator = small().set_callbacks(monitor)
    estimator.fit(X[:70], y[:70], X_val=X[70:], y_val=y[70:])
    log = monitor.get_logs().data_as_pandas.set_index("task_id_path")
    assert log["task_name"].tolist() == ["fit", "epoch", "epoch", "epoch"]
    scores = estimator.score_tasks(X[70:], y[70:])
    for row in ((0,), (0, 2)):  # the fit, and its last epoch
        found = log.loc[[row]].iloc[0]
        assert found["y0_accuracy"] == pytest.approx(scores["y0"])
        assert found["y2_r2"] == pytest.approx(scores["y2"])


def test_from_a_search_down_to_epochs() -> None:
    X, y = make_table()
    deep = Deep()
    pipeline = Pipeline([("scale", StandardScaler()), ("mtl", small(max_epochs=2))])
    search = GridSearchCV(pipeline, {"mtl__loss": ["logprod", "weighted"]}, cv=2)
    search.set_callbacks(deep).fit(X, y)
    names = "GridSearchCV/GridSearchCV/Pipeline/MultiTaskCNNEstimator/MultiTaskCNNEstimator/epoch"
    ended = [name for event, name, _ in deep.told if event == "end" and name.endswith("/epoch")]
    assert ended.count(names) == 2 * 4  # two epochs of four fits of the search
    assert len(ended) == 2 * 5  # and of the last one
    assert not hasattr(search.best_estimator_[-1], "_skl_callbacks")


def test_progress_down_to_epochs(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("rich", reason="scikit-learn's progress bars need rich")
    pipeline = Pipeline([("mtl", small(max_epochs=2))])
    search = GridSearchCV(pipeline, {"mtl__loss": ["logprod"]}, cv=2)
    search.set_callbacks(ProgressBar(max_propagation_depth=None)).fit(*make_table())
    assert "MultiTaskCNNEstimator" in capsys.readouterr().out


def test_callbacks_are_parts_of_clones_and_pickles_but_not_of_files(tmp_path: Any) -> None:
    X, y = make_table()
    estimator = small().set_callbacks(Recorder()).fit(X, y)
    assert clone(estimator)._skl_callbacks is estimator._skl_callbacks
    assert len(pickle.loads(pickle.dumps(estimator))._skl_callbacks) == 1
    estimator.save(tmp_path / "model.safetensors")
    loaded = MultiTaskCNNEstimator.load(tmp_path / "model.safetensors")
    assert not hasattr(loaded, "_skl_callbacks")
    np.testing.assert_array_equal(loaded.predict(X), estimator.predict(X))


def test_a_net_keeps_nothing_of_the_listener() -> None:
    estimator = small().set_callbacks(Recorder()).fit(*make_table())
    assert not any(isinstance(c, EpochListener) for _, c in estimator.net_.callbacks_)


@pytest.mark.parametrize("named", [False, True])
def test_callbacks_of_scikit_learn_in_the_wrong_place(named: bool) -> None:
    callback = ("mine", Recorder()) if named else Recorder()
    estimator = small(net_params={"callbacks": [callback]})
    with pytest.raises(
        ValueError, match=r"holds Recorder, a callback of scikit-learn.*set_callbacks"
    ):
        estimator.fit(*make_table())


@pytest.mark.parametrize("searched", [False, True])
def test_bars_fit_into_80_columns(
    searched: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With their percentages and times, from the search down to the epochs."""
    pytest.importorskip("rich")
    monkeypatch.setenv("COLUMNS", "80")
    estimator: Any = small(max_epochs=1)
    if searched:
        estimator = GridSearchCV(estimator, {"learning_rate": [0.1, 0.2]}, cv=2)
    estimator.set_callbacks(ProgressBar(max_propagation_depth=None)).fit(*make_table())
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == (7 if searched else 1)
    for line in lines:
        assert len(line) <= 80
        assert "\N{HORIZONTAL ELLIPSIS}" not in line
        assert re.search(r"━+ 100% \d:\d\d:\d\d$", line)
