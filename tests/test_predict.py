"""Prediction: in chunks, in evaluation mode, and in the network's own precision."""

import numpy as np
import pytest
import torch
from _fits import X, Y, make
from torch import nn

from sklearn_mtl import _predict
from sklearn_mtl._data.inputs import Source
from sklearn_mtl.networks import DenseTrunk


def test_predictions_are_those_of_evaluation():
    """Also when a part of the module was set to training after the fit."""
    trunk = nn.Sequential(nn.Linear(3, 6), nn.Dropout(0.5))
    estimator = make(trunk=trunk).fit(X, Y)
    expected = estimator.predict(X)
    estimator.module_.trunk.train()
    np.testing.assert_array_equal(estimator.predict(X), expected)


@pytest.mark.parametrize(
    ("limit", "value", "n_features", "largest"),
    [
        ("CHUNK_VALUES", 1, 8, 1),
        ("CHUNK_VALUES", 8 * 3 - 1, 8, 2),
        ("CHUNK_VALUES", 8 * 60, 8, 60),
        ("CHUNK_VALUES", 3 * 3 - 1, 2, 2),
        ("CHUNK_ROWS", 1, 8, 1),
        ("CHUNK_ROWS", 7, 8, 7),
        ("CHUNK_ROWS", 60, 8, 60),
    ],
)
def test_predictions_do_not_depend_on_the_chunks(limit, value, n_features, largest, monkeypatch):
    """Of at most so many features, or input values, three per row, and so many rows."""
    trunk = DenseTrunk((n_features,), n_members=1)
    estimator = make(trunk=trunk, precision="float64").fit(X, Y)
    expected, embedded = estimator.predict(X), estimator.embed(X)
    monkeypatch.setattr(_predict, limit, value)
    sizes = []
    handle = estimator.module_.trunk.register_forward_pre_hook(
        lambda module, args: sizes.append(len(args[0]))
    )
    np.testing.assert_allclose(estimator.predict(X), expected, rtol=1e-12)
    handle.remove()
    assert (max(sizes), sum(sizes)) == (largest, 60)
    np.testing.assert_allclose(estimator.embed(X), embedded, rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64, np.int64])
@pytest.mark.parametrize("limit", [1, 12, 40, 10**9])
def test_large_batches_are_standardised_in_pieces(dtype, limit, monkeypatch):
    """Each value by the same operations: nothing changes."""
    X = np.random.default_rng(0).integers(0, 200, size=(11, 2, 3, 2)).astype(dtype)
    mean, scale = np.array([[[1e3]], [[-7.3]]]), np.array([[[3.7]], [[1e-3]]])
    source = Source(lambda rows: X[rows], X.shape[1:], mean, scale)
    inputs = _predict.Inputs(source, torch.float32, torch.device("cpu"))
    monkeypatch.setattr(_predict, "CHUNK_VALUES", limit)
    found = inputs(np.arange(11)).numpy()
    np.testing.assert_array_equal(found, ((X - mean) / scale).astype(np.float32))
    assert found.flags.c_contiguous
    (part, whole) = inputs.parts([np.arange(3), np.arange(11)])
    np.testing.assert_array_equal(part.numpy(), found[:3])
    np.testing.assert_array_equal(whole.numpy(), found)


class HalfTrunk(nn.Linear):
    def forward(self, x):
        with torch.autocast("cpu", torch.bfloat16):
            return super().forward(x)


def test_features_of_half_precision_are_embedded():
    estimator = make(trunk=HalfTrunk(3, 4), precision="bfloat16").fit(X, Y)
    assert estimator.embed(X).dtype == estimator.predict(X).dtype == np.float64
