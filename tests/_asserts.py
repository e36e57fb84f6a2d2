"""Named properties: what the tests say about losses, trunks and fitted estimators."""

from __future__ import annotations

import contextlib
import pickle
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from _inputs import Batch
from torch import Tensor

# A pure function of (output, target, weight) that returns a scalar.
Loss = Callable[..., Tensor]


def value_and_gradient(loss: Loss, output: Tensor, *args: Any) -> tuple[Tensor, Tensor]:
    """The loss, and its gradient by the raw outputs."""
    leaf = output.clone().requires_grad_()
    value = loss(leaf, *args)
    (gradient,) = torch.autograd.grad(value, leaf)
    return value.detach(), gradient


def assert_same(actual: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor]) -> None:
    """Value and gradient agree to rounding error."""
    for a, b in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-14 * float(b.abs().max()) + 1e-300)


def assert_finite(*tensors: Tensor) -> None:
    for tensor in tensors:
        assert torch.isfinite(tensor).all(), tensor


# -- masks ---------------------------------------------------------------------------------------


def assert_ignores_what_is_masked(loss: Loss, batch: Batch) -> None:
    """Neither value nor gradient depends, to the last bit, on what lies under the mask."""
    weight = batch.observed.to(batch.output.dtype)
    value, gradient = value_and_gradient(loss, batch.output, batch.target)
    assert_finite(value, gradient)
    for junk in (float("nan"), 0.0, 1e30, -1.0, float("inf")):
        target = torch.where(batch.observed, batch.target, junk)
        other = value_and_gradient(loss, batch.output, target, weight)
        assert torch.equal(other[0], value)
        assert torch.equal(other[1], gradient)


def assert_gradient_only_where_observed(loss: Loss, batch: Batch) -> None:
    """The gradient is exactly 0 where nothing was observed, and not 0 elsewhere."""
    _, gradient = value_and_gradient(loss, batch.output, batch.target)
    for k, width in enumerate(batch.n_outputs):
        part = gradient[..., batch.columns(k)]
        assert (part[~batch.observed[:, k]] == 0).all()
        if width > (batch.kinds[k] == "classification"):  # one class leaves nothing to learn
            assert (part[batch.observed[:, k]] != 0).any(dim=-1).all()


# -- calculus and symmetry -----------------------------------------------------------------------


def assert_gradient_matches_finite_differences(loss: Loss, batch: Batch) -> None:
    """Central differences agree norm-wise."""
    _, gradient = value_and_gradient(loss, batch.output, batch.target)
    flat = batch.output.flatten()
    numeric = torch.empty_like(flat)
    for i, x in enumerate(flat):
        step = torch.zeros_like(flat)
        step[i] = 1e-5 * max(1.0, abs(float(x)))
        ahead, behind = (
            loss((flat + s).view_as(batch.output), batch.target) for s in (step, -step)
        )
        numeric[i] = (ahead - behind) / (2 * step[i])
    error = (gradient.flatten() - numeric).norm()
    assert error < 1e-6 * gradient.norm(), (error, gradient.norm())


def assert_rows_can_be_permuted(loss: Loss, batch: Batch) -> None:
    """The order of the rows does not matter."""
    order = torch.randperm(len(batch.target), generator=torch.Generator().manual_seed(0))
    assert_same(
        value_and_gradient(lambda f: loss(f[order], batch.target[order]), batch.output),
        value_and_gradient(loss, batch.output, batch.target),
    )


def assert_integer_weights_repeat_rows(loss: Loss, batch: Batch) -> None:
    """A weight of 2 is the row twice, and a weight of 0 the row removed."""
    times = torch.arange(len(batch.target)) % 3
    rows = torch.arange(len(batch.target)).repeat_interleave(times)
    weight = times[:, None] * batch.observed.to(batch.output.dtype)
    assert_same(
        value_and_gradient(loss, batch.output, batch.target, weight),
        value_and_gradient(lambda f: loss(f[rows], batch.target[rows]), batch.output),
    )


# -- objects and the process ---------------------------------------------------------------------


def pickled(obj: Any) -> Any:
    return pickle.loads(pickle.dumps(obj))


@contextlib.contextmanager
def assert_random_states_untouched() -> Iterator[None]:
    """The global random states of Python, numpy and torch are left as they were found."""
    before = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    yield
    after = random.getstate(), np.random.get_state()[1], torch.get_rng_state()  # noqa: NPY002
    assert after[0] == before[0]
    np.testing.assert_array_equal(after[1], before[1])
    assert torch.equal(after[2], before[2])
