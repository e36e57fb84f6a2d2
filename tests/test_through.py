"""Methods of an estimator, of pipelines and searches."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import sklearn_mtl
from sklearn_mtl import MultiTaskCNNEstimator, Task
from sklearn_mtl.networks import DenseTrunk

RNG = np.random.default_rng(0)
X = pd.DataFrame(RNG.normal(3, 2, size=(40, 3)), columns=list("abc")).add_prefix("f")
X.index = [f"row {i}" for i in range(40)]
Y = pd.DataFrame({"wet": np.where(X.fa > 3, "yes", "no"), "age": X.fb, "level": [3, 1, 2, 2] * 10})


def small(**params):
    params = {"max_epochs": 1, "random_state": 0, "trunk": DenseTrunk((4,), n_members=2)} | params
    return MultiTaskCNNEstimator(tasks={"level": "classification"}, **params)


def wrapped(how, **params):
    pipeline = make_pipeline(StandardScaler(), small(**params))
    if how == "search":
        return GridSearchCV(pipeline, {"multitaskcnnestimator__max_epochs": [1]}, cv=2)
    return pipeline


@pytest.mark.parametrize("how", ["pipeline", "search", "frozen"])
def test_functions_say_what_the_last_step_says(how):
    outer = wrapped(how).fit(X, Y)
    pipeline = outer.best_estimator_ if how == "search" else outer
    outer = FrozenEstimator(outer) if how == "frozen" else outer
    scaled, last = pipeline[:-1].transform(X), pipeline[-1]
    frame = sklearn_mtl.predict_frame(outer, X)
    assert frame.index.tolist() == X.index.tolist()
    pd.testing.assert_frame_equal(frame.reset_index(drop=True), last.predict_frame(scaled))
    proba = sklearn_mtl.predict_proba_frame(outer, X)
    assert proba.columns.tolist() == ["wet_no", "wet_yes", "level_1", "level_2", "level_3"]
    assert proba.index.tolist() == X.index.tolist()
    np.testing.assert_array_equal(proba, np.hstack(last.predict_proba(scaled)))
    assert sklearn_mtl.score_tasks(outer, X, Y) == last.score_tasks(scaled, Y)
    np.testing.assert_array_equal(sklearn_mtl.embed(outer, X), last.embed(scaled))
    assert (sklearn_mtl.embed(outer, X) != last.embed(X.to_numpy())).any()


def test_frames_are_of_the_type_of_y():
    est = small().fit(X.to_numpy(), pl.from_pandas(Y))
    assert isinstance(est.predict_proba_frame(X.to_numpy()), pl.DataFrame)
    assert isinstance(sklearn_mtl.predict_frame(est, X.to_numpy()), pl.DataFrame)


def test_predictions_follow_conditional_output():
    tasks = [Task("wet", "classification"), Task("age", "regression", given=("wet", "yes"))]
    y = Y[["wet"]].assign(age=Y["age"].where((Y["wet"] == "yes").to_numpy()).to_numpy())
    est = small(conditional_output="nan").set_params(tasks=tasks).fit(X, y)
    found = sklearn_mtl.predict_frame(est, X)
    assert (found["age"].isna() == (found["wet"] == "no")).all()


@pytest.mark.parametrize("how", ["pipeline", "search"])
def test_transformers_are_not_lost_in_a_file(how, tmp_path):
    with pytest.raises(TypeError, match=r"joblib.dump, or the network alone.*\[-1\].save"):
        sklearn_mtl.save(wrapped(how).fit(X, Y), tmp_path / "model")
    assert not (tmp_path / "model").exists()
    search = GridSearchCV(small(), {"max_epochs": [1]}, cv=2).fit(X, Y)
    sklearn_mtl.save(search, tmp_path / "model")
    loaded = MultiTaskCNNEstimator.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.predict(X), search.predict(X))


def test_columns_of_probabilities_have_names_of_their_own():
    y = pd.DataFrame({"a": ["b_c", "d"] * 20, "a_b": ["c", "d"] * 20})
    est = MultiTaskCNNEstimator(max_epochs=1, trunk=DenseTrunk((4,), n_members=2)).fit(X, y)
    with pytest.raises(ValueError, match="Two columns would be called 'a_b_c'"):
        est.predict_proba_frame(X)


def test_probabilities_want_a_class_task():
    est = MultiTaskCNNEstimator(max_epochs=1, trunk=DenseTrunk((4,), n_members=2)).fit(
        X, Y[["age"]]
    )
    with pytest.raises(ValueError, match=r"None of the tasks \['age'\] is a class task"):
        sklearn_mtl.predict_proba_frame(est, X)
    for name in ("predict_proba", "predict_log_proba", "predict_proba_frame"):
        assert not hasattr(est, name)
        with pytest.raises(AttributeError, match=r"none of the tasks \['age'\].*Use predict"):
            getattr(est, name)
    with pytest.raises(NotFittedError):
        _ = MultiTaskCNNEstimator().predict_proba


@pytest.mark.parametrize("name", ["predict_frame", "predict_proba_frame", "embed"])
def test_all_else_is_refused(name):
    function = getattr(sklearn_mtl, name)
    with pytest.raises(TypeError, match="LinearRegression has no tasks"):
        function(LinearRegression().fit(X, Y["age"]), X)
    with pytest.raises(NotFittedError):
        function(small(), X)


def test_logarithms_of_probabilities():
    est = small().fit(X, Y)
    for logs, proba in zip(est.predict_log_proba(X), est.predict_proba(X), strict=True):
        np.testing.assert_array_equal(logs, np.log(proba))
    view = est.task_view("wet")
    np.testing.assert_array_equal(view.predict_log_proba(X), np.log(view.predict_proba(X)))
    only = MultiTaskCNNEstimator(max_epochs=1, trunk=DenseTrunk((4,), n_members=2)).fit(
        X, Y[["wet"]]
    )
    np.testing.assert_array_equal(only.predict_log_proba(X), np.log(only.predict_proba(X)))
