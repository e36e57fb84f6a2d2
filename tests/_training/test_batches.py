"""Batches: every row once, in which order, and with which shares."""

import numpy as np
import pytest
import torch

from sklearn_mtl._data.decoding import EncodedTargets
from sklearn_mtl._data.inputs import Source
from sklearn_mtl._training import batches as reading
from sklearn_mtl._training.batches import Batches, LeftOut
from sklearn_mtl._training.recipe import Recipe
from sklearn_mtl.losses import TaskLosses
from sklearn_mtl.networks import DenseTrunk, MultiTaskModule, build_trunk


def source_of(values):
    """Samples that are not standardised."""
    return Source(lambda rows: values[rows], (1,), np.zeros(1), np.ones(1))


def make_batches(n_rows=23, batch_size=5, shuffle_seed=0):
    """Rows 0, 2, 4, ... of an X that says the number of its row; y is ten times that."""
    values = np.arange(2.0 * n_rows)[:, None]
    recipe = Recipe(1, batch_size, 1e-3, "SGD", 0.0, "cpu", "float64", 0, {})
    rows = np.arange(0, 2 * n_rows, 2)
    weight = np.ones_like(values)
    targets = EncodedTargets(10 * values, weight)
    order = None if shuffle_seed is None else np.random.default_rng(shuffle_seed)
    return Batches(source_of(values), targets, rows, recipe, order)


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
    targets = EncodedTargets(values, weight)
    batches = Batches(source_of(values), targets, np.arange(23), recipe)
    start = 0
    for x, (target, observed, share, counts, members, reach) in batches:
        part = slice(start, start := start + len(x))
        w = weight[part] / weight.max(axis=0)
        assert torch.equal(target, x)
        np.testing.assert_allclose(counts, w.sum(axis=0))
        np.testing.assert_allclose(share * counts, w)
        assert observed is None if not holes else (observed.numpy() == (w > 0)).all()
        assert members is None
        assert reach is None
    assert start == 23


def test_the_other_bounds_come_with_their_rows():
    values = np.arange(23.0)[:, None]
    targets = EncodedTargets(values, np.ones_like(values), np.where(values % 2, np.inf, -values))
    recipe = Recipe(1, 5, 1e-3, "SGD", 0.0, "cpu", "float32", 0, {})
    rows, folds = np.arange(3, 23), np.arange(20) % 3
    batches = Batches(source_of(values), targets, rows, recipe, np.random.default_rng(0), folds, 3)
    for x, cells in batches:
        torch.testing.assert_close(cells.reach, torch.where(x % 2 == 1, torch.inf, -x))
    for x, *_, reach in LeftOut(batches):
        x = x.reshape(-1, 1)
        torch.testing.assert_close(reach, torch.where(x % 2 == 1, torch.inf, -x))


# -- folds --------------------------------------------------------------------------------------


def with_folds(folds, n_folds=3, weight=None, batch_size=5):
    """Rows of an X that says the number of its row, every second of which is trained on."""
    n_rows = len(folds)
    values = np.arange(2.0 * n_rows)[:, None]
    recipe = Recipe(1, batch_size, 1e-3, "SGD", 0.0, "cpu", "float64", 0, {})
    rows = np.arange(0, 2 * n_rows, 2)
    weight = np.ones_like(values) if weight is None else weight
    return Batches(
        *(source_of(values), EncodedTargets(10 * values, weight), rows, recipe),
        folds=np.asarray(folds),
        n_folds=n_folds,
    )


def test_members_share_the_loss_of_a_row_but_for_the_one_that_leaves_it_out():
    folds = np.random.default_rng(0).integers(4, size=23)
    for x, cells in with_folds(folds, n_folds=4):
        fold = folds[x[:, 0].numpy().astype(int) // 2]
        expected = np.where(fold[:, None] == np.arange(4), 0, 1 / 3)
        np.testing.assert_allclose(cells.members, expected)


FOLDS = {
    "equal": [0, 1, 2, 2, 1, 0],
    "unequal": [1, 1, 0, 1, 2, 1, 1, 0],
    "an empty one": [1, 1, 0, 1],
    "one row": [2],
}


@pytest.mark.parametrize("values_at_once", [1, 6, 2**19])
@pytest.mark.parametrize("folds", FOLDS.values(), ids=FOLDS)
def test_each_row_is_left_out_once_by_its_member(folds, values_at_once, monkeypatch):
    """However many are read at once; what fills up shorter folds has no weight."""
    monkeypatch.setattr(reading, "READ_VALUES", values_at_once)
    weight = np.arange(1.0, 2 * len(folds) + 1)[:, None]
    batches, found = with_folds(folds, weight=weight), []
    for x, target, w, _ in LeftOut(batches):
        assert x.shape == (len(x), 3, 1)
        assert target.shape == w.shape == (3 * len(x), 1)
        assert torch.equal(target, 10 * x.flatten(0, 1))
        for b, m in np.ndindex(len(x), 3):
            if w[3 * b + m] > 0:
                found.append((int(x[b, m]) // 2, m, float(w[3 * b + m])))
    heaviest = weight[::2].max()
    assert sorted(found) == [
        (row, fold, pytest.approx(weight[2 * row, 0] / heaviest)) for row, fold in enumerate(folds)
    ]


@pytest.mark.parametrize(("values_at_once", "n_reads"), [(3, 4), (2**19, 1)])
def test_rows_left_out_that_are_read_at_once_are_read_once(values_at_once, n_reads, monkeypatch):
    """Others are read in each pass; what comes is the same."""
    monkeypatch.setattr(reading, "READ_VALUES", values_at_once)
    batches, reads = with_folds(FOLDS["equal"]), []
    inputs = batches.inputs
    batches.inputs = lambda rows: reads.append(rows) or inputs(rows)
    left_out = LeftOut(batches)
    for first, again in zip(list(left_out), list(left_out), strict=True):
        for tensor, same in zip(first[:3], again[:3], strict=True):
            assert torch.equal(tensor, same)
    assert len(reads) == n_reads


@pytest.mark.parametrize("head_hidden_units", [0, 3])
def test_what_a_fold_holds_does_not_reach_the_member_that_leaves_it_out(head_hidden_units):
    """To the last bit, after some epochs; the bias of the heads stands still here."""
    folds = np.random.default_rng(0).integers(3, size=40)

    def train(values):
        batches = Batches(
            Source(lambda rows: X[rows], (2,), np.zeros(2), np.ones(2)),
            *(EncodedTargets(values, np.ones_like(values)), np.arange(40)),
            Recipe(1, 16, 1e-3, "SGD", 0.0, "cpu", "float64", 0, {}),
            *(np.random.default_rng(0), folds, 3),
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            trunk = build_trunk(DenseTrunk((6, 4), n_members=3, n_frequencies=0), (2,))
            module = MultiTaskModule(*trunk, [1, 1], None, head_hidden_units).double()
        module.heads.bias.requires_grad_(False)
        optimizer = torch.optim.AdamW(module.parameters(), lr=0.01)
        losses = TaskLosses(["regression"] * 2, [1, 1])
        for _ in range(4):
            for x, cells in batches:
                optimizer.zero_grad()
                losses.compare(module(x), cells).sum().backward()
                optimizer.step()
        return {n: p.detach() for n, p in module.named_parameters() if n != "heads.bias"}

    rng = np.random.default_rng(1)
    X, values = rng.normal(size=(40, 2)), rng.normal(size=(40, 2))
    other = np.where(folds[:, None] == 1, 1e3 * rng.normal(size=(40, 2)), values)
    before, after = train(values), train(other)
    for name, weights in before.items():
        alike = [torch.equal(a, b) for a, b in zip(weights, after[name], strict=True)]
        assert alike == [False, True, False], name
