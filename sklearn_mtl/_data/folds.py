"""Folds of the rows, of which the members of an ensemble leave out one each."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["alike", "content_keys", "deal_folds"]

UINT = np.uint64
RARE = 50  # rows per fold; the shares of more are nearly equal by chance
MIX = UINT(0x9E3779B97F4A7C15)  # an odd constant without pattern: 2^64 over the golden ratio


def content_keys(values: NDArray[np.floating[Any]], seed: int = 0) -> NDArray[np.uint64]:
    """Return a number per row of values (n, d) that is the same for rows of equal content."""
    factors = np.random.default_rng(seed).integers(2**63, size=values.shape[1], dtype=UINT)
    bits = (values.astype(np.float64) + 0.0).view(UINT)  # -0.0 is 0.0
    bits ^= bits >> UINT(29)
    keys = (bits * (2 * factors + UINT(1))).sum(axis=1, dtype=UINT)
    return (keys ^ (keys >> UINT(32))) * MIX


def alike(keys: NDArray[np.uint64], columns: NDArray[np.float64]) -> NDArray[np.intp]:
    """Give rows numbers from 0, those of equal content the same, in the order of `columns`.

    Neither the order of the rows nor the units of a column change the numbers.

    Parameters
    ----------
    keys : ndarray of shape (n,)
        As `content_keys` returns them; they decide where all columns are equal.
    columns : ndarray of shape (n, n_columns)
        The first one decides, unless it is equal.
    """
    found, first, group = np.unique(keys, return_index=True, return_inverse=True)
    columns = columns[first]
    order = np.argsort(columns[:, 0], kind="stable")
    if (np.diff(columns[order, 0]) == 0).any():
        order = np.lexsort((found, *columns.T[::-1]))
    rank = np.empty(len(found), dtype=np.intp)
    rank[order] = np.arange(len(found))
    return rank[group]


def deal_folds(
    groups: NDArray[Any],
    traits: NDArray[np.bool_],
    n_folds: int,
    seed: int,
) -> NDArray[np.intp]:
    """Deal rows to folds of nearly equal size, those of a group to the same one.

    Groups are sorted by which rare traits they have, at random within a pattern, and dealt in turn:
    the rows of rare classes and of rarely observed targets spread over the folds. What is frequent
    spreads by chance.

    Parameters
    ----------
    groups : ndarray of shape (n,)
        Rows of equal value belong together. Which order the rows stand in changes nothing.
    traits : ndarray of bool of shape (n, n_traits)
        What is to be spread evenly. A group has what one of its rows has; rows without any are not
        dealt.
    n_folds, seed : int

    Returns
    -------
    folds : ndarray of int of shape (n,)
    """
    rng = np.random.default_rng(seed)
    folds = np.zeros(len(groups), dtype=np.intp)
    used = traits.any(axis=1)
    _, group = np.unique(groups[used], return_inverse=True)
    n_groups = int(group.max()) + 1
    counts = [np.bincount(group[trait], minlength=n_groups) > 0 for trait in traits[used].T]
    of_group = np.array(counts)[np.argsort([-count.sum() for count in counts], kind="stable")]
    rare = of_group[of_group.sum(axis=1) <= RARE * n_folds]
    order = np.lexsort((rng.random(n_groups), *rare))  # the rarest decides
    fold = np.empty(n_groups, dtype=np.intp)
    fold[order] = (np.arange(n_groups) + rng.integers(n_folds)) % n_folds
    folds[used] = fold[group]
    return folds
