"""A line underneath: ridge regressions on the folds, mixed into the heads of numbers."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import solve

from sklearn_mtl._predict import Inputs
from sklearn_mtl._training.net import TaskNet
from sklearn_mtl._training.plan import Plan
from sklearn_mtl.networks import MemberHeads, MemberTrunk

__all__ = ["Line", "find_lines", "mix"]

FloatArray = NDArray[np.float64]

# Lines are found on so many values of X, drawn at random, and not at all from more inputs.
VALUES, WIDEST = 4_000_000, 1_000
ENOUGH = 1_000  # drawn rows of a task, or all of them
# For inputs of about one standard deviation, and mean squares: by sums of weights, or numbers of
# rows, a weight of 2 would not be the row twice, or a common factor of the weights would matter.
PENALTIES = np.logspace(-6, 1, 8)


class Line(NamedTuple):
    """Ridge regressions of one task, each without a fold.

    Attributes
    ----------
    coefficients : ndarray of shape (n_folds, d)
    intercepts : ndarray of shape (n_folds,)
    left_out : ndarray of shape (n,)
        Predictions of some rows, by the regression that left them out.
    """

    coefficients: FloatArray
    intercepts: FloatArray
    left_out: FloatArray


def find_lines(plan: Plan, net: TaskNet) -> tuple[NDArray[np.intp], dict[int, Line]]:
    """Find the lines of the tasks that are numbers with squared errors.

    Returns
    -------
    places : ndarray of int
        Positions among the rows to train on that lines have seen.
    lines : dict of int to Line
        By the position of the task.
    """
    trunk, heads = net.module_.trunk, net.module_.heads
    tasks = [k for k, kind in enumerate(plan.encoder.kinds_) if kind.least_squares]
    if not (tasks and isinstance(trunk, MemberTrunk) and isinstance(heads, MemberHeads)):
        return np.arange(0), {}
    if plan.folds is None or trunk.width > WIDEST:
        return np.arange(0), {}
    n = len(plan.rows)
    places = np.arange(n)
    if n * trunk.width > VALUES:
        rng = np.random.default_rng(plan.seed)
        places = np.sort(rng.choice(n, VALUES // trunk.width, replace=False))
    X = _inputs_of_heads(plan, net, places)
    values, weight, _ = plan.trained_targets.take(places)
    folds = plan.folds[places]
    observed = (plan.trained_targets.weight > 0).sum(axis=0)
    alike: dict[bytes, list[int]] = {}  # tasks of the same weights
    for k in tasks:
        if (drawn := (weight[:, k] > 0).sum()) >= ENOUGH or drawn == observed[k] > 0:
            alike.setdefault(weight[:, k].tobytes(), []).append(k)
    lines: dict[int, Line] = {}
    for group in alike.values():
        found = _ridges(X, values[:, group], weight[:, group[0]], folds, plan.n_folds)
        lines |= dict(zip(group, found, strict=True))
    return places, lines


def _inputs_of_heads(plan: Plan, net: TaskNet, places: NDArray[np.intp]) -> FloatArray:
    """Return the inputs as they reach the heads."""
    module = net.module_
    inputs = Inputs(plan.source, module.heads.weight.dtype, torch.device(net.device))

    def read(places: NDArray[np.intp]) -> FloatArray:
        parts = (module.trunk.straight(inputs(plan.rows[p])) for p in plan.reader.chunks(places))
        return np.concatenate([part.double().cpu().numpy() for part in parts])

    with torch.no_grad():
        return plan.group.read(read, places)


def _ridges(
    X: FloatArray, Y: FloatArray, weight: FloatArray, folds: NDArray[np.intp], n_folds: int
) -> list[Line]:
    """Fit without each fold, each column of Y by the penalty that predicts folds left out best."""
    d, seen = X.shape[1], weight > 0  # rows of no weight say nothing, of sparse tasks nearly all
    w = weight[seen] / weight[seen].sum()
    center = w @ X[seen]
    Z, truth, rows = X[seen] - center, Y[seen], [folds[seen] == m for m in range(n_folds)]
    grams, products = np.empty((n_folds, d, d)), np.empty((n_folds, d, Y.shape[1]))
    for m, of_fold in enumerate(rows):
        weighted = Z[of_fold] * w[of_fold, None]
        grams[m], products[m] = weighted.T @ Z[of_fold], weighted.T @ truth[of_fold]
    grams, products = grams.sum(axis=0) - grams, products.sum(axis=0) - products
    least = np.full(Y.shape[1], np.inf)
    coefficients = np.empty_like(products)
    for penalty in PENALTIES:
        system = grams + penalty * np.eye(d)
        pairs = zip(system, products, strict=True)
        found = np.stack([solve(a, b, assume_a="pos") for a, b in pairs])
        predicted = np.empty_like(truth)
        for m, of_fold in enumerate(rows):
            predicted[of_fold] = Z[of_fold] @ found[m]
        errors = w @ (truth - predicted) ** 2
        better = errors < least
        least[better], coefficients[..., better] = errors[better], found[..., better]
    left_out = np.empty_like(Y)
    for m in range(n_folds):
        left_out[folds == m] = (X[folds == m] - center) @ coefficients[m]
    return [
        Line(own, -own @ center, predicted)
        for own, predicted in zip(coefficients.transpose(2, 0, 1), left_out.T, strict=True)
    ]


def mix(
    network: FloatArray, line: FloatArray, y: FloatArray, weight: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Shares of network and line, from 0 and in all at most 1, that predict each task best [1]_.

    Parameters
    ----------
    network, line, y : ndarray of shape (n, n_tasks)
        Deviations from their means.
    weight : ndarray of shape (n, n_tasks)
        Of the sum 1 for each task; 0 where not observed.

    Returns
    -------
    network_share, line_share : ndarray of shape (n_tasks,)

    References
    ----------
    .. [1] L. Breiman, "Stacked Regressions", Machine Learning 24, 1996.
    """
    aa, ab, bb, ay, by = (
        (weight * p * q).sum(axis=0)
        for p, q in [(network, network), (network, line), (line, line), (network, y), (line, y)]
    )
    scale = np.where(aa + bb > 0, aa + bb, 1)
    aa, ab, bb, ay, by = np.stack([aa, ab, bb, ay, by]) / scale

    def part(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
        possible = denominator > 1e-12
        return np.clip(numerator / np.where(possible, denominator, 1), 0, 1) * possible

    none, edge = np.zeros_like(aa), part(ay - by - ab + bb, aa - 2 * ab + bb)  # a + b = 1
    determinant = aa * bb - ab**2
    possible = determinant > 1e-9 * aa * bb
    determinant = np.where(possible, determinant, 1)
    a, b = (ay * bb - by * ab) / determinant, (by * aa - ay * ab) / determinant
    possible &= (a >= 0) & (b >= 0) & (a + b <= 1)
    inner = np.where(possible, a, 0), np.where(possible, b, 0)
    candidates = np.array([(part(ay, aa), none), (none, part(by, bb)), inner, (edge, 1 - edge)])
    a, b = candidates.transpose(1, 0, 2)
    best = (a**2 * aa + 2 * a * b * ab + b**2 * bb - 2 * (a * ay + b * by)).argmin(axis=0)
    a, b = (np.take_along_axis(share, best[None], axis=0)[0] for share in (a, b))
    return a, b
