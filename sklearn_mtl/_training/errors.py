"""What intervals and sets are made of: the errors of rows that a fit left out, and their scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from sklearn_mtl._data.inputs import as_input
from sklearn_mtl._data.rows import Samples, check_groups
from sklearn_mtl._data.tables import Column
from sklearn_mtl._data.targets import TargetEncoder
from sklearn_mtl._intervals import (
    FARTHEST,
    N_QUANTILES,
    Errors,
    errors_of_none,
    scales,
    spread_of,
)
from sklearn_mtl._predict import predict_raw
from sklearn_mtl._training.net import TaskNet
from sklearn_mtl._training.plan import Plan
from sklearn_mtl.kinds import Kind, UnobservedTarget
from sklearn_mtl.kinds.values import are_numbers

__all__ = ["Unseen", "column_of", "errors_left_out", "errors_of_validation", "measure_errors"]

FloatArray = NDArray[np.float64]

ENOUGH = 10_000  # rows of a task: of more, coverage could not be known better
PRIOR_ROWS = 16  # as many say that all rows have the same scale
# How much nearer the members of an ensemble may be to one another on rows that they have seen than
# on others, as a ratio of squares: beyond, what is said of the others is a guess.
NEAREST = 0.25


class Unseen(NamedTuple):
    """Rows with their targets, and what was predicted by models that had not seen them.

    Attributes
    ----------
    columns : sequence of Column
        Targets of each task.
    weight : ndarray of shape (n, n_tasks)
        Of each cell.
    groups : ndarray of int of shape (n,)
        Rows of one group count as one.
    raw : ndarray of shape (n, n_outputs) or (n, M, n_outputs)
        Raw outputs.
    members : ndarray of shape (n_drawn, M, n_outputs) or None
        Raw outputs of all members on some of the rows, if `raw` is that of a single one each time.
    drawn : ndarray of int of shape (n_drawn,) or None
        Which rows.
    folds : ndarray of int of shape (n,) or None
        Which member had not seen a row.
    """

    columns: Sequence[Column]
    weight: FloatArray
    groups: NDArray[np.intp]
    raw: NDArray[Any]
    members: NDArray[Any] | None = None
    drawn: NDArray[np.intp] | None = None
    folds: NDArray[np.intp] | None = None


def errors_left_out(
    plan: Plan, net: TaskNet, columns: Sequence[Column], weight: FloatArray, raw: NDArray[Any]
) -> Errors:
    """Measure the errors on the rows that were trained on, each by the member that left it out.

    Parameters
    ----------
    plan : Plan
        Whose members leave out folds.
    net : TaskNet
        Trained, and calibrated.
    columns, weight
        Targets of the rows that were trained on, and the weight of each cell.
    raw : ndarray of shape (n, n_outputs)
        Outputs of members on the rows that they left out.
    """
    assert plan.alike is not None
    drawn = _draw_rows(plan.encoder, columns, plan.seed)
    members = None
    if len(drawn):
        members = predict_raw(
            net.module_, plan.source, plan.rows[drawn], net.device, net.amp_dtype_
        )
    unseen = Unseen(columns, weight, plan.alike, raw, members, drawn, plan.folds)
    return measure_errors(plan.encoder, unseen)


def errors_of_validation(
    plan: Plan, net: TaskNet, samples: Samples, validation: Samples | None
) -> Errors:
    """Measure the errors on validation data, or else on the rows held out; empty without both."""
    if validation is not None:
        columns, weight = plan.encoder.read(validation.y, validation.sample_weight)
        source, rows = plan.reader.of(as_input(validation.X)), np.arange(len(weight))
        groups = rows
    elif plan.held_out is not None:
        columns, weight = plan.encoder.read(samples.y, samples.sample_weight)
        source, rows = plan.source, plan.held_out
        columns, weight = [column_of(c, rows) for c in columns], weight[rows]
        told = check_groups(samples.groups, len(plan.targets.weight))
        groups = rows if told is None else told[rows]
    else:
        return {}
    raw = predict_raw(net.module_, source, rows, net.device, net.amp_dtype_)
    return measure_errors(plan.encoder, Unseen(columns, weight, groups, raw))


def column_of(column: Column, rows: NDArray[np.intp]) -> Column:
    """Return some rows of a column."""
    return column._replace(values=column.values[rows], seen=column.seen[rows])


def _draw_rows(encoder: TargetEncoder, columns: Sequence[Column], seed: int) -> NDArray[np.intp]:
    """Draw rows with enough observed numbers of each task, all of them where there are fewer."""
    n = len(columns[0].seen)
    order = np.random.default_rng(seed).permutation(n) if n > ENOUGH else np.arange(n)
    drawn = np.zeros(n, dtype=bool)
    for kind, column in zip(encoder.kinds_, columns, strict=True):
        if not kind.is_class:
            drawn[order[column.seen[order]][:ENOUGH]] = True
    return np.flatnonzero(drawn)


def measure_errors(encoder: TargetEncoder, unseen: Unseen) -> Errors:
    """Measure the errors of each task, of which `sklearn_mtl._intervals` makes intervals."""
    errors = errors_of_none(len(encoder.names))
    for k, kind in enumerate(encoder.kinds_):
        seen = unseen.columns[k].seen
        if isinstance(kind, UnobservedTarget) or not seen.any():
            continue
        if kind.is_class:
            of_task = _errors_of_class(encoder, k, unseen, np.flatnonzero(seen))
        elif are_numbers(unseen.columns[k].values[seen]):
            of_task = _errors_of_number(encoder, k, unseen)
        else:
            continue
        for name, value in of_task.items():
            errors[name][k] = value
    return errors


def _errors_of_class(
    encoder: TargetEncoder, k: int, unseen: Unseen, rows: NDArray[np.intp]
) -> dict[str, Any]:
    kind: Any = encoder.kinds_[k]
    proba = kind.proba(encoder.part_of(unseen.raw[rows], k))
    codes = kind.encode(unseen.columns[k].values[rows]).astype(int)
    scores = kind.strangeness(proba)[np.arange(len(rows)), codes]
    weight = unseen.weight[rows, k] / unseen.weight[rows, k].max()
    n = len(np.unique(unseen.groups[rows]))
    return {"n": n, "quantiles": _quantiles(scores, weight)}


def _errors_of_number(encoder: TargetEncoder, k: int, unseen: Unseen) -> dict[str, Any]:
    kind, column = encoder.kinds_[k], unseen.columns[k]
    rows = np.arange(len(unseen.raw)) if unseen.drawn is None else unseen.drawn
    inside = column.seen[rows]
    rows = rows[inside]
    part, values = encoder.part_of(unseen.raw[rows], k), column.values[rows].astype(np.float64)
    error = values - kind.decode(part)
    weight = unseen.weight[rows, k] / unseen.weight[rows, k].max()
    unit = float(np.average(np.abs(error), weights=weight)) or 1.0
    if unseen.members is None or unseen.folds is None:
        predictions, seen_by, nearness = _of_members(kind, part), None, 1.0
    else:
        members = _of_members(kind, encoder.part_of(unseen.members[inside], k))
        seen_by = unseen.folds[rows, None] != np.arange(members.shape[1])
        predictions = members[seen_by].reshape(len(rows), -1)
        nearness = _nearness((values[:, None] - predictions) / unit, error / unit, weight)
    spread = spread_of(predictions / np.sqrt(nearness), unit)
    n = len(np.unique(unseen.groups[rows]))
    features = np.column_stack([part[..., kind.scale_output].mean(axis=1), spread])
    found = _scale(features, error / unit, weight, PRIOR_ROWS / n)
    of_scale = scales(features, *found.values())
    scaled = error / unit / of_scale
    below, above = _sides(scaled, weight)
    scores = np.where(scaled < 0, -scaled / below, scaled / above)
    gain = 1.0
    if seen_by is not None and predictions.shape[1] > 1:
        gain = _gain_of_mean(predictions / unit, error / unit, weight, nearness)
    return {
        "n": n,
        "quantiles": _quantiles(scores, weight),
        "ends": np.array([below, above]) * unit * gain,
        "std": np.sqrt(np.average(scaled**2, weights=weight)) * unit * gain,
        "unit": unit,
        **found,
    }


def _of_members(kind: Kind, part: FloatArray) -> FloatArray:
    """Predictions (n, M) of each member by itself."""
    return np.column_stack([kind.decode(part[:, [m]]) for m in range(part.shape[1])])


# -- members on rows that they have seen, and have not -------------------------------------------


def _nearness(seen: FloatArray, unseen: FloatArray, weight: FloatArray) -> float:
    """Ratio of squares of errors on rows that members have seen (n, M - 1), or not (n,).

    It is that of the variances between members too: where predictions are linear in the targets,
    seeing a row multiplies by 1 - h, with its leverage h, both what is left of its own error and
    how far apart those are who have seen it (the identity behind the leave-one-out formula [1]_).

    References
    ----------
    .. [1] D. M. Allen, "The Relationship Between Variable Selection and Data Augmentation and a
       Method for Prediction", Technometrics 16, 1974.
    """
    of_seen = np.average(np.abs(seen).mean(axis=1), weights=weight)
    of_unseen = np.average(np.abs(unseen), weights=weight)
    if of_unseen == 0:
        return 1.0
    return float(np.clip((of_seen / of_unseen) ** 2, NEAREST, 1))


def _gain_of_mean(
    predictions: FloatArray, error: FloatArray, weight: FloatArray, nearness: float
) -> float:
    """Ratio of the error of the mean over members to that of a single one.

    The part of the squared error that differs from member to member shrinks by their number.
    """
    n_members = predictions.shape[1] + 1
    apart = np.average(predictions.var(axis=1, ddof=1), weights=weight) / nearness
    square = np.average(error**2, weights=weight)
    part = apart / square if square > 0 else 0.0
    return float(np.sqrt(np.clip(1 - (1 - 1 / n_members) * part, NEAREST, 1)))


# -- scale, sides and quantiles ------------------------------------------------------------------


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


def _quantiles(scores: FloatArray, weight: FloatArray) -> FloatArray:
    """Weighted quantiles of the scores."""
    order = np.argsort(scores, kind="stable")
    total = np.cumsum(weight[order])
    wanted = np.arange(1, N_QUANTILES + 1) / N_QUANTILES * total[-1]
    place = np.searchsorted(total, wanted * (1 - 1e-12)).clip(max=len(scores) - 1)
    return scores[order[place]]
