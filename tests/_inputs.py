"""Adversarial inputs shared by the tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from sklearn_mtl.losses import TaskLosses


class Batch(NamedTuple):
    """Raw outputs and targets of a batch; NaN is a target that was not observed."""

    kinds: list[str]
    n_outputs: list[int]
    output: Tensor
    target: Tensor

    @property
    def observed(self) -> Tensor:
        return ~self.target.isnan()

    def columns(self, k: int) -> slice:
        """Columns of the output that belong to task k."""
        start = sum(self.n_outputs[:k])
        return slice(start, start + self.n_outputs[k])

    def losses(self, family: str = "likelihood") -> TaskLosses:
        """The per-task losses that fit this batch."""
        return TaskLosses(self.kinds, self.n_outputs, family)


def make_batch(
    spec: Sequence[str],
    n_rows: int = 12,
    *,
    share: float = 0.6,
    members: int | None = None,
    scale: float = 1.0,
    dtype: torch.dtype = torch.float64,
    seed: int | np.random.Generator = 0,
) -> Batch:
    """A random batch; `spec` holds a letter per task: 'r' for a number, '3' for three classes."""
    rng = np.random.default_rng(seed)
    kinds = ["regression" if s == "r" else "classification" for s in spec]
    n_outputs = [1 if s == "r" else int(s) for s in spec]
    shape = (n_rows, sum(n_outputs)) if members is None else (n_rows, members, sum(n_outputs))
    target = np.stack(
        [
            rng.normal(size=n_rows) * scale if s == "r" else rng.integers(int(s), size=n_rows)
            for s in spec
        ],
        axis=1,
    ).astype(float)
    target[rng.random(target.shape) >= share] = np.nan
    output = torch.tensor(rng.normal(size=shape) * scale, dtype=dtype)
    return Batch(kinds, n_outputs, output, torch.tensor(target, dtype=dtype))


def _without(batch: Batch, task: int) -> Batch:
    target = batch.target.clone()
    target[:, task] = torch.nan
    return batch._replace(target=target)


# What a loss must survive. Kinds alternate, so that tasks and columns are easily mixed up.
BATCHES: dict[str, Batch] = {
    "mixed": make_batch("r2r32r", seed=1),
    "one row": make_batch("2r3r", 1, share=1.0, seed=2),
    "numbers only": make_batch("rrr", seed=3),
    "classes only": make_batch("3252", seed=4),
    "complete": make_batch("r3", share=1.0, seed=5),
    "few observed": make_batch("r2r3", 30, share=0.1, seed=6),
    "absent task": _without(make_batch("2r3r", seed=7), task=1),
    "absent class task": _without(make_batch("r3r2", seed=8), task=1),
    "ensemble": make_batch("r2r3", members=4, seed=9),
    "one class": make_batch("1r", seed=10),
    "many classes": make_batch("9r9", seed=11),
    "large errors": make_batch("r2r3", scale=1e3, seed=12),
    "small errors": make_batch("r2r3", scale=1e-3, seed=13),
}


class EnsembleTrunk(nn.Module):
    """Features (B, M, F) of an ensemble of M members."""

    def __init__(self, n_inputs: int, members: int = 3, n_features: int = 5) -> None:
        super().__init__()
        self.linear = nn.Linear(n_inputs, members * n_features)
        self.members = members

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.linear(x)).unflatten(-1, (self.members, -1))


def make_table(
    n_samples: int = 60, *, noise: float = 0.5, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """X, and a class, a number with holes, and a number that exists in the second class only."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_samples, 3))
    error = rng.normal(size=(n_samples, 3)) * noise
    label = (X[:, 0] + error[:, 0] > 0).astype(float)
    number = X @ [1.0, -2.0, 0.5] + error[:, 1]
    number[rng.random(n_samples) < 0.3] = np.nan
    size = np.where(label == 1, X[:, 1] + error[:, 2], np.nan)
    return X, np.column_stack([label, number, size])
