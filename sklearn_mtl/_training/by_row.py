"""Targets as tensors, taken by rows: of all cells, or of the observed ones alone."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csc_array, csr_array
from torch import Tensor

from sklearn_mtl._data.encoded import EncodedTargets, ObservedCells

__all__ = ["Taken", "TargetRows"]

VALUES = 2**19  # in float64 at a time


class Taken(NamedTuple):
    """Targets, weights and reaches of some rows, (n, n_tasks) each; None if all are exact."""

    targets: Tensor
    weight: Tensor
    reach: Tensor | None


class TargetRows:
    """Targets of rows as tensors.

    Weights are at most one: a common factor of a task changes nothing, and none overflows float32.

    Parameters
    ----------
    encoded : EncodedTargets
        Of the rows. Where few cells are observed, only these are kept.
    dtype : torch.dtype
    device : torch.device

    Attributes
    ----------
    complete : bool
        Whether no target is missing: there is nothing to be masked.
    contents : list of Tensor or None
        All that is in it, to tell whether two are the same.
    """

    def __init__(self, encoded: EncodedTargets, dtype: torch.dtype, device: torch.device) -> None:
        self.shape, self.dtype, self.device = encoded.shape, dtype, device
        self.cells: _Cells | None = None
        if encoded.are_few:
            self.complete, self.cells = False, _Cells.of(encoded, dtype, device)
            self.contents: list[Tensor | None] = list(self.cells)
            return
        values, weight, reach = encoded
        largest = weight.max(axis=0)
        self.all = Taken(
            self._tensor(values),
            self._tensor(weight, np.where(largest > 0, largest, 1)),
            None if reach is None else self._tensor(reach),
        )
        self.complete, self.contents = bool(weight.all()), list(self.all)

    def _tensor(self, values: NDArray[np.float64], unit: Any = 1) -> Tensor:
        """Return values (n, n_tasks) over their unit as a tensor; few in float64 at a time."""
        tensor = torch.empty(values.shape, dtype=self.dtype, device=self.device)
        step = max(1, VALUES // values.shape[1])
        for at in range(0, len(values), step):
            tensor[at : at + step] = torch.from_numpy(values[at : at + step] / unit)
        return tensor

    def __len__(self) -> int:
        """Return the number of rows."""
        return self.shape[0]

    def take(self, index: Tensor) -> Taken:
        """Return those of some rows, by their numbers."""
        if self.cells is not None:
            return self.cells.take(index, self.shape[1])
        targets, weight, reach = self.all
        return Taken(targets[index], weight[index], None if reach is None else reach[index])

    def parts(self) -> Iterator[Taken]:
        """Return all rows: at once, or of those of which only the observed cells are kept, some."""
        if self.cells is None:
            yield self.all
            return
        index = torch.arange(len(self), device=self.device)
        for part in index.split(max(1, 4 * VALUES // self.shape[1])):
            yield self.take(part)

    @property
    def encoded(self) -> EncodedTargets:
        """Values and weights as arrays again."""
        if self.cells is None:
            return EncodedTargets(*(part.cpu().double().numpy() for part in self.all[:2]))
        starts, tasks, *parts = (t.cpu().numpy() for t in self.cells[:4])
        values, weight = (csr_array((p, tasks, starts), self.shape).tocsc() for p in parts)
        places = [slice(*pair) for pair in itertools.pairwise(values.indptr.tolist())]
        cells = (
            ObservedCells(values.indices[at], *(m.data[at].astype(float) for m in (values, weight)))
            for at in places
        )
        return EncodedTargets.of(cells, self.shape, len(tasks), False)

    @property
    def mass(self) -> Tensor:
        """Sum of the weights of each task (n_tasks,)."""
        if self.cells is None:
            return self.all.weight.sum(dim=0)
        total = torch.zeros(self.shape[1], dtype=self.dtype, device=self.device)
        return total.index_add_(0, self.cells.tasks.long(), self.cells.weight)


class _Cells(NamedTuple):
    """Observed cells, row after row: where each row begins, and the cells with their tasks."""

    starts: Tensor
    tasks: Tensor
    targets: Tensor
    weight: Tensor
    reach: Tensor | None

    @classmethod
    def of(cls, encoded: EncodedTargets, dtype: torch.dtype, device: torch.device) -> _Cells:
        n_tasks, of_numpy = encoded.shape[1], torch.empty(0, dtype=dtype).numpy().dtype
        starts = np.concatenate([[0], np.cumsum(encoded.counts)])
        rows = np.empty(starts[-1], dtype=np.int32)
        parts = [np.empty(starts[-1], dtype=of_numpy) for _ in range(3)]
        bounded = False
        for k in range(n_tasks):
            of_task, at = encoded.cells(k), slice(starts[k], starts[k + 1])
            rows[at], parts[0][at] = of_task.rows, of_task.values
            parts[1][at] = of_task.weight / (of_task.weight.max() if len(of_task.rows) else 1)
            parts[2][at] = 0 if of_task.reach is None else of_task.reach
            bounded |= of_task.reach is not None
        shape = (encoded.shape[0], n_tasks)
        by_row = [csc_array((part, rows, starts), shape).tocsr() for part in parts[: 2 + bounded]]
        found = [torch.from_numpy(matrix.data).to(device) for matrix in by_row]
        index = (by_row[0].indptr.astype(np.int64), by_row[0].indices.astype(np.int32))
        return cls(
            *(torch.from_numpy(part).to(device) for part in index),
            *found,
            *[None] * (not bounded),
        )

    def take(self, index: Tensor, n_tasks: int) -> Taken:
        """Return rows as they are with all their cells, 0 where nothing was observed."""
        begins = self.starts[index]
        sizes = self.starts[index + 1] - begins
        ends = sizes.cumsum(0)
        place = torch.arange(int(ends[-1]), device=index.device)
        place += (begins - ends + sizes).repeat_interleave(sizes)
        row = torch.arange(len(index), device=index.device).repeat_interleave(sizes)
        into = row * n_tasks + self.tasks[place]
        spread = functools.partial(self._spread, into=into, shape=(len(index), n_tasks))
        reach = None if self.reach is None else spread(self.reach[place])
        return Taken(spread(self.targets[place]), spread(self.weight[place]), reach)

    @staticmethod
    def _spread(cells: Tensor, into: Tensor, shape: tuple[int, int]) -> Tensor:
        out = cells.new_zeros(shape)
        out.view(-1)[into] = cells
        return out
