"""Targets as people hold them, and the numbers a network learns from.

`TargetEncoder` turns y (numbers, strings, bools, categories; NaN, None or ``pd.NA`` where nothing
was observed) into ``(values, weight)`` arrays without a NaN, and a network's raw outputs back
into y.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Mapping, Set
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sklearn_mtl._data.gates import applicability, blank, chains, holds, resolve_gates
from sklearn_mtl._data.labels import declared_labels, resolve_class_weights
from sklearn_mtl._data.rows import check_weights
from sklearn_mtl._data.suspects import question_labels
from sklearn_mtl._data.tables import Column, Template, clean, read_table
from sklearn_mtl._data.tasks import Task, fit_kind, naming, resolve_tasks, warn_of_one_label
from sklearn_mtl.kinds.base import Kind
from sklearn_mtl.kinds.values import are_numbers, first

__all__ = ["EncodedTargets", "TargetEncoder"]

FloatArray = NDArray[np.float64]
Outputs = NDArray[np.floating[Any]]  # of a network, in its precision
BoolArray = NDArray[np.bool_]


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
        kinds: list[Any] = self.kinds_
        return {k: kind.classes_ for k, kind in enumerate(kinds) if kind.is_class}

    # -- from y ------------------------------------------------------------------------------

    def fit_encode(
        self, y: Any, sample_weight: Any = None, classes: Any = None, more_comes: bool = False
    ) -> EncodedTargets:
        """Learn names, kinds, gates and labels from y, and encode it.

        `classes` holds labels that y need not hold: a dict from names of class tasks, or those of
        the only one. Where `more_comes`, so do the categories of ordinal tasks.
        """
        table = read_table(y)
        self.y_ndim_, self._template = table.ndim, table.template
        columns = [clean(c, name, self.missing_values) for name, c in table.columns.items()]
        named = table.template.named
        pairs = resolve_tasks(self.tasks, list(table.columns), columns, named)
        self.tasks_ = [task for task, _ in pairs]
        columns = [column for _, column in pairs]
        columns, weight = self._weigh(columns, sample_weight)
        self.kinds_ = [task.make_kind() for task in self.tasks_]
        is_class = [kind.is_class for kind in self.kinds_]
        labels = self._declared(classes)
        types = self._template.dtypes.items()  # but those made for other labels
        self._template = self._template._replace(dtypes={n: t for n, t in types if n not in labels})
        if more_comes:
            known: Any = zip(self.names, self.kinds_, columns, strict=True)
            labels = {
                name: kind.labels_to_come(column.order)
                for name, kind, column in known
                if kind.is_class
            } | labels
        self._fit_kinds(columns, weight, is_class, labels)
        question_labels(itertools.compress(zip(self.tasks_, columns, strict=True), is_class))
        # Before numbers are looked at: many tables hold 0 where a conditional number should be a
        # hole, and the error should name the gate, and not the 0.
        self._gates = resolve_gates(self.tasks_, self.kinds_)
        self._count(columns)
        self._fit_kinds(columns, weight, [not known for known in is_class])
        self._class_weights = resolve_class_weights(
            self.class_weight, self.tasks_, self.kinds_, columns, weight
        )
        return self._encode(columns, weight)

    def _fit_kinds(
        self,
        columns: list[Column],
        weight: FloatArray,
        which: list[bool],
        labels: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        for k in np.flatnonzero(which):
            task = self.tasks_[k]
            self.kinds_[k] = fit_kind(task, columns[k], weight[:, k], labels.get(task.name, ()))
        warn_of_one_label((self.tasks_[k].name, self.kinds_[k]) for k in np.flatnonzero(which))

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
        self.n_observed_ = np.array([c.seen.sum() for c in columns])
        self.n_applicable_ = np.array(
            [a.sum() for a in applicability(self.tasks_, self._gates, columns)]
        )

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
        applicability(self.tasks_, self._gates, columns)
        for task, kind, column in zip(self.tasks_, self.kinds_, columns, strict=True):
            with naming(task):
                kind.check(column.values[column.seen])
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
        with naming(task):
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
        self._check_labels(columns)
        return self._encode(columns, weight)

    def encode_more(
        self, y: Any, sample_weight: Any = None, *, add: bool
    ) -> tuple[TargetEncoder, EncodedTargets]:
        """Encode another y to train on; a copy of the encoder has counted it, alone or with `add`.

        Scales, classes and their weights stay as they are.
        """
        columns, weight = self.read(y, sample_weight)
        self._check_labels(columns)
        if not any(column.seen.any() for column in columns):
            raise ValueError("y holds no observed target. Leave these rows out.")
        counted = copy.copy(self)
        counted._count(columns)
        if add:
            counted.n_observed_ += self.n_observed_
            counted.n_applicable_ += self.n_applicable_
        return counted, self._encode(columns, weight)

    def _check_labels(self, columns: list[Column]) -> None:
        kinds: list[Any] = self.kinds_
        for task, kind, column in zip(self.tasks_, kinds, columns, strict=True):
            values = column.values[column.seen]
            if kind.is_class and (kind.encode(values) < 0).any():
                unseen = first(values[kind.encode(values) < 0])
                raise ValueError(
                    f"Task {task.name!r}: label {unseen!r} was not seen in fit, which saw "
                    f"{kind.classes_.tolist()}. Pass all labels to the first call of partial_fit, "
                    f"classes={{{task.name!r}: [...]}}; or fit anew, with warm_start=False."
                )

    def _encode(self, columns: list[Column], weight: FloatArray) -> EncodedTargets:
        values, mass = np.zeros_like(weight), np.zeros_like(weight)
        for k, (kind, column) in enumerate(zip(self.kinds_, columns, strict=True)):
            seen = column.seen
            codes = kind.encode(column.values[seen])
            if not np.isfinite(codes).all():
                raise ValueError(
                    f"Task {self.names[k]!r}: kind={self.tasks_[k].kind!r} makes "
                    f"{first(column.values[seen][~np.isfinite(codes)])!r} a code that is not "
                    "finite. Check these values."
                )
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
            if not seen.any():
                raise ValueError(
                    f"Task {self.names[k]!r} has no observed value in these rows, the first of "
                    "this training. Pass rows in which it was observed."
                )
            parts.append(kind.constant(targets.values[seen, k], targets.weight[seen, k]))
        return np.concatenate(parts)

    # -- back to y ---------------------------------------------------------------------------

    def part_of(self, raw: Outputs, k: int) -> FloatArray:
        """Raw outputs (n, M, n_outputs) of task `k`, of those of all, for members or without."""
        start = sum(self.n_outputs[:k])
        part = raw[..., start : start + self.kinds_[k].n_outputs]
        return (part[:, None] if part.ndim == 2 else part).astype(np.float64)

    def _parts(self, raw: Outputs) -> Iterator[FloatArray]:
        """Raw outputs of one task after the other."""
        raw = raw[:, None, :] if raw.ndim == 2 else raw
        stops = itertools.accumulate(self.n_outputs, initial=0)
        return (
            raw[..., start:stop].astype(np.float64) for start, stop in itertools.pairwise(stops)
        )

    def probabilities(self, raw: Outputs) -> dict[str, FloatArray]:
        """Class probabilities (n, n_classes) of each class task."""
        parts: Any = zip(self.names, self.kinds_, self._parts(raw), strict=True)
        return {name: kind.proba(part) for name, kind, part in parts if kind.is_class}

    def decode(self, raw: Outputs, conditional_output: str = "estimate") -> list[NDArray[Any]]:
        """Labels and numbers in the units of y, one array per task.

        ``'estimate'`` is the value if applicable; ``'nan'`` blanks it where a gate up the chain is
        predicted not to hold; ``'expected'`` multiplies means with the probability that the chain
        of gates holds.
        """
        parts = zip(self.kinds_, self._parts(raw), strict=True)
        out: list[NDArray[Any]] = [kind.decode(part) for kind, part in parts]
        if conditional_output == "estimate":
            return out
        if conditional_output not in ("nan", "expected"):  # set after fit, perhaps
            raise ValueError(
                f"conditional_output={conditional_output!r} is unknown. Use 'estimate', 'nan' or "
                "'expected'."
            )
        classes = self.classes
        proba = dict(zip(classes, self.probabilities(raw).values(), strict=True))

        def share_of(gate: int, task: Task) -> FloatArray:
            labels = holds(task, classes[gate])
            return self._unweighted(gate, proba[gate])[:, labels].sum(axis=1)

        chain = chains(self.tasks_, self._gates, out, share_of)
        for k, (hold, probability) in enumerate(chain):
            if self._gates[k] is None:
                continue
            if conditional_output == "expected" and self.kinds_[k].is_mean:
                out[k] = out[k] * probability
            if conditional_output == "nan":
                out[k] = blank(out[k], ~hold)
        return out

    def _unweighted(self, k: int, proba: FloatArray) -> FloatArray:
        """Probabilities as they would be without the class weights, by which they are too large."""
        class_weight = self._class_weights[k]
        if class_weight is None or not class_weight.all():  # what was never seen has no share
            return proba
        share = proba / class_weight
        return share / share.sum(axis=1, keepdims=True)

    def balance(self, raw: Outputs, targets: EncodedTargets) -> FloatArray:
        """Shift (n_outputs,) of the raw outputs of the training rows, for kinds that ask for it."""
        return np.concatenate([kind.balance(*seen) for kind, seen in self._seen(raw, targets)])

    def shrink(
        self, raw: Outputs, targets: EncodedTargets, but: Set[int] = frozenset()
    ) -> tuple[FloatArray, FloatArray]:
        """Slope and shift (n_outputs,) of outputs of rows left out; 1 and 0 for the tasks `but`."""
        parts = [
            (1.0, np.zeros(kind.n_outputs)) if k in but else kind.shrink(*seen)
            for k, (kind, seen) in enumerate(self._seen(raw, targets))
        ]
        slopes = np.repeat([slope for slope, _ in parts], self.n_outputs)
        return slopes, np.concatenate([shift for _, shift in parts])

    def noise_std(self, raw: Outputs, targets: EncodedTargets) -> FloatArray:
        """Noise of each task in the units of y, NaN for kinds without."""
        noise = [
            kind.noise_std(*s) if len(s[1]) else np.nan for kind, s in self._seen(raw, targets)
        ]
        return np.array(noise)

    def _seen(
        self, raw: Outputs, targets: EncodedTargets
    ) -> Iterator[tuple[Kind, tuple[FloatArray, FloatArray, FloatArray]]]:
        """Each kind, and raw outputs, targets and weights where it was observed."""
        parts = zip(self.kinds_, self._parts(raw), targets.values.T, targets.weight.T, strict=True)
        return ((k, (part[w > 0], values[w > 0], w[w > 0])) for k, part, values, w in parts)

    def matrix(self, columns: list[NDArray[Any]]) -> NDArray[Any]:
        """Columns side by side: float when all are numbers, object otherwise; 1-D as y was."""
        if self.y_ndim_ == 1:
            return columns[0]
        if all(are_numbers(labels) for labels in self.classes.values()):
            numbers = [c if are_numbers(c) else np.where(pd.isna(c), np.nan, c) for c in columns]
            return np.column_stack(numbers).astype(float, copy=False)
        return np.column_stack([c.astype(object) for c in columns])

    @property
    def template(self) -> Template:
        """How y was laid out."""
        return self._template

    def frame(self, columns: list[NDArray[Any]], index: Any = None) -> Any:
        """Columns as a frame of y's type (else pandas), class columns in y's dtypes."""
        classes = [self.names[k] for k in self.classes]
        return self._template.build(dict(zip(self.names, columns, strict=True)), classes, index)
