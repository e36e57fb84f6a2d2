"""Which task is which: what is said of the columns of y, and what is inferred."""

from __future__ import annotations

import copy
import pickle
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from _columns import BOOL, REAL, WORD, N, inputs, small

from sklearn_mtl import Task
from sklearn_mtl._data.targets import TargetEncoder
from sklearn_mtl.kinds import (
    KINDS,
    ClassificationTarget,
    GammaTarget,
    Kind,
    OrdinalTarget,
    PoissonTarget,
    QuantileTarget,
    RegressionTarget,
)


@pytest.mark.parametrize("kind", ["frame", "array", "polars"])
def test_inference(kind: str) -> None:
    frame = pd.DataFrame(
        {
            "bit": [0.0, 1.0, np.nan] * 8,
            "number": REAL,
            "word": WORD,
            "count": [0, 1, 2] * 8,
            "bool": BOOL,
        }
    )
    y = {"frame": frame, "array": frame.to_numpy(dtype=object), "polars": pl.from_pandas(frame)}
    est = small().fit(inputs(), y[kind])
    names = [f"y{k}" for k in range(5)] if kind == "array" else list(frame)
    kinds = ["classification", "regression", "classification", "regression", "classification"]
    assert est.task_names_ == names
    assert est.tasks_ == [Task(n, k) for n, k in zip(names, kinds, strict=True)]


def test_partial_dict_and_full_list_say_the_same() -> None:
    y = pd.DataFrame({"grade": [1, 2, 3] * 8, "size": REAL})
    partial = small(tasks={"grade": "classification"}).fit(inputs(), y)
    full = small(
        tasks=[Task("grade", "classification"), Task("size", "regression")],
    ).fit(inputs(), y)
    assert partial.tasks_ == full.tasks_
    assert partial.classes_.tolist() == [1, 2, 3]
    np.testing.assert_array_equal(partial.predict(inputs()), full.predict(inputs()))


def test_list_order_is_the_output_order_and_frames_match_by_name() -> None:
    y = pd.DataFrame({"a": WORD, "b": REAL, "c": BOOL})
    tasks = [Task("c", "classification"), Task("a", "classification"), Task("b", "regression")]
    est = small(tasks=tasks, max_epochs=20).fit(inputs(), y)
    assert est.task_names_ == ["c", "a", "b"]
    assert est.classes_[0].tolist() == [False, True]
    assert est.classes_[1].tolist() == ["a", "b"]
    predicted = est.predict(inputs())
    assert set(predicted[:, 1]) <= {"a", "b"}
    assert list(est.predict_frame(inputs()).columns) == ["c", "a", "b"]
    # Scores do not depend on the order of the columns, and surplus columns are ignored there.
    scores = est.score_tasks(inputs(), y)
    assert list(scores) == ["c", "a", "b"]
    assert scores == est.score_tasks(inputs(), y[["b", "c", "a"]].assign(more=1))
    # An array is matched by position, in the order of the list.
    assert scores == est.score_tasks(inputs(), y[["c", "a", "b"]].to_numpy(dtype=object))


def test_arrays_match_by_position() -> None:
    y = np.c_[np.array(REAL), np.arange(N) % 3]
    est = small(tasks=[Task("size", "regression"), Task("grade", "classification")])
    est.fit(inputs(), y)
    assert est.task_names_ == ["size", "grade"]
    assert est.classes_.tolist() == [0.0, 1.0, 2.0]
    assert list(est.predict_frame(inputs()).columns) == ["size", "grade"]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((3, "regression"), TypeError, "name must be a str, not empty, got 3"),
        (("a", "ranking"), ValueError, "Task 'a': kind='ranking' is unknown"),
        (("a", "regression", "flag"), ValueError, "Task 'a': given='flag' is not understood"),
        (("a", "regression", ("flag",)), ValueError, "is not understood"),
        (("a", "regression", ("flag", [])), ValueError, "is not understood"),
    ],
)
def test_bad_task(arguments: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        Task(*arguments)


@pytest.mark.parametrize("label", ["a", 1.0, True, 3])
def test_one_observed_label(label: Any) -> None:
    """It fits, warns, and predicts the label."""
    hole = None if isinstance(label, str) else np.nan
    y = pd.DataFrame({"only": [label, hole] * 12, "size": REAL}, dtype=object)
    est = small(tasks=[Task("only", "classification"), Task("size", "regression")])
    with pytest.warns(UserWarning, match=rf"Task 'only' has one observed label, {label!r}"):
        est.fit(inputs(), y)
    assert est.classes_.tolist() == [label]
    assert set(est.predict_frame(inputs())["only"]) == {label}
    np.testing.assert_array_equal(est.predict_proba(inputs()), np.ones((N, 1)))


def test_a_dict_may_hold_tasks() -> None:
    y = pd.DataFrame({"a": [0, 1] * 12, "b": REAL, "c": np.arange(24)})
    task = Task("b", "quantile", quantile=0.9)
    est = small(tasks={"b": task, "c": "poisson"}).fit(inputs(), y)
    assert est.tasks_ == [Task("a", "classification"), task, Task("c", "poisson")]
    with pytest.raises(ValueError, match=r"tasks holds \['b'\] under another name"):
        small(tasks={"c": task}).fit(inputs(), y)


# -- what a task says -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "quantile", "quantile": 0}, "quantile=0 is out of range. Pass a level in (0, 1)"),
        ({"kind": "quantile", "quantile": 1.0}, "quantile=1.0 is out of range"),
        ({"kind": "quantile", "quantile": 90}, "quantile=90 is out of range"),
        ({"kind": "quantile", "quantile": float("nan")}, "quantile=nan is out of range"),
        ({"kind": "regression", "quantile": 0.5}, "kind='regression' takes no quantile="),
        ({"kind": "ordinal", "quantile": 0.5}, "kind='ordinal' takes no quantile="),
        ({"kind": "regression", "categories": ["a"]}, "takes no categories=. Leave it out"),
        ({"kind": "classification", "categories": ["a", "a"]}, "List each label once."),
        ({"kind": "classification", "categories": ["a", None]}, "List each label once."),
        ({"kind": "classification", "categories": "abc"}, "List each label once."),
        ({"kind": "quantile", "categories": ["a"]}, "kind='quantile' takes no categories="),
    ],
)
def test_options_that_do_not_fit_a_task(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=rf"Task 'a': .*{re.escape(message)}"):
        Task("a", **arguments)


SAID = [
    "Task('a', 'poisson')",
    "Task('a', 'quantile', quantile=0.9)",
    "Task('a', 'ordinal', categories=('low', 'mid'))",
    "Task('a', 'gamma', given=('flag', ['x', 'y']))",
    "Task('a', 'ordinal', given=('flag', 1), categories=(1, 2))",
]


@pytest.mark.parametrize("said", SAID)
def test_a_task_says_how_to_make_it(said: str) -> None:
    task = eval(said)
    assert repr(task) == said
    assert task == eval(said)
    assert task == pickle.loads(pickle.dumps(task))
    assert all(task != eval(other) for other in SAID if other != said)


def test_every_kind_makes_itself() -> None:
    for name, kind in KINDS.items():
        assert type(Task("a", name).make_kind()) is kind
    assert Task("a", "quantile", quantile=0.9).make_kind().quantile == 0.9
    assert Task("a", "quantile").make_kind().quantile == 0.5
    assert Task("a", "ordinal", categories=[2, 1]).make_kind().categories == (2, 1)


def test_kinds_are_not_guessed() -> None:
    """Counts, and ordered categories, are what they were before unless someone says more."""
    counts = TargetEncoder()
    counts.fit_encode(np.array([0.0, 3.0, 2.0]))
    words, levels = TargetEncoder(), ["low", "mid", "high"]
    words.fit_encode(pd.Series(pd.Categorical(levels, categories=levels, ordered=True)))
    assert counts.tasks_ == [Task("y0", "regression")]
    assert words.tasks_ == [Task("y0", "classification")]
    assert words.classes[0].tolist() == sorted(levels)


# -- kinds as objects -------------------------------------------------------------------------

OBJECTS = {
    "Task('a', PoissonTarget())": lambda: Task("a", PoissonTarget()),
    "Task('a', QuantileTarget(quantile=0.9))": lambda: Task("a", QuantileTarget(0.9)),
    "Task('a', QuantileTarget(quantile=0.5))": lambda: Task("a", QuantileTarget()),
    "Task('a', OrdinalTarget(categories=('low', 'mid')))": lambda: Task(
        "a", OrdinalTarget(["low", "mid"])
    ),
    "Task('a', GammaTarget(), given=('flag', ['x', 'y']))": lambda: Task(
        "a", GammaTarget(), given=("flag", ["x", "y"])
    ),
    "Task('b', PoissonTarget())": lambda: Task("b", PoissonTarget()),
}


@pytest.mark.parametrize("said", OBJECTS)
def test_a_task_with_an_object_says_how_to_make_it(said: str) -> None:
    task = OBJECTS[said]()
    assert repr(task) == said
    for same in (OBJECTS[said](), pickle.loads(pickle.dumps(task)), copy.deepcopy(task)):
        assert same == task
        assert repr(same) == said
    assert all(task != other() for name, other in OBJECTS.items() if name != said)
    assert all(task != eval(other) for other in SAID)


def test_tasks_with_objects_are_keys() -> None:
    """Equal ones are one, in sets and dicts."""
    assert len({Task("a", QuantileTarget(level)) for level in (0.5, 0.9, 0.5)}) == 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Task("a", QuantileTarget),
            "kind=QuantileTarget is a class. Pass an object: QuantileTarget(...).",
        ),
        (lambda: Task("a", Kind), "kind=Kind is a class. Pass an object: Kind(...)."),
        (
            lambda: Task("a", QuantileTarget(0.9), quantile=0.9),
            "pass quantile to QuantileTarget instead.",
        ),
        (
            lambda: Task("a", OrdinalTarget(), categories=["x", "y"]),
            "pass categories to OrdinalTarget instead.",
        ),
        (
            lambda: Task("a", RegressionTarget(), quantile=0.9, categories=["x"]),
            "pass quantile, categories to RegressionTarget instead.",
        ),
        (lambda: Task("a", None), "kind=None is unknown. Use one of ['classification', 'gamma'"),
        (lambda: Task("a", 3), "or an object of sklearn_mtl.kinds."),
    ],
)
def test_objects_that_do_not_fit_a_task(make: Callable[[], Task], message: str) -> None:
    with pytest.raises(ValueError, match=rf"Task 'a': .*{re.escape(message)}"):
        make()


@pytest.mark.parametrize(
    ("kind", "name", "options"),
    [
        (QuantileTarget(0.9), "quantile", {"quantile": 0.9}),
        (QuantileTarget(), "quantile", {}),
        (RegressionTarget(), "regression", {}),
        (PoissonTarget(), "poisson", {}),
        (GammaTarget(), "gamma", {}),
        (ClassificationTarget(), "classification", {}),
        (OrdinalTarget([3, 1, 2]), "ordinal", {"categories": [3, 1, 2]}),
    ],
    ids=repr,
)
@pytest.mark.parametrize("way", ["list", "dict", "stream"])
def test_an_object_is_what_its_name_is(
    kind: Kind, name: str, options: dict[str, Any], way: str
) -> None:
    """The same network bit for bit, and the same report of it."""
    X, y = inputs(60), np.random.default_rng(1).choice([1.0, 2.0, 3.0], size=60)
    tasks = [Task("y0", kind), Task("y0", name, **options)]
    tasks = [{"y0": kind}, {"y0": tasks[1]}] if way == "dict" else [[task] for task in tasks]
    by_object, by_name = (small(tasks=each, max_epochs=3) for each in tasks)
    for est in (by_object, by_name):
        est.partial_fit(X, y) if way == "stream" else est.fit(X, y)
    np.testing.assert_array_equal(by_object.predict(X), by_name.predict(X))
    np.testing.assert_array_equal(by_object.history_["train_loss"], by_name.history_["train_loss"])
    assert by_object.score_tasks(X, y) == by_name.score_tasks(X, y)
    for est in (by_object, by_name):
        assert est.tasks_[0].kind_name == name
        assert est._fitted.encoder.kinds_ == [kind]
    assert "classes_" not in vars(kind)
    assert "scale_" not in vars(kind)


def test_an_object_in_several_tasks_is_fitted_for_each() -> None:
    kind = RegressionTarget()
    encoder = TargetEncoder([Task("a", kind), Task("b", kind)])
    encoder.fit_encode(np.column_stack([np.arange(4.0), 10 * np.arange(4.0)]))
    assert [fitted.mean_ for fitted in encoder.kinds_] == [1.5, 15]
    assert vars(kind) == {}


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        (Task("a", "ordinal"), Task("a", OrdinalTarget(["x", "y"]))),
        (Task("a", OrdinalTarget()), Task("a", OrdinalTarget(["x", "y"]))),
        (Task("a", "ordinal", categories=["y", "x"]), None),
        (Task("a", OrdinalTarget(["y", "x"])), None),
        (Task("a", "classification"), None),
        (Task("a", "quantile", quantile=0.9), None),
        (Task("a", "poisson", given=("flag", 1)), None),
    ],
)
def test_an_order_is_taken_by_kinds_that_lack_one(task: Task, expected: Task | None) -> None:
    assert task.with_order(["x", "y"]) == (expected or task)
    assert task.with_order(None) == task


@pytest.mark.parametrize("kind", [["classification"], {"regression"}, None, 3])
def test_what_is_no_kind_is_named(kind: Any) -> None:
    """Whether it can be looked up in a dict or not."""
    with pytest.raises(ValueError, match=re.escape(f"kind={kind!r} is unknown")):
        Task("a", kind)


@pytest.mark.parametrize(
    "labels",
    [
        np.array(["x", "y"]),
        np.array(["x", None, "y", np.nan], dtype=object),
        pd.Series(["x", np.nan, "y"]).unique(),
        pd.Series(["x", pd.NA, "y"], dtype="string").unique(),
        pd.Categorical(["x", "y", None]),
        pd.Index(["x", "y"]),
        pl.Series(["x", None, "y"]),
        (label for label in "xy"),
        {"x": 1, "y": 2}.keys(),
    ],
)
def test_labels_of_a_gate_are_those_of_any_container(labels):
    task = Task("a", "gamma", given=("flag", labels))
    assert task == Task("a", "gamma", given=("flag", ["x", "y"]))
    assert task.labels == ["x", "y"]


@pytest.mark.parametrize("label", [np.array("x"), np.str_("x"), "x"])
def test_a_single_label_of_a_gate(label):
    assert (
        repr(Task("a", "gamma", given=("flag", label))) == "Task('a', 'gamma', given=('flag', 'x'))"
    )


@pytest.mark.parametrize("hole", [None, np.nan, pd.NA, pd.NaT, [], [np.nan], np.array([])])
def test_a_hole_is_no_label_of_a_gate(hole):
    with pytest.raises(ValueError, match=r"Task 'a': given=.* is not understood"):
        Task("a", "gamma", given=("flag", hole))


@pytest.mark.parametrize("kind", [np.ones(2), pd.Series(["gamma", "x"]), ["gamma"], float("nan")])
def test_kinds_are_names_or_kinds(kind: object) -> None:
    with pytest.raises(ValueError, match=r"(?s)Task .a.: kind=.* is unknown"):
        Task("a", kind)  # type: ignore[arg-type]
