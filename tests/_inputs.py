"""Adversarial inputs shared by the tests."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from sklearn_mtl import MultiTaskCNNEstimator, Task
from sklearn_mtl.losses import TaskLosses
from sklearn_mtl.networks import DenseTrunk


class Batch(NamedTuple):
    """Raw outputs and targets of a batch; NaN is a target that was not observed."""

    kinds: list[str]
    n_outputs: list[int]
    params: list[dict[str, Any]]
    output: Tensor
    target: Tensor

    @property
    def observed(self) -> Tensor:
        return ~self.target.isnan()

    def columns(self, k: int) -> slice:
        """Columns of the output that belong to task k."""
        start = sum(self.n_outputs[:k])
        return slice(start, start + self.n_outputs[k])

    def columns_of(self, tasks: Sequence[int]) -> Tensor:
        """Columns of the output that belong to some tasks, in their order."""
        every = range(sum(self.n_outputs))
        return torch.tensor([i for k in tasks for i in every[self.columns(k)]], dtype=torch.long)

    def losses(self, family: str = "likelihood", tasks: Sequence[int] | None = None) -> TaskLosses:
        """The per-task losses that fit this batch, or some tasks of it."""
        tasks = range(len(self.kinds)) if tasks is None else tasks
        kinds, n_outputs, params = ([of[k] for k in tasks] for of in self[:3])
        return TaskLosses(kinds, n_outputs, family, params)


LETTERS = {
    "r": "regression",
    "p": "poisson",
    "g": "gamma",
    "m": "quantile",  # the median
    "q": "quantile",  # at a level of 0.9
}


def make_batch(
    spec: str | Sequence[str],
    n_rows: int = 12,
    *,
    share: float = 0.6,
    members: int | None = None,
    scale: float = 1.0,
    dtype: torch.dtype = torch.float64,
    seed: int | np.random.Generator = 0,
) -> Batch:
    """A random batch; `spec` spells the tasks.

    One of `LETTERS` for a number, '3' for three classes, 'o3' for three ordered classes.
    """
    rng = np.random.default_rng(seed)
    tasks = re.findall(r"o?\d|[a-z]", "".join(spec))
    kinds = [LETTERS.get(s, "ordinal" if s[0] == "o" else "classification") for s in tasks]
    n_outputs = [1 if s in LETTERS else int(s[-1]) - (s[0] == "o") for s in tasks]
    params = [{"quantile": 0.9} if s == "q" else {} for s in tasks]
    shape = (n_rows, sum(n_outputs)) if members is None else (n_rows, members, sum(n_outputs))
    target = np.stack([_targets(s, n_rows, scale, rng) for s in tasks], axis=1).astype(float)
    target[rng.random(target.shape) >= share] = np.nan
    output = torch.tensor(rng.normal(size=shape) * scale, dtype=dtype)
    return Batch(kinds, n_outputs, params, output, torch.tensor(target, dtype=dtype))


def _targets(task: str, n_rows: int, scale: float, rng: np.random.Generator) -> np.ndarray:
    if task == "p":  # counts, a third of them 0, in other units
        return rng.poisson(1.1, size=n_rows) * scale
    if task == "g":
        return rng.gamma(2.0, size=n_rows) * scale
    if task in LETTERS:
        return rng.normal(size=n_rows) * scale
    return rng.integers(int(task[-1]), size=n_rows)


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
    "every kind": make_batch("pr2go3qmpo4", seed=17),
    "every kind, few observed": make_batch("pmgo3q", 30, share=0.1, seed=19),
    "every kind, ensemble": make_batch("o3gpqr", members=3, seed=20),
    "every kind, large errors": make_batch("po3gqm", scale=1e3, seed=21),
    "every kind, small errors": make_batch("po3gqm", scale=1e-3, seed=22),
    "ordered classes only": make_batch("o3o2o5o2", seed=24),
    "one ordered class": make_batch("o1gr", seed=26),
    "absent ordered task": _without(make_batch("po3q", seed=27), task=1),
}


class EnsembleTrunk(nn.Module):
    """Features (B, M, F) of an ensemble of M members."""

    def __init__(self, n_inputs: int, members: int = 3, n_features: int = 5) -> None:
        super().__init__()
        self.linear = nn.Linear(n_inputs, members * n_features)
        self.members = members

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.linear(x)).unflatten(-1, (self.members, -1))


def lbfgs(groups: Any, lr: float, **kwargs: Any) -> torch.optim.LBFGS:
    """Finds the optimum of a full batch, whatever the schedule."""
    params = [p for group in groups for p in group["params"]]
    return torch.optim.LBFGS(
        params,
        lr,
        max_iter=50,
        tolerance_grad=1e-12,
        tolerance_change=0,
        line_search_fn="strong_wolfe",
    )


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


# The columns of `make_table`, the third with its gate.
GATED = [
    Task("label", "classification"),
    Task("number", "regression"),
    Task("size", "regression", given=("label", 1.0)),
]


def make_small(tasks: Any = None, **params: Any) -> MultiTaskCNNEstimator:
    """An estimator that fits a table in milliseconds, for folds of it."""
    defaults = {
        "trunk": DenseTrunk((8,), n_members=1, n_frequencies=0),
        "max_epochs": 3,
        "learning_rate": 0.02,
        "random_state": 0,
    }
    return MultiTaskCNNEstimator(tasks, **(defaults | params))


EVERY_KIND = [
    Task("count", "poisson"),
    Task("level", "ordinal", categories=[3, 1, 2]),
    Task("amount", "gamma", given=("level", [1, 2])),
    Task("wait", "quantile", quantile=0.7),
    Task("color", "classification"),
    Task("size", "regression"),
]


def make_every_kind(n_samples: int = 60, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """X, and one column for each of `EVERY_KIND`, all but the second with holes."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_samples, 3))
    error = rng.normal(size=(n_samples, 3))
    level = np.array([3, 1, 2])[np.digitize(X[:, 0] + error[:, 0], [-0.5, 0.7])]
    y = np.column_stack(
        [
            rng.poisson(np.exp(0.5 + 0.5 * X[:, 1])),
            level,
            np.where(level == 3, np.nan, rng.gamma(3.0, np.exp(X[:, 2]))),
            X[:, 0] - X[:, 1] + np.exp(error[:, 1]),
            rng.integers(3, size=n_samples),
            X[:, 2] + 0.3 * error[:, 2],
        ]
    )
    holes = rng.random(y.shape) < 0.2
    holes[:, 1] = False
    return X, np.where(holes, np.nan, y)
