"""What intervals and sets are made of: the errors of rows that a fit left out, and their scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sklearn_mtl._data.decoding import RawOutputs
from sklearn_mtl._data.fused import as_inputs
from sklearn_mtl._data.rows import Samples, check_groups, weights_of_rows
from sklearn_mtl._data.tables import Column
from sklearn_mtl._data.targets import TargetEncoder
from sklearn_mtl._intervals import (
    N_QUANTILES,
    Errors,
    errors_of_none,
    log_of,
    scales,
    spread_of,
)
from sklearn_mtl._training.dealing import equal_rows
from sklearn_mtl._training.left_out import members_at, raw_of
from sklearn_mtl._training.likeliest import likeliest
from sklearn_mtl._training.measure import (
    PRIOR_ROWS,
    ErrorRows,
    find_measure,
    scores_left_out,
)
from sklearn_mtl._training.net import TaskNet
from sklearn_mtl._training.plan import Plan
from sklearn_mtl.kinds import Kind, UnobservedTarget
from sklearn_mtl.kinds.bounds import are_bounds

__all__ = [
    "Unseen",
    "effective_size",
    "errors_left_out",
    "errors_of_validation",
    "measure_errors",
]

FloatArray = NDArray[np.float64]

ENOUGH = 10_000  # rows of a task: of more, coverage could not be known better
FEW = 10  # targets of a task: of less, its noise is known by chance
N_FOLDS = 5  # of rows on which a network was validated
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
    alike : ndarray of int of shape (n,)
        The same for equal rows, which count as one that weighs more.
    raw : ndarray of shape (n, n_outputs) or (n, M, n_outputs), or RawOutputs
        Raw outputs.
    members : ndarray of shape (n_drawn, M, n_outputs), RawOutputs or None
        Raw outputs of all members on some of the rows, if `raw` is that of a single one each time.
    drawn : ndarray of int of shape (n_drawn,) or None
        Which rows.
    folds : ndarray of int of shape (n,) or None
        Which member had not seen a row.
    """

    columns: Sequence[Column]
    weight: FloatArray
    groups: NDArray[np.intp]
    alike: NDArray[np.intp]
    raw: NDArray[Any] | RawOutputs
    members: NDArray[Any] | RawOutputs | None = None
    drawn: NDArray[np.intp] | None = None
    folds: NDArray[np.intp] | None = None


def errors_left_out(
    plan: Plan,
    net: TaskNet,
    columns: Sequence[Column],
    weight: FloatArray,
    raw: NDArray[Any] | RawOutputs,
    has_groups: bool,
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
    has_groups : bool
        Whether the user has passed groups.
    """
    assert plan.alike is not None
    drawn = _draw_rows(plan.encoder, columns, plan.seed)
    members = None
    if len(drawn):
        members = members_at(plan, net, columns, drawn)
    alike = plan.alike
    if has_groups:
        alike = equal_rows(plan.reader, plan.source, plan.targets, plan.rows, plan.group)
    unseen = Unseen(columns, weight, plan.alike, alike, raw, members, drawn, plan.folds)
    return measure_errors(plan.encoder, unseen)


def errors_of_validation(
    plan: Plan, net: TaskNet, samples: Samples, validation: Samples | None
) -> tuple[Errors, FloatArray]:
    """Measure the errors on validation data, or else on the rows held out; empty without both.

    Returns
    -------
    errors : dict
        What intervals are made of.
    noise : ndarray of shape (n_tasks,)
        As `TargetEncoder.noise_std` returns it; NaN where hardly any target of a task is observed
        in these rows, from which its noise would be known by chance.
    """
    if validation is not None:
        columns, weight = plan.encoder.read(validation.y, validation.sample_weight)
        targets = plan.encoder.encode(validation.y, validation.sample_weight)
        source, rows = plan.reader.of(as_inputs(validation.X)), np.arange(len(weight))
        groups = None
    elif plan.held_out is not None:
        columns, weight = plan.encoder.read(samples.y, samples.sample_weight)
        source, rows, targets = plan.source, plan.held_out, plan.targets
        columns, weight = [column.take(rows) for column in columns], weights_of_rows(weight, rows)
        groups = check_groups(samples.groups, len(plan.targets))
    else:
        return {}, np.full(len(plan.encoder.names), np.nan)
    alike = equal_rows(plan.reader, source, targets, rows, plan.group)
    raw = raw_of(plan, net, source, rows)
    together = alike if groups is None else groups[rows]
    errors = measure_errors(plan.encoder, Unseen(columns, weight, together, alike, raw))
    targets = targets.take(rows)
    noise = plan.encoder.noise_std(raw, targets)
    return errors, np.where(targets.counts >= FEW, noise, np.nan)


def _draw_rows(encoder: TargetEncoder, columns: Sequence[Column], seed: int) -> NDArray[np.intp]:
    """Draw rows with enough observed numbers of each task, all of them where there are fewer."""
    n = columns[0].n_rows
    order = np.random.default_rng(seed).permutation(n) if n > ENOUGH else np.arange(n)
    drawn = np.zeros(n, dtype=bool)
    for kind, column in zip(encoder.kinds_, columns, strict=True):
        if kind.is_class:
            continue
        rows = column.rows
        drawn[rows if len(rows) <= ENOUGH else order[column.seen[order]][:ENOUGH]] = True
    return np.flatnonzero(drawn)


def measure_errors(encoder: TargetEncoder, unseen: Unseen) -> Errors:
    """Measure the errors of each task, of which `sklearn_mtl._intervals` makes intervals."""
    errors = errors_of_none(len(encoder.names))
    for k, kind in enumerate(encoder.kinds_):
        rows = unseen.columns[k].rows
        if isinstance(kind, UnobservedTarget) or not len(rows):
            continue
        if kind.is_class:
            of_task = _errors_of_class(encoder, k, unseen, rows)
        else:
            of_task = _errors_of_number(encoder, k, unseen)
        for name, value in of_task.items():
            errors[name][k] = value
    return errors


def _errors_of_class(
    encoder: TargetEncoder, k: int, unseen: Unseen, rows: NDArray[Any]
) -> dict[str, Any]:
    kind: Any = encoder.kinds_[k]
    proba = kind.proba(encoder.part_of(unseen.raw, k, rows))
    codes = kind.encode(unseen.columns[k].observed).astype(int)
    scores = kind.strangeness(proba)[np.arange(len(rows)), codes]
    weight = unseen.weight[rows, k] / unseen.weight[rows, k].max()
    n = effective_size(weight, unseen.groups[rows], unseen.alike[rows])
    return {"n": n, "quantiles": _quantiles(scores, weight)}


def effective_size(weight: FloatArray, groups: NDArray[np.intp], alike: NDArray[np.intp]) -> float:
    r"""As how many groups of equal weight these rows count: :math:`(\sum m)^2 / \sum m^2`.

    A new row is one more, as heavy as one drawn by weight is in the mean,
    :math:`\sum m^2 / \sum m`: that share of the mass of all has to be left to it [1]_. The mass
    m of a group is the mean over its rows, of which equal ones are one, with the sum of their
    weights: to weigh 2 is to be there twice, and to be a large group is not to weigh more.

    Parameters
    ----------
    weight : ndarray of shape (n,)
    groups : ndarray of int of shape (n,)
    alike : ndarray of int of shape (n,)
        The same for equal rows.

    References
    ----------
    .. [1] R. J. Tibshirani, R. F. Barber, E. J. Candès, A. Ramdas, "Conformal Prediction Under
       Covariate Shift", NeurIPS 2019.
    """
    pair = groups * (alike.max() + 1) + alike
    _, first, row = np.unique(pair, return_index=True, return_inverse=True)
    _, group = np.unique(groups[first], return_inverse=True)
    mass = np.bincount(group, np.bincount(row, weight)) / np.bincount(group)
    mass = mass / mass.max()
    return float(mass.sum() ** 2 / (mass**2).sum())


# -- errors of numbers ---------------------------------------------------------------------------


def _errors_of_number(encoder: TargetEncoder, k: int, unseen: Unseen) -> dict[str, Any]:
    kind, column = encoder.kinds_[k], unseen.columns[k]
    seen = column.seen
    inside = np.flatnonzero(seen if unseen.drawn is None else seen[unseen.drawn])
    rows = inside if unseen.drawn is None else unseen.drawn[inside]
    weight = unseen.weight[rows, k] / unseen.weight[rows, k].max()
    _, groups = np.unique(unseen.groups[rows], return_inverse=True)
    low, high = _ends(column.values[rows])
    closed = np.isfinite(low) & np.isfinite(high)
    if not closed.any():
        return {}  # beyond bounds on one side, errors may be of any size
    n = effective_size(weight[closed], groups[closed], unseen.alike[rows][closed])
    part = encoder.part_of(unseen.raw, k, rows)
    found = kind.decode(part)
    if (low == getattr(kind, "mean_", np.nan)).all() and (high == low).all():
        return _errors_of_constant(n, low - found, weight)
    found, low, high = (_measured(kind, values) for values in (found, low, high))
    error = (low - found, high - found)
    unit = float(np.average(np.abs(error[0][closed]), weights=weight[closed])) or 1.0
    if unseen.members is None or unseen.folds is None:
        predictions, nearness, folds = _of_members(kind, part), 1.0, groups % N_FOLDS
    else:
        folds = unseen.folds[rows]
        members = _of_members(kind, encoder.part_of(unseen.members, k, inside))
        predictions = members[folds[:, None] != np.arange(members.shape[1])].reshape(len(rows), -1)
        exact = low == high
        apart = (low[exact, None] - predictions[exact]) / unit
        nearness = _nearness(apart, error[0][exact] / unit, weight[exact])
    spread = spread_of(predictions / np.sqrt(nearness), unit)
    features = np.column_stack([part[..., kind.scale_output].mean(axis=1), spread])
    known = ErrorRows(error[0] / unit, error[1] / unit, weight, n, features)
    measure = find_measure(known)
    of_scale = scales(features, *measure.scale.values())
    atoms = known.over(of_scale)
    gain = 1.0
    if unseen.members is not None and predictions.shape[1] > 1:
        size = np.sqrt(known.expected(of_scale, atoms, 2))
        gain = _gain_of_mean(predictions / unit, size, weight, nearness)
        gain = float(np.sqrt((n * gain**2 + PRIOR_ROWS) / (n + PRIOR_ROWS)))
    scores = likeliest(*scores_left_out(known, measure, folds), weight, n)
    center = atoms.mass @ atoms.at if kind.errs_by_ratio else 0.0
    return {
        "n": n,
        "quantiles": _quantiles(np.abs(scores.at), scores.mass),
        "ends": np.array([measure.below, measure.above]) * unit * gain,
        "std": np.sqrt(atoms.mass @ (atoms.at - center) ** 2) * unit * gain,
        "unit": unit,
        **measure.scale,
    }


def _errors_of_constant(n: float, error: FloatArray, weight: FloatArray) -> dict[str, Any]:
    """Return what is known where all targets are the same: intervals end there."""
    std = np.sqrt(np.average(error**2, weights=weight))
    zeros, ones = np.zeros(2), np.ones(2)
    scale = {"unit": 1.0, "center": zeros, "spread": ones, "slope": zeros}
    return {"n": n, "quantiles": np.zeros(N_QUANTILES), "ends": zeros, "std": std, **scale}


def _ends(values: NDArray[Any]) -> tuple[FloatArray, FloatArray]:
    """Bounds of numbers, which are equal where these are exact."""
    if are_bounds(values):
        return values["lower"], values["upper"]
    return values.astype(np.float64), values.astype(np.float64)


def _measured(kind: Kind, values: FloatArray) -> FloatArray:
    """Return targets or predictions as they are compared, or their logarithms."""
    return log_of(values) if kind.errs_by_ratio else values


def _of_members(kind: Kind, part: FloatArray) -> FloatArray:
    """Predictions (n, M) of each member by itself."""
    found = np.column_stack([kind.decode(part[:, [m]]) for m in range(part.shape[1])])
    return _measured(kind, found)


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
    if not len(seen):
        return 1.0
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


def _quantiles(scores: FloatArray, weight: FloatArray) -> FloatArray:
    """Weighted quantiles of the scores."""
    order = np.argsort(scores, kind="stable")
    total = np.cumsum(weight[order])
    wanted = np.arange(1, N_QUANTILES + 1) / N_QUANTILES * total[-1]
    place = np.searchsorted(total, wanted * (1 - 1e-12)).clip(max=len(scores) - 1)
    return scores[order[place]]
