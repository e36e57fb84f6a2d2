"""How far outputs are believed: what rows that were left out say about them."""

import numpy as np
import pytest
import torch

from sklearn_mtl.kinds import (
    ClassificationTarget,
    GammaTarget,
    OrdinalTarget,
    PoissonTarget,
    QuantileTarget,
    RegressionTarget,
)
from sklearn_mtl.kinds.base import Kind

N = 400
RNG = np.random.default_rng(0)
SIGNAL = RNG.normal(size=N)
WEIGHT = RNG.uniform(0.5, 2.0, size=N)

KINDS = {
    "regression": (RegressionTarget(), SIGNAL + RNG.normal(size=N)),
    "quantile": (QuantileTarget(0.8), SIGNAL + RNG.normal(size=N)),
    "poisson": (PoissonTarget(), RNG.poisson(np.exp(SIGNAL)).astype(float)),
    "gamma": (GammaTarget(), RNG.gamma(2.0, np.exp(SIGNAL))),
    "classification": (ClassificationTarget(), np.digitize(SIGNAL, [-1, 0.5])),
    "ordinal": (OrdinalTarget(), np.digitize(SIGNAL, [-1, 0.5])),
}


def known(name):
    """A fitted kind, and codes of its targets."""
    kind, values = KINDS[name]
    kind = kind.fit(np.asarray(values), WEIGHT, None)
    return kind, kind.encode(np.asarray(values))


def loss_of(kind, raw, codes):
    """Mean loss (weighted) of raw outputs (n, M, n_outputs)."""
    target = torch.from_numpy(codes)[:, None, None].expand(*raw.shape[:2], 1)
    params = {name: torch.tensor([value]) for name, value in kind.loss_params.items()}
    cells = kind.cell_loss.likelihood(torch.from_numpy(raw).unsqueeze(2), target, **params)
    return np.average(cells.mean(dim=(1, 2)).numpy(), weights=WEIGHT)


def noise(kind, size=1.0, n_members=1):
    return size * np.random.default_rng(1).normal(size=(N, n_members, kind.n_outputs))


@pytest.mark.parametrize("name", KINDS)
def test_noise_is_not_believed(name):
    """What is left is nearly the constant."""
    kind, codes = known(name)
    center = kind.constant(codes, WEIGHT)
    raw = center + noise(kind)
    slope, shift = kind.shrink(raw, codes, WEIGHT)
    assert 0 <= slope < 0.15
    constant = loss_of(kind, np.broadcast_to(center, raw.shape).copy(), codes)
    assert loss_of(kind, slope * raw + shift, codes) == pytest.approx(constant, rel=0.05)
    assert loss_of(kind, raw, codes) > 1.1 * constant


def test_a_clean_number_is_believed():
    kind, codes = known("regression")
    raw = codes[:, None, None] + noise(kind, 0.01)
    slope, shift = kind.shrink(raw, codes, WEIGHT)
    assert slope == pytest.approx(1, abs=0.01)
    assert shift == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize("n_members", [1, 3])
def test_slope_and_shift_of_a_regression_are_those_of_least_squares(n_members):
    """Of targets on predictions, which are means over members."""
    kind, codes = known("regression")
    raw = 0.3 + 2 * codes[:, None, None] + noise(kind, n_members=n_members)
    predicted = raw[..., 0].mean(axis=1)
    expected = np.polyfit(predicted, codes, 1, w=np.sqrt(WEIGHT))
    assert 0 < expected[0] < 1
    slope, shift = kind.shrink(raw, codes, WEIGHT)
    np.testing.assert_allclose([slope, shift[0]], expected)


@pytest.mark.parametrize(("factor", "slope"), [(0.1, 1.0), (-1.0, 0.0)])
def test_outputs_are_never_stretched_nor_turned_around(factor, slope):
    """But their mean is that of the targets, weighted."""
    kind, codes = known("regression")
    raw = 0.7 + factor * codes[:, None, None]
    found, shift = kind.shrink(raw, codes, WEIGHT)
    assert found == slope
    assert np.average(found * raw[:, 0, 0] + shift[0], weights=WEIGHT) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(("factor", "slope"), [(0.1, 1.0), (-1.0, 0.0)])
@pytest.mark.parametrize("name", ["poisson", "ordinal"])
def test_a_search_neither_stretches_nor_turns_around(name, factor, slope):
    kind, codes = known(name)
    raw = kind.constant(codes, WEIGHT) + factor * SIGNAL[:, None, None]
    assert kind.shrink(raw, codes, WEIGHT)[0] == slope


def test_a_search_finds_what_the_closed_form_says():
    """Where outputs have the mean of the targets, the only thing that a slope leaves alone."""
    kind, codes = known("regression")
    raw = codes[:, None, None] + noise(kind)
    raw -= np.average(raw, axis=0, weights=WEIGHT)
    expected, _ = kind.shrink(raw, codes, WEIGHT)
    slope, shift = Kind.shrink(kind, raw, codes, WEIGHT)
    assert 0.2 < expected < 0.8
    assert slope == pytest.approx(expected, abs=2e-3)
    assert shift == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("n_members", [1, 3])
@pytest.mark.parametrize("size", [0.01, 0.5, 3.0])
@pytest.mark.parametrize("name", ["classification", "ordinal", "poisson", "quantile"])
def test_no_loss_gets_worse(name, size, n_members):
    """Of the rows that the slope was found on: to leave outputs as they are is one choice."""
    kind, codes = known(name)
    truth = (codes[:, None] == np.arange(kind.n_outputs)) if kind.is_class else SIGNAL[:, None]
    raw = kind.constant(codes, WEIGHT) + truth[:, None] + noise(kind, size, n_members)
    slope, shift = kind.shrink(raw, codes, WEIGHT)
    assert loss_of(kind, slope * raw + shift, codes) <= loss_of(kind, raw, codes) + 1e-3


@pytest.mark.parametrize("name", ["poisson", "gamma"])
def test_sums_are_met_after_shrinking(name):
    kind, codes = known(name)
    raw = kind.constant(codes, WEIGHT) + 0.2 * SIGNAL[:, None, None] + noise(kind, 0.5, 3)
    slope, shift = kind.shrink(raw, codes, WEIGHT)
    predicted = kind.decode(slope * raw + shift)
    values = KINDS[name][1]
    assert WEIGHT @ predicted == pytest.approx(WEIGHT @ values, rel=1e-9)


def test_one_ordered_class_has_nothing_to_shrink():
    kind = OrdinalTarget(["a"]).fit(np.array(["a", "a"]), np.ones(2), None)
    slope, shift = kind.shrink(np.zeros((2, 1, 0)), np.zeros(2), np.ones(2))
    assert slope == 1
    assert shift.shape == (0,)
