"""Gates: where a target exists. The one rule for holes stands in `applicability`."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sklearn_mtl._data.tables import Column
from sklearn_mtl._data.tasks import Task
from sklearn_mtl.kinds import Kind
from sklearn_mtl.kinds.values import are_numbers, as_column

__all__ = ["applicability", "chains", "gates_first", "holds", "resolve_gates"]

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
Gates = Sequence[int | None]


def resolve_gates(tasks: Sequence[Task], kinds: Sequence[Kind]) -> list[int | None]:
    """Position of each task's gate (None without one), checked."""
    names = [task.name for task in tasks]
    gates: list[int | None] = []
    for task in tasks:
        if task.given is None:
            gates.append(None)
            continue
        if task.given[0] not in names:
            raise ValueError(
                f"Task {task.name!r}: given={task.given!r} names an unknown task. "
                f"The tasks are {names}."
            )
        gate = names.index(task.given[0])
        kind: Any = kinds[gate]
        if not kind.is_class:
            raise ValueError(
                f"Task {task.name!r}: given={task.given!r}, but {task.given[0]!r} is a "
                f"{tasks[gate].kind_name} task. A gate must be a classification or ordinal task."
            )
        unknown = [label for label in task.labels if kind.encode(as_column([label]))[0] < 0]
        if 0 < len(unknown) < len(task.labels):  # as in a fold without a rare label
            warnings.warn(
                f"Task {task.name!r}: given={task.given!r}, but {task.given[0]!r} has no label "
                f"{unknown} here; its observed labels are {kind.classes_.tolist()}.",
                UserWarning,
                stacklevel=2,
            )
        elif unknown:
            raise ValueError(
                f"Task {task.name!r}: given={task.given!r}, but {task.given[0]!r} has no such "
                f"label; its observed labels are {kind.classes_.tolist()}."
            )
        gates.append(gate)
    return gates


def gates_first(gates: Sequence[int | None]) -> list[int]:
    """Positions of tasks ordered so that every gate stands before what depends on it."""
    order: list[int] = []
    while len(order) < len(gates):
        ready = [
            k for k, gate in enumerate(gates) if k not in order and (gate is None or gate in order)
        ]
        if not ready:
            raise ValueError("given= of the tasks runs in a circle. Remove one of the conditions.")
        order += ready
    return order


def applicability(
    tasks: Sequence[Task], gates: Gates, columns: Sequence[Column]
) -> list[BoolArray]:
    """Tell where each target applies, and refuse values where it does not.

    The one rule for holes, one line per case.
    """
    refused: dict[int, BoolArray] = {}
    applicable = {}
    for k in gates_first(gates):
        gate, seen = gates[k], columns[k].seen
        # No gate: applicable everywhere; a hole is a missing value.
        refused[k], known = np.zeros_like(seen), np.ones_like(seen)
        if gate is not None:
            # Gate missing: not known to be refused; a value is used, and tells it applies.
            known = columns[gate].seen
            # Gate not applicable itself: not applicable.
            refused[k] |= refused[gate]
            # Gate observed and different: not applicable. Observed and holding: applicable.
            refused[k][known] |= ~holds(tasks[k], columns[gate].values[known])
        # A value where the target is not applicable: an error that names the first rows.
        _check_refused(tasks[k], columns[k], refused[k])
        applicable[k] = ~refused[k] & (known | seen)
    return [applicable[k] for k in range(len(columns))]


def holds(task: Task, gate_labels: NDArray[Any]) -> BoolArray:
    """Where the gate of a task takes one of the labels that the task needs."""
    wanted = as_column(task.labels)
    if are_numbers(gate_labels) and are_numbers(wanted):
        return np.isin(gate_labels, wanted)
    return pd.Series(gate_labels, dtype=object).isin(task.labels).to_numpy()


def _check_refused(task: Task, column: Column, refused: BoolArray) -> None:
    rows = np.flatnonzero(column.seen & refused)
    if len(rows):
        raise ValueError(
            f"Task {task.name!r} exists only given {task.given!r}, but y holds a value where "
            f"that is not so, in {len(rows)} rows, the first {rows[:5].tolist()}. "
            "Set these cells to NaN, or drop given=."
        )


def chains(
    tasks: Sequence[Task],
    gates: Gates,
    predicted: Sequence[NDArray[Any]],
    share_of: Any,
) -> list[tuple[BoolArray, FloatArray]]:
    """Where all gates up the chain of each task are predicted to hold, and how probable that is.

    Parameters
    ----------
    tasks, gates : sequence
        Of each task.
    predicted : sequence of ndarray
        Labels and numbers of each task (n,).
    share_of : callable
        ``share_of(gate, task)`` returns the probability (n,) of the labels that the task needs.
    """
    chain: dict[int, tuple[BoolArray, FloatArray]] = {}
    n = len(predicted[0])
    for k in gates_first(gates):
        gate = gates[k]
        if gate is None:
            chain[k] = np.ones(n, dtype=bool), np.ones(n)
        else:
            holding, probability = chain[gate]
            chain[k] = (
                holding & holds(tasks[k], predicted[gate]),
                probability * share_of(gate, tasks[k]),
            )
    return [chain[k] for k in range(len(tasks))]
