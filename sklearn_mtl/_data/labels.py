"""Labels of class tasks: those that are declared before they are seen, and what they weigh."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sklearn_mtl._data.tables import Column, RawColumn, clean
from sklearn_mtl._data.tasks import Task, naming
from sklearn_mtl._data.weights import read_weights
from sklearn_mtl.kinds import Kind
from sklearn_mtl.kinds.values import as_column

__all__ = ["declared_labels", "resolve_class_weights"]

FloatArray = NDArray[np.float64]


def declared_labels(classes: Any, names: list[str], missing_values: Any) -> dict[str, NDArray[Any]]:
    """Labels that were declared, by the name of their class task."""
    if classes is None:
        return {}
    if not isinstance(classes, Mapping):
        if len(names) != 1:
            raise ValueError(
                f"classes={classes!r}, but there are {len(names)} class tasks: {names}. Pass a "
                "dict from their names to their labels."
            )
        classes = {names[0]: classes}
    unknown = [name for name in classes if name not in names]
    if unknown:
        raise ValueError(f"classes names {unknown}, which are not class tasks; these are {names}.")
    declared = {}
    for name, labels in classes.items():
        if isinstance(labels, str) or np.ndim(labels) != 1:
            raise ValueError(f"classes holds {labels!r} for {name!r}. Pass a list of labels.")
        labels = labels.tolist() if hasattr(labels, "tolist") else list(labels)
        column = clean(RawColumn(as_column(labels)), name, missing_values)
        if column.n_seen < column.n_rows:
            raise ValueError(
                f"classes holds a missing value among the labels {labels!r} of {name!r}. Leave "
                "it out."
            )
        declared[name] = column.values
    return declared


def resolve_class_weights(
    specs: Any,
    tasks: Sequence[Task],
    kinds: Sequence[Kind],
    columns: Sequence[Column],
    weight: FloatArray,
) -> list[FloatArray | None]:
    """Weight per class of each task, None for one everywhere."""
    names = [task.name for task in tasks]
    of_classes = [name for name, kind in zip(names, kinds, strict=True) if kind.is_class]
    if isinstance(specs, Mapping) and _weighs_labels(specs, names):
        if not of_classes:
            raise ValueError(
                f"class_weight={specs!r} weighs labels, but none of the tasks {names} is a class "
                "task. Leave it out, or declare one."
            )
        if len(of_classes) > 1:
            raise ValueError(
                f"class_weight={specs!r} weighs labels, but there are {len(of_classes)} class "
                f"tasks: {of_classes}. Say of which one: "
                f"class_weight={{{of_classes[0]!r}: {specs!r}}}."
            )
        specs = {of_classes[0]: specs}
    if not isinstance(specs, Mapping):
        specs = dict.fromkeys(of_classes, specs)
    unknown = [name for name in specs if name not in names]
    if unknown:
        raise ValueError(f"class_weight names unknown tasks {unknown}; the tasks are {names}.")
    resolved = []
    for task, kind, column, w in zip(tasks, kinds, columns, weight.T, strict=True):
        with naming(task):
            resolved.append(
                _class_weight_of(specs.get(task.name), kind, column.observed, w[column.rows])
            )
    return resolved


def _weighs_labels(specs: Mapping[Any, Any], names: Sequence[str]) -> bool:
    """Tell weights of labels from weights by the name of a task."""
    of_tasks = any(
        v is None or isinstance(v, Mapping) or (isinstance(v, str) and v == "balanced")
        for v in specs.values()
    )
    return not (of_tasks or set(specs) <= set(names))


def _class_weight_of(
    spec: Any, kind: Any, values: NDArray[Any], weight: FloatArray
) -> FloatArray | None:
    """Weight per class of one task, None for one everywhere."""
    if spec is None:
        return None
    if not kind.is_class:
        raise ValueError("class_weight is for classes. Use task_weights or sample_weight instead.")
    n_classes = len(kind.classes_)
    if n_classes == 0:  # nothing was observed, and no label is known
        return None
    if isinstance(spec, Mapping):
        out = np.ones(n_classes)
        codes = kind.encode(as_column(list(spec))).astype(int)
        # A label that this y lacks is fine, as in a fold; unless others were forgotten: a slip.
        if (codes < 0).any() and len(set(codes[codes >= 0])) < n_classes:
            raise ValueError(
                f"class_weight={spec!r} names labels that y does not hold; its labels are "
                f"{kind.classes_.tolist()}."
            )
        weights = read_weights(list(spec.values()), f"class_weight={spec!r}")
        out[codes[codes >= 0]] = weights[codes >= 0]
    elif isinstance(spec, str) and spec == "balanced":
        codes = kind.encode(values).astype(int)
        mass = np.bincount(codes, weights=weight, minlength=n_classes)
        present = mass > 0  # others have no target to be weighed
        out = np.ones(n_classes)
        out[present] = mass.sum() / (present.sum() * mass[present])
    else:
        raise ValueError(
            f"class_weight={spec!r} is not understood. Use 'balanced' or a dict of label to weight."
        )
    of_values = out[kind.encode(values).astype(int)] if len(values) else out
    if not np.isfinite(out).all() or (out < 0).any() or not of_values.any():
        raise ValueError(
            f"class_weight={spec!r} does not fit. Pass weights >= 0, not 0 for all labels of y."
        )
    return out
