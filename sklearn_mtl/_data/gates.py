"""Gates: where a target exists. The one rule for holes stands in `applicability`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sklearn_mtl._data.tables import Column
from sklearn_mtl._data.tasks import Task, warn_together
from sklearn_mtl.kinds import Kind
from sklearn_mtl.kinds.values import are_numbers, as_column

__all__ = ["applicability", "blank", "chains", "gates_first", "holds", "resolve_gates"]

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
Gates = Sequence[int | None]


def resolve_gates(
    tasks: Sequence[Task], kinds: Sequence[Kind], columns: Sequence[Column] | None = None
) -> list[int | None]:
    """Position of each task's gate (None without one), checked.

    Labels that a gate lacks are an error where `columns` hold a value beside an observed gate, or
    the gate lists its labels: nowhere, they may be those of other rows.
    """
    names = {task.name: k for k, task in enumerate(tasks)}
    gates: list[int | None] = []
    lacking: dict[str, str] = {}
    for k, task in enumerate(tasks):
        if task.given is None:
            gates.append(None)
            continue
        if task.given[0] not in names:
            raise ValueError(
                f"Task {task.name!r}: given={task.given!r} names an unknown task. "
                f"The tasks are {list(names)}."
            )
        gate = names[task.given[0]]
        kind: Any = kinds[gate]
        if not kind.is_class:
            raise ValueError(
                f"Task {task.name!r}: given={task.given!r}, but {task.given[0]!r} is a "
                f"{tasks[gate].kind_name} task. A gate must be a classification or ordinal task."
            )
        unknown = [label for label in task.labels if kind.encode(as_column([label]))[0] < 0]
        if unknown and columns is not None:
            seen, listed = columns[k].seen, getattr(kind, "categories", None) is not None
            every = len(unknown) == len(task.labels)
            said = (
                f"Task {task.name!r}: given={task.given!r}, but {task.given[0]!r} has no "
                f"{'such label' if every else f'label {unknown}'}"
            )
            known = f"its {'categories' if listed else 'observed labels'} are"
            if listed or (every and (seen & columns[gate].seen).any()):
                raise ValueError(f"{said}; {known} {kind.classes_.tolist()}.")
            if seen.any():  # as in a fold without a rare label
                lacking[task.name] = f"{said} here; {known} {kind.classes_.tolist()}."
        gates.append(gate)
    warn_together(lacking)
    return gates


def gates_first(gates: Sequence[int | None]) -> list[int]:
    """Positions of tasks ordered so that every gate stands before what depends on it."""
    order: dict[int, None] = {}
    waiting = list(range(len(gates)))
    while waiting:
        ready = [k for k in waiting if gates[k] is None or gates[k] in order]
        if not ready:
            raise ValueError("given= of the tasks runs in a circle. Remove one of the conditions.")
        order |= dict.fromkeys(ready)
        waiting = [k for k in waiting if k not in order]
    return list(order)


def applicability(
    tasks: Sequence[Task], gates: Gates, columns: Sequence[Column]
) -> list[BoolArray]:
    """Tell where each target applies, and refuse values where it does not.

    The one rule for holes, one line per case.
    """
    refused: dict[int, BoolArray] = {}
    applicable = {}
    nowhere, everywhere = (np.full(columns[0].n_rows, value) for value in (False, True))
    for k in gates_first(gates):
        gate, seen = gates[k], columns[k].seen
        # No gate: applicable everywhere; a hole is a missing value.
        if gate is None:
            refused[k], applicable[k] = nowhere, everywhere
            continue
        # Gate missing: not known to be refused; a value is used, and tells it applies.
        known = columns[gate].seen
        # Gate not applicable itself: not applicable.
        refused[k] = refused[gate].copy()
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
    labels = set(task.labels)
    return np.array([label in labels for label in gate_labels.tolist()], dtype=bool)


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


def blank(values: NDArray[Any], where: BoolArray) -> NDArray[Any]:
    """Return a copy with holes: NaN among numbers, None among labels."""
    out = values.astype(float if values.dtype.kind in "iuf" else object)
    out[where] = np.nan if out.dtype.kind == "f" else None
    return out
