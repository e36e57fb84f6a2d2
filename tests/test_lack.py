"""Tasks without a target in `fit`, and labels known beforehand: one task's lack is its own."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score, cross_validate
from torch import nn

from sklearn_mtl import MultiTaskCNNEstimator, Task, task_view
from sklearn_mtl.metrics import task_scorer, task_scorers
from sklearn_mtl.model_selection import cross_val_predict_tasks
from sklearn_mtl.networks import DenseTrunk

N = 60
TASKS = [
    Task("tree", "classification"),
    Task("height", "regression"),
    Task("nests", "poisson"),
    Task("health", "ordinal", categories=["poor", "fair", "good"]),
    Task("fruit", "gamma", given=("tree", "pear")),
]
NAMES = [task.name for task in TASKS]


def orchard() -> tuple[np.ndarray, pd.DataFrame]:
    rng = np.random.default_rng(4)
    X = rng.normal(size=(N, 4))
    pear = X[:, 0] > 0
    y = {
        "tree": np.where(pear, "pear", "plum"),
        "height": 3 * X[:, 1] + 20,
        "nests": rng.poisson(np.exp(X[:, 2])).astype(float),
        "health": np.where(X[:, 3] > 0, "good", "poor"),
        "fruit": np.where(pear, np.exp(X[:, 1]), np.nan),
    }
    return X, pd.DataFrame(y)


def without(*names: str) -> pd.DataFrame:
    """Targets without these; a conditional one can only be where its gate is."""
    y = orchard()[1]
    if "tree" in names:
        y.loc[y["tree"] == "plum", "fruit"] = np.nan
    return y.assign(**dict.fromkeys(names, np.nan))


def small(**params: Any) -> MultiTaskCNNEstimator:
    defaults = {
        "tasks": TASKS,
        "trunk": DenseTrunk((8,), n_members=2),
        "max_epochs": 2,
        "random_state": 0,
    }
    return MultiTaskCNNEstimator(**(defaults | params))


def quiet(call: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return call()


def one_layer() -> nn.Module:
    return nn.Linear(4, 6)


# -- fit -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "trunk", [DenseTrunk((8,), n_members=2), one_layer, "tabm"], ids=["dense", "module", "tabm"]
)
@pytest.mark.parametrize("hidden", [0, 3])
def test_the_others_train(trunk: Any, hidden: int) -> None:
    X, y = orchard()
    est = small(trunk=trunk, head_hidden_units=hidden)
    with pytest.warns(UserWarning, match=r"The tasks \['height', 'health'\] have no observed") as w:
        est.fit(X, without("height", "health"))
    assert len(w) == 1
    frame = est.predict_frame(X)
    assert frame["height"].isna().all()
    assert frame.drop(columns="height").notna().all(axis=None)
    np.testing.assert_allclose(est.predict_proba(X)[1], 1 / 3)
    with pytest.warns(UndefinedMetricWarning, match="'height' had no observed value in fit"):
        scores = est.score_tasks(X, y)
    assert [name for name, score in scores.items() if np.isnan(score)] == ["height", "health"]
    assert quiet(lambda: est.score(X, y)) == pytest.approx(np.nanmean(list(scores.values())))
    assert est.n_observed_.tolist() == [N, 0, N, 0, y["fruit"].notna().sum()]
    assert np.isnan(est.noise_std_[1])


def test_what_members_leave_out_is_scored_without_it() -> None:
    X, _ = orchard()
    est = quiet(lambda: small().fit(X, without("height")))
    assert np.isnan(est.oob_score_["height"])
    assert np.isfinite([s for name, s in est.oob_score_.items() if name != "height"]).all()
    assert pd.isna(est.oob_prediction_[:, 1]).all()
    grouped = quiet(lambda: small().fit(X, without("height"), groups=np.arange(N) % 9))
    assert list(grouped.oob_score_) == NAMES


def test_a_class_without_labels_keeps_its_place(tmp_path: Path) -> None:
    X, y = orchard()
    with (
        pytest.warns(UserWarning, match="Task 'tree' has no observed value"),
        pytest.warns(UserWarning, match="'fruit'.* has no such label here"),
    ):
        est = small().fit(X, without("tree"))
    assert [labels.tolist() for labels in est.classes_] == [[], ["poor", "fair", "good"]]
    assert [p.shape for p in est.predict_proba(X)] == [(N, 0), (N, 3)]
    assert pd.isna(est.predict(X)[:, 0]).all()
    assert pd.notna(est.predict(X)[:, 1:]).all()
    for rule in ("nan", "expected"):  # whether the gate holds is not known
        assert pd.isna(est.set_params(conditional_output=rule).predict(X)[:, 4]).all()
    assert task_view(est, "tree").predict_proba(X).shape == (N, 0)
    est.set_params(conditional_output="estimate").save(tmp_path / "m")
    again = MultiTaskCNNEstimator.load(tmp_path / "m")
    pd.testing.assert_frame_equal(again.predict_frame(X), est.predict_frame(X))
    assert np.isnan(quiet(lambda: again.score_tasks(X, y))["tree"])


def test_what_was_not_observed_is_written_and_exported(tmp_path: Path) -> None:
    X, _ = orchard()
    est = quiet(lambda: small().fit(X, without("height", "health")))
    est.save(tmp_path / "m")
    again = MultiTaskCNNEstimator.load(tmp_path / "m")
    pd.testing.assert_frame_equal(again.predict_frame(X), est.predict_frame(X))
    out = est.as_module()(torch.from_numpy(X).float())
    assert out["height"].isnan().all()
    np.testing.assert_allclose(out["health"].numpy(force=True), 1 / 3, rtol=1e-6)
    runtime = pytest.importorskip("onnxruntime", reason="runs the graphs")
    est.to_onnx(tmp_path / "m.onnx")
    found = runtime.InferenceSession(tmp_path / "m.onnx").run(None, {"X": X.astype(np.float32)})
    assert np.isnan(found[1]).all()
    np.testing.assert_allclose(found[3], 1 / 3, rtol=1e-6)


def test_nothing_observed_at_all_is_an_error() -> None:
    X, _ = orchard()
    with pytest.raises(ValueError, match=r"None of the tasks .* has an observed value"):
        small().fit(X, without(*NAMES))


def test_a_gate_label_that_a_fold_lacks() -> None:
    X, y = orchard()
    plums = (y["tree"] == "plum").to_numpy()
    with (
        pytest.warns(UserWarning, match="Task 'fruit' has no observed value"),
        pytest.warns(UserWarning, match="'tree' has one observed label"),
    ):
        est = small().fit(X[plums], y[plums])
    with pytest.warns(UndefinedMetricWarning, match="'fruit' had no observed value"):
        assert np.isfinite(est.score(X, y))
    slip = [*TASKS[:4], Task("fruit", "gamma", given=("tree", "pears"))]
    with pytest.raises(ValueError, match="'tree' has no such label"):
        small(tasks=slip).fit(X, y)


# -- validation, warm starts, streams --------------------------------------------------------


def test_early_stopping_looks_at_what_can_be_held_out() -> None:
    X, _ = orchard()
    y = without("height")
    y.loc[1:, "nests"] = np.nan
    est = small(early_stopping=True)
    with (
        pytest.warns(UserWarning, match="Task 'height' has no observed value"),
        pytest.warns(UserWarning, match=r"early_stopping does not look at \['nests'\]"),
    ):
        est.fit(X, y)
    assert np.isnan(est.history_["valid_loss"][:, 1:3]).all()
    assert np.isfinite(est.history_["train_loss"][:, 2]).all()  # its only row
    assert np.isfinite(est.history_["valid_loss"][:, [0, 3]]).all()
    quiet(lambda: small(early_stopping=["height", "tree"]).fit(X, y))
    with pytest.raises(ValueError, match="task 'height' has 0"):
        quiet(lambda: small(early_stopping="height").fit(X, y))


def test_validation_targets_of_what_was_not_observed_are_not_heard() -> None:
    X, y = orchard()
    est = quiet(lambda: small().fit(X, without("tree", "height"), X_val=X, y_val=y))
    valid = est.history_["valid_loss"]
    assert np.isnan(valid[:, :2]).all()
    assert np.isfinite(valid[:, 2:]).all()


def test_a_warm_start_learns_first_targets_and_keeps_what_it_knew() -> None:
    X, y = orchard()
    est = quiet(
        lambda: small(warm_start=True, max_epochs=20, learning_rate=0.02).fit(X, without("height"))
    )
    assert est.fit(X, y).score_tasks(X, y)["height"] > 0.5
    with pytest.warns(UserWarning, match="Task 'nests' has no observed .* learned before stays"):
        est.fit(X, without("nests"))
    assert np.isfinite(est.predict(X)[:, 2].astype(float)).all()
    unknown = quiet(lambda: small(warm_start=True).fit(X, without("tree")))
    with pytest.raises(ValueError, match=r"label .* was not seen in fit.*categories=\[...\]"):
        unknown.fit(X, y)


@pytest.mark.parametrize("loss", ["logprod", "weighted", "uncertainty", "masked_mse"])
@pytest.mark.parametrize("trunk", [DenseTrunk((16,)), one_layer], ids=["dense", "module"])
def test_a_stream_learns_a_task_from_its_first_targets(loss: str, trunk: Any) -> None:
    X, y = orchard()
    est = small(loss=loss, trunk=trunk, batch_size=16, learning_rate=0.02)
    with pytest.warns(UserWarning, match="Until a call holds some, predictions are NaN"):
        est.partial_fit(X, without("height", "health"), classes={"tree": ["plum", "pear"]})
    assert pd.isna(est.predict(X)[:, 1]).all()
    np.testing.assert_allclose(est.predict_proba(X)[1], 1 / 3)
    est.partial_fit(X, y)
    assert est.n_observed_[:4].tolist() == [2 * N, N, 2 * N, N]
    assert np.abs(est.predict(X)[:, 1].astype(float) - y["height"]).max() < 20
    for _ in range(20):
        est.partial_fit(X, y)
    scores = est.score_tasks(X, y)
    assert scores["height"] > 0.8
    assert scores["tree"] > 0.7
    assert scores["health"] > 0.5


def test_a_stream_of_tasks_in_turns_goes_on_with_its_optimizer() -> None:
    X, _ = orchard()
    first, second = without("height"), without("nests")
    est = quiet(lambda: small().partial_fit(X, first, classes={"tree": ["plum", "pear"]}))

    def n_steps() -> float:
        return max(float(s["step"]) for s in est.net_.optimizer_.state.values())

    est.partial_fit(X, second)
    once = n_steps()
    for k, y in enumerate([first, second] * 3):
        est.partial_fit(X, y)
        assert n_steps() == once * (k + 2)
    assert np.isfinite(est.predict(X)[:, 1:3].astype(float)).all()


# -- folds -----------------------------------------------------------------------------------


def rare() -> pd.DataFrame:
    """All targets of two tasks lie in the first of four folds."""
    y = orchard()[1]
    y.loc[5:, "height"] = np.nan
    y["tree"] = np.where(y.index < 8, "pear", "plum")
    y["fruit"] = np.where(y.index < 8, 1.0 + y.index, np.nan)
    return y


def test_scores_of_folds_are_means_of_what_can_be_scored() -> None:
    X, y = orchard()[0], rare()
    scores = quiet(lambda: cross_val_score(small(), X, y, cv=KFold(4)))
    assert np.isfinite(scores).all()
    grid = {"learning_rate": [1e-6, 1e-2]}
    search = GridSearchCV(small(max_epochs=20), grid, cv=KFold(4))
    assert quiet(lambda: search.fit(X, y)).best_params_ == {"learning_rate": 1e-2}
    scoring = task_scorers({"height": "r2", "tree": None, "health": None})
    found = quiet(lambda: cross_validate(small(), X, y, cv=KFold(4), scoring=scoring))
    assert np.isnan(found["test_height_r2"]).all()
    assert np.isfinite(found["test_tree"]).all()
    assert np.isfinite(found["test_health"]).all()


def test_a_scorer_of_a_task_that_fit_did_not_observe() -> None:
    X, y = orchard()
    est = quiet(lambda: small().fit(X, without("tree", "fruit")))
    for name in ("tree", "fruit"):
        with pytest.warns(UndefinedMetricWarning, match=f"'{name}' had no observed value in fit"):
            assert np.isnan(task_scorer(name)(est, X, y))
        with pytest.warns(UndefinedMetricWarning, match=f"'{name}' had no observed value in fit"):
            assert np.isnan(task_view(est, name).score(X, y[name]))


def test_predictions_of_folds_are_holes_where_nothing_was_learned() -> None:
    X, y = orchard()[0], rare()
    found = quiet(lambda: cross_val_predict_tasks(small(), X, y, cv=KFold(4)))
    assert np.isnan(found["height"][:15]).all()
    assert np.isfinite(found["height"][15:]).all()
    assert np.isfinite(found["nests"]).all()
    y["tree"] = np.where(y.index < 15, y["tree"], None)
    y["fruit"] = y["fruit"].where(y.index < 8)
    proba = quiet(
        lambda: cross_val_predict_tasks(small(), X, y, cv=KFold(4), method="predict_proba")
    )
    assert np.isnan(proba["tree"][:15]).all()
    np.testing.assert_allclose(proba["tree"][15:].sum(axis=1), 1)


# -- labels known beforehand -----------------------------------------------------------------

TREES = Task("tree", "classification", categories=["quince", "pear", "plum"])
DECLARED = [TREES, *TASKS[1:4], Task("fruit", "gamma", given=("tree", ["pear", "quince"]))]


def test_categories_are_the_classes(tmp_path: Path) -> None:
    X, y = orchard()
    est = small(tasks=DECLARED, class_weight={"tree": "balanced"}).fit(X, y)
    assert est.classes_[0].tolist() == ["pear", "plum", "quince"]
    proba = est.predict_proba(X)[0]
    assert (proba[:, 2] > 0).all()
    assert proba[:, 2].max() < 0.1
    later = y.assign(tree=["quince", *y["tree"][1:]])
    view = est.task_view("tree")
    assert view.classes_.tolist() == ["pear", "plum", "quince"]
    assert view.score(X, later["tree"]) == est.score_tasks(X, later)["tree"] < 1
    assert np.isfinite(task_scorer("tree", "neg_log_loss")(est, X, later))
    est.save(tmp_path / "m")
    again = MultiTaskCNNEstimator.load(tmp_path / "m")
    assert again.tasks == DECLARED
    np.testing.assert_array_equal(again.predict_proba(X)[0], proba)


def test_weights_of_labels_that_are_not_observed_are_no_weights() -> None:
    X, y = orchard()
    weights = {"pear": 0, "plum": 0, "quince": 1}
    with pytest.raises(ValueError, match=r"Task 'tree': class_weight=.*not 0 for all labels of y"):
        small(tasks=DECLARED, class_weight={"tree": weights}).fit(X, y)
    small(tasks=DECLARED, class_weight={"tree": weights | {"plum": 1}}).fit(X, y)


def test_validation_data_and_streams_hold_labels_that_training_rows_lack() -> None:
    X, y = orchard()
    later = y.assign(tree="quince", health="fair", fruit=2.0)
    est = small(tasks=DECLARED).fit(X, y, X_val=X, y_val=later)
    assert np.isfinite(est.history_["valid_loss"]).all()
    stream = small(tasks=DECLARED, learning_rate=0.05).partial_fit(X, y)
    for _ in range(20):
        stream.partial_fit(X, later)
    assert set(stream.predict(X)[:, 0]) == {"quince"}


def test_frames_hold_labels_that_the_type_of_y_does_not() -> None:
    X, y = orchard()
    y = y.assign(tree=y["tree"].astype("category"))
    est = small(tasks=DECLARED, learning_rate=0.05).partial_fit(X, y)
    later = y.assign(tree="quince", fruit=2.0)
    for _ in range(20):
        est.partial_fit(X, later)
    assert set(est.predict_frame(X)["tree"]) == {"quince"}


@pytest.mark.parametrize("labels", [[0, 1, 2], [0.0, 1.0, 2.0], np.array([2, 1, 0])])
def test_categories_of_numbers(labels: Any) -> None:
    X = orchard()[0]
    y = np.column_stack([X[:, 0] > 0, X[:, 1]]).astype(float)
    est = small(tasks=[Task("a", "classification", categories=labels), Task("b", "regression")])
    assert est.fit(X, y).classes_.tolist() == [0, 1, 2]
    assert est.predict(X).dtype == float


@pytest.mark.parametrize("kind", ["classification", "ordinal"])
def test_labels_that_are_no_categories_are_refused(kind: str) -> None:
    X, y = orchard()
    y = y[["health"]]
    short = [Task("health", kind, categories=["poor", "fair"])]
    message = r"Task 'health': y holds labels \['good'\] that are not among the categories"
    with pytest.raises(ValueError, match=message):
        small(tasks=short).fit(X, y)
    est = small(tasks=short).fit(X, y.replace("good", "fair"))
    with pytest.raises(ValueError, match=message):
        est.score(X, y)
    with pytest.raises(ValueError, match=message):
        est.partial_fit(X, y)
