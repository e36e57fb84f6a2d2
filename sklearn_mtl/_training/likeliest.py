"""Distribution of numbers of which some are known within bounds, without a formula for it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from sklearn_mtl.kinds.bounds import as_bounds
from sklearn_mtl.kinds.tobit import fit_tobit

__all__ = ["Atoms", "likeliest"]

FloatArray = NDArray[np.float64]

N_PRIOR = 200  # places of the prior
PASSES, CLOSE = 500, 1e-6


class Atoms:
    """Numbers in order, and how probable each is.

    Parameters
    ----------
    at, mass : ndarray of shape (n_atoms,)
        Sorted, and of sum 1.
    """

    def __init__(self, at: FloatArray, mass: FloatArray) -> None:
        self.at = at
        self.mass = mass

    def expected(self, low: FloatArray, high: FloatArray, power: int) -> FloatArray:
        """Return what a power of absolute numbers is (n,), given bounds between which they are."""
        known = low == high
        if known.all():
            return np.abs(low) ** power
        start, stop = _places(self.at, low, high)
        size = np.abs(self.at) ** power
        parts = (_within(np.cumsum(part), start, stop) for part in (self.mass * size, self.mass))
        total, share = parts
        nearest = np.clip(0.0, low, high)
        with np.errstate(invalid="ignore", divide="ignore"):
            between = np.where(share > 0, total / share, np.abs(nearest) ** power)
        return np.where(known, np.abs(np.where(known, low, 0)) ** power, between)


def likeliest(low: FloatArray, high: FloatArray, weight: FloatArray, n: float) -> Atoms:
    """Find the distribution that makes what is known of numbers likeliest.

    Of exact numbers that is each with its weight; of some that are censored on one side the
    Kaplan-Meier estimate; in general that of Turnbull [1]_, by the EM algorithm. What lies beyond
    all exact numbers has no place there. So a normal distribution, the likeliest one, counts as
    one more row: the prior of a Dirichlet process [2]_.

    Parameters
    ----------
    low, high : ndarray of shape (n,)
        Bounds, which are equal where a number is exact. In units in which the spread is about 1.
    weight : ndarray of shape (n,)
    n : float
        As how many rows they count.

    References
    ----------
    .. [1] B. W. Turnbull, "The Empirical Distribution Function with Arbitrarily Grouped, Censored
       and Truncated Data", Journal of the Royal Statistical Society B 38, 1976.
    .. [2] V. Susarla and J. Van Ryzin, "Nonparametric Bayesian Estimation of Survival Curves from
       Incomplete Observations", Journal of the American Statistical Association 71, 1976.
    """
    share, known = weight / weight.sum(), low == high
    if known.all():
        order = np.argsort(low, kind="stable")
        return Atoms(low[order], share[order])
    normal = fit_tobit(as_bounds(low, high), weight)
    prior = normal.shift + normal.scale * ndtri((np.arange(N_PRIOR) + 0.5) / N_PRIOR)
    at = np.unique(np.concatenate([low[known], prior]))
    start, stop = _places(at, low, high)
    alone = ~known & (start == stop)  # no place between the bounds: one of them
    if alone.any():
        ends = np.where(np.isfinite(low), low, high)[alone]
        at = np.unique(np.concatenate([at, ends]))
        start, stop = _places(at, low, high)
    fixed = np.bincount(np.searchsorted(at, prior), minlength=len(at)) / N_PRIOR / max(n, 1.0)
    np.add.at(fixed, start[known], share[known])
    start, stop, share = start[~known], stop[~known], share[~known]
    mass = np.full(len(at), 1 / len(at))
    for _ in range(PASSES):
        part = share / _within(np.cumsum(mass), start, stop)
        ends = np.bincount(start, part, len(at) + 1) - np.bincount(stop, part, len(at) + 1)
        found = fixed + mass * np.cumsum(ends)[:-1]
        found = found.clip(0) / found.sum()
        moved = np.abs(np.cumsum(found - mass)).max()
        mass = found
        if moved < CLOSE:
            break
    return Atoms(at, mass)


def _places(
    at: FloatArray, low: FloatArray, high: FloatArray
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """First place between two bounds, and the one behind the last."""
    return np.searchsorted(at, low, side="left"), np.searchsorted(at, high, side="right")


def _within(total: FloatArray, start: NDArray[np.intp], stop: NDArray[np.intp]) -> FloatArray:
    """Sum between places, by the sums up to each."""
    total = np.concatenate([[0.0], total])
    return total[stop] - total[start]
