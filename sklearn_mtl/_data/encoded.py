"""Encoded targets: numbers without a hole, as arrays, or of the observed cells alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from sklearn_mtl._data.tables import are_few

__all__ = ["EncodedTargets", "ObservedCells"]

FloatArray = NDArray[np.float64]


class ObservedCells(NamedTuple):
    """Observed cells of a task: rows, increasing, and what the network learns from; all (n_seen,).

    `reach` is None where all targets are exact.
    """

    rows: NDArray[np.integer[Any]]
    values: FloatArray
    weight: FloatArray
    reach: FloatArray | None = None

    def compact(self) -> ObservedCells:
        """Return those of some weight; weights that are all the same take no memory."""
        kept = self if self.weight.all() else self._take(self.weight > 0)
        rows, weight = kept.rows.astype(np.int32, copy=False), kept.weight
        if len(weight) and (weight == weight[0]).all():
            weight = np.broadcast_to(weight[0], weight.shape)
        return kept._replace(rows=rows, weight=weight)

    def moved(self, place: NDArray[np.integer[Any]]) -> ObservedCells:
        """Return the cells at their new places, which go up with the rows; below 0 is nowhere."""
        rows = place[self.rows]
        kept = rows >= 0
        if kept.all():
            return self._replace(rows=rows)
        return self._replace(rows=rows)._take(kept)

    def _take(self, kept: NDArray[np.bool_]) -> ObservedCells:
        return ObservedCells(*(None if part is None else part[kept] for part in self))  # type: ignore[arg-type]


class EncodedTargets:
    """What the network learns from: no NaN, no labels.

    Where few cells are observed, only these are kept, and arrays of all are made when they are
    asked for.

    Parameters
    ----------
    values : ndarray of shape (n, n_tasks)
        Class codes and scaled numbers, 0 where nothing was observed.
    weight : ndarray of shape (n, n_tasks)
        Of each cell, 0 where nothing was observed.
    reach : ndarray of shape (n, n_tasks), optional
        Where targets are known within bounds: the way from the value to the other bound, 0 where
        it is exact. None if all are.
    """

    def __init__(
        self, values: FloatArray, weight: FloatArray, reach: FloatArray | None = None
    ) -> None:
        self.shape: tuple[int, int] = (weight.shape[0], weight.shape[1])
        self._arrays = (values, weight, reach)
        self._cells: list[ObservedCells] | None = None

    @classmethod
    def of(
        cls, cells: Iterable[ObservedCells], shape: tuple[int, int], n_seen: int, bounded: bool
    ) -> Self:
        """Make them of the cells of each task.

        Parameters
        ----------
        cells : iterable of ObservedCells
            Of each task.
        shape : tuple of int
            Rows and tasks.
        n_seen : int
            About how many cells there are.
        bounded : bool
            Whether some targets are known within bounds.
        """
        made = cls.__new__(cls)
        made.shape = shape
        if are_few(n_seen, shape[0] * shape[1]):
            made._cells = [of_task.compact() for of_task in cells]
        else:
            made._cells = None
            made._arrays = _arrays_of(cells, shape, bounded)
        return made

    @property
    def are_few(self) -> bool:
        """Whether only the observed cells are kept."""
        return self._cells is not None

    def _all(self) -> tuple[FloatArray, FloatArray, FloatArray | None]:
        if self._cells is None:
            return self._arrays
        return _arrays_of(self._cells, self.shape, any(c.reach is not None for c in self._cells))

    def __iter__(self) -> Iterator[Any]:
        """Return values, weight and reach."""
        return iter(self._all())

    def __len__(self) -> int:
        """Return the number of rows."""
        return self.shape[0]

    @property
    def values(self) -> FloatArray:
        """Class codes and scaled numbers (n, n_tasks)."""
        return self._all()[0]

    @property
    def weight(self) -> FloatArray:
        """Weights of the cells (n, n_tasks)."""
        return self._all()[1]

    @property
    def reach(self) -> FloatArray | None:
        """Ways to the other bounds (n, n_tasks), or None."""
        return self._all()[2]

    @property
    def contents(self) -> list[Any]:
        """All that is in it, to tell whether two are the same."""
        return list(self._arrays) if self._cells is None else [self.shape, *map(list, self._cells)]

    @property
    def counts(self) -> NDArray[np.intp]:
        """How many cells of each task (n_tasks,) have weight."""
        if self._cells is None:
            found: NDArray[np.intp] = (self._arrays[1] > 0).sum(axis=0)
            return found
        return np.array([len(of_task.rows) for of_task in self._cells], dtype=np.intp)

    @property
    def mass(self) -> FloatArray:
        """Sum of the weights of each task (n_tasks,)."""
        if self._cells is None:
            total: FloatArray = self._arrays[1].sum(axis=0)
            return total
        # One after the other, as numpy adds up the rows of a matrix.
        return np.array([np.cumsum(c.weight)[-1] if len(c.rows) else 0.0 for c in self._cells])

    def cells(self, k: int) -> ObservedCells:
        """Return the observed cells of task `k`, those that have weight."""
        if self._cells is not None:
            return self._cells[k]
        values, weight, reach = self._arrays
        rows = np.flatnonzero(weight[:, k])
        of_bounds = None if reach is None else reach[rows, k]
        return ObservedCells(rows, values[rows, k], weight[rows, k], of_bounds)

    def column(self, k: int) -> FloatArray:
        """Return the values (n,) of task `k`, 0 where nothing was observed."""
        if self._cells is None:
            return self._arrays[0][:, k]
        out = np.zeros(self.shape[0])
        out[self._cells[k].rows] = self._cells[k].values
        return out

    @property
    def any_seen(self) -> NDArray[np.bool_]:
        """Tell rows (n,) with a target of some weight."""
        if self._cells is None:
            return np.asarray((self._arrays[1] > 0).any(axis=1))
        out = np.zeros(len(self), dtype=bool)
        for of_task in self._cells:
            out[of_task.rows] = True
        return out

    def seen(self, tasks: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Tell where some tasks were observed (n, n_some)."""
        out = np.zeros((len(self), len(tasks)), dtype=bool)
        for i, k in enumerate(tasks):
            out[self.cells(k).rows, i] = True
        return out

    def take(self, rows: NDArray[Any]) -> EncodedTargets:
        """Return those of some rows, a mask, or increasing numbers."""
        if self._cells is None:
            values, weight, reach = self._arrays
            return EncodedTargets(
                values[rows], weight[rows], None if reach is None else reach[rows]
            )
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows
        place = np.full(self.shape[0], -1, dtype=np.int32)
        place[rows] = np.arange(len(rows))
        taken = EncodedTargets.__new__(EncodedTargets)
        taken.shape = (len(rows), self.shape[1])
        taken._cells = [of_task.moved(place) for of_task in self._cells]
        return taken


def _arrays_of(
    cells: Iterable[ObservedCells], shape: tuple[int, int], bounded: bool
) -> tuple[FloatArray, FloatArray, FloatArray | None]:
    """Values, weights and reaches of all cells, 0 where there are none."""
    values, weight = np.zeros(shape), np.zeros(shape)
    reach = np.zeros(shape) if bounded else None
    for k, of_task in enumerate(cells):
        values[of_task.rows, k], weight[of_task.rows, k] = of_task.values, of_task.weight
        if reach is not None and of_task.reach is not None:
            reach[of_task.rows, k] = of_task.reach
    return values, weight, reach
