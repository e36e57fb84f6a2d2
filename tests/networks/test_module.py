"""The module of a trunk and its heads."""

import warnings

import pytest
import torch
from _inputs import EnsembleTrunk
from _samples import ConvThenFlatten, random_inputs, small_trunk
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from sklearn_mtl.networks import HiddenHeads, MultiTaskModule, build_trunk
from sklearn_mtl.networks.module import in_channels_last


@pytest.mark.parametrize("shape", [(1, 7, 6), (3, 7, 6), (3, 1, 1), (1, 1, 5)])
def test_channels_last_is_an_order_in_memory(shape):
    """In which the first convolution, and so those after it, run: also with one channel."""
    x = random_inputs(shape)
    moved = in_channels_last(x)
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


def test_ensembles_keep_their_members():
    trunk, n_features = build_trunk(EnsembleTrunk(2, members=3, n_features=5), (2,))
    assert n_features == 5
    module = MultiTaskModule(trunk, n_features, [2, 1])
    x = random_inputs((2,), n=4)
    assert module(x).shape == (4, 3, 3)
    torch.testing.assert_close(module.embed(x), trunk(x).mean(dim=1))


# -- heads ----------------------------------------------------------------------------------


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
    assert isinstance(module.heads, nn.Linear)
    assert torch.equal(module.heads.weight, linear.weight)
    assert torch.equal(module.heads.bias, linear.bias)


@pytest.mark.parametrize("head_hidden_units", [0, 2])
def test_heads_without_any_output(head_hidden_units):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        module = MultiTaskModule(nn.Flatten(), 5, [0, 0], head_hidden_units=head_hidden_units)
    assert module(torch.zeros(4, 5)).shape == (4, 0)


@pytest.mark.parametrize("n_members", [0, 2])
def test_hidden_heads_are_one_small_network_per_task(n_members):
    n_outputs = [2, 1, 3, 1, 2]
    heads, x = HiddenHeads(5, n_outputs, 4, n_members), random_inputs((5,))
    x = x.unsqueeze(1).expand(-1, 2, -1) if n_members else x
    out = heads(x)
    hidden, start = torch.relu(heads.hidden(x)), 0
    for k, width in enumerate(n_outputs):
        units, weight = hidden[..., 4 * k : 4 * k + 4], heads.weight[..., start : start + width, :]
        own = (units.unsqueeze(-2) * weight).sum(dim=-1) + heads.bias[start : start + width]
        torch.testing.assert_close(out[..., start : start + width], own)
        start += width


def test_work_of_hidden_heads_grows_with_the_number_of_tasks():
    flops = []
    for n_tasks in (50, 200):
        heads = HiddenHeads(5, [1, 3] * (n_tasks // 2), 4)
        with FlopCounterMode(display=False) as counter:
            heads(torch.zeros(8, 5))
        flops.append(counter.get_total_flops())
    assert flops[1] == 4 * flops[0]
