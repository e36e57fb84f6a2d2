"""Columns of a table that take at most two values, as flags and one-hot codes do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Levels"]


class Levels:
    """Finds the columns that take at most two values, in rows that come in pieces.

    Parameters
    ----------
    n_columns : int
        The first so many columns are looked at.

    Attributes
    ----------
    columns : ndarray of int
        Positions of those that have not taken a third value so far.
    """

    def __init__(self, n_columns: int) -> None:
        self.columns = np.arange(n_columns)
        self.known = np.empty((0, n_columns))  # the lowest and the highest value of these columns

    def merge(self, others: Iterable[Levels]) -> None:
        """Take in what others have found in other rows."""
        for other in others:
            both = np.isin(self.columns, other.columns)
            theirs = other.known[:, np.isin(other.columns, self.columns)]
            self.columns, self.known = self.columns[both], self.known[:, both]
            self._keep(np.concatenate([self.known, theirs]))

    def look(self, rows: NDArray[np.floating[Any]]) -> None:
        """Look at further rows (n, d) of finite numbers, one at least."""
        for part in (rows[:64], rows[64:]):  # a few rows are enough for most columns of numbers
            self._keep(np.concatenate([self.known, part[:, self.columns]]))

    def _keep(self, values: NDArray[np.floating[Any]]) -> None:
        """Keep the columns of which these are at most two values."""
        if len(values):
            low, high = values.min(axis=0), values.max(axis=0)
            kept = ((values == low) | (values == high)).all(axis=0)
            self.columns, self.known = self.columns[kept], np.stack([low, high])[:, kept]
