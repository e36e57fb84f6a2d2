"""Rules, losses and batches that the tests of losses share."""

import numpy as np
import pytest
import torch
from _inputs import BATCHES

from sklearn_mtl.losses import CELL_LOSSES, LOSSES, LogProd

NAN = float("nan")


class BatchLogProd(LogProd):
    """The logarithm of the batch's own losses."""

    def __init__(self, weights=None):
        super().__init__(weights, decay=None)


RULES = {**LOSSES, "batch logprod": BatchLogProd}
STARTED = pytest.mark.parametrize("started", [True, False], ids=["started", "bare"])
COMBINERS = pytest.mark.parametrize("name", RULES)
LARGE = "large errors", "every kind, large errors"
SMALL = "small errors", "every kind, small errors"
FAMILIES = pytest.mark.parametrize("family", ["likelihood", "squared"])


def every_batch(*skip):
    """Parametrize over the adversarial batches but some."""
    chosen = {key: batch for key, batch in BATCHES.items() if key not in skip}
    return pytest.mark.parametrize("batch", chosen.values(), ids=chosen.keys())


def expectations(n_tasks, dtype=torch.float64):
    """What to tell `start`: losses of the constant predictor, and counts in a batch."""
    return torch.linspace(1.5, 0.5, n_tasks, dtype=dtype), torch.full((n_tasks,), 3.0, dtype=dtype)


def make_combiner(name, n_tasks, *, started=True, dtype=torch.float64, powers=None):
    combine = RULES[name](torch.linspace(0.5, 2, n_tasks, dtype=dtype))
    if started:
        combine.start(*expectations(n_tasks, dtype), powers)
    return combine


def make_loss(name, batch, started=True):
    """A pure function (output, target, weight): the combiner starts anew in every call."""

    def loss(output, target, weight=None):
        losses = batch.losses(RULES[name].family)
        combine = make_combiner(name, len(batch.kinds), started=started, powers=losses.powers)
        return combine(*losses(output, target, weight))

    return loss


def naive_proba(raw):
    """Probabilities of ordered classes: each step is taken with a logistic probability."""
    above = np.cumprod(1 / (1 + np.exp(-raw)), axis=1)
    return -np.diff(above, axis=1, prepend=1, append=0)


TORCH_DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def cell_loss(kind, family, **params):
    return lambda raw, target: getattr(CELL_LOSSES[kind], family)(raw, target, **params)
