"""Which rows each member of an ensemble leaves out."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sklearn_mtl._data.folds import alike, content_keys, deal_folds
from sklearn_mtl._data.inputs import InputReader, Source
from sklearn_mtl._data.targets import EncodedTargets, TargetEncoder
from sklearn_mtl._training.group import ALONE, Group

__all__ = ["deal_rows", "equal_rows", "kept_together"]

RowIndex = NDArray[np.intp]


def equal_rows(
    reader: InputReader,
    source: Source,
    targets: EncodedTargets,
    rows: RowIndex,
    group: Group = ALONE,
) -> RowIndex:
    """Give `rows` numbers by X and y: a repeated row has the number of the first one."""
    y = np.hstack([targets.values[rows], targets.weight[rows] > 0])

    def read(rows: RowIndex) -> NDArray[Any]:
        found = np.empty(len(rows), [("key", np.uint64), ("first", np.float64, (n_first,))])
        parts = source.parts(reader.chunks(rows))
        for chunk, samples in zip(reader.chunks(np.arange(len(rows))), parts, strict=True):
            X = samples.reshape(len(chunk), -1).astype(np.float64)
            found["key"][chunk], found["first"][chunk] = content_keys(X), X[:, :8]
        return found

    n_first = min(8, math.prod(source.shape))
    X = group.read(read, rows)
    return alike(content_keys(y) + 3 * X["key"], np.hstack([X["first"], y]))


def deal_rows(
    encoder: TargetEncoder,
    targets: EncodedTargets,
    rows: RowIndex,
    groups: RowIndex,
    n_folds: int,
    seed: int,
) -> RowIndex:
    """Return the fold of each of `rows`, the same for those of a group."""
    return deal_folds(groups, _traits(encoder, targets, rows), n_folds, seed)


def kept_together(folds: RowIndex, weight: NDArray[np.float64]) -> list[int]:
    """Tell of which tasks, by position, all targets (n, n_tasks) are in one fold."""
    return [k for k, seen in enumerate((weight > 0).T) if len(np.unique(folds[seen])) == 1]


def _traits(encoder: TargetEncoder, targets: EncodedTargets, rows: RowIndex) -> NDArray[np.bool_]:
    """Return which targets a row has, and of which class it is."""
    seen = targets.weight[rows] > 0
    classes = [
        seen[:, k] & (targets.values[rows, k] == code)
        for k, labels in encoder.classes.items()
        for code in range(len(labels))
    ]
    return np.column_stack([seen, *classes])
