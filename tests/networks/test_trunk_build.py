"""From what a user passes as a trunk to a module: names, specs, modules, callables."""

import copy
import inspect

import pytest
import torch
from _asserts import assert_finite
from _inputs import EnsembleTrunk
from _samples import ConvThenFlatten, random_inputs, small_trunk
from sklearn.base import clone
from torch import nn

from sklearn_mtl.networks import (
    TRUNKS,
    ConvTrunk,
    DenseTrunk,
    Ensemble,
    FineTune,
    Fusion,
    build_trunk,
    folds_of,
    spelled_out,
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


class Asks:
    def build(self, input_shape, *, two_valued):
        self.told = input_shape, two_valued
        return nn.Flatten()


class AsksNot:
    def build(self, input_shape, **params):
        self.told = input_shape, params
        return nn.Flatten()


def test_specs_that_ask_are_told_which_features_take_two_values():
    asks, asks_not = Asks(), AsksNot()
    for spec in (asks, asks_not):
        build_trunk(spec, (5,), (1, 3))
    assert asks.told == ((5,), (1, 3))
    assert asks_not.told == ((5,), {})
    build_trunk(asks, (5,))
    assert asks.told == ((5,), ())


class AsksRows:
    def build(self, input_shape, n_rows=None):
        self.told = n_rows
        return nn.Flatten()


@pytest.mark.parametrize(
    ("wrap", "shape"),
    [
        (lambda spec: spec, (5,)),
        (lambda spec: Ensemble(spec, 2), (5,)),
        (lambda spec: Fusion({"a": spec}), {"a": (5,), "b": (2,)}),
    ],
    ids=["alone", "ensemble", "fusion"],
)
def test_specs_that_ask_are_told_how_many_rows_there_are(wrap, shape):
    spec = AsksRows()
    build_trunk(wrap(spec), shape, n_rows=7)
    assert spec.told == 7
    build_trunk(wrap(spec), shape)
    assert spec.told is None


class AsksByPlace:
    def build(self, input_shape, n_rows="not told", /):
        self.told = n_rows
        return nn.Flatten()


def test_what_has_no_name_to_be_told_by_is_not_told():
    spec = AsksByPlace()
    build_trunk(spec, (5,), n_rows=7)
    assert spec.told == "not told"


@pytest.mark.parametrize("name", sorted(TRUNKS.keys() - {"fusion"}))
def test_names_build_the_default_spec(name):
    shape = {"conv": (1, 9, 13), "sequence": (2, 9)}.get(name, (5,))
    if name == "tabm":
        pytest.importorskip("tabm")
    trunk, n_features = build_trunk(name, shape)
    expected, n_expected = build_trunk(TRUNKS[name](), shape)
    assert str(trunk) == str(expected)
    assert n_features == n_expected


@pytest.mark.parametrize(
    ("shape", "name"),
    [((5,), "dense"), ((2, 9), "ensemble"), ((1, 9, 9), "conv"), ((1, 4, 4, 4), "conv")],
)
def test_auto_is_dense_for_rows_members_for_sequences_and_conv_for_all_else(shape, name):
    assert str(build_trunk("auto", shape)[0]) == str(build_trunk(name, shape)[0])
    assert folds_of("auto", shape) == (0 if name == "conv" else 5)


def test_auto_inside_of_what_has_members_or_parts_is_a_single_network():
    members, _ = build_trunk("auto", (2, 9))
    assert {str(each) for each in members.trunks} == {str(build_trunk("conv", (2, 9))[0])}
    assert isinstance(spelled_out("auto", (2, 9)).trunk, ConvTrunk)
    assert isinstance(spelled_out("auto", {"signal": (2, 9)}).parts["signal"], ConvTrunk)
    assert folds_of("auto", {"signal": (2, 9)}) == 0


# -- modules and factories ------------------------------------------------------------------


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


@pytest.mark.parametrize(
    ("trunk", "shape", "mend"),
    [
        (nn.Identity(), "(2, 1, 4, 4)", "Flatten its output."),
        (nn.Flatten(0), r"(32,)", "Flatten its output."),
        (nn.Unflatten(3, (2, 2)), "(2, 1, 4, 2, 2)", "Flatten its output."),
        (nn.Sequential(nn.Flatten(2), nn.LSTM(16, 3)), "tuple", "Return the features alone"),
    ],
)
def test_features_of_the_wrong_shape_are_refused(trunk, shape, mend):
    with pytest.raises(ValueError, match="expected features of shape") as error:
        build_trunk(trunk, (1, 4, 4))
    assert f"(2, 1, 4, 4) to {shape}," in str(error.value)
    assert mend in str(error.value)


def test_a_factory_of_something_else_is_refused():
    with pytest.raises(TypeError, match=r"returned list, expected an nn\.Module"):
        build_trunk(list, (3,))


def test_a_class_in_place_of_a_spec_is_refused():
    with pytest.raises(ValueError, match=r"Pass an object: DenseTrunk\(\)"):
        build_trunk(DenseTrunk, (3,))


def test_a_module_for_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"trunk fails on a batch of shape \(2, 5\)"):
        build_trunk(nn.Linear(7, 2), (5,))


# -- parameters and seeds -------------------------------------------------------------------


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


@pytest.mark.parametrize("trunk", [ConvTrunk(stride=0), FineTune(nn.Linear), FineTune(lambda: 3)])
def test_sentences_end_once(trunk):
    with pytest.raises(ValueError, match="cannot be built for") as raised:
        build_trunk(trunk, (1, 4, 4))
    assert str(raised.value).endswith(".")
    assert not str(raised.value).endswith("..")
