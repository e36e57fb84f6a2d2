"""Targets as people hold them, and the numbers a network learns from.

`TargetEncoder` turns y (numbers, strings, bools, categories; NaN, None or ``pd.NA`` where nothing
was observed) into ``(values, weight)`` arrays without a NaN, and a network's raw outputs back
into y. The rule for holes stands in one function, `_applicability`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from inspect import signature
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sklearn_mtl._tables import Column, are_numbers, as_column, clean, first, read_table
from sklearn_mtl._validation import check_weights
from sklearn_mtl.kinds import KINDS, ClassificationTarget, Kind, RegressionTarget

__all__ = ["EncodedTargets", "TargetEncoder", "Task"]

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


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
        if not isinstance(self.name, str):
            raise TypeError(f"Task name must be a str, got {self.name!r}.")
        if self.kind not in KINDS:
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
        with _naming(self):
            self.make_kind()

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


class EncodedTargets(NamedTuple):
    """What the network learns from: no NaN, no labels.

    ``values`` (n, n_tasks) holds class codes and scaled numbers, 0 where nothing was observed;
    ``weight`` (n, n_tasks) holds the weight of each cell, 0 where nothing was observed.
    """

    values: FloatArray
    weight: FloatArray


class TargetEncoder:
    """Learn the tasks of y, and translate between y and what a network learns from.

    Parameters
    ----------
    tasks : None, list of Task or dict of name to kind
        None infers the kinds.
    missing_values : scalar or None
        One value besides NaN, None and ``pd.NA`` that means *not observed*.
    class_weight : None, 'balanced' or dict of name to 'balanced' or dict of label to weight
        Weights of classes, multiplied into the weights of their cells.

    Attributes
    ----------
    tasks_ : list of Task
        In output order.
    kinds_ : list of Kind
        One fitted kind per task.
    n_observed_, n_applicable_ : ndarray of int, shape (n_tasks,)
    """

    def __init__(
        self, tasks: Any = None, missing_values: Any = None, class_weight: Any = None
    ) -> None:
        self.tasks = tasks
        self.missing_values = missing_values
        self.class_weight = class_weight

    @property
    def names(self) -> list[str]:
        """Task names in output order."""
        return [task.name for task in self.tasks_]

    @property
    def n_outputs(self) -> list[int]:
        """Number of raw outputs per task."""
        return [kind.n_outputs for kind in self.kinds_]

    @property
    def classes(self) -> dict[int, NDArray[Any]]:
        """Labels of each class task, by the position of the task."""
        kinds = enumerate(self.kinds_)
        return {k: kind.classes_ for k, kind in kinds if isinstance(kind, ClassificationTarget)}

    # -- from y ------------------------------------------------------------------------------

    def fit_encode(self, y: Any, sample_weight: Any = None) -> EncodedTargets:
        """Learn names, kinds, gates and labels from y, and encode it."""
        table = read_table(y)
        self.y_ndim_, self._template = table.ndim, table.template
        columns = [clean(c, name, self.missing_values) for name, c in table.columns.items()]
        named = table.template.named
        pairs = _resolve_tasks(self.tasks, list(table.columns), columns, named)
        self.tasks_ = [task for task, _ in pairs]
        columns = [column for _, column in pairs]
        columns, weight = self._weigh(columns, sample_weight)
        self.kinds_ = [
            _fit_kind(t, c, w) for t, c, w in zip(self.tasks_, columns, weight.T, strict=True)
        ]
        self._gates = _resolve_gates(self.tasks_, self.kinds_)
        self.n_observed_ = np.array([c.seen.sum() for c in columns])
        self.n_applicable_ = np.array([a.sum() for a in self._applicability(columns)])
        self._class_weights = self._resolve_class_weights(columns, weight)
        return self._encode(columns, weight)

    def read(self, y: Any, sample_weight: Any = None) -> tuple[list[Column], FloatArray]:
        """Columns of a y laid out like the one seen in `fit_encode`, and the weight of each cell.

        Both in task order. Cells of weight 0 count as not observed, here too.
        """
        table = read_table(y)
        if table.template.named and self._template.named:
            missing = [name for name in self.names if name not in table.columns]
            if missing:
                raise ValueError(f"y lacks the columns {missing}; it has {list(table.columns)}.")
            picked = {name: table.columns[name] for name in self.names}
        else:
            if len(table.columns) != len(self.tasks_):
                raise ValueError(
                    f"y has {len(table.columns)} columns, but the estimator was fitted on "
                    f"{len(self.tasks_)} tasks: {self.names}."
                )
            picked = dict(zip(self.names, table.columns.values(), strict=True))
        columns = [clean(c, name, self.missing_values) for name, c in picked.items()]
        columns, weight = self._weigh(columns, sample_weight)
        for task, kind, column in zip(self.tasks_, self.kinds_, columns, strict=True):
            with _naming(task):
                kind.check(column.values[column.seen])
        self._applicability(columns)
        return columns, weight

    def read_task(self, k: int, y: Any, sample_weight: Any = None) -> tuple[Column, FloatArray]:
        """Column `k` alone, whatever its name, and the weight of each cell.

        Whether the target applies is not asked, as its gate is not there.
        """
        task, table = self.tasks_[k], read_table(y)
        if len(table.columns) != 1:
            raise ValueError(
                f"y has {len(table.columns)} columns, but only task {task.name!r} is asked for. "
                "Pass its column alone."
            )
        (raw,) = table.columns.values()
        column = clean(raw, task.name, self.missing_values)
        weight = check_weights(sample_weight, len(column.seen), [task.name])[:, 0]
        column = column._replace(seen=column.seen & (weight > 0))
        with _naming(task):
            self.kinds_[k].check(column.values[column.seen])
        return column, weight

    def _weigh(self, columns: list[Column], sample_weight: Any) -> tuple[list[Column], FloatArray]:
        """Columns in which a cell of weight 0 was not observed, and the weight of each cell."""
        given = getattr(sample_weight, "columns", None)
        if given is not None and self._template.named and set(given) != set(self.names):
            raise ValueError(
                f"sample_weight has the columns {list(given)}, but the tasks are {self.names}. "
                "Name them alike, or pass an array in task order."
            )
        weight = check_weights(sample_weight, len(columns[0].seen), self.names)
        weighed = zip(columns, weight.T, strict=True)
        return [column._replace(seen=column.seen & (w > 0)) for column, w in weighed], weight

    def encode(self, y: Any, sample_weight: Any = None) -> EncodedTargets:
        """Encode another y, e.g. for validation; labels must have been seen in `fit_encode`."""
        columns, weight = self.read(y, sample_weight)
        for task, kind, column in zip(self.tasks_, self.kinds_, columns, strict=True):
            values = column.values[column.seen]
            if isinstance(kind, ClassificationTarget) and (kind.encode(values) < 0).any():
                unseen = first(values[kind.encode(values) < 0])
                raise ValueError(
                    f"Task {task.name!r}: label {unseen!r} was not seen in fit, which saw "
                    f"{kind.classes_.tolist()}."
                )
        return self._encode(columns, weight)

    def _encode(self, columns: list[Column], weight: FloatArray) -> EncodedTargets:
        values, mass = np.zeros_like(weight), np.zeros_like(weight)
        for k, (kind, column) in enumerate(zip(self.kinds_, columns, strict=True)):
            seen = column.seen
            codes = kind.encode(column.values[seen])
            values[seen, k] = codes
            mass[seen, k] = weight[seen, k]
            class_weight = self._class_weights[k]
            if class_weight is not None:
                mass[seen, k] *= class_weight[codes.astype(int)]
        return EncodedTargets(values, mass)

    def constants(self, targets: EncodedTargets) -> FloatArray:
        """Raw outputs (n_outputs,) of the constant predictor that is best for each task."""
        parts = []
        for k, kind in enumerate(self.kinds_):
            seen = targets.weight[:, k] > 0
            parts.append(kind.constant(targets.values[seen, k], targets.weight[seen, k]))
        return np.concatenate(parts)

    def _resolve_class_weights(
        self, columns: list[Column], weight: FloatArray
    ) -> list[FloatArray | None]:
        """Weight per class of each task, None for one everywhere."""
        specs = self.class_weight
        if not isinstance(specs, Mapping):
            specs = {self.names[k]: specs for k in self.classes}
        unknown = [name for name in specs if name not in self.names]
        if unknown:
            raise ValueError(
                f"class_weight names unknown tasks {unknown}; the tasks are {self.names}."
            )
        resolved = []
        for task, kind, column, w in zip(self.tasks_, self.kinds_, columns, weight.T, strict=True):
            with _naming(task):
                seen = column.seen
                resolved.append(
                    _class_weight(specs.get(task.name), kind, column.values[seen], w[seen])
                )
        return resolved

    def _applicability(self, columns: list[Column]) -> list[BoolArray]:
        """Tell where each target applies, and refuse values where it does not.

        The one rule for holes, one line per case.
        """
        refused: dict[int, BoolArray] = {}
        applicable = {}
        for k in _gatesfirst(self._gates):
            gate, seen = self._gates[k], columns[k].seen
            # No gate: applicable everywhere; a hole is a missing value.
            refused[k], known = np.zeros_like(seen), np.ones_like(seen)
            if gate is not None:
                # Gate missing: not known to be refused; a value is used, and tells it applies.
                known = columns[gate].seen
                # Gate not applicable itself: not applicable.
                refused[k] |= refused[gate]
                # Gate observed and different: not applicable. Observed and holding: applicable.
                refused[k][known] |= ~self._holds(k, columns[gate].values[known])
            # A value where the target is not applicable: an error that names the first rows.
            self._check_refused(k, columns[k], refused[k])
            applicable[k] = ~refused[k] & (known | seen)
        return [applicable[k] for k in range(len(columns))]

    def _holds(self, k: int, gate_labels: NDArray[Any]) -> BoolArray:
        """Where the gate of task `k` takes one of the labels that task `k` needs."""
        wanted = as_column(self.tasks_[k].labels)
        if are_numbers(gate_labels) and are_numbers(wanted):
            return np.isin(gate_labels, wanted)
        return pd.Series(gate_labels, dtype=object).isin(self.tasks_[k].labels).to_numpy()

    def _check_refused(self, k: int, column: Column, refused: BoolArray) -> None:
        rows = np.flatnonzero(column.seen & refused)
        if len(rows):
            task = self.tasks_[k]
            raise ValueError(
                f"Task {task.name!r} exists only given {task.given!r}, but y holds a value where "
                f"that is not so, in {len(rows)} rows, the first {rows[:5].tolist()}. "
                "Set these cells to NaN, or drop given=."
            )

    # -- back to y ---------------------------------------------------------------------------

    def split(self, raw: FloatArray) -> list[FloatArray]:
        """Cut raw outputs (n, O) or (n, M, O) into one (n, M, n_outputs) array per task."""
        raw = raw[:, None, :] if raw.ndim == 2 else raw
        return np.split(raw, np.cumsum(self.n_outputs)[:-1], axis=-1)

    def probabilities(self, raw: FloatArray) -> dict[str, FloatArray]:
        """Class probabilities (n, n_classes) of each class task."""
        return {
            task.name: kind.proba(part)
            for task, kind, part in zip(self.tasks_, self.kinds_, self.split(raw), strict=True)
            if isinstance(kind, ClassificationTarget)
        }

    def decode(self, raw: FloatArray, conditional_output: str = "estimate") -> list[NDArray[Any]]:
        """Labels and numbers in the units of y, one array per task.

        ``'estimate'`` is the value if applicable; ``'nan'`` blanks it where a gate up the chain is
        predicted not to hold; ``'expected'`` multiplies means with the probability that the chain
        of gates holds.
        """
        parts = self.split(raw)
        out: list[NDArray[Any]] = [
            kind.decode(part) for kind, part in zip(self.kinds_, parts, strict=True)
        ]
        if conditional_output == "estimate":
            return out
        if conditional_output not in ("nan", "expected"):  # set after fit, perhaps
            raise ValueError(
                f"conditional_output={conditional_output!r} is unknown. Use 'estimate', 'nan' or "
                "'expected'."
            )
        estimate, proba = list(out), self.probabilities(raw)
        holds: dict[int, BoolArray] = {}
        probability: dict[int, FloatArray] = {}
        for k in _gatesfirst(self._gates):
            gate = self._gates[k]
            holds[k], probability[k] = np.ones(len(raw), dtype=bool), np.ones(len(raw))
            if gate is None:
                continue
            labels = self._holds(k, self.classes[gate])
            probability[k] = probability[gate] * proba[self.names[gate]][:, labels].sum(axis=1)
            holds[k] = holds[gate] & self._holds(k, estimate[gate])
            if conditional_output == "expected" and self.kinds_[k].is_mean:
                out[k] = estimate[k] * probability[k]
            if conditional_output == "nan":
                out[k] = _blank(estimate[k], ~holds[k])
        return out

    def balance(self, raw: FloatArray, targets: EncodedTargets) -> FloatArray:
        """Shift (n_outputs,) of the raw outputs of the training rows, for kinds that ask for it."""
        shifts = []
        for k, (kind, part) in enumerate(zip(self.kinds_, self.split(raw), strict=True)):
            seen = targets.weight[:, k] > 0
            shifts.append(
                kind.balance(part[seen], targets.values[seen, k], targets.weight[seen, k])
            )
        return np.concatenate(shifts)

    def noise_std(self, raw: FloatArray, targets: EncodedTargets) -> FloatArray:
        """Root mean squared residual per regression task in the units of y; NaN for the others."""
        out = np.full(len(self.tasks_), np.nan)
        for k, (kind, part) in enumerate(zip(self.kinds_, self.split(raw), strict=True)):
            if isinstance(kind, RegressionTarget):
                residual = part[..., 0].mean(axis=1) - targets.values[:, k]
                variance = np.average(residual**2, weights=targets.weight[:, k])
                out[k] = np.sqrt(variance) * kind.scale_
        return out

    def matrix(self, columns: list[NDArray[Any]]) -> NDArray[Any]:
        """Columns side by side: float when all are numbers, object otherwise; 1-D as y was."""
        if self.y_ndim_ == 1:
            return columns[0]
        if all(are_numbers(labels) for labels in self.classes.values()):
            return np.column_stack([np.where(pd.isna(c), np.nan, c).astype(float) for c in columns])
        return np.column_stack([c.astype(object) for c in columns])

    def frame(self, columns: list[NDArray[Any]], index: Any = None) -> Any:
        """Columns as a frame of y's type (else pandas), class columns in y's dtypes."""
        classes = [self.names[k] for k in self.classes]
        return self._template.build(dict(zip(self.names, columns, strict=True)), classes, index)


def _infer_kind(column: Column) -> str:
    """Classification for bools, strings, categories and 0/1 numbers; else regression."""
    zero_one = np.isin(column.values[column.seen], (0, 1)).all() if not column.categorical else True
    return "classification" if zero_one else "regression"


# -- resolving tasks -------------------------------------------------------------------------


def _resolve_tasks(
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
        listed = [Task(t.name, tasks.get(t.name, t.kind)) for t in inferred]
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
def _naming(task: Task) -> Iterator[None]:
    """Put the name of the task before an error."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"Task {task.name!r}: {error}") from error


def _fit_kind(task: Task, column: Column, weight: FloatArray) -> Kind:
    """Fit the kind of one task on its observed values."""
    if not column.seen.any():
        raise ValueError(
            f"Task {task.name!r} has no observed value (of non-zero weight) in "
            f"{len(column.seen)} rows. Drop the column, or pass rows in which it was observed."
        )
    with _naming(task):
        kind = task.make_kind()
        kind.fit(column.values[column.seen], weight[column.seen], column.order)
    if isinstance(kind, ClassificationTarget) and len(kind.classes_) == 1:
        warnings.warn(
            f"Task {task.name!r} has one observed label, {first(kind.classes_)!r}, which will "
            "always be predicted. Pass rows with other labels, or drop the column.",
            UserWarning,
            stacklevel=2,
        )
    return kind


def _class_weight(
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


def _resolve_gates(tasks: Sequence[Task], kinds: Sequence[Kind]) -> list[int | None]:
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


def _gatesfirst(gates: Sequence[int | None]) -> list[int]:
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


def _blank(values: NDArray[Any], where: BoolArray) -> NDArray[Any]:
    """Return a copy with holes: NaN among numbers, None among labels."""
    out = values.astype(float if values.dtype.kind in "iuf" else object)
    out[where] = np.nan if out.dtype.kind == "f" else None
    return out
