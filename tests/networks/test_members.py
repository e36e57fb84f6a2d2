"""Members of an ensemble that share no weights."""

import pytest
import torch
from _samples import random_inputs
from torch import nn

from sklearn_mtl.losses import TaskLosses
from sklearn_mtl.losses.task_losses import Cells
from sklearn_mtl.networks import DenseTrunk, HiddenHeads, MultiTaskModule, build_trunk
from sklearn_mtl.networks.members import MemberHeads, MemberLinear


def module_of(spec=None, shape=(4,), head_hidden_units=0, bias=None):
    """A module of random weights, also in its heads, and in float64."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        trunk, n_features = build_trunk(spec or DenseTrunk((7, 5), n_members=3), shape)
        module = MultiTaskModule(trunk, n_features, [2, 1], bias, head_hidden_units).double()
        if bias is None:
            for p in module.heads.parameters():
                nn.init.normal_(p)
    return module


SPECS = [DenseTrunk((7, 5), n_members=3), DenseTrunk(6, n_members=2, n_frequencies=0)]


def test_a_layer_of_members_is_a_linear_layer_of_each():
    layer = MemberLinear(5, 4, 3)
    for x in (random_inputs((5,)), random_inputs((3, 5))):
        parts = [
            (x if x.ndim == 2 else x[:, m]) @ layer.weight[m] + layer.bias[m] for m in range(3)
        ]
        assert layer(x).shape == (3, 3, 4)
        torch.testing.assert_close(layer(x), torch.stack(parts, dim=1))
    bound = 5**-0.5
    for p in layer.parameters():
        assert 0.5 * bound < p.abs().max() <= bound


@pytest.mark.parametrize("head_hidden_units", [0, 3])
@pytest.mark.parametrize("spec", SPECS, ids=["waves", "no waves"])
def test_members_see_the_same_samples_or_each_its_own(spec, head_hidden_units):
    """What one says of its own samples, it says of them when all see them."""
    module = module_of(spec, (2, 2), head_hidden_units)
    x = random_inputs((spec.n_members, 2, 2), n=6).double()
    own = module(x)
    assert own.shape == (6, spec.n_members, 3)
    for m in range(spec.n_members):
        torch.testing.assert_close(own[:, m], module(x[:, m])[:, m])


@pytest.mark.parametrize("head_hidden_units", [0, 3])
@pytest.mark.parametrize("spec", SPECS, ids=["waves", "no waves"])
def test_members_are_as_many_plain_networks(spec, head_hidden_units):
    """Of layers, and heads over the last units and the inputs, by hand."""
    module = module_of(spec, (4,), head_hidden_units)
    trunk, heads = module.trunk, module.heads
    x = 2 * random_inputs((4,), n=6).double()
    embedded = trunk.embedding(x)
    for m in range(spec.n_members):
        own = embedded[:, m] if embedded.ndim == 3 else embedded
        hidden = own
        for layer in trunk.layers:
            hidden = torch.relu(hidden @ layer.weight[m] + layer.bias[m])
        features = torch.cat([hidden, own[:, :4]], dim=1)
        if head_hidden_units:
            units = torch.relu(features @ heads.hidden.weight[m] + heads.hidden.bias[m])
            parts = units.split(head_hidden_units, dim=1)
            owners = [parts[0], parts[0], parts[1]]  # two outputs of the first task, one
            columns = [(u * w).sum(dim=1) for u, w in zip(owners, heads.weight[m], strict=True)]
            expected = torch.stack(columns, dim=1) + heads.bias
        else:
            expected = features @ heads.weight[m] + heads.bias.expand(spec.n_members, -1)[m]
        torch.testing.assert_close(module(x)[:, m], expected)
        width = module.n_features
        torch.testing.assert_close(module.embed(x)[:, m * width : (m + 1) * width], features)


def test_heads_of_members_start_from_the_constant_predictor():
    bias = torch.tensor([0.5, -1.5, 2.0]).double()
    module = module_of(bias=bias)
    assert type(module.heads) is MemberHeads
    assert torch.equal(module(random_inputs((4,)).double()), bias.expand(3, 3, 3))


@pytest.mark.parametrize("head_hidden_units", [0, 3])
def test_heads_of_members_are_rescaled(head_hidden_units):
    """All members alike, by the slope of each output."""
    module = module_of(head_hidden_units=head_hidden_units)
    x, slope = random_inputs((4,)).double(), torch.tensor([0.5, 0.0, 1.0]).double()
    before = module(x).detach()
    with torch.no_grad():
        module.heads.rescale(slope)
    torch.testing.assert_close(module(x), before * slope)


def test_hidden_heads_of_members_do_not_see_each_other():
    heads = HiddenHeads(4, [2, 1], 3, n_members=2)
    heads(random_inputs((2, 4)))[:, 0].sum().backward()
    for p in (heads.hidden.weight, heads.hidden.bias, heads.weight):
        assert p.grad.flatten(1).any(dim=1).tolist() == [True, False]


@pytest.mark.parametrize("head_hidden_units", [0, 3])
@pytest.mark.parametrize("own", [False, True], ids=["same samples", "own samples"])
def test_gradients_of_members_match_finite_differences(own, head_hidden_units):
    """Of all weights, and of the inputs."""
    module = module_of(DenseTrunk((3,), n_members=2, n_frequencies=2), (2,), head_hidden_units)
    x = random_inputs((2, 2) if own else (2,), n=3).double().requires_grad_()
    names, params = zip(*module.named_parameters(), strict=True)

    def output(x, *params):
        return torch.func.functional_call(module, dict(zip(names, params, strict=True)), (x,))

    leaves = [p.detach().clone().requires_grad_() for p in params]
    assert torch.autograd.gradcheck(output, (x, *leaves))


@pytest.mark.parametrize("head_hidden_units", [0, 3])
def test_a_row_left_out_moves_no_weight_of_its_member(head_hidden_units):
    """Not by rounding either: the gradient is exactly zero."""
    module = module_of(DenseTrunk((7,), n_members=3), head_hidden_units=head_hidden_units)
    x = random_inputs((4,), n=1).double()
    sees = torch.tensor([[0.5, 0.0, 0.5]]).double()  # the second member leaves it out
    target, share = torch.tensor([[1.0, 3.0]]).double(), torch.ones(1, 2).double()
    losses = TaskLosses(["classification", "regression"], [2, 1])
    cells = Cells(target, None, share, share.sum(dim=0), sees)
    losses.compare(module(x), cells).sum().backward()
    for name, p in module.named_parameters():
        if p.grad is not None and len(p) == 3 and name != "heads.bias":
            assert p.grad.flatten(1).any(dim=1).tolist() == [True, False, True], name


BOUNDS = torch.tensor([[-1.0, -26.0, -0.5, 0.0], [1.0, 10.0, 0.5, 0.0]]).double()
UNITS = torch.tensor([1.0, 2.0, 1.0, 1.0]).double()  # the least is 1, or an eighteenth of the rest


@pytest.mark.parametrize("spec", SPECS, ids=["waves", "no waves"])
def test_heads_may_see_inputs_that_end_at_bounds(spec):
    """Behind all others, and with no weight yet; also where each member has its own samples."""
    module = module_of(spec)
    x = 9 * random_inputs((spec.n_members, 4), n=6).double()
    before, weight, width = module(x), module.heads.weight, module.n_features
    weight.requires_grad_(False).grad = torch.ones_like(weight)
    module.widen(BOUNDS)
    assert module.heads.weight is weight  # of which an optimizer knows
    assert weight.grad is None
    assert not weight.requires_grad
    assert weight.shape[1] == module.n_features == width + 4
    torch.testing.assert_close(module(x), before)
    features, ends = module.trunk(x), x.clamp(*BOUNDS) / UNITS
    assert torch.equal(features[..., -4:], ends)
    assert torch.equal(features[:, 0, -8:], module.trunk.straight(x))
    same = module.trunk(x[:, 0])
    assert torch.equal(same[..., -4:], ends[:, :1].expand(-1, spec.n_members, -1))
    with torch.no_grad():
        module.heads.add(2, torch.ones(spec.n_members, 4), torch.zeros(spec.n_members))
    torch.testing.assert_close(module(x)[..., 2], before[..., 2] + ends.sum(dim=2))
    torch.testing.assert_close(module(x)[..., :2], before[..., :2])
    module.widen(2 * BOUNDS)
    assert module.n_features == width + 4


def test_bounds_are_as_far_as_numbers_go():
    """In float64 they were finite; those of a file have to be."""
    wide, module = module_of().float(), module_of().float()
    wide.widen(BOUNDS * 1e39)
    assert wide.trunk.bounds.abs().max() == torch.finfo(torch.float32).max
    module.load_state_dict(wide.state_dict())
    assert torch.equal(module.trunk.bounds, wide.trunk.bounds)


def test_a_state_with_bounds_widens_whom_it_is_loaded_into():
    wide, module = module_of(), module_of()
    wide.widen(BOUNDS)
    nn.init.normal_(wide.heads.weight)
    module.load_state_dict(wide.state_dict())
    x = 9 * random_inputs((4,), n=6).double()
    assert torch.equal(module(x), wide(x))
    outer = nn.Sequential(module_of())
    outer.load_state_dict({f"0.{name}": value for name, value in wide.state_dict().items()})
    assert torch.equal(outer(x), wide(x))


@pytest.mark.parametrize(
    "bounds",
    [BOUNDS[:, :3], BOUNDS[0], BOUNDS.flip(0), BOUNDS * torch.nan, BOUNDS + torch.inf],
    ids=["few", "one", "upside down", "NaN", "infinite"],
)
def test_bounds_that_are_none_are_refused(bounds):
    for change in (
        lambda module: module.widen(bounds),
        lambda module: module.load_state_dict(module.state_dict() | {"trunk.bounds": bounds}),
    ):
        module = module_of()
        with pytest.raises(ValueError, match=r"finite, and of the shape \(2, 4\)"):
            change(module)
        assert module.trunk.bounds is None
        assert module.n_features == 9


def test_bounds_are_for_linear_heads_of_members():
    for module in (module_of(head_hidden_units=3), module_of(DenseTrunk(5, n_members=1))):
        with pytest.raises(ValueError, match="linear heads of a MemberTrunk"):
            module.widen(BOUNDS)
