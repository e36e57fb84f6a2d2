"""What could not be scored in the end is refused before anything is trained."""

import time

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import make_scorer, mean_squared_error
from sklearn.model_selection import (
    GridSearchCV,
    KFold,
    _validation,
    cross_val_predict,
    cross_val_score,
    cross_validate,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_mtl import MultiTaskCNNEstimator, Task
from sklearn_mtl._callers import _calls_of, check_callers
from sklearn_mtl.metrics import task_scorer, task_scorers
from sklearn_mtl.networks import DenseTrunk

X = np.random.default_rng(0).normal(size=(40, 3))
Y = pd.DataFrame({"wet": np.where(X[:, 0] > 0, "yes", "no"), "age": X[:, 1]})


class Unbuilt(DenseTrunk):
    """Whoever trains it has come too far."""

    def build(self, *args, **params):
        raise RuntimeError("trained")


def estimator(trunk=Unbuilt, tasks=None):
    return MultiTaskCNNEstimator(tasks, trunk=trunk((4,)), max_epochs=1, random_state=0)


DECLARED = [Task("wet", "classification"), Task("age", "regression")]


@pytest.mark.parametrize("tasks", [None, DECLARED, {"age": "quantile"}])
@pytest.mark.parametrize(
    "scoring",
    [task_scorer("weight", "r2"), task_scorers({"age": "r2", "weight": None})],
)
def test_a_scorer_of_no_task(scoring, tasks):
    with pytest.raises(ValueError, match=r"'weight' is not a task. Use one of \['wet', 'age'\]"):
        cross_validate(estimator(tasks=tasks), X, Y, scoring=scoring, cv=2)


def test_in_a_search_over_a_pipeline_and_other_processes():
    search = GridSearchCV(
        make_pipeline(StandardScaler(), estimator()),
        {"multitaskcnnestimator__max_epochs": [1, 2]},
        scoring=task_scorer("weight"),
        cv=2,
        n_jobs=2,
    )
    with pytest.raises(ValueError, match="All the 4 fits failed") as caught:
        search.fit(X, Y)
    assert "'weight' is not a task" in str(caught.value)


@pytest.mark.parametrize("scoring", ["accuracy", "roc_auc", "f1_macro", "neg_log_loss"])
def test_a_scorer_of_one_target(scoring):
    with pytest.raises(ValueError, match=r"Pass task_scorer\(task, metric\) or task_scorers"):
        cross_val_score(estimator(), X, Y, scoring=scoring, cv=2)


def test_holes_in_what_is_scored_but_not_in_what_is_trained():
    y = np.where(np.arange(40) < 5, np.nan, X[:, 1])
    first, rest = np.arange(20), np.arange(20, 40)
    scores = cross_val_score(estimator(DenseTrunk), X, y, scoring="r2", cv=[(first, rest)])
    assert np.isfinite(scores).all()
    with pytest.raises(ValueError, match=r"NaN.*Pass task_scorer"):
        cross_val_score(estimator(), X, y, scoring="r2", cv=[(rest, first)])


@pytest.mark.parametrize(
    "scoring",
    [
        "neg_root_mean_squared_error",
        make_scorer(mean_squared_error, greater_is_better=False, multioutput=[0.3, 0.7]),
        lambda est, X, y: est.score(X, y),
        None,
    ],
)
def test_scorers_of_several_numbers(scoring):
    scores = cross_val_score(estimator(DenseTrunk), X, X[:, :2], scoring=scoring, cv=2)
    assert np.isfinite(scores).all()


@pytest.mark.parametrize("method", ["predict_proba", "predict_log_proba"])
def test_probabilities_of_several_tasks_by_scikit_learn(method):
    with pytest.raises(ValueError, match=r"codes of all columns.*cross_val_predict_tasks"):
        cross_val_predict(estimator(), X, Y, cv=KFold(2), method=method)
    found = cross_val_predict(estimator(DenseTrunk), X, Y["wet"], cv=KFold(2), method=method)
    assert found.shape == (40, 2)


@pytest.mark.parametrize("name", ["_fit_and_score", "_fit_and_predict"])
def test_without_the_functions_of_scikit_learn_fits_go_on(name, monkeypatch):
    """What is not known of the callers is not asked."""
    monkeypatch.delattr(_validation, name)
    check_callers(DECLARED, Y)
    assert list(_calls_of(name)) == []


def test_looking_for_callers_takes_no_time():
    start = time.perf_counter()
    for _ in range(100):
        check_callers(DECLARED, Y)
    assert time.perf_counter() - start < 0.1  # a millisecond each, on a busy machine
