"""Randomness: one seed gives the same bits, and global states are left as found."""

import contextlib

import numpy as np
import pytest
import torch
from _asserts import assert_random_states_untouched
from _fits import X, Y, make, weights_of
from torch import nn

from sklearn_mtl.networks import ConvTrunk, DenseTrunk


def dropout_trunk():
    return nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5))


def shifting_trunk():
    """Rows of 3 as sequences, which move by one step."""
    return nn.Sequential(nn.Unflatten(1, (1, 3)), ConvTrunk(2, 3, max_shift=0.5).build((1, 3)))


TRUNKS = pytest.mark.parametrize(
    "trunk", [DenseTrunk((8,)), dropout_trunk, shifting_trunk], ids=["dense", "dropout", "shift"]
)


@TRUNKS
def test_global_random_states_are_left_as_found(trunk):
    with assert_random_states_untouched():
        estimator = make(trunk=trunk, early_stopping=True).fit(X, Y)
        estimator.predict(X)


@TRUNKS
def test_dropout_and_shifts_are_off_in_predictions(trunk):
    estimator = make(trunk=trunk).fit(X, Y)
    estimator.module_.train()
    np.testing.assert_array_equal(estimator.predict(X), estimator.predict(X))


@TRUNKS
def test_one_seed_gives_the_same_bits(trunk):
    def fit(seed):
        return weights_of(make(trunk=trunk, random_state=seed, early_stopping=True).fit(X, Y))

    torch.manual_seed(1)
    expected = fit(0)
    torch.manual_seed(2)
    assert torch.equal(fit(0), expected)
    assert not torch.equal(fit(1), expected)
    assert torch.equal(fit(np.random.RandomState(3)), fit(np.random.RandomState(3)))
    assert not torch.equal(fit(None), fit(None))


def test_the_seed_drives_the_order_of_the_batches():
    """Also where the weights are given."""
    trunk = dropout_trunk()[:1]
    one, other = (make(trunk=trunk, random_state=seed).fit(X, Y) for seed in (0, 1))
    assert not torch.equal(one.module_.trunk[0].weight, other.module_.trunk[0].weight)


@contextlib.contextmanager
def default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    yield
    torch.set_default_dtype(before)


SETTINGS = {
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "default dtype": lambda: default_dtype(torch.float64),
}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_what_stands_around_says_nothing(setting, method, precision):
    """The same bits, in training and in prediction; and it is left as it was."""
    expected = getattr(make(precision=precision), method)(X, Y)
    with SETTINGS[setting]():
        found = getattr(make(precision=precision), method)(X, Y)
        assert torch.is_autocast_enabled("cpu") == (setting == "autocast")
        assert torch.is_grad_enabled() == (setting not in ("no_grad", "inference_mode"))
        np.testing.assert_array_equal(found.predict_proba(X), expected.predict_proba(X))
    assert torch.equal(weights_of(found), weights_of(expected))
    assert all(p.requires_grad and not p.is_inference() for p in found.module_.parameters())
