"""Links: from raw outputs to probabilities and means.

Each is written once, for tensors (in training, and in ONNX graphs) and arrays (in predictions).
"""

from __future__ import annotations

from typing import Any

import torch
from scipy import special
from torch import Tensor, nn

__all__ = ["exp", "log_mean", "log_sigmoid", "sequential_log_proba", "softmax"]


def namespace(values: Any) -> Any:
    """Return torch or numpy, whichever the values belong to."""
    return torch if isinstance(values, Tensor) else values.__array_namespace__()


def exp(values: Any) -> Any:
    """Exponential of each value."""
    return namespace(values).exp(values)


def softmax(raw: Any) -> Any:
    """Probabilities (..., C) of classes; raw (..., C) are logits."""
    return raw.softmax(dim=-1) if isinstance(raw, Tensor) else special.softmax(raw, axis=-1)


def log_sigmoid(raw: Any) -> Any:
    """Logarithm of the logistic function of each value."""
    return nn.functional.logsigmoid(raw) if isinstance(raw, Tensor) else special.log_expit(raw)


def sequential_log_proba(raw: Any) -> Any:
    """Log-probabilities (..., C) of ordered classes; raw (..., C - 1).

    Output c is the log-odds of going beyond class c, given that it was reached.
    """
    reached = _padded(log_sigmoid(raw).cumsum(-1), before=1, after=0)
    return reached + _padded(log_sigmoid(-raw), before=0, after=1)


def log_mean(raw: Any, spread: Any = 1.0) -> Any:
    """Logarithm of the mean: `spread` times raw (..., 1).

    Beyond ±20 it grows logarithmically: the mean stays finite.
    """
    xp = namespace(raw)
    x = spread * raw.squeeze(-1)
    within = x.clip(-20, 20)
    return within + xp.sign(x) * xp.log1p(abs(x - within))


def _padded(values: Any, before: int, after: int) -> Any:
    """Put zeros around the last axis."""
    if isinstance(values, Tensor):
        return nn.functional.pad(values, (before, after))
    widths = [(0, 0)] * (values.ndim - 1) + [(before, after)]
    return namespace(values).pad(values, widths)
