"""What could not be scored in the end is refused before anything is trained."""

import functools
import importlib
import timeit
from types import FunctionType

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import make_scorer, mean_squared_error
from sklearn.model_selection import (
    GridSearchCV,
    KFold,
    cross_val_predict,
    cross_val_score,
    cross_validate,
)
from sklearn.model_selection import _validation as validation
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_mtl import MultiTaskCNNEstimator, Task, _callers
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


@pytest.mark.usefixtures("other_processes")
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


# -- a scikit-learn in which private names are others -----------------------------------------


def renamed(function, name):
    """The same function under another name."""
    code = function.__code__.replace(co_name=name)
    again = FunctionType(code, function.__globals__, name, function.__defaults__)
    again.__kwdefaults__ = function.__kwdefaults__
    return again


def test_functions_of_other_names_cost_the_early_message_alone(monkeypatch):
    for name in ("_fit_and_score", "_fit_and_predict"):
        function = renamed(getattr(validation, name), f"{name}_2")
        monkeypatch.setattr(validation, name, function)
    with pytest.warns(UserWarning, match="'weight' is not a task"):
        found = cross_validate(estimator(DenseTrunk), X, Y, scoring=task_scorer("weight"), cv=2)
    assert np.isnan(found["test_score"]).all()
    assert cross_val_predict(estimator(DenseTrunk), X, Y, cv=2).shape == (40, 2)


def test_the_import_wants_no_private_name(monkeypatch):
    for name in ("_fit_and_score", "_fit_and_predict"):
        monkeypatch.delattr(validation, name)
    importlib.reload(_callers)


def test_arguments_of_other_names(monkeypatch):
    asked = dict.fromkeys(_callers.ASKED, ("of another version",))
    monkeypatch.setattr(_callers, "ASKED", asked)
    found = cross_val_score(estimator(DenseTrunk), X, Y, cv=2)
    assert np.isfinite(found).all()


@pytest.mark.parametrize("lost", ["_response_method", "_score_func", "_kwargs"])
def test_scorers_that_hold_other_names(lost, monkeypatch):
    monkeypatch.setattr(_callers, "SCORER", (*_callers.SCORER, f"{lost}_2"))
    with pytest.raises(RuntimeError, match="trained"):
        cross_val_score(estimator(), X, Y, scoring="accuracy", cv=2, error_score="raise")


def test_costs_a_fit_next_to_nothing():
    def deep(n):
        check = functools.partial(_callers.check_callers, None, Y)
        return deep(n - 1) if n else min(timeit.repeat(check, number=10, repeat=20)) / 10

    assert deep(100) < 1e-4  # seconds; a fit of one epoch takes some 20 ms
