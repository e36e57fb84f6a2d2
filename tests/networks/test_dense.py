"""The dense trunk and its parts."""

import copy
import math

import numpy as np
import pytest
import torch
from _asserts import assert_finite
from _samples import random_inputs
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from sklearn_mtl.networks import DenseTrunk, MultiTaskModule, build_trunk, dense
from sklearn_mtl.networks.dense import _SoftClip, _Waves


def test_no_hidden_layer_is_the_identity():
    trunk, n_features = build_trunk(DenseTrunk(hidden_layer_sizes=()), (5,))
    x = random_inputs((5,))
    assert n_features == 5
    assert torch.equal(trunk(x), x)


# -- parts of the dense trunk ---------------------------------------------------------------


def soft_clip(x):
    return x / (1 + (x / 3) ** 2).sqrt()


def test_soft_clip():
    """In closed form: odd, growing, of slope 1 at 0, and never beyond 3."""
    x = (torch.arange(-500, 501).double() / 10).requires_grad_()
    clipped = _SoftClip()(x)
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
    clipped = _SoftClip()(x)
    torch.testing.assert_close(clipped, torch.tensor([-3, -3, -3, 1e-30, 3, 3, 3]))
    assert_finite(*torch.autograd.grad(clipped.sum(), x))


@pytest.mark.parametrize("waved", [[0, 1, 2], [0, 2], [1]])
def test_waves_of_members_are_waves_of_each(waved):
    """Of the same samples, and of samples for each."""
    members = _Waves(3, 5, 0.7, waved, 2).double()
    x = random_inputs((3,), n=4).double()
    each = _Waves(3, 5, 0.7, waved).double()
    for m, own in enumerate([x, x.flip(0)]):
        for name, parameter in each.named_parameters():
            parameter.data = members.get_parameter(name)[m].detach()
        torch.testing.assert_close(members(own)[:, m], each(own))
        torch.testing.assert_close(members(torch.stack([x, x.flip(0)], 1))[:, m], each(own))
    assert members(x).shape == (4, 2, 3 + 4 * len(waved))


@pytest.mark.parametrize("own_samples", [False, True])
@pytest.mark.parametrize("waved", [[0, 1, 2], [0, 2]])
def test_waves_of_all_members_at_once_are_those_of_one_after_the_other(
    waved, own_samples, monkeypatch
):
    """Of few samples, in training or where each member has its own; with the same gradients."""
    waves, x = _Waves(3, 5, 0.7, waved, 2).double(), random_inputs((3,), n=4).double()
    x = torch.stack([x, x.flip(0)], dim=1) if own_samples else x
    calls, found = [], []
    compute, values = _Waves._with_mixtures, 4 * waves.frequency.numel()
    monkeypatch.setattr(
        _Waves, "_with_mixtures", lambda self, *own: calls.append(1) or compute(self, *own)
    )
    for training, room in [(True, values), (True, values - 1), (False, values)]:
        monkeypatch.setattr(dense, "IN_CACHE", room)
        out = waves.train(training)(x)
        gradients = torch.autograd.grad(out.square().sum(), [*waves.parameters()])
        found.append([out, *gradients])
    assert len(calls) == 1 + 2 + (1 if own_samples else 2)
    for others in found[1:]:
        for at_once, each in zip(found[0], others, strict=True):
            torch.testing.assert_close(at_once, each)


class Copies(TorchDispatchMode):
    """Number of values of each copy that is made of a tensor."""

    def __init__(self):
        super().__init__()
        self.sizes = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.clone.default:
            self.sizes.append(args[0].numel())
        return func(*args, **kwargs or {})


@pytest.mark.parametrize("own_samples", [False, True])
@pytest.mark.parametrize("n_members", [None, 2])
def test_cosines_of_waves_stand_in_memory_as_their_product_takes_them(n_members, own_samples):
    """They are most of what is computed before the layers: no copy is made of them."""
    waves, x = _Waves(3, 16, 0.7, [0, 1, 2], n_members), random_inputs((3,), n=8)
    if own_samples and n_members:
        x = torch.stack([x, x.flip(0)], dim=1)
    with Copies() as copies:
        waves(x)
    assert max(copies.sizes) == 8 * (n_members or 1) * 3 * waves.n_mixtures


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("n_members", [None, 2])
def test_waves_of_no_rows(n_members, training):
    """As a module that serves may be asked for."""
    waves, members = (
        _Waves(3, 5, 0.7, [0, 2], n_members).train(training),
        [n_members] * bool(n_members),
    )
    assert waves(torch.empty(0, 3)).shape == (0, *members, 3 + 4 * 2)


@pytest.mark.parametrize("waved", [[0, 1, 2], [0, 2], [1]])
def test_waves_are_features_and_mixtures_of_their_cosines(waved):
    """sum_f cos(2 pi (x_d v_df + p_df)) m_dfk of clipped features x, one after the other."""
    waves = _Waves(3, 5, 0.7, waved).double()
    given = random_inputs((3,), n=4).double()
    x = soft_clip(given)
    mixtures = torch.zeros(4, len(waved), waves.n_mixtures).double()
    for d, k in enumerate(waved):
        for f in range(5):
            turns = x[:, k] * waves.frequency[d, f] + waves.phase[d, f]
            mixtures[:, d] += torch.cos(2 * math.pi * turns)[:, None] * waves.mixture[d, f]
    torch.testing.assert_close(waves(given), torch.cat([x, mixtures.flatten(1)], dim=1))
    assert set(waves.state_dict()) == {"frequency", "phase", "mixture"}
    torch.testing.assert_close(copy.deepcopy(waves)(given), waves(given))


@pytest.mark.parametrize("n_members", [1, 4])
def test_features_of_two_values_have_no_waves(n_members):
    """Their effect on the first layer is linear in what is left of them after clipping."""
    spec = DenseTrunk((7,), n_members=n_members, n_frequencies=3)
    x = 5 * random_inputs((4,), n=9)
    for two_valued, n_waved in [((), 4), ((3, 1), 2), ((0, 1, 2, 3), 0)]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            trunk, _ = build_trunk(spec, (4,), two_valued)
        embedding = trunk[:2] if n_members == 1 else trunk.embedding
        waves = embedding(x)
        own = (n_members,) if n_members > 1 and n_waved else ()
        assert waves.shape == (9, *own, 4 + 4 * n_waved)
        for clipped in waves.unbind(1) if own else [waves]:
            torch.testing.assert_close(clipped[:, :4], soft_clip(x))
        frequencies = [p for name, p in trunk.named_parameters() if "frequency" in name]
        assert [p.shape for p in frequencies] == [(*own, n_waved, 3)] * (n_waved > 0)
        assert all(p.numel() for p in trunk.parameters())
        other = x.clone()
        other[:, list(two_valued)] += 1
        assert torch.equal(embedding(other)[..., 4:], waves[..., 4:])


@pytest.mark.parametrize(
    ("n_rows", "scale"),
    [(None, 0.3), (1, 0.3), (2_000, 0.3), (6_324.6, 0.5477), (20_000, 1.0), (10**7, 1.0)],
)
def test_many_rows_tell_finer_steps(n_rows, scale):
    """From 0.3 to 1, along a power of the rows; what a user says stays what it is."""
    assert math.isclose(dense.auto_frequency_scale(n_rows), scale, rel_tol=1e-3)
    for spec, expected in [(DenseTrunk(), scale), (DenseTrunk(frequency_scale=0.2), 0.2)]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            trunk, _ = build_trunk(spec, (50,), n_rows=n_rows)
        assert abs(trunk.embedding.frequency.std().item() / expected - 1) < 0.05


def test_a_single_member_is_told_no_finer_steps():
    """Nothing says when it has learned enough of them, and noise is as fine."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        trunk, _ = build_trunk(DenseTrunk(n_members=1), (500,), n_rows=20_000)
    assert abs(trunk[1].frequency.std().item() / 0.3 - 1) < 0.05


def test_waves_start_at_random_frequencies_of_the_given_scale():
    """And with mixtures of about the size of a feature, however many waves there are."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        waves = [_Waves(50, n, 0.7, range(50)) for n in (8, 128)]
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


def test_members_of_a_dense_trunk_differ_and_do_not_see_each_other():
    """From the start; and a member's features move its own waves and layers alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        trunk, n_features = build_trunk(DenseTrunk((16, 8)), (5,))
    features = trunk(random_inputs((5,), n=50))
    assert features.shape == (50, 5, n_features) == (50, 5, 8 + 5)
    hidden = features[..., :8]
    for m in range(5):
        for other in range(m):
            difference = (hidden[:, m] - hidden[:, other]).square().mean()
            assert difference > 0.2 * hidden.square().mean()
    features[:, 2].square().sum().backward()
    parameters = [*trunk.parameters()]
    assert len(parameters) == 2 * 2 + 3
    for parameter in parameters:
        moved = parameter.grad.flatten(1).any(dim=1).tolist()
        assert moved == [False, False, True, False, False]


def test_members_share_nothing():
    """Not the waves either, which would tell a member of the rows that it leaves out."""
    one, five, ten = (
        sum(p.numel() for p in build_trunk(DenseTrunk(n_members=n), (20,))[0].parameters())
        for n in (1, 5, 10)
    )
    assert five == 5 * one
    assert ten == 10 * one


@pytest.mark.parametrize(
    ("spec", "n_folds"),
    [
        (DenseTrunk(), 5),
        (DenseTrunk(8, n_members=2), 2),
        (DenseTrunk(n_members=1), 0),
        (DenseTrunk(()), 0),
    ],
)
def test_members_of_their_own_leave_out_folds(spec, n_folds):
    assert spec.n_folds == n_folds
    assert MultiTaskModule(*build_trunk(spec, (3,)), [1]).n_folds == n_folds


@pytest.mark.parametrize("n_members", [1, 4])
@pytest.mark.parametrize("n_frequencies", [0, 16])
def test_dense_trunks_name_parameters_that_exist(n_members, n_frequencies):
    """For the optimizer, which spares them weight decay: an unknown name would spare nothing."""
    spec = DenseTrunk((6, 4), n_members=n_members, n_frequencies=n_frequencies)
    parts = build_trunk(spec, (5,))[0].modules()
    named = [m for m in parts if hasattr(m, "no_weight_decay")]
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


# -- parameters -------------------------------------------------------------------------------


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
