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
from sklearn.metrics import r2_score
from torch import nn

from sklearn_mtl import MultiTaskCNNEstimator, Task
from sklearn_mtl._data.inputs import InputReader
from sklearn_mtl._files.onnx import _AdaptiveAvgPool3d
from sklearn_mtl._fitted import fitted_of
from sklearn_mtl._fitted_module import FittedModule
from sklearn_mtl.kinds import KINDS, ClassificationTarget, Kind, RegressionTarget
from sklearn_mtl.losses import KindLoss
from sklearn_mtl.networks import ConvTrunk, DenseTrunk, TabMTrunk

N = 24
CODE = np.arange(N) % 3
NUMBER = np.random.default_rng(0).normal(size=N)
READER = InputReader(None, "channels_first", "An estimator").fit(
    np.eye(3), np.arange(3), np.ones(3)
)


def make(**params: Any) -> MultiTaskCNNEstimator:
    return MultiTaskCNNEstimator(
        **{
            "trunk": DenseTrunk((4,), n_members=2),
            "max_epochs": 2,
            "random_state": 0,
            "device": "cpu",
        }
        | params
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
    fitted = fitted_of(estimator)
    proba = fitted.encoder.probabilities(fitted.raw(X))
    for name, numbers, kind in zip(outputs, fitted.decode(X), fitted.encoder.kinds_, strict=True):
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
        ((2, 9), {"trunk": "auto", "input_shape": (2, 9)}),
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


@pytest.mark.parametrize("n_flags", [1, 3])
def test_features_of_two_values(n_flags, tmp_path):
    """Which have no waves."""
    X = np.random.default_rng(1).normal(size=(N, 3))
    X[:, :n_flags] = X[:, :n_flags] > 0
    estimator = make().fit(X, np.column_stack([X.sum(axis=1), CODE > 0]))
    assert len(fitted_of(estimator).reader.two_valued_) == n_flags
    estimator.to_onnx(tmp_path / "model.onnx")
    assert_says_the_same(run(tmp_path / "model.onnx", X), estimator, X)


def test_tabm(tmp_path):
    pytest.importorskip("tabm", reason="the extra [tabm]")
    X = np.random.default_rng(1).normal(size=(N, 3))
    trunk = TabMTrunk(n_blocks=2, d_block=8, k=4)
    estimator = make(trunk=trunk, head_hidden_units=3).fit(X, NUMBER)
    estimator.to_onnx(tmp_path / "model.onnx")
    assert_says_the_same(run(tmp_path / "model.onnx", X), estimator, X)


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
    for kind in KINDS.values():
        FittedModule(nn.Linear(1, 1), READER, ["y"], [kind()])


class AngleTarget(Kind):
    """A kind of a user, of two outputs, in half degrees."""

    cell_loss = KindLoss(
        likelihood=lambda raw, target: (raw - _on_circle(target)).square().sum(dim=-1),
        squared=lambda raw, target: (raw - _on_circle(target)).square().sum(dim=-1),
    )
    n_outputs = 2
    scale_ = 180 / np.pi * 2

    @property
    def units(self):
        return self.scale_, 5.0

    def fit(self, values, weight, order=None):
        return self

    def encode(self, values):
        return (values.astype(float) - 5.0) / self.scale_

    def constant(self, codes, weight):
        return np.average([np.cos(codes), np.sin(codes)], axis=1, weights=weight)

    def link(self, raw):
        xp = torch if isinstance(raw, torch.Tensor) else np
        return xp.arctan2(raw[..., 1], raw[..., 0])

    @property
    def metric(self):
        return r2_score


def _on_circle(angle: torch.Tensor) -> torch.Tensor:
    return torch.stack([angle.cos(), angle.sin()], dim=-1)


class UnlinkedTarget(AngleTarget):
    """As it was before there were links: it decodes all by itself."""

    link = Kind.link

    def decode(self, raw):
        x, y = raw.mean(axis=1).T
        return np.arctan2(y, x) * self.scale_ + 5.0


class RoundedTarget(RegressionTarget):
    """It does more than its link says."""

    def decode(self, raw):
        return super().decode(raw).round()


class SharpTarget(ClassificationTarget):
    """The same for probabilities."""

    def proba(self, raw):
        return super().proba(raw).round()


@pytest.mark.parametrize(
    "trunk", [DenseTrunk((4,), n_members=2), EnsembleTrunk(3)], ids=["dense", "ensemble"]
)
def test_a_kind_of_the_user_with_a_link(trunk, tmp_path):
    X = np.random.default_rng(1).normal(size=(N, 3))
    X[:, 0] = NUMBER  # what cannot be predicted is a constant
    y = np.column_stack([100 * NUMBER.clip(-1, 1) + 5, CODE])
    tasks = [Task("angle", AngleTarget()), Task("code", "classification")]
    estimator = make(tasks=tasks, trunk=trunk, max_epochs=20).fit(X, y)
    path = tmp_path / "model.onnx"
    estimator.to_onnx(path)
    outputs = run(path, X)
    assert np.ptp(outputs["angle"]) > 10
    assert_says_the_same(outputs, estimator, X)


@pytest.mark.parametrize("kind", [UnlinkedTarget(), RoundedTarget(), SharpTarget()])
def test_a_kind_that_decodes_without_a_link_is_refused_by_name(kind, tmp_path):
    X = np.random.default_rng(1).normal(size=(N, 3))
    y = np.column_stack([NUMBER, CODE])
    estimator = make(tasks=[Task("first", "regression"), Task("own", kind)]).fit(X, y)
    assert np.isfinite(estimator.predict(X)).all()
    said = rf"Task 'own': {type(kind).__name__} cannot be exported, .* method link\(raw\)"
    with pytest.raises(ValueError, match=said):
        estimator.to_onnx(tmp_path / "model.onnx")
    assert not any(tmp_path.iterdir())


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
    with torch.inference_mode():
        outputs = estimator.as_module()(torch.from_numpy(X).float())
    if precision == "bfloat16":  # the graph is more precise
        estimator.net_.amp_dtype_ = None
    assert list(outputs) == kinds
    assert_says_the_same({name: out.numpy() for name, out in outputs.items()}, estimator, X)


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
