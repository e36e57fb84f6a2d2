"""Losses of single cells: their values, and far out."""

import math

import numpy as np
import pytest
import torch
from _asserts import assert_finite, value_and_gradient
from _rules import FAMILIES, LARGE, TORCH_DTYPES, cell_loss, every_batch, naive_proba
from scipy.special import softmax
from sklearn.metrics import (
    brier_score_loss,
    log_loss,
    mean_gamma_deviance,
    mean_pinball_loss,
    mean_poisson_deviance,
    mean_squared_error,
)

from sklearn_mtl.kinds import KINDS
from sklearn_mtl.losses import CELL_LOSSES, KindLoss, TaskLosses

# -- values -----------------------------------------------------------------------------------

VALUES = [
    # kind, family, raw outputs, target, loss
    ("regression", "likelihood", [3.0], 1.0, 4.0),
    ("regression", "squared", [3.0], 1.0, 4.0),
    ("regression", "likelihood", [-1e3], 1e3, 4e6),
    ("regression", "likelihood", [0.1], 0.1, 0.0),
    ("classification", "likelihood", [0.0, 0.0], 1, math.log(2)),
    ("classification", "likelihood", [0.0, math.log(3)], 0, math.log(4)),
    ("classification", "likelihood", [0.0, math.log(3)], 1, math.log(4 / 3)),
    ("classification", "likelihood", [7.0, 7.0, 7.0, 7.0], 2, math.log(4)),
    ("classification", "likelihood", [0.0, 1e4], 0, 1e4),
    ("classification", "likelihood", [0.0, 1e4], 1, 0.0),
    ("classification", "likelihood", [5.0], 0, 0.0),
    ("classification", "squared", [0.0, 0.0], 1, 0.5),
    ("classification", "squared", [0.0, math.log(3)], 0, 2 * 0.75**2),
    ("classification", "squared", [0.0, math.log(3)], 1, 2 * 0.25**2),
    ("classification", "squared", [0.0, 1e4], 0, 2.0),
    ("classification", "squared", [1.0, 1.0, 1.0], 0, 2 / 3),
    ("ordinal", "likelihood", [], 0, 0.0),
    ("ordinal", "likelihood", [0.0], 1, math.log(2)),
    ("ordinal", "likelihood", [math.log(3)], 0, math.log(4)),
    ("ordinal", "likelihood", [math.log(3)], 1, math.log(4 / 3)),
    # P(y >= 1) = 3/4; log(1 + 2) less on the log-odds makes P(y >= 2) = 1/2
    ("ordinal", "likelihood", [math.log(3), math.log(2)], 0, math.log(4)),
    ("ordinal", "likelihood", [math.log(3), math.log(2)], 1, math.log(4)),
    ("ordinal", "likelihood", [math.log(3), math.log(2)], 2, math.log(2)),
    ("ordinal", "squared", [], 0, 0.0),
    ("ordinal", "squared", [math.log(3)], 0, 0.75**2),
    ("ordinal", "squared", [math.log(3)], 1, 0.25**2),
    ("ordinal", "squared", [math.log(3), math.log(2)], 0, 0.75**2 + 0.5**2),
    ("ordinal", "squared", [math.log(3), math.log(2)], 1, 0.25**2 + 0.5**2),
    ("ordinal", "squared", [math.log(3), math.log(2)], 2, 0.25**2 + 0.5**2),
    ("ordinal", "squared", [-1e4, 0.0], 2, 2.0),
    ("quantile", "likelihood", [3.0], 1.0, 1.0),  # the median, if nothing is said
    ("quantile", "squared", [1.0], 3.0, 1.0),
    ("quantile", "likelihood", [0.1], 0.1, 0.0),
    ("poisson", "likelihood", [0.0], 0.0, 2.0),
    ("poisson", "likelihood", [math.log(2)], 3.0, 2 * (3 * math.log(1.5) - 1)),
    ("poisson", "likelihood", [math.log(2)], 0.5, 2 * (0.5 * math.log(0.25) + 1.5)),
    ("poisson", "likelihood", [0.0], 1.0, 0.0),
    ("poisson", "squared", [math.log(2)], 5.0, 9.0 / math.expm1(1)),
    ("gamma", "likelihood", [0.0], 3.0, 2 * (2 - math.log(3))),
    ("gamma", "likelihood", [math.log(4)], 2.0, 2 * (math.log(2) - 0.5)),
    ("gamma", "likelihood", [0.0], 1.0, 0.0),
    ("gamma", "squared", [math.log(2)], 0.5, 2.25 / math.expm1(1)),
]


@pytest.mark.parametrize(("kind", "family", "raw", "target", "expected"), VALUES)
def test_values(kind, family, raw, target, expected):
    task_losses = TaskLosses([kind], [len(raw)], family)
    losses, _ = task_losses(
        torch.tensor([raw], dtype=torch.float64), torch.tensor([[target]], dtype=torch.float64)
    )
    assert losses.item() == pytest.approx(expected, rel=1e-12)


def by_scikit_learn(kind, params, raw, y, w):
    """Mean loss of a task in either family."""
    if kind == "quantile":
        return [mean_pinball_loss(y, raw, sample_weight=w, alpha=params.get("quantile", 0.5))] * 2
    if kind in ("poisson", "gamma", "regression"):
        mean = raw if kind == "regression" else np.exp(raw)
        deviance = {"poisson": mean_poisson_deviance, "gamma": mean_gamma_deviance}
        variance = 1 if kind == "regression" else np.expm1(1)  # of lognormal numbers of spread 1
        return [
            deviance.get(kind, mean_squared_error)(y, mean, sample_weight=w),
            mean_squared_error(y, mean, sample_weight=w) / variance,
        ]
    proba = naive_proba(raw) if kind == "ordinal" else softmax(raw, axis=1)
    labels = np.arange(proba.shape[1])
    if kind == "ordinal":
        score = sum(
            mean_squared_error(y > c, proba[:, c + 1 :].sum(axis=1), sample_weight=w)
            for c in labels[:-1]
        )
    else:
        score = brier_score_loss(y, proba, labels=labels, sample_weight=w, scale_by_half=False)
    return [log_loss(y, proba, labels=labels, sample_weight=w), score]


@every_batch("ensemble", "every kind, ensemble", "one class", "one ordered class", *LARGE)
@pytest.mark.parametrize("weighted", [False, True])
def test_values_are_those_of_scikit_learn(batch, weighted):
    rng = np.random.default_rng(0)
    weight = rng.random(batch.target.shape) if weighted else np.ones(batch.target.shape)
    weight = torch.from_numpy(weight) * batch.observed
    losses = {
        family: batch.losses(family)(batch.output, batch.target, weight)[0]
        for family in ("likelihood", "squared")
    }
    for k, kind in enumerate(batch.kinds):
        rows = batch.observed[:, k]
        if not rows.any():
            continue
        raw = batch.output[rows][:, batch.columns(k)].numpy()
        y, w = batch.target[rows, k].numpy(), weight[rows, k].numpy()
        expected = by_scikit_learn(kind, batch.params[k], raw, y, w)
        for family, value in zip(("likelihood", "squared"), expected, strict=True):
            assert losses[family][k].item() == pytest.approx(value, rel=1e-9)


# -- cells of every kind --------------------------------------------------------------------

CELLS = [(kind, family) for kind in CELL_LOSSES for family in ("likelihood", "squared")]
EVERY_CELL = pytest.mark.parametrize(("kind", "family"), CELLS)


def test_losses_by_name_are_those_of_kinds():
    """A kind may have a loss that has no name."""
    assert {name: KINDS[name].cell_loss for name in CELL_LOSSES} == CELL_LOSSES
    assert all(isinstance(kind.cell_loss, KindLoss) for kind in KINDS.values())


@TORCH_DTYPES
@pytest.mark.parametrize("size", [19.9, 20.0, 20.1, 50.0, 1e4, 1e8])
@EVERY_CELL
def test_raw_outputs_far_out(kind, family, size, dtype):
    """Value and gradient are finite, for every pattern of signs; what is wrong still counts."""
    width = 3 if kind in ("classification", "ordinal") else 1
    signs = torch.cartesian_prod(*[torch.tensor([-1.0, 0.0, 1.0])] * width).view(-1, width)
    targets = {"gamma": [0.5, 100.0], "poisson": [0.0, 0.5, 100.0]}.get(kind, [0.0, 1.0, 2.0])
    raw = (size * signs).to(dtype).repeat_interleave(len(targets), dim=0)
    target = torch.tensor(targets, dtype=dtype).repeat(len(signs))
    loss = cell_loss(kind, family)
    value, gradient = value_and_gradient(lambda f: loss(f, target).sum(), raw)
    assert_finite(value, gradient, loss(raw, target))
    assert value.dtype == dtype
    assert (loss(raw, target) >= 0).all()
    assert loss(raw, target).max() > 0.5


@TORCH_DTYPES
@pytest.mark.parametrize("kind", ["poisson", "gamma"])
def test_deviances_are_never_negative(kind, dtype):
    """Not even by rounding, where the mean is next to the target."""
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(20_000, dtype=dtype, generator=generator) * 100 + 1e-3
    for spread in (0, 1, 10, 1e3, 1e6):
        error = torch.randn(20_000, dtype=dtype, generator=generator) * torch.finfo(dtype).eps
        loss = cell_loss(kind, "likelihood")((target.log() + spread * error).unsqueeze(-1), target)
        assert (loss >= 0).all()
        assert (loss <= 1e3 * (spread + 10) ** 2 * torch.finfo(dtype).eps ** 2 * 100).all()


@pytest.mark.parametrize("kind", ["poisson", "gamma", "quantile", "regression"])
@FAMILIES
def test_a_perfect_fit_gives_nothing(kind, family):
    target = torch.logspace(-6, 6, 50, dtype=torch.float64)
    raw = target.log() if kind in ("poisson", "gamma") else target
    value, gradient = value_and_gradient(
        lambda f: (cell_loss(kind, family)(f, target) / target).sum(), raw.unsqueeze(-1)
    )
    assert value < 1e-20
    if kind != "quantile":  # which has a kink there
        assert gradient.abs().max() < 1e-8


def test_the_gradient_of_gamma_does_not_know_the_unit():
    """Twice the amount, and twice the mean: the same value and the same gradient."""
    target = torch.tensor([0.3, 1.0, 7.0]).double()
    raw = torch.tensor([[0.4], [-1.0], [2.0]]).double()

    def result(unit):
        loss = cell_loss("gamma", "likelihood")
        return value_and_gradient(lambda f: loss(f, unit * target).sum(), raw + math.log(unit))

    for unit in (1e-3, 1e3):
        torch.testing.assert_close(result(unit), result(1.0))


def test_the_deviance_of_poisson_grows_with_the_unit():
    target, raw = torch.tensor([0.0, 2.0]).double(), torch.tensor([[0.4], [-1.0]]).double()
    loss = cell_loss("poisson", "likelihood")
    torch.testing.assert_close(loss(raw + math.log(7), 7 * target), 7 * loss(raw, target))


@pytest.mark.parametrize("level", [0.05, 0.5, 0.9])
def test_the_slopes_of_the_pinball_loss(level):
    raw = torch.tensor([[-1.0], [1.0]]).double()
    loss = cell_loss("quantile", "likelihood", quantile=level)
    _, gradient = value_and_gradient(lambda f: loss(f, torch.zeros(2)).sum(), raw)
    torch.testing.assert_close(gradient[:, 0], torch.tensor([-level, 1 - level]).double())


@FAMILIES
def test_two_ordered_classes_are_two_classes(family):
    """Binary cross-entropy, and half of the two-class Brier score."""
    raw = torch.linspace(-40, 40, 17).double().unsqueeze(-1)
    share = 1.0 if family == "likelihood" else 0.5

    def ordered(raw, target):
        return cell_loss("ordinal", family)(raw, target).sum()

    def classes(raw, target):
        logits = torch.cat([torch.zeros_like(raw), raw], dim=-1)
        return share * cell_loss("classification", family)(logits, target).sum()

    for label in (0.0, 1.0):
        target = torch.full((17,), label).double()
        for one, other in zip(
            value_and_gradient(ordered, raw, target),
            value_and_gradient(classes, raw, target),
            strict=True,
        ):
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("kind", ["poisson", "gamma"])
def test_spread_and_unit_are_factors(kind):
    """Of raw outputs, and of deviances; squared errors know no unit."""
    target = torch.tensor([0.3, 1.0, 7.0]).double()
    raw = torch.tensor([[0.4], [-1.0], [2.0]]).double()
    deviance, squared, _, _ = CELL_LOSSES[kind]
    torch.testing.assert_close(
        deviance(raw, target, spread=0.3, unit=4), deviance(0.3 * raw, target) / 4
    )
    assert torch.equal(squared(raw, target, unit=4), squared(raw, target))
