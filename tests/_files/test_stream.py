"""Streams that go on after `save` and `load`, with the optimizer, end with the same bits."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from _broken import assert_same_bits
from _inputs import make_table
from _saved import opened, put, put_tensor, rewrite
from sklearn.base import clone

import sklearn_mtl
from sklearn_mtl import MultiTaskCNNEstimator, Task
from sklearn_mtl.losses import LogProd
from sklearn_mtl.networks import ConvTrunk, DenseTrunk

X, Y = make_table(90)
IMAGES = np.random.default_rng(0).normal(size=(90, 1, 24, 24)).astype(np.float32)
SEQUENCES = IMAGES[:, 0, :2, :12]
PARTS = np.array_split(np.arange(90), 3)
TASKS = [
    Task("y0", "classification"),
    Task("y1", "regression"),
    Task("y2", "regression", given=("y0", 1)),
]


def make(**params: Any) -> MultiTaskCNNEstimator:
    known = {
        "trunk": DenseTrunk((8,), n_members=2),
        "batch_size": 16,
        "random_state": 0,
        "device": "cpu",
    }
    return MultiTaskCNNEstimator(**known | params)


def own_trunk() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Linear(X.shape[1], 6), torch.nn.BatchNorm1d(6))


STREAMS: dict[str, dict[str, Any]] = {
    "dense": {},
    "the default": {"trunk": "auto"},
    "the default of sequences": {"trunk": "auto", "X": SEQUENCES, "input_shape": (2, 12)},
    "images": {"trunk": ConvTrunk(4, 8), "X": IMAGES},
    "own trunk": {"trunk": own_trunk},
    "conditional": {"tasks": TASKS},
    "weighted": {"loss": "weighted", "task_weights": "n_observed"},
    "masked_mse": {"loss": "masked_mse"},
    "uncertainty": {"loss": "uncertainty"},
    "logprod": {"loss": LogProd(decay=0.5)},
    "SGD": {"optimizer": "SGD", "net_params": {"optimizer__momentum": 0.9}},
    "a class": {"optimizer": torch.optim.RMSprop},
    "LBFGS": {"optimizer": "LBFGS", "learning_rate": 0.01, "loss": "weighted"},
    "Adafactor": {"optimizer": "Adafactor"},
    "no decay": {"weight_decay": 0.0},
    "float64": {"precision": "float64"},
    "bfloat16": {"precision": "bfloat16"},
    "random state": {"random_state": np.random.RandomState(3)},
}


def through_file(est: MultiTaskCNNEstimator, path: Path, optimizer: bool = True) -> Any:
    est.save(path, optimizer=optimizer)
    trunk = None if est.trunk is not own_trunk else own_trunk
    return MultiTaskCNNEstimator.load(path, trunk=trunk)


def passed(est: MultiTaskCNNEstimator, part: int, inputs: Any = X, y: Any = Y) -> Any:
    return est.partial_fit(inputs[PARTS[part]], y[PARTS[part]])


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_goes_on_with_its_optimizer(name, tmp_path):
    params = dict(STREAMS[name])
    inputs = params.pop("X", X)
    unbroken, est = clone(make(**params)), clone(make(**params))
    for part in range(3):
        passed(unbroken, part, inputs)
        est = passed(through_file(est, tmp_path / "m") if part else est, part, inputs)
        assert_same_bits(est, unbroken)
    np.testing.assert_array_equal(est.predict(inputs), unbroken.predict(inputs))


def test_without_it_the_optimizer_starts_anew(tmp_path):
    unbroken, est = passed(make(), 0), passed(make(), 0)
    est = passed(through_file(est, tmp_path / "m", optimizer=False), 1)
    assert not np.array_equal(est.predict(X), passed(unbroken, 1).predict(X))
    assert opened(tmp_path / "m")[0]["stream"] == {}


def test_what_was_changed_starts_anew_as_it_would_have(tmp_path):
    unbroken, est = passed(make(), 0), passed(make(), 0)
    for known in (unbroken, est):
        known.set_params(learning_rate=0.01)
    loaded = through_file(est, tmp_path / "m")
    assert opened(tmp_path / "m")[0]["stream"]["optimizer"] is None
    assert_same_bits(passed(loaded, 1), passed(unbroken, 1))
    for change in ({"learning_rate": 0.003}, {"loss": "weighted"}, {"optimizer": "SGD"}):
        one, other = passed(make(), 0), passed(make(), 0)
        loaded = through_file(other, tmp_path / "m").set_params(**change)
        assert_same_bits(passed(loaded, 1), passed(one.set_params(**change), 1))


def test_a_fit_goes_on_as_it_would_have(tmp_path):
    one, other = (make(max_epochs=2).fit(X, Y) for _ in range(2))
    loaded = through_file(other, tmp_path / "m")
    for part in range(2):
        assert_same_bits(passed(loaded, part), passed(one, part))
        loaded = through_file(loaded, tmp_path / "m")


def test_tasks_that_come_later_do_so_as_they_would_have(tmp_path):
    tasks = [Task("a", "classification", categories=["n", "y"]), Task("b", "regression")]
    tasks.append(Task("c", "regression"))
    y = pd.DataFrame({"a": np.where(X[:, 0] > 0, "y", "n"), "b": X[:, 1], "c": X[:, 2]})
    y.loc[:29, ["a", "c"]] = None
    y.loc[30:59, ["a", "b"]] = None
    one, other = (make(tasks=tasks) for _ in range(2))
    for part in range(3):
        rows = PARTS[part]
        for est in (one, other):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # tasks that are not observed yet
                est.partial_fit(X[rows], y.iloc[rows])
        assert_same_bits(other, one)
        other = through_file(other, tmp_path / "m")


def test_what_is_frozen_stays_so(tmp_path):
    one, other = (passed(make(), 0) for _ in range(2))
    for est in (one, other):
        est.module_.trunk.requires_grad_(False)
    other = through_file(other, tmp_path / "m")
    for part in (1, 2):
        assert_same_bits(passed(other, part), passed(one, part))
        other = through_file(other, tmp_path / "m")


def test_the_function_keeps_it_too(tmp_path):
    unbroken, est = passed(make(), 0), passed(make(), 0)
    sklearn_mtl.save(est, tmp_path / "m", optimizer=True)
    loaded = MultiTaskCNNEstimator.load(tmp_path / "m")
    assert_same_bits(passed(loaded, 1), passed(unbroken, 1))


MOMENT = "optimizer['state'][0]['exp_avg']"


def no_groups(header: dict[str, Any], tensors: dict[str, Any]) -> None:
    header["stream"]["optimizer"] = {"dict": [["state", {"dict": []}], ["param_groups", []]]}
    for name in [name for name in tensors if name.startswith("optimizer")]:
        del tensors[name]


def rate_is_text(header: dict[str, Any], tensors: dict[str, Any]) -> str:
    return json.dumps(header, separators=(",", ":")).replace('["lr",0.002]', '["lr","fast"]')


@pytest.mark.parametrize(
    "change",
    [
        no_groups,
        rate_is_text,
        put("stream", value={"optimizer": None}),
        put("stream", "optimizer", value=3),
        put("stream", "constant_losses", value=[1.0]),
        put_tensor("constant_losses", torch.ones(7, dtype=torch.float64)),
        put_tensor(MOMENT, torch.ones(2)),
        put_tensor(MOMENT, torch.tensor(float("nan"))),
    ],
)
def test_states_that_do_not_fit_are_refused(change, tmp_path):
    path = tmp_path / "m"
    passed(make(), 0).save(path, optimizer=True)
    rewrite(path, change)
    with pytest.raises(ValueError, match="cannot be loaded") as info:
        MultiTaskCNNEstimator.load(path)
    assert str(path) in str(info.value)
