"""How much to believe: outputs are shrunk, and lines mixed in, by rows that members left out."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from sklearn_mtl._data.encoded import EncodedTargets
from sklearn_mtl._data.targets import TargetEncoder
from sklearn_mtl._training.line import Lines, find_lines, mix, unclipped
from sklearn_mtl._training.net import TaskNet
from sklearn_mtl._training.plan import Plan
from sklearn_mtl._training.run import rescale_outputs
from sklearn_mtl.networks import MemberHeads

__all__ = ["Calibrated", "calibrate"]

FloatArray = NDArray[np.float64]

# With more rows, what is found on all of them is as good as found on others.
CROSS_FIT_ROWS = 50_000

# Lines over inputs that are not clipped take the place of others if they leave less than this part
# of the squared errors, and what they gain is more than its standard error, than what one row or
# group gains alone, and than this part of the variance: what is all but exact stays as it is.
LEFT, GAIN = 0.8, 1e-3

BLOCK = 2**16  # rows whose outputs are made at once
VALUES = 2**20  # cells of tasks for which shares are found at once


class Shares(NamedTuple):
    """What is made of raw outputs: multiplied by `slope`, plus `shift`, and of lines a share.

    Attributes
    ----------
    slope, shift : ndarray of shape (n_outputs,)
    lines : ndarray of shape (n_outputs,)
        Share of the line of the task whose first output it is; 0 without one.
    """

    slope: FloatArray
    shift: FloatArray
    lines: FloatArray


class Calibrated:
    """Outputs of rows that members left out, shrunk and mixed with lines: made when asked for.

    Of many tasks, those of all rows would be as large as y in float64, time and again.

    Parameters
    ----------
    raw : ndarray of shape (n, n_outputs)
        Raw outputs of the member that left the row out.
    made_of : ndarray of int of shape (n,)
        Which of the `shares` belong to a row.
    shares : list of Shares
    lines : Lines or None
    starts : sequence of int
        First output of each task.
    """

    def __init__(
        self,
        raw: NDArray[Any],
        made_of: NDArray[np.intp],
        shares: Sequence[Shares],
        lines: Lines | None,
        starts: Sequence[int],
    ) -> None:
        self.raw, self.made_of, self.lines = raw, made_of, lines
        self.shares = Shares(*(np.stack(parts) for parts in zip(*shares, strict=True)))
        # Which line is that of an output.
        self.line_of = {starts[k]: i for i, k in enumerate([] if lines is None else lines.tasks)}

    def part(self, outputs: slice, rows: Any) -> FloatArray:
        """Return some outputs (n, width) of some rows; where no line is known, the network is."""
        rows = np.arange(len(self.raw))[rows] if isinstance(rows, slice) else rows
        out = np.empty((len(rows), len(range(*outputs.indices(self.raw.shape[1])))))
        for at in range(0, len(rows), BLOCK):
            out[at : at + BLOCK] = self._block(outputs, rows[at : at + BLOCK])
        return out

    def _block(self, outputs: slice, rows: NDArray[np.intp]) -> FloatArray:
        raw, of = self.raw[rows, outputs].astype(np.float64), self.made_of[rows]
        slope, shift, share = (part[:, outputs] for part in self.shares)
        out: FloatArray = raw * slope[of] + shift[of]
        columns = [o for o in range(*outputs.indices(self.raw.shape[1])) if o in self.line_of]
        if columns and self.lines is not None:
            line = self.lines.left_out([self.line_of[o] for o in columns], rows)
            columns = [o - outputs.start for o in columns]
            known = np.isfinite(line)
            out[:, columns] += share[:, columns][of] * np.where(known, line, raw[:, columns])
        return out


def calibrate(plan: Plan, net: TaskNet, raw: NDArray[Any]) -> NDArray[Any] | Calibrated:
    """Shrink the outputs of the net and mix lines in, as far as rows that were left out ask for.

    Parameters
    ----------
    plan : Plan
        Whose members leave out folds.
    net : TaskNet
        Trained; its heads are changed.
    raw : ndarray of shape (n, n_outputs)
        Raw outputs of members on the rows that they left out.

    Returns
    -------
    calibrated : ndarray or Calibrated
        The same, as they are then. What is made of a fold was found on the others: else noise would
        explain itself, if there are few rows.
    """
    assert plan.folds is not None
    folds, targets = plan.folds, plan.trained_targets
    heads: Any = net.module_.heads
    if not (heads.weight.requires_grad and heads.bias.requires_grad):
        return raw
    starts = np.cumsum([0, *plan.encoder.n_outputs]).tolist()
    lines = find_lines(plan, net)
    # Of a task that was observed in one fold, who leaves that out knows nothing.
    seen = (targets.cells(k).rows for k in range(targets.shape[1]))
    compared = np.array([len(np.unique(folds[rows])) > 1 for rows in seen])
    if lines is not None:
        lines = lines.some([i for i, k in enumerate(lines.tasks) if compared[k]])
        lines = _as_far_as_asked(plan, net, lines, raw, starts)
    straight = _at_cells(lines, targets)
    find = functools.partial(_find_shares, plan.encoder, compared, straight, raw, targets)
    shares = find(None)
    found, made_of = [shares], np.zeros(len(raw), dtype=np.intp)
    if len(raw) <= CROSS_FIT_ROWS:
        for m in range(plan.n_folds):
            of_fold = folds == m
            outside = (
                not of_fold[targets.cells(k).rows].all() for k in np.flatnonzero(compared).tolist()
            )
            if of_fold.any() and all(outside):
                made_of[of_fold] = len(found)
                found.append(find(~of_fold))
    rescale_outputs(net, shares.slope, shares.shift)
    if lines is not None:
        _add_lines(net.module_, lines, shares, starts)
    return Calibrated(raw, made_of, found, lines, starts)


def _as_far_as_asked(
    plan: Plan, net: TaskNet, lines: Lines, raw: NDArray[Any], starts: Sequence[int]
) -> Lines:
    """Return lines over inputs that are not clipped, for tasks whose rows left out ask for that."""
    others = unclipped(plan, net, lines) if lines.tasks else None
    if others is None:
        return lines
    assert plan.alike is not None
    targets, which = plan.trained_targets, []
    for i, k in enumerate(lines.tasks):
        rows, truth, weight, _ = targets.cells(k)
        clipped, free = (of.left_out([i], rows)[:, 0] for of in (lines, others))
        known = np.isfinite(clipped)
        clipped, free, truth, weight = (part[known] for part in (clipped, free, truth, weight))
        if weight @ (truth - free) ** 2 >= LEFT * (weight @ (truth - clipped) ** 2):
            continue  # at once, as of nearly all tasks
        network = raw[rows, starts[k]][known]
        before, now = (_squares(network, line, truth, weight) for line in (clipped, free))
        if _is_much_less(now, before, truth, weight, plan.alike[rows][known]):
            which.append(i)
    return lines.beside(others, which) if which else lines


def _squares(
    network: FloatArray, line: FloatArray, truth: FloatArray, weight: FloatArray
) -> FloatArray:
    """Squared errors (n,) of a task, of network and line in their best shares."""
    slope, share, shift = _mixed([(network, line, truth, weight)])
    squares: FloatArray = (truth - slope * network - share * line - shift) ** 2
    return squares


def _is_much_less(
    now: FloatArray,
    before: FloatArray,
    truth: FloatArray,
    weight: FloatArray,
    groups: NDArray[np.intp],
) -> bool:
    """Tell whether squared errors (n,) of rows in groups are much less than they were before."""
    _, group = np.unique(groups, return_inverse=True)
    weight = weight / weight.sum()
    mass = np.bincount(group, weight)
    left, gained = (np.bincount(group, weight * part) for part in (now, before - now))
    gain = gained.sum()
    apart = gained - mass * gain
    beyond_chance = gain**2 * (1 - mass @ mass) > apart @ apart and gain > gained.max()
    variance = weight @ (truth - weight @ truth) ** 2
    much = left.sum() < LEFT * (left.sum() + gain) and gain > GAIN * variance
    return bool(beyond_chance and much)


def _add_lines(module: Any, lines: Lines, shares: Shares, starts: Sequence[int]) -> None:
    """Add the shares of lines to the heads."""
    heads: MemberHeads = module.heads
    coefficients = lines.coefficients
    if lines.bounds is not None:
        module.widen(torch.from_numpy(lines.bounds))
        units = module.trunk.units.double().cpu().numpy()
        coefficients = coefficients * np.concatenate([np.ones_like(units), units])[:, None]
    with torch.no_grad():
        for i, k in enumerate(lines.tasks):
            share = shares.lines[starts[k]]
            parts = share * coefficients[..., i], share * lines.intercepts[:, i]
            heads.add(starts[k], *(torch.from_numpy(p).to(heads.weight) for p in parts))


def _at_cells(lines: Lines | None, targets: EncodedTargets) -> dict[int, FloatArray]:
    """Predict by lines the observed cells of each task that has one; NaN where not known."""
    if lines is None:
        return {}
    return {k: lines.left_out([i], targets.cells(k).rows)[:, 0] for i, k in enumerate(lines.tasks)}


class _Some:
    """Some of the rows of raw outputs."""

    def __init__(self, raw: NDArray[Any], rows: NDArray[np.intp]) -> None:
        self.raw, self.rows = raw, rows

    def part(self, outputs: slice, rows: Any) -> NDArray[Any]:
        """Return some outputs of some of them."""
        return self.raw[self.rows[rows], outputs]


def _find_shares(
    encoder: TargetEncoder,
    compared: NDArray[np.bool_],
    straight: dict[int, FloatArray],
    raw: NDArray[Any],
    targets: EncodedTargets,
    rest: NDArray[np.bool_] | None,
) -> Shares:
    """Find what predicts the targets best, in all rows or the `rest`.

    Lines only where they are known, in `straight`. Tasks that are not `compared` stay as they are.
    """
    known = {k: np.isfinite(line) for k, line in straight.items()}
    if rest is not None:
        known = {k: where & rest[targets.cells(k).rows] for k, where in known.items()}
    tasks = [k for k, where in known.items() if where.any()]
    but = {*tasks, *np.flatnonzero(~compared).tolist()}
    if rest is None:
        slope, shift = encoder.shrink(raw, targets, but)
    else:
        some = _Some(raw, np.flatnonzero(rest))
        slope, shift = encoder.shrink(some, targets.take(rest), but)
    lines = np.zeros_like(slope)
    starts = np.cumsum([0, *encoder.n_outputs])
    step = max(1, VALUES * max(1, len(tasks)) // max(1, sum(len(known[k]) for k in tasks)))
    for of_step in (tasks[at : at + step] for at in range(0, len(tasks), step)):
        at = starts[of_step]
        parts: list[tuple[FloatArray, ...]] = []
        for k in of_step:
            cells, of = targets.cells(k), known[k]
            network = raw[cells.rows[of], starts[k]]
            parts.append((network, straight[k][of], cells.values[of], cells.weight[of]))
        slope[at], lines[at], shift[at] = _mixed(parts)
    return Shares(slope, shift, lines)


def _mixed(cells: list[tuple[FloatArray, ...]]) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Shares of network and line, and shift (n_tasks,), of the observed cells of each task.

    These are of the network, the line and the targets, with weights.
    """
    sizes = [len(weight) for *_, weight in cells]
    ends, task = np.cumsum(sizes)[:-1], np.repeat(np.arange(len(cells)), sizes)
    network, line, truth, weight = (
        np.concatenate(part).astype(np.float64) for part in zip(*cells, strict=True)
    )

    def total(values: FloatArray) -> FloatArray:
        return np.array([part.sum() for part in np.split(values, ends)])

    weight = weight / total(weight)[task]
    means = [total(weight * part) for part in (network, line, truth)]
    a, b, y = (part - mean[task] for part, mean in zip((network, line, truth), means, strict=True))
    pairs = [(a, a), (a, b), (b, b), (a, y), (b, y)]
    slope, share = mix(*(total(weight * p * q) for p, q in pairs))
    return slope, share, means[2] - slope * means[0] - share * means[1]
