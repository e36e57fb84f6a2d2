"""How sure: intervals of numbers and sets of classes, from the errors of rows left out.

Conformal prediction: a value belongs to the interval, or a label to the set, if it would be no
stranger than the given share of the rows that a model did not see. How strange it is, is said by a
score: for classes by the kind (`strangeness`), for numbers by the error over a scale of the row.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sklearn_mtl._data.decoding import TargetDecoder
from sklearn_mtl._data.gates import blank
from sklearn_mtl.kinds import Kind
from sklearn_mtl.kinds.values import are_numbers

__all__ = [
    "FARTHEST",
    "N_QUANTILES",
    "SHAPES",
    "Errors",
    "deviation_of_task",
    "errors_of_none",
    "interval_of_task",
    "intervals",
    "label_sets",
    "levels_of",
    "scales",
    "set_of_task",
    "side_by_side",
    "spread_of",
    "standard_deviations",
    "why_no_deviations",
    "why_no_intervals",
    "why_no_sets",
]

FloatArray = NDArray[np.float64]

# What is known of the errors, by task: see `errors_of_none`.
Errors = dict[str, FloatArray]

N_QUANTILES = 1000  # of the scores: a file holds no more, however many rows there were
FARTHEST = 3.0  # standard deviations from the rows left out that a scale goes along with

SHAPES: dict[str, tuple[int, ...]] = {
    "n": (),
    "quantiles": (N_QUANTILES,),
    "ends": (2,),
    "std": (),
    "unit": (),
    "center": (2,),
    "spread": (2,),
    "slope": (2,),
}


def errors_of_none(n_tasks: int) -> Errors:
    """Return what is known where nothing is, NaN; one row per task.

    ``'n'``: of how many groups of rows the errors are. ``'quantiles'``: of the scores, at 1 / 1000
    to 1. For numbers besides: ``'ends'``, what a score of 1 is worth below and above the
    prediction, in the units of y, where the scale is 1; ``'std'``, the standard deviation there;
    and what makes the scale, of two features of a row, a raw output and the logarithm of how far
    apart the members are in ``'unit'``: their ``'center'`` and ``'spread'``, and a ``'slope'`` for
    each.
    """
    return {name: np.full((n_tasks, *shape), np.nan) for name, shape in SHAPES.items()}


# -- the scale of a row --------------------------------------------------------------------------


def spread_of(predictions: FloatArray, unit: float) -> FloatArray:
    """Logarithm (n,) of how far apart the predictions (n, M) of members are, in units."""
    if predictions.shape[1] < 2:
        return np.zeros(len(predictions))
    return np.log(np.std(predictions / unit, axis=1, ddof=1) + 0.01)


def scales(features: FloatArray, center: FloatArray, spread: FloatArray, slope: Any) -> FloatArray:
    """Scale (n,) of the errors of rows by their features (n, 2)."""
    standardised = (features - center) / spread
    return np.exp(standardised.clip(-FARTHEST, FARTHEST) @ slope)


def _scales_of_number(kind: Kind, errors: Errors, k: int, part: FloatArray) -> FloatArray:
    """Scale (n,) of new rows, by raw outputs (n, M, n_outputs)."""
    n_members = part.shape[1]
    predictions = np.stack([kind.decode(part[:, [m]]) for m in range(n_members)], axis=1)
    spread = spread_of(predictions, float(errors["unit"][k]))
    features = np.column_stack([part[..., kind.scale_output].mean(axis=1), spread])
    return scales(features, *(errors[name][k] for name in ("center", "spread", "slope")))


# -- intervals and sets --------------------------------------------------------------------------


def levels_of(confidence: Any) -> tuple[FloatArray, bool]:
    """Levels of confidence, and whether it was a single one."""
    if isinstance(confidence, np.ndarray) and confidence.ndim == 0:
        confidence = confidence.item()
    single = isinstance(confidence, Real)
    levels = [confidence] if single else confidence
    fits = isinstance(levels, Sequence | np.ndarray) and not isinstance(levels, str | bytes)
    if not fits or not len(levels) or not all(map(_is_level, levels)):
        raise ValueError(
            f"confidence={confidence!r} is no level between 0 and 1, or a list of them. Pass 0.9, "
            "or [0.5, 0.9]."
        )
    return np.array(levels, dtype=np.float64), single


def _is_level(value: Any) -> bool:
    return isinstance(value, Real) and 0 < float(value) < 1


def _thresholds(errors: Errors, k: int, levels: FloatArray) -> FloatArray:
    """Score (n_levels,) that as many rows do not exceed; infinite where they are too few to say."""
    n = errors["n"][k]
    if np.isnan(n):
        return np.full(len(levels), np.inf)
    share = levels * (1 + 1 / n)  # a new row is one more
    place = np.ceil(share * N_QUANTILES - 1e-9).astype(int).clip(1, N_QUANTILES) - 1
    return np.where(share > 1 + 1e-9, np.inf, errors["quantiles"][k, place])


def intervals(
    decoder: TargetDecoder,
    errors: Errors,
    raw: NDArray[Any],
    levels: FloatArray,
    conditional_output: str = "estimate",
) -> list[NDArray[Any] | None]:
    """Interval (n, 2, n_levels) of each task; None for classes without an order.

    Where ``conditional_output='nan'``, with holes where a gate up the chain is predicted not to
    hold.
    """
    out: list[NDArray[Any] | None] = [
        interval_of_task(decoder, errors, k, decoder.part_of(raw, k), levels)
        if kind.is_ordered or not kind.is_class
        else None
        for k, kind in enumerate(decoder.kinds_)
    ]
    if conditional_output != "nan":
        return out
    holes = decoder.does_not_apply(raw)
    return [
        found if found is None or k not in holes else blank(found, holes[k])
        for k, found in enumerate(out)
    ]


def interval_of_task(
    decoder: TargetDecoder, errors: Errors, k: int, part: FloatArray, levels: FloatArray
) -> NDArray[Any]:
    """Interval (n, 2, n_levels) of task `k` by its raw outputs (n, M, n_outputs)."""
    kind: Any = decoder.kinds_[k]
    thresholds = _thresholds(errors, k, levels)
    if kind.is_ordered:
        within = _label_set(kind, part, thresholds)
        highest = within.shape[1] - 1 - within[:, ::-1].argmax(axis=1)
        return np.asarray(kind.classes_[np.stack([within.argmax(axis=1), highest], axis=1)])
    found = kind.decode(part).astype(np.float64)
    scale = np.ones(len(found))
    ends = errors["ends"][k]
    if np.isfinite(ends).all():
        scale = _scales_of_number(kind, errors, k, part)
    else:  # not a single target was left out
        ends = np.ones(2)
    reach = scale[:, None, None] * ends[:, None] * thresholds
    sides = found[:, None, None] + np.array([-1.0, 1.0])[:, None] * reach
    return np.clip(sides, *kind.bounds)


def label_sets(
    decoder: TargetDecoder, errors: Errors, raw: NDArray[Any], levels: FloatArray
) -> dict[str, NDArray[np.bool_]]:
    """Labels (n, n_classes, n_levels) that each class task may have."""
    return {
        decoder.names[k]: set_of_task(decoder, errors, k, decoder.part_of(raw, k), levels)
        for k in decoder.classes
    }


def set_of_task(
    decoder: TargetDecoder, errors: Errors, k: int, part: FloatArray, levels: FloatArray
) -> NDArray[np.bool_]:
    """Labels (n, n_classes, n_levels) that the class task `k` may have."""
    return _label_set(decoder.kinds_[k], part, _thresholds(errors, k, levels))


def _label_set(kind: Any, part: FloatArray, thresholds: FloatArray) -> NDArray[np.bool_]:
    proba = kind.proba(part)
    if np.isinf(thresholds).all():
        return np.ones((*proba.shape, len(thresholds)), dtype=bool)
    return np.asarray(kind.strangeness(proba)[:, :, None] <= thresholds + 1e-12)


def standard_deviations(decoder: TargetDecoder, errors: Errors, raw: NDArray[Any]) -> FloatArray:
    """Return the standard deviations (n, n_tasks) around predictions; NaN for classes."""
    tasks = range(len(decoder.names))
    parts = (decoder.part_of(raw, k) for k in tasks)
    return np.column_stack([deviation_of_task(decoder, errors, *each) for each in enumerate(parts)])


def deviation_of_task(
    decoder: TargetDecoder, errors: Errors, k: int, part: FloatArray
) -> FloatArray:
    """Return the standard deviation (n,) of task `k` by its raw outputs (n, M, n_outputs)."""
    std = float(errors["std"][k])
    if np.isnan(std):  # a class, or nothing was left out
        return np.full(len(part), np.nan)
    return std * _scales_of_number(decoder.kinds_[k], errors, k, part)


def side_by_side(found: Sequence[NDArray[Any] | None]) -> NDArray[Any]:
    """Intervals (n, n_tasks, 2, n_levels), NaN without; float if all are numbers, else object."""
    known = [column for column in found if column is not None]
    dtype = float if all(are_numbers(column.ravel()) for column in known) else object
    holes = np.full(known[0].shape, np.nan, dtype=dtype)
    return np.stack([holes if c is None else c.astype(dtype) for c in found], axis=1)


# -- where there are none ------------------------------------------------------------------------


def why_no_intervals(decoder: TargetDecoder, errors: Errors) -> str | None:
    """Say why there are no intervals, if so."""
    if not any(kind.is_ordered or not kind.is_class for kind in decoder.kinds_):
        return (
            f"There are no intervals: none of the tasks {decoder.names} is a number or an ordered "
            "class. Use predict_set."
        )
    return _why_no_errors("intervals", errors)


def why_no_sets(decoder: TargetDecoder, errors: Errors) -> str | None:
    """Say why there are no sets of labels, if so."""
    if not decoder.classes:
        return (
            f"There are no sets of labels: none of the tasks {decoder.names} is a class task. Use "
            "predict_interval."
        )
    return _why_no_errors("sets of labels", errors)


def why_no_deviations(decoder: TargetDecoder, errors: Errors) -> str | None:
    """Say why there are no standard deviations, if so."""
    if all(kind.is_class for kind in decoder.kinds_):
        return (
            f"There are no standard deviations: none of the tasks {decoder.names} is a number. "
            "Use predict_proba."
        )
    return _why_no_errors("standard deviations", errors)


def _why_no_errors(what: str, errors: Errors) -> str | None:
    if errors:
        return None
    return (
        f"There are no {what}: the fit left out no rows on which to measure errors. Pass X_val and "
        "y_val to fit, or set early_stopping=True; a DenseTrunk of several members leaves out "
        "folds by itself, but not where partial_fit or warm_start went on."
    )
