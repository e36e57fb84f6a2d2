"""One task of a fitted estimator, as scikit-learn's tools for one target see it."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import polars as pl
import pytest
from matplotlib import pyplot as plt
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.calibration import CalibratedClassifierCV, CalibrationDisplay
from sklearn.compose import make_column_transformer
from sklearn.ensemble import StackingClassifier, StackingRegressor, VotingClassifier
from sklearn.exceptions import NotFittedError, UndefinedMetricWarning
from sklearn.frozen import FrozenEstimator
from sklearn.inspection import PartialDependenceDisplay, partial_dependence, permutation_importance
from sklearn.linear_model import LinearRegression
from sklearn.metrics import (
    ConfusionMatrixDisplay,
    DetCurveDisplay,
    PrecisionRecallDisplay,
    PredictionErrorDisplay,
    RocCurveDisplay,
    balanced_accuracy_score,
    get_scorer,
    r2_score,
    roc_auc_score,
)
from sklearn.model_selection import (
    FixedThresholdClassifier,
    GridSearchCV,
    TunedThresholdClassifierCV,
    cross_val_predict,
    cross_val_score,
)
from sklearn.pipeline import Pipeline, make_pipeline, make_union
from sklearn.preprocessing import MinMaxScaler, PolynomialFeatures, StandardScaler
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted

from sklearn_mtl import MultiTaskCNNEstimator, Task, task_view
from sklearn_mtl._views import TaskClassifier, TaskRegressor
from sklearn_mtl.networks import ConvTrunk, DenseTrunk

mpl.use("Agg")

N = 90
GRADES = ["low", "mid", "high"]  # sorted: high, low, mid
TASKS = [
    Task("defect", "classification"),
    Task("grade", "ordinal", given=("defect", "yes"), categories=GRADES),
    Task("rough", "classification", given=("grade", ["mid", "high"])),
    Task("size", "regression", given=("defect", "yes")),
    Task("wait", "quantile", quantile=0.9),
    Task("count", "poisson"),
    Task("cost", "gamma"),
]
NAMES = [task.name for task in TASKS]
CLASSES, NUMBERS = NAMES[:3], NAMES[3:]


@pytest.fixture(autouse=True)
def close_figures() -> Iterator[None]:
    yield
    plt.close("all")


def rows() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(N, 4))


def targets() -> pd.DataFrame:
    """Every kind of target, each with holes."""
    X, rng = rows(), np.random.default_rng(1)
    defect = np.where(X[:, 0] + 0.5 * rng.normal(size=N) > 0, "yes", "no").astype(object)
    grade = np.array(GRADES, dtype=object)[np.digitize(X[:, 1], [-0.4, 0.4])]
    rough = np.where(X[:, 2] > 0, 2.0, 1.0)
    y = pd.DataFrame(
        {
            "defect": defect,
            "grade": np.where(defect == "yes", grade, None),
            "rough": np.where((defect == "yes") & (grade != "low"), rough, np.nan),
            "size": np.where(defect == "yes", X[:, 3], np.nan),
            "wait": X[:, 3] + rng.normal(size=N),
            "count": rng.poisson(np.exp(X[:, 0])).astype(float),
            "cost": rng.gamma(2, np.exp(X[:, 1])),
        }
    )
    for k, name in enumerate(["wait", "count", "cost"]):
        y.loc[k::7, name] = np.nan
    y.loc[::9, "defect"] = None  # some gates are not known
    return y


def small(tasks: Any = None, **params: Any) -> MultiTaskCNNEstimator:
    """An estimator that learns rows in a moment."""
    defaults = {
        "trunk": DenseTrunk((8,), n_members=1, n_frequencies=0),  # not all rows right
        "max_epochs": 20,
        "learning_rate": 0.03,
        "weight_decay": 0.0,
        "random_state": 0,
    }
    return MultiTaskCNNEstimator(tasks, **(defaults | params))


@cache
def fitted(conditional_output: str = "estimate") -> MultiTaskCNNEstimator:
    est = small(TASKS, conditional_output=conditional_output)
    return est.fit(pd.DataFrame(rows(), columns=list("abcd")), targets())


def frame() -> pd.DataFrame:
    return pd.DataFrame(rows(), columns=list("abcd"))


def observed(name: str) -> tuple[pd.DataFrame, np.ndarray]:
    """Rows in which a task was observed, and its labels or numbers there."""
    seen = targets()[name].notna().to_numpy()
    return frame()[seen], targets()[name][seen].to_numpy()


# -- what a view is --------------------------------------------------------------------------


@pytest.mark.parametrize("conditional_output", ["estimate", "nan", "expected"])
@pytest.mark.parametrize("name", NAMES)
def test_predicts_the_estimate(name: str, conditional_output: str) -> None:
    est, k = fitted(conditional_output), NAMES.index(name)
    view = est.task_view(name)
    expected = fitted("estimate").predict(frame())[:, k]
    np.testing.assert_array_equal(
        view.predict(frame()), expected.astype(view.predict(frame()).dtype)
    )
    conditional = TASKS[k].given is not None and (
        conditional_output == "nan" or (conditional_output == "expected" and name == "size")
    )
    differs = not pd.Series(est.predict(frame())[:, k]).equals(pd.Series(expected))
    assert differs == conditional  # or else this test would show nothing


@pytest.mark.parametrize("conditional_output", ["estimate", "nan", "expected"])
@pytest.mark.parametrize("name", CLASSES)
def test_probabilities_are_given_the_gate(name: str, conditional_output: str) -> None:
    est, k = fitted(conditional_output), CLASSES.index(name)
    view = est.task_view(name)
    proba = view.predict_proba(frame())
    assert proba.shape == (N, len(view.classes_))
    assert view.classes_.tolist() == sorted(est.classes_[k].tolist())
    for j, label in enumerate(view.classes_):
        i = est.classes_[k].tolist().index(label)
        np.testing.assert_array_equal(proba[:, j], est.predict_proba(frame())[k][:, i])


@pytest.mark.parametrize("name", NAMES)
def test_says_what_it_is(name: str) -> None:
    view, is_class = fitted().task_view(name), name in CLASSES
    assert isinstance(view, TaskClassifier if is_class else TaskRegressor)
    assert (is_classifier(view), is_regressor(view)) == (is_class, not is_class)
    assert hasattr(view, "classes_") == hasattr(view, "predict_proba") == is_class
    assert view.n_features_in_ == 4
    assert view.feature_names_in_.tolist() == list("abcd")
    assert (view.predict(frame()).dtype == float) == (name in {"rough", *NUMBERS})
    tags = get_tags(view)
    assert tags.estimator_type == ("classifier" if is_class else "regressor")
    assert tags.input_tags == get_tags(fitted()).input_tags
    assert not tags.target_tags.multi_output
    assert repr(view).startswith(
        f"Task{'Classifier' if is_class else 'Regressor'}(estimator=MultiTaskCNNEstimator("
    )
    assert view.get_params(deep=False) == {"estimator": view.estimator, "task": name}


def test_columns_without_names_have_no_names() -> None:
    view = small().fit(rows(), targets()[["wait"]]).task_view("wait")
    assert not hasattr(view, "feature_names_in_")


@pytest.mark.parametrize("name", ["grade", "size"])
def test_is_frozen(name: str) -> None:
    view = fitted().task_view(name)
    before = view.predict(frame())
    assert clone(view) is view
    assert clone(FrozenEstimator(view)).estimator is view
    assert view.fit(rows()[:5] * 1e9, None) is view
    assert view.fit(rows(), np.zeros(N), sample_weight=np.ones(N)) is view
    np.testing.assert_array_equal(view.predict(frame()), before)
    check_is_fitted(view)


def test_keeps_what_it_had_when_the_estimator_is_fitted_again() -> None:
    est = small(TASKS).fit(frame(), targets())
    views = [est.task_view(name) for name in NAMES]
    before = [view.predict(frame()) for view in views]
    proba = views[0].predict_proba(frame())
    est.set_params(tasks=None, conditional_output="nan", random_state=1, missing_values=0.0)
    est.fit(-2 * rows()[:, :3], targets()[["count", "defect"]])
    for view, kept in zip(views, before, strict=True):
        np.testing.assert_array_equal(view.predict(frame()), kept)
        assert view.n_features_in_ == 4
        assert view.feature_names_in_.tolist() == list("abcd")
    np.testing.assert_array_equal(views[0].predict_proba(frame()), proba)
    with pytest.raises(ValueError, match=r"'wait' is not a task. Use one of \['count', 'defect'\]"):
        est.task_view("wait")


def test_copies_no_weights() -> None:
    assert fitted().task_view("wait").estimator.net_ is fitted().net_


@pytest.mark.parametrize("name", NAMES)
def test_pickles(name: str) -> None:
    view = fitted().task_view(name)
    again = pickle.loads(pickle.dumps(view))
    np.testing.assert_array_equal(again.predict(frame()), view.predict(frame()))
    assert again.score(frame(), targets()[name]) == view.score(frame(), targets()[name])


def test_unknown_task() -> None:
    with pytest.raises(ValueError, match=r"name='sise' is not a task. Use one of \['defect', "):
        fitted().task_view("sise")


def test_not_fitted() -> None:
    with pytest.raises(NotFittedError):
        small().task_view("wait")
    for make in (TaskClassifier, TaskRegressor):
        view = make(small(), "wait")
        for call in (view.fit, view.predict, view.score, getattr(view, "predict_proba", view.fit)):
            with pytest.raises(NotFittedError):
                call(rows(), *([np.zeros(N)] if call == view.score else []))


# -- score -----------------------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_score_is_that_of_score_tasks(name: str, weighted: bool) -> None:
    weight = np.random.default_rng(2).integers(0, 3, N) if weighted else None
    view = fitted().task_view(name)
    expected = fitted().score_tasks(frame(), targets(), weight)[name]
    assert np.isfinite(expected)
    assert view.score(frame(), targets()[name], weight) == expected
    assert view.score(frame(), targets()[[name]], sample_weight=weight) == expected
    if weighted:
        assert expected != fitted().score_tasks(frame(), targets())[name]


def test_score_does_not_read_the_name_of_y() -> None:
    view, y = fitted().task_view("wait"), targets()["wait"]
    for same in (
        y.rename("y_true"),
        y.to_numpy(),
        y.tolist(),
        pl.Series(y),
        pl.DataFrame({"t": y}),
    ):
        assert view.score(frame(), same) == view.score(frame(), y)


def test_score_reads_the_marker_of_holes() -> None:
    y = np.where(np.arange(N) % 3 == 0, -999.0, rows()[:, 0])
    view = small(missing_values=-999).fit(rows(), y).task_view("y0")
    seen = y != -999
    assert view.score(rows(), y) == pytest.approx(r2_score(y[seen], view.predict(rows())[seen]))


def test_score_does_not_look_at_cells_of_weight_zero() -> None:
    y, weight = targets(), np.where(np.arange(N) % 4 == 0, 0.0, 1.0)
    y.loc[::4, "cost"] = -1.0  # where there is weight, an error
    expected = fitted().score_tasks(frame(), y, weight)["cost"]
    assert fitted().task_view("cost").score(frame(), y["cost"], weight) == expected


def test_score_of_too_few_targets() -> None:
    y = targets()["wait"].where(np.arange(N) == 3)
    with pytest.warns(UndefinedMetricWarning, match=r"'wait' has 1 observed rows.*needs 2"):
        assert np.isnan(fitted().task_view("wait").score(frame(), y))


@pytest.mark.parametrize(
    ("name", "y", "message"),
    [
        ("wait", targets(), "y has 7 columns, but only task 'wait' is asked for"),
        ("wait", targets()[["wait", "cost"]], "y has 2 columns, but only task 'wait'"),
        ("wait", targets()["wait"][:7], "inconsistent numbers of samples"),
        ("wait", targets()["defect"], "Task 'wait': the target must hold numbers"),
        ("defect", targets()["wait"], "Task 'defect': y holds labels like"),
        ("cost", -targets()["cost"], "Task 'cost': the target must hold values > 0"),
    ],
)
def test_score_of_the_wrong_y(name: str, y: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fitted().task_view(name).score(frame(), y)


# -- labels of every type, y in every container ----------------------------------------------


def cycle(labels: list[Any], hole: Any = None) -> list[Any]:
    """Labels that X tells, with a hole in every fifth row."""
    codes = np.digitize(rows()[:, 0], [0] if len(labels) == 2 else [-0.4, 0.4])
    return [hole if row % 5 == 0 else labels[code] for row, code in enumerate(codes)]


ORDERED = pd.CategoricalDtype(GRADES, ordered=True)
LABELS: dict[str, tuple[Any, str, Task | None]] = {
    "strings": (np.array(cycle(["no", "yes"]), dtype=object), "O", None),
    "unicode": (np.array(cycle(["no", "yes"], "?")), "U", None),
    "strings of pandas": (pd.Series(cycle(["no", "yes"]), dtype="string"), "O", None),
    "bools": (np.array(cycle([False, True]), dtype=object), "b", None),
    "bools of pandas": (pd.Series(cycle([False, True]), dtype="boolean"), "b", None),
    "bools of polars": (pl.Series(cycle([False, True])), "b", None),
    "zeros and ones": (np.array(cycle([0.0, 1.0], np.nan)), "f", None),
    "integers": (pd.Series(cycle([3, 5, 9]), dtype="Int64"), "i", Task("t", "classification")),
    "integers of polars": (pl.Series(cycle([3, 5, 9])), "i", Task("t", "classification")),
    "floats": (
        cycle([0.5, 1.5, -2.5]),
        "f",
        Task("t", "classification", categories=[0.5, 1.5, -2.5]),
    ),
    "intervals": (cycle(list(pd.cut([1, 2, 3], 3))), "O", None),
    "categories": (pd.Series(cycle(["b", "a", "c"]), dtype="category"), "O", None),
    "categories of polars": (pl.Series(cycle(["b", "a", "c"]), dtype=pl.Categorical), "O", None),
    "ordinal": (cycle(GRADES), "O", Task("t", "ordinal", categories=GRADES)),
    "ordinal of pandas": (pd.Series(cycle(GRADES), dtype=ORDERED), "O", Task("t", "ordinal")),
    "ordinal of polars": (
        pl.Series(cycle(GRADES), dtype=pl.Enum(GRADES)),
        "O",
        Task("t", "ordinal"),
    ),
    "ordinal numbers": (cycle([1, 2, 4]), "i", Task("t", "ordinal")),
}


@pytest.mark.parametrize("labels", LABELS)
def test_labels_keep_their_type(labels: str) -> None:
    y, kind, task = LABELS[labels]
    missing = "?" if labels == "unicode" else None
    est = small(None if task is None else [task], missing_values=missing).fit(rows(), y)
    view = est.task_view(est.task_names_[0])
    predicted = view.predict(rows())
    assert predicted.dtype == view.classes_.dtype
    assert predicted.dtype.kind == kind
    values = [None if hole else v for v, hole in zip(list(y), pd.isna(list(y)), strict=True)]
    assert view.classes_.tolist() == sorted({v for v in values if v not in (None, "?")})
    np.testing.assert_array_equal(predicted, est.predict(rows()))
    assert view.score(rows(), y) == est.score(rows(), y)
    # As the tools take them: the observed rows, in the dtype of the classes.
    seen = np.array([v not in (None, "?") for v in values])
    X, y = rows()[seen], np.array(values, dtype=object)[seen].astype(view.classes_.dtype)
    calibration = CalibratedClassifierCV(FrozenEstimator(view))
    if labels in ("floats", "intervals"):  # scikit-learn does not take these for labels
        with pytest.raises(ValueError, match="Unknown label type"):
            calibration.fit(X, y)
        return
    accuracy = get_scorer("accuracy")(view, X, y)
    assert accuracy == np.mean(predicted[seen] == y) > 0.8
    np.testing.assert_array_equal(calibration.fit(X, y).classes_, view.classes_)
    assert calibration.predict(X).dtype == view.classes_.dtype
    assert calibration.score(X, y) > 0.8


@pytest.mark.parametrize(
    ("y", "names"),
    [
        (targets()[NUMBERS].to_numpy(), ["y0", "y1"]),
        (targets()[NUMBERS], NUMBERS),
        (pl.from_pandas(targets()[NUMBERS]), NUMBERS),
        (targets()["wait"], ["wait"]),
        (targets()["wait"].to_numpy(), ["y0"]),
        (pl.from_pandas(targets()["wait"]), ["wait"]),
    ],
    ids=["array", "frame", "polars", "series", "vector", "polars series"],
)
def test_y_in_every_container(y: Any, names: list[str]) -> None:
    est = small().fit(rows(), y)
    for name in names:
        k = est.task_names_.index(name)
        predicted = est.predict(rows())
        view = est.task_view(name)
        np.testing.assert_array_equal(
            view.predict(rows()), predicted if predicted.ndim == 1 else predicted[:, k]
        )
        column = y if len(y.shape) == 1 else y[:, k] if isinstance(y, np.ndarray) else y[name]
        assert view.score(rows(), column) == est.score_tasks(rows(), y)[name]


# -- the tools of scikit-learn ---------------------------------------------------------------


def test_the_order_of_probabilities_is_that_of_the_metrics() -> None:
    """They sort the labels and do not ask; ordinal classes are not sorted."""
    view, (X, y) = fitted().task_view("grade"), observed("grade")
    k = CLASSES.index("grade")
    assert fitted().classes_[k].tolist() == GRADES
    column = [GRADES.index(label) for label in y]
    likelihood = fitted().predict_proba(X)[k][np.arange(len(y)), column]
    expected = np.log(likelihood).mean()
    assert get_scorer("neg_log_loss")(view, X, y) == pytest.approx(expected)


@pytest.mark.parametrize(
    "display",
    [RocCurveDisplay, PrecisionRecallDisplay, DetCurveDisplay, CalibrationDisplay],
)
def test_displays_of_two_classes(display: Any) -> None:
    X, y = observed("defect")
    drawn = display.from_estimator(fitted().task_view("defect"), X, y, pos_label="yes")
    assert len(drawn.ax_.lines) >= 1


def test_displays_show_the_task() -> None:
    X, y = observed("defect")
    view = fitted().task_view("defect")
    roc = RocCurveDisplay.from_estimator(view, X, y)
    score = fitted().predict_proba(X)[0][:, 1]
    assert np.ravel(roc.roc_auc)[0] == pytest.approx(roc_auc_score(y == "yes", score))
    calibration = CalibrationDisplay.from_estimator(view, X, y)
    np.testing.assert_array_equal(calibration.y_prob, score)


def test_confusion_matrix() -> None:
    X, y = observed("grade")
    drawn = ConfusionMatrixDisplay.from_estimator(fitted().task_view("grade"), X, y, labels=GRADES)
    right = np.trace(drawn.confusion_matrix) / drawn.confusion_matrix.sum()
    assert right == np.mean(fitted().task_view("grade").predict(X) == y)


@pytest.mark.parametrize("name", NUMBERS)
def test_prediction_errors(name: str) -> None:
    X, y = observed(name)
    drawn = PredictionErrorDisplay.from_estimator(
        fitted().task_view(name), X, y, kind="actual_vs_predicted"
    )
    np.testing.assert_array_equal(drawn.y_pred, fitted().task_view(name).predict(X))


@pytest.mark.parametrize("name", ["rough", "size"])
def test_permutation_importance(name: str) -> None:
    """On observed rows, and on all of them, as `score` knows the holes."""
    y, k = targets()[name], {"rough": 2, "size": 3}[name]
    tasks = [Task(name, TASKS[NAMES.index(name)].kind), Task("wait", "regression")]
    est = small(tasks).fit(frame(), targets()[[name, "wait"]])
    for X, target in (observed(name), (frame(), y)):
        found = permutation_importance(
            est.task_view(name), X, target, n_repeats=5, random_state=0
        ).importances_mean
        assert found.argmax() == k
        assert found[k] > 0.3


@pytest.mark.parametrize("name", ["grade", "size"])
def test_partial_dependence(name: str) -> None:
    view, (X, _) = fitted().task_view(name), observed(name)
    found = partial_dependence(view, X, ["d"], grid_resolution=5)
    response = view.predict_proba if name == "grade" else view.predict
    for value, average in zip(found["grid_values"][0], found["average"].T, strict=True):
        np.testing.assert_allclose(average, response(X.assign(d=value)).mean(axis=0), rtol=1e-6)
    PartialDependenceDisplay.from_estimator(
        view, X, ["d", ("a", "b")], target="high" if name == "grade" else None, grid_resolution=3
    )


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize(
    ("make", "n_calibrators"),
    [
        (lambda view: CalibratedClassifierCV(FrozenEstimator(view)), 1),
        (lambda view: CalibratedClassifierCV(view, ensemble=False), 1),
        (lambda view: CalibratedClassifierCV(view, cv=3), 3),
    ],
    ids=["frozen", "one", "folds"],
)
def test_calibration(name: str, make: Callable[[Any], Any], n_calibrators: int) -> None:
    view, (X, y) = fitted().task_view(name), observed(name)
    calibrated = make(view).fit(X, y)
    assert len(calibrated.calibrated_classifiers_) == n_calibrators
    assert calibrated.classes_.tolist() == view.classes_.tolist()
    proba = calibrated.predict_proba(X)
    np.testing.assert_allclose(proba.sum(axis=1), 1)
    loss, before = (-get_scorer("neg_log_loss")(c, X, y) for c in (calibrated, view))
    assert loss < before + 0.05
    # Calibrated from this task's probabilities, and on their scale.
    for j in range(len(view.classes_)):
        assert np.corrcoef(proba[:, j], view.predict_proba(X)[:, j])[0, 1] > 0.7


@pytest.mark.parametrize("name", ["defect", "grade"])  # scikit-learn 1.9 takes numbers for codes
def test_calibration_by_a_temperature(name: str) -> None:
    view, (X, y) = fitted().task_view(name), observed(name)
    calibrated = CalibratedClassifierCV(FrozenEstimator(view), method="temperature").fit(X, y)
    loss, before = (-get_scorer("neg_log_loss")(c, X, y) for c in (calibrated, view))
    assert loss < before + 1e-6
    most_probable = view.classes_[view.predict_proba(X).argmax(axis=1)]
    np.testing.assert_array_equal(calibrated.predict(X), most_probable)


def test_calibrating_a_view_once_is_calibrating_it_frozen() -> None:
    view, (X, y) = fitted().task_view("defect"), observed("defect")
    weight = np.random.default_rng(0).random(len(y))
    frozen = CalibratedClassifierCV(FrozenEstimator(view)).fit(X, y)
    once = CalibratedClassifierCV(view, ensemble=False).fit(X, y)
    np.testing.assert_allclose(once.predict_proba(X), frozen.predict_proba(X), rtol=1e-6)
    weighted = CalibratedClassifierCV(view, ensemble=False).fit(X, y, sample_weight=weight)
    assert not np.allclose(weighted.predict_proba(X), once.predict_proba(X))


def test_threshold_that_is_tuned() -> None:
    view, (X, y) = fitted().task_view("defect"), observed("defect")
    tuned = TunedThresholdClassifierCV(view, cv="prefit", refit=False).fit(X, y)
    assert tuned.estimator_ is view
    score = view.predict_proba(X)[:, 1]
    np.testing.assert_array_equal(
        tuned.predict(X), np.where(score >= tuned.best_threshold_, "yes", "no")
    )
    assert balanced_accuracy_score(y, tuned.predict(X)) >= balanced_accuracy_score(
        y, view.predict(X)
    )


def test_threshold_that_is_fixed() -> None:
    view, (X, y) = fitted().task_view("defect"), observed("defect")
    fixed = FixedThresholdClassifier(view, threshold=0.6, pos_label="no").fit(X, y)
    no = view.predict_proba(X)[:, 0] >= 0.6
    assert 0 < no.sum() < np.sum(view.predict(X) == "no")
    np.testing.assert_array_equal(fixed.predict(X), np.where(no, "no", "yes"))


@pytest.mark.parametrize("name", CLASSES)
def test_stacking_and_soft_votes_of_classes(name: str) -> None:
    view, (X, y) = fitted().task_view(name), observed(name)
    stack = StackingClassifier([("head", view)], cv="prefit").fit(X, y)
    assert stack.estimators_ == [view]
    first = 1 if len(view.classes_) == 2 else 0
    np.testing.assert_array_equal(stack.transform(X), view.predict_proba(X)[:, first:])
    assert set(stack.predict(X)) <= set(view.classes_)
    vote = VotingClassifier([("one", view), ("two", view)], voting="soft").fit(X, y)
    np.testing.assert_array_equal(
        vote.predict(X), view.classes_[view.predict_proba(X).argmax(axis=1)]
    )


def test_stacking_of_numbers() -> None:
    views = [(name, fitted().task_view(name)) for name in NUMBERS]
    X, y = observed("size")
    stack = StackingRegressor(views, cv="prefit").fit(X, y)
    np.testing.assert_array_equal(
        stack.transform(X), np.column_stack([view.predict(X) for _, view in views])
    )


def test_cross_validation_only_predicts() -> None:
    view, (X, y) = fitted().task_view("defect"), observed("defect")
    found = cross_val_predict(view, X, y, cv=3, method="predict_proba")
    np.testing.assert_allclose(found, view.predict_proba(X), rtol=1e-6)
    scores = cross_val_score(view, X, y, cv=3, scoring="roc_auc")
    assert np.isfinite(scores).all()


# -- images ----------------------------------------------------------------------------------


def images() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(N, 1, 4, 4)) + 3 * rows()[:, :1, None, None]


def small_conv(**params: Any) -> MultiTaskCNNEstimator:
    """An estimator that learns images in a moment."""
    return small(trunk=ConvTrunk(width=4, n_features=8), **params)


def test_images() -> None:
    est = small_conv(tasks=TASKS).fit(images(), targets())
    seen = targets()["defect"].notna().to_numpy()
    X, y = images()[seen], targets()["defect"][seen].to_numpy()
    view = est.task_view("defect")
    assert view.n_features_in_ == 16
    assert view.predict_proba(images()).shape == (N, 2)
    assert get_tags(view).input_tags.three_d_array
    assert view.score(images(), targets()["defect"]) == np.mean(view.predict(X) == y)
    RocCurveDisplay.from_estimator(view, X, y)
    CalibrationDisplay.from_estimator(view, X, y)
    for tool in (
        CalibratedClassifierCV(FrozenEstimator(view)),
        CalibratedClassifierCV(view, cv=3),
        TunedThresholdClassifierCV(view, cv="prefit", refit=False),
        FixedThresholdClassifier(view, threshold=0.5),
        StackingClassifier([("head", view)], cv="prefit"),
    ):
        assert tool.fit(X, y).score(X, y) > 0.7
    PredictionErrorDisplay.from_estimator(est.task_view("wait"), *_observed_images("wait"))


def _observed_images(name: str) -> tuple[np.ndarray, np.ndarray]:
    seen = targets()[name].notna().to_numpy()
    return images()[seen], targets()[name][seen].to_numpy()


def test_tools_that_change_columns_of_x_take_flat_images() -> None:
    flat = images().reshape(N, -1)
    est = small_conv(input_shape=(1, 4, 4)).fit(flat, targets()[["defect", "wait"]])
    view, (_, y) = est.task_view("defect"), _observed_images("defect")
    X = flat[targets()["defect"].notna().to_numpy()]
    found = permutation_importance(view, X, y, n_repeats=1, random_state=0)
    assert found.importances.shape == (16, 1)
    assert partial_dependence(view, X, [5], grid_resolution=4)["average"].shape == (1, 4)


# -- pipelines, searches, frozen estimators --------------------------------------------------


def tuned(est: Any, **params: Any) -> GridSearchCV:
    """A search, with nothing much to choose from."""
    last = est.steps[-1][0] + "__" if isinstance(est, Pipeline) else ""
    grid = {f"{last}{name}": values for name, values in ({"max_epochs": [2, 20]} | params).items()}
    return GridSearchCV(est, grid, cv=2)


def frozen(est: Any) -> FrozenEstimator:
    return FrozenEstimator(est.fit(frame(), targets()))


WHOLES: dict[str, Callable[[], Any]] = {
    "scaler": lambda: make_pipeline(StandardScaler(), small(TASKS)),
    "one step": lambda: make_pipeline(small(TASKS)),
    "passthrough": lambda: make_pipeline(StandardScaler(), "passthrough", small(TASKS)),
    "only passthrough": lambda: make_pipeline("passthrough", small(TASKS)),
    "pipeline of pipelines": lambda: make_pipeline(
        make_pipeline(StandardScaler(), PolynomialFeatures(2)),
        make_pipeline(MinMaxScaler(), small(TASKS)),
    ),
    "union": lambda: make_pipeline(
        make_union(StandardScaler(), PolynomialFeatures(2)), small(TASKS)
    ),
    "columns": lambda: make_pipeline(
        make_column_transformer((StandardScaler(), ["a", "b"]), remainder="passthrough"),
        small(TASKS),
    ),
    "search": lambda: tuned(small(TASKS)),
    "search over a pipeline": lambda: tuned(make_pipeline(StandardScaler(), small(TASKS))),
    "search in a pipeline": lambda: make_pipeline(StandardScaler(), tuned(small(TASKS))),
    "frozen": lambda: frozen(small(TASKS)),
    "frozen pipeline": lambda: frozen(make_pipeline(StandardScaler(), small(TASKS))),
    "frozen search": lambda: frozen(tuned(make_pipeline(StandardScaler(), small(TASKS)))),
    "frozen in a pipeline": lambda: make_pipeline(
        StandardScaler(), FrozenEstimator(small(TASKS).fit(rows(), targets()))
    ),
}


def fit_again(est: Any, X: Any, y: Any) -> None:
    """Fit it on other data, and before that, what it holds and does not fit itself."""
    if isinstance(est, FrozenEstimator):
        fit_again(est.estimator, X, y)
    else:
        if isinstance(est, Pipeline) and isinstance(est[-1], FrozenEstimator):
            fit_again(est[-1], est[:-1].transform(X), y)
        if hasattr(est, "best_estimator_"):
            fit_again(est.best_estimator_, X, y)
        est.fit(X, y)


@cache
def fitted_whole(whole: str) -> Any:
    return WHOLES[whole]().fit(frame(), targets())


@pytest.mark.parametrize("whole", WHOLES)
def test_view_of_a_whole_predicts_what_the_whole_does(whole: str) -> None:
    est = fitted_whole(whole)
    predicted, proba = est.predict(frame()), est.predict_proba(frame())
    for k, name in enumerate(NAMES):
        view = task_view(est, name)
        found = view.predict(frame())
        np.testing.assert_array_equal(found, predicted[:, k].astype(found.dtype))
        if name in CLASSES:
            assert isinstance(view, TaskClassifier)
            order = np.argsort(fitted().classes_[k])
            np.testing.assert_array_equal(view.predict_proba(frame()), proba[k][:, order])
            assert view.classes_.tolist() == sorted(fitted().classes_[k].tolist())
        else:
            assert isinstance(view, TaskRegressor)
        check_is_fitted(view)
        assert clone(view) is view
        assert view.get_params(deep=False) == {"estimator": view.estimator, "task": name}


@pytest.mark.parametrize("name", ["defect", "size"])
def test_view_of_a_pipeline_transforms_x(name: str) -> None:
    X, y = frame(), targets()
    pipeline = fitted_whole("scaler")
    scaled = (X - X.mean()) / X.std(ddof=0)
    by_hand = small(TASKS).fit(scaled.to_numpy(), y).task_view(name)
    view = task_view(pipeline, name)
    np.testing.assert_array_equal(
        view.predict(X), pipeline[-1].task_view(name).predict(pipeline[:-1].transform(X))
    )
    expected = by_hand.predict(scaled.to_numpy())
    if name == "defect":
        np.testing.assert_array_equal(view.predict(X), expected)
    else:
        np.testing.assert_allclose(view.predict(X), expected, rtol=1e-3, atol=1e-3)
    weight = np.random.default_rng(2).integers(0, 3, N)
    assert view.score(X, y[name], weight) == pytest.approx(
        by_hand.score(scaled.to_numpy(), y[name], weight), abs=0.02
    )
    assert (
        view.score(X, y[name], weight)
        == pipeline[-1].score_tasks(pipeline[:-1].transform(X), y, weight)[name]
    )


@pytest.mark.parametrize("whole", [w for w in WHOLES if w != "only passthrough"])
def test_view_of_a_whole_knows_the_columns_of_x(whole: str) -> None:
    view = task_view(fitted_whole(whole), "wait")
    assert view.n_features_in_ == 4
    assert view.feature_names_in_.tolist() == list("abcd")
    assert get_tags(view).estimator_type == "regressor"
    assert not get_tags(view).target_tags.multi_output


def test_view_of_a_pipeline_of_arrays_has_no_names() -> None:
    pipeline = make_pipeline(StandardScaler(), small(max_epochs=1)).fit(rows(), targets()[["wait"]])
    view = task_view(pipeline, "wait")
    assert not hasattr(view, "feature_names_in_")
    assert view.n_features_in_ == 4


@pytest.mark.parametrize("whole", WHOLES)
def test_view_of_a_whole_keeps_what_it_had(whole: str) -> None:
    """A pipeline fits the steps that it holds; so do a union of transformers, and whoever froze."""
    est = WHOLES[whole]().fit(frame(), targets())
    views = [task_view(est, name) for name in NAMES]
    before = [view.predict(frame()) for view in views]
    proba = views[0].predict_proba(frame())
    other = np.abs(frame()) ** 3 + 7
    fit_again(est, other, targets()[::-1].reset_index(drop=True))
    assert not np.array_equal(est.predict(frame())[:, 4], before[4])  # so that this shows something
    for view, kept in zip(views, before, strict=True):
        np.testing.assert_array_equal(view.predict(frame()), kept)
    np.testing.assert_array_equal(views[0].predict_proba(frame()), proba)


def test_view_of_a_pipeline_leaves_the_pipeline_alone() -> None:
    pipeline = make_pipeline(StandardScaler(), small(TASKS, max_epochs=1)).fit(frame(), targets())
    steps, objects = pipeline.steps, [step for _, step in pipeline.steps]
    view = task_view(pipeline, "wait").fit(rows() * 9, None)
    assert pipeline.steps is steps
    assert [step for _, step in pipeline.steps] == objects
    assert view.estimator[-1].net_ is pipeline[-1].net_  # no weights are copied
    pipeline.set_params(standardscaler="passthrough")
    assert isinstance(view.estimator[0], StandardScaler)


@pytest.mark.parametrize("whole", WHOLES)
def test_view_of_a_whole_pickles(whole: str) -> None:
    view = task_view(fitted_whole(whole), "grade")
    again = pickle.loads(pickle.dumps(view))
    np.testing.assert_array_equal(again.predict_proba(frame()), view.predict_proba(frame()))
    assert again.score(frame(), targets()["grade"]) == view.score(frame(), targets()["grade"])


@pytest.mark.parametrize("whole", ["estimator", "scaler", "search", "search over a pipeline"])
def test_view_of_a_whole_that_is_not_fitted(whole: str) -> None:
    est = small(TASKS) if whole == "estimator" else WHOLES[whole]()
    for holder in (est, FrozenEstimator(est)):
        with pytest.raises(NotFittedError):
            task_view(holder, "wait")


@pytest.mark.parametrize("whole", WHOLES)
def test_unknown_task_of_a_whole(whole: str) -> None:
    with pytest.raises(ValueError, match=r"name='sise' is not a task. Use one of \['defect', "):
        task_view(fitted_whole(whole), "sise")


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda X, y: LinearRegression().fit(X, y), "LinearRegression"),
        (lambda X, y: make_pipeline(StandardScaler(), LinearRegression()).fit(X, y), "LinearReg"),
        (lambda X, y: FrozenEstimator(LinearRegression().fit(X, y)), "LinearRegression"),
        (lambda X, y: GridSearchCV(LinearRegression(), {}).fit(X, y), "LinearRegression"),
        (lambda X, y: small(max_epochs=1).fit(X, y).task_view("y0"), "TaskRegressor"),
        (lambda X, y: make_pipeline(StandardScaler(), "passthrough").fit(X, y), "str"),
        (lambda X, y: GridSearchCV(small(max_epochs=1), {}, refit=False, cv=2).fit(X, y), "Grid"),
    ],
    ids=["linear", "pipeline", "frozen", "search", "view", "passthrough", "not refitted"],
)
def test_view_of_another_estimator(make: Callable[..., Any], name: str) -> None:
    with pytest.raises(TypeError, match=f"{name}.* has no tasks. Pass a fitted MultiTaskCNNEst"):
        task_view(make(rows(), rows()[:, 0]), "y0")


@pytest.mark.parametrize("whole", [None, "estimator", 3])
def test_view_of_something_else(whole: Any) -> None:
    with pytest.raises(TypeError):
        task_view(whole, "y0")


@pytest.mark.parametrize("whole", ["scaler", "search over a pipeline", "frozen pipeline"])
def test_tools_over_the_view_of_a_whole(whole: str) -> None:
    """They are given X as the pipeline takes it."""
    view, (X, y) = task_view(fitted_whole(whole), "defect"), observed("defect")
    roc = RocCurveDisplay.from_estimator(view, X, y)
    score = fitted_whole(whole).predict_proba(X)[0][:, 1]
    assert np.ravel(roc.roc_auc)[0] == pytest.approx(roc_auc_score(y == "yes", score))
    frozen_one = CalibratedClassifierCV(FrozenEstimator(view)).fit(X, y)
    once = CalibratedClassifierCV(view, ensemble=False).fit(X, y)
    np.testing.assert_allclose(once.predict_proba(X), frozen_one.predict_proba(X), rtol=1e-6)
    assert CalibratedClassifierCV(view, cv=3).fit(X, y).score(X, y) > 0.7
    tuned_one = TunedThresholdClassifierCV(view, cv="prefit", refit=False).fit(X, y)
    assert tuned_one.estimator_ is view
    importance = permutation_importance(view, X, y, n_repeats=3, random_state=0).importances_mean
    assert importance.argmax() == 0
    assert partial_dependence(view, X, ["a"], grid_resolution=4)["average"].shape == (1, 4)


def test_curves_are_called_as_the_task() -> None:
    view = fitted().task_view("defect")
    display = RocCurveDisplay.from_estimator(view, frame(), view.predict(frame()))
    assert display.name == "defect"
