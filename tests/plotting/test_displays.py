"""What all displays have in common, on one small table."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from _plots import ESTIMATOR, IMAGES, IMAGES_Y, NAMES, OF_IMAGES, SMALL, TASKS, X, Y, many
from matplotlib import pyplot as plt
from scipy import sparse
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from sklearn_mtl import MultiTaskCNNEstimator
from sklearn_mtl.plotting import (
    ConditionalTargetDisplay,
    PredictionGridDisplay,
    TargetsDisplay,
    TaskErrorsDisplay,
    TaskScoresDisplay,
    TaskWeightsDisplay,
    TrainingHistoryDisplay,
)

Make = Callable[..., Any]

# Of rows.
DISPLAYS: dict[str, Make] = {
    "scores": lambda e, X, y, **kw: TaskScoresDisplay.from_estimator(e, X, y, **kw),
    "targets": lambda e, X, y, **kw: TargetsDisplay.from_estimator(e, X, y, **kw),
    "rows": lambda e, X, y, **kw: TargetsDisplay.from_estimator(e, X, y, kind="rows", **kw),
    "conditional": lambda e, X, y, **kw: ConditionalTargetDisplay.from_estimator(
        e, X, y, task="size", **kw
    ),
    "history": lambda e, X, y, **kw: TrainingHistoryDisplay.from_estimator(e, **kw),
    "weights": lambda e, X, y, **kw: TaskWeightsDisplay.from_estimator(e, **kw),
    "errors": lambda e, X, y, **kw: TaskErrorsDisplay.from_estimator(
        e, X, y, confidence=None, **kw
    ),
}
SEVERAL = {"history": 4, "errors": 2}  # panels, one for each task, or each number


def axes_of(display: Any) -> list[Any]:
    return [display.ax_] if hasattr(display, "ax_") else list(display.axes_)


def numbers_in(display: Any) -> list[Any]:
    """All that was drawn, as numbers and texts."""
    found: list[Any] = []
    for ax in axes_of(display):
        found += [np.asarray(line.get_xydata(), dtype=float).tolist() for line in ax.lines]
        found += [np.asarray(points.get_offsets()).tolist() for points in ax.collections]
        found += [(bar.get_x(), bar.get_y(), bar.get_width()) for bar in ax.patches]
        found += [np.asarray(image.get_array()).tolist() for image in ax.images]
        found += [text.get_text() for text in ax.texts]
    return found


@pytest.mark.parametrize("make", DISPLAYS.values(), ids=DISPLAYS)
def test_plot_returns_the_display_and_draws_on_the_axes_that_it_is_given(make: Make) -> None:
    display = make(ESTIMATOR, X, Y)
    before = numbers_in(display)
    figure, ax = plt.subplots()
    kwargs = {"kind": "rows"} if getattr(display, "image_", None) is not None else {}
    assert display.plot(ax=ax, **kwargs) is display
    assert display.figure_ is figure
    assert all(each.figure is figure for each in axes_of(display))
    np.testing.assert_equal(numbers_in(display), before)


@pytest.mark.parametrize("name", [name for name in DISPLAYS if name not in SEVERAL])
def test_one_axes_is_used_as_it_is(name: str) -> None:
    _, ax = plt.subplots()
    assert DISPLAYS[name](ESTIMATOR, X, Y, ax=ax).ax_ is ax


@pytest.mark.parametrize("name", SEVERAL)
def test_panels_take_axes_of_their_own(name: str) -> None:
    n = SEVERAL[name]
    _, axes = plt.subplots(1, n)
    display = DISPLAYS[name](ESTIMATOR, X, Y, ax=axes)
    assert list(display.axes_) == list(axes)
    with pytest.raises(ValueError, match=f"ax has {n - 1} axes, but there are {n} panels"):
        DISPLAYS[name](ESTIMATOR, X, Y, ax=axes[1:])


@pytest.mark.parametrize("n_cols", [0, -1, 1.5])
def test_panels_side_by_side_are_counted_from_one(n_cols: Any) -> None:
    with pytest.raises(ValueError, match=f"n_cols={n_cols} does not fit"):
        TrainingHistoryDisplay.from_estimator(ESTIMATOR, n_cols=n_cols)


@pytest.mark.parametrize("name", SEVERAL)
def test_panels_share_axes_without_a_grid(name: str) -> None:
    figure = plt.figure()
    ax = figure.add_axes((0.5, 0.5, 0.4, 0.4))
    display = DISPLAYS[name](ESTIMATOR, X, Y, ax=ax)
    for each in display.axes_:
        box = each.get_position()
        assert 0.5 - 1e-9 <= box.x0 <= box.x1 <= 0.9 + 1e-9


@pytest.mark.parametrize("make", DISPLAYS.values(), ids=DISPLAYS)
def test_what_is_no_axes_is_refused(make: Make) -> None:
    with pytest.raises(TypeError, match="no axes of matplotlib"):
        make(ESTIMATOR, X, Y, ax="left")


@pytest.mark.parametrize("make", DISPLAYS.values(), ids=DISPLAYS)
def test_the_same_behind_pipelines_searches_and_frozen(make: Make) -> None:
    double = make_pipeline(FunctionTransformer(lambda X: X / 2), ESTIMATOR)
    expected = numbers_in(make(ESTIMATOR, X, Y))
    np.testing.assert_equal(numbers_in(make(FrozenEstimator(ESTIMATOR), X, Y)), expected)
    np.testing.assert_equal(numbers_in(make(double, 2 * X, Y)), expected)


@pytest.fixture(scope="module")
def search() -> GridSearchCV:
    pipeline = make_pipeline(
        StandardScaler(), MultiTaskCNNEstimator(TASKS, trunk=SMALL, random_state=0)
    )
    return GridSearchCV(pipeline, {"multitaskcnnestimator__max_epochs": [1, 2]}, cv=2).fit(X, Y)


@pytest.mark.parametrize("make", DISPLAYS.values(), ids=DISPLAYS)
def test_searches_show_the_best_estimator(make: Make, search: GridSearchCV) -> None:
    expected = numbers_in(make(search.best_estimator_, X, Y))
    np.testing.assert_equal(numbers_in(make(search, X, Y)), expected)


@pytest.mark.parametrize("make", DISPLAYS.values(), ids=DISPLAYS)
def test_other_estimators_are_refused(make: Make) -> None:
    with pytest.raises(TypeError, match="has no tasks"):
        make(StandardScaler().fit(X), X, Y)
    with pytest.raises(ValueError, match="not fitted"):
        make(MultiTaskCNNEstimator(), X, Y)


@pytest.mark.parametrize("name", [name for name in DISPLAYS if name != "conditional"])
def test_thirty_tasks_with_long_names_fit(name: str) -> None:
    display = DISPLAYS[name](*many())
    figure = display.figure_
    figure.canvas.draw()
    width, height = figure.bbox.size
    for ax in axes_of(display):
        box = ax.get_tightbbox()
        assert box.x0 >= -1
        assert box.y0 >= -1
        assert box.x1 <= width + 1
        assert box.y1 <= height + 1
        assert ax.get_window_extent().width > width / 12, "names leave no room for the plot"


@pytest.mark.parametrize("make", DISPLAYS.values(), ids=DISPLAYS)
def test_without_matplotlib_the_extra_is_named(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any) -> Any:
        if name.partition(".")[0] == "matplotlib":
            raise ImportError(name)
        return real(name, *args)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"Display is drawn by matplotlib.*sklearn-mtl\[plot\]"):
        make(ESTIMATOR, X, Y)


# -- scores ----------------------------------------------------------------------------------


def test_scores_are_those_of_the_estimator() -> None:
    display = TaskScoresDisplay.from_estimator(ESTIMATOR, X, Y)
    scores = ESTIMATOR.score_tasks(X, Y)
    offsets = np.asarray(display.points_.get_offsets())
    np.testing.assert_allclose(offsets[:, 0], list(scores.values()))
    np.testing.assert_allclose(offsets[:, 1], range(len(NAMES)))
    assert display.metrics == {"defect": "accuracy", "size": "R2", "grade": "D2", "count": "D2"}


def test_baseline_is_the_best_constant() -> None:
    display = TaskScoresDisplay.from_estimator(ESTIMATOR, X, Y)
    found = np.asarray(display.baseline_points_.get_offsets())[:, 0]
    most = Y["defect"].value_counts(normalize=True).iloc[0]
    np.testing.assert_allclose(found, [most, 0, 0, 0], atol=1e-9)


def test_baselines_of_a_dict_an_estimator_and_none() -> None:
    other = MultiTaskCNNEstimator(TASKS, max_epochs=1, random_state=1).fit(X, Y)
    display = TaskScoresDisplay.from_estimator(ESTIMATOR, X, Y, baseline=other)
    assert display.baseline == other.score_tasks(X, Y)
    display = TaskScoresDisplay.from_estimator(ESTIMATOR, X, Y, baseline={"size": 2.0})
    found = np.asarray(display.baseline_points_.get_offsets())[:, 0]
    np.testing.assert_array_equal(found.astype(float), [np.nan, 2.0, np.nan, np.nan])
    labels = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert "model, below the baseline" in labels  # 2 cannot be reached
    assert TaskScoresDisplay.from_estimator(ESTIMATOR, X, Y, baseline=None).lines_ is None
    with pytest.raises(ValueError, match="unknown tasks"):
        TaskScoresDisplay.from_estimator(ESTIMATOR, X, Y, baseline={"sise": 2.0})
    with pytest.raises(ValueError, match="baseline='mean' is not understood"):
        TaskScoresDisplay.from_estimator(ESTIMATOR, X, Y, baseline="mean")


def test_scores_of_predictions() -> None:
    for y_pred in (
        ESTIMATOR.predict_frame(X),
        ESTIMATOR.predict(X),
        dict(ESTIMATOR.predict_frame(X)),
    ):
        display = TaskScoresDisplay.from_predictions(Y, y_pred, tasks=TASKS)
        expected = ESTIMATOR.score_tasks(X, Y)
        assert list(display.scores) == list(expected)
        np.testing.assert_allclose(list(display.scores.values()), list(expected.values()))
    with pytest.raises(ValueError, match="y_pred lacks the tasks"):
        TaskScoresDisplay.from_predictions(Y, ESTIMATOR.predict_frame(X)[NAMES[:2]], tasks=TASKS)
    with pytest.raises(ValueError, match="Pass one prediction for each row"):
        TaskScoresDisplay.from_predictions(Y, ESTIMATOR.predict_frame(X)[:5], tasks=TASKS)
    holed = ESTIMATOR.predict_frame(X)
    holed.loc[Y["size"].first_valid_index(), "size"] = np.nan
    with pytest.raises(ValueError, match="'size': y_pred has no prediction in 1 rows"):
        TaskScoresDisplay.from_predictions(Y, holed, tasks=TASKS)


def test_low_and_lacking_scores_are_written_down() -> None:
    display = TaskScoresDisplay.from_scores({"a": -30.0, "b": 0.5, "c": np.nan})
    assert [text.get_text() for text in display.ax_.texts] == ["-30.00", "0.50", "no score"]
    assert display.ax_.get_xlim()[0] > -1.2
    with pytest.raises(ValueError, match="There are no scores"):
        TaskScoresDisplay.from_scores({})


# -- targets ---------------------------------------------------------------------------------


def test_every_cell_of_y_has_its_state() -> None:
    display = TargetsDisplay.from_targets(Y, tasks=TASKS)
    gate, size = Y["defect"], Y["size"]
    expected = [
        size.notna().sum(),
        (size.isna() & (gate == "yes")).sum(),
        (size.isna() & (gate == "no")).sum(),
        (size.isna() & gate.isna()).sum(),
    ]
    assert display.counts_[1].tolist() == expected
    assert min(expected) > 0
    assert display.counts_[0].tolist() == [gate.notna().sum(), gate.isna().sum(), 0, 0]
    assert (display.counts_.sum(axis=1) == len(Y)).all()
    for state, name in enumerate(["observed", "missing", "not applicable", "gate missing"]):
        widths = [bar.get_width() for bar in display.bars_[name]]
        np.testing.assert_allclose(widths, display.counts_[:, state] / len(Y))
    rows = TargetsDisplay.from_estimator(ESTIMATOR, None, Y, kind="rows")
    np.testing.assert_array_equal(rows.image_.get_array(), display.states)


def test_what_does_not_apply_carries_on_along_the_chain() -> None:
    y = pd.DataFrame({"a": ["n", "y", "y"], "b": [None, "n", "y"], "c": [np.nan, np.nan, 1.0]})
    tasks = {"a": "classification", "b": ("a", "y"), "c": ("b", "y")}
    from sklearn_mtl import Task

    chain = [
        Task("a", "classification"),
        Task("b", "classification", given=tasks["b"]),
        Task("c", "regression", given=tasks["c"]),
    ]
    states = TargetsDisplay.from_targets(y, tasks=chain).states
    assert states.tolist() == [[0, 2, 2], [0, 0, 2], [0, 0, 0]]


def test_missing_values_and_long_tables() -> None:
    y = np.tile([[1.0, -999.0], [0.0, 5.0]], (3000, 1))
    display = TargetsDisplay.from_targets(y, missing_values=-999, kind="rows")
    assert display.counts_[1].tolist() == [3000, 3000, 0, 0]
    assert len(display.image_.get_array()) == 2000
    with pytest.raises(ValueError, match="kind='pie' is unknown"):
        display.plot(kind="pie")


# -- conditional targets ---------------------------------------------------------------------


def test_points_are_probabilities_and_predictions() -> None:
    display = ConditionalTargetDisplay.from_estimator(ESTIMATOR, X, Y, task="size")
    probability = ESTIMATOR.predict_proba(X)[0][:, 1]  # of yes
    predicted = ESTIMATOR.predict_frame(X)["size"]
    groups = {
        "applies": (Y["defect"] == "yes") | Y["size"].notna(),
        "does not apply": Y["defect"] == "no",
        "not known": Y["defect"].isna() & Y["size"].isna(),
    }
    assert set(display.points_) == set(groups)
    for name, rows in groups.items():
        expected = np.column_stack([probability[rows], predicted[rows]])
        np.testing.assert_allclose(display.points_[name].get_offsets(), expected)
    assert display.boundary == 0.5
    assert display.condition == "defect is yes"
    assert "defect is yes" in display.ax_.get_xlabel()


def test_conditional_classes_stand_in_their_order() -> None:
    display = ConditionalTargetDisplay.from_estimator(ESTIMATOR, X, task="grade")
    assert list(display.points_) == ["not known"]
    heights = np.asarray(display.points_["not known"].get_offsets())[:, 1]
    labels = np.array(["low", "mid", "high"])[np.round(heights).astype(int)]
    assert labels.tolist() == ESTIMATOR.predict_frame(X)["grade"].tolist()


def test_a_boundary_is_drawn_only_where_there_is_one() -> None:
    X = np.random.default_rng(0).normal(size=(60, 3))
    gate = np.digitize(X[:, 0], [-0.5, 0.5])
    y = np.column_stack([gate, np.where(gate == 1, X[:, 1], np.nan)])
    from sklearn_mtl import Task

    tasks = [Task("a", "classification", threshold=None), Task("b", "regression", given=("a", 1))]
    brief = {"max_epochs": 60, "learning_rate": 0.1}
    estimator = MultiTaskCNNEstimator(tasks, trunk=SMALL, random_state=0, **brief).fit(X, y)
    probability = estimator.predict_proba(X)[:, 1]
    holds = estimator.predict(X)[:, 0] == 1
    assert probability[~holds].max() < 0.5 or probability[holds].min() < probability[~holds].max()
    display = ConditionalTargetDisplay.from_estimator(estimator, X, y)
    parted = probability[~holds].max() <= probability[holds].min()
    assert (display.boundary is not None) == parted
    two = [Task("a", "classification", threshold=0.2), Task("b", "regression", given=("a", 1))]
    y = np.column_stack([gate == 1, y[:, 1]])
    estimator = MultiTaskCNNEstimator(two, trunk=SMALL, random_state=0, max_epochs=3).fit(X, y)
    display = ConditionalTargetDisplay.from_estimator(estimator, X, y)
    assert display.boundary is not None
    side = estimator.predict(X)[:, 0] == 1
    np.testing.assert_array_equal(display.probability >= display.boundary, side)


def test_conditional_tasks_are_named() -> None:
    with pytest.raises(ValueError, match=r"conditional tasks \['size', 'grade'\]"):
        ConditionalTargetDisplay.from_estimator(ESTIMATOR, X, Y)
    with pytest.raises(ValueError, match="None of the tasks"):
        ConditionalTargetDisplay.from_estimator(OF_IMAGES, IMAGES, IMAGES_Y)
    with pytest.raises(ValueError, match="X has 10 rows, but y has"):
        ConditionalTargetDisplay.from_estimator(ESTIMATOR, X[:10], Y, task="size")
    with pytest.raises(ValueError, match="probability has 2 rows, y_pred 3"):
        ConditionalTargetDisplay.from_predictions([0.1, 0.2], [1, 2, 3])


def test_predictions_that_are_known_have_the_names_that_are_given() -> None:
    display = ConditionalTargetDisplay.from_predictions(
        [0.1, 0.9], [1.0, 2.0], task_name="size", condition="defect is yes"
    )
    assert display.ax_.get_xlabel() == "probability that defect is yes"
    assert display.ax_.get_ylabel().startswith("size")


@pytest.mark.parametrize("labels", [["a", "b"], [2.5, 1.0]], ids=["labels", "numbers"])
def test_holes_among_predictions_are_not_drawn(labels: list[Any]) -> None:
    y_pred = np.array([None, *labels], dtype=object)
    display = ConditionalTargetDisplay.from_predictions([0.1, 0.7, 0.9], y_pred)
    heights = np.asarray(display.points_["not known"].get_offsets())[:, 1].astype(float)
    expected = [np.nan, *([0, 1] if labels[0] == "a" else labels)]
    np.testing.assert_allclose(heights, expected, atol=0.26)


# -- history ---------------------------------------------------------------------------------


def test_lines_are_the_history() -> None:
    display = TrainingHistoryDisplay.from_estimator(ESTIMATOR)
    for k, name in enumerate(NAMES):
        assert list(display.lines_[name]) == ["train_loss", "valid_loss"]
        for loss, line in display.lines_[name].items():
            np.testing.assert_array_equal(line.get_ydata(), ESTIMATOR.history_[loss][:, k])
            np.testing.assert_array_equal(line.get_xdata(), range(1, ESTIMATOR.n_iter_ + 1))


def test_the_best_epoch_is_that_of_the_objective() -> None:
    display = TrainingHistoryDisplay.from_estimator(ESTIMATOR, tasks=["size", "count"])
    objective = ESTIMATOR.net_.history[:, "valid_loss"]
    assert display.best_epoch == np.argmin(objective) + 1
    assert list(display.best_lines_) == ["size", "count"]
    for line in display.best_lines_.values():
        assert set(line.get_xdata()) == {display.best_epoch}


def test_rows_left_out_have_a_line() -> None:
    estimator = MultiTaskCNNEstimator(trunk=SMALL, random_state=0).fit(X, X[:, 0])
    display = TrainingHistoryDisplay.from_estimator(estimator)
    assert list(display.lines_["y0"]) == ["train_loss", "oob_loss"]
    best = np.nanargmin(estimator.history_["oob_loss"][:, 0])  # one task: its loss is the objective
    assert display.best_epoch == best + 1


def test_without_validation_no_epoch_is_marked() -> None:
    estimator = MultiTaskCNNEstimator(max_epochs=1, random_state=0).fit(X, X[:, 0])
    display = TrainingHistoryDisplay.from_estimator(estimator)
    assert display.best_epoch is None
    assert display.best_lines_ == {}
    assert display.lines_["y0"]["train_loss"].get_marker() == "o"  # one point is seen
    with pytest.raises(ValueError, match=r"tasks='z' does not fit. Use some of \['y0'\]"):
        display.plot(tasks="z")


# -- images ----------------------------------------------------------------------------------


def test_images_are_shown_with_their_predictions() -> None:
    display = PredictionGridDisplay.from_estimator(OF_IMAGES, IMAGES, IMAGES_Y, rows=[5, 2])
    np.testing.assert_allclose(display.images_[0].get_array(), IMAGES[5])
    predicted = OF_IMAGES.predict(IMAGES)[[5, 2]]
    for i, texts in enumerate(display.texts_):
        assert list(texts) == ["bright", "level"]  # places are in the image
        true = IMAGES_Y[[5, 2][i]]
        right = predicted[i, 0] == true[0]
        said = f"bright: {predicted[i, 0]:g}" + ("" if right else f" ({true[0]:g})")
        assert texts["bright"].get_text() == said
        assert texts["bright"].get_color() == ("#009E73" if right else "#D55E00")
        beside = "" if np.isnan(true[1]) else f" ({true[1]:.3g})"
        assert texts["level"].get_text() == f"level: {predicted[i, 1]:.3g}{beside}"


def test_places_are_in_pixels() -> None:
    display = PredictionGridDisplay.from_estimator(OF_IMAGES, IMAGES, IMAGES_Y, rows=[0, 1])
    predicted = OF_IMAGES.predict(IMAGES)
    for i in range(2):
        (cross,) = display.places_[i]
        x, y = cross.get_xydata()[0]
        np.testing.assert_allclose([x, y], predicted[i, 2:] * 8 - 0.5)  # 8 pixels, centers at 0
        if np.isnan(IMAGES_Y[i, 2:]).any():
            assert display.true_places_[i] == []
        else:
            (ring,) = display.true_places_[i]
            np.testing.assert_allclose(ring.get_xydata()[0], IMAGES_Y[i, 2:] * 8 - 0.5)


def test_boxes_by_corners_and_by_size() -> None:
    from sklearn_mtl import Task

    images = np.zeros((2, 10, 20))
    y = np.array([[2.0, 3.0, 6.0, 5.0], [2.0, 3.0, np.nan, 5.0]])
    places = [("x", 0, 20), ("y", 0, 10)]
    names = ["l", "t", "r", "b"]
    corners = [Task(n, "regression", geometry=g) for n, g in zip(names, places * 2, strict=True)]
    sized = [*corners[:2], *(Task(n, "regression", geometry="length") for n in "rb")]
    for tasks, (left, top, right, bottom) in [
        (corners, (2, 3, 6, 5)),
        (sized, (-1, 0.5, 5, 5.5)),
    ]:
        display = PredictionGridDisplay.from_predictions(images, y, y, tasks=tasks)
        display.plot(boxes=[names])
        found = display.true_places_[0][0].get_xydata()
        np.testing.assert_allclose(found.min(axis=0), [left - 0.5, top - 0.5])
        np.testing.assert_allclose(found.max(axis=0), [right - 0.5, bottom - 0.5])
        assert display.true_places_[1] == []
    with pytest.raises(ValueError, match="boxes holds"):
        display.plot(boxes=[["l", "t", "r", "z"]])


def test_grids_take_pipelines_and_rows_of_any_kind() -> None:
    pipeline = make_pipeline(FunctionTransformer(lambda X: X / 2), OF_IMAGES)
    display = PredictionGridDisplay.from_estimator(pipeline, 2 * IMAGES, IMAGES_Y, rows=[3])
    np.testing.assert_allclose(display.images_[0].get_array(), IMAGES[3])
    mask = np.zeros(len(IMAGES), dtype=bool)
    mask[[4, 7]] = True
    y = sparse.csr_array(np.nan_to_num(IMAGES_Y))  # it has no length
    assert len(PredictionGridDisplay.from_estimator(OF_IMAGES, IMAGES, y, rows=[3]).images_) == 1
    display = PredictionGridDisplay.from_estimator(OF_IMAGES, IMAGES, rows=mask)
    assert [ax.get_title() for ax in display.axes_] == ["row 4", "row 7"]
    assert len(PredictionGridDisplay.from_estimator(OF_IMAGES, IMAGES).images_) == 12
    _, ax = plt.subplots()
    assert len(display.plot(ax=ax, tasks="level").axes_) == 2
    with pytest.raises(ValueError, match="does not fit"):
        PredictionGridDisplay.from_estimator(OF_IMAGES, IMAGES, rows=[len(IMAGES)])
    with pytest.raises(ValueError, match="X has 30 rows, but y has 5"):
        PredictionGridDisplay.from_estimator(OF_IMAGES, IMAGES, IMAGES_Y[:5])
    with pytest.raises(ValueError, match="no images"):
        PredictionGridDisplay.from_estimator(ESTIMATOR, X, Y)


def test_what_is_predicted_not_to_apply_is_a_dash() -> None:
    from sklearn_mtl import Task

    gate = IMAGES_Y[:, 0]
    y = np.column_stack([gate, np.where(gate == 1, IMAGES_Y[:, 1], np.nan)])
    tasks = [Task("bright", "classification"), Task("level", "regression", given=("bright", 1))]
    estimator = MultiTaskCNNEstimator(tasks, random_state=0, max_epochs=8).fit(IMAGES, y)
    display = PredictionGridDisplay.from_estimator(estimator, IMAGES, y)
    shown = [texts["level"].get_text() for texts in display.texts_]
    holds = estimator.predict(IMAGES)[:12, 0] == 1
    assert [text.startswith("level: \N{EN DASH}") for text in shown] == (~holds).tolist()


@pytest.mark.parametrize(
    ("shape", "dtype", "expected"),
    [
        ((2, 6, 6), np.uint8, (2, 6, 6)),
        ((2, 6, 6, 3), np.uint8, (2, 6, 6, 3)),
        ((2, 3, 6, 6), np.float32, (2, 6, 6, 3)),
        ((2, 1, 6, 6), float, (2, 6, 6)),
        ((2, 2, 4, 6, 6), float, (2, 6, 6)),
    ],
)
def test_images_of_any_layout(shape: tuple[int, ...], dtype: Any, expected: Any) -> None:
    images = (np.random.default_rng(0).random(shape) * 200 - 20 * (dtype is float)).astype(dtype)
    display = PredictionGridDisplay.from_predictions(images, [1.0, 2.5], [1.0, 2.0])
    assert display.images.shape == expected
    assert display.images.min() >= 0
    assert display.images.max() <= 1
    with pytest.raises(ValueError, match="cannot be shown"):
        PredictionGridDisplay.from_predictions([["a"], ["b"]], [1.0, 2.5], [1.0, 2.0])


def test_lines_of_long_names_stay_below_their_image() -> None:
    images = np.zeros((12, 8, 8))
    y = pd.DataFrame(
        {
            f"a_long_name_of_a_label_of_the_second_year_{k}": ["a long label", "another long label"]
            * 6
            for k in range(30)
        }
    )
    display = PredictionGridDisplay.from_predictions(images, y, y[::-1].reset_index(drop=True))
    display.figure_.canvas.draw()
    for ax, texts in zip(display.axes_, display.texts_, strict=True):
        cell = ax.get_window_extent()
        assert cell.width > display.figure_.bbox.width / 10  # images keep their room
        for text in texts.values():
            assert text.get_window_extent().x1 <= cell.x1 + 0.15 * cell.width
    assert len(display.texts_[0]) == 5


def test_numbers_within_bounds_are_written_as_such() -> None:
    y = pd.DataFrame(
        {"time": pd.IntervalIndex.from_tuples([(1, 1), (2, 4.5), (3, np.inf)], "both")}
    )
    images, found = np.zeros((3, 4, 4)), [1.5, 2.5, 3.5]
    display = PredictionGridDisplay.from_predictions(images, y, found)
    texts = [each["time"].get_text() for each in display.texts_]
    assert texts == ["time: 1.5 (1)", "time: 2.5 (2 to 4.5)", "time: 3.5 (3 to inf)"]


@pytest.mark.parametrize("n_tasks", [1, 3, 5])
def test_lines_below_images_stay_on_the_figure(n_tasks):
    numbers = np.random.default_rng(0).random((2, n_tasks))
    display = PredictionGridDisplay.from_predictions(np.zeros((2, 16, 16)), numbers, numbers + 1)
    display.figure_.canvas.draw()
    lowest = [line.get_window_extent().y0 for line in display.texts_[0].values()]
    assert min(lowest) > 0
