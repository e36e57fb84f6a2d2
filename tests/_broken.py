"""Fits that break off at a given batch, or are killed, and go on from a checkpoint."""

from __future__ import annotations

from typing import Any

import numpy as np
from _asserts import assert_alike
from skorch.callbacks import Callback

from sklearn_mtl import MultiTaskCNNEstimator
from sklearn_mtl._fitted import fitted_of
from sklearn_mtl._training.copies import rule_of


class Broken(Exception):
    """What a fit breaks off with."""


class Breaking(Callback):
    """Raises at a batch of an epoch, both from 1, unless there is none."""

    at: tuple[int, int] | None = None  # of the class: no parameter, so that fits are the same

    def on_batch_end(self, net: Any, training: bool = False, **kwargs: Any) -> None:
        here = len(net.history), len(net.history[-1]["batches"])
        if training and here == Breaking.at:
            raise Broken


def break_off(estimator: Any, at: tuple[int, int], *args: Any, **kwargs: Any) -> None:
    """Fit until a batch of an epoch."""
    Breaking.at = at
    try:
        estimator.fit(*args, **kwargs)
    except Broken:
        return
    finally:
        Breaking.at = None
    raise AssertionError("the fit ended before it broke off")


def bits_of(estimator: MultiTaskCNNEstimator) -> dict[str, Any]:
    """All that a fit has left, but for the time that it took."""
    fitted, net = fitted_of(estimator), estimator.net_
    timed = ("dur", "batches")
    rows = [{k: v for k, v in row.items() if k not in timed} for row in net.history]
    return {
        "module": dict(net.module_.state_dict()),
        "buffers": dict(net.module_.named_buffers()),
        "frozen": [p.requires_grad for p in net.module_.parameters()],
        "rule": getattr(rule_of(net), "state_dict", dict)(),
        "optimizer": net.optimizer_.state_dict(),
        "noise_std": fitted.noise_std,
        "history": fitted.history,
        "oob": fitted.oob,
        "epochs": rows,
        "batches": [row["batches"] for row in net.history],
    }


def assert_same_bits(found: MultiTaskCNNEstimator, expected: MultiTaskCNNEstimator) -> None:
    known, other = bits_of(expected), bits_of(found)
    for name, value in known.items():
        assert_alike(other[name], value)
    X = np.ones((2, *fitted_of(found).reader.sample_shape_))
    np.testing.assert_array_equal(fitted_of(found).raw(X), fitted_of(expected).raw(X))
