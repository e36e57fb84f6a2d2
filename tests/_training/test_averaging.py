"""Averaged weights: what they are, when a training ends, and which of them are kept."""

import copy
import math
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from _asserts import pickled
from _fits import Recorder, X, Y, assert_consistent, make
from sklearn.exceptions import ConvergenceWarning
from skorch.callbacks import Callback
from torch import nn

from sklearn_mtl._training.averaging import AveragedWeights
from sklearn_mtl._training.recipe import Patience
from sklearn_mtl.networks import ConvTrunk, DenseTrunk

AUTO = {"max_epochs": "auto", "learning_rate": 0.01}


class Flow:
    """A net of one number, whose weights and losses are told: two batches per epoch."""

    def __init__(self, least=3, share=0.0, tol=0.0, eases=False, decays=(1.0, 0.0), default=1.0):
        module = nn.Linear(1, 1).requires_grad_(False)
        self.groups = [{"weight_decay": decay} for decay in decays]
        defaults = {"weight_decay": default}
        optimizer = SimpleNamespace(param_groups=self.groups, defaults=defaults)
        self.net = SimpleNamespace(module_=module, history=[{}], optimizer_=optimizer)
        self.averages, self.decays = [], []
        patience = Patience(least, share, tol, "loss", eases)
        self.averaging = AveragedWeights(2, patience, np.ones(1))
        self.averaging.on_train_begin(self.net)

    def epoch(self, loss, weights):
        """Tell of an epoch; return its averaged weight."""
        for weight in weights:
            self.net.module_.weight.data.fill_(float(weight))
            self.averaging.on_batch_end(self.net, training=True)
            self.averaging.on_batch_end(self.net, training=False)  # of validation
        self.averages.append(float(self.net.averaged_.weight))
        self.decays.append(self.groups[0].get("weight_decay"))
        self.net.history[-1]["loss"] = loss
        self.averaging.on_epoch_end(self.net)
        return self.averages[-1]

    def run(self, losses):
        """Tell of epochs until it ends; return how many there were, and their averages."""
        rng = np.random.default_rng(0)
        try:
            for loss in losses:
                self.epoch(loss, rng.normal(size=2))
        except KeyboardInterrupt:
            assert self.averaging.stopped
        self.averaging.on_train_end(self.net)
        return len(self.averages), self.averages


def test_averages_by_hand():
    """Over about two epochs; in the first steps, over those there were."""
    flow = Flow(least=100)
    average = float(flow.net.module_.weight)
    weights = np.random.default_rng(0).normal(size=40)
    for step, weight in enumerate(weights, start=1):
        decay = min(math.exp(-1 / 4), step / (step + 10))
        average = decay * average + (1 - decay) * weight
        if step % 2 == 0:
            found = flow.epoch(1.0, weights[step - 2 : step])
            assert found == pytest.approx(average, rel=1e-5)
    assert decay == math.exp(-1 / 4)


def test_constant_weights_are_their_average():
    flow = Flow()
    flow.net.module_.weight.data.fill_(0.3)
    flow.averaging.on_train_begin(flow.net)
    assert flow.epoch(1.0, [0.3, 0.3]) == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("losses", "best"),
    [
        ([3, 2, 1, 2, 2, 2, 0], 3),
        ([1, 2, 2, 2, 0], 1),
        ([3.0, math.nan, 1, 2, math.nan, 2, 0], 3),
        ([-1, -3, math.inf, -2, -2, -9], 2),
    ],
    ids=["fall and rise", "rise", "holes", "infinite"],
)
def test_the_best_epoch_is_kept(losses, best):
    """Three epochs later there is an end."""
    flow = Flow(least=3)
    n_epochs, averages = flow.run(losses)
    assert n_epochs == best + 3
    assert float(flow.net.module_.weight) == averages[best - 1]
    assert flow.net.averaged_ is None


def test_losses_that_are_never_numbers_keep_the_last_averages():
    flow = Flow(least=3)
    n_epochs, averages = flow.run([math.nan] * 9)
    assert n_epochs == 3
    assert float(flow.net.module_.weight) == averages[-1]


def test_little_is_no_reason_to_go_on_but_is_kept():
    """Losses that fall by less than `tol`, in all, since what counted last."""
    flow = Flow(least=3, tol=1.0)
    n_epochs, averages = flow.run([5, 4.5, 4.2, 4.1, 0])
    assert n_epochs == 4
    assert float(flow.net.module_.weight) == averages[3]


def test_small_steps_add_up():
    assert Flow(least=3, tol=1.0).run([5, 4.6, 4.2, 3.8, 3.4, 3.0, 2.6] + [2.6] * 9)[0] == 10


def test_long_trainings_have_more_patience():
    losses = [-float(k) for k in range(20)] + [0.0] * 30
    assert Flow(least=3, share=0.5).run(losses)[0] == 20 + 10
    assert Flow(least=12, share=0.5).run(losses)[0] == 20 + 12


def test_an_end_that_comes_from_elsewhere_keeps_the_best():
    flow = Flow(least=30)
    n_epochs, averages = flow.run([3, 1, 2, 2])
    assert n_epochs == 4
    assert float(flow.net.module_.weight) == averages[1]
    assert not flow.averaging.stopped


def test_decay_gives_way_as_often_as_that_helps():
    """To a quarter, after three epochs of patience each time; the best weights are kept."""
    flow = Flow(eases=True)
    n_epochs, averages = flow.run([-1, -2, -2, -2, -2, -3, -3, -3, -3, -3, -3, -3, -9])
    assert flow.decays == [1.0] * 5 + [0.25] * 4 + [0.0625] * 3
    assert n_epochs == 12  # three epochs after decay gave way for no gain
    assert float(flow.net.module_.weight) == averages[5]
    assert [group["weight_decay"] for group in flow.groups] == [1.0, 0.0]  # those of later fits


@pytest.mark.parametrize(
    ("losses", "changes"),
    [
        ([-1, -0.5, -0.5, -0.5, -9], {"eases": False}),
        ([-0.5, -0.5, -0.5, -0.5, -9], {}),  # log(0.5 + 0.1) is -0.51
        ([-1, -0.5, -0.5, -0.5, -9], {"decays": [0.0], "default": 0.0}),
        ([-1, -0.5, -0.5, -0.5, -9], {"decays": [0.3, 0.0]}),
        ([math.nan, math.nan, math.nan, -9], {}),
    ],
    ids=["not asked for", "much is noise", "no decay", "its own", "no numbers"],
)
def test_decay_stays_where_it_is_of_use_or_said(losses, changes):
    flow = Flow(**({"eases": True} | changes))
    assert flow.run(losses)[0] == len(losses) - 1
    assert len(set(flow.decays)) == 1


def test_decay_gives_way_below_half_of_the_error():
    """A tenth of which is taken for noise: log(0.5 + 0.1) is -0.511."""
    for loss, decays in ((-0.515, {1.0, 0.25}), (-0.505, {1.0})):
        flow = Flow(eases=True)
        flow.run([loss] * 9)
        assert set(flow.decays) == decays


def test_an_optimizer_without_decay_has_none_to_ease():
    flow = Flow(eases=True)
    for group in flow.groups:
        del group["weight_decay"]
    flow.averaging.on_train_begin(flow.net)
    assert flow.run([-1, -1, -1, -1, -9])[0] == 4
    assert flow.groups == [{}, {}]


def test_an_average_goes_on_with_the_decay_of_its_state():
    flow, twin = Flow(eases=True), Flow(eases=True)
    for _ in range(4):
        flow.epoch(-1.0, [0.0, 0.0])
    assert flow.groups[0]["weight_decay"] == 0.25
    twin.averaging.load_state_dict(flow.averaging.state_dict())
    assert twin.run([-1.0] * 9)[0] == 3  # nothing has got better: the end is near
    assert flow.run([-1.0] * 9)[0] == 4 + 3


# -- in fits -------------------------------------------------------------------------------------


class Averages(Callback):
    """Notes the averaged weights, and all else that a module keeps, after each epoch."""

    def __init__(self):
        self.epochs = []

    def on_epoch_end(self, net, **kwargs):
        state = net.averaged_.state_dict()
        self.epochs.append({name: t.clone() for name, t in state.items()})


def assert_has(module, state):
    """The trunk has these weights; heads are rescaled in the end."""
    for name, t in module.state_dict().items():
        if name.startswith("trunk"):
            assert torch.equal(t, state[name]), name


def test_a_fit_ends_with_the_averages_of_its_best_epoch():
    note = Averages()
    estimator = make([note], **AUTO).fit(X, Y)
    losses = estimator.net_.history[:, "oob_loss"]
    best = int(np.argmin(losses))
    assert 0 < best < len(losses) - 1
    assert_has(estimator.module_, note.epochs[best])
    assert all(p.requires_grad for p in estimator.module_.parameters())
    assert estimator.net_.averaged_ is estimator.net_.left_out_ is None


class Decays(Callback):
    """Notes the weight decay of the epochs."""

    def on_train_begin(self, net, **kwargs):
        self.groups, self.found = [], []

    def on_epoch_begin(self, net, **kwargs):
        self.groups.append([group["weight_decay"] for group in net.optimizer_.param_groups])
        self.found.append(max(self.groups[-1]))


@pytest.mark.parametrize(
    ("decay", "loss"), [("auto", "logprod"), ("auto", "weighted"), (0.7, "logprod")]
)
def test_decay_eases_by_itself_only(decay, loss):
    """Of clean data, whatever the rule, and to what it was in the end; a number stays."""
    note, X = Decays(), np.random.default_rng(0).normal(size=(200, 2))
    y = np.column_stack([np.sin(X[:, 0]), X.sum(axis=1)])
    params = {"trunk": DenseTrunk((32,), 3), "weight_decay": decay, "loss": loss}
    estimator = make([note], **params, **AUTO).fit(X, y)
    first = 1.0 if decay == "auto" else decay
    assert note.found[0] == first
    assert note.found == sorted(note.found, reverse=True)
    steps = np.log(first / np.unique(note.found)) / np.log(4)
    np.testing.assert_allclose(steps, np.arange(len(steps))[::-1], atol=1e-12)
    assert (len(steps) > 1) == (decay == "auto")
    groups = estimator.net_.optimizer_.param_groups
    assert max(group["weight_decay"] for group in groups) == first


@pytest.mark.parametrize(
    ("options", "eased"),
    [
        ({"optimizer__weight_decay": 0.7}, [False, False]),
        ({"optimizer__param_groups": [("heads*", {"weight_decay": 0.3})]}, [False, True, False]),
    ],
    ids=["of all", "of a group"],
)
def test_decay_of_net_params_is_what_it_says(options, eased):
    note, X = Decays(), np.random.default_rng(0).normal(size=(200, 2))
    params = {"trunk": DenseTrunk((32,), 3), "net_params": {"callbacks": [note]} | options}
    make(**params, **AUTO).fit(X, np.column_stack([np.sin(X[:, 0]), X.sum(axis=1)]))
    assert (np.ptp(note.groups, axis=0) > 0).tolist() == eased


def test_noise_is_no_reason_to_ease_decay():
    note, rng = Decays(), np.random.default_rng(0)
    make([note], **AUTO).fit(rng.normal(size=(200, 2)), rng.normal(size=200))
    assert set(note.found) == {1.0}


IMAGES = np.random.default_rng(0).normal(size=(60, 1, 8, 8)).astype(np.float32)


@pytest.mark.parametrize(
    ("trunk", "inputs"),
    [
        (ConvTrunk(width=4, n_features=8), IMAGES),
        (nn.Sequential(nn.Linear(3, 6), nn.BatchNorm1d(6), nn.ReLU()), X),
        (DenseTrunk((8,)), X),
        (DenseTrunk(()), X),
    ],
    ids=["conv", "own", "dense", "linear"],
)
def test_early_stopping_keeps_averages_with_any_trunk(trunk, inputs):
    """With buffers, as of batch norm; the losses in the history are those of the averages."""
    note = Averages()
    settings = {"early_stopping": True, "n_iter_no_change": 4, "learning_rate": 0.02}
    estimator = make([note], trunk=trunk, max_epochs=40, **settings)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it is no interruption
        estimator.fit(inputs, Y, X_val=inputs[:20], y_val=Y[:20])
    losses = estimator.net_.history[:, "valid_loss"]
    assert_has(estimator.module_, note.epochs[int(np.argmin(losses))])
    assert all(torch.isfinite(p).all() for p in estimator.module_.parameters())


def test_the_history_is_that_of_averages():
    """Here of a squared error, by the module with averaged weights of the last epoch."""
    kept = []

    class Note(Callback):
        def on_epoch_end(self, net, **kwargs):
            kept.append(copy.deepcopy(net.averaged_))

    number = X[:, 0]
    settings = {"early_stopping": True, "loss": "weighted", "precision": "float64"}
    estimator = make([Note()], trunk=nn.Linear(3, 4).double(), **settings)
    estimator.fit(X, number, X_val=X[:20], y_val=number[:20])
    z = torch.from_numpy((X[:20] - X.mean(axis=0)) / X.std(axis=0))
    for module, loss in zip(kept, estimator.history_["valid_loss"][:, 0], strict=True):
        raw = module(z)[:, 0].detach().numpy()
        codes = (number[:20] - number.mean()) / number.std()
        assert loss == pytest.approx(np.mean((raw - codes) ** 2), rel=1e-6)


def test_an_interruption_keeps_the_best_averages():
    def stop():
        raise KeyboardInterrupt

    note = Averages()
    with pytest.warns(ConvergenceWarning, match="interrupted the training in epoch 6"):
        estimator = make([note, Recorder("batch_end", 22, stop)], **AUTO).fit(X, Y)
    losses = estimator.net_.history[:, "oob_loss"]
    best = int(np.argmin(losses[: len(note.epochs)]))
    assert_has(estimator.module_, note.epochs[best])
    assert np.isfinite(estimator.predict(X)).all()
    assert len(estimator.history_["oob_loss"]) == estimator.n_iter_ == 6


def test_an_interruption_in_the_first_epoch_keeps_averages():
    def stop():
        raise KeyboardInterrupt

    with pytest.warns(ConvergenceWarning, match="interrupted the training in epoch 1"):
        estimator = make([Recorder("batch_end", 2, stop)], **AUTO).fit(X, Y)
    assert estimator.n_iter_ == 1
    assert np.isfinite(estimator.predict(X)).all()
    assert np.isfinite(estimator.noise_std_[~np.isnan(estimator.noise_std_)]).all()


def test_a_training_by_the_data_is_consistent():
    estimator = make(**AUTO).fit(X, Y)
    assert_consistent(estimator, estimator.n_iter_)
    assert set(estimator.history_) == {"train_loss", "oob_loss", "effective_weight"}
    np.testing.assert_array_equal(pickled(estimator).fit(X, Y).predict(X), estimator.predict(X))
