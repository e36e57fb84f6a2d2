"""Estimators to save, and changes of their files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from _inputs import make_table
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from sklearn_mtl import MultiTaskCNNEstimator, Task
from sklearn_mtl._files.store import seal
from sklearn_mtl.networks import DenseTrunk

SMALL = DenseTrunk((4,), n_members=2)

# Of header and tensors of a file, in place; what it returns is the text of the new header.
Change = Callable[[dict[str, Any], dict[str, Tensor]], str | None]


def make(**params: Any) -> MultiTaskCNNEstimator:
    return MultiTaskCNNEstimator(
        **{"trunk": SMALL, "max_epochs": 1, "random_state": 0, "device": "cpu"} | params
    )


def fit_table() -> MultiTaskCNNEstimator:
    """A class, a number, and a number that exists in one class."""
    tasks = [
        Task("y0", "classification"),
        Task("y1", "regression"),
        Task("y2", "regression", given=("y0", 1)),
    ]
    return make(tasks=tasks).fit(*make_table(30))


def saved_and_loaded(
    estimator: MultiTaskCNNEstimator, path: Path, trunk: Any = None
) -> MultiTaskCNNEstimator:
    estimator.save(path)
    return type(estimator).load(path, trunk=trunk)


def opened(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Header and tensors of a file."""
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["sklearn_mtl"])
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    return header, tensors


def rewrite(path: Path, change: Change, sealed: bool = True) -> None:
    """Change header and tensors of a file, and its checksum if it has one."""
    header, tensors = opened(path)
    text = change(header, tensors) or json.dumps(header, separators=(",", ":"))
    content = save(tensors, metadata={"sklearn_mtl": text})
    path.write_bytes(seal(content) if sealed and "checksum" in header else content)


def put(*keys: str, value: Any) -> Change:
    """A change of the header."""

    def change(header: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        for key in keys[:-1]:
            header = header[key]
        header[keys[-1]] = value

    return change


def drop(*keys: str) -> Change:
    def change(header: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        for key in keys[:-1]:
            header = header[key]
        del header[keys[-1]]

    return change


def put_tensor(name: str, value: Tensor) -> Change:
    def change(header: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        tensors[name] = value

    return change


def drop_tensor(name: str) -> Change:
    def change(header: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        del tensors[name]

    return change


def as_text(text: str) -> Change:
    return lambda header, tensors: text
