"""Fitted estimators with numbers within bounds: bias, gates, scores, files, streams."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.metrics import make_scorer, mean_absolute_error
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import Callback

from sklearn_mtl import MultiTaskCNNEstimator, Task
from sklearn_mtl.inspection import transfer_report
from sklearn_mtl.kinds import CensoredAmount, CensoredTarget
from sklearn_mtl.losses import LOSSES
from sklearn_mtl.metrics import concordance_index, task_scorer
from sklearn_mtl.model_selection import cross_val_predict_tasks
from sklearn_mtl.networks import DenseTrunk

INF = np.inf
TASKS = [
    Task("alive", "classification"),
    Task("days", "gamma", given=("alive", "no"), lower="days_low", upper="days_high"),
    Task("score", "regression", lower="least", upper="most"),
    Task("size", "regression"),
]


def data(n: int = 120, seed: int = 0) -> tuple[np.ndarray, pd.DataFrame]:
    """A class, durations given it, cut above; a number that is cut on both sides; and a number."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 4))
    alive = X[:, 0] + 0.1 * rng.normal(size=n) > 0
    days, end = np.exp(X[:, 1] + 0.3 * rng.normal(size=n)), np.exp(rng.normal(0.3, 0.5, size=n))
    score = X[:, 2] + 0.2 * rng.normal(size=n)
    low, high = np.where(score < -1, np.nan, score), np.where(score > 1, np.nan, score)
    y = pd.DataFrame(
        {
            "alive": np.where(alive, "yes", "no").astype(object),
            "days_low": np.where(alive, np.nan, np.minimum(days, end)),
            "days_high": np.where(alive | (days > end), np.nan, days),
            "least": np.where(score > 1, 1, low),
            "most": np.where(score < -1, -1, high),
            "size": X[:, 3],
        }
    )
    y.loc[::7, ["least", "most"]] = np.nan
    return X, y


def as_intervals(y: pd.DataFrame) -> pd.DataFrame:
    """The same, each pair of columns as one of intervals."""
    out = y[["alive", "size"]].copy()
    for name, low, high in (("days", "days_low", "days_high"), ("score", "least", "most")):
        ends = y[low].fillna(-INF), y[high].fillna(INF)
        hole = y[low].isna() & y[high].isna()
        out[name] = pd.Series(pd.arrays.IntervalArray.from_arrays(*ends)).mask(hole)
    return out


OF_INTERVALS = [
    TASKS[0],
    Task("days", "gamma", given=("alive", "no")),
    Task("score", "regression"),
    TASKS[3],
]


def small(tasks: Any = TASKS, **params: Any) -> MultiTaskCNNEstimator:
    defaults = {
        "trunk": DenseTrunk((8,), n_members=2),
        "max_epochs": 3,
        "batch_size": 32,
        "random_state": 0,
    }
    return MultiTaskCNNEstimator(tasks, **(defaults | params))


@pytest.mark.parametrize("loss", LOSSES)
def test_exact_numbers_are_fitted_as_numbers_to_the_last_bit(loss: str) -> None:
    X, y = data()
    size = y["size"]
    plain = small(None, loss=loss).fit(X, y[["size"]])
    pair = small([Task("size", "regression", lower="a", upper="b")], loss=loss)
    pair.fit(X, pd.DataFrame({"a": size, "b": size}))
    of_points = small(None, loss=loss)
    of_points.fit(X, pd.DataFrame({"size": pd.arrays.IntervalArray.from_arrays(size, size)}))
    for est in (pair, of_points):
        np.testing.assert_array_equal(est.predict(X), plain.predict(X))
        np.testing.assert_array_equal(est.noise_std_, plain.noise_std_)
        for name, values in plain.history_.items():
            np.testing.assert_array_equal(est.history_[name], values)


def test_bounds_cost_no_bias() -> None:
    """Of a nonlinear mean, half of the targets cut: where what drops them is far off."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1600, 3))
    mean = X[:, 0] + np.sin(2 * X[:, 1])
    y, limit = mean + 0.7 * rng.normal(size=1600), 0.5 * rng.normal(size=1600)
    cut = y > limit
    table = pd.DataFrame({"low": np.where(cut, limit, y), "high": np.where(cut, np.nan, y)})
    task = Task("y", "regression", lower="low", upper="high")
    error = []
    for tasks, target in (([task], table), (None, pd.Series(np.where(cut, np.nan, y)))):
        est = MultiTaskCNNEstimator(tasks, random_state=0).fit(X[:1000], target[:1000])
        error.append(np.mean(est.predict(X[1000:]).ravel() - mean[1000:]) / y.std())
        noise = est.noise_std_[0]
        if tasks:
            assert noise == pytest.approx(0.7, rel=0.15)
            assert np.mean(est.oob_prediction_.ravel() - mean[:1000]) == pytest.approx(0, abs=0.06)
    assert abs(error[0]) < 0.05
    assert error[1] < -0.3


def test_pairs_and_intervals_say_the_same() -> None:
    X, y = data()
    one = small().fit(X, y)
    other = small(OF_INTERVALS).fit(X, as_intervals(y))
    np.testing.assert_array_equal(one.predict_frame(X)["days"], other.predict_frame(X)["days"])
    assert one.score_tasks(X, y) == other.score_tasks(X, as_intervals(y))
    assert list(one.predict_frame(X)) == one.task_names_ == ["alive", "days", "score", "size"]
    assert one.predict(X).shape == (120, 4)
    assert one.n_observed_.tolist() == [120, y["days_low"].notna().sum(), 102, 120]
    assert one.n_applicable_.tolist() == [120, (y["alive"] == "no").sum(), 120, 120]


def test_scores_are_concordances() -> None:
    X, y = data()
    est = small(max_epochs=20).fit(X, y)
    scores, found = est.score_tasks(X, y), est.predict_frame(X)
    intervals = as_intervals(y)
    for name in ("days", "score"):
        assert scores[name] == concordance_index(intervals[name], found[name]) > 0.8
        assert est.oob_score_[name] > 0.7
        view, own = est.task_view(name), y[["least", "most"]]
        if name == "score":
            assert view.score(X, own) == view.score(X, intervals[name]) == scores[name]
        assert task_scorer(name)(est, X, y) == scores[name]
        assert task_scorer(name, make_scorer(concordance_index))(est, X, y) == scores[name]
    exact = (y["least"] == y["most"]).to_numpy()
    error = mean_absolute_error(y["least"][exact], found["score"][exact])
    scorer = task_scorer("score", "neg_mean_absolute_error")
    assert scorer(est, X, y) == pytest.approx(-error)
    weight = np.random.default_rng(0).integers(0, 3, size=120).astype(float)
    again = np.repeat(np.arange(120), weight.astype(int))
    assert est.score_tasks(X, y, weight)["score"] == pytest.approx(
        est.score_tasks(X[again], y.iloc[again])["score"]
    )


def test_scores_of_bounds_by_what_was_fitted_on_exact_numbers() -> None:
    X, y = data()
    exact = y.loc[y["least"] == y["most"], "least"]
    est = small(None).fit(X[exact.index], exact.rename("score"))
    intervals = as_intervals(y)["score"]
    expected = concordance_index(intervals, est.predict(X))
    assert est.score(X, intervals) == expected
    assert est.score(X, y["size"].rename("score")) < 0.5  # R2, of what is exact


@pytest.mark.parametrize("loss", LOSSES)
def test_weight_two_is_the_row_twice(loss: str) -> None:
    X, y = data(60)
    again = np.concatenate([np.arange(60), np.arange(20)])
    weight = np.where(np.arange(60) < 20, 2.0, 1.0)
    fit_once: dict[str, Any] = {"batch_size": 1000, "precision": "float64", "loss": loss}
    once = small(**fit_once).fit(X, y, weight)
    twice = small(**fit_once).fit(X[again], y.iloc[again].reset_index(drop=True))
    for name in ("days", "score"):
        np.testing.assert_allclose(
            once.predict_frame(X)[name], twice.predict_frame(X)[name], rtol=1e-4, atol=1e-4
        )


def test_what_lies_in_holes_does_not_matter() -> None:
    """Cells of weight 0, and those where nothing is known."""
    X, y = data()
    weight = np.ones((120, 4))
    weight[:30, 2] = 0
    changed = y.copy()
    changed.loc[:29, ["least", "most"]] = 1e6
    one, other = (small().fit(X, table, weight) for table in (y, changed))
    np.testing.assert_array_equal(one.predict_frame(X)["score"], other.predict_frame(X)["score"])


def test_where_the_gate_does_not_hold() -> None:
    X, y = data()
    est = small(conditional_output="nan", max_epochs=20).fit(X, y)
    found = est.predict_frame(X)
    assert (found["days"].isna() == (found["alive"] == "yes")).all()
    est.conditional_output = "expected"
    assert (est.predict_frame(X)["days"] < est.task_view("days").predict(X)).all()
    y.loc[y["alive"] == "yes", "days_low"] = 3.0
    with pytest.raises(ValueError, match="Task 'days'"):
        small().fit(X, y)


def test_bounded_errors_are_a_choice() -> None:
    """Squared distances to the interval: nothing is said of how far beyond a bound the truth is."""
    X, y = data(400)
    bounded, likely = (
        small(loss=loss, max_epochs=30).fit(X, y).history_["train_loss"][-1]
        for loss in ("masked_mse", "weighted")
    )
    assert (bounded[1:3] < likely[1:3]).all()
    assert bounded[3] == pytest.approx(likely[3], rel=0.5)


# -- ways to fit, and what is kept -----------------------------------------------------------------


def test_files(tmp_path: Path) -> None:
    X, y = data()
    for est in (small().fit(X, y), small(OF_INTERVALS).fit(X, as_intervals(y))):
        est.save(tmp_path / "m.safetensors")
        again = MultiTaskCNNEstimator.load(tmp_path / "m.safetensors")
        pd.testing.assert_frame_equal(again.predict_frame(X), est.predict_frame(X))
        assert again.score_tasks(X, y if est.tasks is TASKS else as_intervals(y)) == (
            est.score_tasks(X, y if est.tasks is TASKS else as_intervals(y))
        )
        assert again.tasks_ == est.tasks_
        np.testing.assert_array_equal(again.noise_std_, est.noise_std_)


def test_graphs(tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime", reason="runs the graphs")
    pytest.importorskip("onnxscript")
    X, y = data()
    est = small().fit(X, y)
    est.to_onnx(tmp_path / "m.onnx")
    session = runtime.InferenceSession(tmp_path / "m.onnx")
    found = dict(zip(est.task_names_, session.run(None, {"X": X.astype(np.float32)}), strict=True))
    for name in ("days", "score"):
        np.testing.assert_allclose(
            found[name].ravel(), est.task_view(name).predict(X), rtol=1e-3, atol=1e-4
        )


def test_streams() -> None:
    X, y = data()
    est = small()
    for rows in np.array_split(np.arange(120), 3):
        est.partial_fit(X[rows], y.iloc[rows], {"alive": ["yes", "no"]})
    assert np.isfinite(est.predict_frame(X)["days"]).all()
    encoder = est._fitted.encoder
    assert [type(kind) for kind in encoder.kinds_[1:3]] == [CensoredAmount, CensoredTarget]
    assert (noise_in_training(est) != 1).all()  # what was learned of the noise goes on


def test_a_stream_goes_on_from_a_file_with_the_same_bits(tmp_path: Path) -> None:
    X, y = data()
    one, (first, second) = small(), np.array_split(np.arange(120), 2)
    one.partial_fit(X[first], y.iloc[first], {"alive": ["yes", "no"]})
    one.save(tmp_path / "m.safetensors", optimizer=True)
    two = MultiTaskCNNEstimator.load(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(noise_in_training(two), noise_in_training(one))
    for est in (one, two):
        est.partial_fit(X[second], y.iloc[second])
    pd.testing.assert_frame_equal(one.predict_frame(X), two.predict_frame(X))


class Killed(Callback):
    """Ends a fit in its second epoch, until it is told not to."""

    at: ClassVar[int | None] = 2

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        if len(net.history) == self.at:
            raise RuntimeError("killed")


def test_a_fit_goes_on_from_its_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = data()
    params = {"max_epochs": 4, "checkpoint_every": 0, "net_params": {"callbacks": [Killed()]}}
    kept = small(**params, checkpoint=tmp_path / "fit.checkpoint")
    with pytest.raises(RuntimeError, match="killed"):
        kept.fit(X, y)
    monkeypatch.setattr(Killed, "at", None)
    whole = small(**params).fit(X, y)
    pd.testing.assert_frame_equal(kept.fit(X, y).predict_frame(X), whole.predict_frame(X))


def test_validation_data_and_early_stopping() -> None:
    X, y = data()
    est = small().fit(X[:80], y[:80], X_val=X[80:], y_val=y[80:])
    assert np.isfinite(est.history_["valid_loss"]).all()
    assert np.isfinite(small(early_stopping=True).fit(X, y).history_["valid_loss"]).all()


def test_a_warm_start_goes_on_from_the_noise() -> None:
    X, y = data()
    first = small(warm_start=True, max_epochs=30).fit(X, y)
    before = noise_in_training(first)
    after = noise_in_training(first.set_params(max_epochs=1).fit(X, y))
    assert (before < 0.7).all()
    np.testing.assert_allclose(after, before, rtol=0.2)


def noise_in_training(est: MultiTaskCNNEstimator) -> np.ndarray:
    losses = est.net_.criterion_.task_losses
    (scale,) = (b for name, b in losses.named_buffers() if "scale" in name)
    return scale.numpy()


def test_images() -> None:
    """Without members that leave out rows, noise and means are those of the training rows."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(120, 1, 8, 8)), data()[1]
    est = MultiTaskCNNEstimator(TASKS, max_epochs=2, random_state=0).fit(X, y)
    assert np.isfinite(est.noise_std_[1:]).all()
    assert np.isfinite(est.predict_frame(X)[["days", "score"]]).all(axis=None)


def test_pipelines_searches_and_folds() -> None:
    X, y = data()
    pipeline = make_pipeline(StandardScaler(), small(max_epochs=10))
    assert cross_val_score(pipeline, X, y, cv=3, scoring=task_scorer("score")).mean() > 0.6
    assert np.isfinite(cross_val_score(small(OF_INTERVALS), X, as_intervals(y), cv=3)).all()
    search = GridSearchCV(small(), {"max_epochs": [1, 2]}, cv=2, scoring=task_scorer("days", "r2"))
    assert np.isfinite(search.fit(X, y).best_score_)
    assert len(cross_val_predict_tasks(small(), X, y, cv=2)["days"]) == 120
    report = transfer_report(small(), X, y, cv=2)
    assert np.isfinite(report.loc["score", ["joint", "separate"]].astype(float)).all()
    assert clone(small()).tasks == TASKS
