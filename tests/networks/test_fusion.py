"""`Fusion`: a trunk of trunks, and rows that lack a part."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import nn

from sklearn_mtl.networks import (
    ConvTrunk,
    DenseTrunk,
    Fusion,
    MultiTaskModule,
    TabMTrunk,
    build_trunk,
    folds_of,
    is_data,
    named_spec,
    spelled_out,
)

SHAPES = {"image": (1, 8, 8), "table": (3,)}
SMALL = {"image": ConvTrunk(width=2, n_features=5), "table": DenseTrunk((7,), 1)}


def seeded(trunk, shapes=SHAPES):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build_trunk(trunk, shapes)


def rows(n=4, seed=0):
    return torch.randn(n, 64 + 3, generator=torch.Generator().manual_seed(seed))


def test_features_of_parts_stand_side_by_side():
    trunk, n_features = seeded(Fusion(SMALL, ()))
    x = rows()
    image, table = trunk.trunk_of("image").eval(), trunk.trunk_of("table")
    expected = torch.cat([image(x[:, :64].view(-1, 1, 8, 8)), table(x[:, 64:])], dim=1)
    assert n_features == 5 + 7
    torch.testing.assert_close(trunk.eval()(x), expected)


def test_layers_follow():
    """Heads see what they return, and the features of the parts."""
    trunk, n_features = seeded(Fusion(SMALL, (6, 4)))
    assert n_features == 4 + 12
    found = trunk.eval()(rows())
    assert found.shape == (4, 16)
    torch.testing.assert_close(found[:, 4:], seeded(Fusion(SMALL, ()))[0].eval()(rows()))
    assert seeded(Fusion(SMALL, 6))[1] == 6 + 12


@pytest.mark.parametrize("name", ["dense", "conv"])
def test_one_part_is_the_trunk_of_it(name):
    shape = SHAPES["image"]
    (fused, n), (alone, n_alone) = (
        seeded(Fusion({"x": name}, ()), {"x": shape}),
        seeded(name, shape),
    )
    assert n == n_alone
    x = rows()[:, :64]
    torch.testing.assert_close(fused.eval()(x), alone.eval()(x.view(-1, *shape)))


def test_the_order_of_parts_in_a_row_says_nothing():
    spec = Fusion(SMALL)
    one, other = seeded(spec)[0], seeded(spec, dict(reversed(SHAPES.items())))[0]
    x = rows()
    assert torch.equal(one.eval()(x), other.eval()(torch.cat([x[:, 64:], x[:, :64]], dim=1)))


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("members", [1, 3])
def test_what_stands_in_for_a_missing_part_does_not_depend_on_it(training, members):
    parts = SMALL | {"table": DenseTrunk((7,), members)}
    trunk = seeded(Fusion(parts))[0].train(training)
    with torch.no_grad():
        trunk.parts[0].absent.copy_(torch.arange(5.0))
    x = rows()
    x[1:3, :64] = torch.nan
    found = trunk(x)
    assert found.isfinite().all()
    x[2, 64:] = x[1, 64:]
    torch.testing.assert_close(trunk(x)[1], trunk(x)[2])
    with torch.no_grad():
        trunk.parts[0].absent.add_(1)
    changed = (trunk(x) != found).flatten(1).any(dim=1)
    assert changed.tolist() == [False, True, True, False]


def test_a_row_that_lacks_a_part_teaches_its_trunk_nothing():
    """As if it were not there, also where a norm looks at all rows of a batch."""
    norm = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    trunk = seeded(Fusion({"image": "conv", "table": norm}, ()))[0].train()
    x = rows(6)
    x[4:, 64:] = torch.nan
    gradients = []
    for part in (x, x[:4]):
        trunk.zero_grad()
        trunk.trunk_of("table")[1].reset_running_stats()
        (trunk(part)[:, -4:] ** 2).sum().backward()
        own = trunk.trunk_of("table")
        gradients.append([own[0].weight.grad.clone(), own[1].running_mean.clone()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)
    assert trunk.parts[1].absent.grad is None or (trunk.parts[1].absent.grad == 0).all()


def test_a_batch_may_lack_a_part():
    trunk = seeded(Fusion(SMALL))[0].train()
    x = rows()
    x[:, :64] = torch.nan
    trunk(x).sum().backward()
    assert trunk.parts[0].absent.grad.abs().sum() > 0
    assert all(p.grad is None for p in trunk.trunk_of("image").parameters())


def test_members_of_a_part_meet_the_others():
    trunk, n_features = seeded(Fusion({"table": DenseTrunk((7,), 3)}, (6,)))
    found = trunk.eval()(rows())
    assert found.shape == (4, 3, 6 + 128 + 10)
    assert n_features == 6 + 128 + 10
    module = MultiTaskModule(trunk, n_features, [2, 1]).eval()
    assert module(rows()).shape == (4, 3)
    assert module.n_folds == folds_of(Fusion(), SHAPES) == 0
    two = {"a": DenseTrunk((7,), 3), "b": DenseTrunk((7,), 2)}
    with pytest.raises(ValueError, match=r"ensembles of \[2, 3\] members"):
        seeded(Fusion(two), {"a": (2,), "b": (2,)})


def test_gaps_have_names():
    spec = spelled_out("auto", SHAPES | {"signal": (2, 16)})
    assert list(spec.parts) == ["image", "table", "signal"]
    assert str(spec.parts["table"]) == str(DenseTrunk(n_members=1))
    assert isinstance(spec.parts["signal"], ConvTrunk)
    assert isinstance(named_spec("auto", SHAPES), Fusion)
    partial = spelled_out(Fusion({"table": "dense"}), SHAPES)
    assert partial.parts["table"].n_members == 5
    assert isinstance(partial.parts["image"], ConvTrunk)


def test_parameters_of_parts_are_parameters():
    spec = Fusion({"image": ConvTrunk(), "table": "dense", "other": nn.Linear(2, 2)})
    params = spec.get_params()
    assert params["image__width"] == 16
    assert params["table"] == "dense"
    twin = clone(spec).set_params(image__width=4, table=DenseTrunk(n_members=2))
    assert (twin.parts["image"].width, twin.parts["table"].n_members) == (4, 2)
    assert (spec.parts["image"].width, spec.parts["table"]) == (16, "dense")
    twin.set_params(table__n_members=3, hidden_layer_sizes=())
    assert (twin.parts["table"].n_members, twin.hidden_layer_sizes) == (3, ())
    twin.set_params(parts={"a": ConvTrunk()}, a__width=2)
    assert twin.parts["a"].width == 2
    with pytest.raises(ValueError, match=r"table__width cannot be set: .* is 'dense'"):
        spec.set_params(table__width=3)
    with pytest.raises(ValueError, match="Invalid parameter 'picture'"):
        spec.set_params(picture__width=3)


def test_modules_are_no_data():
    assert is_data(Fusion())
    assert is_data(Fusion(SMALL))
    assert is_data(Fusion({"a": Fusion(SMALL)}))
    assert not is_data(Fusion({"a": nn.Linear(2, 2)}))


def test_a_class_of_ones_own_is_no_data():
    """A file would make a plain Fusion of it."""

    class Mine(Fusion):
        pass

    assert not is_data(Mine(SMALL))


@pytest.mark.parametrize(
    ("spec", "shapes", "match"),
    [
        (Fusion({"picture": "conv"}), SHAPES, r"trunks for \['picture'\], which are no parts"),
        (Fusion({"image": ConvTrunk(width=0)}), SHAPES, "part 'image': .*'width' parameter"),
        (Fusion({"image": nn.Linear(3, 2)}), SHAPES, "part 'image': trunk fails"),
        (Fusion(hidden_layer_sizes=(0,)), SHAPES, "whole numbers above 0"),
        (Fusion({"parts": "conv"}), {"parts": (1, 8, 8)}, "a part called 'parts'"),
        (Fusion({3: "conv"}), SHAPES, "a part called 3"),
        (Fusion(), {"parts": (3,), "table": (3,)}, "a part called 'parts'"),
        ("auto", {"a__b": (3,)}, "a part called 'a__b'"),
        ("auto", {0: (3,)}, "a part called 0"),
        ("auto", {"": (3,)}, "a part called ''"),
        (Fusion([("image", "conv")]), SHAPES, "'parts' parameter of Fusion must be"),
        (Fusion(SMALL), (3,), "is for several inputs, but X has samples of shape"),
        (ConvTrunk(), SHAPES, r"is for one input, but X has the parts \['image', 'table'\]"),
        (DenseTrunk(), SHAPES, r"Pass Fusion\({'image': DenseTrunk\(\)}\)"),
        (TabMTrunk(), SHAPES, "is for one input"),
        ("conv", SHAPES, "is for one input"),
    ],
)
def test_what_does_not_fit_is_named(spec, shapes, match):
    with pytest.raises(ValueError, match=match):
        build_trunk(spec, shapes)


def test_a_module_of_ones_own_gets_flat_rows():
    trunk, n_features = build_trunk(nn.Linear(67, 2), SHAPES)
    assert n_features == 2
    assert trunk(rows()).shape == (4, 2)


def test_waves_are_of_columns_of_the_part():
    spec = Fusion({"table": DenseTrunk((7,), 1)})
    trunk, _ = build_trunk(spec, SHAPES, {"image": (), "table": (0, 2)})
    np.testing.assert_array_equal(trunk.trunk_of("table")[1].waved, [1])


def test_a_batch_norm_of_a_single_row_is_told():
    def norms():
        return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))

    trunk, _ = build_trunk(Fusion({"a": norms}), {"a": (3,), "b": (2,)})
    x = torch.randn(4, 5)
    x[1:, :3] = torch.nan
    with pytest.raises(ValueError, match=r"a single row of a batch.* Batch norms need two"):
        trunk.train()(x)
    x[1, :3] = 0
    trunk(x)
