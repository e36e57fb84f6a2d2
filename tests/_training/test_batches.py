"""Batches: every row once, in which order, and with which shares."""

import numpy as np
import pytest
import torch

from sklearn_mtl._data.inputs import Source
from sklearn_mtl._training.batches import Batches
from sklearn_mtl._training.recipe import Recipe


def source_of(values):
    """Samples that are not standardised."""
    return Source(lambda rows: values[rows], (1,), np.zeros(1), np.ones(1))


def make_batches(n_rows=23, batch_size=5, shuffle_seed=0):
    """Rows 0, 2, 4, ... of an X that says the number of its row; y is ten times that."""
    values = np.arange(2.0 * n_rows)[:, None]
    recipe = Recipe(1, batch_size, 1e-3, "SGD", 0.0, "cpu", "float64", 0, {})
    rows = np.arange(0, 2 * n_rows, 2)
    weight = np.ones_like(values)
    return Batches(source_of(values), 10 * values, weight, rows, recipe, shuffle_seed)


@pytest.mark.parametrize("shuffle_seed", [None, 0])
@pytest.mark.parametrize("n_rows", [1, 5, 6, 23, 64])
@pytest.mark.parametrize("batch_size", [1, 5, 100])
def test_batches_hold_every_row_once(n_rows, batch_size, shuffle_seed):
    """In sizes that differ by at most one, read forwards, and each with its target."""
    batches = make_batches(n_rows, batch_size, shuffle_seed)
    for _ in range(2):
        parts = [(x[:, 0], target[:, 0]) for x, (target, *_) in batches]
        sizes = [len(x) for x, _ in parts]
        assert len(parts) == len(batches)
        assert max(sizes) <= min(batch_size, min(sizes) + 1)
        assert all((x.diff() > 0).all() and torch.equal(target, 10 * x) for x, target in parts)
        assert sorted(torch.cat([x for x, _ in parts]).tolist()) == list(range(0, 2 * n_rows, 2))


def test_batches_are_shuffled_reproducibly():
    """Anew in every pass, alike for one seed; without a seed in order."""

    def passes(seed):
        batches = make_batches(shuffle_seed=seed)
        return [[x[:, 0].tolist() for x, _ in batches] for _ in range(2)]

    assert passes(1) == passes(1)
    assert passes(1) != passes(2)
    assert passes(1)[0] != passes(1)[1]
    assert [row for part in passes(None)[1] for row in part] == list(range(0, 46, 2))


@pytest.mark.parametrize("holes", [False, True])
def test_batches_know_their_shares(holes):
    """Each target's share of its task's weight in the batch; no mask where nothing is missing."""
    rng = np.random.default_rng(0)
    values, weight = rng.normal(size=(23, 2)), rng.uniform(1, 2, size=(23, 2))
    weight[:7, 0] = weight[:7, 0] * (not holes)
    recipe = Recipe(1, 5, 1e-3, "SGD", 0.0, "cpu", "float64", 0, {})
    batches = Batches(source_of(values), values, weight, np.arange(23), recipe)
    start = 0
    for x, (target, observed, share, counts, members) in batches:
        part = slice(start, start := start + len(x))
        w = weight[part] / weight.max(axis=0)
        assert torch.equal(target, x)
        np.testing.assert_allclose(counts, w.sum(axis=0))
        np.testing.assert_allclose(share * counts, w)
        assert observed is None if not holes else (observed.numpy() == (w > 0)).all()
        assert members is None
    assert start == 23
