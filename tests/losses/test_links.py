"""Links: probabilities and means, the same for tensors and arrays."""

import math

import numpy as np
import pytest
import torch
from _asserts import assert_finite, value_and_gradient
from _rules import FAMILIES, TORCH_DTYPES, cell_loss, naive_proba

from sklearn_mtl.kinds import GammaTarget, OrdinalTarget
from sklearn_mtl.losses.cells import sequential_logit
from sklearn_mtl.losses.links import exp, log_mean, log_sigmoid, sequential_log_proba, softmax

# -- the same for tensors and arrays --------------------------------------------------------

# Around every turn of a formula, and far out.
SIZES = np.array([0, 1e-300, 1e-9, 0.3, 1, 19.9, 20, 20.1, 36, 50, 700, 1e4, 1e100])
EXTREMES = np.concatenate([-SIZES[:0:-1], SIZES])
LINKS = {
    "exp": lambda raw: exp(raw.clip(-80, 80)),
    "softmax": softmax,
    "log_sigmoid": log_sigmoid,
    "sequential_log_proba": sequential_log_proba,
    "log_mean": lambda raw: log_mean(raw[..., None]),
    "log_mean of a spread": lambda raw: log_mean(raw[..., None], 0.3),
}
EVERY_LINK = pytest.mark.parametrize("link", LINKS.values(), ids=LINKS)


def extremes(width):
    """All pairs, or as many wider rows, of extreme numbers."""
    if width < 3:
        return np.stack(np.meshgrid(*[EXTREMES] * width), axis=-1).reshape(-1, width)
    return np.random.default_rng(0).choice(EXTREMES, size=(2000, width))


@pytest.mark.parametrize("width", [1, 2, 5])
@EVERY_LINK
def test_tensors_and_arrays_give_the_same_values(link, width):
    """Whatever the shape, far out too; a tensor gives a tensor, and an array an array."""
    raw = extremes(width)
    values, tensor = link(raw), link(torch.from_numpy(raw))
    assert type(values) is np.ndarray
    assert type(tensor) is torch.Tensor
    assert np.isfinite(values).all()
    np.testing.assert_allclose(tensor.numpy(), values, rtol=1e-12, atol=0)
    members = raw[: len(raw) // 2 * 2].reshape(2, -1, 1, width)
    np.testing.assert_array_equal(link(members).ravel(), link(members.reshape(-1, width)).ravel())
    np.testing.assert_allclose(
        link(torch.from_numpy(members)).numpy(), link(members), rtol=1e-12, atol=0
    )


@EVERY_LINK
def test_links_keep_the_precision(link):
    raw = extremes(2).clip(-1e4, 1e4).astype(np.float32)
    values, tensor = link(raw), link(torch.from_numpy(raw))
    assert values.dtype == np.float32
    assert tensor.dtype == torch.float32
    # Exponentials magnify the rounding of what they are taken of.
    np.testing.assert_allclose(tensor.numpy(), values, rtol=1e-4, atol=1e-38)


@pytest.mark.parametrize("width", [1, 2, 5])
@pytest.mark.parametrize("of", [np.asarray, torch.from_numpy], ids=["array", "tensor"])
def test_probabilities_sum_to_one(of, width):
    raw = of(extremes(width))
    for proba, n_classes in (
        (softmax(raw), width),
        (exp(sequential_log_proba(raw)), width + 1),
    ):
        assert proba.shape == (len(raw), n_classes)
        proba = np.asarray(proba)
        assert (proba >= 0).all()
        np.testing.assert_allclose(proba.sum(axis=-1), 1, rtol=1e-12)


def test_links_by_hand():
    """In extended precision, by their definitions."""
    x = EXTREMES[np.abs(EXTREMES) < 1e4]
    long = x.astype(np.longdouble)
    np.testing.assert_allclose(log_sigmoid(x), -np.log1p(np.exp(-long)).astype(float), rtol=1e-12)
    raw = np.random.default_rng(0).normal(size=(50, 3)) * 3
    odds = np.exp(raw.astype(np.longdouble))
    proba = (odds / odds.sum(axis=1, keepdims=True)).astype(float)
    np.testing.assert_allclose(softmax(raw), proba, rtol=1e-12)
    np.testing.assert_allclose(np.exp(sequential_log_proba(raw)), naive_proba(raw), rtol=1e-12)
    for spread in (1.0, 0.3):
        inside = np.linspace(-20, 20, 41) / spread
        np.testing.assert_allclose(log_mean(inside[:, None], spread), spread * inside, rtol=1e-15)
        beyond = np.array([20.0, 21.0, 1e4, 1e100]) / spread
        expected = 20 + np.log1p(spread * beyond - 20)
        np.testing.assert_allclose(log_mean(beyond[:, None], spread), expected, rtol=1e-15)
        np.testing.assert_allclose(log_mean(-beyond[:, None], spread), -expected, rtol=1e-15)


def test_tasks_may_have_a_spread_each():
    raw = np.random.default_rng(0).normal(size=(4, 3, 1)) * 30
    spread = np.array([0.1, 1.0, 2.0])
    expected = np.stack([log_mean(raw[:, k], spread[k]) for k in range(3)], axis=1)
    np.testing.assert_array_equal(log_mean(raw, spread), expected)
    tensor = log_mean(torch.from_numpy(raw), torch.from_numpy(spread))
    np.testing.assert_allclose(tensor.numpy(), expected, rtol=1e-12)


@EVERY_LINK
def test_links_of_tensors_have_gradients(link):
    raw = torch.from_numpy(extremes(2))
    _, gradient = value_and_gradient(lambda f: link(f).clamp(-1e3, 1e3).sum(), raw)
    assert_finite(gradient)
    assert gradient.any()


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
