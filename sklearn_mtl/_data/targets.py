"""Targets as people hold them, and the numbers a network learns from.

`TargetEncoder` turns y (numbers, strings, bools, categories; NaN, None or ``pd.NA`` where nothing
was observed) into ``(values, weight)`` arrays without a NaN, and a network's raw outputs back
into y.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sklearn_mtl._data.bounds import columns_of, read_columns, within_bounds
from sklearn_mtl._data.decoding import TargetDecoder
from sklearn_mtl._data.encoded import EncodedTargets, ObservedCells
from sklearn_mtl._data.gates import applicability, resolve_gates
from sklearn_mtl._data.labels import declared_labels, resolve_class_weights
from sklearn_mtl._data.observed import (
    AS_BEFORE,
    NOT_TRAINED,
    TO_COME,
    fit_kind,
    heard,
    refuse_unknown,
    require_observed,
    warn_of_one_label,
    warn_of_unobserved,
)
from sklearn_mtl._data.rows import check_weights, weight_columns
from sklearn_mtl._data.suspects import (
    check_column,
    question_flags,
    question_labels,
    question_numbers,
)
from sklearn_mtl._data.tables import Column, Table, read_table
from sklearn_mtl._data.tasks import Task, naming, resolve_tasks
from sklearn_mtl.kinds import UnobservedTarget
from sklearn_mtl.kinds.bounds import are_bounds, exact, reaching
from sklearn_mtl.kinds.censored import least_of
from sklearn_mtl.kinds.values import first

__all__ = ["EncodedTargets", "TargetEncoder"]

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


class TargetEncoder(TargetDecoder):
    """Learn the tasks of y, and translate between y and what a network learns from.

    Parameters
    ----------
    tasks : None, list of Task or dict of name to kind
        None infers the kinds.
    missing_values : scalar, list of scalars or None
        Values besides NaN, None and ``pd.NA`` that mean *not observed*.
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

    # -- from y ------------------------------------------------------------------------------

    def fit_encode(
        self, y: Any, sample_weight: Any = None, classes: Any = None, more_comes: bool = False
    ) -> EncodedTargets:
        """Learn names, kinds, gates and labels from y, and encode it.

        `classes` holds labels that y need not hold: a dict from names of class tasks, or those of
        the only one. Where `more_comes`, so does the order of y's type for ordinal tasks.
        """
        table = read_table(y)
        self.y_ndim_, self._template = table.ndim, table.template
        pairs = self._pair(table)
        self.tasks_ = [task for task, _ in pairs]
        self.kinds_ = [task.make_kind() for task in self.tasks_]
        columns = self._read_bounds([column for _, column in pairs])
        columns, weight = self._weigh(columns, sample_weight)
        require_observed(self.tasks_, columns)
        is_class = [kind.is_class for kind in self.kinds_]
        labels = declared = self._declared(classes)
        if more_comes:
            known: Any = zip(self.names, self.kinds_, columns, strict=True)
            labels = {
                name: kind.labels_to_come(column.order)
                for name, kind, column in known
                if kind.is_class
            } | labels
        self._fit_kinds(columns, weight, is_class, labels)
        question_labels(self.tasks_, self.kinds_, columns, declared)
        self._forget_types(columns, declared)
        # Before numbers are looked at: many tables hold 0 where a conditional number should be a
        # hole, and the error should name the gate, and not the 0.
        self._gates = resolve_gates(self.tasks_, self.kinds_, columns)
        self._count(columns)
        self._fit_kinds(columns, weight, [not known for known in is_class])
        if self.tasks is None:
            question_flags(columns)
        listed = () if self.tasks is None else self.tasks  # a dict, or a list
        names = [task if isinstance(task, str) else task.name for task in listed]
        question_numbers(self.tasks_, self.kinds_, columns, names)
        self._class_weights = self._weights_of_classes(columns, weight)
        if more_comes:
            refuse_unknown(self.tasks, self.tasks_, self.kinds_)
        warn_of_unobserved(self.tasks_, columns, TO_COME if more_comes else NOT_TRAINED)
        return self._encode(columns, weight)

    def _pair(self, table: Table) -> list[tuple[Task, Column]]:
        """Pair the columns of y with their tasks, as these are declared or inferred."""
        named = table.template.named
        by_name = named or isinstance(self.tasks, Mapping)
        columns = read_columns(table, self.tasks, self.missing_values, by_name)
        return resolve_tasks(self.tasks, list(columns), list(columns.values()), named)

    def _read_bounds(self, columns: list[Column]) -> list[Column]:
        """Read intervals of numbers as pairs of bounds, where there are some."""
        known: Any = zip(self.tasks_, self.kinds_, columns, strict=True)
        return [
            column
            if kind.is_class
            else within_bounds(task.name, column, least_of(kind), self.missing_values)
            for task, kind, column in known
        ]

    def _fit_kinds(
        self,
        columns: list[Column],
        weight: FloatArray,
        which: Sequence[bool] | BoolArray,
        labels: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        for k in np.flatnonzero(which):
            task = self.tasks_[k]
            self.kinds_[k] = fit_kind(task, columns[k], weight[:, k], labels.get(task.name, ()))
        warn_of_one_label((self.tasks_[k].name, self.kinds_[k]) for k in np.flatnonzero(which))

    def _forget_types(self, columns: list[Column], declared: Collection[str]) -> None:
        """Forget types of y's columns that may have no room for labels that are yet to come."""
        lacking = set()
        for k, labels in self.classes.items():
            kind, seen = self.kinds_[k], columns[k].observed
            listed = self.names[k] in declared or getattr(kind, "categories", None) is not None
            if listed and len(set(seen.tolist())) < len(labels):
                lacking.add(self.names[k])
        types = self._template.dtypes.items()
        kept = {name: dtype for name, dtype in types if name not in lacking}
        self._template = self._template._replace(dtypes=kept)

    def _weights_of_classes(
        self, columns: list[Column], weight: FloatArray
    ) -> list[FloatArray | None]:
        return resolve_class_weights(self.class_weight, self.tasks_, self.kinds_, columns, weight)

    def _declared(self, classes: Any) -> dict[str, NDArray[Any]]:
        """Labels that were declared, by the name of their class task."""
        names = [n for n, kind in zip(self.names, self.kinds_, strict=True) if kind.is_class]
        return declared_labels(classes, names, self.missing_values)

    def check_declared(self, classes: Any) -> None:
        """Refuse labels that are declared too late."""
        for name, labels in self._declared(classes).items():
            kind: Any = self.kinds_[self.names.index(name)]
            with naming(self.tasks_[self.names.index(name)]):
                kind.check(labels)
            if (kind.encode(labels) < 0).any():
                raise ValueError(
                    f"classes={classes!r} holds labels that the first call did not know; it knew "
                    f"{kind.classes_.tolist()} of {name!r}. Pass all labels to the first call."
                )

    def _count(self, columns: list[Column]) -> None:
        self.n_observed_ = np.array([c.n_seen for c in columns])
        self.n_applicable_ = np.array(
            [a.sum() for a in applicability(self.tasks_, self._gates, columns)]
        )

    def read(self, y: Any, sample_weight: Any = None) -> tuple[list[Column], FloatArray]:
        """Columns of a y laid out like the one seen in `fit_encode`, and the weight of each cell.

        Both in task order. Cells of weight 0 count as not observed, here too.
        """
        columns = self._read_bounds(self._pick(read_table(y)))
        columns, weight = self._weigh(columns, sample_weight)
        applicability(self.tasks_, self._gates, columns)
        for task, kind, column in zip(self.tasks_, self.kinds_, columns, strict=True):
            check_column(task, kind, column)
        return columns, weight

    def _pick(self, table: Table) -> list[Column]:
        """Columns in task order: by name if both y have names, else by position."""
        named, wanted = table.template.named, [c for t in self.tasks_ for c in columns_of(t)]
        by_name = named == self._template.named and (named or isinstance(self.tasks, Mapping))
        if by_name and (missing := [name for name in wanted if name not in table.columns]):
            raise ValueError(f"y lacks the columns {missing}; it has {list(table.columns)}.")
        if named and by_name:
            table = table._replace(columns={name: table.columns[name] for name in wanted})
        if len(table.columns) != len(wanted):
            raise ValueError(
                f"y has {len(table.columns)} columns, but the estimator was fitted on "
                f"{len(self.tasks_)} tasks: {self.names}."
            )
        columns = read_columns(table, self.tasks_, self.missing_values, by_name)
        return [columns[name] for name in self.names] if by_name else list(columns.values())

    def read_task(self, k: int, y: Any, sample_weight: Any = None) -> tuple[Column, FloatArray]:
        """Column `k` alone, whatever its name, and the weight of each cell.

        Whether the target applies is not asked, as its gate is not there.
        """
        task, table = self.tasks_[k], read_table(y)
        if len(table.columns) not in (1, len(columns_of(task))):
            raise ValueError(
                f"y has {len(table.columns)} columns, but only task {task.name!r} is asked for. "
                "Pass its column alone."
            )
        own = [task] * (len(table.columns) == 2)
        (raw,) = read_columns(table, own, self.missing_values, by_name=False).values()
        column = (
            raw
            if self.kinds_[k].is_class
            else within_bounds(task.name, raw, least_of(self.kinds_[k]), self.missing_values)
        )
        weight = check_weights(sample_weight, column.n_rows, [task.name])[:, 0]
        column = column.where(weight > 0)
        check_column(task, self.kinds_[k], column)
        return column, weight

    def _weigh(self, columns: list[Column], sample_weight: Any) -> tuple[list[Column], FloatArray]:
        """Columns in which a cell of weight 0 was not observed, and the weight of each cell."""
        given = weight_columns(sample_weight)
        if given is not None and self._template.named and set(given) != set(self.names):
            raise ValueError(
                f"sample_weight has the columns {given}, but the tasks are {self.names}. "
                "Name them alike, or pass an array in task order."
            )
        weight = check_weights(sample_weight, columns[0].n_rows, self.names)
        weighed = zip(columns, weight.T, strict=True)
        return [column.where(w > 0) for column, w in weighed], weight

    def encode(self, y: Any, sample_weight: Any = None) -> EncodedTargets:
        """Encode another y, e.g. for validation; labels must be known from `fit_encode`.

        Targets of tasks that were not observed there have no weight.
        """
        columns, weight = self.read(y, sample_weight)
        columns = heard(self.kinds_, columns)
        self._check_labels(columns)
        return self._encode(columns, weight)

    def encode_more(
        self, y: Any, sample_weight: Any = None, *, add: bool
    ) -> tuple[TargetEncoder, EncodedTargets]:
        """Encode another y to train on; a copy of the encoder has counted it, alone or with `add`.

        Scales, classes and their weights stay as they are; tasks whose first targets are here are
        learned from them.
        """
        columns, weight = self.read(y, sample_weight)
        if not any(column.n_seen for column in columns):
            raise ValueError("y holds no observed target. Leave these rows out.")
        self._check_labels(columns)
        counted = self._taught(columns, weight)
        counted._count(columns)
        if add:
            counted.n_observed_ += self.n_observed_
            counted.n_applicable_ += self.n_applicable_
        else:
            warn_of_unobserved(self.tasks_, columns, AS_BEFORE)
        return counted, counted._encode(columns, weight)

    def _taught(self, columns: list[Column], weight: FloatArray) -> TargetEncoder:
        """Return a copy that knows the tasks whose first targets are here."""
        taught = copy.copy(self)
        first_seen = self.unobserved & [column.n_seen > 0 for column in columns]
        if not first_seen.any():
            return taught
        taught.kinds_ = list(self.kinds_)
        labels = {self.names[k]: labels for k, labels in self.classes.items()}
        taught._fit_kinds(columns, weight, first_seen, labels)
        weights = taught._weights_of_classes(columns, weight)
        taught._class_weights = [
            new if is_first else old
            for new, old, is_first in zip(weights, self._class_weights, first_seen, strict=True)
        ]
        return taught

    def _check_labels(self, columns: list[Column]) -> None:
        kinds: list[Any] = self.kinds_
        for task, kind, column in zip(self.tasks_, kinds, columns, strict=True):
            values = column.observed
            if kind.is_class and (kind.encode(values) < 0).any():
                unseen = first(values[kind.encode(values) < 0])
                raise ValueError(
                    f"Task {task.name!r}: label {unseen!r} was not seen in fit, which saw "
                    f"{kind.classes_.tolist()}. List all labels, Task({task.name!r}, ..., "
                    f"categories=[...]), or pass them to the first call of partial_fit, "
                    f"classes={{{task.name!r}: [...]}}; or fit anew, with warm_start=False."
                )

    def _encode(self, columns: list[Column], weight: FloatArray) -> EncodedTargets:
        cells = (self._cells(k, column, weight[:, k]) for k, column in enumerate(columns))
        n_seen = sum(column.n_seen for column in columns)
        shape = (weight.shape[0], weight.shape[1])
        return EncodedTargets.of(cells, shape, n_seen, bool(self.bounded.any()))

    def _cells(self, k: int, column: Column, weight: FloatArray) -> ObservedCells:
        """Encode what was observed of task `k`."""
        kind, rows, reach = self.kinds_[k], column.rows, None
        self._check_exact(k, column)
        codes = kind.encode(column.observed)
        if self.bounded[k]:
            codes, reach = reaching(codes)
        if not np.isfinite(codes).all():
            raise ValueError(
                f"Task {self.names[k]!r}: kind={self.tasks_[k].kind!r} makes "
                f"{first(column.observed[~np.isfinite(codes)])!r} a code that is not "
                "finite. Check these values."
            )
        mass, class_weight = weight[rows], self._class_weights[k]
        if class_weight is not None:
            mass = mass * class_weight[codes.astype(int)]
        return ObservedCells(rows, codes, mass, reach)

    def _check_exact(self, k: int, column: Column) -> None:
        """Refuse bounds where the first targets were all exact."""
        if are_bounds(column.observed) and not self.bounded[k]:
            low, high = column.observed[~exact(column.observed)][0].tolist()
            raise ValueError(
                f"Task {self.names[k]!r}: y holds the bounds {low:g} and {high:g}, but all values "
                "that it was fitted on first are exact, and it knows squared errors alone. Pass "
                "bounds to fit, or to the first call of partial_fit."
            )

    def constants(self, targets: EncodedTargets) -> FloatArray:
        """Raw outputs (n_outputs,) of the constant predictor that is best for each task.

        Those of a task that was learned before, but is not observed in these rows, are 0.
        """
        parts = []
        for k, kind in enumerate(self.kinds_):
            _, codes, weight = self.codes_of(k, targets)
            if len(weight) or isinstance(kind, UnobservedTarget):
                parts.append(kind.constant(codes, weight))
            else:
                parts.append(np.zeros(kind.n_outputs))
        return np.concatenate(parts)
