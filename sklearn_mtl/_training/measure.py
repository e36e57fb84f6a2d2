"""How errors are measured: over a scale of the row, and on either side of the prediction."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from sklearn_mtl._intervals import FARTHEST, scales
from sklearn_mtl._training.likeliest import Atoms, likeliest

__all__ = ["PRIOR_ROWS", "ErrorRows", "Measure", "find_measure", "scores_left_out"]

FloatArray = NDArray[np.float64]

PRIOR_ROWS = 16  # as many say that all rows have the same scale, and all members the same errors
ENOUGH = 1000  # rows: of more, each has next to no say in how its error is measured
PASSES = 4  # of the scale of errors that are known within bounds


class ErrorRows(NamedTuple):
    """Rows of a task: errors in units, of which some may be known within bounds, and features."""

    low: FloatArray
    high: FloatArray
    weight: FloatArray
    n: float  # as how many rows they count
    features: FloatArray

    def take(self, which: NDArray[Any]) -> ErrorRows:
        """Return some of them."""
        share = self.weight[which].sum() / self.weight.sum()
        low, high, weight, features = (
            part[which] for part in (self.low, self.high, self.weight, self.features)
        )
        return ErrorRows(low, high, weight, self.n * share, features)

    def over(self, scale: FloatArray) -> Atoms:
        """Distribution of the errors over a scale (n,)."""
        return likeliest(self.low / scale, self.high / scale, self.weight, self.n)

    def expected(self, scale: FloatArray, atoms: Atoms, power: int) -> FloatArray:
        """Return what a power of each absolute error is, as far as it is known."""
        return scale**power * atoms.expected(self.low / scale, self.high / scale, power)


class Measure(NamedTuple):
    """How errors are measured: what the scale of a row is made of, and the worth of either side."""

    scale: dict[str, FloatArray]
    below: float
    above: float

    def scores(self, rows: ErrorRows) -> tuple[FloatArray, FloatArray]:
        """Bounds of the scores, below 0 where the target is below the prediction."""
        of_scale = scales(rows.features, *self.scale.values())
        ends = (rows.low / of_scale, rows.high / of_scale)
        low, high = (np.where(e < 0, e / self.below, e / self.above) for e in ends)
        return low, high


def find_measure(rows: ErrorRows, start: Measure | None = None) -> Measure:
    """Find how errors are measured best; those within bounds by what is expected of them."""
    of_scale = np.ones(len(rows.low))
    if start is not None:
        of_scale = scales(rows.features, *start.scale.values())
    scale: dict[str, FloatArray] = {}
    for _ in range(1 if (rows.low == rows.high).all() else PASSES):
        size = rows.expected(of_scale, rows.over(of_scale), 1)
        scale = _scale(rows.features, size, rows.weight, PRIOR_ROWS / rows.n)
        of_scale = scales(rows.features, *scale.values())
    atoms = rows.over(of_scale)
    return Measure(scale, *_sides(atoms.at, atoms.mass))


def scores_left_out(
    rows: ErrorRows, measure: Measure, folds: NDArray[np.intp]
) -> tuple[FloatArray, FloatArray]:
    """Bounds of the scores (n,), of each fold as they are measured best on the others.

    Errors that have a say in how they are measured are smaller than those of new rows: of ten rows,
    by a quarter.
    """
    low, high = measure.scores(rows)
    if len(low) > ENOUGH:
        return low, high
    for fold in np.unique(folds):
        rest = rows.take(folds != fold)
        if (np.isfinite(rest.low) & np.isfinite(rest.high)).any():
            of_fold = folds == fold
            low[of_fold], high[of_fold] = find_measure(rest, measure).scores(rows.take(of_fold))
    return low, high


def _scale(
    features: FloatArray, error: FloatArray, weight: FloatArray, penalty: float
) -> dict[str, FloatArray]:
    """Slopes of the logarithm of the scale, by the likelihood of Laplace's distribution.

    The best constant is known by the slopes, so that these alone are searched for.
    """
    share = weight / weight.sum()
    center = share @ features
    spread = np.sqrt(share @ (features - center) ** 2)
    spread[~(spread > 1e-9 * (1 + np.abs(center)))] = 1.0
    z = ((features - center) / spread).clip(-FARTHEST, FARTHEST)
    mean, size = share @ z, share * np.abs(error)
    slope = np.zeros(features.shape[1])
    if size.sum() > 0:

        def loss(slope: FloatArray) -> tuple[float, FloatArray]:
            part = size * np.exp(-z @ slope)
            total = part.sum()
            value = np.log(total) + mean @ slope + penalty / 2 * slope @ slope
            return float(value), mean - part @ z / total + penalty * slope

        slope = minimize(loss, slope, jac=True, method="L-BFGS-B", bounds=[(-3, 3)] * len(slope)).x
    return {"center": center, "spread": spread, "slope": slope}


def _sides(scaled: FloatArray, weight: FloatArray) -> tuple[float, float]:
    """Return what a score of 1 is worth below and above a prediction: errors may be skewed.

    Roots of the mean errors on either side: half way, on a log scale, between equal ends and those
    with which errors of two exponential tails would have the shortest intervals.
    """
    means = [
        float(np.average(np.abs(scaled[side]), weights=weight[side])) if side.any() else 0.0
        for side in (scaled < 0, scaled > 0)
    ]
    largest = max(means) or 1.0
    below, above = (np.sqrt(max(mean, largest / 100)) for mean in means)
    return float(below), float(above)
