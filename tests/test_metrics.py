"""Metrics and scorers with holes equal scikit-learn's on the rows that were observed."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from copy import deepcopy
from functools import cache, partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import polars as pl
import pytest
import zarr
from _asserts import pickled
from hypothesis import given, settings
from hypothesis import strategies as st
from joblib import parallel_config
from sklearn import config_context
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, clone, is_classifier
from sklearn.exceptions import (
    NotFittedError,
    UndefinedMetricWarning,
    UnsetMetadataPassedError,
)
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.frozen import FrozenEstimator
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LinearRegression
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    brier_score_loss,
    fbeta_score,
    get_scorer,
    get_scorer_names,
    log_loss,
    make_scorer,
    max_error,
    mean_absolute_error,
    mean_pinball_loss,
    mean_squared_error,
    r2_score,
    roc_auc_score,
)
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    KFold,
    cross_val_score,
    cross_validate,
    validation_curve,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_mtl import MultiTaskCNNEstimator, Task
from sklearn_mtl.metrics import concordance_index, masked_score, task_scorer, task_scorers
from sklearn_mtl.networks import ConvTrunk, DenseTrunk

N = 30
rng = np.random.default_rng(0)
SEEN = rng.random(N) < 0.6
WEIGHT = rng.random(N) + 0.1
NUMBER, GUESS = rng.normal(size=N), rng.normal(size=N)
LABEL, LABEL_GUESS = rng.integers(2, size=N), rng.integers(2, size=N)
PROBA = rng.random(N)

CASES: dict[str, tuple[Any, np.ndarray, np.ndarray]] = {
    "r2": (r2_score, NUMBER, GUESS),
    "squared error": (mean_squared_error, NUMBER, GUESS),
    "pinball": (partial(mean_pinball_loss, alpha=0.2), NUMBER, GUESS),
    "accuracy": (accuracy_score, LABEL, LABEL_GUESS),
    "balanced accuracy": (balanced_accuracy_score, LABEL, LABEL_GUESS),
    "f2": (partial(fbeta_score, beta=2), LABEL, LABEL_GUESS),
    "auc": (roc_auc_score, LABEL, PROBA),
    "log loss of a matrix": (log_loss, LABEL, np.column_stack([1 - PROBA, PROBA])),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("weighted", [False, True])
def test_equals_scikit_learn_on_observed_rows(case: str, weighted: bool) -> None:
    metric, y_true, y_pred = CASES[case]
    holes, guess = np.where(SEEN, y_true, np.nan), y_pred.astype(float)
    guess[~SEEN] = np.nan  # what was predicted elsewhere does not matter
    weight = {"sample_weight": WEIGHT} if weighted else {}
    seen_weight = {"sample_weight": WEIGHT[SEEN]} if weighted else {}
    expected = metric(y_true[SEEN], y_pred[SEEN], **seen_weight)
    assert masked_score(metric, holes, guess, **weight) == expected


@pytest.mark.parametrize(
    "make",
    [
        lambda labels: labels,
        lambda labels: np.array(labels, dtype=object),
        lambda labels: pd.Series(labels),
        lambda labels: pd.Series(labels, dtype="category"),
        lambda labels: pd.Series(labels, dtype=object),
        lambda labels: pd.DataFrame({"a": labels}),
        lambda labels: pl.Series(labels),
        lambda labels: [np.nan if v is None else v for v in labels],
        lambda labels: np.array([pd.NA if v is None else v for v in labels], dtype=object),
    ],
    ids=["list", "object", "str", "category", "objects", "frame", "polars", "NaN", "NA"],
)
@pytest.mark.parametrize(
    "labels", [["a", "b", None, "a"], [True, False, None, True], [3, 5, None, 3]]
)
def test_holes_of_every_kind(make: Any, labels: list[Any]) -> None:
    guess = np.array([labels[0], labels[0], labels[1], labels[0]])
    y_true = make(labels)
    assert masked_score(accuracy_score, y_true, guess) == pytest.approx(2 / 3)


@pytest.mark.parametrize("dtype", ["Int64", "Float64", "boolean", "int64[pyarrow]"])
def test_nullable_columns(dtype: str) -> None:
    y_true = pd.Series([0, 1, None, 1], dtype=dtype)
    assert masked_score(accuracy_score, y_true, [0, 0, 0, 1]) == pytest.approx(2 / 3)


def test_nothing_missing_is_scikit_learn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert masked_score(r2_score, NUMBER, GUESS) == r2_score(NUMBER, GUESS)


@pytest.mark.parametrize(
    ("y_true", "weight", "min_samples", "said"),
    [
        ([np.nan, np.nan], None, 1, "'size' has 0 observed rows, r2_score needs 1"),
        ([1.0, np.nan], None, 2, "'size' has 1 observed rows, r2_score needs 2"),
        ([1.0, 2.0], [0, 1], 2, "'size' has 1 observed rows"),
        ([1.0, 2.0], [0, 0], 1, "'size' has 0 observed rows"),
        ([None, None], None, 1, "'size' has 0 observed rows"),
        ([], [], 1, "'size' has 0 observed rows"),
    ],
)
def test_too_few_rows_warn_and_give_nan(
    y_true: Any, weight: Any, min_samples: int, said: str
) -> None:
    with pytest.warns(UndefinedMetricWarning, match=said) as record:
        score = masked_score(
            r2_score,
            y_true,
            np.ones(len(y_true)),
            sample_weight=weight,
            min_samples=min_samples,
            name="size",
        )
    assert np.isnan(score)
    assert isinstance(score, float)
    assert record[0].filename == __file__  # points at the caller


def test_metric_without_a_name_may_warn() -> None:
    class Metric:
        def __call__(self, y_true, y_pred):
            return 0.0

    with pytest.warns(UndefinedMetricWarning, match="the metric needs 1"):
        masked_score(Metric(), [np.nan], [1.0])
    with pytest.warns(UndefinedMetricWarning, match="mean_pinball_loss needs 1"):
        masked_score(partial(mean_pinball_loss, alpha=0.2), [np.nan], [1.0])


def test_rows_of_weight_zero_are_not_observed() -> None:
    weight = np.where(SEEN, WEIGHT, 0)
    expected = r2_score(NUMBER[SEEN], GUESS[SEEN], sample_weight=WEIGHT[SEEN])
    assert masked_score(r2_score, NUMBER, GUESS, sample_weight=weight) == expected


def test_metric_that_takes_no_weight() -> None:
    y_true = np.where(SEEN, NUMBER, np.nan)
    assert masked_score(max_error, y_true, GUESS) == max_error(NUMBER[SEEN], GUESS[SEEN])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(-9, 9), st.booleans(), st.integers(1, 3)), min_size=1))
def test_weight_of_two_is_the_row_twice(rows: list[tuple[float, bool, int]]) -> None:
    value, seen, repeat = (np.array(column) for column in zip(*rows, strict=True))
    y_true, guess = np.where(seen, value, np.nan), np.zeros(len(rows))
    if not seen.any():
        y_true[0] = 1.0
    weighted = masked_score(mean_absolute_error, y_true, guess, sample_weight=repeat)
    repeated = masked_score(
        mean_absolute_error, np.repeat(y_true, repeat), np.repeat(guess, repeat)
    )
    assert weighted == pytest.approx(repeated)


@pytest.mark.parametrize(
    ("y_true", "y_pred", "weight", "message"),
    [
        ([1.0, 2.0], [1.0], None, "inconsistent numbers of samples"),
        ([1.0, 2.0], [1.0, 2.0], [1.0], "inconsistent numbers of samples"),
        ([[1.0, 2.0], [3.0, 4.0]], [1.0, 2.0], None, "1d array"),
        ([1.0, 2.0], [1.0, 2.0], [1.0, -1.0], "sample_weight holds negative"),
        ([1.0, 2.0], [1.0, 2.0], [1.0, np.nan], "sample_weight holds .* non-finite"),
        ([1.0, 2.0], [1.0, 2.0], [[1.0, 1.0], [1.0, 1.0]], "1d array"),
    ],
)
def test_bad_input(y_true: Any, y_pred: Any, weight: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        masked_score(r2_score, y_true, y_pred, sample_weight=weight)


def test_nothing_passed_is_changed() -> None:
    y_true, guess, weight = np.where(SEEN, NUMBER, np.nan), GUESS.copy(), WEIGHT.copy()
    kept = y_true.copy()
    masked_score(r2_score, y_true, guess, sample_weight=weight)
    np.testing.assert_array_equal(y_true, kept)
    np.testing.assert_array_equal(guess, GUESS)
    np.testing.assert_array_equal(weight, WEIGHT)


# -- scorers of one task ---------------------------------------------------------------------

ROWS = 120
GRADES = ["low", "mid", "high"]  # sorted: high, low, mid
TASKS = [
    Task("flag", "classification"),
    Task("word", "classification", given=("flag", 1)),
    Task("color", "classification"),
    Task("grade", "ordinal", categories=GRADES),
    Task("size", "regression", given=("flag", 1)),
    Task("wait", "quantile", quantile=0.7),
    Task("count", "poisson"),
    Task("cost", "gamma"),
]
NAMES = [task.name for task in TASKS]
CLASSES = NAMES[:4]
CLUSTERING = [
    "adjusted_mutual_info_score",
    "adjusted_rand_score",
    "completeness_score",
    "fowlkes_mallows_score",
    "homogeneity_score",
    "mutual_info_score",
    "normalized_mutual_info_score",
    "rand_score",
    "v_measure_score",
]
SCORERS = [name for name in get_scorer_names() if name not in CLUSTERING]
WHOLE = np.random.default_rng(3).integers(0, 3, ROWS)  # weights, a third of them 0


def rows() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(ROWS, 4))


def frame() -> pd.DataFrame:
    return pd.DataFrame(rows(), columns=list("abcd"))


@cache
def _targets() -> pd.DataFrame:
    X, rng = rows(), np.random.default_rng(1)
    noisy = X + 0.5 * rng.normal(size=X.shape)
    flag = (noisy[:, 0] > 0).astype(float)
    grade = np.array(GRADES, dtype=object)[np.digitize(noisy[:, 2], [-0.4, 0.4])]
    y = pd.DataFrame(
        {
            "flag": flag,
            "word": np.where(flag == 1, np.where(noisy[:, 1] > 0, "yes", "no"), None),
            "color": np.array([3.0, 5.0, 9.0])[np.digitize(noisy[:, 1], [-0.4, 0.4])],
            "grade": grade,
            "size": np.where(flag == 1, noisy[:, 3], np.nan),
            "wait": noisy[:, 3] + 0.3,
            "count": rng.poisson(np.exp(X[:, 0])).astype(float),
            "cost": rng.gamma(2, np.exp(X[:, 1])),
        }
    )
    for k, name in enumerate(["color", "grade", "wait", "count", "cost"]):
        y.loc[k::7, name] = None
    y.loc[::9, "flag"] = None  # some gates are not known
    return y


def targets() -> pd.DataFrame:
    """Every kind of target, each with holes."""
    return _targets().copy()


def small(tasks: Any = None, **params: Any) -> MultiTaskCNNEstimator:
    """An estimator that learns rows in a moment."""
    defaults = {
        "trunk": DenseTrunk((8,), n_members=1, n_frequencies=0),
        "max_epochs": 20,
        "learning_rate": 0.03,
        "weight_decay": 0.0,
        "precision": "float64",
        "random_state": 0,
    }
    return MultiTaskCNNEstimator(tasks, **(defaults | params))


@cache
def fitted(conditional_output: str = "estimate") -> MultiTaskCNNEstimator:
    return small(TASKS, conditional_output=conditional_output).fit(rows(), targets())


class Answers(BaseEstimator):
    """Says what it was told to say, whatever X is."""

    def __init__(self, predicted: np.ndarray) -> None:
        self.predicted = predicted

    def predict(self, X: Any) -> np.ndarray:
        return self.predicted


class Numbers(RegressorMixin, Answers):
    pass


class Labels(ClassifierMixin, Answers):
    def __init__(self, predicted: np.ndarray, proba: np.ndarray, classes: np.ndarray) -> None:
        super().__init__(predicted)
        self.proba, self.classes_ = proba, classes

    def predict_proba(self, X: Any) -> np.ndarray:
        return self.proba


# scikit-learn wants to be told which of two texts is the positive one, although it makes no
# difference to this score.
TOLD = {
    ("neg_brier_score", "word"): make_scorer(
        brier_score_loss, greater_is_better=False, response_method="predict_proba", pos_label="yes"
    )
}


def plain(values: Any) -> np.ndarray:
    """Objects as an array of their own type."""
    return np.array(list(values))


@cache
def by_hand(name: str, weighted: bool = False) -> tuple[Answers, np.ndarray, np.ndarray]:
    """What was predicted for the observed rows of a task, which they are, and what is true."""
    est, k = fitted(), NAMES.index(name)
    seen = targets()[name].notna().to_numpy() & (WHOLE > 0 if weighted else True)
    predicted, true = plain(est.predict(rows())[seen, k]), plain(targets()[name][seen])
    if name not in CLASSES:
        return Numbers(predicted), seen, true
    order = np.argsort(est.classes_[k])  # scikit-learn's metrics want the labels sorted
    proba = est.predict_proba(rows())[k][seen][:, order]
    return Labels(predicted, proba, plain(est.classes_[k][order])), seen, true


def outcome(scorer: Callable[..., float], *args: Any) -> tuple[float | str, list[str]]:
    """A score, or what the error says; and what is warned of."""
    found: float | str
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        try:
            found = scorer(*args)
        except Exception as error:
            found = f"{type(error).__name__}: {error}"
    said = sorted({f"{w.category.__name__}: {w.message}" for w in record})
    if isinstance(found, str):
        names = "|".join([*NAMES, "Labels", "Numbers"])  # a view is called as its task
        found = re.sub(rf"\b({names})\b", "estimator", found)
    return found, said


@pytest.mark.parametrize("task", NAMES)
@pytest.mark.parametrize("scorer", SCORERS)
def test_scorer_is_that_of_scikit_learn(scorer: str, task: str) -> None:
    """On the observed rows: the same number, or the same error, and the same warnings."""
    for weight in (None, WHOLE):
        answers, seen, true = by_hand(task, weighted=weight is not None)
        passed = {} if weight is None else {"sample_weight": weight[seen]}
        theirs = TOLD.get((scorer, task), get_scorer(scorer))
        expected, said = outcome(partial(theirs, **passed), answers, rows()[seen], true)
        found = outcome(task_scorer(task, scorer), fitted(), rows(), targets(), weight)
        if not isinstance(expected, str):
            expected = pytest.approx(expected, nan_ok=True)
        assert found == (expected, said)


def test_scorers_of_probabilities_are_told_labels_that_rows_lack() -> None:
    X = np.random.default_rng(1).normal(size=(40, 2))
    y = np.where(X[:, 0] > 0, "pear", "plum")
    task = Task("fruit", "classification", categories=["fig", "pear", "plum"])
    est = MultiTaskCNNEstimator(
        [task], trunk=DenseTrunk((4,), n_members=2), max_epochs=1, random_state=0
    )
    est.fit(X, y)
    proba = est.predict_proba(X)
    code = np.where(y == "pear", 1, 2)
    log_loss_ = -np.log(proba[np.arange(40), code]).mean()
    assert task_scorer("fruit", "neg_log_loss")(est, X, y) == pytest.approx(-log_loss_)
    brier = ((np.eye(3)[code] - proba) ** 2).sum(axis=1).mean()
    assert task_scorer("fruit", "neg_brier_score")(est, X, y) == pytest.approx(-brier)
    one = y == "pear"
    for name in ("neg_log_loss", "neg_brier_score", "top_k_accuracy"):
        assert np.isfinite(task_scorer("fruit", name)(est, X[one], y[one]))
    auc = roc_auc_score(y == "plum", proba[:, 2] / (proba[:, 1] + proba[:, 2]))
    assert task_scorer("fruit", "roc_auc_ovo")(est, X, y) == pytest.approx(auc, abs=0.05)
    with pytest.raises(
        ValueError, match=r"'fruit' has the labels .*, but these .*'plum'\], of which"
    ):
        task_scorer("fruit", "roc_auc")(est, X, y)


def area(score: np.ndarray, positive: np.ndarray) -> float:
    """Share of pairs in which the positive row scores higher."""
    ahead = score[positive][:, None] - score[~positive]
    return float(np.mean((ahead > 0) + (ahead == 0) / 2))


def test_areas_where_rows_lack_a_label() -> None:
    """It is in no pair, and has no weight; only the plain mean over all labels is not defined."""
    answers, seen, true = by_hand("color")
    here = true != 9
    X, y = rows()[seen][here], targets()[seen][here]
    three, proba = true[here] == 3, answers.predict_proba(None)[here]
    of_three, of_five = area(proba[:, 0], three), area(proba[:, 1], ~three)
    share = three.mean()
    expected = {
        "roc_auc_ovo": (of_three + of_five) / 2,
        "roc_auc_ovo_weighted": (of_three + of_five) / 2,
        "roc_auc_ovr": np.nan,
        "roc_auc_ovr_weighted": share * of_three + (1 - share) * of_five,
    }
    assert expected["roc_auc_ovo"] != pytest.approx(expected["roc_auc_ovr_weighted"])
    found = {name: outcome(task_scorer("color", name), fitted(), X, y) for name in expected}
    assert {name: score for name, (score, _) in found.items()} == pytest.approx(
        expected, nan_ok=True
    )
    assert [name for name, (_, said) in found.items() if said] == [*expected][2:]


def test_labels_that_fit_did_not_see_have_no_probability() -> None:
    X = np.random.default_rng(1).normal(size=(40, 2))
    y = np.where(X[:, 0] > 0, "pear", "plum")
    est = MultiTaskCNNEstimator(
        trunk=DenseTrunk((4,), n_members=2), max_epochs=1, random_state=0
    ).fit(X, y)
    y[:3] = ["kaki", "fig", "fig"]
    said = r"\['fig', 'kaki'\].*neg_log_loss is NaN.*categories="
    with pytest.warns(UndefinedMetricWarning, match=said) as record:
        assert np.isnan(task_scorer("y0", "neg_log_loss")(est, X, y))
    assert record[0].filename == __file__  # points at the caller
    assert np.isfinite(task_scorer("y0", "accuracy")(est, X, y))


def test_a_search_by_probabilities_whose_folds_hold_few_labels() -> None:
    X = np.random.default_rng(1).normal(size=(40, 2))
    y = np.array(["fig", "pear"])[np.arange(40) // 20]
    tasks = [Task("fruit", "classification", categories=["fig", "pear"])]
    est = MultiTaskCNNEstimator(
        tasks, trunk=DenseTrunk((4,), n_members=2), max_epochs=1, random_state=0
    )
    scores = cross_val_score(est, X, y, cv=KFold(4), scoring=task_scorer("fruit", "neg_log_loss"))
    assert np.isfinite(scores).all()


def test_scorers_that_give_no_number() -> None:
    """So that the test above shows something: all give one for some task but those for sets."""
    silent = [
        scorer
        for scorer in SCORERS
        if all(
            isinstance(outcome(task_scorer(task, scorer), fitted(), rows(), targets())[0], str)
            for task in NAMES
        )
    ]
    assert silent == ["f1_samples", "jaccard_samples", "precision_samples", "recall_samples"]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("task", NAMES)
def test_no_metric_is_that_of_score_tasks(task: str, weighted: bool) -> None:
    weight = WHOLE if weighted else None
    expected = fitted().score_tasks(rows(), targets(), weight)
    assert task_scorer(task)(fitted(), rows(), targets(), weight) == pytest.approx(expected[task])


PAIRS = [("flag", "roc_auc"), ("word", "accuracy"), ("grade", "neg_log_loss"), ("size", "r2")]


@pytest.mark.parametrize(
    "lay_out",
    [
        lambda y: y[y.columns[::-1]],
        lambda y: pl.from_pandas(y),
        lambda y: y.to_numpy(dtype=object),
        lambda y: y.to_numpy(dtype=object).tolist(),
        lambda y: y.astype({"word": "category", "flag": "boolean", "color": "Int64"}),
    ],
    ids=["columns in another order", "polars", "array", "list", "types of pandas"],
)
@pytest.mark.parametrize(("task", "metric"), PAIRS)
def test_scorer_takes_y_in_every_container(task: str, metric: str, lay_out: Any) -> None:
    scorer = task_scorer(task, metric)
    expected = scorer(fitted(), rows(), targets())
    assert scorer(fitted(), rows(), lay_out(targets())) == expected


@pytest.mark.parametrize("make", [pd.DataFrame, lambda X: pl.from_pandas(X)], ids=["pd", "pl"])
def test_scorer_takes_frames_of_x(make: Any) -> None:
    est, y = small(TASKS, max_epochs=2).fit(frame(), targets()), targets()
    expected = task_scorer("size", "r2")(est, frame(), y)
    assert task_scorer("size", "r2")(est, make(frame()), y) == expected
    assert expected == pytest.approx(
        masked_score(r2_score, y["size"], est.predict_frame(frame())["size"])
    )


@pytest.mark.parametrize("store", ["hdf5", "zarr"])
def test_scorer_takes_x_on_disk(store: str, tmp_path: Path) -> None:
    if store == "hdf5":
        X = h5py.File(tmp_path / "X.h5", "w").create_dataset("X", data=rows(), chunks=(7, 4))
    else:
        X = zarr.create_array(tmp_path / "X.zarr", data=rows(), chunks=(7, 4))
    for scorer in (task_scorer("size", "r2"), task_scorer("count", None)):
        assert scorer(fitted(), X, targets()) == scorer(fitted(), rows(), targets())


def test_scorer_takes_images() -> None:
    X = rows().reshape(ROWS, 1, 2, 2)
    est = small(trunk=ConvTrunk(width=4), max_epochs=1).fit(X, targets()[["size"]])
    expected = masked_score(r2_score, targets()["size"], est.predict(X)[:, 0])
    assert task_scorer("size", "r2")(est, X, targets()[["size"]]) == pytest.approx(expected)


@pytest.mark.parametrize(("task", "metric"), PAIRS)
def test_scorer_takes_weights_of_single_targets(task: str, metric: str) -> None:
    weights = np.random.default_rng(4).integers(0, 3, (ROWS, len(TASKS)))
    k, scorer = NAMES.index(task), task_scorer(task, metric)
    found = scorer(fitted(), rows(), targets(), weights)
    assert found == scorer(fitted(), rows(), targets(), weights[:, k])
    named = pd.DataFrame(weights, columns=NAMES)[NAMES[::-1]]
    assert found == scorer(fitted(), rows(), targets(), sample_weight=named)
    assert found != scorer(fitted(), rows(), targets())


def test_scorer_does_not_look_at_cells_of_weight_zero() -> None:
    y, weight = targets(), np.where(np.arange(ROWS) % 4 == 0, 0.0, 1.0)
    scorer = task_scorer("cost", "neg_mean_gamma_deviance")
    expected = scorer(fitted(), rows(), y, weight)
    y.loc[::4, "cost"] = -1.0  # where there is weight, an error
    assert scorer(fitted(), rows(), y, weight) == expected
    with pytest.raises(ValueError, match="Task 'cost': the target must hold values > 0"):
        scorer(fitted(), rows(), y)


def test_weight_of_two_is_the_row_twice_for_a_scorer() -> None:
    y, repeat = targets(), WHOLE
    for task, metric in PAIRS:
        scorer = task_scorer(task, metric)
        twice = scorer(fitted(), np.repeat(rows(), repeat, axis=0), y.loc[y.index.repeat(repeat)])
        assert scorer(fitted(), rows(), y, repeat) == pytest.approx(twice)


@pytest.mark.parametrize("conditional_output", ["nan", "expected"])
@pytest.mark.parametrize(
    ("task", "metric"),
    [("word", "neg_log_loss"), ("word", "f1_macro"), ("size", "r2"), ("size", None)],
)
def test_scorer_is_always_that_of_the_estimate(
    task: str, metric: str | None, conditional_output: str
) -> None:
    scorer = task_scorer(task, metric)
    found = scorer(fitted(conditional_output), rows(), targets())
    assert found == scorer(fitted(), rows(), targets())
    assert np.isfinite(found)


@pytest.mark.parametrize(
    ("y", "weight"),
    [
        (targets().assign(size=np.nan), None),
        (targets(), np.where(targets()["size"].notna(), 0, 1)),
        (targets(), np.arange(len(NAMES)) * np.ones((ROWS, 1)) != NAMES.index("size")),
    ],
    ids=["holes", "weights of rows", "weights of targets"],
)
@pytest.mark.parametrize("metric", ["r2", "neg_mean_squared_error", None])
def test_scorer_without_observed_rows_warns_and_gives_nan(
    y: Any, weight: Any, metric: str | None
) -> None:
    said = "Task 'size' has no observed rows: its score is NaN"
    with pytest.warns(UndefinedMetricWarning, match=said) as record:
        found = task_scorer("size", metric)(fitted(), rows(), y, weight)
    assert isinstance(found, float)
    assert np.isnan(found)
    assert record[0].filename == __file__  # points at the caller


@pytest.mark.parametrize("metric", ["r2", None])
def test_scorer_of_a_number_that_fit_did_not_observe(metric: str | None) -> None:
    """Its score is NaN also where y holds it."""
    tasks, y = [Task("size", "regression"), TASKS[5]], targets()[["size", "wait"]]
    with pytest.warns(UserWarning, match="'size'"):
        est = small(tasks, max_epochs=1).fit(rows(), y.assign(size=np.nan))
    with pytest.warns(UndefinedMetricWarning, match="'size' had no observed value in fit"):
        assert np.isnan(task_scorer("size", metric)(est, rows(), y))


def test_scorer_made_by_make_scorer() -> None:
    made = make_scorer(fbeta_score, beta=2, pos_label="yes")
    answers, _, true = by_hand("word")
    expected = fbeta_score(true, answers.predict(None), beta=2, pos_label="yes")
    assert task_scorer("word", made)(fitted(), rows(), targets()) == expected
    made = make_scorer(mean_pinball_loss, alpha=0.7, greater_is_better=False)
    answers, seen, true = by_hand("wait")
    expected = -mean_pinball_loss(true, answers.predict(None), alpha=0.7)
    assert task_scorer("wait", made)(fitted(), rows(), targets()) == pytest.approx(expected)
    expected = -mean_pinball_loss(true, answers.predict(None), alpha=0.7, sample_weight=WHOLE[seen])
    assert task_scorer("wait", made)(fitted(), rows(), targets(), WHOLE) == pytest.approx(expected)


def test_scorer_that_is_a_function() -> None:
    def share_of_no(view: Any, X: Any, y: Any) -> float:
        assert is_classifier(view)
        assert len(X) == len(y)
        return float(np.mean(y == "no"))

    assert (
        task_scorer("word", share_of_no)(fitted(), rows(), targets())
        == (targets()["word"].value_counts(normalize=True)["no"])
    )


def minus_absolute_error(view: Any, X: Any, y: Any, sample_weight: Any = None) -> float:
    """A scorer that was not made by scikit-learn."""
    return -mean_absolute_error(y, view.predict(X), sample_weight=sample_weight)


@cache
def within_bounds() -> tuple[MultiTaskCNNEstimator, pd.DataFrame]:
    """An estimator of a number of which some are only known to be above one, and its targets."""
    rng = np.random.default_rng(5)
    number, end = rows()[:, 0] + rng.normal(size=ROWS), rng.normal(0.5, 1.0, size=ROWS)
    y = pd.DataFrame(
        {"least": np.minimum(number, end), "most": np.where(number > end, np.inf, number)}
    )
    y.loc[::7] = np.nan
    task = Task("size", "regression", lower="least", upper="most")
    return small([task], max_epochs=5).fit(rows(), y), y


@pytest.mark.parametrize("weighted", [False, True])
def test_scorer_of_order_takes_bounds_and_others_what_is_exact(weighted: bool) -> None:
    est, y = within_bounds()
    guess = est.predict(rows())[:, 0]
    weight = WHOLE if weighted else None
    weights = WHOLE if weighted else np.ones(ROWS)
    known = np.less.outer(y["most"].to_numpy(), y["least"].to_numpy())  # the first is less
    known = known * np.multiply.outer(weights, weights)
    order = np.sum(known * np.less.outer(guess, guess)) / np.sum(known)
    for metric in (None, make_scorer(concordance_index)):
        assert task_scorer("size", metric)(est, rows(), y, weight) == pytest.approx(order)
    exact = (y["least"] == y["most"]).to_numpy()
    error = np.average(np.abs(y["least"] - guess)[exact], weights=weights[exact])
    for other in ("neg_mean_absolute_error", MADE, minus_absolute_error):
        assert task_scorer("size", other)(est, rows(), y, weight) == pytest.approx(-error)


def test_scorer_of_exact_numbers_where_there_are_none() -> None:
    est, y = within_bounds()
    above = (y["least"] < y["most"]).to_numpy()
    with pytest.warns(UndefinedMetricWarning, match="'size' has no observed rows"):
        assert np.isnan(task_scorer("size", "r2")(est, rows()[above], y[above]))


def test_scorer_changes_nothing_that_is_passed() -> None:
    X, y, weight = frame(), targets(), WHOLE.astype(float)
    est = small(TASKS, max_epochs=1).fit(X, y)
    task_scorer("size", "r2")(est, X, y, weight)
    pd.testing.assert_frame_equal(X, frame())
    pd.testing.assert_frame_equal(y, targets())
    np.testing.assert_array_equal(weight, WHOLE)


# -- scorers: what is refused ----------------------------------------------------------------


def test_scorer_of_an_unknown_name() -> None:
    with pytest.raises(ValueError, match="'r3' is not a valid scoring value"):
        task_scorer("size", "r3")
    with pytest.raises(ValueError, match="'r3' is not a valid scoring value"):
        task_scorers({"flag": "roc_auc", "size": ["r2", "r3"]})


def test_scorer_of_a_metric_that_is_no_scorer() -> None:
    """scikit-learn tells the two apart by where they come from."""
    with pytest.raises(ValueError, match="looks like it is a metric function rather than a scorer"):
        task_scorer("size", r2_score)


@pytest.mark.parametrize(
    ("task", "metric", "note"),
    [
        ("size", "accuracy", "'size' holds numbers, which metrics of numbers score, such as 'r2'"),
        ("size", "roc_auc", "'size' holds numbers"),
        ("word", "f1", r"the classes \['no', 'yes'\].*make_scorer\(f1_score, pos_label='yes'\)"),
        ("grade", "f1", "'grade' holds 3 classes, which metrics of several score.*'f1_macro'"),
    ],
)
def test_scorer_that_does_not_fit_its_task_notes_which_do(
    task: str, metric: str, note: str
) -> None:
    """Beside the words of scikit-learn, which name no task; searches print both."""
    with pytest.raises((AttributeError, ValueError)) as caught:
        task_scorer(task, metric)(fitted(), rows(), targets())
    assert re.search(note, "".join(caught.value.__notes__))


def test_a_fault_of_ones_own_scorer_is_not_one_of_the_labels() -> None:
    """Also where rows lack some labels."""

    def scorer(view: Any, X: Any, y: Any) -> float:
        return float(view.no_such_thing)

    X, y = rows(), targets()
    some = (y["word"] == "yes").to_numpy()
    with pytest.raises(AttributeError, match="no_such_thing"):
        task_scorer("word", scorer)(fitted(), X[some], y[some])


@pytest.mark.parametrize("metric", [3, ["r2"], {"r2": "r2"}, np.nan, True])
def test_scorer_of_a_wrong_type(metric: Any) -> None:
    with pytest.raises(ValueError, match=f"^metric={re.escape(repr(metric))} is not understood"):
        task_scorer("size", metric)


@pytest.mark.parametrize(
    "make", [lambda est: est, lambda est: FrozenEstimator(est)], ids=["estimator", "frozen"]
)
def test_scorer_of_an_unknown_task_says_the_known_ones(make: Any) -> None:
    known = re.escape(str(NAMES))
    with pytest.raises(ValueError, match=f"task_scorer: 'sise' is not a task. Use one of {known}"):
        task_scorer("sise", "r2")(make(fitted()), rows(), targets())


def test_scorer_of_another_estimator() -> None:
    other = LinearRegression().fit(rows(), rows()[:, 0])
    with pytest.raises(TypeError, match="LinearRegression has no tasks"):
        task_scorer("size", "r2")(other, rows(), targets())
    with pytest.raises(NotFittedError):
        task_scorer("size", "r2")(small(TASKS), rows(), targets())


@pytest.mark.parametrize(
    ("X", "y", "weight", "message"),
    [
        (rows()[:9], targets(), None, "inconsistent numbers of samples"),
        (rows(), targets()[["flag", "size"]], None, "y lacks the columns"),
        (rows(), targets().to_numpy()[:, :3], None, "y has 3 columns, but the estimator"),
        (rows(), targets(), -np.ones(ROWS), "sample_weight"),
        (rows(), targets(), np.ones(7), "sample_weight"),
        (rows(), targets().assign(size=1.0), None, "Task 'size' exists only given"),
        (rows()[:, :3], targets(), None, "X has 3 features"),
    ],
    ids=["rows", "columns", "array", "weights", "number of weights", "gate", "features"],
)
def test_scorer_of_bad_input(X: Any, y: Any, weight: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        task_scorer("size", "r2")(fitted(), X, y, weight)


# -- several of them -------------------------------------------------------------------------


def test_keys_of_scorers() -> None:
    made = MADE
    scorers = task_scorers(
        {
            "flag": ["accuracy", "roc_auc"],
            "grade": ("f1_macro",),
            "size": "r2",
            "wait": {"pinball": made, "absolute": "neg_mean_absolute_error", "own": None},
            "count": made,
            "cost": None,
        }
    )
    assert list(scorers) == [
        "flag_accuracy",
        "flag_roc_auc",
        "grade_f1_macro",
        "size_r2",
        "wait_pinball",
        "wait_absolute",
        "wait_own",
        "count",
        "cost",
    ]
    assert {key: scorer.task for key, scorer in scorers.items()} == {
        key: key.partition("_")[0] for key in scorers
    }
    assert scorers["wait_pinball"].metric is scorers["count"].metric is made
    assert scorers["wait_absolute"].metric == "neg_mean_absolute_error"
    assert scorers["wait_own"].metric is None is scorers["cost"].metric
    assert task_scorers({}) == {}


@pytest.mark.parametrize(
    ("metrics", "key"),
    [
        ({"a": {"b_r2": "r2"}, "a_b": "r2"}, "a_b_r2"),
        ({"a": {"r2": None}, "a_r2": None}, "a_r2"),
    ],
)
def test_two_scorers_of_one_key(metrics: Any, key: str) -> None:
    with pytest.raises(ValueError, match=f"Two scorers are called '{key}'. Name them by a dict"):
        task_scorers(metrics)


@pytest.mark.parametrize("metric", [3, [["r2"]], {"r2": 3}])
def test_scorers_of_a_wrong_type(metric: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        task_scorers({"size": metric})


# -- searches and cross-validation -----------------------------------------------------------

TWO = [TASKS[0], TASKS[4]]  # a class, and a number that exists for one of its labels
METRICS = {"flag": ["accuracy", "neg_log_loss"], "size": "r2"}
KEYS = ["flag_accuracy", "flag_neg_log_loss", "size_r2"]
GRID = {"max_epochs": [1, 4, 30]}


def two() -> pd.DataFrame:
    return targets()[["flag", "size"]]


@cache
def scores_by_hand(weighted: bool = False) -> dict[str, np.ndarray]:
    """Scores (n_candidates, n_folds) of each key, from fits and metrics one by one."""
    scores: dict[str, list[float]] = {key: [] for key in KEYS}
    weight = WHOLE if weighted else np.ones(ROWS)
    for epochs in GRID["max_epochs"]:
        for train, test in KFold(2).split(rows()):
            y = two()
            est = small(TWO, max_epochs=epochs)
            est.fit(rows()[train], y.iloc[train], weight[train] if weighted else None)
            predicted, proba = est.predict(rows()[test]), est.predict_proba(rows()[test])
            flag, size = y["flag"].iloc[test], y["size"].iloc[test]
            with_weight = partial(masked_score, sample_weight=weight[test])
            scores["flag_accuracy"].append(with_weight(accuracy_score, flag, predicted[:, 0]))
            scores["flag_neg_log_loss"].append(-with_weight(log_loss, flag, proba))
            scores["size_r2"].append(with_weight(r2_score, size, predicted[:, 1]))
    return {key: np.reshape(values, (-1, 2)) for key, values in scores.items()}


def assert_results_are(results: dict[str, Any], expected: dict[str, np.ndarray]) -> None:
    for key, scores in expected.items():
        for fold in range(2):
            np.testing.assert_allclose(results[f"split{fold}_test_{key}"], scores[:, fold], 1e-9)


@pytest.mark.parametrize("refit", KEYS)
def test_search_with_several_metrics_refits_by_any(refit: str) -> None:
    search = GridSearchCV(small(TWO), GRID, scoring=task_scorers(METRICS), refit=refit, cv=2)
    search.fit(rows(), two())
    assert_results_are(search.cv_results_, scores_by_hand())
    assert search.best_index_ == scores_by_hand()[refit].mean(axis=1).argmax()
    assert search.best_score_ == pytest.approx(scores_by_hand()[refit].mean(axis=1).max())
    scorer = task_scorers(METRICS)[refit]
    assert search.score(rows(), two()) == scorer(search.best_estimator_, rows(), two())
    assert search.score(rows(), two()) == scorer(search, rows(), two())


def test_searches_with_one_metric() -> None:
    key, scorer = "size_r2", task_scorer("size", "r2")
    expected = scores_by_hand()[key]
    grid = GridSearchCV(small(TWO), GRID, scoring=scorer, cv=2).fit(rows(), two())
    np.testing.assert_allclose(grid.cv_results_["mean_test_score"], expected.mean(axis=1))
    halving = HalvingGridSearchCV(
        small(TWO),
        {"tol": [0.0]},
        resource="max_epochs",
        min_resources=1,
        max_resources=1,
        scoring=scorer,
        cv=2,
    ).fit(rows(), two())
    np.testing.assert_allclose(halving.cv_results_["mean_test_score"], expected[0].mean())
    _, found = validation_curve(
        small(TWO),
        rows(),
        two(),
        param_name="max_epochs",
        param_range=[1, 30],
        cv=2,
        scoring=scorer,
    )
    np.testing.assert_allclose(found, expected[[0, 2]])


def test_cross_validation() -> None:
    est = small(TWO, max_epochs=4)
    found = cross_validate(
        est, rows(), two(), scoring=task_scorers(METRICS), cv=2, return_train_score=True
    )
    for key in KEYS:
        np.testing.assert_allclose(found[f"test_{key}"], scores_by_hand()[key][1])
        assert not np.allclose(found[f"train_{key}"], found[f"test_{key}"])
    one = cross_val_score(est, rows(), two(), scoring=task_scorer("flag", "accuracy"), cv=2)
    np.testing.assert_allclose(one, scores_by_hand()["flag_accuracy"][1])


def test_search_over_a_pipeline() -> None:
    pipeline = make_pipeline(StandardScaler(), small(TWO))
    grid = {f"multitaskcnnestimator__{name}": values for name, values in GRID.items()}
    search = GridSearchCV(pipeline, grid, scoring=task_scorers(METRICS), refit="size_r2", cv=2)
    search.fit(frame(), two())
    scaled = search.best_estimator_[0].transform(frame())
    for key, scorer in task_scorers(METRICS).items():
        expected = scorer(search.best_estimator_[-1], scaled, two())
        for whole in (
            search,
            search.best_estimator_,
            FrozenEstimator(search),
            FrozenEstimator(search.best_estimator_),
        ):
            assert scorer(whole, frame(), two()) == expected, key


def test_permutation_importance_of_all_tasks() -> None:
    """Of the estimator itself, with y as it is, and with more than one metric."""
    found = permutation_importance(
        fitted(), rows(), targets(), scoring=task_scorers(METRICS), n_repeats=2, random_state=0
    )
    assert list(found) == KEYS
    assert found["flag_accuracy"].importances_mean.argmax() == 0
    assert found["size_r2"].importances_mean.argmax() == 3


def test_weights_reach_the_scorers_of_a_search() -> None:
    """Since 1.8, scikit-learn hands the weights of `fit` on, metadata routing or not."""
    expected = scores_by_hand(weighted=True)
    assert not np.allclose(expected["size_r2"], scores_by_hand()["size_r2"])
    one = GridSearchCV(small(TWO), GRID, scoring=task_scorer("size", "r2"), cv=2)
    one.fit(rows(), two(), sample_weight=WHOLE)
    found = [one.cv_results_[f"split{fold}_test_score"] for fold in range(2)]
    np.testing.assert_allclose(np.transpose(found), expected["size_r2"])
    several = GridSearchCV(small(TWO), GRID, scoring=task_scorers(METRICS), refit=False, cv=2)
    several.fit(rows(), two(), sample_weight=WHOLE)
    assert_results_are(several.cv_results_, expected)


def test_weights_reach_a_scorer_that_names_no_metric() -> None:
    scorers = {"own": task_scorer("size", None), "r2": task_scorer("size", "r2")}
    search = GridSearchCV(small(TWO, max_epochs=1), {}, scoring=scorers, refit=False, cv=2)
    search.fit(rows(), two(), sample_weight=WHOLE)
    own, r2 = (search.cv_results_[f"mean_test_{name}"] for name in scorers)
    assert own == pytest.approx(r2, rel=1e-12)


MAX_ERROR = make_scorer(max_error, greater_is_better=False)


@pytest.mark.parametrize(
    "metric",
    ["neg_max_error", MAX_ERROR, lambda view, X, y: -max_error(y, view.predict(X))],
    ids=["name", "made", "function"],
)
def test_search_says_which_scorers_take_no_weights(metric: Any) -> None:
    """And goes on without them, as with scikit-learn's own."""
    est = small(TWO, max_epochs=4)
    for scoring, key in (
        (task_scorer("size", metric), "score"),
        (task_scorers({"size": {"error": metric, "r2": "r2"}}), "size_error"),
    ):
        search = GridSearchCV(est, {}, scoring=scoring, refit=False, cv=2)
        with pytest.warns(UserWarning, match="does not support sample_weight"):
            search.fit(rows(), two(), sample_weight=WHOLE)
        expected = []
        for train, test in KFold(2).split(rows()):
            fold = clone(est).fit(rows()[train], two().iloc[train], WHOLE[train])
            predicted = fold.predict(rows()[test])[:, 1]
            expected.append(-masked_score(max_error, two()["size"].iloc[test], predicted))
        found = [search.cv_results_[f"split{fold}_test_{key}"][0] for fold in range(2)]
        np.testing.assert_allclose(found, expected)


def test_scorers_side_by_side() -> None:
    """In threads; what other processes need is that they pickle."""
    scorers = task_scorers(METRICS)
    search = GridSearchCV(small(TWO), GRID, scoring=scorers, refit=False, cv=2, n_jobs=2)
    with parallel_config(backend="threading"):
        search.fit(rows(), two())
    assert_results_are(search.cv_results_, scores_by_hand())


# -- scorers: metadata, copies, repr ---------------------------------------------------------


def test_metadata_routing() -> None:
    expected = scores_by_hand(weighted=True)
    with config_context(enable_metadata_routing=True):
        est = small(TWO).set_fit_request(sample_weight=True)
        scorers = {
            key: scorer.set_score_request(sample_weight=True)
            for key, scorer in task_scorers(METRICS).items()
        }
        search = GridSearchCV(est, GRID, scoring=scorers, refit=False, cv=2)
        search.fit(rows(), two(), sample_weight=WHOLE)
        assert_results_are(search.cv_results_, expected)
        found = cross_validate(
            est.set_params(max_epochs=4),
            rows(),
            two(),
            scoring=clone(scorers["size_r2"]),  # keeps what it asks for
            cv=2,
            params={"sample_weight": WHOLE},
        )
        np.testing.assert_allclose(found["test_score"], expected["size_r2"][1])


def test_metadata_under_another_name_and_not_asked_for() -> None:
    with config_context(enable_metadata_routing=True):
        est = small(TWO, max_epochs=1).set_fit_request(sample_weight=False)
        weighted = task_scorer("size", "r2").set_score_request(sample_weight="importance")
        plain = task_scorer("size", "r2").set_score_request(sample_weight=False)
        run = partial(cross_val_score, est, rows(), two(), cv=2)
        found = run(scoring=weighted, params={"importance": WHOLE})
        expected = []
        for train, test in KFold(2).split(rows()):
            fold = clone(est).fit(rows()[train], two().iloc[train])
            expected.append(weighted(fold, rows()[test], two().iloc[test], WHOLE[test]))
        np.testing.assert_allclose(found, expected)
        # The estimator and the scorer both refuse weights, so nobody asks for them.
        with pytest.raises(TypeError, match="sample_weight"):
            run(scoring=plain, params={"sample_weight": WHOLE})
        assert not np.allclose(run(scoring=plain), expected)


@pytest.mark.parametrize(
    "scoring", [task_scorer("size", "r2"), task_scorers(METRICS)], ids=["one", "several"]
)
def test_metadata_without_a_request_is_refused(scoring: Any) -> None:
    with config_context(enable_metadata_routing=True):
        est = small(TWO, max_epochs=1).set_fit_request(sample_weight=True)
        search = GridSearchCV(est, {}, scoring=scoring, refit=False, cv=2)
        with pytest.raises(UnsetMetadataPassedError, match="sample_weight"):
            search.fit(rows(), two(), sample_weight=WHOLE)
        with pytest.raises(UnsetMetadataPassedError, match="sample_weight"):
            cross_validate(
                est, rows(), two(), scoring=scoring, cv=2, params={"sample_weight": WHOLE}
            )


def test_weights_are_the_only_metadata() -> None:
    with config_context(enable_metadata_routing=True):
        requests = task_scorer("size", "r2").get_metadata_routing().score.requests
        assert requests == {"sample_weight": None}
        with pytest.raises(TypeError, match="Unexpected args"):
            task_scorer("size", "r2").set_score_request(estimator=True)


def test_requests_without_metadata_routing() -> None:
    with pytest.raises(RuntimeError, match="metadata routing is enabled"):
        task_scorer("size", "r2").set_score_request(sample_weight=True)


MADE = make_scorer(mean_absolute_error, greater_is_better=False)


@pytest.mark.parametrize("metric", ["r2", None, MADE], ids=["name", "none", "made"])
@pytest.mark.parametrize("copy", [clone, pickled, deepcopy], ids=["clone", "pickle", "deepcopy"])
def test_copies_of_a_scorer(copy: Any, metric: Any) -> None:
    scorer = task_scorer("size", metric)
    again = copy(scorer)
    assert again is not scorer
    assert again(fitted(), rows(), targets()) == scorer(fitted(), rows(), targets())


@pytest.mark.parametrize(
    "scoring", [task_scorer("size", MADE), task_scorers(METRICS)], ids=["one", "several"]
)
@pytest.mark.parametrize("copy", [clone, pickled], ids=["clone", "pickle"])
def test_copies_of_a_search(copy: Any, scoring: Any) -> None:
    refit = "size_r2" if isinstance(scoring, dict) else True
    search = GridSearchCV(small(TWO, max_epochs=1), {}, scoring=scoring, refit=refit, cv=2)
    again = copy(search)
    found, expected = (s.fit(rows(), two()).best_score_ for s in (again, search))
    assert found == expected
    assert pickled(again).score(rows(), two()) == search.score(rows(), two())


def test_repr_of_a_scorer() -> None:
    said = repr(task_scorer("size", "r2"))
    assert "'size'" in said
    assert "'r2'" in said
    assert "make_scorer(mean_absolute_error" in repr(task_scorer("size", MADE))
