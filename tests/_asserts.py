"""Named properties: what the tests say about losses, trunks and fitted estimators."""

from __future__ import annotations

import contextlib
import pickle
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import torch
from _inputs import Batch
from numpy.testing import assert_array_equal
from pandas.testing import assert_frame_equal
from sklearn.base import BaseEstimator
from torch import Tensor, nn

from sklearn_mtl import MultiTaskCNNEstimator
from sklearn_mtl._data.inputs import InputReader
from sklearn_mtl._data.targets import TargetEncoder
from sklearn_mtl.kinds import Kind

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


def assert_alike(actual: Any, expected: Any) -> None:
    """Same types, same values, to the last bit, all the way down."""
    assert type(actual) is type(expected)
    if isinstance(expected, dict):
        assert_alike(list(actual.items()), list(expected.items()))
    elif isinstance(expected, list | tuple):
        assert len(actual) == len(expected)
        for a, b in zip(actual, expected, strict=True):
            assert_alike(a, b)
    elif isinstance(expected, np.ndarray):
        assert actual.dtype == expected.dtype
        assert actual.shape == expected.shape
        if expected.dtype == object:
            assert_alike(actual.tolist(), expected.tolist())
        else:
            assert_array_equal(actual, expected)
    elif isinstance(expected, Tensor):
        assert actual.dtype is expected.dtype
        assert torch.equal(actual, expected)
    elif isinstance(expected, np.random.RandomState):
        assert_alike(actual.get_state(), expected.get_state())
    elif isinstance(expected, pd.Series | pd.Index):
        assert actual.dtype == expected.dtype
        assert actual.equals(expected)
        assert actual.name == expected.name
    elif isinstance(expected, nn.Module):
        assert_alike({**actual.state_dict()}, {**expected.state_dict()})
        assert_alike(getattr(actual, "decay", None), getattr(expected, "decay", None))
    elif isinstance(expected, BaseEstimator):
        assert_alike(actual.get_params(), expected.get_params())
    elif isinstance(expected, Kind | TargetEncoder | InputReader):  # whatever they call equal
        assert_alike(vars(actual), vars(expected))
    elif isinstance(expected, float | np.floating) and np.isnan(expected):
        assert np.isnan(actual)
    else:
        assert actual == expected


def assert_predicts_the_same(
    actual: MultiTaskCNNEstimator, expected: MultiTaskCNNEstimator, X: Any, y: Any
) -> None:
    """All that a fitted estimator says, to the last bit."""
    for output in ("estimate", "nan", "expected"):
        actual.conditional_output = expected.conditional_output = output
        assert_alike(actual.predict(X), expected.predict(X))
        frame, other = expected.predict_frame(X), actual.predict_frame(X)
        assert type(other) is type(frame)
        if isinstance(frame, pd.DataFrame):
            assert_frame_equal(other, frame, check_exact=True)
        else:
            assert other.equals(frame)
            assert other.schema == frame.schema
    if hasattr(expected, "classes_"):
        assert_alike(actual.classes_, expected.classes_)
        assert_alike(actual.predict_proba(X), expected.predict_proba(X))
    assert not hasattr(actual, "classes_") or hasattr(expected, "classes_")
    assert_alike(actual.embed(X), expected.embed(X))
    assert_alike(actual.score_tasks(X, y), expected.score_tasks(X, y))
    assert_alike(actual.score(X, y), expected.score(X, y))
