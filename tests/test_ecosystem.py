"""Every tool of scikit-learn, with y in every container and X of rows and of images.

Each cell of the matrix is run. It either works, and a property of its result is asserted, or it
stands in `UNSUPPORTED` with scikit-learn's own reason, so that it is noticed when it begins to.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import joblib
import matplotlib as mpl
import numpy as np
import pandas as pd
import polars as pl
import pytest
from matplotlib import pyplot as plt
from scipy.stats import spearmanr
from sklearn import config_context
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV, CalibrationDisplay
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.ensemble import (
    AdaBoostRegressor,
    BaggingRegressor,
    StackingClassifier,
    StackingRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.exceptions import NotFittedError
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.feature_selection import (
    RFE,
    SelectFromModel,
    SelectKBest,
    SequentialFeatureSelector,
    f_regression,
)
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.inspection import (
    DecisionBoundaryDisplay,
    PartialDependenceDisplay,
    permutation_importance,
)
from sklearn.metrics import (
    ConfusionMatrixDisplay,
    DetCurveDisplay,
    PrecisionRecallDisplay,
    PredictionErrorDisplay,
    RocCurveDisplay,
    accuracy_score,
    average_precision_score,
    det_curve,
    r2_score,
    roc_auc_score,
)
from sklearn.model_selection import (
    FixedThresholdClassifier,
    GridSearchCV,
    GroupKFold,
    HalvingGridSearchCV,
    HalvingRandomSearchCV,
    KFold,
    LearningCurveDisplay,
    LeaveOneGroupOut,
    RandomizedSearchCV,
    RepeatedKFold,
    ShuffleSplit,
    StratifiedKFold,
    TimeSeriesSplit,
    TunedThresholdClassifierCV,
    ValidationCurveDisplay,
    cross_val_predict,
    cross_val_score,
    cross_validate,
    learning_curve,
    permutation_test_score,
    train_test_split,
    validation_curve,
)
from sklearn.multioutput import MultiOutputRegressor, RegressorChain
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.semi_supervised import SelfTrainingClassifier
from sklearn.utils import _safe_indexing as take
from sklearn.utils import estimator_html_repr

from sklearn_mtl import MultiTaskCNNEstimator, Task, task_view
from sklearn_mtl.metrics import task_scorers
from sklearn_mtl.networks import ConvTrunk, DenseTrunk

mpl.use("Agg")

N = 48
FEATURES = ["a", "b", "c"]
NAMES = ["defect", "brightness", "size"]
CONTAINERS = ["numpy", "pandas", "polars"]
FOLDS = KFold(2)
GROUPS = np.arange(N) % 3
LOSSES = ["weighted", "masked_mse"]

same = np.testing.assert_array_equal


@pytest.fixture(autouse=True)
def close_figures() -> Iterator[None]:
    yield
    plt.close("all")


# -- the cells -------------------------------------------------------------------------------


def rows() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(N, 3))


def images() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(N, 1, 6, 6)) + rows()[:, :1, None, None]


def targets() -> pd.DataFrame:
    """A class, a number, and a number of one class; each with holes."""
    X, rng = rows(), np.random.default_rng(2)
    defect = np.where(X[:, 0] + 0.5 * rng.normal(size=N) > 0, "yes", "no").astype(object)
    brightness = X[:, 1] + 0.1 * rng.normal(size=N)
    size = np.where(defect == "yes", 5 + X[:, 2], np.nan)
    defect[::11], brightness[1::5] = None, np.nan
    return pd.DataFrame(dict(zip(NAMES, (defect, brightness, size), strict=True)))


@dataclass(frozen=True, eq=False)
class Case:
    """One cell: X and y in their containers, and an estimator for them."""

    container: str  # of y
    layout: str  # of X

    @cached_property
    def array(self) -> np.ndarray:
        """X as an array."""
        return images() if self.layout == "4-D" else rows()

    @cached_property
    def X(self) -> Any:
        return self.as_x(self.array)

    def as_x(self, array: np.ndarray) -> Any:
        """Lay an array out like X."""
        if self.layout != "frame":
            return array
        columns = FEATURES[: array.shape[1]]
        return {"pandas": pd.DataFrame, "polars": pl.DataFrame}[self.container](
            dict(zip(columns, array.T, strict=True))
        )

    @property
    def columns(self) -> Sequence[Any]:
        """Labels of the columns of X."""
        return FEATURES if self.layout == "frame" else range(3)

    @cached_property
    def y(self) -> Any:
        y = targets()
        if self.container == "numpy":
            return y.assign(defect=y["defect"].map({"no": 0.0, "yes": 1.0})).to_numpy(dtype=float)
        return y if self.container == "pandas" else pl.from_pandas(y)

    @property
    def labels(self) -> list[Any]:
        """Both labels of the class task."""
        return [0.0, 1.0] if self.container == "numpy" else ["no", "yes"]

    def column(self, name: str) -> np.ndarray:
        """One column of y; labels as they are in y."""
        column = targets()[name]
        if name == "defect" and self.container == "numpy":
            column = column.map({"no": 0.0, "yes": 1.0})
        return column.to_numpy()

    def observed(self, name: str) -> tuple[Any, np.ndarray]:
        """Rows in which a task was observed, and its labels or numbers there."""
        seen = np.flatnonzero(targets()[name].notna())
        return take(self.X, seen), np.array(self.column(name)[seen].tolist())

    def make(self, **params: Any) -> MultiTaskCNNEstimator:
        """An estimator that learns in a moment."""
        tasks = [
            Task("defect", "classification"),
            Task("brightness", "regression"),
            Task("size", "regression", given=("defect", self.labels[1])),
        ]
        dense = DenseTrunk((4,), n_members=1, n_frequencies=0)
        trunk = ConvTrunk(width=2, n_features=4) if self.layout == "4-D" else dense
        defaults = {"tasks": tasks, "trunk": trunk, "max_epochs": 1, "learning_rate": 0.1}
        return MultiTaskCNNEstimator(**(defaults | params), random_state=0)

    def fit(self, rows: np.ndarray, **params: Any) -> MultiTaskCNNEstimator:
        """The estimator, fitted to some rows."""
        return self.make(**params).fit(take(self.X, rows), take(self.y, rows))

    def scores(self, splits: Any, **params: Any) -> list[float]:
        """Cross-validation by hand."""
        return [
            self.fit(train, **params).score(take(self.X, test), take(self.y, test))
            for train, test in splits
        ]

    def scaler(self) -> Any:
        """A transformer that takes this X."""
        return FunctionTransformer(halve) if self.layout == "4-D" else StandardScaler()

    @cached_property
    def pipeline(self) -> Pipeline:
        """A fitted pipeline, shared by the tools that only look at it."""
        return make_pipeline(self.scaler(), self.make(max_epochs=3)).fit(self.X, self.y)

    def proba(self, X: Any) -> np.ndarray:
        """The probability of the second label, by the fitted pipeline."""
        return self.pipeline.predict_proba(X)[:, 1]

    def numbers(self, X: Any) -> np.ndarray:
        """Both tasks of numbers, by the fitted pipeline."""
        return self.pipeline.predict(X)[:, 1:].astype(float)

    def view(self, name: str) -> Any:
        """One task of the fitted pipeline."""
        return task_view(self.pipeline, name)


@cache
def fitted(case: Case, **params: Any) -> MultiTaskCNNEstimator:
    """What is refitted to all rows, by hand."""
    return case.fit(np.arange(N), **params)


@cache
def scores(case: Case, **params: Any) -> list[float]:
    """Scores of the two folds, by hand."""
    return case.scores(FOLDS.split(case.array), **params)


def halve(X: Any) -> np.ndarray:
    return np.asarray(X) / 2


def squares(X: Any) -> np.ndarray:
    return np.asarray(X) ** 2


TOOLS: dict[str, Callable[[Case], None]] = {}


def tool(run: Callable[[Case], None]) -> Callable[[Case], None]:
    TOOLS[run.__name__] = run
    return run


# -- searches --------------------------------------------------------------------------------


def check_search(case: Case, search: Any, by_hand: bool = True) -> None:
    """What was found best is fitted again, to all rows."""
    results = search.cv_results_
    assert np.isfinite(results["mean_test_score"]).all()
    best = fitted(case, **search.best_params_)
    same(search.predict(case.X), best.predict(case.X))
    assert search.score(case.X, case.y) == best.score(case.X, case.y)
    if by_hand:
        folds = [results[f"split{i}_test_score"][search.best_index_] for i in range(2)]
        assert folds == scores(case, **search.best_params_)


@tool
def grid_search(case: Case) -> None:
    search = GridSearchCV(case.make(), {"loss": LOSSES}, cv=FOLDS, error_score="raise")
    check_search(case, search.fit(case.X, case.y))
    assert search.best_score_ == search.cv_results_["mean_test_score"].max()
    assert search.n_features_in_ == case.array[0].size
    assert hasattr(search, "feature_names_in_") == (case.layout == "frame")


@tool
def grid_search_of_the_trunk(case: Case) -> None:
    name, values = "trunk__width", [1, 2]
    if case.layout != "4-D":
        name, values = "trunk__hidden_layer_sizes", [(2,), (3,)]
    search = GridSearchCV(case.make(), {name: values}, cv=FOLDS, error_score="raise")
    search.fit(case.X, case.y)
    best = search.best_estimator_
    assert best.get_params()[name] == search.best_params_[name]
    sizes = {sum(p.numel() for p in best.module_.parameters())}
    for value in values:
        by_hand = case.make().set_params(**{name: value}).fit(case.X, case.y)
        sizes.add(sum(p.numel() for p in by_hand.module_.parameters()))
        if value == search.best_params_[name]:
            same(search.predict(case.X), by_hand.predict(case.X))
    assert len(sizes) == 2


@tool
def randomized_search(case: Case) -> None:
    grid = {"learning_rate": [0.03, 0.1], "loss": LOSSES}
    search = RandomizedSearchCV(
        case.make(), grid, n_iter=2, cv=FOLDS, random_state=0, error_score="raise"
    )
    check_search(case, search.fit(case.X, case.y))
    assert len(search.cv_results_["params"]) == 2


@tool
def multi_metric_search(case: Case) -> None:
    scoring = task_scorers({"defect": ["accuracy", "roc_auc"], "size": "r2"})
    search = GridSearchCV(
        case.make(), {"loss": LOSSES}, cv=FOLDS, scoring=scoring, refit="size_r2"
    ).fit(case.X, case.y)
    results = search.cv_results_
    for metric in scoring:
        assert np.isfinite(results[f"mean_test_{metric}"]).all()
    assert search.best_index_ == results["mean_test_size_r2"].argmax()
    best = fitted(case, **search.best_params_)
    expected = best.score_tasks(case.X, case.y)["size"]
    assert search.score(case.X, case.y) == pytest.approx(expected, rel=1e-9)


HALVING = {"cv": FOLDS, "factor": 2, "random_state": 0, "error_score": "raise"}
EPOCHS = {"resource": "max_epochs", "min_resources": 1, "max_resources": 2}


@tool
def halving_grid_search(case: Case) -> None:
    search = HalvingGridSearchCV(case.make(), {"loss": LOSSES}, **EPOCHS, **HALVING)
    check_search(case, search.fit(case.X, case.y))
    assert search.n_resources_ == [1, 2]
    assert search.n_candidates_ == [2, 1]
    assert search.best_estimator_.n_iter_ == 2


@tool
def halving_grid_search_of_rows(case: Case) -> None:
    search = HalvingGridSearchCV(case.make(), {"loss": LOSSES}, min_resources=N // 2, **HALVING)
    check_search(case, search.fit(case.X, case.y), by_hand=False)  # rows are drawn
    assert search.n_resources_ == [N // 2, N]


@tool
def halving_random_search(case: Case) -> None:
    grid = {"learning_rate": [0.03, 0.1], "loss": LOSSES}
    search = HalvingRandomSearchCV(case.make(), grid, n_candidates=2, **EPOCHS, **HALVING)
    check_search(case, search.fit(case.X, case.y))
    assert search.best_estimator_.n_iter_ == 2


@tool
def routed_sample_weight(case: Case) -> None:
    """Weights of single targets, through a search and a pipeline."""
    weight = np.random.default_rng(0).random((N, 3)) + 0.1
    with config_context(enable_metadata_routing=True):
        est = case.make().set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        pipeline = Pipeline([("as_is", FunctionTransformer()), ("mtl", est)])
        search = GridSearchCV(pipeline, {"mtl__loss": LOSSES}, cv=FOLDS, error_score="raise")
        search.fit(case.X, case.y, sample_weight=weight)
    loss = search.best_params_["mtl__loss"]
    best = case.make(loss=loss).fit(case.X, case.y, sample_weight=weight)
    same(search.predict(case.X), best.predict(case.X))
    for i, (train, test) in enumerate(FOLDS.split(case.array)):
        X, y = take(case.X, test), take(case.y, test)
        fold = case.make(loss=loss).fit(
            take(case.X, train), take(case.y, train), sample_weight=weight[train]
        )
        found = search.cv_results_[f"split{i}_test_score"][search.best_index_]
        assert found == fold.score(X, y, sample_weight=weight[test]) != fold.score(X, y)


# -- cross-validation ------------------------------------------------------------------------


@tool
def multi_metric_cross_validate(case: Case) -> None:
    metrics = {"defect": ["accuracy", "roc_auc"], "brightness": "r2", "size": ["r2"]}
    found = cross_validate(
        case.make(),
        case.X,
        case.y,
        cv=FOLDS,
        scoring=task_scorers(metrics),
        return_estimator=True,
        return_train_score=True,
        error_score="raise",
    )
    for k, (train, test) in enumerate(FOLDS.split(case.array)):
        fold = found["estimator"][k]
        for part, rows in (("train", train), ("test", test)):
            X, y = take(case.X, rows), take(case.y, rows)
            expected = fold.score_tasks(X, y)
            assert found[f"{part}_defect_accuracy"][k] == pytest.approx(expected["defect"])
            assert found[f"{part}_brightness_r2"][k] == pytest.approx(expected["brightness"])
            assert found[f"{part}_size_r2"][k] == pytest.approx(expected["size"])
            label = case.column("defect")[rows]
            seen = ~pd.isna(label)
            auc = roc_auc_score(label[seen] == case.labels[1], fold.predict_proba(X)[seen, 1])
            assert found[f"{part}_defect_roc_auc"][k] == pytest.approx(auc)


@tool
def scores_of_folds(case: Case) -> None:
    found = cross_val_score(case.make(), case.X, case.y, cv=2, error_score="raise")
    assert np.isfinite(found).all()
    assert found.tolist() == scores(case)


@tool
def predictions_of_folds(case: Case) -> None:
    found = cross_val_predict(case.make(), case.X, case.y, cv=FOLDS, method="predict")
    assert found.shape == (N, 3)
    for train, test in FOLDS.split(case.array):
        same(found[test], case.fit(train).predict(take(case.X, test)))


@tool
def probabilities_of_folds(case: Case) -> None:
    found = cross_val_predict(case.make(), case.X, case.y, cv=FOLDS, method="predict_proba")
    for train, test in FOLDS.split(case.array):
        same(found[test], case.fit(train).predict_proba(take(case.X, test)))


@tool
def probabilities_of_folds_of_one_task(case: Case) -> None:
    X, y = case.observed("defect")
    est = case.make(tasks=None)
    found = cross_val_predict(est, X, y.astype(object), cv=FOLDS, method="predict_proba")
    for train, test in FOLDS.split(y):
        fold = clone(est).fit(take(X, train), y[train])
        same(found[test], fold.predict_proba(take(X, test)))


SPLITTERS: dict[str, Any] = {
    "group_k_fold": GroupKFold(3),
    "leave_one_group_out": LeaveOneGroupOut(),
    "shuffle_split": ShuffleSplit(2, random_state=0),
    "repeated_k_fold": RepeatedKFold(n_splits=2, n_repeats=1, random_state=0),
    "time_series_split": TimeSeriesSplit(2),
    "stratified_k_fold": StratifiedKFold(2),
    # What to do instead: strata of one column, in which a hole is a label of its own.
    "stratified_k_fold_of_one_task": list(
        StratifiedKFold(2).split(rows(), targets()["defect"].fillna("?"))
    ),
}


def split_by(splitter: Any, case: Case) -> None:
    groups = GROUPS if isinstance(splitter, GroupKFold | LeaveOneGroupOut) else None
    found = cross_val_score(
        case.make(), case.X, case.y, cv=splitter, groups=groups, error_score="raise"
    )
    splits = splitter
    if not isinstance(splitter, list):
        splits = list(splitter.split(case.array, groups=groups))
    assert np.isfinite(found).all()
    assert found.tolist() == case.scores(splits)


TOOLS.update({name: partial(split_by, splitter) for name, splitter in SPLITTERS.items()})


@tool
def split_in_two(case: Case) -> None:
    X_train, X_test, y_train, y_test = train_test_split(case.X, case.y, random_state=0)
    train, test = train_test_split(np.arange(N), random_state=0)
    est = case.make().fit(X_train, y_train)
    same(est.predict(X_test), case.fit(train).predict(take(case.X, test)))
    frame = est.predict_frame(X_test)
    assert list(frame.columns) == NAMES
    if case.container != "numpy":
        assert type(frame) is type(y_test)
    assert frame.shape == (len(test), 3)


@tool
def curve_of_rows(case: Case) -> None:
    sizes, train, test = learning_curve(
        case.make(), case.X, case.y, cv=FOLDS, train_sizes=[0.5, 1.0], error_score="raise"
    )
    assert sizes.tolist() == [N // 4, N // 2]
    assert np.isfinite([train, test]).all()
    assert test[1].tolist() == scores(case)


@tool
def curve_of_rows_by_parts(case: Case) -> None:
    """Each tick goes on where the one before stopped."""
    _, _, test = learning_curve(
        case.make(),
        case.X,
        case.y,
        cv=FOLDS,
        train_sizes=[0.5, 1.0],
        exploit_incremental_learning=True,
        error_score="raise",
    )
    for k, (rows, left_out) in enumerate(FOLDS.split(case.array)):
        est = case.make()
        for tick, part in enumerate(np.split(rows, 2)):
            est.partial_fit(take(case.X, part), take(case.y, part))
            assert test[tick, k] == est.score(take(case.X, left_out), take(case.y, left_out))


@tool
def curve_of_rows_display(case: Case) -> None:
    drawn = LearningCurveDisplay.from_estimator(
        case.make(), case.X, case.y, cv=FOLDS, train_sizes=[0.5, 1.0], error_score="raise"
    )
    assert drawn.test_scores[1].tolist() == scores(case)
    assert len(drawn.lines_) == 2


@tool
def curve_of_a_parameter(case: Case) -> None:
    train, test = validation_curve(
        case.make(),
        case.X,
        case.y,
        cv=FOLDS,
        param_name="max_epochs",
        param_range=[1, 2],
        error_score="raise",
    )
    assert np.isfinite(train).all()
    assert test.tolist() == [scores(case, max_epochs=1), scores(case, max_epochs=2)]


@tool
def curve_of_a_parameter_display(case: Case) -> None:
    drawn = ValidationCurveDisplay.from_estimator(
        case.make(),
        case.X,
        case.y,
        cv=FOLDS,
        param_name="max_epochs",
        param_range=[1, 2],
        error_score="raise",
    )
    assert drawn.test_scores[0].tolist() == scores(case, max_epochs=1)
    assert len(drawn.lines_) == 2


@tool
def permutation_test(case: Case) -> None:
    score, permuted, p = permutation_test_score(
        case.make(), case.X, case.y, cv=FOLDS, n_permutations=2, random_state=0
    )
    assert score == np.mean(scores(case))
    assert permuted.shape == (2,)
    assert np.isfinite(permuted).all()
    assert p == (np.sum(permuted >= score) + 1) / 3


# -- pipelines -------------------------------------------------------------------------------


@tool
def pipeline(case: Case) -> None:
    steps, X = [("scale", case.scaler())], case.array.copy()
    if case.layout != "4-D":
        X[3, 1] = np.nan
        steps.insert(0, ("impute", SimpleImputer()))
    piped = Pipeline([*steps, ("mtl", case.make())]).fit(case.as_x(X), case.y)
    clean = case.as_x(X)
    for _, step in steps:
        clean = clone(step).fit_transform(clean)
    by_hand = case.make().fit(clean, case.y)
    same(piped.predict(case.as_x(X)), by_hand.predict(clean))
    assert piped.score(case.as_x(X), case.y) == by_hand.score(clean, case.y)
    same(piped.predict_proba(case.as_x(X)), by_hand.predict_proba(clean))


@tool
def pipeline_with_a_cache(case: Case) -> None:
    expected = make_pipeline(case.scaler(), case.make()).fit(case.X, case.y).predict(case.X)
    with TemporaryDirectory() as folder:
        cached = make_pipeline(case.scaler(), case.make(), memory=folder)
        for _ in range(2):
            same(clone(cached).fit(case.X, case.y).predict(case.X), expected)
        assert len(list(Path(folder).rglob("output.pkl"))) == 1


@tool
def column_transformer(case: Case) -> None:
    first, rest = list(case.columns[:2]), list(case.columns[2:])
    columns = ColumnTransformer(
        [("scale", StandardScaler(), first), ("as_is", "passthrough", rest)]
    )
    piped = make_pipeline(columns, case.make()).fit(case.X, case.y)
    array = case.array
    by_hand = np.column_stack([StandardScaler().fit_transform(array[:, :2]), array[:, 2]])
    same(piped.predict(case.X), case.make().fit(by_hand, case.y).predict(by_hand))


@tool
def feature_union(case: Case) -> None:
    """Columns of rows, and channels of images."""
    union = FeatureUnion(
        [("half", FunctionTransformer(halve)), ("sq", FunctionTransformer(squares))]
    )
    piped = make_pipeline(union, case.make()).fit(case.X, case.y)
    by_hand = np.concatenate([halve(case.X), squares(case.X)], axis=1)
    assert piped[-1].n_features_in_ == 2 * case.array[0].size
    same(piped.predict(case.X), case.make().fit(by_hand, case.y).predict(by_hand))


def check_output(library: str, case: Case) -> None:
    """Transformers hand frames over, whose names the estimator keeps."""
    with config_context(transform_output=library):
        piped = make_pipeline(case.scaler(), case.make()).fit(case.X, case.y)
        predicted = piped.predict(case.X)
    names = FEATURES if case.layout == "frame" else ["x0", "x1", "x2"]
    assert piped[-1].feature_names_in_.tolist() == names
    same(predicted, make_pipeline(case.scaler(), case.make()).fit(case.X, case.y).predict(case.X))


TOOLS.update({f"{library}_output": partial(check_output, library) for library in CONTAINERS[1:]})


@tool
def html(case: Case) -> None:
    shown = estimator_html_repr(case.pipeline)
    assert "MultiTaskCNNEstimator" in shown
    assert "learning_rate" in shown
    assert "<span>Fitted</span>" in shown
    assert "<span>Not fitted</span>" in estimator_html_repr(clone(case.pipeline))


@tool
def pickled_pipeline(case: Case) -> None:
    expected = case.pipeline.predict(case.X)
    file = io.BytesIO()
    joblib.dump(case.pipeline, file)
    file.seek(0)
    for again in (pickle.loads(pickle.dumps(case.pipeline)), joblib.load(file)):
        same(again.predict(case.X), expected)
        assert again.score(case.X, case.y) == case.pipeline.score(case.X, case.y)


@tool
def cloned(case: Case) -> None:
    again = clone(case.pipeline)
    with pytest.raises(NotFittedError):
        again.predict(case.X)
    assert repr(again) == repr(case.pipeline)
    same(again.fit(case.X, case.y).predict(case.X), case.pipeline.predict(case.X))


@tool
def frozen(case: Case) -> None:
    still = FrozenEstimator(case.pipeline)
    before = case.pipeline.predict(case.X)
    still.fit(case.X, None)
    same(clone(still).predict(case.X), before)
    found = cross_val_score(still, case.X, case.y, cv=FOLDS)
    for score, (_, test) in zip(found, FOLDS.split(case.array), strict=True):
        assert score == case.pipeline.score(take(case.X, test), take(case.y, test))


# -- features --------------------------------------------------------------------------------


@tool
def importance_of_features(case: Case) -> None:
    found = permutation_importance(
        case.pipeline, case.X, case.y, n_repeats=2, max_samples=N, random_state=0
    )
    assert found.importances.shape == (3, 2)
    assert np.isfinite(found.importances).all()
    assert (found.importances != 0).all()


@tool
def sequential_feature_selector(case: Case) -> None:
    selector = SequentialFeatureSelector(case.make(), n_features_to_select=1, cv=FOLDS)
    selector.fit(case.X, case.y)
    scores = [
        np.mean(
            [
                case.make()
                .fit(case.array[train][:, [j]], take(case.y, train))
                .score(case.array[test][:, [j]], take(case.y, test))
                for train, test in FOLDS.split(case.array)
            ]
        )
        for j in range(3)
    ]
    assert selector.get_support(indices=True).tolist() == [np.argmax(scores)]


def input_weights(est: MultiTaskCNNEstimator) -> np.ndarray:
    """How large the weights of each feature are in the first layer."""
    first = next(p for p in est.module_.parameters() if p.ndim == 2)
    return first.detach().abs().sum(dim=0).numpy()


@tool
def select_from_model(case: Case) -> None:
    selector = SelectFromModel(
        case.make(), importance_getter=input_weights, max_features=1, threshold=-np.inf
    )
    found = selector.fit_transform(case.X, case.y)
    expected = case.array[:, [input_weights(fitted(case)).argmax()]]
    same(found, expected)


@tool
def recursive_feature_elimination(case: Case) -> None:
    selector = RFE(case.make(), n_features_to_select=2, importance_getter=input_weights)
    selector.fit(case.X, case.y)
    assert selector.ranking_.argmax() == input_weights(fitted(case)).argmin()


@tool
def select_k_best(case: Case) -> None:
    piped = make_pipeline(SelectKBest(f_regression, k=2), case.make()).fit(case.X, case.y)
    assert piped[-1].n_features_in_ == 2


# -- meta-estimators that learn from y -------------------------------------------------------

META: dict[str, Callable[[Case], Any]] = {
    "transformed_target": lambda case: TransformedTargetRegressor(case.make()),
    "multi_output": lambda case: MultiOutputRegressor(case.make(tasks=None)),
    "chain": lambda case: RegressorChain(case.make(tasks=None)),
    "bagging": lambda case: BaggingRegressor(case.make(), n_estimators=2),
    "boosting": lambda case: AdaBoostRegressor(case.make(), n_estimators=2),
    "voting": lambda case: VotingRegressor([("mtl", case.make())]),
    "stacking": lambda case: StackingRegressor([("mtl", case.make())], cv=FOLDS),
    "self_training": lambda case: SelfTrainingClassifier(case.make()),
    "tuned_threshold_of_all_tasks": lambda case: TunedThresholdClassifierCV(case.make()),
    "calibrated_with_all_tasks": lambda case: CalibratedClassifierCV(case.make(), cv=2),
}


def fit_meta(make: Callable[[Case], Any], case: Case) -> None:
    assert make(case).fit(case.X, case.y).predict(case.X).shape == (N, 3)


TOOLS.update({name: partial(fit_meta, make) for name, make in META.items()})


# -- one task, by a view of a pipeline -------------------------------------------------------


def curve(display: Any, metric: Any, attribute: str, case: Case) -> None:
    X, y = case.observed("defect")
    drawn = display.from_estimator(case.view("defect"), X, y, pos_label=case.labels[1])
    assert len(drawn.ax_.lines) >= 1
    expected = metric(y == case.labels[1], case.proba(X))
    found = np.ravel(getattr(drawn, attribute))
    np.testing.assert_allclose(found, np.ravel(expected), atol=1e-12)


def false_positives(y: np.ndarray, score: np.ndarray) -> np.ndarray:
    return det_curve(y, score, drop_intermediate=True)[0]


CURVES = {
    "roc_curve": (RocCurveDisplay, roc_auc_score, "roc_auc"),
    "precision_recall_curve": (
        PrecisionRecallDisplay,
        average_precision_score,
        "average_precision",
    ),
    "det_curve": (DetCurveDisplay, false_positives, "fpr"),
}

TOOLS.update({name: partial(curve, *of) for name, of in CURVES.items()})


@tool
def calibration_curve(case: Case) -> None:
    X, y = case.observed("defect")
    drawn = CalibrationDisplay.from_estimator(case.view("defect"), X, y, pos_label=case.labels[1])
    same(drawn.y_prob, case.proba(X))


@tool
def confusion_matrix(case: Case) -> None:
    X, y = case.observed("defect")
    found = ConfusionMatrixDisplay.from_estimator(case.view("defect"), X, y).confusion_matrix
    assert np.trace(found) == np.sum(case.pipeline.predict(X)[:, 0] == y)
    assert found.sum() == len(y)


@tool
def prediction_error(case: Case) -> None:
    X, y = case.observed("size")
    drawn = PredictionErrorDisplay.from_estimator(case.view("size"), X, y)
    same(drawn.y_pred, case.numbers(X)[:, 1])
    r2 = case.view("size").score(case.X, case.column("size"))
    assert r2_score(drawn.y_true, drawn.y_pred) == pytest.approx(r2)


@tool
def partial_dependence(case: Case) -> None:
    X, _ = case.observed("brightness")
    drawn = PartialDependenceDisplay.from_estimator(
        case.view("brightness"), X, [case.columns[1]], grid_resolution=3, method="brute"
    )
    (found,) = drawn.pd_results
    for value, average in zip(found["grid_values"][0], found["average"][0], strict=True):
        moved = np.array(X)
        moved[:, 1] = value
        assert average == pytest.approx(case.numbers(case.as_x(moved))[:, 0].mean())


@tool
def decision_boundary(case: Case) -> None:
    X = case.as_x(case.array[:, :2])
    piped = make_pipeline(case.scaler(), case.make()).fit(X, case.y)
    drawn = DecisionBoundaryDisplay.from_estimator(
        task_view(piped, "defect"),
        X,
        response_method="predict_proba",
        class_of_interest=case.labels[1],
        grid_resolution=3,
    )
    grid = np.column_stack([drawn.xx0.ravel(), drawn.xx1.ravel()])
    same(drawn.response.ravel(), piped.predict_proba(case.as_x(grid))[:, 1])


@tool
def calibrated(case: Case) -> None:
    """Of this task's probabilities, a monotone function."""
    X, y = case.observed("defect")
    found = CalibratedClassifierCV(FrozenEstimator(case.view("defect"))).fit(X, y)
    assert found.classes_.tolist() == case.labels
    proba = found.predict_proba(X)
    np.testing.assert_allclose(proba.sum(axis=1), 1)
    assert spearmanr(proba[:, 1], case.proba(X)).statistic > 0.999


@tool
def tuned_threshold(case: Case) -> None:
    view, (X, y) = case.view("defect"), case.observed("defect")
    tuned = TunedThresholdClassifierCV(
        view, cv="prefit", refit=False, scoring="accuracy", thresholds=20
    ).fit(X, y)
    above = case.proba(X) >= tuned.best_threshold_
    same(tuned.predict(X), np.array(case.labels)[above.astype(int)])
    assert accuracy_score(y, tuned.predict(X)) == pytest.approx(tuned.best_score_)


@tool
def fixed_threshold(case: Case) -> None:
    view, (X, y) = case.view("defect"), case.observed("defect")
    score = case.proba(X)
    threshold = float(np.median(score))
    fixed = FixedThresholdClassifier(view, threshold=threshold, pos_label=case.labels[1]).fit(X, y)
    same(fixed.predict(X), np.array(case.labels)[(score >= threshold).astype(int)])


@tool
def stacking_of_classes(case: Case) -> None:
    view, (X, y) = case.view("defect"), case.observed("defect")
    stack = StackingClassifier([("head", view)], cv="prefit").fit(X, y)
    same(stack.transform(X)[:, 0], case.proba(X))
    assert set(stack.predict(X)) <= set(case.labels)


@tool
def stacking_of_numbers(case: Case) -> None:
    views, (X, y) = [(name, case.view(name)) for name in NAMES[1:]], case.observed("size")
    stack = StackingRegressor(views, cv="prefit").fit(X, y)
    same(stack.transform(X), case.numbers(X))


@tool
def votes_of_classes(case: Case) -> None:
    view, (X, y) = case.view("defect"), case.observed("defect")
    vote = VotingClassifier([("one", view), ("two", view)], voting="soft").fit(X, y)
    same(vote.predict(X), case.pipeline.predict(X)[:, 0])


@tool
def votes_of_numbers(case: Case) -> None:
    views, (X, y) = [(name, case.view(name)) for name in NAMES[1:]], case.observed("size")
    vote = VotingRegressor(views).fit(X, y)
    np.testing.assert_allclose(vote.predict(X), case.numbers(X).mean(axis=1))


@tool
def view_of_a_search(case: Case) -> None:
    search = GridSearchCV(
        make_pipeline(case.scaler(), case.make()), {"multitaskcnnestimator__loss": LOSSES}, cv=FOLDS
    ).fit(case.X, case.y)
    view, (X, y) = task_view(search, "defect"), case.observed("defect")
    drawn = RocCurveDisplay.from_estimator(view, X, y, pos_label=case.labels[1])
    expected = roc_auc_score(y == case.labels[1], search.predict_proba(X)[:, 1])
    assert np.ravel(drawn.roc_auc)[0] == pytest.approx(expected)


# -- the matrix ------------------------------------------------------------------------------

Reason = tuple[type[Exception], str]

HOLES: Reason = (ValueError, r"Input (y )?contains NaN")
STRINGS: Reason = (ValueError, "could not convert string to float: 'no'")
ONE_COLUMN: Reason = (
    ValueError,
    r"y should be a 1d array, got an array of shape \(48, 3\) instead",
)
IMAGES: Reason = (ValueError, "Found array with dim 4, while dim <= 2 is required")
ONE_FEATURE: Reason = (ValueError, r"all features must be in \[0, 0\]")

# What scikit-learn refuses, and what it says. '*' is any.
UNSUPPORTED: dict[tuple[str, str, str], Reason] = {
    # It label-encodes each column, numbers and holes too, before the estimator sees them: see
    # `sklearn_mtl.model_selection.cross_val_predict_tasks`.
    ("probabilities_of_folds", "*", "*"): (ValueError, "Use .*cross_val_predict_tasks"),
    # Strata are of one column without holes.
    ("stratified_k_fold", "*", "*"): HOLES,
    # Columns of X are chosen, permuted or replaced: it has to be a table.
    ("column_transformer", "*", "4-D"): ONE_FEATURE,
    ("feature_union", "*", "4-D"): (ValueError, "with 4 dimensions, but expected 2 dimensions"),
    ("pandas_output", "*", "4-D"): (UserWarning, "`func` should return a pandas DataFrame"),
    ("polars_output", "*", "4-D"): (UserWarning, "`func` should return a polars DataFrame"),
    ("importance_of_features", "*", "4-D"): IMAGES,
    ("sequential_feature_selector", "*", "4-D"): IMAGES,
    ("select_from_model", "*", "4-D"): IMAGES,
    ("partial_dependence", "*", "4-D"): (ValueError, "less than len"),
    ("decision_boundary", "*", "4-D"): (ValueError, "n_features must be equal to 2. Got 1"),
    # Of frames it knows those of pandas alone.
    ("importance_of_features", "polars", "frame"): (UserWarning, "not have valid feature names"),
    ("partial_dependence", "polars", "frame"): (ValueError, "Feature 'b' not in feature_names"),
    # Features are chosen by y, which must be complete.
    ("recursive_feature_elimination", "*", "4-D"): IMAGES,
    ("recursive_feature_elimination", "*", "*"): HOLES,
    ("select_k_best", "*", "4-D"): IMAGES,
    ("select_k_best", "*", "*"): HOLES,
    # y must be complete, and of numbers.
    ("transformed_target", "pandas", "*"): STRINGS,
    ("transformed_target", "*", "*"): HOLES,
    ("multi_output", "*", "*"): HOLES,
    ("chain", "*", "4-D"): IMAGES,
    ("chain", "*", "*"): HOLES,
    ("bagging", "*", "4-D"): IMAGES,
    ("bagging", "*", "*"): HOLES,
    # y must be one column.
    ("boosting", "*", "*"): ONE_COLUMN,
    ("voting", "*", "*"): ONE_COLUMN,
    ("stacking", "*", "*"): ONE_COLUMN,
    ("self_training", "*", "4-D"): IMAGES,
    ("self_training", "*", "*"): ONE_COLUMN,
    # Before it is fitted, the estimator does not know whether a task has probabilities.
    ("tuned_threshold_of_all_tasks", "*", "*"): (
        ValueError,
        "implementing 'fit' and 'predict_proba'",
    ),
    ("calibrated_with_all_tasks", "*", "*"): (ValueError, "implementing 'fit' and 'predict_proba'"),
}

CELLS = [
    (container, layout)
    for layout in ("2-D", "frame", "4-D")  # a frame of the library of y
    for container in CONTAINERS
    if (container, layout) != ("numpy", "frame")
]


@cache
def case_of(container: str, layout: str) -> Case:
    return Case(container, layout)


def reason(name: str, container: str, layout: str) -> Reason | None:
    """Why a cell is refused, None where it is not."""
    keys = [(name, c, x) for c in (container, "*") for x in (layout, "*")]
    return next((UNSUPPORTED[key] for key in keys if key in UNSUPPORTED), None)


@pytest.mark.parametrize(("container", "layout"), CELLS)
@pytest.mark.parametrize("name", TOOLS)
def test_tool(name: str, container: str, layout: str) -> None:
    case, refused = case_of(container, layout), reason(name, container, layout)
    if refused is None:
        TOOLS[name](case)
    else:
        with pytest.raises(refused[0], match=refused[1]):
            TOOLS[name](case)


def test_the_matrix_is_whole() -> None:
    assert len(TOOLS) >= 25
    works = {name for name in TOOLS for cell in CELLS if reason(name, *cell) is None}
    assert len(works) >= 25
    for key in UNSUPPORTED:
        assert any(reason(name, *cell) is UNSUPPORTED[key] for name in TOOLS for cell in CELLS), (
            f"{key} is no cell, or stands behind another"
        )


# -- names of columns ------------------------------------------------------------------------

LIBRARIES = {"pandas": pd.DataFrame, "polars": pl.DataFrame}
HOLDERS: dict[str, Callable[[Any], Any]] = {
    "alone": lambda est: est,
    "pipeline": lambda est: make_pipeline(FunctionTransformer(), est),
    "scaled": lambda est: make_pipeline(StandardScaler(), est),
    "search": lambda est: GridSearchCV(est, {"loss": LOSSES}, cv=FOLDS),
}


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("holder", HOLDERS)
def test_columns_of_x_have_names(holder: str, library: str) -> None:
    case = case_of(library, "frame")
    fitted = HOLDERS[holder](case.make()).fit(case.X, case.y)
    assert fitted.feature_names_in_.tolist() == FEATURES
    for call in (fitted.predict, fitted.predict_proba, task_view(fitted, "size").predict):
        with pytest.raises(ValueError, match="Feature names must be in the same order"):
            call(case.X[FEATURES[::-1]])
        with pytest.raises(
            ValueError, match=r"Feature names seen at fit time, yet now missing:\n- b"
        ):
            call(case.X[["a", "c"]])
        with pytest.raises(ValueError, match=r"Feature names unseen at fit time:\n- d"):
            call(LIBRARIES[library]({**dict(zip(FEATURES, case.array.T, strict=True)), "d": 0.0}))
        with pytest.warns(UserWarning, match="X does not have valid feature names"):
            call(case.array)


@pytest.mark.parametrize("library", LIBRARIES)
def test_libraries_of_frames_may_be_mixed(library: str) -> None:
    (other,) = set(LIBRARIES) - {library}
    mine, theirs = case_of(library, "frame"), case_of(other, "frame")
    est = mine.make().fit(mine.X, theirs.y)
    same(est.predict(theirs.X), fitted(mine).predict(mine.X))
    assert type(est.predict_frame(mine.X)) is type(theirs.y)


@pytest.mark.parametrize("library", LIBRARIES)
def test_columns_of_predictions_have_names(library: str) -> None:
    case = case_of(library, "frame")
    est = fitted(case)
    predicted = est.predict_frame(case.X)
    assert type(predicted) is LIBRARIES[library]
    assert list(predicted.columns) == NAMES
    for k, name in enumerate(NAMES):
        assert list(predicted[name]) == est.predict(case.X)[:, k].tolist()


def test_predictions_keep_the_index_of_x() -> None:
    case = case_of("pandas", "frame")
    X = case.X.set_index(np.arange(N)[::-1] + 100)
    assert fitted(case).predict_frame(X[:5]).index.tolist() == [147, 146, 145, 144, 143]
