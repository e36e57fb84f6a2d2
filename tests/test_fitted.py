"""What a training leaves: one frozen object, which is found wherever an estimator is held."""

from __future__ import annotations

import contextlib
import copy
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import FrozenInstanceError, fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import pytest
from _asserts import assert_alike, pickled
from _inputs import EVERY_KIND, GATED, make_every_kind, make_small, make_table
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_mtl import MultiTaskCNNEstimator, Task, task_view
from sklearn_mtl._fitted import Fitted, fitted_of, innermost, steps_to
from sklearn_mtl.networks import DenseTrunk

X, Y = make_table()
FIELDS = [field.name for field in fields(Fitted)]


@pytest.fixture(scope="module")
def estimator() -> MultiTaskCNNEstimator:
    """Treat it as read-only."""
    return make_small(GATED).fit(X, Y)


def content(fitted: Fitted) -> dict[str, Any]:
    """All that it holds, copied."""
    weights = dict(fitted.net.module_.state_dict())
    return copy.deepcopy({**fitted.state(), "weights": weights})


# -- it stays as it is ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*FIELDS, "n_iter", "other"])
def test_nothing_can_be_assigned(name: str, estimator: MultiTaskCNNEstimator) -> None:
    fitted = fitted_of(estimator)
    with pytest.raises(FrozenInstanceError):
        setattr(fitted, name, None)
    with pytest.raises(FrozenInstanceError):
        delattr(fitted, name)


def fit_anew(estimator: Any) -> None:
    estimator.fit(-X, Y)


def fit_other_tasks(estimator: Any) -> None:
    estimator.set_params(tasks=None).fit(X[:, :2], Y[:, 1])


def go_on(estimator: Any) -> None:
    estimator.set_params(warm_start=True).fit(-X, Y)


def go_on_in_a_stream(estimator: Any) -> None:
    estimator.partial_fit(-X, Y).partial_fit(X[:20], Y[:20])


def fail(estimator: Any) -> None:
    with pytest.raises(ValueError, match="nowhere"):
        estimator.set_params(device="nowhere").fit(X, Y)


TRAININGS = [fit_anew, fit_other_tasks, go_on, go_on_in_a_stream, fail]


@pytest.mark.parametrize("loss", ["logprod", "uncertainty"])
@pytest.mark.parametrize("train", TRAININGS)
def test_a_later_training_leaves_what_a_view_holds(train: Any, loss: str) -> None:
    estimator = make_small(GATED, loss=loss).fit(X, Y)
    view = estimator.task_view("number")
    held = fitted_of(view.estimator)
    assert held is fitted_of(estimator)
    before, predicted = content(held), view.predict(X)
    learned = copy.deepcopy(held.net.criterion_.state_dict())
    train(estimator)
    assert (fitted_of(estimator) is held) == (train is fail)
    assert fitted_of(view.estimator) is held
    assert_alike(content(held), before)
    assert_alike({**held.net.criterion_.state_dict()}, {**learned})
    assert_alike(view.predict(X), predicted)


@pytest.mark.parametrize("train", [go_on_in_a_stream, fit_anew])
def test_a_later_call_of_a_stream_leaves_it_too(train: Any) -> None:
    """There the net goes on, optimizer and all."""
    estimator = make_small(GATED).partial_fit(X, Y)
    held = fitted_of(estimator)
    before = content(held)
    steps = copy.deepcopy(held.net.optimizer_.state_dict()["state"])
    train(estimator)
    assert_alike(content(held), before)
    assert_alike(held.net.optimizer_.state_dict()["state"], steps)


# -- where it is found ---------------------------------------------------------------------------


def search(estimator: Any, **params: Any) -> GridSearchCV:
    name = "multitaskcnnestimator__tol" if isinstance(estimator, Pipeline) else "tol"
    return GridSearchCV(estimator, {name: [0.0]}, cv=2, **params)


HOLDERS = {
    "alone": lambda: make_small(),
    "frozen": lambda: FrozenEstimator(make_small().fit(X, Y)),
    "pipeline": lambda: make_pipeline(StandardScaler(), make_small()),
    "pipeline of one": lambda: make_pipeline(make_small()),
    "pipeline in a pipeline": lambda: make_pipeline(
        StandardScaler(), make_pipeline(StandardScaler(), make_small())
    ),
    "search": lambda: search(make_small()),
    "search over a pipeline": lambda: search(make_pipeline(StandardScaler(), make_small())),
    "search in a pipeline": lambda: make_pipeline(StandardScaler(), search(make_small())),
    "frozen pipeline": lambda: FrozenEstimator(
        make_pipeline(StandardScaler(), make_small()).fit(X, Y)
    ),
}


@pytest.mark.parametrize("name", HOLDERS)
def test_it_is_found_in_what_holds_the_estimator(name: str) -> None:
    holder = HOLDERS[name]().fit(X, Y)
    fitted = fitted_of(holder)
    last = innermost(holder)
    assert type(fitted) is Fitted
    assert type(last) is MultiTaskCNNEstimator
    assert vars(last)["_fitted"] is fitted
    *before, end = steps_to(holder)
    assert end is last
    inputs = X
    for transformer in before:
        inputs = transformer.transform(inputs)
    assert len(before) == name.count("pipeline") - (name == "pipeline of one")
    assert_alike(fitted.encoder.matrix(fitted.decode(inputs)), holder.predict(X))


@pytest.mark.parametrize(
    "holder",
    [
        make_small(),
        make_pipeline(StandardScaler(), make_small()),
        make_pipeline(StandardScaler().fit(X), make_small()),
        search(make_small()),
        FrozenEstimator(make_small()),
        LinearRegression(),
    ],
    ids=lambda holder: type(holder).__name__,
)
def test_what_is_not_fitted_holds_none(holder: Any) -> None:
    with pytest.raises(NotFittedError):
        fitted_of(holder)


class Described(LinearRegression):
    """An estimator of others that calls something the same."""

    task_names_ = ("y0",)


@pytest.mark.parametrize(
    ("holder", "named"),
    [
        (LinearRegression().fit(X, X), "LinearRegression"),
        (Described().fit(X, X), "Described"),
        (make_pipeline(StandardScaler(), LinearRegression()).fit(X, X), "LinearRegression"),
        (FrozenEstimator(LinearRegression().fit(X, X)), "LinearRegression"),
        (StandardScaler().fit(X), "StandardScaler"),
        (search(make_small(), refit=False).fit(X, Y), "GridSearchCV"),
        (make_small(GATED).fit(X, Y).task_view("label"), "TaskClassifier"),
    ],
    ids=str,
)
def test_what_has_no_tasks_is_named(holder: Any, named: str) -> None:
    with pytest.raises(TypeError, match=rf"^{named} has no tasks. Pass a fitted MultiTask"):
        fitted_of(holder)
    with pytest.raises(TypeError, match=rf"^{named} has no tasks"):
        task_view(holder, "y0")


@pytest.mark.parametrize("holder", [None, 5, X, MultiTaskCNNEstimator])
def test_what_is_no_estimator_is_refused(holder: Any) -> None:
    with pytest.raises(TypeError, match=r"has no tasks\. Pass a fitted MultiTaskCNNEstimator"):
        fitted_of(holder)


# -- what it says --------------------------------------------------------------------------------


def test_predictions_and_scores_are_those_of_the_estimator() -> None:
    x, y = make_every_kind()
    weight = np.random.default_rng(1).integers(0, 3, size=y.shape)
    estimator = make_small(EVERY_KIND).fit(x, y)
    fitted = fitted_of(estimator)
    for output in ("estimate", "nan", "expected"):
        estimator.conditional_output = output
        assert_alike(fitted.encoder.matrix(fitted.decode(x, output)), estimator.predict(x))
    assert_alike(fitted.encoder.decode(fitted.raw(x)), fitted.decode(x))
    assert_alike(fitted.raw(x, embed=True).astype(float), estimator.embed(x))
    scores = fitted.score(x, y, weight)
    assert_alike(scores, estimator.score_tasks(x, y, weight))
    for k, name in enumerate(estimator.task_names_):
        assert fitted.score_task(k, x, y[:, k], weight[:, k]) == scores[name]
    assert fitted.n_iter == estimator.n_iter_ == 3


def test_outputs_that_are_not_finite_are_refused() -> None:
    estimator = make_small().fit(X, Y)
    fitted = fitted_of(estimator)
    fitted.net.module_.heads.bias.data[1] = np.inf
    with pytest.raises(ValueError, match=r"not finite in 60 rows of X, the first \[0, 1, 2, 3, 4"):
        fitted.raw(X)


def test_columns_are_asked_for_by_their_names() -> None:
    frame = pd.DataFrame(X, columns=["p", "q", "r"])
    fitted = fitted_of(make_small().fit(frame, Y))
    fitted.raw(frame)
    with pytest.raises(ValueError, match="feature names should match"):
        fitted.raw(frame[["q", "p", "r"]])
    with pytest.raises(ValueError, match="MultiTaskCNNEstimator is expecting 3 features"):
        fitted_of(make_small().fit(X, Y)).raw(X[:, :2])


# -- in and out ----------------------------------------------------------------------------------


@pytest.mark.parametrize("carry", [copy.copy, copy.deepcopy, pickled])
def test_a_state_makes_it_again(carry: Any) -> None:
    x, y = make_every_kind()
    fitted = fitted_of(make_small(EVERY_KIND).fit(pd.DataFrame(x, columns=list("abc")), y))
    state = carry(fitted.state())
    assert set(state) == set(FIELDS) - {"net", "built_by"}
    again = Fitted.from_state(state, fitted.net)
    frame = pd.DataFrame(x, columns=list("abc"))
    assert_alike(again.raw(frame), fitted.raw(frame))
    assert_alike(again.decode(frame, "expected"), fitted.decode(frame, "expected"))
    assert_alike(again.score(frame, y), fitted.score(frame, y))
    shown, expected = again.attributes(), fitted.attributes()
    assert shown.pop("_fitted") is again
    assert expected.pop("_fitted") is fitted
    assert shown.pop("net_") is expected.pop("net_")
    assert_alike(shown, expected)
    with pytest.raises(ValueError, match="feature names"):
        again.raw(frame[["b", "a", "c"]])


@pytest.mark.parametrize("name", sorted(set(FIELDS) - {"net", "built_by"}))
def test_a_state_is_whole(name: str, estimator: MultiTaskCNNEstimator) -> None:
    fitted = fitted_of(estimator)
    state = fitted.state()
    with pytest.raises(TypeError, match="unexpected keyword"):
        Fitted.from_state(state | {"other": 1}, fitted.net)
    del state[name]
    with pytest.raises(TypeError, match=f"'{name}'"):
        Fitted.from_state(state, fitted.net)


CALLBACKS = {"_callback_fit_ctx", "_parent_callback_ctx", "_skl_callbacks"}


@pytest.mark.parametrize("train", [None, *TRAININGS])
def test_the_estimator_shows_its_attributes_and_no_others(train: Any) -> None:
    estimator = make_small(GATED).fit(X, Y)
    if train is not None:
        train(estimator)
    attributes = fitted_of(estimator).attributes()
    assert set(vars(estimator)) - set(estimator.get_params()) - CALLBACKS == set(attributes)
    for name in ("_fitted", "net_"):
        assert vars(estimator)[name] is attributes.pop(name)
    assert_alike({name: vars(estimator)[name] for name in attributes}, attributes)
    assert estimator.module_ is estimator.net_.module_


def test_attributes_say_what_was_learned() -> None:
    frame = pd.DataFrame(X, columns=["p", "q", "r"])
    estimator = make_small(GATED, task_weights={"size": 2.0}).fit(frame, Y)
    shown = fitted_of(estimator).attributes()
    assert shown["tasks_"] == GATED
    assert shown["task_names_"] == ["label", "number", "size"]
    assert shown["classes_"].tolist() == [0.0, 1.0]
    assert shown["n_features_in_"] == 3
    assert shown["feature_names_in_"].tolist() == ["p", "q", "r"]
    assert shown["n_iter_"] == 3
    assert shown["n_observed_"].tolist() == (~np.isnan(Y)).sum(axis=0).tolist()
    assert shown["n_applicable_"].tolist() == [60, 60, Y[:, 0].sum()]
    assert shown["n_observed_"][1] < 60
    assert shown["task_weights_"].tolist() == [1.0, 1.0, 2.0]
    assert np.isnan(shown["noise_std_"]).tolist() == [True, False, False]
    assert set(estimator.history_) == {"train_loss", "effective_weight"}
    assert {rows.shape for rows in estimator.history_.values()} == {(3, 3)}
    assert "history_" not in vars(estimator)  # it is made of the fitted object
    assert shown["net_"].module_ is estimator.module_


def test_attributes_that_not_every_fit_sets_go() -> None:
    frame = pd.DataFrame(X, columns=["p", "q", "r"])
    estimator = make_small(GATED).fit(frame, Y)
    assert estimator.feature_names_in_.tolist() == ["p", "q", "r"]
    assert estimator.classes_.tolist() == [0, 1]
    estimator.set_params(tasks=[Task("y0", "regression")]).fit(X, Y[:, 1])
    assert not hasattr(estimator, "feature_names_in_")
    assert not hasattr(estimator, "classes_")


# -- predictions beside a fit ----------------------------------------------------------------

ROWS = np.random.default_rng(0).normal(size=(60, 3))
SIGN = ROWS[:, 0] > 0
STATES = [
    pd.DataFrame({"k": np.where(SIGN, "a", "b"), "v": ROWS[:, 1]}),
    pd.DataFrame({"k": np.where(SIGN, "d", "c"), "v": ROWS[:, 2] * 100 - 1000}),
]


def saved_predictions(model):
    with TemporaryDirectory() as folder:
        model.save(Path(folder) / "model")
        return type(model).load(Path(folder) / "model").predict(ROWS)


CALLS = {
    "predict": lambda model: model.predict(ROWS),
    "predict_frame": lambda model: model.predict_frame(ROWS).to_numpy(),
    "predict_proba_frame": lambda model: model.predict_proba_frame(ROWS).to_numpy(),
    "score_tasks": lambda model: list(model.score_tasks(ROWS, STATES[0][["k", "v"]]).values()),
    "predict_interval": lambda model: model.predict_interval(ROWS)[:, 1],
    "embed": lambda model: model.embed(ROWS),
    "view": lambda model: model.task_view("k").predict(ROWS),
    "save": saved_predictions,
    "pickle": lambda model: pickle.loads(pickle.dumps(model)).predict(ROWS),
}


def test_whether_it_is_fitted_can_be_asked_beside_a_fit():
    """Which puts attributes there, while others look for them."""
    model = make_small().fit(X, Y)

    class Meanwhile(str):
        def endswith(self, *args):
            setattr(model, f"other{len(vars(model))}_", 0)
            return super().endswith(*args)

    vars(model)[Meanwhile("one_")] = 0
    assert isinstance(fitted_of(model), Fitted)
    assert isinstance(fitted_of(make_pipeline(StandardScaler().fit(X), model)), Fitted)


def test_a_first_fit_that_failed_is_none():
    model = make_small()
    with pytest.raises(ValueError, match="samples"):
        model.fit(X, Y[:-1])
    model.n_features_in_ = 3
    with pytest.raises(NotFittedError):
        model.predict(X)


@pytest.mark.filterwarnings("ignore")
def test_what_is_called_beside_a_refit_is_of_one_state():
    """Of the old state or of the new one, by any method."""
    trunk = DenseTrunk((8,), n_members=2)
    model = MultiTaskCNNEstimator(trunk=trunk, max_epochs=1, random_state=0)
    known: dict[str, list[Any]] = {name: [] for name in CALLS}
    for y in STATES:
        model.fit(ROWS, y)
        for name, call in CALLS.items():
            with contextlib.suppress(ValueError):  # labels of the other state have no score
                known[name].append(call(model))
    done, faults = threading.Event(), []

    def hammer(name):
        turns = 0
        while not done.is_set() or turns < 3:
            try:
                found = CALLS[name](model)
            except ValueError as error:
                if name != "score_tasks" or "was not seen in fit" not in str(error):
                    faults.append((name, repr(error)))
            else:
                if not any(np.array_equal(found, state) for state in known[name]):
                    faults.append((name, found))
            turns += 1

    with ThreadPoolExecutor(len(CALLS)) as pool:
        running = [pool.submit(hammer, name) for name in CALLS]
        try:
            for turn in range(10):
                model.fit(ROWS, STATES[turn % 2])
        finally:
            done.set()
        for future in running:
            future.result()
    assert not faults
