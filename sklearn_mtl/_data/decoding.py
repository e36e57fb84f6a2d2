"""From raw outputs of a network back to labels and numbers, laid out as y was."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Sequence, Set
from typing import Any, Protocol, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sklearn_mtl._data.encoded import EncodedTargets
from sklearn_mtl._data.gates import blank, chains, holds
from sklearn_mtl._data.tables import Template
from sklearn_mtl._data.tasks import Task, naming
from sklearn_mtl.kinds import (
    CensoredTarget,
    ClassificationTarget,
    Kind,
    QuantileTarget,
    RegressionTarget,
    UnobservedTarget,
)
from sklearn_mtl.kinds.bounds import bounds_of
from sklearn_mtl.kinds.values import are_numbers

__all__ = ["RawOutputs", "TargetDecoder"]

FloatArray = NDArray[np.float64]
Outputs = NDArray[np.floating[Any]]  # of a network, in its precision

# Kinds whose links are the same for all of their tasks: these are computed together, as of
# thousands of tasks each call of numpy counts; where there are so many, so many values at a time.
ALIKE = (ClassificationTarget, RegressionTarget, QuantileTarget)
MANY, VALUES = 8, 2**20


class RawOutputs(Protocol):
    """Raw outputs of rows that are not an array, but can be had for some tasks and rows."""

    def part(self, outputs: slice, rows: Any) -> Outputs:
        """Return some outputs (n_rows, width), or (n_rows, M, width) of members."""


class TargetDecoder:
    """What was learned of y: from it, raw outputs are read, and compared with targets.

    `TargetEncoder` learns it.
    """

    tasks_: list[Task]
    kinds_: list[Kind]
    y_ndim_: int
    n_observed_: NDArray[np.int_]
    n_applicable_: NDArray[np.int_]
    _gates: list[int | None]
    _class_weights: list[FloatArray | None]
    _template: Template

    @property
    def names(self) -> list[str]:
        """Task names in output order."""
        return [task.name for task in self.tasks_]

    @property
    def unobserved(self) -> NDArray[np.bool_]:
        """Tell of which tasks no target was observed, in no training so far."""
        return np.array([isinstance(kind, UnobservedTarget) for kind in self.kinds_])

    @property
    def gates(self) -> list[int | None]:
        """Position of the gate of each task, None without one."""
        return self._gates

    @property
    def bounded(self) -> NDArray[np.bool_]:
        """Tell which tasks have targets that are known within bounds."""
        return np.array([isinstance(kind, CensoredTarget) for kind in self.kinds_])

    def codes_of(
        self, k: int, targets: EncodedTargets
    ) -> tuple[NDArray[Any], NDArray[Any], FloatArray]:
        """Rows with targets of task `k`, their codes as its kind takes them, and their weights."""
        rows, values, weight, reach = targets.cells(k)
        if reach is None or not isinstance(self.kinds_[k], CensoredTarget):
            return rows, values, weight
        return rows, bounds_of(values, reach), weight

    @property
    def n_outputs(self) -> list[int]:
        """Number of raw outputs per task."""
        return [kind.n_outputs for kind in self.kinds_]

    @property
    def classes(self) -> dict[int, NDArray[Any]]:
        """Labels of each class task, by the position of the task."""
        kinds: list[Any] = self.kinds_
        return {k: kind.classes_ for k, kind in enumerate(kinds) if kind.is_class}

    def part_of(self, raw: Outputs | RawOutputs, k: int, rows: Any = slice(None)) -> FloatArray:
        """Raw outputs (n, M, n_outputs) of task `k`, of those of all, for members or without."""
        return self._part(raw, self._starts(), k, rows)

    def _starts(self) -> list[int]:
        """Where the outputs of each task begin, and where the last ones end."""
        return list(itertools.accumulate(self.n_outputs, initial=0))

    def _part(
        self, raw: Outputs | RawOutputs, starts: Sequence[int], k: int, rows: Any = slice(None)
    ) -> FloatArray:
        outputs = slice(starts[k], starts[k + 1])
        part = raw[..., outputs][rows] if isinstance(raw, np.ndarray) else raw.part(outputs, rows)
        return (part[:, None] if part.ndim == 2 else part).astype(np.float64)

    def _linked(self, raw: Outputs, only_classes: bool = False) -> dict[int, FloatArray]:
        """Mean of `Kind.link` over members, (n,) or (n, n_classes), of the tasks of kinds `ALIKE`.

        By the position of the task; those of one kind and width are computed together.
        """
        raw = raw[:, None, :] if raw.ndim == 2 else raw
        starts = np.array(self._starts())
        groups: dict[tuple[type[Kind], int], list[int]] = {}
        for k, kind in enumerate(self.kinds_):
            if type(kind) in ALIKE and (kind.is_class or not only_classes):
                groups.setdefault((type(kind), kind.n_outputs), []).append(k)
        linked: dict[int, FloatArray] = {}
        for (_, width), tasks in groups.items():
            if len(tasks) < MANY:
                continue
            step = max(1, VALUES // max(1, raw.shape[0] * raw.shape[1] * width))
            for some in (tasks[at : at + step] for at in range(0, len(tasks), step)):
                columns = np.arange(width)[:, None] + starts[some]
                # Classes and members first in memory: sums over a few numbers in a row are slow.
                part = raw[..., columns].astype(np.float64).transpose(2, 1, 3, 0).copy()
                means = self.kinds_[some[0]].link(part.transpose(2, 3, 1, 0))
                means = means[:, :, 0] if means.shape[2] == 1 else means.mean(axis=2)
                linked |= dict(zip(some, means, strict=True))
        return linked

    def probabilities(self, raw: Outputs) -> dict[str, FloatArray]:
        """Class probabilities (n, n_classes) of each class task."""
        linked, starts, names = self._linked(raw, True), self._starts(), self.names
        kinds: list[Any] = self.kinds_
        return {
            names[k]: linked[k] if k in linked else kind.proba(self._part(raw, starts, k))
            for k, kind in enumerate(kinds)
            if kind.is_class
        }

    def decode(self, raw: Outputs, conditional_output: str = "estimate") -> list[NDArray[Any]]:
        """Labels and numbers in the units of y, one array per task.

        ``'estimate'`` is the value if applicable; ``'nan'`` blanks it where a gate up the chain is
        predicted not to hold; ``'expected'`` multiplies means with the probability that the chain
        of gates holds.
        """
        linked, starts = self._linked(raw), self._starts()
        out: list[NDArray[Any]] = [
            kind.decode_mean(linked[k]) if k in linked else kind.decode(self._part(raw, starts, k))
            for k, kind in enumerate(self.kinds_)
        ]
        for k, (holding, share) in self.applies(raw, conditional_output, out).items():
            if share is not None:
                out[k] = out[k] * share
            if holding is not None:
                out[k] = blank(out[k], ~holding)
        return out

    def applies(
        self,
        raw: Outputs,
        conditional_output: str,
        predicted: list[NDArray[Any]] | None = None,
    ) -> dict[int, tuple[NDArray[np.bool_] | None, FloatArray | None]]:
        """Tell where conditional tasks apply, by position: what each rule asks of predictions.

        ``'nan'`` asks where a task is predicted to apply (n,); ``'expected'``, of means, how
        probable that is (n,). All else is None, and there is nothing for ``'estimate'``.
        """
        if conditional_output == "estimate":
            return {}
        if conditional_output not in ("nan", "expected"):  # set after fit, perhaps
            raise ValueError(
                f"conditional_output={conditional_output!r} is unknown. Use 'estimate', 'nan' or "
                "'expected'."
            )
        chain = self.chains(raw, predicted)
        gated = [k for k, gate in enumerate(self._gates) if gate is not None]
        if conditional_output == "nan":
            return {k: (chain[k][0], None) for k in gated}
        return {k: (None, chain[k][1]) for k in gated if self.kinds_[k].is_mean}

    def chains(
        self, raw: Outputs, predicted: list[NDArray[Any]] | None = None
    ) -> list[tuple[NDArray[np.bool_], FloatArray]]:
        """Tell of each task where it is predicted to apply (n,), and how probable that is (n,).

        Of those up the chain of gates, each has to hold; tasks without one always apply.
        """
        classes = self.classes
        proba = dict(zip(classes, self.probabilities(raw).values(), strict=True))

        def share_of(gate: int, task: Task) -> FloatArray:
            labels = holds(task, classes[gate])
            if not len(labels):  # nothing is known of the gate
                return np.full(len(proba[gate]), np.nan)
            return self._unweighted(gate, proba[gate])[:, labels].sum(axis=1)

        predicted = self.decode(raw) if predicted is None else predicted
        return chains(self.tasks_, self._gates, predicted, share_of)

    def _unweighted(self, k: int, proba: FloatArray) -> FloatArray:
        """Probabilities as they would be without the class weights, by which they are too large."""
        class_weight = self._class_weights[k]
        if class_weight is None or not class_weight.all():  # what was never seen has no share
            return proba
        if self.kinds_[k].is_calibrated:  # they are so
            return proba
        share = proba / class_weight
        return share / share.sum(axis=1, keepdims=True)

    def balance(self, raw: Outputs | RawOutputs, targets: EncodedTargets) -> FloatArray:
        """Shift (n_outputs,) of the raw outputs of the training rows, for kinds that ask for it."""
        parts = [
            kind.balance(*seen) if len(seen[1]) else np.zeros(kind.n_outputs)
            for kind, seen in self._seen(raw, targets)
        ]
        return np.concatenate(parts)

    def shrink(
        self, raw: Outputs | RawOutputs, targets: EncodedTargets, but: Set[int] = frozenset()
    ) -> tuple[FloatArray, FloatArray]:
        """Slope and shift (n_outputs,) of outputs of rows left out; 1 and 0 for the tasks `but`."""
        parts = [
            (1.0, np.zeros(kind.n_outputs)) if k in but else kind.shrink(*seen)
            for k, (kind, seen) in enumerate(self._seen(raw, targets))
        ]
        slopes = np.repeat([slope for slope, _ in parts], self.n_outputs)
        return slopes, np.concatenate([shift for _, shift in parts])

    def noise_std(self, raw: Outputs | RawOutputs, targets: EncodedTargets) -> FloatArray:
        """Noise of each task in the units of y, NaN for kinds without."""
        noise = [
            kind.noise_std(*s) if len(s[1]) else np.nan for kind, s in self._seen(raw, targets)
        ]
        return np.array(noise)

    def _seen(
        self, raw: Outputs | RawOutputs, targets: EncodedTargets, as_they_are: bool = False
    ) -> Iterator[tuple[Kind, tuple[FloatArray, NDArray[Any], FloatArray]]]:
        """Each kind, and raw outputs, targets and weights where it was observed.

        Weights of classes do not count for rows `as_they_are`, and for kinds that are calibrated.
        """
        starts = self._starts()
        for k, kind in enumerate(self.kinds_):
            seen, values, weight = self.codes_of(k, targets)
            class_weight = self._class_weights[k]
            if class_weight is not None and (as_they_are or kind.is_calibrated):
                weight = weight / np.where(class_weight > 0, class_weight, 1)[values.astype(int)]
            yield kind, (self._part(raw, starts, k, seen), values, weight)

    @property
    def uses_unseen(self) -> bool:
        """Whether anything is tuned or calibrated on rows that were not trained on."""
        return any(kind.is_tuned or kind.is_calibrated for kind in self.kinds_)

    def needs_unseen(self) -> dict[str, str]:
        """Say by task what is found on rows that were not trained on, and only there."""
        named = zip(self.names, self.kinds_, strict=True)
        return {name: kind.needs_unseen for name, kind in named if kind.needs_unseen}

    def tuned(self, raw: Outputs | RawOutputs, targets: EncodedTargets) -> Self:
        """Return a copy that decides best on these rows, which were not trained on."""
        copied = copy.copy(self)
        copied.kinds_ = []
        for task, (kind, seen) in zip(self.tasks_, self._seen(raw, targets, True), strict=True):
            with naming(task):
                copied.kinds_.append(kind.tuned(*seen))
        return copied

    def without_effect(self, targets: EncodedTargets) -> dict[str, str]:
        """Say of which tasks these rows, which were not trained on, hold too few labels."""
        n_labels = {
            name: len(np.unique(targets.cells(k).values)) for k, name in enumerate(self.names)
        }
        return {
            name: f"Task {name!r}: {what} has no effect, as the rows that were not trained on hold "
            f"{n_labels[name]} of its labels. Pass some with two, or leave it out."
            for name, what in self.needs_unseen().items()
            if n_labels[name] < 2
        }

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
