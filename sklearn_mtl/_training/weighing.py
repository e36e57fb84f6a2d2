"""Weights of the tasks: as the user has said them, one for each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sklearn_mtl._data.encoded import EncodedTargets
from sklearn_mtl._data.targets import TargetEncoder
from sklearn_mtl._data.weights import read_weights

__all__ = ["resolve_task_weights"]


def resolve_task_weights(
    parameters: Any, encoder: TargetEncoder, targets: EncodedTargets
) -> NDArray[np.float64]:
    """One weight per task."""
    weights, names = parameters.task_weights, encoder.names
    if weights is None:
        return np.ones(len(names))
    if not isinstance(parameters.loss, str):
        raise ValueError(
            "task_weights is set, but loss is an object, which has weights of its own. "
            "Pass them to it, as in LogProd(weights=...), or pass loss as a name."
        )
    if isinstance(weights, str):  # 'n_observed'
        mass = targets.mass
        return len(names) * mass / mass.sum()
    labels = weights.keys() if hasattr(weights, "keys") else ()  # of a dict, or a Series
    if isinstance(weights, Mapping) or any(isinstance(label, str) for label in labels):
        weights = dict(weights.items())
        unknown = [name for name in weights if name not in names]
        if unknown:
            raise ValueError(f"task_weights names unknown tasks {unknown}; known: {names}.")
        weights = [weights.get(name, 1.0) for name in names]
    weights = read_weights(weights, "task_weights")
    if weights.shape != (len(names),) or not weights.any():
        raise ValueError(
            f"task_weights={parameters.task_weights!r} does not fit. Pass {len(names)} weights "
            f">= 0, not all 0, one per task: {names}."
        )
    return weights
