"""What a report on transfer says is what separate estimators, fitted by hand, say."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from _inputs import EVERY_KIND, GATED, make_every_kind, make_small, make_table
from sklearn import config_context
from sklearn.base import clone
from sklearn.decomposition import KernelPCA
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import Ridge
from sklearn.metrics import accuracy_score, get_scorer, make_scorer, mean_absolute_error
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold, ShuffleSplit
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted

from sklearn_mtl import MultiTaskCNNEstimator, Task, inspection
from sklearn_mtl.augmentation import Augment
from sklearn_mtl.inspection import transfer_report
from sklearn_mtl.losses import LogProd, MaskedMSE, Uncertainty, Weighted
from sklearn_mtl.networks import ConvTrunk, DenseTrunk

FOLDS = KFold(3, shuffle=True, random_state=0)
NAMES = ["label", "number", "size"]


def small(tasks: Any = GATED, **params: Any) -> MultiTaskCNNEstimator:
    return make_small(tasks, **params)


@cache
def table() -> tuple[np.ndarray, np.ndarray]:
    return make_table(60)


@cache
def plain() -> pd.DataFrame:
    """The report on arrays, with nothing else said."""
    return transfer_report(small(), *table(), cv=FOLDS)


def by_hand(
    joint: Any, twins: list[Any], X: np.ndarray, y: np.ndarray, weight: Any = None
) -> tuple[np.ndarray, np.ndarray]:
    """Scores (n_folds, n_tasks) of estimators that are fitted one by one."""
    scores = np.empty((2, FOLDS.n_splits, y.shape[1]))
    w = np.ones(y.shape) if weight is None else np.broadcast_to(weight.T, y.T.shape).T
    for i, (train, test) in enumerate(FOLDS.split(X)):
        joint.fit(X[train], y[train], sample_weight=w[train])
        scores[0, i] = list(joint.score_tasks(X[test], y[test], w[test]).values())
        for k, twin in enumerate(twins):
            fit, seen = (rows[~np.isnan(y[rows, k])] for rows in (train, test))
            twin.fit(X[fit], y[fit, k], sample_weight=w[fit, k])
            scores[1, i, k] = twin.score(X[seen], y[seen, k], w[seen, k])
    return scores[0], scores[1]


def assert_scores(report: pd.DataFrame, joint: np.ndarray, separate: np.ndarray) -> None:
    np.testing.assert_allclose(report["joint"], joint.mean(axis=0), rtol=1e-9)
    np.testing.assert_allclose(report["separate"], separate.mean(axis=0), rtol=1e-9)
    np.testing.assert_allclose(
        report["difference"], (joint - separate).mean(axis=0), rtol=1e-9, atol=1e-12
    )


def made_up(scores: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let fits return `scores` (joint and separate, n_folds, n_tasks), in the order of the jobs."""
    found = iter(
        [
            answer
            for joint, separate in zip(*scores, strict=True)
            for answer in [list(joint), *([score] for score in separate)]
        ]
    )
    monkeypatch.setattr(inspection, "_fit_and_score", lambda *job: next(found))


# -- joint and separate models ---------------------------------------------------------------


def test_every_kind_as_by_hand() -> None:
    X, y = make_every_kind(60)
    report = transfer_report(small(EVERY_KIND), X, y, cv=FOLDS)
    twins = [small([replace(task, given=None)]) for task in EVERY_KIND]
    assert_scores(report, *by_hand(small(EVERY_KIND), twins, X, y))
    assert report.index.tolist() == [task.name for task in EVERY_KIND]
    assert report.index.name == "task"
    assert report["kind"].tolist() == [task.kind for task in EVERY_KIND]
    assert report["n_observed"].tolist() == (~np.isnan(y)).sum(axis=0).tolist()
    assert report.columns.tolist() == [
        "kind",
        "n_observed",
        "joint",
        "separate",
        "difference",
        "ci_low",
        "ci_high",
        "verdict",
    ]
    assert (report["difference"].abs() > 0).sum() > 3  # or else this would show little


@pytest.mark.parametrize("shape", [(60,), (60, 3)])
def test_weights_enter_fits_and_scores(shape: tuple[int, ...]) -> None:
    X, y = table()
    weight = np.random.default_rng(0).random(shape) + 0.1
    report = transfer_report(small(), X, y, cv=FOLDS, sample_weight=weight)
    twins = [small([replace(task, given=None)]) for task in GATED]
    assert_scores(report, *by_hand(small(), twins, X, y, weight))
    assert (report["joint"] != plain()["joint"]).all()


def test_cells_of_weight_0_are_holes() -> None:
    X, y = table()
    weight = (~np.isnan(y)).astype(float)
    weight[::4, 1] = 0
    filled, masked = np.where(weight > 0, y, 7.0), np.where(weight > 0, y, np.nan)
    report = transfer_report(small(), X, filled, cv=FOLDS, sample_weight=weight)
    expected = transfer_report(small(), X, masked, cv=FOLDS)
    pd.testing.assert_frame_equal(report, expected, rtol=1e-5)
    assert report["n_observed"].tolist() == (weight > 0).sum(axis=0).tolist()


def test_auto_parameters_follow_the_rows_of_the_twin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer rows are passed over more often, as in a model of its own."""
    fitted: list[MultiTaskCNNEstimator] = []
    fit = MultiTaskCNNEstimator.fit
    monkeypatch.setattr(
        MultiTaskCNNEstimator, "fit", lambda *args, **kw: fitted.append(fit(*args, **kw))
    )
    X, y = make_table(3000)
    y[300:, 1] = np.nan
    splits = [(np.r_[:200, 400:3000], np.r_[200:400])]
    transfer_report(small(GATED[:2], max_epochs="auto"), X, y[:, :2], cv=splits)
    joint, label, number = fitted
    assert joint.n_iter_ == label.n_iter_ < number.n_iter_
    expected = fit(clone(number), X[:200], y[:200, 1:2])
    assert number.n_iter_ == expected.n_iter_
    assert number.n_observed_.tolist() == number.n_applicable_.tolist()
    assert number.n_observed_.tolist() == expected.n_observed_.tolist()


def test_kinds_are_those_of_the_whole_y() -> None:
    """A number that is 0 or 1 in all training rows of a fold is no class there."""
    X, y = table()
    y = y[:, :2].copy()
    y[:40, 1] = np.arange(40) % 2
    splits = [(np.arange(40), np.arange(40, 60)), (np.arange(20, 60), np.arange(20))]
    report = transfer_report(small(None), X, y, cv=splits)
    kinds = [Task("y0", "classification"), Task("y1", "regression")]
    pd.testing.assert_frame_equal(report, transfer_report(small(kinds), X, y, cv=splits))


def test_of_one_task_the_twin_is_the_estimator() -> None:
    X, y = table()
    for one in (y[:, 0], y[:, :1]):
        report = transfer_report(small(GATED[:1]), X, one, cv=FOLDS)
        assert report["difference"].tolist() == [0]
        assert report["verdict"].tolist() == ["undecided"]
        assert report["joint"].tolist() == report["separate"].tolist()


# -- parameters that speak of several tasks --------------------------------------------------


def twin_of(estimator: Any, name: str) -> MultiTaskCNNEstimator:
    encoder = inspection.TargetEncoder(estimator.tasks)
    encoder.fit_encode(table()[1])
    return inspection._twin(estimator, encoder, encoder.names.index(name), None)


def test_all_other_parameters_stay() -> None:
    params = {
        "missing_values": -1,
        "conditional_output": "nan",
        "trunk": DenseTrunk((3,)),
        "head_hidden_units": 2,
        "max_epochs": "auto",
        "learning_rate": 0.1,
        "net_params": {"callbacks": []},
    }
    estimator = small(task_weights=[1, 2, 3], class_weight="balanced", **params)
    twin = twin_of(estimator, "size")
    before, after = (clone(est).get_params(deep=False) for est in (estimator, twin))
    changed = {name for name in before if repr(before[name]) != repr(after[name])}
    assert changed == {"tasks", "task_weights"}
    assert twin.tasks == [Task("size", "regression")]
    assert twin.task_weights is None


@pytest.mark.parametrize(
    ("early_stopping", "expected"), [(False, False), (True, True), (["label"], True)]
)
def test_a_twin_stops_early_by_its_own_task(early_stopping: Any, expected: bool) -> None:
    twin = twin_of(small(early_stopping=early_stopping), "size")
    assert twin.early_stopping is expected


@pytest.mark.parametrize(
    ("class_weight", "expected"),
    [
        (None, None),
        ("balanced", "balanced"),
        ({"label": "balanced"}, {"label": "balanced"}),
        ({"label": {0: 1, 1: 5}, "other": "balanced"}, {"label": {0: 1, 1: 5}}),
        ({"other": "balanced"}, {}),
    ],
)
def test_class_weight_is_that_of_the_task(class_weight: Any, expected: Any) -> None:
    assert twin_of(small(class_weight=class_weight), "label").class_weight == expected


def test_class_weights_are_used() -> None:
    X, y = table()
    heavy = {"label": {0: 1, 1: 1000}}
    report = transfer_report(small(class_weight=heavy, max_epochs=20), X, y, cv=FOLDS)
    share = np.mean([y[test, 0].mean() for _, test in FOLDS.split(X)])
    np.testing.assert_allclose(report.loc["label", ["joint", "separate"]].astype(float), share)


@pytest.mark.parametrize(
    "loss",
    [
        Weighted([1.0, 0.0, 2.0]),
        MaskedMSE([1.0, 0.0, 2.0]),
        LogProd([1.0, 0.0, 2.0], decay=None, floor=0.3),
        LogProd([1.0, 0.0, 2.0], decay=0.5),
        Uncertainty([1.0, 0.0, 2.0], floor=0.2),
    ],
    ids=["weighted", "masked_mse", "logprod of batches", "logprod", "uncertainty"],
)
def test_weights_of_a_loss_are_left_out(loss: Any) -> None:
    """A weight of 0 would leave the twin untrained, and three weights do not serve one task."""
    twin = twin_of(small(loss=loss), "number")
    assert type(twin.loss) is type(loss)
    assert twin.loss.weights is None
    without = str(loss).replace("weights=[1.0, 0.0, 2.0]", "").replace("(, ", "(")
    assert str(twin.loss) == without
    assert loss.weights.tolist() == [1, 0, 2]
    report = transfer_report(small(loss=loss), *table(), cv=FOLDS)
    alone = [small([replace(task, given=None)], loss=twin.loss) for task in GATED]
    assert_scores(report, *by_hand(small(loss=loss), alone, *table()))


def test_losses_without_weights_and_callables_are_used_as_they_are() -> None:
    def loss(losses: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
        return (losses * counts).sum()

    kept = LogProd(decay=None, floor=0.3)
    assert str(twin_of(small(loss=kept), "number").loss) == str(kept)
    report = transfer_report(small(loss=loss), *table(), cv=FOLDS)
    twins = [small([replace(task, given=None)], loss=loss) for task in GATED]
    assert_scores(report, *by_hand(small(loss=loss), twins, *table()))


# -- the interval ----------------------------------------------------------------------------


@pytest.mark.parametrize("confidence", [0.5, 0.95])
def test_interval_in_closed_form(monkeypatch: pytest.MonkeyPatch, confidence: float) -> None:
    """With three folds, Student's quantile is (2p - 1) / sqrt(2p (1 - p))."""
    X, y = table()
    cv = [(np.arange(10, 60), np.arange(10)), (np.arange(40), np.arange(40, 60))]
    cv.append((np.arange(20, 60), np.arange(15)))
    joint = np.array([[0.9, 0.8, 0.3], [0.8, 0.9, 0.1], [0.7, 0.7, -0.5]])
    separate = np.array([[0.5, 0.8, 0.4], [0.5, 0.7, 0.6], [0.5, 0.9, 0.2]])
    made_up([joint, separate], monkeypatch)
    report = transfer_report(small(), X, y, cv=cv, confidence=confidence)
    p = (1 + confidence) / 2
    t = (2 * p - 1) / np.sqrt(2 * p * (1 - p))
    for k, name in enumerate(NAMES):
        seen = ~np.isnan(y[:, k])
        n_train = np.mean([seen[train].sum() for train, _ in cv])
        n_test = np.mean([seen[test].sum() for _, test in cv])
        d = joint[:, k] - separate[:, k]
        variance = ((d - d.mean()) ** 2).sum() / 2
        half = t * np.sqrt((1 / 3 + n_test / n_train) * variance)
        row = report.loc[name]
        assert row["joint"] == pytest.approx(joint[:, k].mean())
        assert row["separate"] == pytest.approx(separate[:, k].mean())
        assert row["difference"] == pytest.approx(d.mean())
        assert row["ci_low"] == pytest.approx(d.mean() - half)
        assert row["ci_high"] == pytest.approx(d.mean() + half)


@pytest.mark.parametrize(
    ("differences", "verdict"),
    [
        ([0.3, 0.31, 0.32], "joint"),
        ([-0.3, -0.31, -0.32], "separate"),
        ([0.3, -0.2, 0.4], "undecided"),
        ([0.2, 0.2, 0.2], "undecided"),
    ],
)
def test_verdict(monkeypatch: pytest.MonkeyPatch, differences: list[float], verdict: str) -> None:
    separate = np.full((3, 3), 0.5)
    made_up([separate + np.array(differences)[:, None], separate], monkeypatch)
    report = transfer_report(small(), *table(), cv=FOLDS)
    assert report["verdict"].tolist() == [verdict] * 3


def test_sharing_helps_where_it_must() -> None:
    """Few labels of one task, and many of another that is nearly the same."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 30))
    number = X[:, :10].sum(axis=1)
    y = np.column_stack([number, number + 0.3 * rng.normal(size=400)])
    y[rng.permutation(400)[60:], 1] = np.nan
    estimator = small(None, max_epochs=20)
    report = transfer_report(estimator, X, y, cv=FOLDS)
    assert report.loc["y1", "difference"] > 0.1
    assert report.loc["y1", "verdict"] == "joint"


# -- folds that are left out -----------------------------------------------------------------


def test_fold_without_training_rows_is_left_out_for_the_task() -> None:
    """And for no other one."""
    X, y = table()
    y = y.copy()
    y[20:, 2] = np.nan  # the first fold has it all
    with (
        pytest.warns(UndefinedMetricWarning, match="'size' cannot be scored in 3 of 3 folds"),
        pytest.warns(UserWarning, match="Task 'size' has no observed value .* in 40 rows"),
    ):
        report = transfer_report(small(), X, y, cv=KFold(3))
    expected = transfer_report(small(GATED[:2]), X, y[:, :2], cv=KFold(3))
    assert report.loc["size", ["joint", "separate", "difference", "ci_low"]].isna().all()
    assert report.loc["size", "verdict"] == "undecided"
    np.testing.assert_allclose(report["separate"][:2], expected["separate"])
    np.testing.assert_array_equal(report["n_observed"], (~np.isnan(y)).sum(axis=0))


def test_fold_that_cannot_be_scored_is_left_out_for_the_task(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    X, y = table()
    y = y.copy()
    y[20:30, 1] = np.nan  # the fold that is left out has few rows
    joint, separate = np.random.default_rng(0).random((2, 3, 3))
    joint[1, 1] = np.nan
    separate[0, 2], separate[2, 2] = np.nan, np.nan
    made_up([joint, separate], monkeypatch)
    with pytest.warns(UndefinedMetricWarning) as said:
        report = transfer_report(small(), X, y, cv=KFold(3))
    (message,) = (str(w.message) for w in said)
    assert message.startswith("Task 'number' cannot be scored in 1 of 3 folds")
    assert message.endswith("The like holds for 'size'.")
    assert {w.filename for w in said} == {__file__}
    assert report.loc["number", "joint"] == pytest.approx(joint[[0, 2], 1].mean())
    assert report.loc["number", "separate"] == pytest.approx(separate[[0, 2], 1].mean())
    assert report.loc["size", "difference"] == pytest.approx(joint[1, 2] - separate[1, 2])
    assert np.isnan(report.loc["size", ["ci_low", "ci_high"]].astype(float)).all()
    assert report.loc["size", "verdict"] == "undecided"
    # With two folds left, the quantile of one degree of freedom is that of Cauchy.
    seen = ~np.isnan(y[:, 1])
    counts = [[seen[rows].sum() for rows in split] for split in KFold(3).split(X)]
    n_train, n_test = np.mean([counts[0], counts[2]], axis=0)
    d = (joint - separate)[[0, 2], 1]
    half = np.tan(np.pi * 0.475) * np.sqrt((0.5 + n_test / n_train) * d.var(ddof=1))
    assert report.loc["number", "ci_high"] == pytest.approx(d.mean() + half)


def test_rows_of_zarr() -> None:
    zarr = pytest.importorskip("zarr", reason="Zarr arrays need zarr")
    X, y = table()
    report = transfer_report(small(), zarr.array(X), y, cv=FOLDS)
    pd.testing.assert_frame_equal(report, plain())


def test_a_metric_that_fails_in_a_fold_leaves_it_out() -> None:
    X, y = table()
    y = y.copy()
    y[:20, 0] = 0

    def of_two_labels(y_true: Any, y_pred: Any) -> float:
        if len(np.unique(y_true)) < 2:
            raise ValueError("One label is not enough.")
        return accuracy_score(y_true, y_pred)

    y[:20, 2] = np.nan
    scoring = {"label": make_scorer(of_two_labels)}
    with pytest.warns(UndefinedMetricWarning) as said:
        report = transfer_report(small(), X, y, cv=KFold(3), scoring=scoring)
    assert any("'label' cannot be scored in 1 of 3 folds" in str(w.message) for w in said)
    assert np.isfinite(report.loc["label", "joint"])


def test_equal_differences_decide_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    joint = np.array([[0.5, 0.7, 0.1], [0.6, 0.8, 0.2], [0.7, 0.9, 0.3]])
    separate = joint - [0.1, 0.0, -0.1]
    made_up([joint, separate], monkeypatch)
    report = transfer_report(small(), *table(), cv=KFold(3))
    np.testing.assert_allclose(report["difference"], [0.1, 0.0, -0.1], atol=1e-12)
    assert report[["ci_low", "ci_high"]].isna().all(axis=None)
    assert report["verdict"].tolist() == ["undecided"] * 3


# -- containers, pipelines, folds, metrics ---------------------------------------------------


@pytest.mark.parametrize(
    ("wrap_X", "wrap_y"),
    [
        (pd.DataFrame, lambda y: pd.DataFrame(y, columns=NAMES)),
        (
            lambda X: pd.DataFrame(X, index=range(9, 69)),
            lambda y: pd.DataFrame(y[:, ::-1], columns=NAMES[::-1]),  # matched by name
        ),
        (pl.DataFrame, lambda y: pl.DataFrame(y, NAMES).fill_nan(None)),
        (np.ndarray.tolist, np.ndarray.tolist),
        (np.asarray, lambda y: np.where(np.isnan(y), None, y)),
    ],
    ids=["pandas", "other order", "polars", "list", "object"],
)
def test_containers(wrap_X: Callable[..., Any], wrap_y: Callable[..., Any]) -> None:
    X, y = table()
    report = transfer_report(small(), wrap_X(X), wrap_y(y), cv=FOLDS)
    pd.testing.assert_frame_equal(report, plain())


@pytest.mark.parametrize("backend", ["pandas", "polars"])
def test_order_of_a_type_reaches_the_twin(backend: str) -> None:
    X, y = table()
    labels = ["low", "mid", "high"]
    grade = np.array(labels)[np.digitize(X[:, 0], [-0.5, 0.5])]
    if backend == "pandas":
        frame: Any = pd.DataFrame({"grade": pd.Categorical(grade, labels, ordered=True)})
        frame["number"] = y[:, 1]
    else:
        frame = pl.DataFrame({"grade": pl.Series(grade, dtype=pl.Enum(labels)), "number": y[:, 1]})
    tasks = [Task("grade", "ordinal"), Task("number", "regression")]
    report = transfer_report(small(tasks), X, frame, cv=FOLDS)
    ranks = np.column_stack([np.digitize(X[:, 0], [-0.5, 0.5]), y[:, 1]])
    expected = transfer_report(small(tasks), X, ranks, cv=FOLDS)
    pd.testing.assert_frame_equal(report, expected)


def test_strings_and_missing_values() -> None:
    X, y = table()
    label = np.where(y[:, 0] == 1, "yes", "no").astype(object)
    frame = pd.DataFrame(
        {"label": label, "number": np.nan_to_num(y[:, 1], nan=-99), "size": y[:, 2]}
    )
    frame.loc[~(y[:, 0] == 1), "size"] = -99
    tasks = [*GATED[:2], replace(GATED[2], given=("label", "yes"))]
    report = transfer_report(small(tasks, missing_values=-99), X, frame, cv=FOLDS)
    pd.testing.assert_frame_equal(report, plain())


def test_images() -> None:
    _, y = table()
    X = np.random.default_rng(0).normal(size=(60, 2, 6, 6))
    estimator = small(GATED[:2], trunk=ConvTrunk(width=4), max_epochs=1)
    report = transfer_report(estimator, X, y[:, :2], cv=FOLDS)
    twins = [clone(estimator).set_params(tasks=[task]) for task in GATED[:2]]
    assert_scores(report, *by_hand(estimator, twins, X, y[:, :2]))


@pytest.mark.parametrize("routed", [False, True])
@pytest.mark.parametrize("nested", [False, True])
def test_pipelines(nested: bool, routed: bool) -> None:
    """A pipeline is fitted to the rows of the task, and its last step gets the weights."""
    X, y = table()
    weight = np.random.default_rng(0).random(60) + 0.1
    with config_context(enable_metadata_routing=routed):
        scaler, last = StandardScaler(), small()
        if routed:
            scaler.set_fit_request(sample_weight=False)
            last.set_fit_request(sample_weight=True)
        last = Pipeline([("mtl", last)]) if nested else last
        model = Pipeline([("scale", scaler), ("last", last)])
        report = transfer_report(model, X, y, cv=FOLDS, sample_weight=weight)
    scores = []
    for train, test in FOLDS.split(X):
        fit, seen = (rows[~np.isnan(y[rows, 1])] for rows in (train, test))
        scale = StandardScaler().fit(X[fit])
        twin = small(GATED[1:2]).fit(scale.transform(X[fit]), y[fit, 1], weight[fit])
        scores.append(twin.score(scale.transform(X[seen]), y[seen, 1], weight[seen]))
    assert report.loc["number", "separate"] == pytest.approx(np.mean(scores))
    with pytest.raises(Exception, match="not fitted"):
        check_is_fitted(model)


def test_kernels_are_split_both_ways() -> None:
    X, y = table()
    tasks, y = GATED[:2], y[:, :2]
    kernel = X @ X.T
    model = make_pipeline(KernelPCA(2, kernel="precomputed"), small(tasks))
    report = transfer_report(model, kernel, y, cv=FOLDS)
    scores = [
        model.fit(kernel[np.ix_(train, train)], y[train])[-1].score_tasks(
            model[:-1].transform(kernel[np.ix_(test, train)]), y[test]
        )
        for train, test in FOLDS.split(X)
    ]
    pd.testing.assert_series_equal(report["joint"], pd.DataFrame(scores).mean(), check_names=False)


def test_folds_are_those_of_scikit_learn() -> None:
    X, y = table()
    five = transfer_report(small(), X, y)
    pd.testing.assert_frame_equal(five, transfer_report(small(), X, y, cv=KFold(5)))
    groups = np.arange(60) % 7
    expected = transfer_report(small(), X, y, cv=list(GroupKFold(3).split(X, groups=groups)))
    report = transfer_report(small(), X, y, cv=GroupKFold(3), groups=groups)
    pd.testing.assert_frame_equal(report, expected)
    masks = [tuple(np.isin(np.arange(60), rows) for rows in split) for split in KFold(5).split(X)]
    pd.testing.assert_frame_equal(five, transfer_report(small(), X, y, cv=iter(masks)))


def test_scoring_by_task() -> None:
    X, y = table()
    scoring = {"label": "roc_auc", "size": get_scorer("neg_mean_absolute_error")}
    report = transfer_report(small(), X, y, cv=FOLDS, scoring=scoring)
    assert report.loc["number"].equals(plain().loc["number"])
    errors = []
    for train, test in FOLDS.split(X):
        seen = test[y[test, 0] == 1]
        predicted = small().fit(X[train], y[train]).predict(X[seen])[:, 2]
        errors.append(-mean_absolute_error(y[seen, 2], predicted))
    assert report.loc["size", "joint"] == pytest.approx(np.mean(errors))
    assert report.loc["label", "separate"] != plain().loc["label", "separate"]


def test_n_jobs_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every fit is a job of its own, which may run in any process at any time."""
    given = []

    def backwards(n_jobs: int | None) -> Callable[[Any], list[Any]]:
        given.append(n_jobs)
        return lambda jobs: [job() for job in map(through_a_pickle, reversed(list(jobs)))][::-1]

    def through_a_pickle(job: Any) -> Callable[[], Any]:
        function, args = pickle.loads(pickle.dumps(job))
        return lambda: function(*args)

    monkeypatch.setattr(inspection, "Parallel", backwards)
    monkeypatch.setattr(inspection, "delayed", lambda f: lambda *args: (f, args))
    report = transfer_report(
        small(random_state=np.random.RandomState(0)), *table(), cv=FOLDS, n_jobs=2
    )
    monkeypatch.undo()
    assert given == [2]
    same = transfer_report(small(random_state=np.random.RandomState(0)), *table(), cv=FOLDS)
    pd.testing.assert_frame_equal(report, same)


def test_nothing_passed_is_changed() -> None:
    X, y = table()
    kept = y.copy()
    estimator = small(loss=Weighted([1.0, 2.0, 3.0]), class_weight={"label": "balanced"})
    before = repr(estimator.get_params())
    transfer_report(estimator, X, y, cv=ShuffleSplit(2, random_state=0))
    assert repr(estimator.get_params()) == before
    np.testing.assert_array_equal(y, kept)
    assert not hasattr(estimator, "net_")


# -- errors ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "params", "error", "message"),
    [
        (
            small(),
            {"scoring": {"size": None, "zise": "r2"}},
            ValueError,
            r"unknown tasks \['zise'\]",
        ),
        (small(), {"scoring": "r2"}, ValueError, "scoring='r2' is not understood"),
        (small(), {"scoring": {"size": "r3"}}, ValueError, "r3"),
        (small(), {"confidence": 95}, ValueError, "confidence=95 does not fit"),
        (small(), {"confidence": "a"}, ValueError, "confidence='a' does not fit"),
        (small(), {"cv": []}, ValueError, r"cv=\[\] has no folds"),
        (small(GATED[:2]), {}, ValueError, "y has 3 columns"),
        (Ridge(), {}, TypeError, "Ridge is frozen, a search, or has no tasks"),
        (make_pipeline(StandardScaler(), Ridge()), {}, TypeError, "has no tasks"),
        (
            GridSearchCV(small(), {}),
            {},
            TypeError,
            "GridSearchCV is frozen, a search.*best_estimator_",
        ),
        (FrozenEstimator(small()), {}, TypeError, "FrozenEstimator is frozen"),
        (small(), {"sample_weight": np.ones(59)}, ValueError, "inconsistent numbers"),
    ],
    ids=[
        "name",
        "str",
        "metric",
        "confidence",
        "level",
        "cv",
        "y",
        "ridge",
        "pipe",
        "search",
        "frozen",
        "length",
    ],
)
def test_errors(model: Any, params: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        transfer_report(model, *table(), **params)


def test_groups_reach_the_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = table()
    groups, seen, fit = np.arange(len(X)) // 3, [], MultiTaskCNNEstimator.fit

    def spy(self: Any, X: Any, y: Any, sample_weight: Any = None, *, groups: Any = None) -> Any:
        seen.append((len(X), groups))
        return fit(self, X, y, sample_weight, groups=groups)

    monkeypatch.setattr(MultiTaskCNNEstimator, "fit", spy)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # few rows
        transfer_report(
            make_pipeline(StandardScaler(), small()), X, y, cv=GroupKFold(2), groups=groups
        )
    train, _ = next(GroupKFold(2).split(X, groups=groups))
    assert seen[0][1].tolist() == groups[train].tolist()
    assert all(len(of) == n for n, of in seen)


# -- images that are turned ------------------------------------------------------------------------

PLACES = [
    Task("kind", "classification"),
    Task("x", "regression", geometry="x"),
    Task("y", "regression", geometry="y"),
]


def spots(n: int = 36) -> tuple[np.ndarray, pd.DataFrame]:
    """Images of one bright pixel, where it is, and in which half."""
    rng = np.random.default_rng(0)
    X, (row, column) = np.zeros((n, 1, 8, 8), dtype=np.float32), rng.integers(8, size=(2, n))
    X[np.arange(n), 0, row, column] = 1
    x, y = (column + 0.5) / 8, (row + 0.5) / 8
    return X, pd.DataFrame({"kind": x > 0.5, "x": x, "y": np.where(rng.random(n) < 0.2, np.nan, y)})


def turning(rotation: float = 90.0, **params: Any) -> MultiTaskCNNEstimator:
    fixed = {"trunk": ConvTrunk(4, 8), "max_epochs": 2, "random_state": 0}
    return MultiTaskCNNEstimator(PLACES, augment=Augment(rotation=rotation), **fixed | params)


@pytest.mark.parametrize(
    "loss", ["logprod", "weighted", LogProd(decay=None), LogProd([1.0, 0.0, 2.0], floor=0.2)]
)
def test_the_other_coordinate_turns_images_and_teaches_nothing(loss: Any) -> None:
    X, y = spots()
    report = transfer_report(turning(loss=loss), X, y, cv=2)
    assert np.isfinite(report[["joint", "separate"]]).all(axis=None)
    encoder = inspection.TargetEncoder(PLACES)
    encoder.fit_encode(y)
    twins = [inspection._twin(turning(loss=loss), encoder, k, None) for k in range(3)]
    assert [[t.name for t in twin.tasks] for twin in twins] == [["kind"], ["x", "y"], ["y", "x"]]
    twin = twins[1].fit(X, y[["x", "y"]])
    other = y[["x", "y"]].assign(y=-y["y"] / 7 + 0.9)  # as a loss sees it, something else
    same = clone(twin).set_params(augment=None).fit(X, other)
    expected = clone(same).fit(X, y[["x", "y"]])
    np.testing.assert_array_equal(same.predict(X)[:, 0], expected.predict(X)[:, 0])
    seen = y["y"].notna().to_numpy()
    twins[2].fit(X[seen], y.loc[seen, ["y", "x"]])
    assert type(twin.loss) is type(loss)


def test_early_stopping_does_not_look_at_the_other_coordinate() -> None:
    X, y = spots(60)
    encoder = inspection.TargetEncoder(PLACES)
    encoder.fit_encode(y)
    twin = inspection._twin(turning(early_stopping=True), encoder, 1, None)
    assert twin.early_stopping == ["x"]
    assert len(transfer_report(turning(early_stopping=True), X, y, cv=2)) == 3


def test_a_loss_without_weights_cannot_leave_out_the_other_coordinate() -> None:
    X, y = spots()
    with pytest.raises(ValueError, match=r"augment turns images.*by its name, or augment__rot"):
        transfer_report(turning(loss=_sum), X, y, cv=2)
    assert len(transfer_report(turning(rotation=0, loss=_sum), X, y, cv=2)) == 3


def _sum(losses: Any, counts: Any) -> Any:
    return losses.sum()
