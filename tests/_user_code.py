"""Code of a user, as strict type checkers should take it; `test_typing.py` runs it too.

Lines that are wrong on purpose say so to the checkers, which complain where one is not wrong.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, assert_type

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import sklearn_mtl
from sklearn_mtl import MultiTaskCNNEstimator, Task, task_view
from sklearn_mtl.augmentation import Augment
from sklearn_mtl.inspection import transfer_report
from sklearn_mtl.kinds import Kind
from sklearn_mtl.losses import Combiner, KindLoss, LogProd, LossRule, TaskLosses
from sklearn_mtl.metrics import task_scorer, task_scorers
from sklearn_mtl.model_selection import cross_val_predict_tasks
from sklearn_mtl.networks import ConvTrunk, DenseTrunk, MultiTaskModule, TrunkSpec, build_trunk

FloatArray = NDArray[np.float64]


# -- of one's own: losses, trunks and kinds -------------------------------------------------------


def worst_task(losses: Tensor, counts: Tensor) -> Tensor:
    return losses[counts > 0].max()


def of_losses_alone(losses: Tensor) -> Tensor:
    return losses.sum()


class HardestFirst(Combiner):
    """Squares of the losses."""

    def forward(self, losses: Tensor, counts: Tensor) -> Tensor:
        return losses.square().sum()


class Squares:
    """A spec of a trunk, without any base."""

    def build(self, input_shape: tuple[int, ...]) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(input_shape)), 8), nn.ReLU())


def squared(raw: Tensor, target: Tensor) -> Tensor:
    return (raw[..., 0].sigmoid() - target).square()


def negative_error(
    y_true: NDArray[Any], y_pred: NDArray[Any], sample_weight: FloatArray | None = None
) -> float:
    return -float(np.average(np.abs(y_true - y_pred), weights=sample_weight))


class Share(Kind):
    """A share, from 0 to 1."""

    cell_loss = KindLoss(likelihood=squared, squared=squared)
    is_mean = True

    def fit(self, values: NDArray[Any], weight: FloatArray, order: Any = None) -> Share:
        self.check(values)
        return self

    def encode(self, values: NDArray[Any]) -> FloatArray:
        return values.astype(np.float64)

    def constant(self, codes: FloatArray, weight: FloatArray) -> FloatArray:
        mean = np.average(codes, weights=weight, keepdims=True).clip(1e-6, 1 - 1e-6)
        return np.asarray(np.log(mean / (1 - mean)))

    def link(self, raw: Any) -> Any:
        return 1 / (1 + np.exp(-raw[..., 0]))

    @property
    def metric(self) -> Any:
        return negative_error


spec: TrunkSpec = Squares()
rule: LossRule = worst_task
rule = HardestFirst()
not_a_spec: TrunkSpec = Share()  # type: ignore[assignment] # pyright: ignore[reportAssignmentType]


# -- a session ------------------------------------------------------------------------------------


def session(folder: Path) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 3))
    y = np.column_stack([X[:, 0] > 0, X[:, 1], 1 / (1 + np.exp(-X[:, 2]))])
    y[::5, 1] = np.nan
    tasks = [Task("up", "classification"), Task("size", "regression"), Task("share", Share())]
    estimator = MultiTaskCNNEstimator(
        tasks, loss=HardestFirst(), trunk=spec, max_epochs=2, random_state=0
    )
    assert_type(estimator.fit(X, y), MultiTaskCNNEstimator)
    assert_type(estimator.predict(X), NDArray[Any])
    assert_type(
        MultiTaskCNNEstimator(max_epochs=1).fit(X, y[:, 1]).predict(X, return_std=True),
        tuple[NDArray[Any], NDArray[np.float64]],
    )
    assert_type(estimator.predict_proba(X), NDArray[np.float64] | list[NDArray[np.float64]])
    assert_type(estimator.score(X, y), float)
    assert_type(estimator.score_tasks(X, y), dict[str, float])
    assert_type(estimator.embed(X), NDArray[np.float64])
    assert_type(estimator.module_, MultiTaskModule)
    frame = estimator.predict_frame(X)
    assert list(frame) == ["up", "size", "share"]
    assert_type(sklearn_mtl.score_tasks(estimator, X, y), dict[str, float])

    MultiTaskCNNEstimator(loss=of_losses_alone, trunk=DenseTrunk((8,)))
    MultiTaskCNNEstimator(loss="weighted", trunk=ConvTrunk(), augment=Augment())
    MultiTaskCNNEstimator(loss=LogProd(), trunk=nn.Flatten)
    MultiTaskCNNEstimator(loss=3)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    MultiTaskCNNEstimator(trunk=Share())  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]

    plain = MultiTaskCNNEstimator(max_epochs=1, random_state=0).fit(X, y[:, :2])
    path = folder / "model.safetensors"
    plain.save(path)
    loaded = MultiTaskCNNEstimator.load(path)
    assert_type(loaded, MultiTaskCNNEstimator)
    np.testing.assert_array_equal(loaded.predict(X), plain.predict(X))

    view = task_view(plain, "y0")
    assert view.predict(X).shape == (60,)
    scorers = task_scorers({"y0": "accuracy"})
    assert set(scorers) == {"y0_accuracy"}
    task_scorer("y1", "r2")
    cross_val_predict_tasks(MultiTaskCNNEstimator(max_epochs=1, random_state=0), X, y[:, :2], cv=2)
    assert callable(transfer_report)


def loop_of_ones_own() -> None:
    trunk, n_features = build_trunk(DenseTrunk((4,)), (3,))
    assert_type(trunk, nn.Module)
    assert_type(n_features, int)
    measure = TaskLosses(["classification", "regression"], n_outputs=[2, 1])
    losses, counts = measure(torch.zeros(2, 3), torch.tensor([[1.0, 0.5], [0.0, float("nan")]]))
    combined = LogProd()(losses, counts)
    assert combined.ndim == 0
