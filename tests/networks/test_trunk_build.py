import collections
import copy
import inspect
import itertools
import math
import warnings

import numpy as np
import pytest
import torch
from _asserts import assert_finite
from _inputs import EnsembleTrunk
from sklearn.base import clone
from torch import nn

from sklearn_mtl.networks import (
    TRUNKS,
    ConvTrunk,
    DenseTrunk,
    HiddenHeads,
    MultiTaskModule,
    _channels_last,
    _MemberLinear,
    _Waves,
    build_trunk,
    takes_channels_last,
)

ROWS = [(1,), (5,)]
SEQUENCES = [(2, 7), (1, 64), (3, 100)]
IMAGES = [(1, 8, 8), (3, 9, 13), (1, 28, 28), (3, 33, 47), (2, 64, 64), (1, 2, 50)]
VOLUMES = [(1, 4, 4, 4), (2, 5, 9, 7)]
SHAPED = SEQUENCES + IMAGES + VOLUMES
# A shape for each spec: what it accepts.
BUILDS = [
    *[(DenseTrunk(), shape) for shape in [*ROWS, (3, 9, 13)]],
    *[(DenseTrunk((7,), n_members=1), shape) for shape in ROWS],
    *[(DenseTrunk((7, 3), n_frequencies=0), shape) for shape in ROWS],
    *[(DenseTrunk(hidden_layer_sizes=()), shape) for shape in ROWS],
    *[(ConvTrunk(width=4, n_features=6), shape) for shape in SHAPED],
    *[(ConvTrunk(), shape) for shape in [(1, 1), (1, 1, 1), (3, 33, 47), (1, 4, 4, 4)]],
    *[(ConvTrunk(width=width, n_features=1), (1, 9, 13)) for width in (1, 3, 12)],
]
SPECS = pytest.mark.parametrize("spec", [DenseTrunk((4, 3)), ConvTrunk(2, 3)], ids=repr)


def random_inputs(shape, n=3, seed=0):
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(seed))


def small_trunk():
    return nn.Sequential(nn.Flatten(), nn.Linear(6, 4))


@pytest.mark.parametrize(("spec", "shape"), BUILDS, ids=str)
def test_specs_build_trunks_that_learn_on_any_shape(spec, shape):
    """Features are finite, rows do not see each other, and every weight gets a gradient."""
    trunk, n_features = build_trunk(spec, shape)
    trunk.eval()  # samples are not shifted
    x = random_inputs(shape).requires_grad_()
    features = trunk(x)
    assert features.shape in ((3, n_features), (3, getattr(spec, "n_members", 1), n_features))
    assert_finite(features)
    torch.testing.assert_close(trunk(x[1:2]), features[1:2], rtol=1e-4, atol=1e-5)
    features.square().sum().backward()
    assert all(p.grad is not None for p in trunk.parameters())
    assert_finite(x.grad, *(p.grad for p in trunk.parameters()))


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
    """By all shifts of about 5 % of a side at most, edges repeated; not in predictions."""
    shift = build_trunk(ConvTrunk(width=2, n_features=3), shape)[0][0]
    reach = [round(size / 20) for size in shape[1:]]
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
    "params", [{"width": 0}, {"n_features": 0}, {"max_shift": -0.1}, {"max_shift": 0.6}], ids=str
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


def test_conv_trunk_refuses_rows():
    with pytest.raises(ValueError, match=r"got \(5,\). Pass input_shape="):
        build_trunk("conv", (5,))


@pytest.mark.parametrize("name", TRUNKS)
def test_names_build_the_default_spec(name):
    shape = (1, 9, 13) if name == "conv" else (5,)
    if name == "tabm":
        pytest.importorskip("tabm")
    trunk, n_features = build_trunk(name, shape)
    expected, n_expected = build_trunk(TRUNKS[name](), shape)
    assert str(trunk) == str(expected)
    assert n_features == n_expected


@pytest.mark.parametrize(
    ("shape", "name"),
    [((5,), "dense"), ((2, 9), "conv"), ((1, 9, 9), "conv"), ((1, 4, 4, 4), "conv")],
)
def test_auto_is_dense_for_rows_and_conv_for_all_else(shape, name):
    assert str(build_trunk("auto", shape)[0]) == str(build_trunk(name, shape)[0])


def test_no_hidden_layer_is_the_identity():
    trunk, n_features = build_trunk(DenseTrunk(hidden_layer_sizes=()), (5,))
    x = random_inputs((5,))
    assert n_features == 5
    assert torch.equal(trunk(x), x)


# -- parts of the dense trunk --------------------------------------------------------------------


def soft_clip(x):
    return x / (1 + (x / 3) ** 2).sqrt()


def test_soft_clip():
    """In closed form: odd, growing, of slope 1 at 0, and never beyond 3."""
    x = (torch.arange(-500, 501).double() / 10).requires_grad_()
    clipped = _Waves(1, 2, 0.3).double()(x[:, None])[:, 0]
    torch.testing.assert_close(clipped, soft_clip(x))
    assert (clipped.abs() < 3).all()
    torch.testing.assert_close(clipped.flip(0), -clipped)
    (slope,) = torch.autograd.grad(clipped.sum(), x)
    assert (slope > 0).all()
    assert slope[500].item() == slope.max().item() == 1
    assert clipped[-1] > 2.99


def test_soft_clip_far_out():
    """In single precision, where it is all but 3, up to the largest number there is."""
    x = torch.tensor([-3e38, -1e18, -1e4, 1e-30, 1e4, 1e18, 3e38]).requires_grad_()
    clipped = _Waves(1, 2, 0.3)(x[:, None])[:, 0]
    torch.testing.assert_close(clipped, torch.tensor([-3, -3, -3, 1e-30, 3, 3, 3]))
    assert_finite(*torch.autograd.grad(clipped.sum(), x))


def test_waves_are_features_and_mixtures_of_their_cosines():
    """sum_f cos(2 pi (x_d v_df + p_df)) m_dfk of clipped features x, one after the other."""
    waves = _Waves(3, 5, 0.7).double()
    given = random_inputs((3,), n=4).double()
    x = soft_clip(given)
    mixtures = torch.zeros(4, 3, waves.n_mixtures).double()
    for d in range(3):
        for f in range(5):
            turns = x[:, d] * waves.frequency[d, f] + waves.phase[d, f]
            mixtures[:, d] += torch.cos(2 * math.pi * turns)[:, None] * waves.mixture[d, f]
    result = waves(given)
    assert result.shape == (4, waves.n_features)
    torch.testing.assert_close(result, torch.cat([x, mixtures.flatten(1)], dim=1))


def test_waves_start_at_random_frequencies_of_the_given_scale():
    """And with mixtures of about the size of a feature, however many waves there are."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        waves = [_Waves(50, n, 0.7) for n in (8, 128)]
    for each in waves:
        assert each.frequency.std().item() == pytest.approx(0.7, rel=0.15)
        assert 0 <= each.phase.min() < 0.05 < 0.95 < each.phase.max() <= 1
        size = each(random_inputs((50,), n=200))[:, 50:].std().item()
        assert size == pytest.approx(0.5**0.5, rel=0.15)


def test_a_dense_trunk_without_waves_and_members_is_a_plain_network():
    """By hand."""
    trunk, n_features = build_trunk(DenseTrunk((7, 3), n_members=1, n_frequencies=0), (5,))
    first, second = (m for m in trunk if isinstance(m, nn.Linear))
    x = 3 * random_inputs((5,))
    hidden = torch.relu(x @ first.weight.T + first.bias)
    expected = torch.relu(hidden @ second.weight.T + second.bias)
    assert n_features == 3
    assert trunk(x).shape == (3, 3)
    torch.testing.assert_close(trunk(x), expected)
    assert sum(p.numel() for p in trunk.parameters()) == 7 * (5 + 1) + 3 * (7 + 1)


@pytest.mark.parametrize("first", [True, False])
def test_member_layers_are_linear_layers_of_one_matrix(first):
    """Member m has diag(scale_out) W diag(scale_in) and a bias of its own."""
    layer = _MemberLinear(5, 4, 3, first)
    assert set(layer.scale_in.unique().tolist()) == ({-1, 1} if first else {1})
    assert (layer.scale_out == 1).all()
    for parameter in (layer.scale_in, layer.scale_out):
        nn.init.normal_(parameter)
    for x in (random_inputs((5,)), random_inputs((3, 5))):
        parts = []
        for m in range(3):
            matrix = layer.scale_out[m].diag() @ layer.shared.weight @ layer.scale_in[m].diag()
            parts.append((x if x.ndim == 2 else x[:, m]) @ matrix.T + layer.bias[m])
        assert layer(x).shape == (3, 3, 4)
        torch.testing.assert_close(layer(x), torch.stack(parts, dim=1))


def test_members_of_a_dense_trunk_differ_and_do_not_see_each_other():
    """From the start; and a member's features move its own parameters and the shared ones alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        trunk, _ = build_trunk(DenseTrunk((16, 8)), (5,))
    features = trunk(random_inputs((5,), n=50))
    for m in range(4):
        for other in range(m):
            difference = (features[:, m] - features[:, other]).square().mean()
            assert difference > 0.2 * features.square().mean()
    features[:, 2].square().sum().backward()
    layers = [m for m in trunk if isinstance(m, _MemberLinear)]
    assert len(layers) == 2
    for layer in layers:
        assert layer.shared.weight.grad.any()
        for parameter in (layer.scale_in, layer.scale_out, layer.bias):
            assert parameter.grad.any(dim=1).tolist() == [False, False, True, False]


def test_members_hardly_need_weights():
    """Sixteen of them, as many as a few units more."""
    one, few, many = (
        sum(p.numel() for p in build_trunk(DenseTrunk(n_members=n), (20,))[0].parameters())
        for n in (1, 4, 16)
    )
    assert one < few < 1.06 * one
    assert many < 1.25 * one


@pytest.mark.parametrize("n_members", [1, 4])
@pytest.mark.parametrize("n_frequencies", [0, 16])
def test_dense_trunks_name_parameters_that_exist(n_members, n_frequencies):
    """For the optimizer, which spares them weight decay: an unknown name would spare nothing."""
    spec = DenseTrunk((6, 4), n_members=n_members, n_frequencies=n_frequencies)
    named = [m for m in build_trunk(spec, (5,))[0] if hasattr(m, "no_weight_decay")]
    assert len(named) == (n_frequencies > 0) + 2 * (n_members > 1)
    for part in named:
        assert part.no_weight_decay() < dict(part.named_parameters()).keys()


@pytest.mark.parametrize(
    ("function", "ratio"),
    [
        (lambda x: torch.sin(8 * math.pi * x), 10),
        (lambda x: ((x - 0.5).abs() < 0.15) * 2.0 - 1, 1.3),
    ],
    ids=["wave", "step"],
)
def test_waves_fit_steps_and_short_waves(function, ratio):
    """In eighty steps, between the points it has seen, and better than without them."""

    def error(spec):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            module = MultiTaskModule(*build_trunk(spec, (1,)), [1])
        x = torch.linspace(0, 1, 120)[:, None]
        y = function(x)
        z = (x - 0.5) * 12**0.5  # as the estimator would scale it
        optimizer = torch.optim.Adam(module.parameters(), lr=2e-3)
        for _ in range(80):
            optimizer.zero_grad()
            (module(z[::2]) - y[::2, None]).square().mean().backward()
            optimizer.step()
        with torch.no_grad():
            return float((module(z[1::2]).mean(dim=1) - y[1::2]).square().mean() / y.var())

    waves, plain = error(DenseTrunk()), error(DenseTrunk(n_frequencies=0))
    assert waves < 0.1
    assert plain > ratio * waves


# -- modules and factories -----------------------------------------------------------------------


def test_a_module_is_copied_with_its_weights():
    """The copy starts where the original stands, which is never changed."""
    original = small_trunk()
    before = copy.deepcopy(original.state_dict())
    trunk, n_features = build_trunk(original, (2, 3))
    x = random_inputs((2, 3))
    assert n_features == 4
    assert torch.equal(trunk(x), original(x))
    with torch.no_grad():
        for parameter in trunk.parameters():
            parameter.add_(1)
    assert all(torch.equal(original.state_dict()[key], before[key]) for key in before)


def test_the_dry_run_leaves_no_trace():
    """Batch statistics and the training mode stay as they were, and no gradient remains."""
    original = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(0.5)).train()
    trunk, _ = build_trunk(original, (3,))
    assert trunk.training
    assert trunk[0].num_batches_tracked == 0
    assert torch.equal(trunk[0].running_var, torch.ones(3))
    assert not build_trunk(original.eval(), (3,))[0].training


class ConvThenFlatten(nn.Module):
    """Convolutions over images, flattened in a way of the user's choice."""

    def __init__(self, flatten):
        super().__init__()
        self.convs = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3))
        self.pool = nn.AvgPool2d(2)
        self.flatten = flatten

    def forward(self, x):
        return self.flatten(self, self.convs(x))


class ViewsItsGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient.view(len(gradient), -1).view(gradient.shape)


def only_contiguous(module, x):
    assert x.is_contiguous()
    return x.flatten(1)


@pytest.mark.parametrize(
    ("flatten", "takes_it"),
    [
        (lambda module, x: x.flatten(1), True),
        (lambda module, x: x.detach().flatten(1), True),
        (lambda module, x: x.view(len(x), -1), False),
        (lambda module, x: x.view(len(x), -1) if module.training else x.flatten(1), False),
        (lambda module, x: module.pool(ViewsItsGradient.apply(x)).flatten(1), False),
        (lambda module, x: x.as_strided((len(x), 6), (30, 1)), False),  # other values in any order
        (lambda module, x: x.flatten(1) * torch.rand(()), False),  # cannot be compared
        (only_contiguous, False),
    ],
    ids=["flatten", "detached", "view", "training", "backward", "strided", "random", "refuses"],
)
def test_convolutions_over_images_take_channels_last(flatten, takes_it):
    """The order that is faster, unless the module says something else, or nothing, in it."""
    trunk, shape = ConvThenFlatten(flatten), (3, 7, 6)
    before, state = copy.deepcopy(trunk.state_dict()), torch.get_rng_state()
    assert takes_channels_last(trunk, shape) == takes_it
    assert torch.equal(torch.get_rng_state(), state)
    assert trunk.training
    assert all(torch.equal(trunk.state_dict()[key], before[key]) for key in before)
    assert all(p.grad is None and p.is_contiguous() for p in trunk.parameters())


@pytest.mark.parametrize("shape", [(3,), (3, 8), (3, 8, 8, 8)])
def test_only_images_have_channels_last(shape):
    conv = {1: nn.Identity, 2: nn.Conv1d, 4: nn.Conv3d}[len(shape)]
    assert not takes_channels_last(nn.Sequential(conv(3, 2, 3), nn.Flatten()), shape)
    assert not takes_channels_last(nn.Flatten(), (3, 8, 8))  # nothing would be faster


@pytest.mark.parametrize("shape", [(1, 7, 6), (3, 7, 6), (3, 1, 1), (1, 1, 5)])
def test_channels_last_is_an_order_in_memory(shape):
    """In which the first convolution, and so those after it, run: also with one channel."""
    x = random_inputs(shape)
    moved = _channels_last(x)
    assert torch.equal(moved, x)
    assert moved.stride()[1] == 1
    assert moved.is_contiguous(memory_format=torch.channels_last)
    assert x.is_contiguous()
    after = nn.Conv2d(shape[0], 4, 3, padding=1)(moved)
    assert after.is_contiguous(memory_format=torch.channels_last)


def test_gradients_with_channels_last_are_the_same():
    """And in the memory order of the weights, as optimizers expect."""
    trunk = ConvThenFlatten(lambda module, x: x.flatten(1))
    x, gradients = random_inputs((3, 7, 6)), []
    for channels_last in (True, False):
        torch.manual_seed(0)
        module = MultiTaskModule(trunk, 30, [2, 1], channels_last=channels_last)
        module(x).square().sum().backward()
        assert all(p.grad.is_contiguous() for p in module.parameters())
        gradients.append([p.grad.clone() for p in module.parameters()])
        module.zero_grad()
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_a_factory_is_called_anew():
    one, other = (build_trunk(small_trunk, (2, 3))[0] for _ in range(2))
    assert one is not other
    assert not torch.equal(one[1].weight, other[1].weight)


class SmallTrunk(nn.Sequential):
    """A class of a user, which takes no arguments."""

    def __init__(self):
        super().__init__(nn.Flatten(), nn.LazyLinear(4), nn.LazyBatchNorm1d(), nn.ReLU())


def test_a_class_of_modules_is_a_factory():
    """Its lazy layers learn their sizes here, and no statistics from the dry run."""
    (trunk, n_features), (other, _) = (build_trunk(SmallTrunk, shape) for shape in [(2, 3), (7,)])
    assert n_features == 4
    assert [trunk[1].in_features, other[1].in_features] == [6, 7]
    assert trunk.training
    assert trunk[2].num_batches_tracked == 0
    assert all(type(p) is nn.Parameter and p.requires_grad for p in trunk.parameters())


def test_a_module_with_lazy_layers_stays_lazy():
    original = nn.Sequential(nn.Flatten(), nn.LazyLinear(4))
    for shape in [(2, 3), (7,)]:
        trunk, _ = build_trunk(original, shape)
        assert trunk(random_inputs(shape)).shape == (3, 4)
    assert original[1].has_uninitialized_params()


def test_a_module_that_cannot_be_copied_is_refused():
    with pytest.raises(ValueError, match=r"a SmallTrunk that cannot be copied.*Pass a callable"):
        build_trunk(SmallTrunk(), (3,))


@pytest.mark.parametrize("trunk", [nn.Linear, EnsembleTrunk, lambda shape: nn.Linear(3, 4)])
def test_a_factory_that_needs_arguments_is_refused(trunk):
    name = trunk.__name__
    with pytest.raises(TypeError, match=rf"trunk={name} cannot be called without arguments: miss"):
        build_trunk(trunk, (3,))


def test_ensembles_keep_their_members():
    trunk, n_features = build_trunk(EnsembleTrunk(2, members=3, n_features=5), (2,))
    assert n_features == 5
    module = MultiTaskModule(trunk, n_features, [2, 1])
    x = random_inputs((2,), n=4)
    assert module(x).shape == (4, 3, 3)
    torch.testing.assert_close(module.embed(x), trunk(x).mean(dim=1))


@pytest.mark.parametrize(
    ("trunk", "shape"),
    [
        (nn.Identity(), "(2, 1, 4, 4)"),
        (nn.Flatten(0), r"(32,)"),
        (nn.Unflatten(3, (2, 2)), "(2, 1, 4, 2, 2)"),
        (nn.Sequential(nn.Flatten(2), nn.LSTM(16, 3)), "tuple"),
    ],
)
def test_features_of_the_wrong_shape_are_refused(trunk, shape):
    with pytest.raises(ValueError, match="expected features of shape") as error:
        build_trunk(trunk, (1, 4, 4))
    assert f"(2, 1, 4, 4) to {shape}," in str(error.value)


def test_a_factory_of_something_else_is_refused():
    with pytest.raises(TypeError, match=r"returned list, expected an nn\.Module"):
        build_trunk(list, (3,))


def test_a_class_in_place_of_a_spec_is_refused():
    with pytest.raises(ValueError, match=r"Pass an object: DenseTrunk\(\)"):
        build_trunk(DenseTrunk, (3,))


def test_a_module_for_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"trunk fails on a batch of shape \(2, 5\)"):
        build_trunk(nn.Linear(7, 2), (5,))


# -- parameters and seeds ------------------------------------------------------------------------


@SPECS
def test_specs_can_be_cloned_and_searched(spec):
    params = spec.get_params()
    assert clone(spec).get_params() == params
    assert params == {
        name: getattr(spec, name) for name in inspect.signature(type(spec)).parameters
    }
    for name, value in type(spec)().get_params().items():
        assert getattr(clone(spec).set_params(**{name: value}), name) == value


@SPECS
def test_building_changes_no_parameter(spec):
    before = repr(spec), copy.copy(vars(spec))
    build_trunk(spec, (1, 8, 8))
    assert (repr(spec), vars(spec)) == before


@SPECS
def test_weights_come_from_torchs_seed(spec):
    def weights(seed):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            trunk, _ = build_trunk(spec, (1, 8, 8))
        return torch.cat([p.flatten() for p in trunk.parameters()])

    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))


# -- heads ---------------------------------------------------------------------------------------


def test_heads_start_from_the_constant_predictor():
    bias = torch.tensor([0.5, -1.5, 2.0])
    module = MultiTaskModule(nn.Flatten(), 6, [2, 1], bias)
    output = module(torch.zeros(4, 2, 3))
    assert torch.equal(output, bias.expand(4, 3))
    module.heads.bias.data.zero_()
    assert bias.tolist() == [0.5, -1.5, 2.0]


def test_heads_are_one_linear_map_of_the_embedding():
    module = MultiTaskModule(small_trunk(), 4, [3, 1, 2])
    x = random_inputs((2, 3))
    assert module(x).shape == (3, 6)
    assert torch.equal(module.embed(x), module.trunk(x))
    assert torch.equal(module(x), module.heads(module.embed(x)))


N_OUTPUTS = [3, 1, 0, 2]  # a single ordered class has no output
OWNERS = [0, 0, 0, 1, 3, 3]


@pytest.mark.parametrize("members", [None, 3])
def test_hidden_heads_are_a_small_network_per_task(members):
    """The same as one after the other."""
    heads = HiddenHeads(5, N_OUTPUTS, 2)
    x = random_inputs((5,) if members is None else (members, 5))
    parts = []
    for task, n_outputs in enumerate(N_OUTPUTS):
        units = slice(2 * task, 2 * task + 2)
        hidden = torch.relu(x @ heads.hidden.weight[units].T + heads.hidden.bias[units])
        rows = [i for i, owner in enumerate(OWNERS) if owner == task]
        assert len(rows) == n_outputs
        parts.append(hidden @ heads.weight[rows].T + heads.bias[rows])
    assert heads(x).shape == (*x.shape[:-1], 6)
    torch.testing.assert_close(heads(x), torch.cat(parts, dim=-1))


def test_hidden_units_of_a_task_learn_from_it_alone():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # once in a while both units of a task are off for every row
        heads = HiddenHeads(5, N_OUTPUTS, 2)
    x = random_inputs((5,))
    for output, owner in enumerate(OWNERS):
        heads.zero_grad()
        heads(x)[:, output].square().sum().backward()
        for gradient in (heads.hidden.weight.grad, heads.hidden.bias.grad):
            touched = gradient.unflatten(0, (4, 2)).flatten(1).abs().sum(dim=1) > 0
            assert touched.tolist() == [task == owner for task in range(4)]
        rows = heads.weight.grad.abs().sum(dim=1) > 0
        assert rows.tolist() == [i == output for i in range(6)]


def test_hidden_heads_start_like_linear_ones():
    """Weights of the size of nn.Linear's; biases at the constant predictor."""
    bias = torch.arange(6.0)
    module = MultiTaskModule(nn.Flatten(), 5, N_OUTPUTS, bias, head_hidden_units=50)
    assert torch.equal(module.heads.bias, bias)
    assert module.heads.weight.shape == (6, 50)
    assert 0.9 / 50**0.5 < module.heads.weight.abs().max() <= 1 / 50**0.5
    assert [*module.state_dict()] == [
        "heads.weight",
        "heads.bias",
        "heads.hidden.weight",
        "heads.hidden.bias",
    ]


def test_heads_without_hidden_units_are_what_they_were():
    """One nn.Linear, drawn as ever."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = MultiTaskModule(nn.Flatten(), 5, [2, 1])
        torch.manual_seed(0)
        linear = nn.Linear(5, 3)
    assert type(module.heads) is nn.Linear
    assert torch.equal(module.heads.weight, linear.weight)
    assert torch.equal(module.heads.bias, linear.bias)


@pytest.mark.parametrize("head_hidden_units", [0, 2])
def test_heads_without_any_output(head_hidden_units):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        module = MultiTaskModule(nn.Flatten(), 5, [0, 0], head_hidden_units=head_hidden_units)
    assert module(torch.zeros(4, 5)).shape == (4, 0)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"n_members": 0}, "The 'n_members' parameter of DenseTrunk must be an int"),
        ({"n_members": 2.5}, "The 'n_members' parameter of DenseTrunk must be an int"),
        ({"n_frequencies": -1}, "The 'n_frequencies' parameter of DenseTrunk must be an int"),
        ({"frequency_scale": 0.0}, "The 'frequency_scale' parameter of DenseTrunk must be a float"),
        ({"frequency_scale": math.nan}, "The 'frequency_scale' parameter of DenseTrunk must be"),
        ({"hidden_layer_sizes": 0}, "The 'hidden_layer_sizes' parameter of DenseTrunk must be"),
        ({"hidden_layer_sizes": True}, r"hidden_layer_sizes=True of DenseTrunk must be whole"),
        ({"hidden_layer_sizes": 6.4}, "The 'hidden_layer_sizes' parameter of DenseTrunk must be"),
        ({"hidden_layer_sizes": (0,)}, r"hidden_layer_sizes=\(0,\) of DenseTrunk must be whole"),
        ({"hidden_layer_sizes": (8, 2.5)}, r"hidden_layer_sizes=\(8, 2.5\) of DenseTrunk must be"),
    ],
    ids=str,
)
def test_parameters_of_the_dense_trunk_are_checked(params, message):
    with pytest.raises(ValueError, match=message):
        build_trunk(DenseTrunk(**params), (5,))


@pytest.mark.parametrize(
    ("sizes", "layers"), [(np.array([4, 3]), [4, 3]), (3, [3]), (np.int64(3), [3])], ids=str
)
def test_sizes_of_a_dense_trunk_may_be_an_array_or_a_number(sizes, layers):
    trunk, n_features = build_trunk(DenseTrunk(sizes, n_members=1), (5,))
    assert [m.out_features for m in trunk.modules() if isinstance(m, nn.Linear)] == layers
    assert n_features == layers[-1]
