"""What the values of a file must be, so that an estimator of them can predict.

The tables say what values have to be; `check` goes through them. Which attributes an object has is
not written down: they are those of an object of its class that was just fitted.
"""

from __future__ import annotations

import contextlib
import functools
import math
import warnings
from typing import Any

import numpy as np
import torch
from sklearn.utils._metadata_requests import MetadataRequest
from torch import Tensor

from sklearn_mtl._data.gates import gates_first, resolve_gates
from sklearn_mtl._data.tables import Template
from sklearn_mtl._data.targets import TargetEncoder
from sklearn_mtl._data.tasks import Task
from sklearn_mtl._files.readers import (
    Rules,
    holds,
    is_finite,
    is_float64,
    is_positive,
    is_reader,
    obey,
)
from sklearn_mtl._identity import identity
from sklearn_mtl._intervals import SHAPES
from sklearn_mtl.kinds import KINDS, CensoredTarget, UnobservedTarget
from sklearn_mtl.kinds.bounds import as_bounds
from sklearn_mtl.kinds.censored import censored

__all__ = ["check", "check_stream"]

# -- y -------------------------------------------------------------------------------------------

NUMBER: Rules = {
    "mean_": is_finite,
    "center_": is_finite,
    "scale_": is_positive,
    "spread_": is_positive,
    "unit_": is_positive,
}


def _is_fitted(kind: Any) -> bool:
    """Tell kinds of ours that a fit has left, and of others that what they share with ours is."""
    if isinstance(kind, UnobservedTarget):
        return not kind.is_known or _is_fitted(kind.kind)
    if kind.is_class:
        return len(kind.classes_) > 0 and (type(kind) not in OURS or _is_of_its_classes(kind))
    if isinstance(kind, CensoredTarget):
        if type(kind) is not type(censored(kind.kind)) or vars(kind.kind) != kind.kind.params():
            return False
        pairs = as_bounds(np.array([1.0, 2.0]), np.array([1.0, np.inf]))
        if _types(type(kind)(kind.kind).fit(pairs, np.ones(2))) != _types(kind):
            return False
    elif type(kind) in OURS:
        fitted = type(kind)(**kind.params()).fit(np.array([1.0, 2.0]), np.ones(2))
        if _types(fitted) != _types(kind):
            return False
    return all(rule(vars(kind)[n], kind) for n, rule in NUMBER.items() if n in vars(kind))


def _types(value: Any) -> dict[str, type]:
    return {name: type(attribute) for name, attribute in vars(value).items()}


def _is_of_its_classes(kind: Any) -> bool:
    """Tell whether a kind of class is one that was fitted on its classes."""
    labels, found = kind.classes_, kind.threshold_
    if not (found is None or (type(found) is float and 0 < found < 1 and len(labels) == 2)):
        return False
    known = identity(vars(kind))
    ranks = list(getattr(kind, "categories_", ()))
    for categories, order in [(kind.categories, None), (None, None), (None, ranks)]:
        # Of the constructor, of values, or of the type of y. Formats before the seventh had those
        # of the categories that were observed.
        with contextlib.suppress(ValueError):
            params = kind.params() | {"categories": categories}
            again = type(kind)(**params).fit(labels, np.ones(len(labels)), order)
            again.categories = kind.categories
            if found is not None:
                again.threshold_ = found
            if identity(vars(again)) == known:
                return True
    return False


# Kinds that others bring learn what they like.
OURS = frozenset(KINDS.values())


def _are_tasks(value: Any, encoder: Any) -> bool:
    alike = type(value) is list and all(type(task) is Task for task in value)
    return alike and 0 < len(value) == len({task.name for task in value})


def _are_kinds(value: Any, encoder: Any) -> bool:
    pairs = zip(encoder.tasks_, value, strict=True)
    return type(value) is list and all(
        t.make_kind() == getattr(k, "kind", k) and _is_fitted(k) for t, k in pairs
    )


def _are_gates(value: Any, encoder: Any) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # labels that were not observed
        gates = resolve_gates(encoder.tasks_, encoder.kinds_)
    return bool(value == gates) and len(gates_first(gates)) == len(gates)


def _are_class_weights(value: Any, encoder: Any) -> bool:
    sizes = [len(encoder.classes.get(k, ())) for k in range(len(encoder.tasks_))]
    return type(value) is list and all(
        w is None or (n > 0 and is_float64(w, n) and is_finite(w) and w.min() >= 0)
        for w, n in zip(value, sizes, strict=True)
    )


def _are_counts(value: Any, encoder: Any) -> bool:
    return value.shape == (len(encoder.tasks_),) and value.dtype.kind == "i" and value.min() >= 0


ENCODER: Rules = {
    "tasks_": _are_tasks,
    "kinds_": _are_kinds,
    "_gates": _are_gates,
    "_class_weights": _are_class_weights,
    "n_observed_": _are_counts,
    "n_applicable_": _are_counts,
    "y_ndim_": lambda v, encoder: v == 2 or (v == 1 == len(encoder.tasks_)),
    "_template": lambda v, _: type(v) is Template and type(v.named) is bool,
}

# -- all of it -----------------------------------------------------------------------------------


def _n_tasks(fitted: Any) -> int:
    return len(fitted["encoder"].tasks_)


def _are_task_weights(value: Any, fitted: Any) -> bool:
    return is_float64(value, _n_tasks(fitted)) and is_finite(value) and value.min() >= 0


def _are_losses(value: Any, fitted: Any) -> bool:
    if type(value) is not dict or type(value.get("train_loss")) is not np.ndarray:
        return False
    n_epochs = len(value["train_loss"])
    return all(
        type(name) is str and is_float64(rows, n_epochs, _n_tasks(fitted))
        for name, rows in value.items()
    )


def _are_of_rows_left_out(value: Any, fitted: Any) -> bool:
    """Attributes that are there or not, but say something of each task or class."""
    if type(value) is not dict or not value:
        return type(value) is dict
    encoder = fitted["encoder"]
    predicted, scores = value.get("oob_prediction_"), value.get("oob_score_")
    if type(predicted) is not np.ndarray or type(scores) is not dict:
        return False
    proba = value.get("oob_decision_function_", [])
    proba = proba if isinstance(proba, list) else [proba]
    n_rows, *n_columns = predicted.shape
    return (
        n_columns == [len(encoder.tasks_)] * (encoder.y_ndim_ - 1)
        and list(scores) == encoder.names
        and all(type(score) is float for score in scores.values())
        and [p.shape for p in proba] == [(n_rows, len(c)) for c in encoder.classes.values()]
    )


def _are_errors(value: Any, fitted: Any) -> bool:
    """Errors that are not known, or those of each task: NaN, or numbers that make intervals."""
    if type(value) is not dict or not value:
        return type(value) is dict
    n_tasks, encoder = _n_tasks(fitted), fitted["encoder"]
    if set(value) != set(SHAPES):
        return False
    if not all(is_float64(value[name], n_tasks, *shape) for name, shape in SHAPES.items()):
        return False
    known = np.isfinite(value["n"])
    numbers = np.isfinite(value["std"])
    return (
        not (value["n"][known] < 1 - 1e-9).any()
        and not (np.diff(value["quantiles"][known]) < 0).any()
        and bool(np.isfinite(value["quantiles"][known]).all())
        and all(is_finite(value[name][numbers]) for name in SHAPES)
        and all((value[name][numbers] > 0).all() for name in ("unit", "spread"))
        and all(_are_ends(value["ends"][k], encoder.kinds_[k]) for k in np.flatnonzero(numbers))
        and not any(np.isfinite(value["std"][k]) for k in encoder.classes)
    )


def _are_ends(ends: Any, kind: Any) -> bool:
    """Tell what a score of 1 is worth; both are 0 where all targets were the mean of the kind."""
    return bool((ends > 0).all()) or (not ends.any() and hasattr(kind, "mean_"))


@functools.cache
def _an_encoder() -> TargetEncoder:
    encoder = TargetEncoder()
    encoder.fit_encode(np.arange(3.0))
    return encoder


FITTED: Rules = {
    "encoder": lambda v, _: holds(v, _an_encoder(), ENCODER),
    "reader": lambda v, _: is_reader(v),
    "task_weights": _are_task_weights,
    "noise_std": lambda v, fitted: is_float64(v, _n_tasks(fitted)) and not (v < 0).any(),
    "history": _are_losses,
    "oob": _are_of_rows_left_out,
    "errors": _are_errors,
}


def check_stream(stream: dict[str, Any], n_tasks: int) -> None:
    """Refuse what the next rows of a stream could not go on with, as far as it is known here."""
    if not stream:
        return
    right = type(stream) is dict and set(stream) - {"noise"} == {"optimizer", "constant_losses"}
    right = right and all(
        is_float64(value, n_tasks) and not (name == "noise" and (value < 0).any())
        for name, value in stream.items()
        if name != "optimizer"
    )
    if not right:
        raise ValueError("the state of the stream is not what it should be")
    optimizer = stream["optimizer"]
    if optimizer is not None and not _are_finite(optimizer):
        raise ValueError("the state of the optimizer is not finite")


def _are_finite(value: Any) -> bool:
    """Tell plain data all whose numbers are finite."""
    if isinstance(value, dict):
        return all(map(_are_finite, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_are_finite, value))
    if isinstance(value, Tensor):
        return bool(torch.isfinite(value).all())
    return not isinstance(value, float) or math.isfinite(value)


def check(fitted: dict[str, Any], others: dict[str, Any]) -> None:
    """Refuse a state of `Fitted`, and further attributes, that no estimator could have.

    Raises
    ------
    ValueError
        It names the value.
    """
    if set(fitted) != set(FITTED):
        raise ValueError(f"{sorted(fitted)} was fitted, expected {sorted(FITTED)}")
    obey(fitted, fitted, FITTED)
    if not isinstance(others.get("_metadata_request", MetadataRequest("")), MetadataRequest):
        raise ValueError("_metadata_request is none")
    encoder = fitted["encoder"]
    raw = np.zeros((1, sum(encoder.n_outputs)))
    with contextlib.suppress(ImportError):  # frames of a library that is not there
        for how in ("estimate", "nan", "expected"):
            encoder.matrix(encoder.decode(raw, how))
        encoder.frame(encoder.decode(raw, "nan"))
