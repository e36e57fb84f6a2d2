"""Thresholds and calibration: on rows that were not trained on."""

from __future__ import annotations

import copy
import functools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy.special import expit, logit, softmax
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import (
    balanced_accuracy_score,
    f1_score,
    fbeta_score,
    log_loss,
    make_scorer,
    precision_recall_curve,
    roc_curve,
    zero_one_loss,
)
from sklearn.model_selection import GridSearchCV, TunedThresholdClassifierCV

from sklearn_mtl import MultiTaskCNNEstimator, Task, task_view
from sklearn_mtl.kinds import ClassificationTarget
from sklearn_mtl.kinds.deciding import find_threshold, scale_logits
from sklearn_mtl.networks import ConvTrunk, DenseTrunk

rng = np.random.default_rng(0)
QUICK = {
    "trunk": DenseTrunk((16,)),
    "max_epochs": 12,
    "learning_rate": 0.02,
    "random_state": 0,
}

# -- thresholds by hand -----------------------------------------------------------------------


def test_the_best_threshold_lies_between_two_probabilities() -> None:
    proba = np.array([0.1, 0.2, 0.3, 0.6])
    codes = np.array([0.0, 0.0, 1.0, 1.0])
    assert find_threshold(proba, codes, np.ones(4), "accuracy") == pytest.approx(0.25)


def test_a_threshold_agrees_with_that_of_scikit_learn() -> None:
    X = rng.normal(size=(400, 3))
    y = (rng.random(400) < expit(X[:, 0] - 2)).astype(int)
    model = LogisticRegression().fit(X, y)
    tuned = TunedThresholdClassifierCV(model, scoring="f1", cv="prefit", refit=False).fit(X, y)
    proba = model.predict_proba(X)[:, 1]
    ours = find_threshold(proba, y.astype(float), np.ones(400), "f1")
    assert f1_score(y, proba >= ours) >= tuned.best_score_ - 0.01


def test_a_weight_is_as_good_as_a_row_twice() -> None:
    proba, codes = rng.random(60), (rng.random(60) < 0.4).astype(float)
    weight = rng.integers(1, 4, 60).astype(float)
    times = np.repeat(np.arange(60), weight.astype(int))
    once = find_threshold(proba, codes, weight, "balanced_accuracy")
    twice = find_threshold(proba[times], codes[times], np.ones(len(times)), "balanced_accuracy")
    assert once == twice


def test_there_is_no_threshold_with_one_class() -> None:
    assert find_threshold(np.array([0.1, 0.2]), np.ones(2), np.ones(2), "f1") is None


def test_a_threshold_says_from_where_on_the_second_class_is_predicted() -> None:
    kind = ClassificationTarget(threshold=0.2).fit(np.array(["no", "yes"]), np.ones(2))
    raw = np.zeros((3, 1, 2))
    raw[:, 0, 1] = logit([0.19, 0.2000001, 0.9])
    assert kind.decode(raw).tolist() == ["no", "yes", "yes"]


def test_tuning_is_never_worse_than_not_tuning() -> None:
    """Where folds differ by their constants alone, what divides them says nothing."""
    proba = np.repeat([0.10, 0.11], 50)
    codes = (np.arange(100) % 10 == 0).astype(float)
    threshold = find_threshold(proba, codes, np.ones(100), "accuracy")
    assert threshold is not None
    assert threshold > 0.11
    constant = np.full(10, 0.1)
    assert find_threshold(constant, codes[:10], np.ones(10), "accuracy") == 0.5
    always = find_threshold(constant, codes[:10], np.ones(10), "recall")
    assert always is not None
    assert always < 0.1


@pytest.mark.parametrize("sign", [-1, 1])
def test_never_and_always_are_thresholds_too(sign: int) -> None:
    proba = np.array([0.2, 0.4, 0.6, 0.8])
    best = find_threshold(proba, np.array([0.0, 1, 0, 1]), np.ones(4), lambda _, p: sign * p.mean())
    assert best is not None
    assert (0 < best < 0.2) if sign > 0 else (0.8 < best < 1)


@pytest.mark.parametrize("scoring", ["recall", "precision", "accuracy"])
def test_a_threshold_is_a_probability_that_files_take(scoring: str) -> None:
    """Also where the probabilities are certain: 0 and 1 would be refused by `load`."""
    proba = np.array([0.0, 0.0, 1.0, 1.0, 5e-324, 1 - 1e-16])
    codes = np.array([1.0, 0.0, 0.0, 1.0, 0.0, 1.0])
    threshold = find_threshold(proba, codes, np.ones(6), scoring)
    assert threshold is not None
    assert 0 < threshold < 1


def test_scorers_score_decisions() -> None:
    proba, codes = rng.random(80), (rng.random(80) < 0.3).astype(float)
    by_name = find_threshold(proba, codes, np.ones(80), "f1")
    assert find_threshold(proba, codes, np.ones(80), make_scorer(f1_score)) == by_name
    assert find_threshold(proba, codes, np.ones(80), f1_score) == by_name
    least = make_scorer(zero_one_loss, greater_is_better=False)
    threshold = find_threshold(proba, codes, np.ones(80), least)
    assert threshold == find_threshold(proba, codes, np.ones(80), "accuracy")
    Task("k", "classification", threshold=make_scorer(fbeta_score, beta=2))
    with pytest.raises(ValueError, match="does not compare labels with labels"):
        Task(
            "k", "classification", threshold=make_scorer(log_loss, response_method="predict_proba")
        )


def without_weights(y_true: Any, y_pred: Any) -> float:
    return float(np.mean(y_true == y_pred))


def never_twice(y_true: Any, y_pred: Any, sample_weight: Any = None) -> float:
    if len(y_pred) > 4:  # not when it is tried, as it is declared
        raise RuntimeError("too many")
    return 1.0


@pytest.mark.parametrize(
    ("metric", "weighted", "said"),
    [
        (without_weights, True, "cannot be called with sample_weight, as .* 'sample_weight'"),
        (never_twice, False, "cannot be called without weights, as .*too many"),
        (lambda *_, **__: float("nan"), False, "is NaN for each threshold"),
    ],
)
def test_metrics_that_fail_are_named_with_their_task(metric, weighted, said) -> None:
    X = rng.normal(size=(60, 2))
    y = pd.DataFrame({"k": X[:, 0] > 0})
    task = Task("k", "classification", threshold=metric)
    weight = rng.uniform(1, 2, size=60) if weighted else None
    est = MultiTaskCNNEstimator([task], max_epochs=1, random_state=0)
    with pytest.raises(ValueError, match=f"Task 'k': threshold=<function .*{said}"):
        est.fit(X, y, weight)


@pytest.mark.parametrize("option", [{"threshold": "f1"}, {"calibration": "sigmoid"}])
@pytest.mark.parametrize("held", [None, "no"])
def test_rows_that_say_nothing_are_no_silent_reason(option: Any, held: Any) -> None:
    """Validation data without a label of a task, or with one."""
    X = rng.normal(size=(80, 2))
    y = pd.DataFrame({"k": np.where(X[:, 0] > 0, "yes", "no").astype(object), "n": X[:, 1]})
    tasks = [Task("k", "classification", **option), Task("n", "regression")]
    est = MultiTaskCNNEstimator(tasks, trunk=DenseTrunk((4,), 1), max_epochs=1, random_state=0)
    said = f"Task 'k': {next(iter(option))}='.*' has no effect, as the rows that were not trained"
    with pytest.warns(UserWarning, match=said):
        est.fit(X, y, X_val=X, y_val=y.assign(k=held))
    plain = clone(est).set_params(tasks=[Task("k", "classification"), tasks[1]])
    plain.fit(X, y, X_val=X, y_val=y.assign(k=held))
    found, expected = (e.predict_proba(X) for e in (est, plain))
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found, expected)
    assert not hasattr(est, "thresholds_")


def test_nothing_is_said_of_decisions_that_are_always_the_same() -> None:
    """Never to predict a label is one of the candidates, whose precision is not defined."""
    proba, codes = np.full(20, 0.2), (np.arange(20) == 3).astype(float)
    assert find_threshold(proba, codes, np.ones(20), "precision") is not None


# -- calibration by hand ----------------------------------------------------------------------


def test_logits_that_are_right_stay() -> None:
    logits = np.column_stack([np.zeros(20_000), rng.normal(size=20_000)])
    codes = (rng.random(20_000) < expit(logits[:, 1])).astype(float)
    slope, shifts = scale_logits(logits, codes, np.ones(20_000))
    assert slope == pytest.approx(1, abs=0.05)
    assert shifts[1] - shifts[0] == pytest.approx(0, abs=0.05)


def test_logits_are_scaled_and_shifted_back() -> None:
    true = rng.normal(size=(20_000, 3))
    codes = np.array([rng.choice(3, p=p) for p in softmax(true, axis=1)], dtype=float)
    slope, shifts = scale_logits(4 * true + [1, 0, -2], codes, np.ones(20_000))
    assert slope == pytest.approx(1 / 4, rel=0.05)
    np.testing.assert_allclose(shifts - shifts[1], [-1 / 4, 0, 2 / 4], atol=0.05)


def test_separated_classes_have_finite_shifts() -> None:
    logits = np.array([[0.0, -5.0], [0.0, 5.0]])
    slope, shifts = scale_logits(logits, np.array([0.0, 1.0]), np.ones(2))
    assert np.isfinite(shifts).all()
    assert 1 < slope < 10


# -- parameters -------------------------------------------------------------------------------


@pytest.mark.parametrize("threshold", [0, 1, -0.1, 1.5, True, "f-one", [0.5], np.nan])
def test_what_is_no_threshold_is_refused(threshold: Any) -> None:
    with pytest.raises(ValueError, match=r"Task 'k': threshold=.*Use a probability"):
        Task("k", "classification", threshold=threshold)


def test_other_calibrations_are_refused() -> None:
    with pytest.raises(ValueError, match=r"calibration='isotonic' is unknown. Use 'sigmoid'"):
        Task("k", "classification", calibration="isotonic")


@pytest.mark.parametrize("kind", ["ordinal", "regression"])
def test_kinds_without_such_parameters_refuse_them(kind: str) -> None:
    with pytest.raises(ValueError, match=f"kind='{kind}' takes no threshold="):
        Task("k", kind, threshold=0.5)


def test_a_threshold_among_three_classes_is_refused() -> None:
    kind = ClassificationTarget(threshold="f1")
    with pytest.raises(
        ValueError, match=r"between two classes, and there are 3: \['a', 'b', 'c'\]"
    ):
        kind.fit(np.array(["a", "b", "c"]), np.ones(3))


# -- in a fit ---------------------------------------------------------------------------------


def rare(n: int = 600) -> tuple[NDArray[np.float64], pd.DataFrame]:
    """One row in eight has a size."""
    X = rng.normal(size=(n, 4))
    sick = rng.random(n) < expit(1.5 * X[:, 0] - 2.5)
    size = np.where(sick, X[:, 1] + 0.1 * rng.normal(size=n), np.nan)
    return X, pd.DataFrame({"sick": np.where(sick, "yes", "no"), "size": size})


X, Y = rare()


def tasks(**params: Any) -> list[Task]:
    return [
        Task("sick", "classification", **params),
        Task("size", "regression", given=("sick", "yes")),
    ]


@functools.cache
def fitted(**params: Any) -> MultiTaskCNNEstimator:
    """Fit once for several tests, which leave it as it is."""
    return MultiTaskCNNEstimator(tasks=tasks(**params), **QUICK).fit(X, Y)


def tuned() -> MultiTaskCNNEstimator:
    return fitted(threshold="balanced_accuracy")


def test_a_tuned_threshold_predicts_what_is_rare() -> None:
    plain = fitted()
    X_new, Y_new = rare(2000)
    scores = [
        balanced_accuracy_score(Y_new["sick"], model.predict_frame(X_new)["sick"])
        for model in (plain, tuned())
    ]
    assert scores[1] > scores[0] + 0.05
    assert list(tuned().thresholds_) == ["sick"]
    assert not hasattr(plain, "thresholds_")


def test_it_is_the_best_one_for_rows_left_out() -> None:
    proba = tuned().oob_decision_function_[:, 1]
    threshold = tuned().thresholds_["sick"]
    found = np.where(proba >= threshold, "yes", "no")
    assert (found == tuned().oob_prediction_[:, 0]).all()
    false, true, _ = roc_curve(Y["sick"] == "yes", proba)  # at each threshold
    best = (true + 1 - false).max() / 2
    assert balanced_accuracy_score(Y["sick"], found) >= best - 0.02


def test_the_gate_holds_where_the_class_is_predicted() -> None:
    model = clone(tuned()).set_params(conditional_output="nan").fit(X, Y)
    frame = model.predict_frame(X)
    assert (frame["size"].notna() == (frame["sick"] == "yes")).all()
    assert frame["size"].notna().mean() > 0.2


def test_probabilities_are_not_touched_by_a_threshold() -> None:
    np.testing.assert_array_equal(fitted().predict_proba(X), tuned().predict_proba(X))


def test_views_decide_alike() -> None:
    view = task_view(tuned(), "sick")
    assert (view.predict(X) == tuned().predict_frame(X)["sick"]).all()


def test_a_metric_of_ones_own_tunes_too() -> None:
    def f2(y_true: Any, y_pred: Any, sample_weight: Any = None) -> float:
        return float(fbeta_score(y_true, y_pred, beta=2, sample_weight=sample_weight))

    model, f1 = fitted(threshold=f2), fitted(threshold="f1")
    assert model.thresholds_["sick"] <= f1.thresholds_["sick"]


def test_weights_of_rows_count() -> None:
    weight = np.where(Y["sick"] == "yes", 4.0, 1.0)
    model = fitted(threshold="accuracy")
    heavy = clone(model).fit(X, Y, sample_weight=weight).predict_frame(X)
    assert (heavy["sick"] == "yes").mean() > (model.predict_frame(X)["sick"] == "yes").mean()


def test_thresholds_are_searched_for() -> None:
    grid = {"tasks": [tasks(), tasks(threshold="f1"), tasks(threshold=0.3)]}
    model = MultiTaskCNNEstimator(**QUICK).set_params(max_epochs=5)
    search = GridSearchCV(model, grid, cv=2, error_score="raise").fit(X, Y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


@pytest.mark.parametrize("params", [{"threshold": "f1"}, {"calibration": "sigmoid"}])
def test_files_keep_them(tmp_path: Path, params: Any) -> None:
    model = fitted(**params)
    model.save(tmp_path / "model")
    again = MultiTaskCNNEstimator.load(tmp_path / "model")
    assert again.predict_frame(X).equals(model.predict_frame(X))
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    assert getattr(again, "thresholds_", None) == getattr(model, "thresholds_", None)


def test_calibrated_probabilities_know_nothing_of_class_weights() -> None:
    def mean_of(**params: Any) -> float:
        model = MultiTaskCNNEstimator(
            tasks=tasks(**params), class_weight={"sick": "balanced"}, **QUICK
        )
        return float(model.fit(X, Y).predict_proba(X)[:, 1].mean())

    share = (Y["sick"] == "yes").mean()
    assert mean_of() > 2 * share
    assert mean_of(calibration="sigmoid") == pytest.approx(share, abs=0.03)


def test_expected_values_count_calibrated_gates_once() -> None:
    weighted = MultiTaskCNNEstimator(
        tasks=tasks(calibration="sigmoid"),
        class_weight={"sick": "balanced"},
        conditional_output="expected",
        **QUICK,
    ).fit(X, Y)
    size = clone(weighted).set_params(conditional_output="estimate").fit(X, Y).predict(X)[:, 1]
    expected = weighted.predict(X)[:, 1].astype(float)
    np.testing.assert_allclose(expected, size.astype(float) * weighted.predict_proba(X)[:, 1])


def test_calibration_is_that_of_scikit_learn_where_it_can_be() -> None:
    """Of logits of a linear model, on the rows themselves."""
    codes = (Y["sick"] == "yes").to_numpy().astype(float)
    model = LogisticRegression(class_weight="balanced").fit(X, codes)
    z = model.decision_function(X)
    slope, shifts = scale_logits(np.column_stack([0 * z, z]), codes, np.ones(len(z)))
    ours = expit(slope * z + shifts[1] - shifts[0])
    fold = [(np.arange(len(z)), np.arange(len(z)))]
    theirs = CalibratedClassifierCV(model, method="sigmoid", cv=fold).fit(X, codes)
    np.testing.assert_allclose(ours, theirs.predict_proba(X)[:, 1], atol=0.02)


# -- where no row is left out -----------------------------------------------------------------

IMAGES = rng.normal(size=(80, 1, 6, 6)).astype(np.float32)
BRIGHT = pd.DataFrame({"sick": np.where(IMAGES.mean(axis=(1, 2, 3)) > 0.1, "yes", "no")})


def conv(**params: Any) -> MultiTaskCNNEstimator:
    task = Task("sick", "classification", **params)
    return MultiTaskCNNEstimator(trunk=ConvTrunk(4), tasks=[task], max_epochs=3, random_state=0)


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"threshold": "f1"}, "threshold='f1' needs rows that were not trained on"),
        ({"calibration": "sigmoid"}, "calibration='sigmoid' needs rows"),
    ],
)
def test_images_need_validation_data(params: Any, said: str) -> None:
    with pytest.raises(
        ValueError, match=f"Task 'sick': {said}.*early_stopping=True, or pass X_val"
    ):
        conv(**params).fit(IMAGES, BRIGHT)
    model = conv(**params).fit(IMAGES, BRIGHT, X_val=IMAGES[:30], y_val=BRIGHT[:30])
    assert set(model.predict(IMAGES).ravel().tolist()) <= {"yes", "no"}
    stopped = conv(**params).set_params(early_stopping=True).fit(IMAGES, BRIGHT)
    assert hasattr(stopped, "thresholds_") == ("threshold" in params)


def test_a_number_needs_none() -> None:
    assert conv(threshold=0.9).fit(IMAGES, BRIGHT).thresholds_ == {"sick": 0.9}


def test_a_stream_takes_a_number_or_what_was_tuned() -> None:
    model = copy.deepcopy(fitted(threshold="f1"))
    with pytest.raises(ValueError, match=r"threshold='f1' needs rows.*a number as threshold"):
        clone(model).partial_fit(X, Y)
    before = model.thresholds_
    assert model.partial_fit(X, Y).thresholds_ == before
    again = MultiTaskCNNEstimator(tasks=tasks(calibration="sigmoid"), random_state=0)
    with pytest.raises(ValueError, match="calibration='sigmoid' needs rows"):
        again.partial_fit(X, Y)


def test_a_fold_with_one_class_predicts_that() -> None:
    one = Y.assign(sick="no", size=np.nan)[["sick"]]
    model = MultiTaskCNNEstimator(
        tasks=[Task("sick", "classification", threshold="f1", categories=["no", "yes"])],
        max_epochs=2,
        random_state=0,
    ).fit(X, one)
    assert set(model.predict(X).ravel().tolist()) == {"no"}


# -- what reviewers found ---------------------------------------------------------------------


def test_class_weights_do_not_count_in_what_a_threshold_is_tuned_for() -> None:
    model = MultiTaskCNNEstimator(
        tasks=tasks(threshold="f1"), class_weight={"sick": "balanced"}, **QUICK
    ).fit(X, Y)
    truth, proba = Y["sick"] == "yes", model.oob_decision_function_[:, 1]
    precision, recall, _ = precision_recall_curve(truth, proba)  # at each threshold
    best = (2 * precision * recall / np.maximum(precision + recall, 1e-9)).max()
    assert f1_score(truth, proba >= model.thresholds_["sick"]) >= best - 0.02


def test_a_warm_start_tunes_anew_on_validation_data() -> None:
    model = copy.deepcopy(fitted(threshold="f1"))
    model.set_params(warm_start=True, early_stopping=True)
    before = model.thresholds_["sick"]
    flipped = Y.assign(sick=np.where(X[:, 2] > -0.5, "yes", "no"), size=np.nan)
    flipped.loc[0, "size"] = 1.0 if flipped["sick"][0] == "yes" else np.nan
    model.fit(X, flipped, X_val=X[:200], y_val=flipped[:200])
    assert model.thresholds_["sick"] != before


@pytest.mark.parametrize(
    ("threshold", "said"),
    [
        ("roc_auc", "does not compare labels with labels"),
        (lambda y_true: 1.0, "does not compare labels with labels"),
        (lambda y_true, y_pred: "good", "does not compare labels with labels"),
    ],
)
def test_what_cannot_tune_is_refused_at_once(threshold: Any, said: str) -> None:
    with pytest.raises(ValueError, match=f"Task 'k': threshold=.*{said}"):
        Task("k", "classification", threshold=threshold)


def test_a_metric_that_is_never_a_number_is_told_of() -> None:
    with pytest.raises(ValueError, match="is NaN for each threshold"):
        fitted(threshold=lambda y_true, y_pred, sample_weight=None: np.nan)
