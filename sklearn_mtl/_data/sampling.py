"""Which rows stand for all, where reading all of them once more would take too long."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["SAMPLE_VALUES", "sampled", "spread_places"]

# Values of X, which are 2 GB as float64: where there are more, means and scales are of so many.
SAMPLE_VALUES = 2**28
RUN_ROWS = 256  # that stand together, as files are read fastest
LEAST_RUNS = 64  # so that rows in any order are seen


def sampled(n: int, n_chosen: int, each: bool) -> NDArray[np.intp] | slice:
    """Return places as `spread_places`, or where all count: all, which is no copy."""
    return slice(None) if each or n <= n_chosen else spread_places(n, n_chosen)


def spread_places(n: int, n_chosen: int) -> NDArray[np.intp]:
    """Return places in n rows, about `n_chosen` of them: short runs, at equal distances.

    All places, if there are no more; and at least one.
    """
    if n <= n_chosen:
        return np.arange(n)
    length = min(RUN_ROWS, max(1, n_chosen // LEAST_RUNS))
    n_runs = max(1, n_chosen // length)
    middles = (np.arange(n_runs) + 0.5) * (n / n_runs)
    starts = np.clip(middles - length / 2, 0, n - length).astype(np.intp)
    return np.unique(starts[:, None] + np.arange(length))
