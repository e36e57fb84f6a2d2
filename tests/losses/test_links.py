"""Links: probabilities and means, the same for tensors and arrays."""

import math

import numpy as np
import pytest
import torch
from _asserts import assert_finite, value_and_gradient
from _rules import FAMILIES, TORCH_DTYPES, cell_loss, naive_proba

from sklearn_mtl.kinds import GammaTarget, OrdinalTarget
from sklearn_mtl.losses.cells import sequential_logit

# -- ordered classes ------------------------------------------------------------------------


def log_proba_of(raw):
    """Log-probabilities of all classes, one by one from the loss."""
    classes = range(raw.shape[-1] + 1)
    return torch.stack([-sequential_logit(raw, torch.full(raw.shape[:-1], c)) for c in classes], -1)


@pytest.mark.parametrize("width", [0, 1, 2, 6])
def test_ordered_probabilities_are_products_of_steps(width):
    raw = torch.from_numpy(np.random.default_rng(0).normal(size=(200, width)) * 2)
    proba = log_proba_of(raw).exp()
    torch.testing.assert_close(proba.sum(dim=-1), torch.ones(200).double(), rtol=1e-13, atol=0)
    if width:
        torch.testing.assert_close(proba, torch.from_numpy(naive_proba(raw.numpy())))


@pytest.mark.parametrize("size", [50.0, 1e4])
@TORCH_DTYPES
def test_ordered_probabilities_far_out(size, dtype):
    """They sum to one, as those that `predict_proba` gives, and their logs stay finite."""
    signs = torch.cartesian_prod(*[torch.tensor([-1.0, -1e-3, 1e-3, 1.0])] * 3)
    raw = (size * signs).to(dtype)
    log_proba = log_proba_of(raw)
    assert_finite(log_proba)
    assert (log_proba <= 0).all()
    exact = size * torch.finfo(dtype).eps + 1e-8
    torch.testing.assert_close(
        log_proba.logsumexp(dim=-1), torch.zeros(len(raw), dtype=dtype), rtol=0, atol=exact
    )
    kind = OrdinalTarget().fit(np.arange(4), np.ones(4))
    proba = kind.proba(raw.double().unsqueeze(1).numpy())
    np.testing.assert_allclose(proba.sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_allclose(log_proba.exp().numpy(), proba, atol=exact)


# -- the link of counts and amounts ---------------------------------------------------------


def means_of(raw):
    """Means as the losses see them: from a squared error, which is the mean's own square."""
    raw = torch.as_tensor(raw, dtype=torch.float64).unsqueeze(-1)
    error = cell_loss("poisson", "squared")(raw, torch.zeros(len(raw)).double())
    return (error * math.expm1(1)).sqrt()


def test_the_mean_is_an_exponential_and_grows_linearly_far_out():
    near = torch.linspace(-20, 20, 401).double()
    torch.testing.assert_close(means_of(near), near.exp(), rtol=1e-14, atol=0)
    far = torch.logspace(math.log10(20), 8, 100).double()
    torch.testing.assert_close(means_of(far), math.exp(20) * (far - 19), rtol=1e-12, atol=0)
    torch.testing.assert_close(means_of(-far) * means_of(far), torch.ones(100).double())
    every = means_of(torch.cat([-far.flip(0), near, far]).unique())
    assert_finite(every)
    assert (every.diff() > 0).all()


@pytest.mark.parametrize("edge", [-20.0, 20.0])
@pytest.mark.parametrize("kind", ["poisson", "gamma"])
@FAMILIES
def test_the_slope_of_the_mean_has_no_jump(family, kind, edge):
    """At ±20 exactly as next to it."""
    raw = torch.tensor([[edge - 1e-9], [edge], [edge + 1e-9]], dtype=torch.float64)
    loss, target = cell_loss(kind, family), torch.ones(3).double()
    _, (before, at, after) = value_and_gradient(lambda f: loss(f, target).sum(), raw)
    torch.testing.assert_close(before, at, rtol=1e-6, atol=0)
    torch.testing.assert_close(after, at, rtol=1e-6, atol=0)


def test_losses_and_predictions_have_the_same_mean():
    """What was trained is what is predicted, far out too."""
    raw = np.concatenate([np.linspace(-30, 30, 121), [-1e8, -1e4, 1e4, 1e8]])
    kind = GammaTarget().fit(np.array([1.0, 2.0, 4.0]), np.ones(3))
    decoded = kind.decode(raw.reshape(-1, 1, 1) / kind.spread_) / kind.scale_
    np.testing.assert_allclose(decoded, means_of(raw), rtol=1e-13)
