"""Folds of the rows, of which the members of an ensemble leave out one each."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["alike", "content_keys", "deal_folds", "keys_of_cells"]

UINT = np.uint64
RARE = 50  # rows per fold; the shares of more are nearly equal by chance
MIX = UINT(0x9E3779B97F4A7C15)  # an odd constant without pattern: 2^64 over the golden ratio


def content_keys(values: NDArray[np.floating[Any]], seed: int = 0) -> NDArray[np.uint64]:
    """Return a number per row of values (n, d) that is the same for rows of equal content."""
    factors = _factors(values.shape[1], seed)
    return _mixed((_bits(values) * factors).sum(axis=1, dtype=UINT))


def keys_of_cells(
    columns: Iterable[tuple[NDArray[np.integer[Any]], NDArray[np.float64]]], n: int, d: int
) -> NDArray[np.uint64]:
    """Return what `content_keys` would for (n, d), of pairs of the rows and values of each column.

    What is not in a column is 0.
    """
    keys = np.zeros(n, dtype=UINT)
    for (rows, values), factor in zip(columns, _factors(d), strict=True):
        keys[rows] += _bits(values) * factor
    return _mixed(keys)


def _factors(d: int, seed: int = 0) -> NDArray[np.uint64]:
    return 2 * np.random.default_rng(seed).integers(2**63, size=d, dtype=UINT) + UINT(1)


def _bits(values: NDArray[np.floating[Any]]) -> NDArray[np.uint64]:
    bits = (values.astype(np.float64) + 0.0).view(UINT)  # -0.0 is 0.0
    bits ^= bits >> UINT(29)
    return bits


def _mixed(keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    return (keys ^ (keys >> UINT(32))) * MIX


def alike(
    keys: NDArray[np.uint64], columns: Iterable[NDArray[np.floating[Any]]]
) -> NDArray[np.intp]:
    """Give rows numbers from 0, those of equal content the same, in the order of `columns`.

    Neither the order of the rows nor the units of a column change the numbers.

    Parameters
    ----------
    keys : ndarray of shape (n,)
        As `content_keys` returns them; they decide where all columns are equal.
    columns : iterable of ndarray of shape (n,)
        The first one decides, unless it is equal; no more are asked for than are needed.
    """
    found, first, group = np.unique(keys, return_index=True, return_inverse=True)
    rank = np.zeros(len(found), dtype=np.intp)
    tied = np.arange(len(found))
    for column in itertools.chain(columns, (keys,)):
        values, before = column[first[tied]], rank[tied]
        order = np.lexsort((values, before))
        tied, values, before = tied[order], values[order], before[order]
        same = values[1:] == values[:-1]
        if values.dtype.kind == "f":
            same |= np.isnan(values[1:]) & np.isnan(values[:-1])
        begins = np.ones(len(tied), dtype=bool)
        begins[1:] = before[1:] != before[:-1]
        opens = np.concatenate([[True], begins[1:] | ~same])
        places = np.arange(len(tied))
        of_group, of_run = (np.maximum.accumulate(np.where(w, places, 0)) for w in (begins, opens))
        rank[tied] = before + of_run - of_group
        alone = opens & np.append(opens[1:], True)
        tied = tied[~alone]
        if not len(tied):
            break
    return rank[group]


def deal_folds(
    groups: NDArray[Any],
    traits: Sequence[NDArray[np.integer[Any]]],
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
    traits : sequence of ndarray of int
        What is to be spread evenly: the rows that have each trait. A group has what one of its rows
        has; rows without any are not dealt.
    n_folds, seed : int

    Returns
    -------
    folds : ndarray of int of shape (n,)
    """
    rng = np.random.default_rng(seed)
    folds = np.zeros(len(groups), dtype=np.intp)
    used = np.zeros(len(groups), dtype=bool)
    for rows in traits:
        used[rows] = True
    group = np.zeros(len(groups), dtype=np.intp)
    _, group[used] = np.unique(groups[used], return_inverse=True)
    n_groups = int(group.max()) + 1
    rare = []
    for rows in traits:
        has = np.zeros(n_groups, dtype=bool)
        has[group[rows]] = True
        if has.sum() <= RARE * n_folds:
            rare.append(has)
    rare.sort(key=np.count_nonzero, reverse=True)
    order = np.lexsort((rng.random(n_groups), *rare))  # the rarest decides
    fold = np.empty(n_groups, dtype=np.intp)
    fold[order] = (np.arange(n_groups) + rng.integers(n_folds)) % n_folds
    folds[used] = fold[group[used]]
    return folds
