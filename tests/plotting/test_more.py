"""Displays of reports, weights, errors and saliency, and objects that plot themselves."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from _plots import ESTIMATOR, IMAGES, IMAGES_Y, NAMES, OF_IMAGES, TASKS, X, Y, many
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sklearn_mtl import MultiTaskCNNEstimator, predict_interval_frame
from sklearn_mtl.datasets import ColumnInputs, MultiInput
from sklearn_mtl.inspection import TrainingHistory, TransferReport, transfer_report
from sklearn_mtl.plotting import (
    SaliencyDisplay,
    TaskErrorsDisplay,
    TaskScoresDisplay,
    TaskWeightsDisplay,
    TrainingHistoryDisplay,
    TransferDisplay,
)

REPORT = pd.DataFrame(
    {
        "kind": ["regression"] * 4,
        "n_observed": [10, 20, 30, 40],
        "joint": [0.9, 0.2, 0.5, 0.5],
        "separate": [0.5, 0.5, 0.5, 0.2],
        "difference": [0.4, -0.3, 0.0, 0.3],
        "ci_low": [0.1, -0.5, -0.2, np.nan],
        "ci_high": [0.7, -0.1, 0.2, np.nan],
        "verdict": ["joint", "separate", "undecided", "undecided"],
    },
    index=pd.Index(["a", "b", "c", "d"], name="task"),
)


# -- reports ---------------------------------------------------------------------------------


def test_a_forest_has_differences_and_intervals() -> None:
    display = TransferDisplay.from_report(REPORT)
    assert [point.get_xdata()[0] for point in display.points_] == [0.4, -0.3, 0.0, 0.3]
    ends = [(path[0, 0], path[1, 0]) for path in display.intervals_.get_segments()]
    assert ends == [(0.1, 0.7), (-0.5, -0.1), (-0.2, 0.2)]
    left, right = display.ax_.get_xlim()
    assert left == -right  # losses have as much room as gains
    colors = [to_hex(point.get_color()) for point in display.points_]
    assert len(set(colors)) == 3
    assert display.points_[3].get_markerfacecolor() == "none"  # no interval
    labels = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert labels == ["joint is better", "separate is better", "undecided"]
    display.plot(sort=True)
    assert [text.get_text() for text in display.ax_.get_yticklabels()] == ["a", "d", "c", "b"]


def test_what_is_no_report_is_refused() -> None:
    for report in (REPORT.drop(columns="ci_low"), REPORT[:0], "report"):
        with pytest.raises(ValueError, match="Pass what transfer_report returns"):
            TransferDisplay.from_report(report)


def test_reports_print_and_plot_themselves() -> None:
    small = MultiTaskCNNEstimator(max_epochs=1, random_state=0)
    report = transfer_report(small, X, X[:, :2] > 0, cv=2, confidence=0.8)
    assert isinstance(report, TransferReport)
    assert isinstance(report, pd.DataFrame)
    display = report.plot()
    assert isinstance(display, TransferDisplay)
    assert [p.get_xdata()[0] for p in display.points_] == report["difference"].tolist()
    _, ax = plt.subplots()
    assert report.plot(ax).ax_ is report.plot(ax=ax).ax_ is ax
    lines = str(report).splitlines()
    assert "80 % interval" in lines[0]
    assert max(map(len, lines)) <= 88
    assert len(lines) == 2 + len(report)
    # Parts of it are frames like others, and all of it can be plotted as one of pandas.
    assert report[["joint"]].plot.bar().figure is not None
    assert report.plot(x="joint", y="separate", kind="scatter").figure is not None
    assert str(report[["joint"]]) == str(pd.DataFrame(report)[["joint"]])
    twin = pickle.loads(pickle.dumps(report))
    pd.testing.assert_frame_equal(twin, report)
    assert "80 % interval" in str(twin)
    assert len(report.sort_values("difference").plot(sort=True).points_) == 2


def test_a_report_without_intervals_prints() -> None:
    assert "not known" in str(TransferReport(REPORT))
    assert "[+0.100, +0.700]" in str(TransferReport(REPORT))


# -- history ---------------------------------------------------------------------------------


def test_the_history_is_a_dict_that_prints_and_plots() -> None:
    history = ESTIMATOR.history_
    assert isinstance(history, dict)
    assert list(history) == ["train_loss", "valid_loss", "effective_weight"]
    assert history.best_epoch == np.argmin(ESTIMATOR.net_.history[:, "valid_loss"]) + 1
    text = repr(history)
    assert f"8 epochs, the best one {history.best_epoch}" in text
    assert all(name in text for name in NAMES)
    assert f"{history['train_loss'][0, 1]:#.3g}" in text
    assert f"{history['valid_loss'][-1, 3]:#.3g}" in text
    display = history.plot(tasks="size")
    assert isinstance(display, TrainingHistoryDisplay)
    np.testing.assert_array_equal(
        display.lines_["size"]["valid_loss"].get_ydata(), history["valid_loss"][:, 1]
    )


def test_the_history_is_a_table_by_epoch() -> None:
    frame = ESTIMATOR.history_.to_frame()
    with pytest.raises(TypeError, match="task_names"):  # of which the table is made
        TrainingHistory(ESTIMATOR.history_)
    assert frame.index.tolist() == list(range(1, 9))
    np.testing.assert_array_equal(
        frame["valid_loss", "count"], ESTIMATOR.history_["valid_loss"][:, 3]
    )


def test_the_history_of_many_tasks_is_short() -> None:
    estimator, _, _ = many()
    lines = repr(estimator.history_).splitlines()
    assert len(lines) < 30
    assert max(map(len, lines)) <= 110


def test_the_history_survives_pickles_and_files(tmp_path: Any) -> None:
    twin = pickle.loads(pickle.dumps(ESTIMATOR))
    assert twin.history_.best_epoch == ESTIMATOR.history_.best_epoch
    ESTIMATOR.save(tmp_path / "model.safetensors")
    loaded = MultiTaskCNNEstimator.load(tmp_path / "model.safetensors")
    for name, values in ESTIMATOR.history_.items():
        np.testing.assert_array_equal(loaded.history_[name], values)
    assert loaded.history_.best_epoch is None  # files do not know
    assert "best" not in repr(loaded.history_)
    assert not hasattr(MultiTaskCNNEstimator(), "history_")
    history = pickle.loads(pickle.dumps(ESTIMATOR.history_))
    assert repr(history) == repr(ESTIMATOR.history_)


# -- weights ---------------------------------------------------------------------------------


def test_weights_are_lines_or_a_map() -> None:
    display = TaskWeightsDisplay.from_estimator(ESTIMATOR)
    weights = ESTIMATOR.history_["effective_weight"]
    for k, name in enumerate(NAMES):
        np.testing.assert_array_equal(display.lines_[name].get_ydata(), weights[:, k])
    labels = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert labels == [NAMES[k] for k in np.argsort(-weights[-1])]  # as lines end
    display.plot(kind="map", tasks=["count", "size"])
    assert display.lines_ is None
    np.testing.assert_array_equal(display.image_.get_array(), weights[:, [3, 1]].T)
    assert TaskWeightsDisplay.from_estimator(many()[0]).image_ is not None
    with pytest.raises(ValueError, match="kind='pie' is unknown"):
        display.plot(kind="pie")


def test_weights_of_zero_are_holes_in_the_map() -> None:
    display = TaskWeightsDisplay(np.array([[0.0, 1.0], [2.0, np.nan]]), ["a", "b"])
    shown = display.plot(kind="map").image_.get_array()
    np.testing.assert_array_equal(shown.mask, [[True, False], [False, True]])
    assert display.plot(kind="lines").ax_.get_yscale() == "linear"
    display = TaskWeightsDisplay(np.array([[0.0, 1.0], [20.0, np.nan]]), ["a", "b"])
    assert display.plot().ax_.get_yscale() == "log"


# -- errors ----------------------------------------------------------------------------------


def test_errors_are_observed_against_predicted_numbers() -> None:
    estimator = MultiTaskCNNEstimator(TASKS, max_epochs=3, random_state=0).fit(X, Y)
    display = TaskErrorsDisplay.from_estimator(estimator, X, Y, confidence=0.5)
    assert list(display.points_) == ["size", "count"]
    frame, ends = estimator.predict_frame(X), predict_interval_frame(estimator, X, 0.5)
    for ax, name in zip(display.axes_, ["size", "count"], strict=True):
        seen = Y[name].notna().to_numpy()
        low, high = ends[f"{name}_lower"][seen], ends[f"{name}_upper"][seen]
        true, predicted = Y[name][seen], frame[name][seen]
        inside = (low <= true) & (true <= high)
        points = np.column_stack([predicted, true])
        np.testing.assert_allclose(display.points_[name].get_offsets(), points[inside])
        np.testing.assert_allclose(display.outside_[name].get_offsets(), points[~inside])
        segments = np.array(display.interval_lines_[name].get_segments())
        np.testing.assert_allclose(segments[:, :, 1], np.column_stack([low, high]))
        assert f"{inside.mean():.0%} inside (50% expected)" in ax.get_title()


def test_errors_as_residuals_without_intervals() -> None:
    display = TaskErrorsDisplay.from_estimator(
        ESTIMATOR, X, Y, confidence=None, kind="residual_vs_predicted", tasks="size"
    )
    seen = Y["size"].notna()
    predicted = ESTIMATOR.predict_frame(X)["size"][seen]
    expected = np.column_stack([predicted, Y["size"][seen] - predicted])
    np.testing.assert_allclose(display.points_["size"].get_offsets(), expected)
    assert display.interval_lines_ == {}


def test_errors_of_predictions_that_are_known() -> None:
    frame = ESTIMATOR.predict_frame(X)
    interval = np.column_stack([frame["size"] - 1, frame["size"] + 1])
    display = TaskErrorsDisplay.from_predictions(
        Y, frame, tasks=TASKS, intervals={"size": interval}, confidence=0.8
    )
    assert display.axes_[0].get_title().endswith("inside (80% expected)")
    seen = Y["size"].notna()
    inside = (Y["size"][seen] - frame["size"][seen]).abs() <= 1
    assert len(display.outside_["size"].get_offsets()) == (~inside).sum()
    with pytest.raises(ValueError, match=r"intervals names \['sise'\]"):
        TaskErrorsDisplay.from_predictions(Y, frame, tasks=TASKS, intervals={"sise": interval})
    with pytest.raises(ValueError, match="has shape"):
        TaskErrorsDisplay.from_predictions(Y, frame, tasks=TASKS, intervals={"size": interval[:3]})
    with pytest.raises(ValueError, match="Pass a dict"):
        TaskErrorsDisplay.from_predictions(Y, frame, tasks=TASKS, intervals=interval)


def test_errors_need_numbers_and_rows_left_out() -> None:
    classes = MultiTaskCNNEstimator(max_epochs=1, random_state=0).fit(X, X[:, :2] > 0)
    with pytest.raises(ValueError, match="None of the tasks"):
        TaskErrorsDisplay.from_estimator(classes, X, X[:, :2] > 0)
    numbers = MultiTaskCNNEstimator(trunk="conv", input_shape=(1, 4), max_epochs=1)
    numbers.set_params(random_state=0).fit(X, X[:, 0])
    with pytest.raises(ValueError, match="Pass confidence=None to plot none"):
        TaskErrorsDisplay.from_estimator(numbers, X, X[:, 0])
    TaskErrorsDisplay.from_estimator(numbers, X, X[:, 0], confidence=None)
    with pytest.raises(ValueError, match=r"confidence=\[0.5, 0.9\] is no level"):
        TaskErrorsDisplay.from_estimator(ESTIMATOR, X, Y, confidence=[0.5, 0.9])
    with pytest.raises(ValueError, match="X has 7 rows, but y has"):
        TaskErrorsDisplay.from_estimator(ESTIMATOR, X[:7], Y)
    with pytest.raises(ValueError, match="kind='pie' is unknown"):
        TaskErrorsDisplay.from_estimator(ESTIMATOR, X, Y, kind="pie")


def test_numbers_within_bounds_are_left_out() -> None:
    y = pd.Series(pd.IntervalIndex.from_arrays(X[:, 0], X[:, 0] + (np.arange(len(X)) % 2), "both"))
    y = pd.DataFrame({"time": y})
    estimator = MultiTaskCNNEstimator(random_state=0, max_epochs=2).fit(X, y)
    display = TaskErrorsDisplay.from_estimator(estimator, X, y, confidence=None)
    offsets = np.asarray(display.points_["time"].get_offsets())
    np.testing.assert_allclose(offsets[:, 1], X[::2, 0])


# -- saliency --------------------------------------------------------------------------------


def test_saliency_is_the_gradient() -> None:
    display = SaliencyDisplay.from_estimator(
        OF_IMAGES, IMAGES, rows=[3, 4], tasks=["level", "bright"], n_copies=1, noise=0
    )
    assert display.axes_.shape == (3, 2)
    x = torch.tensor(IMAGES[[3, 4]], dtype=torch.float32, requires_grad=True)
    out = OF_IMAGES.as_module("level")(x)
    (expected,) = torch.autograd.grad(out.sum(), x)
    for image, gradient in zip(display.maps_["level"], expected.abs(), strict=True):
        np.testing.assert_allclose(image.get_array(), gradient, rtol=1e-4)
    np.testing.assert_allclose(display.images_[1].get_array(), IMAGES[4])
    predicted = OF_IMAGES.predict_frame(IMAGES)["level"]
    assert display.axes_[1, 0].get_xlabel() == f"{predicted[3]:.3g}"


def test_saliency_through_a_pipeline_and_with_noise() -> None:
    pipeline = make_pipeline(FunctionTransformer(lambda X: X / 2), OF_IMAGES)
    first = SaliencyDisplay.from_estimator(OF_IMAGES, IMAGES, rows=[0])
    again = SaliencyDisplay.from_estimator(pipeline, 2 * IMAGES, rows=[0])
    assert list(first.saliency) == ["bright", "level", "x", "y"]
    for name in first.saliency:
        np.testing.assert_allclose(first.saliency[name], again.saliency[name], rtol=1e-4)


@pytest.mark.parametrize("layout", ["channels_first", "channels_last", "volume"])
def test_saliency_of_any_layout(layout: str) -> None:
    X = np.repeat(IMAGES[:, None], 3, axis=1)
    params: dict[str, Any] = {}
    if layout == "channels_last":
        X, params = np.moveaxis(X, 1, -1), {"data_format": "channels_last"}
    if layout == "volume":
        X = X[:, None]
    estimator = MultiTaskCNNEstimator(random_state=0, max_epochs=1, **params)
    estimator.fit(X, IMAGES_Y[:, 0])
    display = SaliencyDisplay.from_estimator(estimator, X, rows=[0, 1, 2])
    assert display.saliency["y0"].shape == (3, 8, 8)
    assert display.axes_.shape == (2, 3)


def test_saliency_needs_images() -> None:
    with pytest.raises(ValueError, match="no images"):
        SaliencyDisplay.from_estimator(ESTIMATOR, X)
    with pytest.raises(ValueError, match="n_copies=0"):
        SaliencyDisplay.from_estimator(OF_IMAGES, IMAGES, n_copies=0)


# -- saliency of several inputs --------------------------------------------------------------

TABLE = pd.DataFrame({"age": IMAGES_Y[:, 0] * 3.0, "weight": np.arange(len(IMAGES)) * 10.0})
BOTH = MultiInput(photo=IMAGES, table=TABLE)
OF_BOTH = MultiTaskCNNEstimator(random_state=0, max_epochs=2).fit(BOTH, IMAGES_Y[:, :2])


def test_saliency_of_a_table_is_the_gradient_in_standard_deviations() -> None:
    names = OF_BOTH.task_names_
    display = SaliencyDisplay.from_estimator(OF_BOTH, BOTH, rows=[3, 4], n_copies=1, noise=0)
    parts = {"photo": IMAGES[[3, 4]], "table": TABLE.to_numpy()[[3, 4]]}
    x = {n: torch.tensor(v, dtype=torch.float32, requires_grad=True) for n, v in parts.items()}
    out = OF_BOTH.as_module(names[1])(x)
    by_pixel, by_column = torch.autograd.grad(out.sum(), list(x.values()))
    np.testing.assert_allclose(display.saliency[names[1]], by_pixel.abs(), rtol=1e-4)
    assert display.effects is not None
    effects = display.effects[names[1]]
    assert list(effects) == ["age", "weight"]
    np.testing.assert_allclose(
        effects, by_column.abs().numpy() * TABLE.std(ddof=0).to_numpy(), rtol=1e-4
    )
    assert display.axes_.shape == (3, 2)
    assert display.bar_axes_.shape == (2, 2)
    widths = [[bar.get_width() for bar in bars] for bars in display.bars_[names[1]]]
    np.testing.assert_allclose(widths, effects)
    labels = [label.get_text() for label in display.bar_axes_[1, 0].get_yticklabels()]
    assert labels == ["age", "weight"]
    assert display.bar_axes_[1, 0].get_xlim() == display.bar_axes_[1, 1].get_xlim()


def test_saliency_shows_the_features_that_count_most() -> None:
    rng = np.random.default_rng(0)
    table = rng.normal(size=(len(IMAGES), 12))
    both = MultiInput(table=table, second=IMAGES[::-1], photo=IMAGES)
    estimator = MultiTaskCNNEstimator(random_state=0, max_epochs=1).fit(both, IMAGES_Y[:, 1])
    display = SaliencyDisplay.from_estimator(estimator, both, rows=[0, 1, 2])
    np.testing.assert_allclose(display.images, IMAGES[::-1][:3])  # the first part with images
    assert display.effects is not None
    effects = display.effects["y0"]
    assert list(effects) == [*(f"table {j}" for j in range(12)), "photo"]
    shown = [label.get_text() for label in display.bar_axes_[0, 0].get_yticklabels()]
    assert len(shown) == 8
    assert set(shown) == set(effects.mean().nlargest(8).index)


def test_saliency_where_the_image_is_missing_is_that_of_the_table() -> None:
    photos = IMAGES.copy()
    photos[::2] = np.nan
    some = MultiInput(photo=photos, table=TABLE)
    estimator = MultiTaskCNNEstimator(random_state=0, max_epochs=1).fit(some, IMAGES_Y[:, 1])
    for rows in ([0, 1], [0, 2]):
        display = SaliencyDisplay.from_estimator(estimator, some, rows=rows)
        assert (display.saliency["y0"][0] == 0).all()
        assert display.effects is not None
        assert (display.effects["y0"].to_numpy() > 0).all()
        display.figure_.canvas.draw()


def test_saliency_through_a_table_that_names_its_parts() -> None:
    flat = np.column_stack([IMAGES.reshape(len(IMAGES), -1), TABLE])
    steps = [("photo", "passthrough", slice(0, 64)), ("table", "passthrough", [64, 65])]
    shape = {"photo": (1, 8, 8)}
    mtl = MultiTaskCNNEstimator(input_shape=shape, random_state=0, max_epochs=1)
    pipeline = make_pipeline(ColumnInputs(steps), mtl).fit(flat, IMAGES_Y[:, 1])
    display = SaliencyDisplay.from_estimator(pipeline, flat, rows=[0], n_copies=1, noise=0)
    flat_mtl = MultiTaskCNNEstimator(
        input_shape={**shape, "table": (-1,)}, random_state=0, max_epochs=1
    )
    other = SaliencyDisplay.from_estimator(
        flat_mtl.fit(flat, IMAGES_Y[:, 1]), flat, rows=[0], n_copies=1, noise=0
    )
    np.testing.assert_allclose(display.saliency["y0"], other.saliency["y0"], rtol=1e-4)
    assert display.effects is not None
    assert other.effects is not None
    np.testing.assert_allclose(display.effects["y0"], other.effects["y0"], rtol=1e-4)


# -- what does not fit -----------------------------------------------------------------------


@pytest.mark.parametrize("n_cols", [0, -1, 2.5, "two"])
def test_n_cols_is_a_number_of_panels(n_cols: Any) -> None:
    with pytest.raises(ValueError, match="n_cols"):
        TrainingHistoryDisplay({"train_loss": np.ones((2, 3))}, list("abc")).plot(n_cols=n_cols)


@pytest.mark.parametrize("scores", [[0.5, 1], None, pd.Series({"a": 0.5}), {"a": "x"}, {"a": None}])
def test_scores_are_numbers_by_task(scores: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="scores"):
        TaskScoresDisplay.from_scores(scores)
    if scores is not None:
        with pytest.raises((TypeError, ValueError), match="baseline"):
            TaskScoresDisplay.from_scores({"a": 1}, baseline=scores)


def test_names_of_tasks_may_be_numbers() -> None:
    display = TaskScoresDisplay.from_scores({1: 0.5, ("a", 2): 1})  # type: ignore[dict-item]
    assert [text.get_text() for text in display.ax_.get_yticklabels()] == ["1", "('a', 2)"]


def test_displays_say_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="yscale"):
        TrainingHistoryDisplay({"train_loss": np.ones((2, 1))}, ["a"]).plot(yscale="long")
    with pytest.raises(ValueError, match="nothing to draw"):
        TrainingHistoryDisplay({}, []).plot()
    with pytest.raises(ValueError, match="tasks=0 does not fit"):
        TaskWeightsDisplay(np.ones((2, 1)), ["a"]).plot(tasks=0)


@pytest.mark.parametrize("shape", [(0, 2), (3, 1), (3, 3), (2,)])
def test_weights_have_a_row_an_epoch_and_a_column_a_task(shape: Any) -> None:
    with pytest.raises(ValueError, match="weights has the shape"):
        TaskWeightsDisplay(np.ones(shape), ["a", "b"]).plot()
