"""Tools of others over the view of one task: intervals, sets, explanations; and a search."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from scipy.stats import betabinom
from sklearn.base import clone
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_mtl import MultiTaskCNNEstimator, Task, task_view
from sklearn_mtl.metrics import task_scorer
from sklearn_mtl.networks import DenseTrunk

TASKS = [
    Task("color", "classification"),
    Task("size", "regression", given=("color", ["red", "green"])),
]
N_TRAIN, N_HELD, N_TEST = 300, 1000, 2000
CONFIDENCE = 0.9


@cache
def make_rows() -> tuple[np.ndarray, np.ndarray]:
    """Features, and a class and a number that exists for two of three classes, all with noise."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N_TRAIN + N_HELD + N_TEST, 4))
    score = X[:, :3] + rng.gumbel(size=(len(X), 3))
    color = np.array(["red", "green", "blue"], dtype=object)[score.argmax(axis=1)]
    size = 50 + 10 * X[:, 3] + 5 * np.abs(X[:, 0]) + rng.laplace(size=len(X), scale=4)
    color[rng.random(len(X)) < 0.1] = None
    size[(color == "blue") | (rng.random(len(X)) < 0.1)] = np.nan
    return X, np.column_stack([color, size]).astype(object)


def small(**params: Any) -> MultiTaskCNNEstimator:
    """An estimator that learns rows in a moment."""
    defaults: dict[str, Any] = {"trunk": DenseTrunk((8,), 1, 0), "max_epochs": 8}
    return MultiTaskCNNEstimator(TASKS, learning_rate=0.03, random_state=0, **(defaults | params))


@cache
def fitted(whole: str = "estimator") -> Any:
    est = small() if whole == "estimator" else make_pipeline(StandardScaler(), small())
    X, y = make_rows()
    return est.fit(X[:N_TRAIN], y[:N_TRAIN])


def observed(name: str, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows in which a task was observed, and its labels or numbers there."""
    X, y = make_rows()
    column = y[first:last, [task.name for task in TASKS].index(name)]
    seen = np.array([value is not None and value == value for value in column])
    return X[first:last][seen], np.array(column[seen].tolist())


# Of 494 scores the bound is number 446 whichever way 495 * 0.9 is rounded, as the tools do it.
def held_out(name: str, n: int = 494) -> tuple[np.ndarray, np.ndarray]:
    X, y = observed(name, N_TRAIN, N_TRAIN + N_HELD)
    return X[:n], y[:n]


def new_rows(name: str, n: int = 1000) -> tuple[np.ndarray, np.ndarray]:
    X, y = observed(name, N_TRAIN + N_HELD, N_TRAIN + N_HELD + N_TEST)
    return X[:n], y[:n]


def assert_coverage(covered: np.ndarray, n_held: int) -> None:
    """Split conformal: as many test rows are covered as a beta-binomial says.

    The bound is the k-th smallest of n scores of held-out rows, k = ceil((n + 1) 0.9). Scores of
    all rows have one continuous distribution, so the probability that a new one lies below is a
    Beta(k, n + 1 - k), and the number of m new ones that do a BetaBinomial(m, k, n + 1 - k). The
    bounds here are passed by chance once in 1,000 draws of the data: 0.9 by about 0.05.
    """
    k = int(np.ceil((n_held + 1) * CONFIDENCE))
    low, high = betabinom(len(covered), k, n_held + 1 - k).ppf([0.0005, 0.9995])
    assert len(covered) == 1000
    assert low <= covered.sum() <= high, (low, covered.sum(), high)


def smallest_bound(scores: np.ndarray) -> float:
    """The bound of split conformal."""
    return float(np.sort(scores)[int(np.ceil((len(scores) + 1) * CONFIDENCE)) - 1])


@pytest.mark.parametrize("whole", ["estimator", "pipeline"])
def test_mapie_intervals(whole: str) -> None:
    regression = pytest.importorskip("mapie.regression", reason="mapie is not installed")
    view = task_view(fitted(whole), "size")
    X, y = held_out("size")
    conformal = regression.SplitConformalRegressor(view, CONFIDENCE, prefit=True)
    predicted, intervals = conformal.conformalize(X, y).predict_interval(new_rows("size")[0])
    np.testing.assert_array_equal(predicted, view.predict(new_rows("size")[0]))
    low, high = intervals[:, :, 0].T
    bound = smallest_bound(np.abs(y - view.predict(X)))
    np.testing.assert_allclose([predicted - low, high - predicted], bound, rtol=1e-5)
    true = new_rows("size")[1]
    assert_coverage((low <= true) & (true <= high), len(y))
    assert bound < 0.8 * smallest_bound(np.abs(y - y.mean()))  # the network knows something


@pytest.mark.parametrize("whole", ["estimator", "pipeline"])
def test_mapie_sets_of_labels(whole: str) -> None:
    classification = pytest.importorskip("mapie.classification", reason="mapie is not installed")
    view = task_view(fitted(whole), "color")
    X, y = held_out("color")
    conformal = classification.SplitConformalClassifier(
        view, CONFIDENCE, prefit=True, conformity_score="lac"
    )
    _, sets = conformal.conformalize(X, y).predict_set(new_rows("color")[0])
    sets, true = sets[:, :, 0], new_rows("color")[1]
    bound = smallest_bound(1 - view.predict_proba(X)[np.arange(len(y)), codes(view, y)])
    proba = view.predict_proba(new_rows("color")[0])
    np.testing.assert_array_equal(sets, 1 - proba <= bound)
    assert_coverage(sets[np.arange(len(true)), codes(view, true)], len(y))
    assert 1 < sets.sum(axis=1).mean() < 2.5  # of three labels; a guess would need 2.7


def codes(view: Any, labels: np.ndarray) -> np.ndarray:
    return np.searchsorted(view.classes_.astype(str), labels)


@pytest.mark.parametrize("whole", ["estimator", "pipeline"])
def test_crepes_intervals(whole: str) -> None:
    crepes = pytest.importorskip("crepes", reason="crepes is not installed")
    view = task_view(fitted(whole), "size")
    X, y = held_out("size")
    wrapped = crepes.WrapRegressor(view)
    wrapped.calibrate(X, y)
    low, high = wrapped.predict_int(new_rows("size")[0], confidence=CONFIDENCE).T
    predicted, true = view.predict(new_rows("size")[0]), new_rows("size")[1]
    bound = smallest_bound(np.abs(y - view.predict(X)))
    np.testing.assert_allclose([predicted - low, high - predicted], bound, rtol=1e-5)
    assert_coverage((low <= true) & (true <= high), len(y))


def test_crepes_sets_of_labels() -> None:
    crepes = pytest.importorskip("crepes", reason="crepes is not installed")
    view = task_view(fitted(), "color")
    X, y = held_out("color")
    wrapped = crepes.WrapClassifier(view)
    wrapped.calibrate(X, y, seed=0)
    sets = wrapped.predict_set(new_rows("color")[0], confidence=CONFIDENCE, smoothing=False)
    covered = [label in found for label, found in zip(new_rows("color")[1], sets, strict=True)]
    assert_coverage(np.array(covered), len(y))
    assert 1 < np.mean([len(found) for found in sets]) < 2.5


@pytest.mark.parametrize("whole", ["estimator", "pipeline"])
@pytest.mark.parametrize("name", ["color", "size"])
def test_shap_values_sum_to_the_prediction(name: str, whole: str) -> None:
    shap = pytest.importorskip("shap", reason="shap is not installed")
    view = task_view(fitted(whole), name)
    X, _ = make_rows()
    background, explained = X[:40], X[-5:]
    predict = view.predict_proba if name == "color" else view.predict
    explain = shap.explainers.Exact(predict, shap.maskers.Independent(background, max_samples=40))
    found = explain(explained)
    base = predict(background).mean(axis=0)
    np.testing.assert_allclose(found.base_values, np.broadcast_to(base, (5, *base.shape)))
    assert found.values.shape == (5, 4, *base.shape)
    np.testing.assert_allclose(found.values.sum(axis=1), predict(explained) - base, atol=1e-5)
    if name == "size":  # which the last feature moves most
        assert np.abs(found.values).mean(axis=0).argmax() == 3


def test_optuna_searches_nested_parameters_by_one_task() -> None:
    optuna = pytest.importorskip("optuna", reason="optuna is not installed")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    X, y = (part[:N_TRAIN] for part in make_rows())

    def score(params: dict[str, Any]) -> float:
        est = clone(small(max_epochs=2)).set_params(**params)
        return cross_val_score(est, X, y, cv=2, scoring=task_scorer("size", "r2")).mean()

    def objective(trial: Any) -> float:
        return score(
            {
                "trunk__hidden_layer_sizes": trial.suggest_int("trunk__hidden_layer_sizes", 2, 32),
                "learning_rate": trial.suggest_float("learning_rate", 1e-4, 0.1, log=True),
                "loss": trial.suggest_categorical("loss", ["logprod", "weighted"]),
            }
        )

    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))
    study.optimize(objective, n_trials=6)
    values = [trial.value for trial in study.trials]
    assert np.isfinite(values).all()
    assert len(set(values)) == len(values)
    assert study.best_value == max(values) == score(study.best_params)
    assert (
        small().set_params(**study.best_params).fit(X, y).trunk.get_params()["hidden_layer_sizes"]
        == study.best_params["trunk__hidden_layer_sizes"]
    )
