"""Which rows each member of an ensemble leaves out."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sklearn_mtl._data.encoded import EncodedTargets, ObservedCells
from sklearn_mtl._data.folds import alike, content_keys, deal_folds, keys_of_cells
from sklearn_mtl._data.inputs import InputReader, Source
from sklearn_mtl._data.targets import TargetEncoder
from sklearn_mtl._training.group import ALONE, Group

__all__ = ["deal_rows", "equal_rows", "kept_together"]

RowIndex = NDArray[np.intp]
FIRST, VALUES = 8, 2**22  # inputs that put rows in order, fewer of very many rows


def equal_rows(
    reader: InputReader,
    source: Source,
    targets: EncodedTargets,
    rows: RowIndex,
    group: Group = ALONE,
) -> RowIndex:
    """Give `rows` numbers by X and y: a repeated row has the number of the first one."""

    def read(rows: RowIndex) -> NDArray[Any]:
        found = np.empty(len(rows), [("key", np.uint64), ("first", np.float64, (n_first,))])
        parts = source.parts(reader.chunks(rows))
        for chunk, samples in zip(reader.chunks(np.arange(len(rows))), parts, strict=True):
            X = samples.reshape(len(chunk), -1).astype(np.float64)
            found["key"][chunk], found["first"][chunk] = content_keys(X), X[:, :n_first]
        return found

    n_first = min(FIRST, math.prod(source.shape), max(1, VALUES // max(1, len(rows))))
    X = group.read(read, rows)
    targets = targets if len(rows) == len(targets) else targets.take(rows)
    n, n_tasks = targets.shape

    def each() -> Iterator[ObservedCells]:  # a task at a time, which is all that memory holds
        return map(targets.cells, range(n_tasks))

    found = ((c.rows, c.values) for c in each())
    flags = ((c.rows, np.ones(len(c.rows))) for c in each())
    keys = keys_of_cells(itertools.chain(found, flags), n, 2 * n_tasks)
    y = itertools.chain(map(targets.column, range(n_tasks)), (_flags(c.rows, n) for c in each()))
    return alike(keys + 3 * X["key"], itertools.chain(X["first"].T, y))


def deal_rows(
    encoder: TargetEncoder,
    targets: EncodedTargets,
    rows: RowIndex,
    groups: RowIndex,
    n_folds: int,
    seed: int,
) -> RowIndex:
    """Return the fold of each of `rows`, the same for those of a group."""
    targets = targets if len(rows) == len(targets) else targets.take(rows)
    return deal_folds(groups, _traits(encoder, targets), n_folds, seed)


def kept_together(folds: RowIndex, targets: EncodedTargets) -> list[int]:
    """Tell of which tasks, by position, all targets are in one fold."""
    rows = (targets.cells(k).rows for k in range(targets.shape[1]))
    return [k for k, seen in enumerate(rows) if len(np.unique(folds[seen])) == 1]


def _traits(encoder: TargetEncoder, targets: EncodedTargets) -> list[NDArray[np.integer[Any]]]:
    """Return the rows that have a target of each task, and those of each class."""
    cells = [targets.cells(k) for k in range(targets.shape[1])]
    classes = [
        cells[k].rows[cells[k].values == code]
        for k, labels in encoder.classes.items()
        for code in range(len(labels))
    ]
    return [*(of_task.rows for of_task in cells), *classes]


def _flags(rows: NDArray[np.integer[Any]], n: int) -> NDArray[np.float64]:
    """Return 1 at some of n rows, and 0 elsewhere."""
    out = np.zeros(n)
    out[rows] = 1
    return out
