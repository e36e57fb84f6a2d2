"""A line underneath: ridge regressions on the folds, mixed into the heads of numbers."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import solve
from torch import Tensor

from sklearn_mtl._data.encoded import EncodedTargets
from sklearn_mtl._predict import Inputs, chunk_places
from sklearn_mtl._training.net import TaskNet
from sklearn_mtl._training.plan import Plan
from sklearn_mtl.networks import MemberHeads, MemberTrunk

__all__ = ["Lines", "find_lines", "mix", "unclipped"]

FloatArray = NDArray[np.float64]

# Lines are found on so many values of X, drawn at random, and not at all from more inputs.
VALUES, WIDEST = 4_000_000, 1_000
ENOUGH = 1_000  # drawn rows of a task, or all of them
KEPT = 2**22  # predictions by lines; of more, they are made when they are asked for
# For inputs of about one standard deviation, and mean squares: by sums of weights, or numbers of
# rows, a weight of 2 would not be the row twice, or a common factor of the weights would matter.
PENALTIES = np.logspace(-6, 1, 8)
NEAR = 1.5  # inputs of no more are hardly clipped: what is made of them is nearly linear in them
LARGE = 1e3  # for a wider range, as of inputs that are not standardised, penalties are too small


class Lines(NamedTuple):
    """Ridge regressions of tasks, each without a fold.

    Attributes
    ----------
    tasks : list of int
        Positions of the tasks.
    coefficients : ndarray of shape (n_folds, d, len(tasks))
    intercepts : ndarray of shape (n_folds, len(tasks))
    X : ndarray of shape (n_seen, d)
        Inputs of the heads of rows that lines have seen.
    place : ndarray of int of shape (n,)
        Which of them a row is; below 0 for those that lines have not seen.
    folds : ndarray of int of shape (n,)
    kept : ndarray of shape (n_seen, len(tasks)) or None
        Predictions of these rows, by the regression that left them out, where they are not many.
    bounds : ndarray of shape (2, d) or None
        Where the inputs end that are not clipped; None if all are clipped.
    """

    tasks: list[int]
    coefficients: FloatArray
    intercepts: FloatArray
    X: FloatArray
    place: NDArray[np.intp]
    folds: NDArray[np.intp]
    kept: FloatArray | None
    bounds: FloatArray | None = None

    def some(self, which: list[int]) -> Lines:
        """Return those of some of the tasks."""
        coefficients, intercepts = self.coefficients[..., which], self.intercepts[:, which]
        kept, tasks = (
            None if self.kept is None else self.kept[:, which],
            [self.tasks[i] for i in which],
        )
        return self._replace(
            tasks=tasks, coefficients=coefficients, intercepts=intercepts, kept=kept
        )

    def beside(self, others: Lines, which: list[int]) -> Lines:
        """Return lines over the inputs of both, side by side: of some tasks, those of `others`."""
        d = self.X.shape[1]
        both = np.concatenate([self.coefficients, np.zeros_like(others.coefficients)], axis=1)
        both[:, :d, which], both[:, d:, which] = 0, others.coefficients[..., which]
        intercepts, kept = self.intercepts.copy(), self.kept
        intercepts[:, which] = others.intercepts[:, which]
        if kept is not None and others.kept is not None:
            kept = kept.copy()
            kept[:, which] = others.kept[:, which]
        X = np.hstack([self.X, others.X])
        return self._replace(
            coefficients=both, intercepts=intercepts, X=X, kept=kept, bounds=others.bounds
        )

    def left_out(self, which: list[int], rows: Any) -> FloatArray:
        """Predict rows (n, len(which)) by the regressions that left them out; NaN if not seen."""
        place, folds = self.place[rows], self.folds[rows]
        out = np.full((len(place), len(which)), np.nan)
        if self.kept is not None:
            known = place >= 0
            out[known] = self.kept[place[known]][:, which]
            return out
        for m, intercepts in enumerate(self.intercepts):
            known = (place >= 0) & (folds == m)
            coefficients = self.coefficients[m][:, which]
            out[known] = self.X[place[known]] @ coefficients + intercepts[which]
        return out


def find_lines(plan: Plan, net: TaskNet) -> Lines | None:
    """Find the lines of the tasks that are numbers with squared errors, if there are some."""
    trunk, heads = net.module_.trunk, net.module_.heads
    tasks = [k for k, kind in enumerate(plan.encoder.kinds_) if kind.least_squares]
    if not (tasks and isinstance(trunk, MemberTrunk) and isinstance(heads, MemberHeads)):
        return None
    if plan.folds is None or trunk.width > WIDEST:
        return None
    n = len(plan.rows)
    places = np.arange(n)
    if n * trunk.width > VALUES:
        rng = np.random.default_rng(plan.seed)
        places = np.sort(rng.choice(n, VALUES // trunk.width, replace=False))
    observed = plan.trained_targets.counts
    targets = plan.trained_targets.take(places)
    drawn = [len(targets.cells(k).rows) for k in tasks]
    tasks = [k for k, of in zip(tasks, drawn, strict=True) if of >= ENOUGH or of == observed[k] > 0]
    if not tasks:
        return None
    X = _read(plan, net, places, trunk.straight)
    return _lines_over(X, plan, places, targets, tasks)


def unclipped(plan: Plan, net: TaskNet, lines: Lines) -> Lines | None:
    """Find lines of the same tasks over inputs that are not clipped, if `lines` are over others.

    As trends are not known far beyond the data, these inputs end one range beyond them.
    """
    trunk = net.module_.trunk
    if trunk.bounds is not None or type(trunk).forward is not MemberTrunk.forward:
        return None  # heads see them, or features are made by a user's class
    if not _bends(lines.X):
        return None
    places = np.flatnonzero(lines.place >= 0)
    X = _read(plan, net, places, lambda x: x.flatten(1))
    if np.array_equal(X, lines.X):
        return None
    least, most = X.min(axis=0), X.max(axis=0)
    scale = np.maximum((most - least) / LARGE, 1)
    X /= scale
    found = _lines_over(X, plan, places, plan.trained_targets.take(places), lines.tasks)
    X *= scale
    return found._replace(
        coefficients=found.coefficients / scale[:, None],
        bounds=np.stack([2 * least - most, 2 * most - least]),
    )


def _bends(X: FloatArray) -> bool:
    """Tell whether softly clipped inputs (n, d) are more than a line of what they were."""
    far = X[:, np.maximum(X.max(axis=0, initial=0), -X.min(axis=0, initial=0)) > NEAR]
    between = (far > far.min(axis=0, initial=np.inf)) & (far < far.max(axis=0, initial=-np.inf))
    return bool(between.any())  # two values are on a line


def _lines_over(
    X: FloatArray,
    plan: Plan,
    places: NDArray[np.intp],
    targets: EncodedTargets,
    tasks: list[int],
) -> Lines:
    """Find the lines of tasks over inputs X (n_seen, d) of the rows at `places`."""
    assert plan.folds is not None
    place = np.full(len(plan.rows), -1)
    place[places] = np.arange(len(places))
    alike: dict[tuple[bytes, bytes], list[int]] = {}  # tasks of the same weights
    for k in tasks:
        cells = targets.cells(k)
        alike.setdefault((cells.rows.tobytes(), cells.weight.tobytes()), []).append(k)
    folds = plan.folds[places]
    found = [_ridges(X, targets, group, folds, plan.n_folds) for group in alike.values()]
    tasks = [k for group in alike.values() for k in group]
    coefficients = np.concatenate([of_group for _, of_group in found], axis=2)
    intercepts = np.concatenate([of_group for of_group, _ in found], axis=1)
    kept = None
    if len(places) * len(tasks) <= KEPT:
        kept = np.hstack([_left_out(X, folds, *of_group) for of_group in found])
    return Lines(tasks, coefficients, intercepts, X, place, plan.folds, kept)


def _left_out(
    X: FloatArray, folds: NDArray[np.intp], intercepts: FloatArray, coefficients: FloatArray
) -> FloatArray:
    """Predict rows (n, n_tasks) of X, each by the regressions that left it out."""
    out = np.empty((len(X), coefficients.shape[2]))
    for m, without in enumerate(coefficients):
        out[folds == m] = X[folds == m] @ without + intercepts[m]
    return out


def _read(
    plan: Plan, net: TaskNet, places: NDArray[np.intp], made: Callable[[Tensor], Tensor]
) -> FloatArray:
    """Return what is made of the inputs (n, d) of the rows at `places`."""
    module = net.module_
    inputs = Inputs(plan.source, module.heads.weight.dtype, torch.device(net.device))

    def read(places: NDArray[np.intp]) -> FloatArray:
        rows, out = plan.rows[places], np.empty((0, 0))
        for start, stop in chunk_places(module, plan.source, len(rows)):
            chunk = made(inputs(rows[start:stop]))
            if not len(out):
                out = np.empty((len(rows), chunk.shape[1]))
            out[start:stop] = chunk.double().cpu()
        return out

    with torch.no_grad():
        return plan.group.read(read, places)


def _ridges(
    X: FloatArray, targets: EncodedTargets, tasks: list[int], folds: NDArray[np.intp], n_folds: int
) -> tuple[FloatArray, FloatArray]:
    """Fit without each fold, each task by the penalty that predicts folds left out best.

    Parameters
    ----------
    X : ndarray of shape (n, d)
    targets : EncodedTargets
        Of the same rows.
    tasks : list of int
        Observed in the same of them, with the same weights.
    folds : ndarray of int of shape (n,)
    n_folds : int

    Returns
    -------
    intercepts : ndarray of shape (n_folds, len(tasks))
    coefficients : ndarray of shape (n_folds, d, len(tasks))

    Notes
    -----
    Means are those without the fold too: around the means of all rows, the rows of a fold are the
    negative sum of the others, and where X is wide, a line through these predicts that.
    """
    seen, _, weight, _ = targets.cells(tasks[0])
    Y = np.column_stack([targets.cells(k).values for k in tasks])
    order = np.argsort(folds[seen], kind="stable")  # so that folds are views
    X, Y, w, d = X[seen[order]], Y[order], weight[order] / weight.sum(), X.shape[1]
    center = w @ X
    X -= center
    edges = np.searchsorted(folds[seen[order]], np.arange(n_folds + 1))
    parts = [slice(*edge) for edge in pairwise(edges)]
    grams, products = np.empty((n_folds, d, d)), np.empty((n_folds, d, Y.shape[1]))
    for m, part in enumerate(parts):
        weighted = X[part].T * w[part]
        grams[m], products[m] = weighted @ X[part], weighted @ Y[part]
    grams, products = grams.sum(axis=0) - grams, products.sum(axis=0) - products
    weights = _without_each(np.array([w[part].sum() for part in parts]))
    of_X, of_Y = (
        _without_each(np.stack([w[part] @ values[part] for part in parts]))
        / np.where(weights > 0, weights, 1)[:, None]
        for values in (X, Y)
    )
    for m in range(n_folds):
        grams[m] -= weights[m] * of_X[m, :, None] * of_X[m]
        products[m] -= weights[m] * of_X[m, :, None] * of_Y[m]
    least = np.full(Y.shape[1], np.inf)
    coefficients = np.empty_like(products)
    predicted = np.empty_like(Y)
    for penalty in PENALTIES:
        system = grams + penalty * np.eye(d)
        pairs = zip(system, products, strict=True)
        found = np.stack([solve(a, b, assume_a="pos") for a, b in pairs])
        for m, part in enumerate(parts):
            predicted[part] = X[part] @ found[m] + (of_Y[m] - of_X[m] @ found[m])
        errors = w @ (Y - predicted) ** 2
        better = errors < least
        least[better], coefficients[..., better] = errors[better], found[..., better]
    return of_Y - np.einsum("md,mdk->mk", of_X + center, coefficients), coefficients


def _without_each(sums: FloatArray) -> FloatArray:
    """Return the sums (n_folds, ...) of all others: all less its own would be full of rounding."""
    return np.stack([np.delete(sums, m, axis=0).sum(axis=0) for m in range(len(sums))])


def mix(
    aa: FloatArray, ab: FloatArray, bb: FloatArray, ay: FloatArray, by: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Shares of network and line, from 0 and in all at most 1, that predict each task best [1]_.

    Parameters
    ----------
    aa, ab, bb, ay, by : ndarray of shape (n_tasks,)
        Mean products of the deviations from their means of network (a), line (b) and targets (y).

    Returns
    -------
    network_share, line_share : ndarray of shape (n_tasks,)

    References
    ----------
    .. [1] L. Breiman, "Stacked Regressions", Machine Learning 24, 1996.
    """
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
