"""What the columns of y are: `Task`, inference, gates between tasks, weights of classes."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from inspect import signature
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sklearn_mtl._tables import Column, are_numbers, as_column, first
from sklearn_mtl.kinds import KINDS, ClassificationTarget, Kind

__all__ = [
    "Task",
    "class_weight_of",
    "fit_kind",
    "gates_first",
    "naming",
    "resolve_gates",
    "resolve_tasks",
]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, repr=False)
class Task:
    """One column of y: its name, its kind, and the condition under which it exists.

    Parameters
    ----------
    name : str
        Column name. Matches frames by name and arrays by position.
    kind : str
        What the column holds, and what is predicted of it:

        - 'classification': classes; the most probable one.
        - 'ordinal': classes from low to high; the median one.
        - 'regression': numbers; their mean, by squared error.
        - 'quantile': numbers; a quantile of them, by the pinball loss.
        - 'poisson': counts or rates >= 0; their mean, by the Poisson deviance with a log link.
        - 'gamma': amounts > 0; their mean, by the gamma deviance with a log link.
    given : tuple (task, label) or (task, list of labels), default=None
        The target exists only where class task ``task`` takes ``label`` (one of the labels).
        Elsewhere it is *not applicable*: it must be NaN there, and gives no loss. A gate may be
        conditional itself.
    quantile : float in (0, 1), default=None
        Level, for kind 'quantile'; None is 0.5, the median.
    categories : sequence of labels, default=None
        All labels from low to high, for kind 'ordinal'. None takes the order of y's type (ordered
        categories of pandas, an Enum of polars), or that of numbers.

    See Also
    --------
    sklearn_mtl.kinds : The kinds.

    Examples
    --------
    >>> from sklearn_mtl import Task
    >>> Task("size", "regression", given=("defect", "yes"))
    Task('size', 'regression', given=('defect', 'yes'))
    >>> Task("wait", "quantile", quantile=0.9)
    Task('wait', 'quantile', quantile=0.9)
    """

    name: str
    kind: str
    given: tuple[str, Any] | None = None
    quantile: float | None = None
    categories: Sequence[Any] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise TypeError(f"Task name must be a str, not empty, got {self.name!r}.")
        if not isinstance(self.kind, str) or self.kind not in KINDS:
            raise ValueError(
                f"Task {self.name!r}: kind={self.kind!r} is unknown. Use one of {sorted(KINDS)}."
            )
        if self.given is not None and not (
            isinstance(self.given, tuple) and len(self.given) == 2 and self.labels
        ):
            raise ValueError(
                f"Task {self.name!r}: given={self.given!r} is not understood. "
                "Use given=(task, label) or given=(task, [labels])."
            )
        with naming(self):
            self.make_kind()
        if self.categories is not None:  # arrays would not compare as one
            object.__setattr__(self, "categories", tuple(self.categories))

    def make_kind(self) -> Kind:
        """Make the kind, not fitted."""
        params = {"quantile": self.quantile, "categories": self.categories}
        params = {name: value for name, value in params.items() if value is not None}
        unknown = [name for name in params if name not in signature(KINDS[self.kind]).parameters]
        if unknown:
            raise ValueError(f"kind={self.kind!r} takes no {unknown[0]}=. Leave it out.")
        return KINDS[self.kind](**params)

    def __repr__(self) -> str:
        options = [(field.name, getattr(self, field.name)) for field in fields(self)[2:]]
        said = [f"{name}={value!r}" for name, value in options if value is not None]
        return f"Task({', '.join([repr(self.name), repr(self.kind), *said])})"

    @property
    def labels(self) -> list[Any]:
        """Labels of the gate under which the target exists."""
        if self.given is None:
            return []
        labels = self.given[1]
        if isinstance(labels, (list, tuple, set, frozenset, np.ndarray)):
            return list(labels)
        return [labels]


def _infer_kind(column: Column) -> str:
    """Classification for bools, strings, categories and 0/1 numbers; else regression."""
    zero_one = np.isin(column.values[column.seen], (0, 1)).all() if not column.categorical else True
    return "classification" if zero_one else "regression"


def resolve_tasks(
    tasks: Any, names: list[str], columns: list[Column], named: bool
) -> list[tuple[Task, Column]]:
    """Pair every column of y with its task, in output order."""
    inferred = [Task(n, _infer_kind(c)) for n, c in zip(names, columns, strict=True)]
    if tasks is None:
        return list(zip(inferred, columns, strict=True))
    if isinstance(tasks, Mapping):
        unknown = [name for name in tasks if name not in names]
        if unknown:
            raise ValueError(f"tasks names {unknown}, which are not columns of y: {names}.")
        said = {**{t.name: t for t in inferred}, **tasks}
        listed = [t if isinstance(t, Task) else Task(name, t) for name, t in said.items()]
        renamed = [t.name for t, name in zip(listed, names, strict=True) if t.name != name]
        if renamed:
            raise ValueError(f"tasks holds {renamed} under another name. Use the name of the task.")
        return list(zip(listed, columns, strict=True))
    listed = list(tasks)
    if not all(isinstance(task, Task) for task in listed) or not listed:
        raise ValueError(f"tasks={tasks!r} is not understood. Pass None, a list of Task or a dict.")
    if len({task.name for task in listed}) < len(listed):
        raise ValueError(f"tasks holds a name twice: {[task.name for task in listed]}.")
    if not named:
        if len(listed) != len(columns):
            raise ValueError(
                f"y has {len(columns)} columns, but tasks lists {len(listed)}: "
                f"{[task.name for task in listed]}. List one task per column."
            )
        return list(zip(listed, columns, strict=True))
    by_name = dict(zip(names, columns, strict=True))
    absent = [task.name for task in listed if task.name not in by_name]
    unlisted = [name for name in names if name not in {task.name for task in listed}]
    if absent or unlisted:
        raise ValueError(
            f"tasks and the columns of y differ: tasks without a column {absent}, columns without "
            f"a task {unlisted}. List one task per column, or drop the columns from y."
        )
    return [(task, by_name[task.name]) for task in listed]


@contextmanager
def naming(task: Task) -> Iterator[None]:
    """Put the name of the task before an error."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"Task {task.name!r}: {error}") from error


def fit_kind(task: Task, column: Column, weight: FloatArray, labels: Any = ()) -> Kind:
    """Fit the kind of one task on its observed values, and on `labels` that are yet to come."""
    if not column.seen.any():
        raise ValueError(
            f"Task {task.name!r} has no observed value (of non-zero weight) in "
            f"{len(column.seen)} rows. Drop the column, or pass rows in which it was observed."
        )
    with naming(task):
        kind = task.make_kind()
        values, weight = column.values[column.seen], weight[column.seen]
        if len(labels):
            if are_numbers(labels) != are_numbers(values):
                raise ValueError(
                    f"classes={labels.tolist()!r}, but y holds labels like {first(values)!r}. Pass "
                    "labels of the same type."
                )
            values = np.concatenate([values, labels])
            weight = np.concatenate([weight, np.zeros(len(labels))])
        kind.fit(values, weight, column.order)
    if isinstance(kind, ClassificationTarget) and len(kind.classes_) == 1:
        warnings.warn(
            f"Task {task.name!r} has one observed label, {first(kind.classes_)!r}, which will "
            "always be predicted. Pass rows with other labels, or drop the column.",
            UserWarning,
            stacklevel=2,
        )
    return kind


def class_weight_of(
    spec: Any, kind: Kind, values: NDArray[Any], weight: FloatArray
) -> FloatArray | None:
    """Weight per class of one task, None for one everywhere."""
    if spec is None:
        return None
    if not isinstance(kind, ClassificationTarget):
        raise ValueError("class_weight is for classes. Use task_weights or sample_weight instead.")
    n_classes = len(kind.classes_)
    if isinstance(spec, Mapping):
        out = np.ones(n_classes)
        codes = kind.encode(as_column(list(spec))).astype(int)
        # A label that this y lacks is fine, as in a fold; unless others were forgotten: a slip.
        if (codes < 0).any() and len(set(codes[codes >= 0])) < n_classes:
            raise ValueError(
                f"class_weight={spec!r} names labels that y does not hold; its labels are "
                f"{kind.classes_.tolist()}."
            )
        out[codes[codes >= 0]] = np.array(list(spec.values()), dtype=np.float64)[codes >= 0]
    elif isinstance(spec, str) and spec == "balanced":
        mass = np.bincount(kind.encode(values).astype(int), weights=weight)
        out = mass.sum() / (n_classes * mass)
    else:
        raise ValueError(
            f"class_weight={spec!r} is not understood. Use 'balanced' or a dict of label to weight."
        )
    if not np.isfinite(out).all() or (out < 0).any() or not out.any():
        raise ValueError(f"class_weight={spec!r} does not fit. Pass weights >= 0, not all 0.")
    return out


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
        kind = kinds[gate]
        if not isinstance(kind, ClassificationTarget):
            raise ValueError(
                f"Task {task.name!r}: given={task.given!r}, but {task.given[0]!r} is a "
                f"{tasks[gate].kind} task. A gate must be a classification or ordinal task."
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
