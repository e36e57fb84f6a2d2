"""How much to believe: outputs are shrunk, and lines mixed in, by rows that members left out."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from sklearn_mtl._data.targets import EncodedTargets, TargetEncoder
from sklearn_mtl._training.line import find_lines, mix
from sklearn_mtl._training.net import TaskNet
from sklearn_mtl._training.plan import Plan
from sklearn_mtl._training.run import rescale_outputs

__all__ = ["calibrate"]

FloatArray = NDArray[np.float64]

# With more rows, what is found on all of them is as good as found on others.
CROSS_FIT_ROWS = 50_000


class Shares(NamedTuple):
    """What is made of raw outputs: multiplied by `slope`, plus `shift`, and of lines a share.

    The first two are of shape (n_outputs,), `lines` is by the position of the task.
    """

    slope: FloatArray
    shift: FloatArray
    lines: dict[int, float]


def calibrate(plan: Plan, net: TaskNet, raw: NDArray[Any]) -> NDArray[Any]:
    """Shrink the outputs of the net and mix lines in, as far as rows that were left out ask for.

    Parameters
    ----------
    plan : Plan
        Whose members leave out folds.
    net : TaskNet
        Trained; its heads are changed.
    raw : ndarray of shape (n, M, n_outputs)
        Raw outputs of all members on the rows that were trained on.

    Returns
    -------
    left_out : ndarray of shape (n, n_outputs)
        Outputs of members on the rows that they left out. What is made of a fold was found on the
        others: else noise would explain itself, if there are few rows.
    """
    assert plan.folds is not None
    folds, targets = plan.folds, plan.trained_targets
    raw = np.take_along_axis(raw, folds[:, None, None], axis=1)[:, 0].astype(np.float64)
    heads: Any = net.module_.heads
    if not (heads.weight.requires_grad and heads.bias.requires_grad):
        return raw
    # Of a task that was observed in one fold, who leaves that out knows nothing.
    compared = np.array([len(np.unique(folds[w > 0])) > 1 for w in targets.weight.T])
    places, lines = find_lines(plan, net)
    lines = {k: line for k, line in lines.items() if compared[k]}
    straight = np.full((len(raw), len(plan.encoder.kinds_)), np.nan)
    for k, line in lines.items():
        straight[places, k] = line.left_out
    find = functools.partial(_find_shares, plan.encoder, compared, lines)
    shares = find(raw, straight, targets)
    out = _made_of(plan, raw, straight, shares)
    if len(raw) <= CROSS_FIT_ROWS:
        for m in range(plan.n_folds):
            of_fold = folds == m
            rest = targets.take(~of_fold)
            if of_fold.any() and (rest.weight[:, compared] > 0).any(axis=0).all():
                found = find(raw[~of_fold], straight[~of_fold], rest)
                out[of_fold] = _made_of(plan, raw[of_fold], straight[of_fold], found)
    rescale_outputs(net, shares.slope, shares.shift)
    starts = np.cumsum([0, *plan.encoder.n_outputs])
    with torch.no_grad():
        for k, share in shares.lines.items():
            weight, bias = share * lines[k].coefficients, share * lines[k].intercepts
            heads.add(
                int(starts[k]), *(torch.from_numpy(p).to(heads.weight) for p in (weight, bias))
            )
    return out


def _find_shares(
    encoder: TargetEncoder,
    compared: NDArray[np.bool_],
    lines: Iterable[int],
    raw: FloatArray,
    straight: FloatArray,
    targets: EncodedTargets,
) -> Shares:
    """Find what predicts the targets best; lines only where they are known, in `straight`.

    Tasks that are not `compared` stay as they are.
    """
    known = np.isfinite(straight) & (targets.weight > 0)
    tasks = np.array([k for k in lines if known[:, k].any()], dtype=np.intp)
    but = {*tasks.tolist(), *np.flatnonzero(~compared).tolist()}
    slope, shift = encoder.shrink(raw, targets, but)
    if not len(tasks):
        return Shares(slope, shift, {})
    at = np.cumsum([0, *encoder.n_outputs])[tasks]
    weight = np.where(known, targets.weight, 0)[:, tasks]
    weight /= weight.sum(axis=0)
    line = np.where(known, straight, 0)[:, tasks]
    parts = np.stack([raw[:, at], line, targets.values[:, tasks]])
    means = (weight * parts).sum(axis=1)
    network, straight_line, truth = parts - means[:, None]
    slope[at], shares = mix(network, straight_line, truth, weight)
    shift[at] = means[2] - slope[at] * means[0] - shares * means[1]
    return Shares(slope, shift, dict(zip(tasks.tolist(), shares.tolist(), strict=True)))


def _made_of(plan: Plan, raw: FloatArray, straight: FloatArray, shares: Shares) -> FloatArray:
    """Return what becomes of raw outputs; where a line is not known, its share is the network's."""
    out = raw * shares.slope + shares.shift
    starts = np.cumsum([0, *plan.encoder.n_outputs])
    for k, share in shares.lines.items():
        known = np.isfinite(straight[:, k])
        instead = share * raw[:, starts[k]]
        out[:, starts[k]] += np.where(known, share * straight[:, k], instead)
    return out
