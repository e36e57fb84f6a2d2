"""Fine-tuning by the estimator: rates, what stays, and what goes on where it was."""

from __future__ import annotations

import copy
import pickle
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.model_selection import GridSearchCV
from skorch.callbacks import Callback, Freezer
from torch import nn

from sklearn_mtl import MultiTaskCNNEstimator
from sklearn_mtl.datasets import MultiInput
from sklearn_mtl.networks import FineTune, Fusion, Pretrained, TimmTrunk

RNG = np.random.default_rng(0)
X = RNG.integers(0, 256, size=(40, 3, 8, 8)).astype(np.uint8)
Y = np.column_stack([X[:, 0].mean(axis=(1, 2)) > 127, X.mean(axis=(1, 2, 3))])


def make_body() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = [nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3)]
        return nn.Sequential(*layers, nn.BatchNorm2d(4), nn.ReLU())


BODY = make_body()


def make(finetune: str = "full", how: dict | None = None, **params) -> MultiTaskCNNEstimator:
    trunk = FineTune(BODY, finetune, n_features=4, **(how or {}))
    defaults = {"max_epochs": 3, "batch_size": 10, "random_state": 0, "device": "cpu"}
    return MultiTaskCNNEstimator(**(defaults | {"trunk": trunk} | params))


def body_of(estimator: MultiTaskCNNEstimator) -> Pretrained:
    return estimator.module_.trunk[0]


def same(estimator: MultiTaskCNNEstimator, names: str = "") -> list[bool]:
    """Which parameters and statistics are those of the beginning, to the bit."""
    known = BODY.state_dict()
    found = body_of(estimator).model.state_dict()
    return [torch.equal(found[n], known[n]) for n in known if n.endswith(names)]


class Watch(Callback):
    """Notes what requires gradients in each epoch, and the rates of the groups."""

    def initialize(self):
        self.free_, self.rates_ = [], []
        return self

    def on_batch_begin(self, net, batch=None, training=None, **kwargs):
        if training and len(self.free_) < len(net.history):
            params = net.module_.trunk[0].model.parameters()
            self.free_.append(sum(p.requires_grad for p in params))
        self.rates_.append([group["lr"] for group in net.optimizer_.param_groups])


def watched(estimator: MultiTaskCNNEstimator) -> Watch:
    (found,) = [c for _, c in estimator.net_.callbacks_ if isinstance(c, Watch)]
    return found


# -- what is trained ------------------------------------------------------------------------------


def test_frozen_weights_and_statistics_are_the_same_bits():
    est = make("heads", {"freeze_statistics": False}).fit(X, Y)
    assert all(same(est))
    assert all(p.requires_grad for p in est.module_.parameters())
    heads = make("heads").fit(X, Y)
    np.testing.assert_array_equal(heads.predict(X), est.predict(X))


def test_all_is_trained_once_the_warm_up_is_over():
    with pytest.warns(UserWarning, match="frozen_epochs=3 of the trunk"):
        assert all(same(make(how={"frozen_epochs": 3}).fit(X, Y)))
    assert not any(same(make(how={"frozen_epochs": 2}).fit(X, Y), "weight"))
    assert all(same(make().fit(X, Y), "running_mean"))
    assert not any(same(make(how={"freeze_statistics": False}).fit(X, Y), "running_mean"))


@pytest.mark.parametrize(
    ("finetune", "expected"), [("full", [0, 8, 8]), ("heads", [0, 0, 0]), ("gradual", [0, 2, 4])]
)
def test_what_is_trained_in_each_epoch(finetune, expected):
    est = make(finetune, net_params={"callbacks": [Watch()]}).fit(X, Y)
    assert watched(est).free_ == expected


@pytest.mark.parametrize("params", [{}, {"weight_decay": 0}, {"optimizer": "SGD"}], ids=str)
def test_rates_by_group(params):
    """At each step: that of pretrained weights is a share of that of all new ones."""
    callbacks = {"callbacks": [Watch()]}
    est = make(how={"relative_rate": 0.25}, net_params=callbacks, **params).fit(X, Y)
    old = {id(p) for p in body_of(est).parameters()}
    groups = est.net_.optimizer_.param_groups
    assert sum(len(group["params"]) for group in groups) == len(list(est.module_.parameters()))
    is_old = [{id(p) in old for p in group["params"]} for group in groups]
    assert all(len(kinds) == 1 for kinds in is_old)
    rates = np.array(watched(est).rates_)
    share = np.array([0.25 if kinds == {True} else 1 for kinds in is_old])
    assert {*share} == {0.25, 1}
    np.testing.assert_allclose(rates, rates[:, :1] * share, rtol=1e-12)
    assert rates[:, 0].max() == pytest.approx(2e-3)


def test_one_rate_makes_no_groups():
    est = make(how={"relative_rate": 1}).fit(X, Y)
    assert len(est.net_.optimizer_.param_groups) == 2
    assert {group["weight_decay"] for group in est.net_.optimizer_.param_groups} == {0, 0.01}


def test_groups_of_the_user_keep_what_they_say():
    groups = [("trunk.0.model.0.*", {"lr": 0.5}), ("trunk.0.model.3.*", {"weight_decay": 0.1})]
    callbacks = [Watch()]
    net_params = {"optimizer__param_groups": groups, "callbacks": callbacks}
    est = make(net_params=net_params).fit(X, Y)
    rates = np.array(watched(est).rates_)
    peak = dict(
        zip([id(g) for g in est.net_.optimizer_.param_groups], rates.max(axis=0), strict=True)
    )
    by_name = {
        name: next(g for g in est.net_.optimizer_.param_groups if any(p is q for q in g["params"]))
        for name, p in est.module_.named_parameters()
    }
    assert peak[id(by_name["trunk.0.model.0.weight"])] == pytest.approx(0.5)
    assert peak[id(by_name["trunk.0.model.3.weight"])] == pytest.approx(6e-4)
    assert by_name["trunk.0.model.3.weight"]["weight_decay"] == 0.1
    assert peak[id(by_name["heads.weight"])] == pytest.approx(2e-3)


def test_an_optimizer_of_one_rate_says_so():
    with pytest.raises(ValueError, match=r"'LBFGS' has one learning rate .*trunk__relative_rate=1"):
        make(optimizer="LBFGS").fit(X, Y)
    est = make(how={"relative_rate": 1}, optimizer="LBFGS", max_epochs=2, batch_size=40).fit(X, Y)
    assert np.isfinite(est.predict(X)).all()


def test_nothing_to_do_where_nothing_is_pretrained():
    net = make(trunk="conv", net_params={"callbacks": [Watch()]})
    with pytest.raises(AttributeError):  # there is no `model`
        net.fit(X, Y)
    est = MultiTaskCNNEstimator(trunk="conv", max_epochs=1, random_state=0).fit(X, Y)
    assert "Thawing" not in {name for name, _ in est.net_.callbacks_}


# -- what somebody else does ----------------------------------------------------------------------


def test_what_the_user_has_frozen_stays_so():
    est = make(net_params={"callbacks": [Freezer("trunk.0.model.0.*")]}).fit(X, Y)
    assert same(est, "weight") == [True, False, False, False]
    module = copy.deepcopy(BODY)
    module[3].requires_grad_(False)
    est = make(trunk=FineTune(module, n_features=4)).fit(X, Y)
    assert same(est, "weight") == [False, False, True, False]


def test_freezing_by_hand_between_calls_of_partial_fit():
    est = make(how={"frozen_epochs": 0}).partial_fit(X, Y)
    before = copy.deepcopy(body_of(est).model)
    body_of(est).model[0].requires_grad_(False)
    est.partial_fit(X, Y)
    after = body_of(est).model
    assert torch.equal(after[0].weight, before[0].weight)
    assert not torch.equal(after[3].weight, before[3].weight)
    assert not after[0].weight.requires_grad


# -- going on -------------------------------------------------------------------------------------


def test_passes_of_a_stream_are_epochs():
    est = make(how={"frozen_epochs": 2})
    for expected in ([True], [True], [False]):
        est.partial_fit(X, Y)
        assert {*same(est, "weight")} == {*expected}
    assert body_of(est).n_epochs == 3


def test_a_warm_start_needs_no_second_warm_up():
    est = make(warm_start=True, max_epochs=1)
    assert all(same(est.fit(X, Y)))
    assert not any(same(est.fit(X, Y), "weight"))


@pytest.mark.parametrize("finetune", ["full", "heads", "gradual"])
@pytest.mark.parametrize("early_stopping", [False, True])
def test_a_fit_goes_on_to_the_same_bits(finetune, early_stopping, tmp_path):
    class Kill(Callback):
        def on_epoch_end(self, net, **kwargs):
            if len(net.history) == 2 and not (tmp_path / "killed").exists():
                (tmp_path / "killed").touch()
                raise MemoryError("killed")

    params = {"max_epochs": 6, "early_stopping": early_stopping, "n_iter_no_change": 6}
    whole = make(finetune, **params).fit(X, Y)
    (tmp_path / "folder").mkdir()
    params |= {"checkpoint": tmp_path / "folder", "checkpoint_every": 0}
    broken = make(finetune, net_params={"callbacks": [Kill()]}, **params)
    with pytest.raises(MemoryError):
        broken.fit(X, Y)
    assert len(list((tmp_path / "folder").iterdir())) >= 1
    broken.fit(X, Y)
    for name, value in whole.module_.state_dict().items():
        assert torch.equal(broken.module_.state_dict()[name], value), name
    assert all(p.requires_grad for p in broken.module_.parameters())


def test_early_stopping_averages_what_is_trained():
    est = make("heads", early_stopping=True, max_epochs=4).fit(X, Y)
    assert all(same(est))
    net_params = {"callbacks": [Watch()]}
    est = make("gradual", early_stopping=True, max_epochs=6, net_params=net_params).fit(X, Y)
    assert watched(est).free_ == [0, 2, 4, 6, 8, 8]
    assert all(p.requires_grad for p in est.module_.parameters())


def test_pickles_and_files(tmp_path):
    est = make("gradual").partial_fit(X, Y)
    twin = pickle.loads(pickle.dumps(est))
    est.save(tmp_path / "m.safetensors", optimizer=True)
    loaded = MultiTaskCNNEstimator.load(tmp_path / "m.safetensors", trunk=est.trunk)
    for _ in range(2):
        for one in (est, twin, loaded):
            one.partial_fit(X, Y)
    for other in (twin, loaded):
        np.testing.assert_array_equal(other.predict(X), est.predict(X))
        assert body_of(other).n_epochs == 3


def test_a_search_over_ways_to_train():
    grid = {"trunk__finetune": ["heads", "full"], "trunk__relative_rate": [0.1, 1]}
    search = GridSearchCV(make(max_epochs=2), grid, cv=2, error_score="raise").fit(X, Y)
    assert body_of(search.best_estimator_).finetune == search.best_params_["trunk__finetune"]
    assert all(
        torch.equal(a, b) for a, b in zip(BODY.parameters(), make_body().parameters(), strict=True)
    )


def test_a_weight_of_two_is_the_row_twice_with_statistics_that_stand_still():
    rows = np.r_[np.arange(40), np.arange(5)]
    weight = np.r_[np.full(5, 2.0), np.ones(35)]
    params = {"max_epochs": 4, "precision": "float64", "batch_size": 45, "standardize": False}
    scaled = X / 255.0
    heavy = make(**params).fit(scaled, Y, sample_weight=weight)
    twice = make(**params).fit(scaled[rows], Y[rows])
    np.testing.assert_allclose(heavy.predict(scaled), twice.predict(scaled), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("precision", ["float64", "bfloat16"])
def test_other_precisions(precision):
    est = make("gradual", precision=precision).fit(X, Y)
    assert np.isfinite(est.predict(X)).all()


def test_a_pretrained_part_among_several_inputs():
    trunk = Fusion({"image": FineTune(BODY, n_features=4)})
    both = MultiInput(image=X, table=RNG.normal(size=(40, 2)))
    est = make(trunk=trunk).fit(both, Y)
    part = est.module_.trunk.trunk_of("image")[0]
    old = {id(p) for p in part.parameters()}
    groups = est.net_.optimizer_.param_groups
    assert any({id(p) for p in group["params"]} <= old for group in groups)
    assert not torch.equal(part.model[0].weight, BODY[0].weight)


@pytest.mark.parametrize(
    ("finetune", "frozen", "epochs", "warns"),
    [("full", 2, 2, True), ("gradual", 3, 2, True), ("full", 1, 2, False), ("heads", 2, 2, False)],
)
def test_weights_that_no_epoch_trains_are_told(finetune, frozen, epochs, warns):
    est = make(finetune, {"frozen_epochs": frozen}, max_epochs=epochs)
    if not warns:
        est.fit(X, Y)
        return
    match = f"frozen_epochs={frozen} of the trunk is not less than max_epochs={epochs}"
    with pytest.warns(UserWarning, match=match):
        est.fit(X, Y)
    assert torch.equal(body_of(est).model[0].weight, BODY[0].weight)
    est.set_params(warm_start=True)  # more epochs follow
    est.fit(X, Y)


# -- what pixels are measured in ------------------------------------------------------------------


class Known(FineTune):
    """A spec that knows its pixels."""

    def pixel_statistics(self):
        return (0.5, 0.25, 0.125), (0.5, 0.25, 1.0)


KNOWN = Known(BODY, n_features=4)


def scaling(X, trunk=KNOWN, **params):
    est = make(trunk=trunk, max_epochs=2, **params).fit(X, Y)
    reader = est.net_.reader_
    return reader.mean_.ravel(), reader.scale_.ravel()


def test_pixels_are_standardised_as_in_the_pretraining():
    mean, std = np.array([0.5, 0.25, 0.125]), np.array([0.5, 0.25, 1.0])
    np.testing.assert_allclose(scaling(X), (mean * 255, std * 255))
    np.testing.assert_allclose(scaling(X / 255.0), (mean, std))


def test_the_word_of_the_user_comes_first():
    learned = X.mean(axis=(0, 2, 3)), X.std(axis=(0, 2, 3))
    np.testing.assert_allclose(scaling(X, standardize=True), learned)
    np.testing.assert_allclose(scaling(X, standardize=False), ([0] * 3, [1] * 3))
    np.testing.assert_allclose(scaling(X, standardize=(1, 2)), ([1] * 3, [2] * 3))
    np.testing.assert_allclose(scaling(X, FineTune(BODY, n_features=4)), learned)


@pytest.mark.parametrize("change", [lambda x: x - 100.0, lambda x: x * 3.0], ids=["low", "high"])
def test_what_holds_no_pixels_is_standardised_by_itself(change):
    x = change(X)
    np.testing.assert_allclose(scaling(x), (x.mean(axis=(0, 2, 3)), x.std(axis=(0, 2, 3))))


def test_grey_images_have_the_mean_of_the_colours():
    grey = Known(nn.Conv2d(1, 4, 3), n_features=4)
    np.testing.assert_allclose(scaling(X[:, :1], grey), ([0.875 / 3 * 255], [1.75 / 3 * 255]))
    more = Known(nn.Conv2d(4, 4, 3), n_features=4)
    four = np.concatenate([X, X[:, :1]], axis=1)
    np.testing.assert_allclose(scaling(four, more)[0], four.mean(axis=(0, 2, 3)))


def test_parts_have_pixels_of_their_own():
    table = RNG.normal(size=(40, 2))
    both = MultiInput(image=X, table=table)
    est = make(trunk=Fusion({"image": KNOWN}), max_epochs=2).fit(both, Y)
    readers = est.net_.reader_.readers_
    assert readers["image"].mean_.ravel()[0] == 127.5
    np.testing.assert_allclose(readers["table"].mean_, table.mean(axis=0))
    est = make(trunk=Fusion({"image": KNOWN}), max_epochs=2, standardize={"image": True})
    readers = est.fit(both, Y).net_.reader_.readers_
    np.testing.assert_allclose(readers["image"].mean_.ravel(), X.mean(axis=(0, 2, 3)))


def test_the_pixels_of_timm(monkeypatch):
    """Of a name that timm lists without a model; of others by one, without its weights."""
    made = []
    halves = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}

    def create_model(name, pretrained, in_chans, num_classes, global_pool, **params):
        made.append(pretrained)
        if name == "known.bad":
            raise RuntimeError("Invalid pretrained tag")
        model = make_body()
        if name != "other":
            model.default_cfg = halves | params.get("pretrained_cfg_overlay", {})
        return model

    def get_pretrained_cfg(name):
        if name == "known.bad":
            raise RuntimeError("Invalid pretrained tag")
        return SimpleNamespace(to_dict=lambda: halves) if name == "known" else None

    models = SimpleNamespace(get_pretrained_cfg=get_pretrained_cfg)
    monkeypatch.setitem(
        sys.modules, "timm", SimpleNamespace(create_model=create_model, models=models)
    )
    learned = X.mean(axis=(0, 2, 3)), X.std(axis=(0, 2, 3))
    state = torch.get_rng_state()
    by_model = [False, True]
    for name, calls in {"known": [True], "hf-hub:x": by_model, "older_name": by_model}.items():
        known = scaling(X, TimmTrunk(name, pretrained=True, n_features=4))
        np.testing.assert_allclose(known, ([127.5] * 3, [63.75] * 3))
        assert made == calls
        made.clear()
    told = {"pretrained_cfg_overlay": {"mean": (0.1, 0.1, 0.1)}, "drop_rate": 0.1}
    trunk = TimmTrunk("known", pretrained=True, n_features=4, model_params=told)
    np.testing.assert_allclose(scaling(X, trunk), ([25.5] * 3, [63.75] * 3))
    assert torch.equal(torch.get_rng_state(), state)
    for trunk in (TimmTrunk("other", True, n_features=4), TimmTrunk("known", n_features=4)):
        np.testing.assert_allclose(scaling(X, trunk), learned)
    with pytest.raises(ValueError, match=r"timm cannot make TimmTrunk\(.*Invalid pretrained tag"):
        scaling(X, TimmTrunk("known.bad", pretrained=True))


def test_random_weights_of_timm_are_trained_as_any_others(monkeypatch):
    models = SimpleNamespace(get_pretrained_cfg=lambda name: None)
    timm = SimpleNamespace(create_model=lambda *args, **kwargs: make_body(), models=models)
    monkeypatch.setitem(sys.modules, "timm", timm)
    est = make(trunk=TimmTrunk(n_features=4, finetune="heads", frozen_epochs=9)).fit(X, Y)
    assert not any(same(est, "weight"))
    assert len(est.net_.optimizer_.param_groups) == 2
    with pytest.raises(ValueError, match="finetune='most' does not exist"):
        make(trunk=TimmTrunk(finetune="most")).fit(X, Y)
    tuned = make(trunk=TimmTrunk(pretrained=True, n_features=4, finetune="heads")).fit(X, Y)
    assert all(same(tuned))
