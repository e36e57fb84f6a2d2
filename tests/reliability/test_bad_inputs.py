"""Bad inputs of all kinds at all places: an error by its right name, and nothing is changed."""

from __future__ import annotations

import copy
import functools
import re
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
from _bad import combinations, content_of
from _saved import make
from _trials import several

from sklearn_mtl import MultiTaskCNNEstimator, Task
from sklearn_mtl.losses import LogProd
from sklearn_mtl.networks import ConvTrunk, DenseTrunk

N = 30
X = np.random.default_rng(0).normal(size=(N, 3))
Y = pd.DataFrame({"on": np.arange(N) % 2, "size": X[:, 0], "level": X[:, 1] > 0})
TASKS = [
    Task("on", "classification"),
    Task("size", "regression"),
    Task("level", "classification"),
]


class Place(NamedTuple):
    """Where an input is passed.

    Attributes
    ----------
    named : str
        A pattern that its errors have.
    values : ndarray
        To be spoiled.
    methods : str
        That take it.
    taken : str
        A pattern of what may be meant, or is right there: "kind fault, type, container, method".
    """

    named: str
    values: np.ndarray
    methods: str
    taken: str


TABLE, WEIGHTS = Y.to_numpy(float), np.arange(1.0, N + 1)
A_WEIGHT = r"container (nothing|bool|a number)|shape no axes"
A_TARGET = r"hole|cell (?!-?inf)|type (str|datetime64)"
OF_X_ALONE = r"shape (one row|a row (less|more)).*(predict|embed)|shape (one row|many axes).* fit$"

PLACES: dict[str, Place] = {
    "X": Place(
        r"\bX\b",
        X,
        "fit partial_fit predict predict_proba predict_frame embed score",
        OF_X_ALONE,
    ),
    "y": Place(r"\by\b|^Task '", TABLE, "fit partial_fit score score_tasks", A_TARGET),
    "sample_weight": Place("sample_weight", WEIGHTS, "fit partial_fit score", A_WEIGHT),
    "groups": Place(
        "groups", np.arange(N) // 3, "fit", r"container nothing|cell|type (?!struct)|a scalar among"
    ),
    "X_val": Place(r"\bX_val\b", X, "fit", r"a^"),
    "y_val": Place(r"\by_val\b", TABLE, "fit", A_TARGET),
    "sample_weight_val": Place("sample_weight_val", WEIGHTS, "fit", A_WEIGHT),
}


@pytest.fixture(scope="module")
def fitted() -> MultiTaskCNNEstimator:
    return make(tasks=TASKS).fit(X, Y)


def call(est: MultiTaskCNNEstimator, method: str, place: str, given: Any) -> None:
    inputs: dict[str, Any] = {"X": X, "y": Y}
    if place.endswith("_val"):
        inputs |= {"X_val": X, "y_val": Y}
    if method in ("predict", "predict_proba", "predict_frame", "embed"):
        inputs = {}
    getattr(est, method)(**inputs | {place: given})


def outcome_of(
    act: Callable[[], Any], est: MultiTaskCNNEstimator, named: str, what: str, taken: str
) -> str:
    """Name the error that an act has raised, if it is the right one; the estimator is as before."""
    attributes, weight = dict(vars(est)), est.module_.heads.weight.detach().clone()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", RuntimeWarning)  # of numpy, which says nothing to a user
        try:
            act()
        except (ValueError, TypeError) as error:
            assert re.search(f"{named}|{AFTER_A_CHANGE}", str(error)), f"{what}: {error!r}"  # noqa: PT017
            assert len(str(error)) < 1500, what  # noqa: PT017
            now = vars(est)
            assert attributes.keys() == now.keys(), what
            assert [n for n, v in attributes.items() if now[n] is not v] == [], what
            assert torch.equal(est.module_.heads.weight, weight), what
            return type(error).__name__
        except Exception as error:
            # Methods that are not there raise what says so.
            if isinstance(error, AttributeError) and "support" in str(error):
                return "AttributeError"
            raise AssertionError(f"{what}: {error!r}") from error
        assert re.search(taken, what), f"{what}: taken"
        if "many axes" not in what:
            assert len(est.predict(X)) == N, what
    return "taken, as they may be meant"


@several("bad inputs", few=60, many=1_000)
def test_bad_inputs_are_refused_by_name(trials, fitted):
    for rng in trials:
        name = list(PLACES)[rng.integers(len(PLACES))]
        place = PLACES[name]
        method = rng.choice(place.methods.split())
        fault, given = next(combinations(rng, place.values))
        what, before = f"{fault}, as {name} of {method}", content_of(given)
        est = copy.copy(fitted)
        act = functools.partial(call, est, method, name, given)
        trials.saw(outcome_of(act, est, place.named, what, place.taken))
        assert content_of(given) == before, what


# -- parameters -----------------------------------------------------------------------------------


AFTER_A_CHANGE = "since the last fit"  # parameters that go with the odd one


class Odd:
    """No parameter of anything."""


ODD: list[Any] = [
    *(10**30, None, True, False, -1, 0, 1, 1.5, -0.5, 1e-300, 1e300, np.nan, np.inf, 1j),
    *("", "zz", "auto", "y0", "on", b"x", [], (), {}, set(), [None], [1, 2], (0, 0, 0), "a\x00b"),
    *({"on": -1}, {"zz": 1}, {"on": "zz"}, {1: 2}, {"on": np.nan}, {"size": {0: 1}}),
    *(np.array([1.0, 2.0]), np.array(["a"]), np.float32(0.5), np.int64(3), np.bool_(True)),
    *(pd.Series([1.0, 2.0, 3.0]), pd.NA, pd.NaT, np.datetime64("2020-01-01"), Odd, Odd(), len),
    *(torch.ones(2), torch.float16, torch.optim.Adam, torch.nn.ReLU(), lambda: 1 / 0, ...),
]
LARGE, LONG = 0, {"max_epochs"}  # what takes long is no error


def makers() -> dict[str, Callable[[Any], dict[str, Any]]]:
    """Parameters, those of specs among them: what to set for an odd value."""
    found: dict[str, Callable[[Any], dict[str, Any]]] = {
        name: lambda v, name=name: {name: v} for name in make().get_params(deep=False)
    }
    for spec in (DenseTrunk, ConvTrunk):
        for name in spec().get_params(deep=False):
            shape = {"input_shape": (1, 3)} if spec is ConvTrunk else {}
            found[f"trunk__{name}"] = lambda v, s=spec, n=name, shape=shape: {
                "trunk": s(**{n: v}),
                **shape,
            }
    for name in ("kind", "given", "quantile", "categories", "name"):
        declared = {"name": "size", "kind": "regression"}
        found[f"tasks__{name}"] = lambda v, n=name, declared=declared: {
            "tasks": [TASKS[0], Task(**declared | {n: v}), TASKS[2]]
        }
    for name in ("optimizer__eps", "callbacks", "batch_size", "zz", "train_split"):
        found[f"net_params__{name}"] = lambda v, n=name: {"net_params": {n: v}}
    for name in ("decay", "floor", "weights"):
        found[f"loss__{name}"] = lambda v, n=name: {"loss": LogProd(**{n: v})}
    return found


MAKERS = makers()


@several("bad parameters", few=60, many=1_000)
def test_bad_parameters_are_refused_by_name(trials, fitted):
    for rng in trials:
        name = list(MAKERS)[rng.integers(len(MAKERS))]
        value = ODD[rng.integers(len(ODD))]
        if value is ODD[LARGE] and name in LONG:
            value = 1
        method = ["fit", "partial_fit"][rng.integers(2)]
        what = f"{name}={value!r} of {method}"
        est = copy.copy(fitted)

        def act(name=name, value=value, method=method, est=est):
            params = MAKERS[name](value)
            with pytest.MonkeyPatch.context() as patch:  # set, and set back in the end
                for key, parameter in params.items():
                    patch.setattr(est, key, parameter)
                getattr(copy.copy(est), method)(X, Y)

        named = "|".join([*name.split("__"), "learning_rate", *["^Task '"] * (name == "tasks")])
        trials.saw(outcome_of(act, est, named, what, "of"))
