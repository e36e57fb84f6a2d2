"""Cross-validated predictions of every task equal those of a loop over the folds."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from _inputs import EVERY_KIND, GATED, make_every_kind, make_table
from _inputs import make_small as small
from joblib import parallel_config
from sklearn import config_context
from sklearn.decomposition import PCA, KernelPCA
from sklearn.linear_model import Ridge
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    ShuffleSplit,
    cross_val_predict,
)
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import check_is_fitted

from sklearn_mtl import MultiTaskCNNEstimator, Task, model_selection
from sklearn_mtl._fitted import innermost
from sklearn_mtl.model_selection import cross_val_predict_tasks
from sklearn_mtl.networks import ConvTrunk

FOLDS = KFold(3, shuffle=True, random_state=0)
METHODS = ["predict", "predict_proba"]


def by_hand(
    estimator: Any,
    X: Any,
    y: Any,
    cv: Any,
    method: str,
    weight: Any = None,
    name: str = "sample_weight",
) -> dict[str, np.ndarray]:
    """One estimator per fold, each for the rows that it was not fitted to."""
    found: dict[str, np.ndarray] = {}
    for train, test in cv.split(X):
        params = {} if weight is None else {name: weight[train]}
        estimator.fit(_safe_indexing(X, train), _safe_indexing(y, train), **params)
        answer = getattr(estimator, method)(_safe_indexing(X, test))
        fitted = innermost(estimator)
        tasks = fitted.task_names_
        if method == "predict":
            answer = list(np.atleast_2d(answer.T))
        else:
            answer = answer if isinstance(answer, list) else [answer]
            tasks = [t.name for t in fitted.tasks_ if t.kind in ("classification", "ordinal")]
        for task, values in zip(tasks, answer, strict=True):
            found.setdefault(task, np.empty((len(X), *values.shape[1:]), values.dtype))
            found[task][test] = values
    return found


def assert_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert list(found) == list(expected)
    for name, values in expected.items():
        assert found[name].shape == values.shape, name
        np.testing.assert_array_equal(found[name], values.astype(found[name].dtype), name)


@cache
def table() -> tuple[np.ndarray, np.ndarray]:
    return make_table(45)


# -- a loop over the folds -------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_every_kind_as_in_a_loop(method: str) -> None:
    X, y = make_every_kind(60)
    estimator = small(EVERY_KIND)
    found = cross_val_predict_tasks(estimator, X, y, cv=FOLDS, method=method)
    expected = by_hand(estimator, X, y, FOLDS, method)
    assert estimator.classes_[0].tolist() == [3, 1, 2]  # from low to high
    if method == "predict_proba":
        expected["level"] = expected["level"][:, [1, 2, 0]]  # sorted, as metrics want them
    assert_same(found, expected)
    if method == "predict_proba":
        assert {name: p.shape for name, p in found.items()} == {"level": (60, 3), "color": (60, 3)}
        for proba in found.values():
            np.testing.assert_allclose(proba.sum(axis=1), 1)
    else:
        assert list(found) == [task.name for task in EVERY_KIND]
        assert {values.dtype for values in found.values()} == {np.dtype(float)}


@pytest.mark.filterwarnings("ignore:Task 'y0' takes numbers with fractions:UserWarning")
@pytest.mark.parametrize("labels", [[0, 1, 2], ["a", "b", "c"], [-1.5, 0.5, 4.0]])
def test_one_class_task_as_in_scikit_learn(labels: list[Any]) -> None:
    X, y = make_every_kind(60)
    y = np.array(labels)[np.random.default_rng(0).integers(3, size=60)]
    estimator = small({"y0": "classification"})
    found = cross_val_predict_tasks(estimator, X, y, cv=FOLDS, method="predict_proba")
    expected = cross_val_predict(estimator, X, y, cv=FOLDS, method="predict_proba")
    assert_same(found, {"y0": expected})
    found = cross_val_predict_tasks(estimator, X, y, cv=FOLDS)
    assert found["y0"].dtype == y.dtype
    assert_same(found, {"y0": cross_val_predict(estimator, X, y, cv=FOLDS)})


def test_scikit_learn_makes_codes_of_listed_labels_and_of_holes() -> None:
    X, _ = make_every_kind(60)
    y = np.array(["a", "b", "c"])[np.arange(60) % 3]
    task = Task("y0", "classification", categories=["a", "b", "c"])
    for tasks in ([task], {"y0": task}, {"y0": task.make_kind()}):
        with pytest.raises(ValueError, match=r"codes of labels.*cross_val_predict_tasks"):
            cross_val_predict(small(tasks), X, y, cv=FOLDS, method="predict_proba")
    found = cross_val_predict_tasks(small([task]), X, y, cv=FOLDS, method="predict_proba")
    assert found["y0"].shape == (60, 3)
    holes = np.where(np.arange(60) % 5 == 0, np.nan, np.arange(60) % 2)
    with pytest.raises(ValueError, match=r"codes of holes in y.*cross_val_predict_tasks"):
        cross_val_predict(small(), X, holes, cv=FOLDS, method="predict_proba")
    assert cross_val_predict(small(), X, holes, cv=FOLDS).shape == (60,)


def test_numbers_are_not_trained_on_their_ranks() -> None:
    """As scikit-learn would have it: the reason to exist, and to refuse its own."""
    X, y = table()
    y = np.column_stack([y[:, 0], np.exp(4 * X[:, 0])])
    found = cross_val_predict_tasks(small(), X, y, cv=FOLDS, method="predict_proba")
    assert_same(found, by_hand(small(), X, y, FOLDS, "predict_proba"))
    with pytest.raises(ValueError, match=r"makes codes of all columns.*cross_val_predict_tasks"):
        cross_val_predict(small(), X, y, cv=FOLDS, method="predict_proba")


# -- labels ----------------------------------------------------------------------------------


def rare(rows: slice) -> tuple[np.ndarray, pd.DataFrame]:
    """A table whose label 'b' stands in some rows only."""
    X, y = table()
    label = np.where(y[:, 0] == 1, "c", "a").astype(object)
    label[rows] = "b"
    return X, pd.DataFrame({"label": label, "number": y[:, 1]})


def test_label_that_a_fold_lacks_has_probability_0() -> None:
    X, y = rare(slice(3, 6))
    with pytest.warns(RuntimeWarning, match=r"'label'.*\['b'\].*15 of 45 rows") as record:
        found = cross_val_predict_tasks(small(), X, y, cv=3, method="predict_proba")
    assert [w.filename for w in record] == [__file__]
    proba = found["label"]
    assert proba.shape == (45, 3)
    assert (proba[:15, 1] == 0).all()
    assert (proba[15:] > 0).all()
    np.testing.assert_allclose(proba.sum(axis=1), 1)


def test_label_that_a_fold_lacks_as_in_scikit_learn() -> None:
    X, y = rare(slice(3, 6))
    label, estimator = y["label"].to_numpy(), small({"y0": "classification"})
    with pytest.warns(RuntimeWarning, match="Number of classes in training fold"):
        expected = cross_val_predict(estimator, X, label, cv=3, method="predict_proba")
    with pytest.warns(RuntimeWarning, match=r"\['b'\]"):
        found = cross_val_predict_tasks(estimator, X, label, cv=3, method="predict_proba")
    assert_same(found, {"y0": expected})


def test_low_label_that_a_fold_lacks() -> None:
    """Columns are matched by label, not counted."""
    X, y = make_every_kind(60)
    tasks = [Task("level", "ordinal"), EVERY_KIND[5]]
    y = y[:, [1, 5]]
    y[:, 0] = np.where(y[:, 0] == 3, 1, y[:, 0])
    y[:4, 0] = 0  # the lowest one
    with pytest.warns(RuntimeWarning, match=r"'level'.*\[0.0\].*20 of 60"):
        found = cross_val_predict_tasks(small(tasks), X, y, cv=3, method="predict_proba")
    estimator = small(tasks).fit(X[20:], y[20:])
    assert estimator.classes_.tolist() == [1, 2]
    np.testing.assert_array_equal(found["level"][:20, 1:], estimator.predict_proba(X[:20]))
    assert (found["level"][:20, 0] == 0).all()


def test_one_label_warns_once_per_fold() -> None:
    X, y = table()
    y = np.column_stack([np.ones(45), y[:, 1]])
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        found = cross_val_predict_tasks(small(), X, y, cv=3, method="predict_proba")
    assert [str(w.message)[:31] for w in record] == ["Task 'y0' has one observed labe"] * 3
    np.testing.assert_array_equal(found["y0"], np.ones((45, 1)))


@pytest.mark.parametrize(
    ("labels", "dtype"),
    [(["no", "yes"], object), ([False, True], bool), ([3, 7], int), ([0.5, 1.5], float)],
    ids=["str", "bool", "int", "float"],
)
@pytest.mark.parametrize("named", [False, True])
def test_labels_keep_their_type(labels: list[Any], dtype: Any, named: bool) -> None:
    X, y = table()
    values = [labels[int(v)] for v in y[:, 0]]
    frame = pd.DataFrame({"label": values, "number": y[:, 1]})
    name = "label" if named else "y0"
    estimator = small({name: Task(name, "classification", categories=labels)})
    found = cross_val_predict_tasks(
        estimator, X, frame if named else frame.astype(object).to_numpy(), cv=3
    )
    label, number = found.values()
    assert label.dtype == dtype
    assert set(label.tolist()) <= set(labels)
    assert number.dtype == float


@pytest.mark.parametrize(
    ("labels", "kind"), [([3, 7], "f"), (["no", "yes"], "O"), ([False, True], "f")]
)
def test_holes_of_conditional_labels_stay(labels: list[Any], kind: str) -> None:
    X, y = table()
    gate = np.where(y[:, 0] == 1, "yes", "no").astype(object)
    label = [labels[int(v > 0)] if g == "yes" else None for v, g in zip(X[:, 1], gate, strict=True)]
    size = y[:, 2]
    frame = pd.DataFrame({"gate": gate, "label": pd.Series(label, dtype=object), "size": size})
    tasks = [
        Task("gate", "classification"),
        Task("label", "classification", given=("gate", "yes")),
        Task("size", "regression", given=("gate", "yes")),
    ]
    estimator = small(tasks, conditional_output="nan")
    found = cross_val_predict_tasks(estimator, X, frame, cv=FOLDS)
    off = found["gate"] == "no"
    assert off.any()
    assert not off.all()
    np.testing.assert_array_equal(pd.isna(found["label"]), off)
    np.testing.assert_array_equal(np.isnan(found["size"]), off)
    assert found["label"].dtype.kind == kind
    assert set(found["label"][~off].tolist()) <= set(labels)


# -- containers ------------------------------------------------------------------------------


def columns() -> dict[str, list[Any]]:
    y = table()[1]
    return {
        "label": ["yes" if v else "no" for v in y[:, 0]],
        "number": [None if np.isnan(v) else v for v in y[:, 1]],
    }


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("wrap_X", "wrap_y"),
    [
        (pd.DataFrame, pd.DataFrame),
        (lambda X: pd.DataFrame(X, index=range(100, 145)), pd.DataFrame),
        (np.asarray, lambda y: pd.DataFrame(y).astype({"label": "category"})),
        (pl.DataFrame, pl.DataFrame),
        (lambda X: X.tolist(), lambda y: [list(row) for row in zip(*y.values(), strict=True)]),
    ],
    ids=["pandas", "other index", "category", "polars", "list"],
)
def test_containers(method: str, wrap_X: Callable[..., Any], wrap_y: Callable[..., Any]) -> None:
    tasks = [Task("label", "classification"), Task("number", "regression")]
    X, y = table()[0], np.array(list(columns().values()), dtype=object).T
    expected = cross_val_predict_tasks(small(tasks), X, y, cv=3, method=method)
    found = cross_val_predict_tasks(small(tasks), wrap_X(X), wrap_y(columns()), cv=3, method=method)
    assert_same(found, expected)


@pytest.mark.parametrize("wrap", [np.array, pd.Series, pl.Series, list])
@pytest.mark.parametrize("method", METHODS)
def test_one_dimension(method: str, wrap: Callable[..., Any]) -> None:
    y = columns()["label"]
    found = cross_val_predict_tasks(small(), table()[0], wrap(y), cv=3, method=method)
    assert list(found) == ["y0"]
    assert found["y0"].shape == ((45,) if method == "predict" else (45, 2))
    if method == "predict":
        assert set(found["y0"]) == {"yes", "no"}


@pytest.mark.parametrize("method", METHODS)
def test_a_fold_does_not_take_numbers_for_classes(method: str) -> None:
    X, y = table()
    number = np.where(np.arange(45) < 30, np.arange(45) % 2, np.arange(45))
    y = np.column_stack([y[:, 0], number])
    found = cross_val_predict_tasks(small(), X, y, cv=FOLDS, method=method)
    kinds = {"y0": "classification", "y1": "regression"}
    assert_same(found, cross_val_predict_tasks(small(kinds), X, y, cv=FOLDS, method=method))


def test_tasks_in_another_order_than_columns() -> None:
    X, y = table()
    frame = pd.DataFrame(y, columns=["label", "number", "size"])
    tasks = [GATED[1], GATED[2], GATED[0]]
    found = cross_val_predict_tasks(small(tasks), X, frame, cv=FOLDS)
    assert list(found) == ["number", "size", "label"]
    assert set(found["label"]) == {0.0, 1.0}
    assert_same(found, by_hand(small(tasks), X, frame, FOLDS, "predict"))


@pytest.mark.parametrize("method", METHODS)
def test_images(method: str) -> None:
    _, y = table()
    X = np.random.default_rng(0).normal(size=(45, 2, 6, 6))
    X[:, 0] += y[:, 0, None, None]
    estimator = small(GATED, trunk=ConvTrunk(width=4), max_epochs=1)
    found = cross_val_predict_tasks(estimator, X, y, cv=FOLDS, method=method)
    assert_same(found, by_hand(estimator, X, y, FOLDS, method))


# -- what stands around the estimator, and what goes into it ---------------------------------

AROUND: dict[str, Callable[[], Any]] = {
    "pipeline": lambda: make_pipeline(StandardScaler(), PCA(2), small(GATED)),
    "nested": lambda: make_pipeline(StandardScaler(), Pipeline([("mtl", small(GATED))])),
    "search": lambda: GridSearchCV(small(GATED), {"max_epochs": [1, 2]}, cv=2),
    "search over a pipeline": lambda: GridSearchCV(
        make_pipeline(StandardScaler(), small(GATED)), {"standardscaler__with_std": [True]}, cv=2
    ),
    "search at the end": lambda: make_pipeline(
        StandardScaler(), GridSearchCV(small(GATED), {"max_epochs": [1]}, cv=2)
    ),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("around", AROUND)
def test_pipelines_and_searches(around: str, method: str) -> None:
    X, y = table()
    found = cross_val_predict_tasks(AROUND[around](), X, y, cv=FOLDS, method=method)
    assert_same(found, by_hand(AROUND[around](), X, y, FOLDS, method))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(45,), (45, 3)])
def test_weights(method: str, shape: tuple[int, ...]) -> None:
    X, y = table()
    weight = np.random.default_rng(0).random(shape) + 0.1
    found = cross_val_predict_tasks(
        small(GATED), X, y, cv=FOLDS, params={"sample_weight": weight}, method=method
    )
    assert_same(found, by_hand(small(GATED), X, y, FOLDS, method, weight))
    without = cross_val_predict_tasks(small(GATED), X, y, cv=FOLDS, method=method)
    assert not np.array_equal(found["label"], without["label"]) or method == "predict"


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("around", ["pipeline", "nested"])
def test_weights_through_a_pipeline(around: str, method: str) -> None:
    X, y = table()
    weight = np.random.default_rng(0).random((45, 3)) + 0.1
    last = {"pipeline": "multitaskcnnestimator", "nested": "pipeline__mtl"}[around]
    name = f"{last}__sample_weight"
    model = AROUND[around]()
    found = cross_val_predict_tasks(model, X, y, cv=FOLDS, params={name: weight}, method=method)
    assert_same(found, by_hand(model, X, y, FOLDS, method, weight, name))


@pytest.mark.parametrize("around", [False, True])
def test_weights_are_routed(around: bool) -> None:
    X, y = table()
    weight = np.random.default_rng(0).random(45) + 0.1
    groups = np.arange(45) % 5
    with config_context(enable_metadata_routing=True):
        model: Any = small(GATED).set_fit_request(sample_weight=True)
        if around:
            model = make_pipeline(StandardScaler().set_fit_request(sample_weight=False), model)
        params = {"sample_weight": weight, "groups": groups}
        found = cross_val_predict_tasks(
            model, X, y, cv=GroupKFold(5), params=params, method="predict_proba"
        )
    plain = make_pipeline(StandardScaler(), small(GATED)) if around else small(GATED)
    name = "multitaskcnnestimator__sample_weight" if around else "sample_weight"
    expected = cross_val_predict_tasks(
        plain,
        X,
        y,
        cv=GroupKFold(5),
        groups=groups,
        params={name: weight},
        method="predict_proba",
    )
    assert_same(found, expected)


@pytest.mark.parametrize("around", [False, True])
def test_cells_of_weight_0_are_holes(around: bool) -> None:
    """What stands under a weight of 0 is neither a label nor a value without its gate."""
    X, y = table()
    weight = (~np.isnan(y)).astype(float)
    weight[::5, 0] = 0
    weight[np.isnan(y[:, 2]), 0] = 1  # gates stay known
    masked = np.where(weight > 0, y, np.nan)
    filled = np.where(weight > 0, y, 9.0)
    model: Any = small(GATED)
    name = "sample_weight"
    if around:
        model = make_pipeline(StandardScaler(), model)
        name = f"multitaskcnnestimator__{name}"
    found = cross_val_predict_tasks(
        model, X, filled, cv=FOLDS, params={name: weight}, method="predict_proba"
    )
    expected = cross_val_predict_tasks(model, X, masked, cv=FOLDS, method="predict_proba")
    assert found["label"].shape == (45, 2)
    np.testing.assert_allclose(found["label"], expected["label"], rtol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_missing_values_are_no_label(method: str) -> None:
    X, y = table()
    label = np.where(np.arange(45) % 7 == 0, np.nan, y[:, 0])
    holes = np.column_stack([label, y[:, 1]])
    found = cross_val_predict_tasks(
        small(GATED[:2], missing_values=-9), X, np.nan_to_num(holes, nan=-9), cv=3, method=method
    )
    assert_same(found, cross_val_predict_tasks(small(GATED[:2]), X, holes, cv=3, method=method))


def test_n_jobs_changes_nothing() -> None:
    X, y = rare(slice(3, 6))
    found = []
    for n_jobs in (1, 2):
        with pytest.warns(RuntimeWarning, match=r"\['b'\]") as record:
            found.append(
                cross_val_predict_tasks(small(), X, y, cv=3, method="predict_proba", n_jobs=n_jobs)
            )
        assert len(record) == 1
    assert_same(*found)


def test_jobs_are_asked_of_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {"n_jobs": 2, "verbose": 1, "pre_dispatch": 3}
    given: dict[str, Any] = {}

    def spy(*args: Any, **params: Any) -> Any:
        given.update({name: params.pop(name) for name in asked})
        return cross_val_predict(*args, **params)

    monkeypatch.setattr(model_selection, "cross_val_predict", spy)
    cross_val_predict_tasks(small(GATED), *table(), cv=3, **asked)
    assert given == asked


def test_kernels_are_split_both_ways() -> None:
    """As the tags of the estimator ask."""
    X, y = table()
    kernel = X @ X.T
    model = make_pipeline(KernelPCA(2, kernel="precomputed"), small(GATED))
    found = cross_val_predict_tasks(model, kernel, y, cv=FOLDS, method="predict_proba")
    for train, test in FOLDS.split(X):
        model.fit(kernel[np.ix_(train, train)], y[train])
        proba = model.predict_proba(kernel[np.ix_(test, train)])
        np.testing.assert_allclose(found["label"][test], proba)


def test_nothing_passed_is_changed() -> None:
    X, y = table()
    kept, model = y.copy(), make_pipeline(StandardScaler(), small(GATED))
    params = {"multitaskcnnestimator__sample_weight": np.ones(45)}
    cross_val_predict_tasks(model, X, y, cv=3, params=params, method="predict_proba")
    np.testing.assert_array_equal(y, kept)
    np.testing.assert_array_equal(params["multitaskcnnestimator__sample_weight"], np.ones(45))
    with pytest.raises(Exception, match="not fitted"):
        check_is_fitted(model)


# -- errors ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "params", "error", "message"),
    [
        (small(), {"method": "decision_function"}, ValueError, "method='decision_function'"),
        (small({"y0": "regression"}), {"method": "predict_proba"}, ValueError, "a class task"),
        (Ridge(), {}, TypeError, r"Ridge .*has no tasks"),
        (make_pipeline(StandardScaler(), Ridge()), {}, TypeError, r"Ridge .*has no tasks"),
        (GridSearchCV(Ridge(), {}), {}, TypeError, r"Ridge .*has no tasks"),
        (small(), {"cv": ShuffleSplit(2, random_state=0)}, ValueError, "partitions"),
        (small(GATED[:2]), {}, ValueError, "y has 3 columns"),
    ],
    ids=["method", "no class", "no tasks", "pipeline", "search", "partition", "y"],
)
def test_errors(model: Any, params: dict[str, Any], error: type[Exception], message: str) -> None:
    X, y = table()
    with pytest.raises(error, match=message):
        cross_val_predict_tasks(model, X, y, **params)


@pytest.mark.parametrize("method", METHODS)
def test_a_view_is_frozen(method: str) -> None:
    X, y = table()
    view = small().fit(X, y).task_view("y0")
    with pytest.raises(TypeError, match="has no tasks"):
        cross_val_predict_tasks(view, X, y[:, 0], method=method)


# -- groups and other processes --------------------------------------------------------------


@pytest.mark.parametrize("in_pipeline", [False, True])
@pytest.mark.parametrize("routing", [False, True])
def test_groups_reach_the_splitter_and_the_fits(
    in_pipeline: bool, routing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    X, y = table()
    groups = np.arange(len(X)) // 3
    seen: list[Any] = []
    fit = MultiTaskCNNEstimator.fit

    def spy(self: Any, X: Any, y: Any, sample_weight: Any = None, *, groups: Any = None) -> Any:
        seen.append(groups)
        return fit(self, X, y, sample_weight, groups=groups)

    monkeypatch.setattr(MultiTaskCNNEstimator, "fit", spy)
    estimator: Any = small()
    estimator = make_pipeline(StandardScaler(), estimator) if in_pipeline else estimator
    with config_context(enable_metadata_routing=routing):
        cross_val_predict_tasks(estimator, X, y, cv=GroupKFold(2), groups=groups)
    expected = [groups[train] for train, _ in GroupKFold(2).split(X, groups=groups)]
    assert [part.tolist() for part in seen] == [part.tolist() for part in expected]


def test_what_other_processes_can_be_sent(tmp_path: Any) -> None:
    h5py = pytest.importorskip("h5py", reason="HDF5 files need h5py")
    X, y = table()
    expected = cross_val_predict_tasks(small(), X, y, cv=2)
    with h5py.File(tmp_path / "X.h5", "w") as file:
        file["X"] = X
        with parallel_config("threading", n_jobs=2):
            assert_same(cross_val_predict_tasks(small(), file["X"], y, cv=2), expected)
    with h5py.File(tmp_path / "X.h5", "r") as file:
        assert_same(cross_val_predict_tasks(small(), file["X"], y, cv=2, n_jobs=2), expected)


def test_what_other_processes_cannot_be_sent(tmp_path: Any) -> None:
    """Such an error ends these processes, so that this is the last test to need them."""
    h5py = pytest.importorskip("h5py", reason="HDF5 files need h5py")
    X, y = table()
    with h5py.File(tmp_path / "X.h5", "w") as file:
        file["X"] = X
        with pytest.raises(ValueError, match=r"for writing. Open it with h5py.File\(path, 'r'\)"):
            cross_val_predict_tasks(small(), file["X"], y, cv=2, n_jobs=2)
