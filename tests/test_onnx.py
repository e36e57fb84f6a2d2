"""ONNX graphs say what the estimator says."""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from _asserts import assert_random_states_untouched
from _inputs import EnsembleTrunk
from sklearn.exceptions import NotFittedError
from torch import nn

from sklearn_mtl import MultiTaskCNNEstimator, Task
from sklearn_mtl._onnx import DECODERS, Graph, _AdaptiveAvgPool3d
from sklearn_mtl.kinds import KINDS
from sklearn_mtl.networks import ConvTrunk, DenseTrunk

N = 24
CODE = np.arange(N) % 3
NUMBER = np.random.default_rng(0).normal(size=N)


def make(**params: Any) -> MultiTaskCNNEstimator:
    return MultiTaskCNNEstimator(
        **{"trunk": DenseTrunk((4,)), "max_epochs": 2, "random_state": 0, "device": "cpu"} | params
    )


def make_targets() -> tuple[pd.DataFrame, list[Task]]:
    """A task of every kind, in units that are hard on float32."""
    y = pd.DataFrame(
        {
            "regression": 1e9 + NUMBER,
            "ordinal": CODE,
            "quantile": NUMBER * 1e-9,
            "classification": np.where(CODE > 0, "yes", "no"),
            "poisson": CODE * 1e6,
            "gamma": np.where(CODE > 0, np.exp(NUMBER), np.nan),
        }
    )
    given = ("classification", "yes")
    tasks = [Task(name, name, given=given if name == "gamma" else None) for name in y]
    return y, tasks


def run(path: Any, X: np.ndarray, name: str = "X") -> dict[str, np.ndarray]:
    """Outputs of a graph by their names."""
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime runs the graphs")
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [out.name for out in session.get_outputs()]
    outputs = session.run(None, {name: X.astype(np.float32)})
    return dict(zip(names, outputs, strict=True))


def assert_says_the_same(
    outputs: dict[str, np.ndarray], estimator: MultiTaskCNNEstimator, X: np.ndarray
) -> None:
    assert list(outputs) == estimator.task_names_
    raw = estimator._raw(X)
    proba = estimator._encoder.probabilities(raw)
    for name, numbers, kind in zip(
        outputs, estimator._encoder.decode(raw), estimator._encoder.kinds_, strict=True
    ):
        expected = proba.get(name, numbers)
        assert outputs[name].shape == expected.shape
        assert outputs[name].dtype == (np.float32 if name in proba else np.float64)
        spread = 1.0 if name in proba else kind.scale_
        offset = 0.0 if name in proba else getattr(kind, "mean_", 0.0)
        np.testing.assert_allclose(
            (outputs[name] - offset) / spread, (expected - offset) / spread, rtol=1e-4, atol=1e-6
        )


@pytest.mark.parametrize(
    ("shape", "params"),
    [
        ((3,), {"trunk": EnsembleTrunk(3), "head_hidden_units": 2}),
        ((2, 9), {"trunk": ConvTrunk(2, 4, max_shift=0.5), "input_shape": (2, 9)}),
        ((9, 7, 3), {"trunk": ConvTrunk(2, 4), "data_format": "channels_last"}),
        ((2, 9, 6, 3), {"trunk": ConvTrunk(2, 4, max_shift=0.5)}),
    ],
)
def test_graph_says_what_the_estimator_says(shape, params, tmp_path):
    # Features around 2**20, of which float32 still knows the noise.
    X = np.random.default_rng(1).integers(0, 8, size=(N, *shape)) / 8 + 2.0**20
    y, tasks = make_targets()
    if len(shape) > 1:  # every kind once is enough, as an export takes its time
        y, tasks = y[["regression", "classification"]], [tasks[0], tasks[3]]
    estimator = make(tasks=tasks, **params).fit(X, y)
    path = tmp_path / "model.onnx"
    with assert_random_states_untouched():
        estimator.to_onnx(path)
    for rows in (X[:1], X):
        assert_says_the_same(run(path, rows), estimator, rows)


def test_names_and_labels(tmp_path):
    """Tasks may be named like the input, and like what stands inside of the graph."""
    import onnx

    X = np.random.default_rng(1).normal(size=(N, 3))
    path = tmp_path / "model.onnx"
    inside = ["mean", "module.heads.bias", "linear", "softmax", "node_linear"]
    y = pd.DataFrame({"X": CODE > 0, "two words": NUMBER} | dict.fromkeys(inside, NUMBER))
    estimator = make().fit(X, y)
    estimator.to_onnx(str(path))
    assert_says_the_same(run(path, X, "X_"), estimator, X)
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    (said,) = [prop.value for prop in model.metadata_props if prop.key == "classes"]
    assert json.loads(said) == {"X": [False, True]} | dict.fromkeys([*y][1:])


def test_a_graph_for_every_kind():
    assert set(DECODERS) == set(KINDS)


@pytest.mark.parametrize("precision", ["float64", "bfloat16"])
@pytest.mark.parametrize(
    ("n_labels", "head_hidden_units"), [(1, 0), (2, 0), (3, 0), (1, 2), (3, 2)]
)
@pytest.mark.filterwarnings("ignore:Task .* has one observed label")
def test_graph_in_torch(precision, n_labels, head_hidden_units):
    """Quicker than by way of a file."""
    X = np.random.default_rng(1).normal(size=(N, 3))
    y, tasks = make_targets()
    tasks[-1] = Task("gamma", "gamma")
    y = y.assign(ordinal=CODE.clip(max=n_labels - 1), classification=CODE.clip(max=n_labels - 1))
    params = {"precision": precision, "head_hidden_units": head_hidden_units}
    estimator = make(tasks=tasks, **params).fit(X, y)
    kinds = [task.kind for task in tasks]
    graph = Graph(estimator.module_, estimator._reader, kinds, estimator._encoder.kinds_)
    with torch.inference_mode():
        outputs = [out.numpy() for out in graph(torch.from_numpy(X).float())]
    if precision == "bfloat16":  # the graph is more precise
        estimator.net_.amp_dtype = None
    assert_says_the_same(dict(zip(kinds, outputs, strict=True)), estimator, X)


@pytest.mark.parametrize("size", [1, (2, None, 4), (4, 4, 3)])
def test_pooling(size):
    x = torch.rand(2, 3, 5, 7, 4)
    module = nn.AdaptiveAvgPool3d(size)
    torch.testing.assert_close(_AdaptiveAvgPool3d(module.output_size)(x), module(x))


def test_an_estimator_that_is_not_fitted(tmp_path):
    with pytest.raises(NotFittedError):
        MultiTaskCNNEstimator().to_onnx(tmp_path / "model.onnx")


@pytest.mark.parametrize("package", ["onnx", "onnxscript"])
def test_a_missing_extra_is_named(package, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    estimator = make().fit(np.arange(N * 3.0).reshape(N, 3), NUMBER)
    with pytest.raises(ImportError, match=rf'needs {package}.*pip install "sklearn-mtl\[onnx\]"'):
        estimator.to_onnx(tmp_path / "model.onnx")
    assert not any(tmp_path.iterdir())
