"""Trunks over extras: TabM itself, and timm itself where it is, else a stand-in for it."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from _asserts import assert_random_states_untouched
from _inputs import make_table
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from torch import Tensor, nn

from sklearn_mtl import MultiTaskCNNEstimator
from sklearn_mtl.networks import TRUNKS, TabMTrunk, TimmTrunk, build_trunk

X, Y = make_table(60)
IMAGES = np.random.default_rng(0).normal(size=(60, 2, 16, 16)).astype(np.float32)
SMALL_TABM = TabMTrunk(n_blocks=2, d_block=8, k=4)


def make(**params: Any) -> MultiTaskCNNEstimator:
    defaults = {"max_epochs": 2, "batch_size": 20, "random_state": 0, "device": "cpu"}
    return MultiTaskCNNEstimator(**(defaults | params))


@pytest.fixture
def tabm() -> None:
    pytest.importorskip("tabm", reason="the extra [tabm]")


# -- TabM ----------------------------------------------------------------------------------------

TABM = [
    TabMTrunk(2, 8, k=4, arch_type=arch_type, num_embeddings=num_embeddings)
    for arch_type in ("tabm", "tabm-mini", "tabm-packed")
    for num_embeddings in (None, "periodic")
]


@pytest.mark.usefixtures("tabm")
@pytest.mark.parametrize("shape", [(1,), (5,), (2, 3)], ids=str)
@pytest.mark.parametrize("spec", TABM, ids=repr)
def test_tabm_makes_members_that_differ(spec, shape):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        trunk, n_features = build_trunk(spec, shape)
        features = trunk(torch.randn(3, *shape))
    assert features.shape == (3, 4, 8)
    assert n_features == 8
    assert (features.std(dim=1) > 0).any()
    features.square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in trunk.parameters())


@pytest.mark.usefixtures("tabm")
def test_tabm_takes_the_defaults_of_its_package():
    trunk, n_features = build_trunk("tabm", (3,))
    features = trunk(torch.zeros(2, 3))
    assert features.shape == (2, 32, 512)
    assert n_features == 512
    assert len(trunk[-1].blocks) == 3
    assert {layer.p for layer in trunk.modules() if isinstance(layer, nn.Dropout)} == {0}
    other, _ = build_trunk(TabMTrunk(1, 8, 0.25, 2), (3,))
    assert {layer.p for layer in other.modules() if isinstance(layer, nn.Dropout)} == {0.25}


@pytest.mark.usefixtures("tabm")
def test_tabm_frequencies_start_at_their_scale():
    spec = TabMTrunk(1, 4, k=2, num_embeddings="periodic", frequency_init_scale=0.5)
    trunk, _ = build_trunk(spec, (200,))
    assert 0.4 < trunk[1].periodic.weight.std() < 0.6


@pytest.mark.usefixtures("tabm")
@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"num_embeddings": "linear"}, r"num_embeddings='linear' does not exist. Use None or 'per"),
        ({"arch_type": "tabm-maxi"}, "tabm-maxi"),
        ({"k": 0}, "k must be a positive integer"),
    ],
)
def test_tabm_refuses_what_does_not_exist(params, match):
    with pytest.raises(ValueError, match=match):
        build_trunk(TabMTrunk(**params), (3,))


@pytest.mark.usefixtures("tabm")
@pytest.mark.parametrize("spec", TABM, ids=repr)
def test_tabm_decays_matrices_that_members_share(spec):
    """What each member has of its own are vectors, whatever their number of axes."""
    net = make(trunk=spec, weight_decay=0.5, max_epochs=1).fit(X, Y).net_
    decayed, spared = net.optimizer_.param_groups
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.5, 0)
    names = {id(p): name for name, p in net.module_.named_parameters()}
    last = len(net.module_.trunk) - 1
    expected = {f"trunk.{last}.blocks.{i}.0.weight" for i in range(2)} | {"heads.weight"}
    if spec.num_embeddings:
        expected.add("trunk.1.linear.weight")
    assert {names[id(p)] for p in decayed["params"]} == expected
    assert len(decayed["params"]) + len(spared["params"]) == len(names)


@pytest.mark.usefixtures("tabm")
def test_tabm_learns_and_embeds():
    with assert_random_states_untouched():
        estimator = make(trunk=SMALL_TABM, max_epochs=40, learning_rate=0.01).fit(X, Y)
    assert estimator.score(X, Y) > 0.6
    embedded = estimator.embed(X)
    assert embedded.shape == (60, 8)
    x = torch.from_numpy((X - X.mean(axis=0)) / X.std(axis=0)).float()
    with torch.no_grad():
        members = estimator.module_.trunk.eval()(x)
    np.testing.assert_allclose(embedded, members.mean(dim=1), rtol=1e-4, atol=1e-4)
    assert (members.std(dim=1) > 1e-3).any()


@pytest.mark.usefixtures("tabm")
def test_a_file_holds_tabm(tmp_path):
    estimator = make(trunk=SMALL_TABM).fit(X, Y)
    estimator.save(tmp_path / "model.safetensors")
    loaded = MultiTaskCNNEstimator.load(tmp_path / "model.safetensors")
    assert repr(loaded.trunk) == repr(SMALL_TABM)
    np.testing.assert_array_equal(loaded.predict(X), estimator.predict(X))


@pytest.mark.usefixtures("tabm")
def test_parameters_of_tabm_are_searched():
    grid = {"trunk__k": [1, 3], "trunk__arch_type": ["tabm", "tabm-mini"]}
    search = GridSearchCV(make(trunk=SMALL_TABM, max_epochs=1), grid, cv=2, error_score="raise")
    best = search.fit(X, Y).best_estimator_
    assert best.module_.trunk[-1].k == search.best_params_["trunk__k"]
    assert SMALL_TABM.k == 4


# -- timm ----------------------------------------------------------------------------------------


class Convolutions(nn.Module):
    """A feature map at an eighth of the resolution, with batch statistics."""

    def __init__(self, in_chans: int, global_pool: str | None) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_chans, 5, 8, stride=8)
        self.norm = nn.BatchNorm2d(5)
        self.pool = global_pool != ""

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.conv(x))
        return y.mean(dim=(2, 3)) if self.pool else y


class ChannelsLast(Convolutions):
    output_fmt = "NHWC"

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        return y if self.pool else y.movedim(1, -1)


class Tokens(nn.Module):
    """A class token, then one per patch; pooled, it has but the first."""

    num_prefix_tokens = 1

    def __init__(self, in_chans: int, global_pool: str | None) -> None:
        super().__init__()
        self.patch_embed = nn.Conv2d(in_chans, 5, 8, stride=8)
        self.patch_embed.grid_size = (2, 2)  # for images of 16 x 16
        self.class_token = nn.Parameter(torch.full((1, 1, 5), 100.0))
        self.pool = global_pool != ""

    def no_weight_decay(self) -> set[str]:
        return {"class_token", "pos_embed"}

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patch_embed(x).flatten(2).transpose(1, 2)
        y = torch.cat([self.class_token.expand(len(x), -1, -1), patches], dim=1)
        return y[:, 0] if self.pool else y


class NeverPooled(Tokens):
    """Tokens, whatever is asked for."""

    def forward(self, x: Tensor) -> Tensor:
        self.pool = False
        return super().forward(x)


MODELS = {"cnn": Convolutions, "last": ChannelsLast, "vit": Tokens, "never": NeverPooled}


@pytest.fixture
def timm(monkeypatch) -> list[dict[str, Any]]:
    """A stand-in for timm; the calls that it got."""
    calls = []

    def create_model(model_name, pretrained, in_chans, num_classes, global_pool, **kwargs):
        calls.append({"pretrained": pretrained, **kwargs})
        assert num_classes == 0
        if model_name not in MODELS:
            raise RuntimeError(f"Unknown model ({model_name})")
        return MODELS[model_name](in_chans, global_pool)

    models = SimpleNamespace(get_pretrained_cfg=lambda name: None)
    stand_in = SimpleNamespace(create_model=create_model, models=models)
    monkeypatch.setitem(sys.modules, "timm", stand_in)
    return calls


@pytest.mark.usefixtures("timm")
@pytest.mark.parametrize("shape", [(1, 16, 16), (3, 16, 16)], ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_timm_maps_keep_where_things_are(name, shape):
    """Also those in channels-last order, and tokens, which are no ensemble."""
    trunk, n_features = build_trunk(TimmTrunk(name, n_features=7), shape)
    assert trunk(torch.zeros(3, *shape)).shape == (3, 7)
    assert n_features == 7
    x = torch.zeros(2, *shape)
    x[0, :, :8, 8:] = 1  # in the second cell, row by row
    with torch.no_grad():
        cells = trunk.eval()[:3](x).unflatten(1, (5, 4))
    changed = (cells[0] - cells[1]).abs().sum(dim=0) > 1e-6
    assert changed.tolist() == [False, True, False, False]


@pytest.mark.usefixtures("timm")
@pytest.mark.parametrize("global_pool", ["avg", None])
@pytest.mark.parametrize(("name", "n_features"), [("cnn", 5), ("vit", 5), ("never", 20)])
def test_timm_models_may_pool_for_themselves(name, n_features, global_pool):
    """A model that leaves tokens all the same is no ensemble either."""
    trunk, n = build_trunk(TimmTrunk(name, global_pool=global_pool), (2, 16, 16))
    assert trunk(torch.zeros(3, 2, 16, 16)).shape == (3, n_features)
    assert n == n_features


@pytest.mark.usefixtures("timm")
@pytest.mark.parametrize("name", MODELS)
def test_every_model_ends_in_a_map(name):
    """Tokens stand in the grid of their patches."""
    trunk, _ = build_trunk(TimmTrunk(name), (1, 16, 16))
    assert trunk[0](torch.zeros(3, 1, 16, 16)).shape == (3, 5, 2, 2)


@pytest.mark.usefixtures("timm")
def test_a_large_map_becomes_a_grid():
    trunk, _ = build_trunk(TimmTrunk("cnn", n_features=3), (1, 88, 16))
    assert trunk[3].in_features == 5 * 4 * 2
    tokens, _ = build_trunk(TimmTrunk("vit", n_features=3), (1, 16, 80))  # of an unknown grid
    assert tokens[3].in_features == 5 * 16


def test_timm_takes_further_parameters(timm):
    params = {"drop_rate": 0.1}
    build_trunk(TimmTrunk("cnn", True, model_params=params), (1, 16, 16))
    assert timm == [{"pretrained": True, "drop_rate": 0.1}]
    assert params == {"drop_rate": 0.1}


@pytest.mark.usefixtures("timm")
@pytest.mark.parametrize("shape", [(5,), (2, 9), (1, 4, 4, 4)], ids=str)
def test_timm_takes_images_only(shape):
    with pytest.raises(ValueError, match=rf"images of shape \(C, H, W\), got \({shape[0]},"):
        build_trunk(TimmTrunk("cnn"), shape)


@pytest.mark.usefixtures("timm")
@pytest.mark.parametrize(
    ("spec", "match"),
    [
        (TimmTrunk("nope"), r"cannot make TimmTrunk\(model_name='nope'\): Unknown model"),
        (TimmTrunk("cnn", model_params={"in_chans": 1}), "multiple values for .*'in_chans'"),
    ],
)
def test_timm_says_what_it_cannot_make(spec, match):
    with pytest.raises(ValueError, match=match):
        build_trunk(spec, (1, 16, 16))


@pytest.mark.usefixtures("timm")
def test_timm_trunks_are_trained_and_searched():
    estimator = make(trunk=TimmTrunk(n_features=4), max_epochs=1)
    grid = {"trunk__model_name": ["cnn", "vit"]}
    search = GridSearchCV(estimator, grid, cv=2, error_score="raise").fit(IMAGES, Y)
    assert (
        clone(search.best_estimator_).trunk.model_name == search.best_params_["trunk__model_name"]
    )
    assert search.best_estimator_.embed(IMAGES).shape == (60, 4)
    assert search.predict(IMAGES).shape == Y.shape


@pytest.mark.usefixtures("timm")
def test_batch_statistics_are_learned_in_training_and_kept_in_predictions():
    estimator = make(trunk=TimmTrunk("cnn")).fit(IMAGES, Y)
    norm = estimator.module_.trunk[0].model.norm
    assert norm.num_batches_tracked == 2 * 3
    before = norm.running_mean.clone()
    whole = estimator.predict(IMAGES)
    np.testing.assert_allclose(estimator.predict(IMAGES[:1]), whole[:1], rtol=1e-5)
    assert torch.equal(norm.running_mean, before)


@pytest.mark.usefixtures("timm")
def test_what_a_model_wants_no_weight_decay_on():
    net = make(trunk=TimmTrunk("vit"), weight_decay=0.5, max_epochs=1).fit(IMAGES, Y).net_
    token = net.module_.trunk[0].model.class_token
    assert token.ndim > 1
    decay = [g["weight_decay"] for g in net.optimizer_.param_groups for p in g["params"]
             if p is token]  # fmt: skip
    assert decay == [0]


@pytest.mark.usefixtures("timm")
def test_a_file_names_no_timm_model(tmp_path):
    """Making one could download or read other files; the weights are in the file."""
    assert TimmTrunk not in TRUNKS.values()
    estimator = make(trunk=TimmTrunk("cnn", pretrained=True)).fit(IMAGES, Y)
    path = tmp_path / "model.safetensors"
    estimator.save(path)
    with pytest.raises(ValueError, match="Pass the same one"):
        MultiTaskCNNEstimator.load(path)
    loaded = MultiTaskCNNEstimator.load(path, trunk=TimmTrunk("cnn"))
    np.testing.assert_array_equal(loaded.predict(IMAGES), estimator.predict(IMAGES))


@pytest.mark.parametrize("global_pool", ["", None])
@pytest.mark.parametrize(
    ("name", "params"), [("test_resnet", None), ("test_vit", {"img_size": 32})]
)
def test_models_of_timm_itself(name, params, global_pool):
    pytest.importorskip("timm", reason="the extra [timm], which needs torchvision")
    images = np.random.default_rng(0).normal(size=(24, 2, 32, 32)).astype(np.float32)
    trunk = TimmTrunk(name, global_pool=global_pool, n_features=6, model_params=params)
    estimator = make(trunk=trunk, batch_size=12).fit(images, Y[:24])
    assert np.isfinite(estimator.predict(images)).all()
    n_features = 6 if global_pool == "" else estimator.module_.trunk[0].model.num_features
    assert estimator.embed(images).shape == (24, n_features)


# -- both ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("package", "spec", "missing"),
    [
        ("tabm", TabMTrunk(), "tabm"),
        ("timm", TimmTrunk(), "timm"),
    ],
)
def test_a_missing_extra_is_named(package, spec, missing, monkeypatch):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(
        ImportError, match=rf'needs {missing}.*pip install "sklearn-mtl\[{package}\]"'
    ):
        build_trunk(spec, (1, 16, 16))


@pytest.mark.parametrize("spec", [TabMTrunk(2, 8), TimmTrunk("vit", True, None, 9, {"a": 1})])
def test_specs_are_cloned(spec):
    copied = clone(spec)
    assert copied is not spec
    assert copied.get_params() == spec.get_params() == vars(spec)
