"""Pretrained parts: what is trained of them, and when."""

from __future__ import annotations

import copy

import pytest
import torch
from sklearn.base import clone
from torch import nn

from sklearn_mtl.networks import ConvTrunk, FineTune, Pretrained, build_trunk


def make_body(n_layers: int = 8) -> nn.Sequential:
    """Layers of one weight each."""
    return nn.Sequential(*(nn.Linear(1, 1, bias=False) for _ in range(n_layers)))


def trained(body: Pretrained) -> list[bool]:
    return [p.requires_grad for p in body.model.parameters()]


def epochs(body: Pretrained, n: int) -> list[int]:
    """Number of parameters that are trained, by epoch."""
    counts = []
    for _ in range(n):
        body.begin_epoch()
        counts.append(sum(trained(body)))
    return counts


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"finetune": "full", "frozen_epochs": 0}, [8, 8, 8]),
        ({"finetune": "full", "frozen_epochs": 2}, [0, 0, 8, 8]),
        ({"finetune": "heads", "frozen_epochs": 0}, [0, 0, 0]),
        ({"finetune": "gradual", "frozen_epochs": 1}, [0, 2, 4, 6, 8, 8]),
        ({"finetune": "gradual", "frozen_epochs": 2}, [0, 0, 2, 2, 4, 4, 6, 6, 8]),
    ],
    ids=str,
)
def test_what_is_trained_when(params, expected):
    assert epochs(Pretrained(make_body(), **params), len(expected)) == expected


def test_layers_are_set_free_from_the_last_to_the_first():
    body = Pretrained(make_body(), "gradual")
    epochs(body, 3)
    assert trained(body) == [False] * 4 + [True] * 4


@pytest.mark.parametrize("n_layers", [1, 2, 3, 5])
def test_few_layers_are_all_trained_in_the_end(n_layers):
    body = Pretrained(make_body(n_layers), "gradual")
    counts = epochs(body, 5)
    assert counts[0] == 0
    assert counts[1] >= 1
    assert counts == sorted(counts)
    assert counts[-1] == n_layers


def test_parameters_outside_of_layers_belong_to_the_first():
    """Such as the class token of a transformer."""

    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.token = nn.Parameter(torch.zeros(2))
            self.layers = make_body(7)

    body = Pretrained(Tokens(), "gradual")
    counts = epochs(body, 4)
    assert counts == [0, 2, 4, 6]
    assert not body.model.token.requires_grad
    body.train()
    assert [layer.training for layer in body.model.layers] == [False] + [True] * 6


def test_a_parameter_of_two_layers_is_trained_with_the_later_one():
    body = make_body(4)
    body[0].weight = body[3].weight
    body = Pretrained(body, "gradual")
    epochs(body, 2)
    assert trained(body) == [True, False, False]


def test_release_leaves_what_somebody_else_has_frozen():
    body = Pretrained(make_body(), "gradual")
    body.model[0].requires_grad_(False)
    body.model[7].requires_grad_(False)
    assert epochs(body, 5) == [0, 1, 3, 5, 6]
    body.begin_epoch()
    body.release()
    assert trained(body) == [False] + [True] * 6 + [False]
    twin = copy.deepcopy(Pretrained(make_body(), "heads"))
    twin.begin_epoch()
    twin = copy.deepcopy(twin)  # knows what it holds
    twin.release()
    assert all(trained(twin))


def test_epochs_go_on_in_another_copy():
    body = Pretrained(make_body(), frozen_epochs=3)
    epochs(body, 2)
    twin = Pretrained(make_body(), frozen_epochs=3)
    twin.load_state_dict(body.state_dict())
    assert epochs(twin, 2) == [0, 8]


def test_states_without_a_count_are_read():
    """Those of earlier files."""
    body = Pretrained(make_body())
    state = {name: t for name, t in body.state_dict().items() if name != "n_epochs"}
    epochs(body, 2)
    body.load_state_dict(state)
    assert body.n_epochs == 2


# -- modes ----------------------------------------------------------------------------------------


def with_norms() -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Dropout(0.5), nn.Linear(3, 3), nn.BatchNorm1d(3)
    )


def test_statistics_stand_still_on_request():
    x = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    for freeze in (True, False):
        body = Pretrained(with_norms(), frozen_epochs=0, freeze_statistics=freeze)
        body.begin_epoch()
        body.train()(x)
        moved = [bool(norm.running_mean.any()) for norm in (body.model[1], body.model[4])]
        assert moved == [not freeze] * 2
        assert body.model[2].training
        assert all(trained(body))


def test_what_is_frozen_computes_as_in_predictions():
    body = Pretrained(with_norms(), "heads", freeze_statistics=False)
    body.begin_epoch()
    x = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    expected = copy.deepcopy(body).eval()(x)
    found = body.train()(x)
    assert torch.equal(found, expected)
    assert not found.requires_grad
    assert body.training
    assert not body.model.training
    body.release()
    assert body.train().model.training


def test_a_quarter_that_is_free_is_in_training_mode():
    body = Pretrained(with_norms(), "gradual", freeze_statistics=False)
    epochs(body, 2)
    body.train()
    assert [layer.training for layer in body.model] == [False] * 4 + [True]
    assert not any(layer.training for layer in body.eval().model)


# -- the spec -------------------------------------------------------------------------------------


def images() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.BatchNorm2d(4))


@pytest.mark.parametrize("given", [images(), images], ids=["module", "callable"])
def test_a_spec_builds_a_part_and_a_new_layer(given):
    trunk, n_features = build_trunk(FineTune(given, "heads", n_features=7), (3, 16, 16))
    assert n_features == 7
    assert isinstance(trunk[0], Pretrained)
    assert trunk[0].finetune == "heads"
    assert trunk[3].in_features == 4 * 16
    assert trunk[0].model is not given
    if isinstance(given, nn.Module):
        assert torch.equal(trunk[0].model[0].weight, given[0].weight)
    alone, n_features = build_trunk(FineTune(lambda: nn.Linear(5, 6)), (5,))
    assert (type(alone), n_features) == (Pretrained, 6)


def test_specs_are_cloned_and_searched():
    spec = FineTune(images(), "gradual", 0.5, 2, False, 7)
    twin = clone(spec).set_params(finetune="heads")
    assert (twin.finetune, spec.finetune) == ("heads", "gradual")
    assert spec.get_params() | {"module": 0} == {
        "module": 0,
        "finetune": "gradual",
        "relative_rate": 0.5,
        "frozen_epochs": 2,
        "freeze_statistics": False,
        "n_features": 7,
    }


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"finetune": "all"}, "finetune='all' does not exist. Use one of .*'gradual'"),
        ({"finetune": None}, "finetune=None does not exist"),
        ({"relative_rate": 0}, "relative_rate=0 must be a number above 0.*finetune='heads'"),
        ({"relative_rate": float("nan")}, "relative_rate=nan"),
        ({"relative_rate": True}, "relative_rate=True"),
        ({"frozen_epochs": -1}, "frozen_epochs=-1 must be a whole number from 0 on"),
        ({"frozen_epochs": 1.5}, "frozen_epochs=1.5"),
        ({"finetune": "gradual", "frozen_epochs": 0}, "from 1 on with finetune='gradual'"),
        ({"freeze_statistics": "no"}, "freeze_statistics='no' must be True or False"),
        ({"n_features": 0}, "n_features=0 must be a whole number above 0"),
        ({"n_features": "many"}, "n_features='many' must"),
    ],
    ids=str,
)
def test_values_that_do_not_exist(params, match):
    with pytest.raises(ValueError, match=match):
        build_trunk(FineTune(images(), **({"n_features": 4} | params)), (3, 16, 16))


@pytest.mark.parametrize(
    ("spec", "shape", "match"),
    [
        (FineTune(ConvTrunk()), (3, 16, 16), r"module=ConvTrunk\(\) is a spec.*TimmTrunk"),
        (FineTune("resnet18"), (3, 16, 16), "module='resnet18' is no nn.Module"),
        (FineTune(lambda: 3), (3, 16, 16), "module=.* returned int, expected an nn.Module"),
        (FineTune(lambda n: n), (3, 16, 16), "module=.* cannot be called without arguments"),
        (FineTune(images(), n_features=4), (5,), r"n_features=4 is for images, .*shape \(5,\)"),
        (FineTune(images()), (3, 16, 16), "expected features of shape"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_pretrained_module(spec, shape, match):
    with pytest.raises((TypeError, ValueError), match=match):
        build_trunk(spec, shape)
