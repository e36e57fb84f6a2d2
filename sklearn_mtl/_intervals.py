"""How sure: intervals of numbers and sets of classes, from the errors of rows left out.

Conformal prediction: a value belongs to the interval, or a label to the set, if it would be no
stranger than the given share of the rows that a model did not see. How strange it is, is said by a
score: for classes by the kind (`strangeness`), for numbers by the error over a scale of the row.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sklearn_mtl._data.decoding import TargetDecoder
from sklearn_mtl._data.gates import blank
from sklearn_mtl.kinds import Kind, UnobservedTarget
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
    "log_of",
    "scales",
    "set_of_task",
    "side_by_side",
    "spread_of",
    "standard_deviations",
    "warn_of_few",
    "why_no_deviations",
    "why_no_intervals",
    "why_no_sets",
]

FloatArray = NDArray[np.float64]

# What is known of the errors, by task: see `errors_of_none`.
Errors = dict[str, FloatArray]

N_QUANTILES = 1000  # of the scores: a file holds no more, however many rows there were
MISSED_AT_0 = 4  # times as much may be missed, where intervals leave out the 0 of rows without
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

    ``'n'``: as how many groups of rows of equal weight the errors count. ``'quantiles'``: of the
    scores, at 1 / 1000 to 1. For numbers besides: ``'ends'``, what a score of 1 is worth below and
    above the prediction, in the units of y (of its logarithm, if the kind `errs_by_ratio`), where
    the scale is 1, and 0 where all targets were the same; ``'std'``, the standard deviation there;
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


def log_of(values: FloatArray) -> FloatArray:
    """Logarithms of amounts, the smallest one of 0."""
    return np.log(np.maximum(values, np.finfo(np.float64).tiny))


def scales(features: FloatArray, center: FloatArray, spread: FloatArray, slope: Any) -> FloatArray:
    """Scale (n,) of the errors of rows by their features (n, 2)."""
    standardised = (features - center) / spread
    return np.exp(standardised.clip(-FARTHEST, FARTHEST) @ slope)


def _scales_of_number(kind: Kind, errors: Errors, k: int, part: FloatArray) -> FloatArray:
    """Scale (n,) of new rows, by raw outputs (n, M, n_outputs)."""
    n_members = part.shape[1]
    predictions = np.stack([kind.decode(part[:, [m]]) for m in range(n_members)], axis=1)
    predictions = log_of(predictions) if kind.errs_by_ratio else predictions
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
    """Score that as many rows do not exceed, by level; infinite where they are too few to say."""
    n = errors["n"][k]
    if np.isnan(n):
        return np.full(levels.shape, np.inf)
    share = levels * (1 + 1 / n)  # a new row is one more
    place = np.ceil(share * N_QUANTILES - 1e-9).clip(1, N_QUANTILES)
    found = errors["quantiles"][k, np.nan_to_num(place, nan=1).astype(int) - 1]
    return np.where(share > 1 + 1e-9, np.inf, found)


def warn_of_few(decoder: TargetDecoder, errors: Errors, levels: FloatArray, tasks: Any) -> None:
    """Say for which tasks, by position, too few rows were left out for a level."""
    highest = levels.max()
    few = {}
    for k in tasks:
        n = np.nan_to_num(errors["n"][k])
        if highest * (n + 1) > n + 1e-9 and not isinstance(decoder.kinds_[k], UnobservedTarget):
            few[decoder.names[k]] = float(f"{n:.3g}")
    if few:
        warnings.warn(
            f"confidence={highest:g} asks for {highest / (1 - highest):.3g} rows that were left "
            f"out. Of some tasks there are fewer, counted by weight and group: {few}. Their "
            "intervals are infinite, and their sets hold all labels. Pass a lower level, or more "
            "rows to fit.",
            UserWarning,
            stacklevel=2,
        )


def intervals(
    decoder: TargetDecoder,
    errors: Errors,
    raw: NDArray[Any],
    levels: FloatArray,
    conditional_output: str = "estimate",
) -> list[NDArray[Any] | None]:
    """Interval (n, 2, n_levels) of each task; None for classes without an order.

    Of conditional tasks, what is predicted of them: with ``conditional_output='nan'`` there are
    holes where a gate up the chain is predicted not to hold; with ``'expected'``, intervals of
    means hold the number that is 0 where the task does not apply.
    """
    tasks = [k for k, kind in enumerate(decoder.kinds_) if kind.is_ordered or not kind.is_class]
    warn_of_few(decoder, errors, levels, tasks)
    applies = decoder.applies(raw, conditional_output)
    out: list[NDArray[Any] | None] = [None] * len(decoder.kinds_)
    for k in tasks:
        holding, share = applies.get(k, (None, None))
        found = interval_of_task(decoder, errors, k, decoder.part_of(raw, k), levels, share)
        out[k] = found if holding is None else blank(found, ~holding)
    return out


def interval_of_task(
    decoder: TargetDecoder,
    errors: Errors,
    k: int,
    part: FloatArray,
    levels: FloatArray,
    share: FloatArray | None = None,
) -> NDArray[Any]:
    """Interval (n, 2, n_levels) of task `k` by its raw outputs (n, M, n_outputs).

    With a `share` (n,), that of a number which is 0 but for this share of the rows.
    """
    kind: Any = decoder.kinds_[k]
    if isinstance(kind, UnobservedTarget):
        return np.full((len(part), 2, len(levels)), np.nan)
    if kind.is_ordered:
        within = _label_set(kind, part, _thresholds(errors, k, levels))
        highest = within.shape[1] - 1 - within[:, ::-1].argmax(axis=1)
        return np.asarray(kind.classes_[np.stack([within.argmax(axis=1), highest], axis=1)])
    around = _Around(kind, errors, k, part)
    return around.at(levels[None]) if share is None else around.with_0(levels, share[:, None])


class _Around:
    """What lies around predictions of numbers (n,), on the scale on which errors are measured."""

    def __init__(self, kind: Any, errors: Errors, k: int, part: FloatArray) -> None:
        self.kind, self.errors, self.k = kind, errors, k
        self.found = kind.decode(part).astype(np.float64)
        ends, scale = errors["ends"][k], np.ones(len(part))
        if np.isfinite(ends).all():
            scale = _scales_of_number(kind, errors, k, part)
        else:  # not a single target was left out
            ends = np.ones(2)
        self.reach = scale[:, None] * ends  # of a score of 1, below and above

    def at(self, levels: FloatArray) -> FloatArray:
        """Intervals (n, 2, n_levels); levels are (1, n_levels), or by row."""
        kind, middle = self.kind, self.found[:, None, None]
        thresholds = _thresholds(self.errors, self.k, levels)[:, None]
        with np.errstate(invalid="ignore"):
            reach = self.reach[:, :, None] * thresholds
        reach = np.where(np.isinf(thresholds), np.inf, reach) * np.array([-1.0, 1.0])[:, None]
        sides = np.exp(log_of(middle) + reach) if kind.errs_by_ratio else middle + reach
        if not self.reach.any():  # all targets were the same: intervals hold it
            sides[:, 0] = np.minimum(sides[:, 0], kind.mean_)
            sides[:, 1] = np.maximum(sides[:, 1], kind.mean_)
        return np.clip(sides, *kind.bounds)

    def with_0(self, levels: FloatArray, share: FloatArray) -> FloatArray:
        """Intervals of numbers that are 0 but for a share (n, 1) of the rows.

        0 is left out where that is a small part of all that may be missed. Else it is inside, and
        so is what was before: intervals of a higher level hold those of a lower one.
        """
        missed = 1 - levels
        without = missed >= MISSED_AT_0 * (1 - share)
        with np.errstate(divide="ignore"):
            least = MISSED_AT_0 - (MISSED_AT_0 - 1) / share
            wanted, alone = 1 - missed / share, levels / share
        # The way to 0 is one of two sides: where all of it is inside anyway, the other one counts.
        toward = self._share_toward_0()[:, None]
        held = np.maximum(np.where(wanted < toward, 2 * wanted - toward, wanted), least)
        inside = np.where(without, alone, held)
        sides, expected = self.at(inside.clip(0, 1)), self.found[:, None] * share
        sides = np.where((inside > 0)[:, None], sides, expected[:, None])
        also = np.where(without, expected, 0)
        low = np.minimum(np.minimum(sides[:, 0], also), expected)
        high = np.maximum(np.maximum(sides[:, 1], also), expected)
        return np.stack([low, high], axis=1)

    def _share_toward_0(self) -> FloatArray:
        """Share (n,) of the rows that err less than 0 would be an error."""
        if self.kind.errs_by_ratio:
            return np.ones(len(self.found))
        side = (self.found < 0).astype(int)
        with np.errstate(divide="ignore", invalid="ignore"):
            score = np.abs(self.found) / self.reach[np.arange(len(side)), side]
        n = self.errors["n"][self.k]
        below = np.searchsorted(self.errors["quantiles"][self.k], score, side="right")
        return np.asarray(below / N_QUANTILES / (1 + 1 / n))


def label_sets(
    decoder: TargetDecoder, errors: Errors, raw: NDArray[Any], levels: FloatArray
) -> dict[str, NDArray[np.bool_]]:
    """Labels (n, n_classes, n_levels) that each class task may have."""
    warn_of_few(decoder, errors, levels, decoder.classes)
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


def standard_deviations(
    decoder: TargetDecoder, errors: Errors, raw: NDArray[Any], conditional_output: str = "estimate"
) -> FloatArray:
    """Return the standard deviations (n, n_tasks) around predictions; NaN for classes.

    Of conditional tasks as in `intervals`.
    """
    applies, out = decoder.applies(raw, conditional_output), []
    for k in range(len(decoder.names)):
        holding, share = applies.get(k, (None, None))
        std = deviation_of_task(decoder, errors, k, decoder.part_of(raw, k), share)
        out.append(std if holding is None else blank(std, ~holding))
    return np.column_stack(out)


def deviation_of_task(
    decoder: TargetDecoder,
    errors: Errors,
    k: int,
    part: FloatArray,
    share: FloatArray | None = None,
) -> FloatArray:
    """Return the standard deviation (n,) of task `k` by its raw outputs (n, M, n_outputs).

    With a `share` (n,), that of a number which is 0 but for this share of the rows.
    """
    std = float(errors["std"][k])
    if np.isnan(std):  # a class, or nothing was left out
        return np.full(len(part), np.nan)
    kind = decoder.kinds_[k]
    found, scaled = kind.decode(part), std * _scales_of_number(kind, errors, k, part)
    if kind.errs_by_ratio:
        scaled = found * np.sqrt(np.expm1(np.minimum(scaled**2, 700.0)))
    if share is None:
        return scaled
    return np.hypot(np.sqrt(share) * scaled, np.sqrt(share * (1 - share).clip(0)) * found)


def side_by_side(found: Sequence[NDArray[Any] | None]) -> NDArray[Any]:
    """Intervals (n, n_tasks, 2, n_levels), NaN without; float if all are numbers, else object."""
    known = [column for column in found if column is not None]
    dtype = float if all(are_numbers(column.ravel()) for column in known) else object
    holes = np.full(known[0].shape, np.nan, dtype=dtype)
    return np.stack([holes if c is None else c.astype(dtype) for c in found], axis=1)


# -- where there are none ------------------------------------------------------------------------


def why_no_intervals(decoder: TargetDecoder, errors: Errors, k: int | None = None) -> str | None:
    """Say why there are no intervals, if so; of the task `k`, or of all."""
    kinds = decoder.kinds_ if k is None else [decoder.kinds_[k]]
    if any(kind.is_ordered or not kind.is_class for kind in kinds):
        return _why_no_errors("intervals", errors)
    if k is None:
        return (
            f"There are no intervals: none of the tasks {decoder.names} is a number or an ordered "
            "class. Use predict_set."
        )
    return (
        f"There are no intervals: task {decoder.names[k]!r} is a class without an order. Use "
        "predict_set."
    )


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
        "folds by itself, and so does an Ensemble of another trunk, but not where groups= has one "
        "label for all targets of a task, nor where partial_fit or warm_start went on."
    )
