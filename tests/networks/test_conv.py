"""The convolutional trunk."""

import collections
import itertools

import numpy as np
import pytest
import torch
from _asserts import assert_finite
from _samples import random_inputs
from torch import nn

from sklearn_mtl.networks import ConvTrunk, build_trunk


@pytest.mark.parametrize("shape", [(1, 64), (1, 32, 32), (2, 40, 24), (1, 16, 16, 16)], ids=str)
def test_conv_features_tell_where_things_are(shape):
    """The same spot elsewhere is as different as no spot; for an average it would be the same."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        trunk, _ = build_trunk(ConvTrunk(width=8, n_features=32, max_shift=0), shape)
    here, there, nowhere = torch.zeros(3, 1, *shape)
    here[(..., *[slice(s // 4, s // 4 + 2) for s in shape[1:]])] = 1
    there[(..., *[slice(3 * s // 4, 3 * s // 4 + 2) for s in shape[1:]])] = 1
    features = trunk(here)
    assert (features - trunk(there)).norm() > 0.6 * (features - trunk(nowhere)).norm()


LARGE = [
    (1, 8),
    (2, 511),
    (1, 8, 8),
    (3, 31, 129),
    (1, 512, 512),
    (1, 1, 512),
    (2, 8, 8, 8),
    (1, 33, 17, 5),
]


@pytest.mark.parametrize("shape", LARGE, ids=str)
def test_conv_trunk_adapts_its_depth_to_the_size(shape):
    """The last map is about 4 cells long, and a batch of one is its row in a batch."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        trunk, n_features = build_trunk(ConvTrunk(width=2, n_features=5), shape)
    trunk.eval()
    maps = []
    pool = next(m for m in trunk if type(m).__name__.startswith("AdaptiveAvgPool"))
    pool.register_forward_pre_hook(lambda module, args: maps.append(args[0].shape[2:]))
    x = random_inputs(shape, n=2)
    with torch.no_grad():
        features = trunk(x)
        assert features.shape == (2, n_features)
        assert_finite(features)
        torch.testing.assert_close(trunk(x[:1]), features[:1], rtol=1e-4, atol=1e-5)
    assert max(shape[1:]) <= 4 or 3 <= max(maps[0]) <= 6


@pytest.mark.parametrize("shape", [(1, 32), (1, 16, 16), (1, 8, 8, 8)], ids=str)
def test_a_linear_head_reads_coordinates_off_the_features(shape):
    """Least squares on untrained features finds a spot, unlike on averages over the last map.

    Convolutions wrap around here: the zeros beyond the borders would tell averages where it is.
    """
    rng = torch.Generator().manual_seed(0)
    where = torch.stack([torch.randint(1, s - 1, (400,), generator=rng) for s in shape[1:]], dim=1)
    x = torch.zeros(400, *shape)
    for image, spot in zip(x, where, strict=True):
        image[(0, *[slice(i - 1, i + 1) for i in spot])] = 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        trunk, _ = build_trunk(ConvTrunk(n_features=64, max_shift=0), shape)
    for module in trunk.modules():
        if hasattr(module, "padding_mode"):
            module.padding_mode = "circular"
    maps = trunk[:-4]  # then pool, flatten, linear, LeakyReLU

    def r2(features):
        """Of the coordinates in 100 rows, fitted on the other 300."""
        A = torch.cat([features, torch.ones(len(x), 1)], dim=1).double()
        y = where.double() - where[:300].double().mean(dim=0)
        weights = A[:300].T @ A[:300] + 1e-3 * torch.eye(A.shape[1], dtype=A.dtype)
        error = y[300:] - A[300:] @ torch.linalg.solve(weights, A[:300].T @ y[:300])
        return float(1 - error.square().sum() / y[300:].square().sum())

    with torch.no_grad():
        assert r2(trunk(x)) > 0.8
        assert r2(maps(x).flatten(2).mean(dim=2)) < 0.7


@pytest.mark.parametrize("shape", [(2, 60), (1, 9, 21), (3, 30, 12), (1, 11, 30, 12)], ids=str)
def test_conv_trunk_moves_each_sample_in_training(shape):
    """By all shifts of a tenth of a side at most, edges repeated; not in predictions."""
    shift = build_trunk(ConvTrunk(width=2, n_features=3), shape)[0][0]
    reach = [size // 10 for size in shape[1:]]
    assert list(shift.reach) == reach
    sample = random_inputs(shape, n=1)
    x = sample.expand(400, *shape)
    padded = np.pad(sample[0].numpy(), [(0, 0), *((r, r) for r in reach)], mode="edge")
    expected = {}
    for start in itertools.product(*(range(2 * r + 1) for r in reach)):
        part = padded[(slice(None), *map(slice, start, np.add(start, shape[1:])))]
        expected[part.tobytes()] = start
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        moved = shift.train()(x)
    starts = [expected[part.numpy(force=True).tobytes()] for part in moved.contiguous()]
    assert set(starts) == set(expected.values())
    counts = np.array(list(collections.Counter(starts).values()))
    uniform = 400 / len(expected)
    assert ((counts - uniform) ** 2 / uniform).sum() < len(expected) + 5 * (
        2 * len(expected)
    ) ** 0.5
    assert shift.eval()(x) is x


@pytest.mark.parametrize(
    ("spec", "size"), [(ConvTrunk(2, 3, max_shift=0), 40), (ConvTrunk(2, 3), 9)]
)
def test_conv_trunk_that_moves_nothing(spec, size):
    """Without shifts, or with sides too short to move, training and predictions see the same."""
    trunk, _ = build_trunk(spec, (1, size, size))
    x = random_inputs((1, size, size))
    torch.testing.assert_close(trunk.train()(x), trunk.eval()(x), rtol=0, atol=0)


@pytest.mark.parametrize(
    "params",
    [
        {"width": 0},
        {"n_features": 0},
        {"max_shift": -0.1},
        {"max_shift": 0.6},
        {"stride": 0},
        {"stride": "large"},
    ],
    ids=str,
)
def test_conv_trunk_checks_its_parameters(params):
    (name,) = params
    with pytest.raises(ValueError, match=f"'{name}' parameter of ConvTrunk"):
        build_trunk(ConvTrunk(**params), (1, 8, 8))


def test_units_of_the_conv_trunk_that_are_off_still_learn():
    """Strong weight decay can turn all of them off before the first thing is learned."""
    trunk, _ = build_trunk(ConvTrunk(), (1, 16, 16))
    trunk.eval()
    summary = next(m for m in trunk if isinstance(m, nn.Linear))
    with torch.no_grad():
        summary.bias.fill_(-100)
    features = trunk(random_inputs((1, 16, 16)))
    assert (features < 0).all()
    features.sum().backward()
    assert all(p.grad.abs().max() > 0 for p in trunk.parameters())


@pytest.mark.parametrize(
    ("shape", "stride"),
    [
        ((3, 127, 127), 1),
        ((3, 64, 128), 1),
        ((1, 1, 4096), 1),
        ((1, 4096), 1),
        ((1, 130, 130, 130), 1),
        ((1, 128, 128), 2),
        ((3, 160, 160), 2),
        ((3, 224, 224), 4),
        ((1, 128, 512), 4),
        ((3, 512, 512), 8),
    ],
    ids=str,
)
def test_large_images_are_made_smaller_at_once(shape, stride):
    """The stages see about 64 x 64 pixels; small images, and what is no image, all of theirs."""
    trunk, _ = build_trunk(ConvTrunk(width=2, n_features=3), shape)
    same, _ = build_trunk(ConvTrunk(width=2, n_features=3, stride=stride), shape)
    assert repr(trunk) == repr(same)
    strides = [max(m.stride) for m in trunk.modules() if type(m).__name__.startswith("Conv")]
    assert strides == [stride] * (stride > 1) + [1] * (len(strides) - (stride > 1))


@pytest.mark.parametrize("shape", [(2, 41), (1, 40, 23), (3, 1, 30), (1, 8, 9, 10)], ids=str)
@pytest.mark.parametrize("stride", [2, 3, 4])
def test_a_stride_is_that_of_the_first_convolution(shape, stride):
    """Sides become shorter by it, rounded up, and every pixel is seen."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        trunk, _ = build_trunk(ConvTrunk(2, 3, max_shift=0, stride=stride), shape)
    stem = trunk[1]
    x = random_inputs(shape, n=2).requires_grad_()
    out = stem[0](x)
    assert out.shape[2:] == tuple(-(-side // stride) for side in shape[1:])
    out.square().sum().backward()
    assert (x.grad != 0).all()


def test_conv_trunk_refuses_rows():
    with pytest.raises(ValueError, match=r"got \(5,\). Pass input_shape="):
        build_trunk("conv", (5,))
