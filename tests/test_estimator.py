"""What a scikit-learn user may do with the estimator."""

from __future__ import annotations

import ast
import copy
import inspect
import os
import pickle
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from sklearn import config_context
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.exceptions import NotFittedError, UndefinedMetricWarning
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.inspection import permutation_importance
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    KFold,
    RandomizedSearchCV,
    cross_val_predict,
    cross_val_score,
    cross_validate,
    learning_curve,
    train_test_split,
    validation_curve,
)
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import Callback

import sklearn_mtl
from sklearn_mtl import MultiTaskCNNEstimator, Task, datasets, losses, metrics, networks
from sklearn_mtl._data.rows import Samples
from sklearn_mtl._fitted import fitted_of
from sklearn_mtl._training.plan import parameters_of, plan_fit
from sklearn_mtl.losses import LOSSES, LogProd, Uncertainty
from sklearn_mtl.networks import ConvTrunk, DenseTrunk

N = 60
NAMES = ["defect", "brightness", "size"]
TASKS = [
    Task("defect", "classification"),
    Task("brightness", "regression"),
    Task("size", "regression", given=("defect", 1)),
]


def rows() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(N, 4))


def images() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(N, 1, 8, 8))


def targets() -> np.ndarray:
    """A class, a number, and a number of the positives; each with holes."""
    X = rows()
    defect = (X[:, 0] > 0).astype(float)
    y = np.column_stack([defect, X[:, 1] - 2 * X[:, 2], np.where(defect == 1, X[:, 3], np.nan)])
    y[::7, 0] = np.nan
    y[1::5, 1] = np.nan
    return y


def frame() -> pd.DataFrame:
    return pd.DataFrame(targets(), columns=NAMES)


def small(**params: Any) -> MultiTaskCNNEstimator:
    """An estimator that fits rows in milliseconds."""
    defaults = {"trunk": DenseTrunk((8,), n_members=2), "max_epochs": 3, "random_state": 0}
    return MultiTaskCNNEstimator(**(defaults | params))


def small_conv(**params: Any) -> MultiTaskCNNEstimator:
    """An estimator that fits images in milliseconds."""
    return small(**({"trunk": ConvTrunk(width=4, n_features=8), "max_epochs": 2} | params))


# -- the job ---------------------------------------------------------------------------------


def test_a_plain_matrix_with_nan_needs_no_argument() -> None:
    est = MultiTaskCNNEstimator()
    assert est.fit(rows(), targets()) is est
    assert [task.kind for task in est.tasks_] == ["classification", "regression", "regression"]
    predicted = est.predict(rows())
    assert predicted.shape == (N, 3)
    assert predicted.dtype == float
    assert np.isfinite(predicted).all()
    assert est.score(rows(), targets()) > 0.8


def test_the_job_in_one_example() -> None:
    X = images()
    y = pd.DataFrame(
        {
            "defect": np.where(X.mean(axis=(1, 2, 3)) > 0, "yes", "no"),
            "brightness": X.max(axis=(1, 2, 3)),
        }
    )
    y["size"] = np.where(y["defect"] == "yes", X.std(axis=(1, 2, 3)), np.nan)
    est = MultiTaskCNNEstimator(
        tasks=[
            Task("defect", "classification"),
            Task("brightness", "regression"),
            Task("size", "regression", given=("defect", "yes")),
        ],
        loss="logprod",
        random_state=0,
    ).fit(X, y)
    assert est.predict(X).shape == (N, 3)
    assert est.predict_proba(X).shape == (N, 2)
    assert est.score(X, y) > 0.5
    assert list(est.predict_frame(X).columns) == NAMES


# -- searches and validation with NaN in y ---------------------------------------------------

ROWS, IMAGES = ("rows", "images")
KINDS_OF_Y = {
    "array": targets,
    "frame": frame,
    "polars": lambda: pl.DataFrame(targets(), schema=NAMES).fill_nan(None),
    "one task": lambda: targets()[:, 1],
}


def setting(kind: str, y: str = "array") -> tuple[MultiTaskCNNEstimator, np.ndarray, Any]:
    est, X = (small(), rows()) if kind == ROWS else (small_conv(), images())
    return est, X, KINDS_OF_Y[y]()


@pytest.mark.parametrize("y", ["array", "frame"])
def test_grid_search_over_losses_in_a_pipeline(y: str) -> None:
    pipeline = Pipeline(
        [("scale", StandardScaler()), ("mtl", MultiTaskCNNEstimator(max_epochs=3, random_state=0))]
    )
    grid = {"mtl__loss": list(LOSSES)}
    search = GridSearchCV(pipeline, grid, cv=3, error_score="raise")
    search.fit(rows(), KINDS_OF_Y[y]())
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.predict(rows()).shape == (N, 3)
    assert search.best_params_["mtl__loss"] in grid["mtl__loss"]


@pytest.mark.parametrize("y", KINDS_OF_Y)
@pytest.mark.parametrize("kind", [ROWS, IMAGES])
def test_grid_search(kind: str, y: str) -> None:
    est, X, target = setting(kind, y)
    search = GridSearchCV(est, {"loss": ["logprod", "masked_mse"]}, cv=3, error_score="raise")
    search.fit(X, target)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert len(search.predict(X)) == N
    assert np.isfinite(search.score(X, target))


def test_grid_search_over_parameters_of_the_trunk() -> None:
    search = GridSearchCV(
        small_conv(), {"trunk__width": [2, 4], "tasks": [None, TASKS]}, cv=2, error_score="raise"
    )
    search.fit(images(), frame())
    assert search.best_estimator_.trunk.width in (2, 4)


@pytest.mark.parametrize("kind", [ROWS, IMAGES])
def test_randomized_search(kind: str) -> None:
    est, X, y = setting(kind)
    grid = {"learning_rate": [1e-3, 1e-2], "loss": ["logprod", "weighted"]}
    search = RandomizedSearchCV(est, grid, n_iter=2, cv=2, random_state=0, error_score="raise")
    assert np.isfinite(search.fit(X, y).best_score_)


@pytest.mark.parametrize("kind", [ROWS, IMAGES])
@pytest.mark.parametrize("resource", ["n_samples", "max_epochs"])
def test_halving_search(kind: str, resource: str) -> None:
    est, X, y = setting(kind)
    search = HalvingGridSearchCV(
        est,
        {"loss": ["logprod", "weighted"]},
        cv=2,
        factor=2,
        resource=resource,
        min_resources=N // 2 if resource == "n_samples" else 1,
        max_resources="auto" if resource == "n_samples" else 2,
        random_state=0,
        error_score="raise",
    )
    assert np.isfinite(search.fit(X, y).best_score_)


@pytest.mark.parametrize("y", KINDS_OF_Y)
@pytest.mark.parametrize("kind", [ROWS, IMAGES])
def test_cross_validation(kind: str, y: str) -> None:
    est, X, target = setting(kind, y)
    scores = cross_val_score(est, X, target, cv=3, error_score="raise")
    assert np.isfinite(scores).all()
    result = cross_validate(
        est, X, target, cv=3, return_train_score=True, return_estimator=True, error_score="raise"
    )
    np.testing.assert_array_equal(result["test_score"], scores)
    assert np.isfinite(result["train_score"]).all()
    predicted = cross_val_predict(est, X, target, cv=3, method="predict")
    assert predicted.shape == ((N,) if y == "one task" else (N, 3))
    for (_, test), fold in zip(KFold(3).split(X), result["estimator"], strict=True):
        np.testing.assert_array_equal(predicted[test], fold.predict(X[test]))


def test_cross_val_predict_proba_of_one_class_task() -> None:
    y = np.where(rows()[:, 0] > 0, "yes", "no")
    est = small(max_epochs=30, learning_rate=1e-2)
    proba = cross_val_predict(est, rows(), y, cv=3, method="predict_proba")
    assert proba.shape == (N, 2)
    assert accuracy_score(y, np.array(["no", "yes"])[proba.argmax(axis=1)]) > 0.65


@pytest.mark.parametrize("kind", [ROWS, IMAGES])
def test_curves(kind: str) -> None:
    est, X, y = setting(kind)
    _, *scores = learning_curve(est, X, y, cv=2, train_sizes=[0.5, 1.0], error_score="raise")
    assert np.isfinite(scores).all()
    scores = validation_curve(
        est, X, y, cv=2, param_name="max_epochs", param_range=[1, 2], error_score="raise"
    )
    assert np.isfinite(scores).all()


@pytest.mark.parametrize("y", ["array", "frame"])
def test_permutation_importance(y: str) -> None:
    est = small(max_epochs=60, learning_rate=1e-2).fit(rows(), KINDS_OF_Y[y]())
    result = permutation_importance(est, rows(), KINDS_OF_Y[y](), n_repeats=3, random_state=0)
    assert result.importances.shape == (4, 3)
    assert (result.importances_mean > 0).all()


def test_train_test_split_keeps_frames() -> None:
    X_train, X_test, y_train, y_test = train_test_split(rows(), frame(), random_state=0)
    predicted = small().fit(X_train, y_train).predict_frame(X_test)
    assert predicted.shape == y_test.shape


def test_is_neither_classifier_nor_regressor() -> None:
    """Else `check_cv` and the scorers refuse NaN in y."""
    assert not is_classifier(small())
    assert not is_regressor(small())


def test_sample_weight_is_routed() -> None:
    weight = np.random.default_rng(0).random(N) + 0.1
    with config_context(enable_metadata_routing=True):
        est = small().set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        routed = cross_validate(
            make_pipeline(StandardScaler().set_fit_request(sample_weight=False), est),
            rows(),
            targets(),
            params={"sample_weight": weight},
            cv=3,
            error_score="raise",
        )["test_score"]
    by_hand = []
    for train, test in KFold(3).split(rows()):
        scaler = StandardScaler().fit(rows()[train])
        X, y = scaler.transform(rows()), targets()
        fold = small().fit(X[train], y[train], sample_weight=weight[train])
        by_hand.append(fold.score(X[test], y[test], sample_weight=weight[test]))
    np.testing.assert_array_equal(routed, by_hand)
    assert not np.array_equal(routed, cross_val_score(small(), rows(), targets(), cv=3))


def test_validation_data_go_through_a_pipeline() -> None:
    X, y = rows() * 100 + 7, targets()
    weight = np.arange(1.0, 41)
    with config_context(enable_metadata_routing=True):
        scaler = StandardScaler().set_fit_request(sample_weight=False)
        mtl = small().set_fit_request(X_val=True, y_val=True, sample_weight=True)
        pipeline = Pipeline([("scale", scaler), ("mtl", mtl)], transform_input=["X_val"])
        pipeline.fit(X[:40], y[:40], X_val=X[40:], y_val=y[40:], sample_weight=weight)
    Z = StandardScaler().fit(X[:40]).transform(X)
    by_hand = small().fit(Z[:40], y[:40], weight, X_val=Z[40:], y_val=y[40:])
    for name, values in by_hand.history_.items():
        np.testing.assert_array_equal(pipeline[-1].history_[name], values)


# -- bad input -------------------------------------------------------------------------------


def with_cell(value: float, row: int = 3) -> np.ndarray:
    X = rows()
    X[row, 1] = value
    return X


def y_with(column: int, value: Any) -> np.ndarray:
    y = targets()
    y[2, column] = value
    return y


GATED_BADLY = [
    Task("defect", "classification"),
    Task("brightness", "regression", given=("defect", 1)),
    Task("size", "regression"),
]

# X, y, parameters, arguments of fit, and what the message must say.
BAD: dict[str, tuple[Any, Any, dict[str, Any], dict[str, Any], str]] = {
    "inf in X": (with_cell(np.inf), targets(), {}, {}, r"X contains infinity.*\[3\].*Clip"),
    "NaN in X": (with_cell(np.nan), targets(), {}, {}, r"X contains NaN.*\[3\].*Impute"),
    "inf in y": (rows(), y_with(1, np.inf), {}, {}, r"'y1'.*infinity.*\[2\].*Use NaN"),
    "-inf in y": (rows(), y_with(2, -np.inf), {}, {}, r"'y2'.*infinity.*\[2\].*Use NaN"),
    "a single task without a value": (
        rows(),
        np.full(N, np.nan),
        {},
        {},
        r"Task 'y0' has no observed value.*weight.*Pass rows with observed targets",
    ),
    "lengths differ": (rows(), targets()[:-1], {}, {}, r"X and y have incons.* 60 and 59"),
    "X of one dimension": (rows()[:, 0], targets(), {}, {}, r"2D array.*[Rr]eshape"),
    "X of six dimensions": (
        np.zeros((N, 1, 2, 2, 2, 2)),
        targets(),
        {},
        {},
        r"X has 6 dimensions.*input_shape=",
    ),
    "channels last": (
        np.moveaxis(np.repeat(images(), 3, axis=1), 1, -1),
        targets(),
        {},
        {},
        r"data_format='channels_first'.*data_format='channels_last'",
    ),
    "y of three dimensions": (rows(), targets()[:, :, None], {}, {}, r"y has shape \(60, 3, 1\)"),
    "y is None": (rows(), None, {}, {}, r"requires y to be passed.*None"),
    "value where the gate does not hold": (
        rows(),
        frame(),
        {"tasks": GATED_BADLY},
        {},
        r"Task 'brightness' exists only given \('defect', 1\).*rows, the first \[.*Set .* NaN",
    ),
    "unknown loss": (rows(), targets(), {"loss": "product"}, {}, r"'loss'.*logprod.*'product'"),
    "unknown trunk": (
        rows(),
        targets(),
        {"trunk": "transformer"},
        {},
        r"trunk='transformer'.*TimmTrunk",
    ),
    "unknown optimizer": (
        rows(),
        targets(),
        {"optimizer": "Adamm"},
        {},
        r"optimizer.*'Adamm'",
    ),
    "unknown device": (rows(), targets(), {"device": "gpu"}, {}, r"device.*'gpu'"),
    "unknown precision": (rows(), targets(), {"precision": "half"}, {}, r"'precision'.*'half'"),
    "conv trunk on rows": (rows(), targets(), {"trunk": "conv"}, {}, r"ConvTrunk.*input_shape="),
    "wrong input_shape": (
        rows(),
        targets(),
        {"input_shape": (1, 3, 2)},
        {},
        r"input_shape=\(1, 3, 2\) does not fit X.*\(4,\)",
    ),
    "no epoch": (rows(), targets(), {"max_epochs": 0}, {}, r"'max_epochs'.*0"),
    **{
        f"epochs of {value!r}": (
            rows(),
            targets(),
            {"max_epochs": value},
            {},
            rf"'max_epochs'.*a str among {{'auto'}} or an int in the range \[1, .*Got {value!r}",
        )
        for value in ("Auto", "30", "", 2.5, None)
    },
    "learning_rate of zero": (rows(), targets(), {"learning_rate": 0.0}, {}, r"'learning_rate'"),
    "sample_weight too short": (
        rows(),
        targets(),
        {},
        {"sample_weight": np.ones(N - 1)},
        r"sample_weight has shape \(59,\), expected \(60,\) or \(60, 3\)",
    ),
    "sample_weight for too few tasks": (
        rows(),
        targets(),
        {},
        {"sample_weight": np.ones((N, 2))},
        r"sample_weight has shape \(60, 2\), expected \(60,\) or \(60, 3\)",
    ),
    "sample_weight of zero": (
        rows(),
        targets(),
        {},
        {"sample_weight": np.zeros(N)},
        r"sample_weight is zero everywhere.*non-zero",
    ),
    "negative sample_weight": (
        rows(),
        targets(),
        {},
        {"sample_weight": -np.ones(N)},
        r"sample_weight holds negative.*>= 0",
    ),
    "sample_weight with NaN": (
        rows(),
        targets(),
        {},
        {"sample_weight": np.full(N, np.nan)},
        r"sample_weight holds.*non-finite.*>= 0",
    ),
    "task_weights too short": (
        rows(),
        frame(),
        {"task_weights": [1.0, 2.0]},
        {},
        r"task_weights=\[1.0, 2.0\].*3 weights >= 0.*\['defect', 'brightness', 'size'\]",
    ),
    "negative task_weights": (
        rows(),
        targets(),
        {"task_weights": [1, -1, 1]},
        {},
        r"task_weights.*>= 0",
    ),
    "zero task_weights": (
        rows(),
        targets(),
        {"task_weights": np.zeros(3)},
        {},
        r"task_weights.*not all 0",
    ),
    "task_weights with NaN": (
        rows(),
        targets(),
        {"task_weights": [1, np.nan, 1]},
        {},
        r"task_weights holds negative or non-finite values at 1 positions, the first \[1\]",
    ),
    "task_weights of an unknown task": (
        rows(),
        frame(),
        {"task_weights": {"sise": 1.0}},
        {},
        r"task_weights.*\['sise'\].*\['defect', 'brightness', 'size'\]",
    ),
    "task_weights is no rule": (
        rows(),
        targets(),
        {"task_weights": "balanced"},
        {},
        r"'task_weights'.*n_observed.*'balanced'",
    ),
    "X_val of another shape": (
        rows(),
        targets(),
        {},
        {"X_val": rows()[:, :3], "y_val": targets()},
        r"X_val has 3 features, but MultiTaskCNNEstimator is expecting 4",
    ),
    "X_val with NaN": (
        rows(),
        targets(),
        {},
        {"X_val": with_cell(np.nan), "y_val": targets()},
        r"X_val contains NaN.*\[3\]",
    ),
    "X_val without y_val": (rows(), targets(), {}, {"X_val": rows()}, r"without y_val"),
    "y_val without X_val": (rows(), targets(), {}, {"y_val": targets()}, r"X_val"),
    "y_val shorter": (
        rows(),
        targets(),
        {},
        {"X_val": rows(), "y_val": targets()[1:]},
        r"X_val and y_val have inconsistent numbers of samples, 60 and 59",
    ),
    "y_val without a value": (
        rows(),
        targets(),
        {},
        {"X_val": rows(), "y_val": np.full((N, 3), np.nan)},
        r"y_val holds no observed target",
    ),
    "X_val with columns in another order": (
        pd.DataFrame(rows(), columns=list("abcd")),
        targets(),
        {},
        {"X_val": pd.DataFrame(rows(), columns=list("badc")), "y_val": targets()},
        r"feature names should match",
    ),
    "early stopping on a task seen once": (
        rows(),
        np.column_stack([targets(), np.where(np.arange(N) == 5, 2.0, np.nan)]),
        {"early_stopping": "y3"},
        {},
        r"early_stopping.*task 'y3' has 1.*X_val",
    ),
    "weights that diverge": (
        rows(),
        targets(),
        {"learning_rate": 1e30, "optimizer": "SGD", "max_epochs": 30, "loss": "weighted"},
        {},
        r"training loss is not finite in epoch \d+\. Lower learning_rate \(learning_rate=1e\+30\)",
    ),
}


def snapshot(value: Any) -> bytes:
    return pickle.dumps(value)


@pytest.mark.filterwarnings("ignore:overflow|invalid value:RuntimeWarning")
@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_and_nothing_changes(case: str) -> None:
    X, y, params, arguments, message = BAD[case]
    passed = snapshot((X, y, arguments))
    est = small().set_params(**params)
    before = snapshot(est.__dict__)
    with pytest.raises(ValueError, match=f"(?s){message}"):
        est.fit(X, y, **arguments)
    assert snapshot(est.__dict__) == before
    with pytest.raises(NotFittedError):
        est.predict(rows())

    fitted = small().fit(rows(), targets())
    expected, attributes = fitted.predict(rows()), dict(fitted.__dict__)
    history = copy.deepcopy(fitted.history_)
    fitted.set_params(**params)
    with pytest.raises(ValueError, match=f"(?s){message}"):
        fitted.fit(X, y, **arguments)
    fitted.set_params(**{name: getattr(small(), name) for name in params})
    assert fitted.__dict__.keys() == attributes.keys()
    learned = [name for name in attributes if name not in small().get_params(deep=False)]
    assert all(fitted.__dict__[name] is attributes[name] for name in learned)
    np.testing.assert_array_equal(fitted.predict(rows()), expected)
    for name, values in history.items():
        np.testing.assert_array_equal(fitted.history_[name], values)
    assert snapshot((X, y, arguments)) == passed


@pytest.mark.parametrize("y", ["array", "frame"])
def test_nothing_the_user_passes_is_changed(y: str) -> None:
    X, target, weight = rows(), KINDS_OF_Y[y](), np.ones((N, 3))
    trunk = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU())
    net_params = {"callbacks": [], "optimizer__betas": (0.9, 0.9)}
    loss = LogProd()
    params = {
        "trunk": trunk,
        "net_params": net_params,
        "loss": loss,
        "class_weight": {"y0" if y == "array" else "defect": "balanced"},
        "early_stopping": True,
    }
    passed = snapshot((X, target, weight, net_params, params["class_weight"]))
    state = {name: value.clone() for name, value in trunk.state_dict().items()}
    est = small(**params).fit(X, target, sample_weight=weight)
    est.predict(X)
    est.predict_frame(X)
    est.score(X, target, sample_weight=weight)
    assert snapshot((X, target, weight, net_params, params["class_weight"])) == passed
    assert all(torch.equal(value, state[name]) for name, value in trunk.state_dict().items())
    assert loss.running is None
    assert all(est.get_params(deep=False)[name] is value for name, value in params.items())


@pytest.mark.parametrize("method", ["predict", "predict_frame", "predict_proba", "embed"])
@pytest.mark.parametrize(
    ("X", "message"),
    [
        (with_cell(np.nan, row=8), r"X contains NaN.*\[8\]"),
        (rows()[:, :2], "X has 2 features, but MultiTaskCNNEstimator is expecting 4"),
        (images(), r"samples of shape \(1, 8, 8\).*shape \(4,\)"),
        (rows()[:0], r"0 sample\(s\)"),
        (rows()[0], "2D array"),
    ],
)
def test_bad_input_of_methods(method: str, X: np.ndarray, message: str) -> None:
    est = small(max_epochs=1).fit(rows(), targets())
    with pytest.raises(ValueError, match=f"(?s){message}"):
        getattr(est, method)(X)


def test_scores_need_as_many_rows() -> None:
    est = small(max_epochs=1).fit(rows(), targets())
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        est.score(rows(), targets()[:-1])
    with pytest.raises(ValueError, match="y"):
        est.score(rows(), None)


# -- an estimator among others ---------------------------------------------------------------


def test_parameters_come_back() -> None:
    trunk, loss = DenseTrunk((3,)), LogProd(decay=0.5)
    est = MultiTaskCNNEstimator(TASKS, trunk=trunk, loss=loss, task_weights={"size": 2.0})
    assert est.get_params(deep=False)["trunk"] is trunk
    assert est.get_params()["trunk__hidden_layer_sizes"] == (3,)
    assert est.tasks is TASKS
    copied = clone(est)
    assert copied.trunk is not trunk
    assert copied.get_params()["trunk__hidden_layer_sizes"] == (3,)
    assert copied.tasks == TASKS
    assert copied.loss is not loss
    assert copied.loss.decay == 0.5
    est.set_params(trunk=ConvTrunk(), trunk__width=7, max_epochs=2)
    assert est.trunk.width == 7
    with pytest.raises(ValueError, match="Invalid parameter 'depth'"):
        est.set_params(depth=3)
    with pytest.raises(ValueError, match="Invalid parameter 'depth'"):
        est.set_params(trunk__depth=3)


def test_a_name_of_a_trunk_has_no_parameters() -> None:
    """And says so in a search, too; a spec in the same call is fine."""
    est = MultiTaskCNNEstimator(trunk="conv")
    message = r"trunk__width cannot be set: trunk='conv' is a name.*trunk=ConvTrunk\(\)"
    with pytest.raises(ValueError, match=message):
        est.set_params(trunk__width=4)
    with pytest.raises(ValueError, match=message):
        GridSearchCV(est, {"trunk__width": [4]}, cv=2).fit(images(), targets())
    assert est.set_params(trunk=ConvTrunk(), trunk__width=4).trunk.width == 4


@pytest.mark.filterwarnings("ignore:Task 'y0' was not learned")  # in so few steps
@pytest.mark.parametrize("way", ["pickle", "joblib", "deepcopy", "save"])
def test_automatic_epochs_stay_automatic(way: str, tmp_path: Path) -> None:
    """In a fitted estimator, its clones and its copies, whose next fit has rows of its own."""
    X, y = np.tile(rows(), (42, 1)), np.tile(targets(), (42, 1))
    trunk = DenseTrunk((8,), n_members=1)  # that leaves out nothing
    est = small(trunk=trunk, max_epochs="auto", batch_size=1000).fit(rows(), targets())
    if way == "save":
        est.save(tmp_path / "est.safetensors")
        other = MultiTaskCNNEstimator.load(tmp_path / "est.safetensors")
    else:
        other = copied(est, way, tmp_path)
    assert other.n_iter_ == est.n_iter_ == 30
    for each in (est, other, clone(est), clone(other)):
        assert each.get_params()["max_epochs"] == each.max_epochs == "auto"
    assert other.fit(X, y).n_iter_ == 16  # 800 / sqrt(2520)
    assert other.set_params(max_epochs=2).fit(X, y).n_iter_ == 2


def test_clone_of_a_fitted_estimator_is_not_fitted() -> None:
    est = clone(small().fit(rows(), targets()))
    with pytest.raises(NotFittedError):
        est.predict(rows())


def same_estimator(est: MultiTaskCNNEstimator, other: MultiTaskCNNEstimator) -> None:
    np.testing.assert_array_equal(other.predict(rows()), est.predict(rows()))
    np.testing.assert_array_equal(other.predict_proba(rows()), est.predict_proba(rows()))
    pd.testing.assert_frame_equal(other.predict_frame(rows()), est.predict_frame(rows()))
    assert other.score(rows(), frame()) == est.score(rows(), frame())
    assert repr(other) == repr(est)
    # It can be trained again, with the same result.
    np.testing.assert_array_equal(
        clone(other).fit(rows(), frame()).predict(rows()), est.predict(rows())
    )


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"loss": "weighted"},
        {"loss": "masked_mse"},
        {"tasks": TASKS},
        {"early_stopping": True},
        {"loss": LogProd(), "trunk": torch.nn.Linear(4, 3)},
    ],
    ids=str,
)
@pytest.mark.parametrize("way", ["pickle", "joblib", "deepcopy"])
def test_copies_predict_the_same(params: dict[str, Any], way: str, tmp_path: Path) -> None:
    est = small(**params).fit(rows(), frame())
    same_estimator(est, copied(est, way, tmp_path))


@pytest.mark.parametrize("way", ["pickle", "joblib", "deepcopy"])
def test_module_of_a_copy_is_the_one_that_predicts(way: str, tmp_path: Path) -> None:
    est = small().fit(rows(), targets())
    other = copied(est, way, tmp_path)
    before = est.predict(rows())
    assert other.module_ is not est.module_
    assert other.module_ is other.net_.module_
    with torch.no_grad():
        other.module_.heads.bias += 1
    np.testing.assert_array_equal(est.predict(rows()), before)
    assert (other.predict(rows())[:, 1] > before[:, 1]).all()


def copied(est: MultiTaskCNNEstimator, way: str, path: Path) -> MultiTaskCNNEstimator:
    if way == "pickle":
        return pickle.loads(pickle.dumps(est))
    if way == "joblib":
        joblib.dump(est, path / "est.joblib")
        return joblib.load(path / "est.joblib")
    return copy.deepcopy(est)


def test_refit_forgets_what_it_learned_before() -> None:
    X = pd.DataFrame(rows(), columns=list("abcd"))
    est = small(early_stopping=True).fit(X, frame())
    assert est.feature_names_in_.tolist() == list("abcd")
    assert est.classes_.tolist() == [0, 1]
    assert "valid_loss" in est.history_
    est.set_params(early_stopping=False, max_epochs=2).fit(rows()[:, :3], targets()[:, 1])
    fresh = small(max_epochs=2).fit(rows()[:, :3], targets()[:, 1])
    assert est.__dict__.keys() == fresh.__dict__.keys()
    for gone in ("feature_names_in_", "classes_", "predict_proba"):
        assert not hasattr(est, gone)
    assert est.n_features_in_ == 3
    assert est.task_names_ == ["y0"]
    assert est.history_.keys() == fresh.history_.keys()
    assert est.n_iter_ == 2
    np.testing.assert_array_equal(est.predict(rows()[:, :3]), fresh.predict(rows()[:, :3]))


def test_feature_names_are_checked() -> None:
    X = pd.DataFrame(rows(), columns=list("abcd"))
    est = small().fit(X, targets())
    for method in ("predict", "predict_proba", "predict_frame", "embed"):
        with pytest.raises(ValueError, match=r"feature names should match.*fit"):
            getattr(est, method)(X[list("dcba")])
    with pytest.raises(ValueError, match="feature names should match"):
        est.score(X.rename(columns={"a": "z"}), targets())
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        est.predict(rows())
    np.testing.assert_array_equal(est.predict(pl.from_pandas(X)), est.predict(X))
    with pytest.warns(UserWarning, match="fitted without feature names"):
        small().fit(rows(), targets()).predict(X)


def test_not_fitted() -> None:
    for method in ("predict", "predict_frame", "embed"):
        with pytest.raises(NotFittedError):
            getattr(small(), method)(rows())
    for method in ("score", "score_tasks"):
        with pytest.raises(NotFittedError):
            getattr(small(), method)(rows(), targets())


# -- what it gives ---------------------------------------------------------------------------


def two_classes() -> pd.DataFrame:
    return frame().assign(grade=np.repeat(["a", "b", "c"], N // 3))


def test_probabilities() -> None:
    one = small().fit(rows(), frame())
    assert isinstance(one.classes_, np.ndarray)
    assert one.predict_proba(rows()).shape == (N, 2)

    two = small().fit(rows(), two_classes())
    assert [c.tolist() for c in two.classes_] == [[0.0, 1.0], ["a", "b", "c"]]
    proba = two.predict_proba(rows())
    assert [p.shape for p in proba] == [(N, 2), (N, 3)]
    predicted = two.predict(rows())
    for p, classes, column in zip(proba, two.classes_, (0, 3), strict=True):
        np.testing.assert_allclose(p.sum(axis=1), 1)
        assert (p >= 0).all()
        np.testing.assert_array_equal(classes[p.argmax(axis=1)], predicted[:, column])

    none = small().fit(rows(), frame()[["brightness", "size"]])
    assert not hasattr(none, "predict_proba")
    assert not hasattr(none, "classes_")
    with pytest.raises(AttributeError, match="predict_proba"):
        none.predict_proba(rows())
    assert not hasattr(small(), "predict_proba")


def test_score_is_the_mean_over_tasks() -> None:
    est = small(max_epochs=20).fit(rows(), two_classes())
    y, predicted = two_classes(), est.predict(rows())
    scores = est.score_tasks(rows(), y)
    assert list(scores) == [*NAMES, "grade"]
    for k, name in enumerate(y):
        seen = y[name].notna().to_numpy()
        kind = est.tasks_[k].kind
        metric = accuracy_score if kind == "classification" else r2_score
        dtype = object if name == "grade" else float
        expected = metric(y[name][seen].to_numpy(dtype), predicted[seen, k].astype(dtype))
        assert scores[name] == pytest.approx(expected)
    assert est.score(rows(), y) == pytest.approx(np.mean(list(scores.values())))


def test_tasks_that_cannot_be_scored_are_left_out() -> None:
    est = small().fit(rows(), frame())
    y = frame()
    everything = est.score_tasks(rows(), y)
    y["size"] = np.where(np.arange(N) == 4, 1.0, np.nan)  # R2 needs two rows
    with pytest.warns(UndefinedMetricWarning, match=r"'size' has 1 observed rows.*needs 2"):
        scores = est.score_tasks(rows(), y)
    assert np.isnan(scores["size"])
    with pytest.warns(UndefinedMetricWarning, match="'size'"):
        score = est.score(rows(), y)
    assert score == pytest.approx((everything["defect"] + everything["brightness"]) / 2)
    with pytest.warns(UndefinedMetricWarning) as record:
        assert np.isnan(est.score(rows(), y * np.nan))
    assert len(record) == 1  # it names all tasks


def test_score_is_weighted() -> None:
    est, weight = small().fit(rows(), frame()), np.random.default_rng(1).integers(0, 3, N)
    again = np.repeat(np.arange(N), weight)
    repeated = est.score_tasks(rows()[again], frame().iloc[again])
    weighted = est.score_tasks(rows(), frame(), sample_weight=weight)
    assert weighted == pytest.approx(repeated)
    assert est.score(rows(), frame(), sample_weight=weight) == pytest.approx(
        np.mean(list(repeated.values()))
    )
    # One weight per cell: a cell of weight 0 is a cell that was not observed.
    cells = np.ones((N, 3))
    cells[::2, 1] = 0
    y = frame()
    y.loc[::2, "brightness"] = np.nan
    assert est.score_tasks(rows(), frame(), sample_weight=cells) == est.score_tasks(rows(), y)


@pytest.mark.parametrize("early_stopping", [False, True])
def test_history(early_stopping: bool) -> None:
    est = small(early_stopping=early_stopping, validation_fraction=0.3, max_epochs=4)
    est.fit(rows(), targets())
    assert est.n_iter_ == 4
    names = {"train_loss", "effective_weight"} | ({"valid_loss"} if early_stopping else set())
    assert est.history_.keys() == names
    for name, values in est.history_.items():
        assert values.shape == (4, 3)
        assert values.dtype == np.float64
        assert (values > 0).all(), name
    assert (est.history_["train_loss"][-1] < est.history_["train_loss"][0]).all()


def test_history_has_the_validation_data_of_fit() -> None:
    est = small().fit(rows(), targets(), X_val=rows(), y_val=targets())
    assert est.history_["valid_loss"].shape == (3, 3)
    assert est.n_iter_ == 3
    y = targets()
    y[:, 1] = np.nan  # a task that the validation data do not hold
    valid = small().fit(rows(), targets(), X_val=rows(), y_val=y).history_["valid_loss"]
    assert np.isnan(valid).all(axis=0).tolist() == [False, True, False]


def test_validation_data_do_not_change_the_training() -> None:
    plain = small().fit(rows(), targets())
    watched = small().fit(rows(), targets(), X_val=rows()[:20], y_val=targets()[:20])
    np.testing.assert_array_equal(plain.predict(rows()), watched.predict(rows()))


@pytest.mark.parametrize("given", [False, True])
def test_early_stopping_stops_and_keeps_the_best(given: bool) -> None:
    X = np.random.default_rng(0).normal(size=(120, 4))
    y = np.random.default_rng(1).normal(size=120)  # nothing to learn
    est = small(
        trunk=DenseTrunk((64, 64), n_members=1),  # else predictions beat the members' loss
        early_stopping=True,
        n_iter_no_change=3,
        max_epochs=200,
        learning_rate=1e-2,
        validation_fraction=0.3,
        tol=0.0,
        loss="weighted",
    )
    valid = {"X_val": X[80:], "y_val": y[80:]} if given else {}
    est.fit(X[:80], y[:80], **valid)
    losses_ = est.history_["valid_loss"][:, 0]
    assert est.n_iter_ == len(losses_) < 200
    assert losses_.argmin() == est.n_iter_ - 4
    if given:
        variance = np.var(y[:80])
        now = np.mean((est.predict(X[80:]) - y[80:]) ** 2) / variance
        assert now == pytest.approx(losses_.min(), rel=1e-4)


@pytest.mark.parametrize("y", ["array", "frame"])
def test_task_weights(y: str) -> None:
    target = KINDS_OF_Y[y]()
    names = ["y0", "y1", "y2"] if y == "array" else NAMES

    def weights(task_weights: Any) -> np.ndarray:
        return small(max_epochs=1, task_weights=task_weights).fit(rows(), target).task_weights_

    np.testing.assert_array_equal(weights(None), [1, 1, 1])
    counts = (~np.isnan(targets())).sum(axis=0)
    np.testing.assert_allclose(weights("n_observed"), 3 * counts / counts.sum())
    np.testing.assert_array_equal(weights([0, 2, 0.5]), [0, 2, 0.5])
    np.testing.assert_array_equal(weights({names[1]: 5}), [1, 5, 1])


def test_task_of_weight_zero_has_no_influence() -> None:
    y = targets()
    est = small(task_weights=[1, 1, 0]).fit(rows(), y)
    y[:, 2] = np.where(np.isnan(y[:, 2]), np.nan, 5 * y[:, 2] ** 3)
    other = small(task_weights=[1, 1, 0]).fit(rows(), y)
    np.testing.assert_array_equal(est.predict(rows())[:, :2], other.predict(rows())[:, :2])


@pytest.mark.parametrize("early_stopping", [False, True])
def test_noise_std(early_stopping: bool) -> None:
    weight = np.random.default_rng(0).random((N, 3)) + 0.1
    units = targets() * [1, 100, 0.01]
    est = small(max_epochs=20, early_stopping=early_stopping).fit(rows(), units, weight)
    assert est.noise_std_.shape == (3,)
    assert np.isnan(est.noise_std_[0])
    assert (est.noise_std_[1:] > 0).all()
    if not early_stopping:
        residual = (est.oob_prediction_ - units)[:, 1:]
        w = np.where(np.isnan(residual), 0, weight[:, 1:])
        expected = np.sqrt((w * np.nan_to_num(residual) ** 2).sum(axis=0) / w.sum(axis=0))
        np.testing.assert_allclose(est.noise_std_[1:], expected, rtol=1e-5)


def test_noise_std_is_that_of_validation_data() -> None:
    """Where nothing else was left out; that of the training rows where they hardly observe it."""
    rng = np.random.default_rng(0)
    X, X_val = rng.normal(size=(60, 8)), rng.normal(size=(40, 8))
    y, y_val = rng.normal(size=(60, 3)), rng.normal(size=(40, 3))
    y_val[9:, 1], y_val[10:, 2] = np.nan, np.nan  # nine targets are too few, and ten are enough
    weight = rng.random((40, 3))
    model = small(trunk=DenseTrunk((32,), n_members=1), max_epochs=60, weight_decay=0.0)
    model.fit(X, y, X_val=X_val, y_val=y_val, sample_weight_val=weight)
    trained = np.sqrt(np.mean((model.predict(X) - y) ** 2, axis=0))
    errors = model.predict(X_val) - y_val
    w = np.where(np.isnan(errors), 0, weight)
    unseen = np.sqrt((w * np.nan_to_num(errors) ** 2).sum(axis=0) / w.sum(axis=0).clip(1))
    assert (trained < 0.9 * unseen)[[0, 2]].all()
    np.testing.assert_allclose(model.noise_std_, [unseen[0], trained[1], unseen[2]], rtol=1e-4)


def test_noise_std_is_that_of_rows_held_out() -> None:
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 8)), rng.normal(size=(60, 2))
    model = small(trunk=DenseTrunk((32,), n_members=1), early_stopping=True)
    model.set_params(validation_fraction=0.3).fit(X, y)
    samples = Samples(X, y, None, None)
    rows = plan_fit(parameters_of(model), samples, hold_out=True).held_out
    assert rows is not None
    errors = model.predict(X[rows]) - y[rows]
    np.testing.assert_allclose(model.noise_std_, np.sqrt(np.mean(errors**2, axis=0)), rtol=1e-4)


def test_noise_std_finds_the_noise() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1000, 2))
    y = X @ [[1.0, -30.0], [2.0, 10.0]] + rng.normal(size=(1000, 2)) * [0.5, 20.0]
    est = small(trunk=DenseTrunk(()), max_epochs=30, learning_rate=3e-2, weight_decay=0.0)
    np.testing.assert_allclose(est.fit(X, y).noise_std_, [0.5, 20.0], rtol=0.1)


@pytest.mark.parametrize(
    ("trunk", "X", "size"),
    [
        ("auto", rows(), 5 * (192 + 2 * 4)),  # which are not clipped, too, as a target is one
        (DenseTrunk((8, 5)), rows(), 5 * (5 + 2 * 4)),
        (DenseTrunk((8, 5), n_members=1), rows(), 5),
        (DenseTrunk(()), rows(), 4),
        ("auto", images(), 128),
        (ConvTrunk(width=4, n_features=9), images(), 9),
        ("dense", images(), 5 * (192 + 64)),
        (torch.nn.Linear(4, 3), rows(), 3),
        (lambda: torch.nn.Linear(4, 6), rows(), 6),
    ],
)
def test_embed(trunk: Any, X: np.ndarray, size: int) -> None:
    est = small(trunk=trunk, max_epochs=1).fit(X, targets())
    embedded = est.embed(X)
    assert embedded.shape == (N, size)
    assert np.isfinite(embedded).all()
    # The heads are linear in it.
    heads = est.module_.heads
    weight, bias = (p.detach().double().numpy() for p in (heads.weight, heads.bias))
    if weight.ndim == 3:  # of members, side by side
        parts = embedded.reshape(N, *weight.shape[:2])
        raw = np.einsum("bmf,mfo->bmo", parts, weight) + bias
    else:
        raw = embedded @ weight.T + bias
    np.testing.assert_allclose(
        fitted_of(est).encoder.decode(raw)[1], est.predict(X)[:, 1], rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize(
    ("shape", "params"),
    [
        ((4, 4), {}),
        ((1, 4, 4), {}),
        ((4, 4, 3), {"data_format": "channels_last"}),
        ((2, 4, 4, 4), {}),
        ((16,), {"input_shape": (2, 8)}),
        ((16,), {"input_shape": (1, 4, 4)}),
        ((16,), {"input_shape": (2, 2, 2, 2)}),
        ((4, 4), {"input_shape": (16,)}),
    ],
    ids=str,
)
def test_inputs_of_every_rank(shape: tuple[int, ...], params: dict[str, Any]) -> None:
    X = np.random.default_rng(0).normal(size=(N, *shape))
    est = small(trunk="auto", max_epochs=1, **params).fit(X, targets())
    assert est.predict(X).shape == (N, 3)
    assert est.n_features_in_ == np.prod(shape)
    assert np.isfinite(est.score(X, targets()))
    alone = est.predict(X[:1])
    np.testing.assert_allclose(alone, est.predict(X)[:1], rtol=1e-4, atol=1e-5)


# -- weights and randomness ------------------------------------------------------------------


def test_weight_per_cell() -> None:
    """What stands in a cell of weight 0 has no influence, not even infinite influence."""
    weight = np.random.default_rng(0).integers(0, 3, size=(N, 3)).astype(float)
    y, other = targets(), targets()
    other[(weight == 0) & ~np.isnan(other)] *= 0
    other[:, 1] = np.where((weight[:, 1] == 0) & ~np.isnan(other[:, 1]), 1e9, y[:, 1])
    one, two = (small().fit(rows(), v, sample_weight=weight) for v in (y, other))
    np.testing.assert_array_equal(one.predict(rows()), two.predict(rows()))
    np.testing.assert_array_equal(one.n_observed_, ((weight > 0) & ~np.isnan(y)).sum(axis=0))


def test_same_weight_in_every_cell_is_a_weight_per_row() -> None:
    weight = np.random.default_rng(0).random(N)
    by_row = small().fit(rows(), targets(), sample_weight=weight)
    by_cell = small().fit(rows(), targets(), sample_weight=np.tile(weight[:, None], 3))
    np.testing.assert_array_equal(by_row.predict(rows()), by_cell.predict(rows()))


@pytest.mark.parametrize("loss", LOSSES)
def test_weights_are_repetitions(loss: str) -> None:
    """In one batch: a weight of 2 is the row twice, a weight of 0 the row left out."""
    weight = np.random.default_rng(0).integers(0, 4, size=N)
    again = np.repeat(np.arange(N), weight)
    params = {"loss": loss, "batch_size": 1000, "class_weight": "balanced", "max_epochs": 10}
    weighted = small(**params).fit(rows(), targets(), sample_weight=weight)
    repeated = small(**params).fit(rows()[again], targets()[again])
    np.testing.assert_allclose(
        weighted.predict_proba(rows()), repeated.predict_proba(rows()), rtol=1e-7
    )
    np.testing.assert_allclose(weighted.predict(rows()), repeated.predict(rows()), rtol=1e-6)
    np.testing.assert_allclose(weighted.noise_std_, repeated.noise_std_, rtol=1e-7)


@pytest.mark.parametrize("factor", [1e-30, 0.1, 3.0, 1e30])
def test_a_common_factor_of_the_weights_changes_nothing(factor: float) -> None:
    weight = np.random.default_rng(0).random(N)
    one, two = (small().fit(rows(), targets(), sample_weight=w) for w in (weight, weight * factor))
    np.testing.assert_allclose(one.predict(rows()), two.predict(rows()), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("kind", [ROWS, IMAGES])
def test_same_seed_same_bits(kind: str) -> None:
    est, X, y = setting(kind)
    est.set_params(batch_size=16)
    first, second = (clone(est).fit(X, y) for _ in range(2))
    np.testing.assert_array_equal(first.predict(X), second.predict(X))
    for name, values in first.history_.items():
        np.testing.assert_array_equal(values, second.history_[name])
    third = clone(est).set_params(random_state=1).fit(X, y)
    assert not np.array_equal(third.predict(X), first.predict(X))
    # A generator gives the same, used afresh, and something new when it is used again.
    shared = np.random.RandomState(0)
    fits = [clone(est).set_params(random_state=np.random.RandomState(0)).fit(X, y) for _ in "ab"]
    np.testing.assert_array_equal(fits[0].predict(X), fits[1].predict(X))
    est.set_params(random_state=shared)
    assert not np.array_equal(est.fit(X, y).predict(X), est.fit(X, y).predict(X))


@pytest.mark.parametrize("random_state", [None, 0, np.random.RandomState(0)])
def test_global_random_states_are_left_alone(random_state: Any) -> None:
    def states() -> bytes:
        numpy_state = np.random.get_state()  # noqa: NPY002 (the global state is the point)
        return snapshot((random.getstate(), numpy_state, torch.get_rng_state().numpy()))

    dropout = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Dropout(0.5))
    before = states()
    est = small(trunk=dropout, random_state=random_state, early_stopping=True)
    est.fit(rows(), targets())
    est.predict(rows())
    est.score(rows(), targets())
    est.embed(rows())
    assert states() == before


def test_fresh_entropy_without_a_seed() -> None:
    one, other = (small(random_state=None).fit(rows(), targets()) for _ in range(2))
    assert not np.array_equal(one.predict(rows()), other.predict(rows()))


def test_predictions_do_not_depend_on_neighbours() -> None:
    est = small(max_epochs=5).fit(rows(), targets())
    order = np.random.default_rng(0).permutation(N)
    np.testing.assert_allclose(est.predict(rows())[order], est.predict(rows()[order]), rtol=1e-6)
    np.testing.assert_allclose(est.predict(rows())[:7], est.predict(rows()[:7]), rtol=1e-6)


# -- documentation ---------------------------------------------------------------------------


def public() -> dict[str, Any]:
    modules = [sklearn_mtl, networks, losses, metrics, datasets]
    members = {n: getattr(m, n) for m in modules for n in m.__all__}
    return {n: v for n, v in members.items() if inspect.isclass(v) or inspect.isfunction(v)}


def documented_parameters(doc: str) -> dict[str, str]:
    """Name and type line of each parameter of a numpydoc docstring."""
    section = re.search(r"(?ms)^Parameters\n-+\n(.*?)(?=^\w[^\n]*\n-{3,}$|\Z)", doc)
    if section is None:
        return {}
    found = {}
    for names, kind in re.findall(r"(?m)^\**(\w[\w, ]*) : (.*)$", section[1]):
        found |= dict.fromkeys(names.split(", "), kind)
    return found


def check_documentation(function: Any, doc: str) -> None:
    """Every parameter is documented, in order, with the default of the signature."""
    documented = documented_parameters(doc)
    parameters = {
        name: parameter
        for name, parameter in inspect.signature(function).parameters.items()
        if name != "self"
    }
    assert list(documented) == list(parameters)
    for name, parameter in parameters.items():
        said = re.search(r"default=(.+)$", documented[name])
        if parameter.default is inspect.Parameter.empty:
            assert said is None, name
        elif said is None:
            assert parameter.default is None, name
            assert "optional" in documented[name], name
        else:
            assert ast.literal_eval(said[1]) == parameter.default, name


@pytest.mark.parametrize(
    "name", [n for n, v in public().items() if documented_parameters(inspect.getdoc(v) or "")]
)
def test_documented_defaults_are_those_of_the_signature(name: str) -> None:
    check_documentation(public()[name], inspect.getdoc(public()[name]) or "")


def test_estimator_documents_every_parameter() -> None:
    doc = inspect.getdoc(MultiTaskCNNEstimator) or ""
    assert list(documented_parameters(doc)) == list(
        inspect.signature(MultiTaskCNNEstimator).parameters
    )


@pytest.mark.parametrize("pipeline", [False, True])
def test_html_says_what_parameters_mean(pipeline: bool) -> None:
    estimator: Any = MultiTaskCNNEstimator(max_epochs=3)
    if pipeline:
        estimator = make_pipeline(StandardScaler(), estimator)
    html = estimator._repr_html_()
    for name in MultiTaskCNNEstimator().get_params():
        assert f"position-anchor: --doc-link-{name};" in html
    assert "Passes over the training rows" in html


@pytest.mark.parametrize(
    "method",
    [
        name
        for name, member in vars(MultiTaskCNNEstimator).items()
        if not name.startswith("_") and (inspect.isfunction(member) or hasattr(member, "fn"))
    ],
)
def test_methods_are_documented(method: str) -> None:
    function = vars(MultiTaskCNNEstimator)[method]
    function = getattr(function, "fn", function)  # available_if
    doc = inspect.getdoc(function) or ""
    assert len(doc.splitlines()) > 1, f"{method} has no docstring"
    check_documentation(function, doc)


def test_fitted_attributes_are_documented() -> None:
    doc = inspect.getdoc(MultiTaskCNNEstimator) or ""
    section = re.search(r"(?ms)^Attributes\n-+\n(.*?)(?=^\w[^\n]*\n-{3,}$|\Z)", doc)
    assert section is not None
    documented = set(re.findall(r"(?m)^(\w+_) : ", section[1]))
    est = small().fit(pd.DataFrame(rows(), columns=list("abcd")), targets())
    fitted = {name for name in dir(est) if name.endswith("_") and not name.startswith("_")}
    assert documented == fitted | {"thresholds_"}  # of tasks that have one


# -- traps that reviewers and users found --------------------------------------------------------


class View(torch.nn.Module):
    """The most common way to flatten, which needs contiguous memory."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x.view(len(x), 3, -1).view(x.shape)).view(x.size(0), -1)


@pytest.mark.parametrize("data_format", ["channels_first", "channels_last"])
def test_a_trunk_may_view(data_format: str) -> None:
    X = np.random.default_rng(0).normal(size=(N, 3, 8, 8))
    X = X if data_format == "channels_first" else np.moveaxis(X, 1, -1)
    est = MultiTaskCNNEstimator(trunk=View(), data_format=data_format, max_epochs=1)
    assert est.fit(X, targets()).predict(X).shape == (N, 3)


class ViewsGradients(torch.optim.SGD):
    """As optimizers do that see matrices in the filters of convolutions."""

    def step(self, closure: Any = None) -> Any:
        loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                p.grad.view(len(p), -1)
        return loss


class OwnLBFGS(torch.optim.LBFGS):
    pass


@pytest.mark.parametrize("optimizer", ["LBFGS", OwnLBFGS, ViewsGradients])
def test_optimizers_that_view_gradients(optimizer: Any) -> None:
    X = np.random.default_rng(0).normal(size=(N, 3, 8, 8))
    est = MultiTaskCNNEstimator(optimizer=optimizer, max_epochs=1, random_state=0)
    assert np.isfinite(est.fit(X, targets()).predict(X)).all()


class FlatGradients(Callback):
    """Makes one vector of the gradients, and takes them out again, as gradient surgery does."""

    def on_grad_computed(self, net: Any, named_parameters: Any, **kwargs: Any) -> None:
        params = [p for _, p in named_parameters]
        flat = torch.cat([p.grad.reshape(-1) for p in params])
        for p, part in zip(params, flat.split([p.numel() for p in params]), strict=True):
            p.grad = part.view(p.shape)


class TransposedGradients(Callback):
    """Gives gradients back in another memory order."""

    def on_grad_computed(self, net: Any, named_parameters: Any, **kwargs: Any) -> None:
        for _, p in named_parameters:
            p.grad = p.grad.mT.contiguous().mT if p.ndim > 1 else p.grad


class SilentGradients(Callback):
    def on_grad_computed(self, net: Any, named_parameters: Any, **kwargs: Any) -> None:
        pass


@pytest.mark.parametrize("optimizer", ["AdamW", "SGD", "Adagrad"])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_the_memory_order_of_gradients_changes_nothing(optimizer: str, layout: Any) -> None:
    """Fused optimizers take weights and gradients as they stand in memory."""
    X = np.random.default_rng(0).normal(size=(N, 3, 8, 8))
    conv = torch.nn.Conv2d(3, 4, 3).to(memory_format=layout)
    trunk = torch.nn.Sequential(conv, torch.nn.ReLU(), torch.nn.Flatten())
    first, *others = (
        MultiTaskCNNEstimator(
            trunk=trunk,
            optimizer=optimizer,
            learning_rate=0.01,
            max_epochs=2,
            random_state=0,
            net_params={"callbacks": [callback()]},
        )
        .fit(X, targets())
        .predict(X)
        for callback in (SilentGradients, FlatGradients, TransposedGradients)
    )
    for other in others:
        np.testing.assert_allclose(other, first, rtol=1e-6)


def test_a_reader_that_cannot_be_written_to() -> None:
    """As when joblib maps a file into memory."""
    est = small().fit(rows(), targets())
    expected = est.predict(rows())
    reader = fitted_of(est).reader
    reader.mean_.flags.writeable = reader.scale_.flags.writeable = False
    np.testing.assert_array_equal(est.predict(rows()), expected)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"loss": LogProd(), "task_weights": [1, 2, 1]}, "task_weights is set, but loss is an"),
        ({"loss": torch.nn.MSELoss()}, "loss=MSELoss.* combines task losses"),
        ({"loss": LogProd}, "loss=LogProd is a class"),
        ({"loss": lambda losses, counts: losses}, "loss=.*scalar"),
        ({"loss": lambda a, b, c: a.sum()}, "loss=.* fails for 3 tasks, called with losses and"),
        ({"loss": lambda losses: losses[3]}, "loss=.* fails for 3 tasks, called with losses of"),
        ({"loss": LogProd(torch.ones(2))}, "loss=.* fails for 3 tasks"),
        ({"loss": Uncertainty(torch.ones(2))}, "loss=.* fails for 3 tasks"),
        ({"loss": lambda losses: 1.0}, "loss=.*scalar tensor, got 1.0"),
        ({"loss": lambda losses: losses.sum().detach()}, "loss=.*differentiable scalar"),
        ({"trunk": DenseTrunk}, "trunk=DenseTrunk is a class"),
        ({"trunk": torch.nn.Linear(9, 9)}, "trunk fails on a batch"),
        ({"net_params": {"lr": 1.0}}, "net_params sets .'lr'"),
        ({"net_params": {"iterator_train__shuffle": True}}, "net_params sets .'iterator_train"),
        ({"device": "gpu"}, "device='gpu'"),
        ({"optimizer": "Adamm"}, "optimizer='Adamm'"),
    ],
)
def test_a_wrong_part_is_named(params: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MultiTaskCNNEstimator(**params, max_epochs=1).fit(rows(), targets())


@pytest.mark.parametrize(
    ("shape", "params", "message"),
    [
        ((8, 8, 3), {"input_shape": (3, 8, 8)}, "data_format='channels_last' too"),
        (
            (8, 8, 3),
            {"input_shape": (8, 8, 3), "data_format": "channels_last"},
            r"input_shape=\(3, 8, 8\)",
        ),
    ],
)
def test_channels_are_not_scrambled(shape: tuple[int, ...], params: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MultiTaskCNNEstimator(**params, max_epochs=1).fit(np.zeros((N, *shape)), targets())


def test_n_observed_weighs_repeated_rows_alike() -> None:
    X, y = rows(), targets()
    weight = np.where(np.isnan(y).any(axis=1), 1, 2)
    one = small(task_weights="n_observed").fit(X, y, sample_weight=weight)
    other = small(task_weights="n_observed").fit(X.repeat(weight, 0), y.repeat(weight, 0))
    np.testing.assert_allclose(one.task_weights_, other.task_weights_)


def test_weights_in_a_frame_are_matched_by_name() -> None:
    y = pd.DataFrame(targets(), columns=NAMES)
    weight = pd.DataFrame(1.0, index=y.index, columns=NAMES)
    weight.loc[: N // 2, "brightness"] = 0.0
    est = small(tasks=[TASKS[1], TASKS[0], TASKS[2]]).fit(rows(), y, sample_weight=weight)
    assert est.n_observed_[0] == y["brightness"].loc[N // 2 + 1 :].notna().sum()
    assert est.n_observed_[1] == y["defect"].notna().sum()
    with pytest.raises(ValueError, match=r"sample_weight has the columns .*'defect'"):
        est.fit(rows(), y, sample_weight=weight.add_prefix("w_"))
    weights = pd.Series({"size": 0.5, "brightness": 3.0})
    est = small(tasks=TASKS, task_weights=weights).fit(rows(), y)
    assert est.task_weights_.tolist() == [1.0, 3.0, 0.5]


def test_the_scale_of_a_tasks_weights_does_not_matter() -> None:
    weight = np.ones((N, 3))
    one = small().fit(rows(), targets(), sample_weight=weight)
    other = small().fit(rows(), targets(), sample_weight=weight * [1, 1e-60, 1e60])
    np.testing.assert_allclose(one.predict(rows()), other.predict(rows()), rtol=1e-9)


def test_a_failure_after_training_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    est = small().fit(rows(), targets())
    before = dict(vars(est))

    def fail(*args: Any) -> None:
        raise MemoryError

    monkeypatch.setattr("sklearn_mtl._training.fit.raw_left_out", fail)
    with pytest.raises(MemoryError):
        est.fit(rows() + 1, targets())
    assert vars(est) == before


def test_an_unknown_conditional_output_is_refused_after_fit_too() -> None:
    est = small().fit(rows(), targets()).set_params(conditional_output="NaN")
    with pytest.raises(ValueError, match="conditional_output='NaN' is unknown"):
        est.predict(rows())


def test_a_gate_may_lack_a_label_as_in_a_fold() -> None:
    y = pd.DataFrame({"gate": ["a", "b"] * (N // 2), "depth": [1.0, np.nan] * (N // 2)})
    tasks = [Task("gate", "classification"), Task("depth", "regression", ("gate", ["a", "rare"]))]
    with pytest.warns(UserWarning, match=r"'gate' has no label \['rare'\] here"):
        est = small(tasks=tasks).fit(rows()[: len(y)], y)
    assert est.n_applicable_[1] == N // 2
    # Scored on the other fold: the label counts as the gate says, any other new one does not.
    y.loc[0, "gate"] = "rare"
    assert np.isfinite(est.score(rows()[: len(y)], y))
    y.loc[0, "gate"] = "new"
    with pytest.raises(ValueError, match=r"'depth' exists only given .* the first \[0\]"):
        est.score(rows()[: len(y)], y)


@pytest.mark.parametrize("labels", [[0.5, 1.0, 1.5], list(pd.cut([1, 2, 3], 3))])
def test_labels_of_any_type_are_scored(labels: list[Any]) -> None:
    y = pd.Series([labels[k % 3] for k in range(N)], name="stars")
    est = small(tasks=[Task("stars", "classification", categories=labels)]).fit(rows(), y)
    assert est.score(rows(), y) == np.mean(est.predict(rows()) == y.to_numpy())


def test_fits_in_threads_do_not_mix_their_draws() -> None:
    state = torch.get_rng_state()
    fits = joblib.Parallel(4, backend="threading")(
        joblib.delayed(lambda: small(max_epochs=3).fit(rows(), targets()).predict(rows()))()
        for _ in range(8)
    )
    assert all(np.array_equal(fit, fits[0]) for fit in fits)
    assert torch.equal(torch.get_rng_state(), state)


# -- threads ---------------------------------------------------------------------------------


THREADS = """
import os
from joblib import Parallel, delayed

def threads():
    import torch
    from sklearn_mtl import MultiTaskCNNEstimator
    before = torch.get_num_threads()
    MultiTaskCNNEstimator(max_epochs=1).fit([[0.0], [1.0]] * 5, [0.0, 1.0] * 5)
    assert torch.get_num_threads() == before, "fit changes the number of threads"
    return before

if __name__ == "__main__":
    print(*Parallel(2)([delayed(threads)()]), os.cpu_count())  # as searches do
"""


def test_searches_in_processes_share_the_cores(tmp_path: Path) -> None:
    """Two at once get half of the cores each, though nobody limits the threads."""
    script = tmp_path / "threads.py"  # functions of a script are found by its processes
    script.write_text(THREADS)
    free = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    answer = subprocess.run(
        [sys.executable, str(script)], env=free, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stderr
    n_threads, n_cores = map(int, answer.stdout.split())
    assert n_threads <= max(1, n_cores // 2)
