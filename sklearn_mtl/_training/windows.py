"""The order of rows that are read by blocks: blocks at random, and the rows of many blocks."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["shuffled_windows"]

RowIndex = NDArray[np.intp]


def shuffled_windows(
    blocks: RowIndex, n_batches: int, n_rows: int, order: np.random.Generator
) -> list[Sequence[RowIndex]]:
    """Shuffle rows so that each block of them is read once, or twice.

    Blocks come in a random order, and the rows of a window of them too. A window has whole batches;
    a block may reach into the next one.

    Parameters
    ----------
    blocks : ndarray of int of shape (n,)
        The block in which each row stands.
    n_batches : int
        Of nearly equal size.
    n_rows : int
        Of a window, about. All rows in one window are in the order that they have in memory.
    order : numpy.random.Generator

    Returns
    -------
    windows : list of sequences of ndarrays
        Batches, as increasing places in `blocks`.
    """
    n = len(blocks)
    n_windows = min(n_batches, math.ceil(n / max(1, n_rows)))
    if n_windows == 1:
        windows = [order.permutation(np.arange(n))]
    else:
        numbers, number = np.unique(blocks, return_inverse=True)
        rows = np.argsort(order.permutation(len(numbers))[number], kind="stable")
        sizes = _sizes(n, n_batches)
        ends = np.cumsum([part.sum() for part in np.array_split(sizes, n_windows)])
        windows = [order.permutation(part) for part in np.split(rows, ends[:-1])]
    counts = [len(part) for part in np.array_split(np.arange(n_batches), n_windows)]
    parted: list[Sequence[RowIndex]] = []
    for window, count in zip(windows, counts, strict=True):
        batches = np.array_split(window, count)
        for batch in batches:
            batch.sort()  # files are read forwards
        parted.append(batches)
    return parted


def _sizes(n: int, n_parts: int) -> NDArray[np.intp]:
    """Sizes of nearly equal parts, as of `numpy.array_split`."""
    return np.full(n_parts, n // n_parts) + (np.arange(n_parts) < n % n_parts)
