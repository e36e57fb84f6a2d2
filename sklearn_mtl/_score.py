"""Scores of tasks on their observed targets, those of many tasks at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import accuracy_score, r2_score

from sklearn_mtl._data.tables import Column
from sklearn_mtl._data.tasks import warn_together
from sklearn_mtl.kinds import Kind, UnobservedTarget
from sklearn_mtl.kinds.bounds import are_bounds
from sklearn_mtl.kinds.concordance import concordance_index

__all__ = ["score_columns", "untrained"]

FloatArray = NDArray[np.float64]

VALUES = 2**20  # of tasks that are scored at once


def score_columns(
    names: Sequence[str],
    kinds: Sequence[Kind],
    columns: Sequence[Column],
    found: Sequence[NDArray[Any]],
    weight: FloatArray,
    in_fit: bool = False,
) -> dict[str, float]:
    """Score predictions of every task on its observed targets, by the metric of its kind.

    NaN, with one warning for all tasks, where there are too few. A fit is not told of these, nor
    lost to a metric that fails: that is NaN, with a warning.

    Parameters
    ----------
    names, kinds, columns, found : sequence
        Of each task: its name, its fitted kind, the column of y, and what was predicted, (n,).
    weight : ndarray of shape (n, n_tasks)
    in_fit : bool
    """
    counts = [column.n_seen for column in columns]
    silent = {k for k, kind in enumerate(kinds) if isinstance(kind, UnobservedTarget)}
    few = [k for k, n in enumerate(counts) if n < kinds[k].min_samples and k not in silent]
    if not in_fit:
        said = {names[k]: untrained(names[k]) for k in sorted(silent)}
        said |= {names[k]: _lacks(names[k], kinds[k], counts[k]) for k in few}
        warn_together(said, UndefinedMetricWarning)
    scores = np.full(len(names), np.nan)
    alike: dict[Any, list[int]] = {}
    for k in sorted(set(range(len(names))) - set(few) - silent):
        bounded = are_bounds(columns[k].values)
        alike.setdefault(None if bounded else _metric_of_many(kinds[k]), []).append(k)
    alone, failed = alike.pop(None, []), {}
    step = max(1, VALUES // len(weight))
    for of_rows, tasks in alike.items():
        for some in (tasks[at : at + step] for at in range(0, len(tasks), step)):
            scores[some] = of_rows(*_rows(some, kinds, columns, found, weight))
    for k in alone:
        seen = columns[k].seen
        rows = columns[k].values[seen], found[k][seen], weight[seen, k]
        try:
            by_order = are_bounds(rows[0])  # whatever its metric, it cannot take bounds
            scores[k] = concordance_index(*rows) if by_order else kinds[k].score(*rows, names[k])
        except Exception as error:  # whatever a metric of the user raises
            if not in_fit:
                raise
            failed[names[k]] = (
                f"Task {names[k]!r}: rows left out cannot be scored; oob_score_ is NaN: {error}"
            )
    warn_together(failed, UndefinedMetricWarning)
    return dict(zip(names, scores.tolist(), strict=True))


def untrained(name: str) -> str:
    """Say that a task was not observed in training."""
    return f"Task {name!r} had no observed value in fit: its score is NaN."


def _lacks(name: str, kind: Kind, n_observed: int) -> str:
    metric: Any = kind.metric
    metric_name = getattr(getattr(metric, "func", metric), "__name__", "its metric")
    return (
        f"Task {name!r} has {n_observed} observed rows, {metric_name} needs {kind.min_samples}: "
        "its score is NaN."
    )


def _metric_of_many(kind: Kind) -> Callable[..., FloatArray] | None:
    """Return the metric of a kind for many tasks at once, if there is one, and it does all."""
    if type(kind).score is not Kind.score:
        return None
    try:
        metric = kind.metric
    except Exception:  # `score` will tell
        return None
    return next((of_rows for known, of_rows in TOGETHER.items() if known is metric), None)


def _rows(
    tasks: Sequence[int],
    kinds: Sequence[Kind],
    columns: Sequence[Column],
    found: Sequence[NDArray[Any]],
    weight: FloatArray,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Truth, predictions and weights of tasks, (n_tasks, n) each, 0 where not observed."""
    truth, guess = np.zeros((2, len(tasks), len(weight)))
    seen = np.stack([columns[k].seen for k in tasks])
    for row, k in enumerate(tasks):
        which = slice(None) if seen[row].all() else seen[row]
        truth[row, which] = kinds[k].measured(columns[k].values[which])
        guess[row, which] = kinds[k].measured(found[k][which])
    return truth, guess, np.where(seen, weight.T[tasks], 0)


def _r2(truth: FloatArray, guess: FloatArray, weight: FloatArray) -> FloatArray:
    """As `r2_score`, of each row; squares of 1e200 do not overflow."""
    unit = np.abs(truth).max(axis=1, keepdims=True)
    unit[unit == 0] = 1
    truth, guess = truth / unit, guess / unit
    total = weight.sum(axis=1, keepdims=True)
    mean = (weight * truth).sum(axis=1, keepdims=True) / total
    residual = (weight * (truth - guess) ** 2).sum(axis=1)
    variance = (weight * (truth - mean) ** 2).sum(axis=1)
    varies = variance > 0
    share = np.divide(residual, variance, out=np.ones_like(residual), where=varies)
    return np.where(varies, 1 - share, residual == 0)


def _accuracy(truth: FloatArray, guess: FloatArray, weight: FloatArray) -> FloatArray:
    """As `accuracy_score`, of each row."""
    return (weight * (truth == guess)).sum(axis=1) / weight.sum(axis=1)


# Metrics of scikit-learn whose checks take longer than they do, if there are many tasks.
TOGETHER: dict[Callable[..., float], Callable[..., FloatArray]] = {
    r2_score: _r2,
    accuracy_score: _accuracy,
}
