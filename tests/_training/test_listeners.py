"""Callbacks of skorch: our schedule, early stopping, and those of the user."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from _fits import LOW_RATE, N_TASKS, Recorder, X, Y, assert_consistent, make
from skorch.callbacks import (
    BatchScoring,
    Callback,
    Checkpoint,
    EarlyStopping,
    EpochScoring,
    Freezer,
    Initializer,
    InputShapeSetter,
    LRScheduler,
    Unfreezer,
)
from skorch.utils import noop
from torch import nn

from sklearn_mtl import MultiTaskCNNEstimator, Task
from sklearn_mtl._training.listeners import CosineSchedule
from sklearn_mtl.losses import LOSSES
from sklearn_mtl.networks import DenseTrunk

# -- callbacks of the user -----------------------------------------------------------------------


def test_callbacks_of_the_user_fire():
    recorder = Recorder()
    make([recorder], max_epochs=2, batch_size=30).fit(X, Y, X_val=X[:9], y_val=Y[:9])
    batches = ["batch_begin", "batch_end"] * 2 + ["valid_begin", "valid_end"]
    epoch = ["epoch_begin", *batches, "epoch_end"]
    assert recorder.events == ["train_begin", *epoch, *epoch, "train_end"]


@pytest.mark.parametrize("caching", [False, True])
@pytest.mark.parametrize("kind", [EpochScoring, BatchScoring])
def test_scores_of_skorch_are_refused(kind, caching):
    estimator = make([("mine", kind("r2", use_caching=caching))])
    with pytest.raises(ValueError, match=r"callback mine, a \w+Scoring of skorch.*ScoringMonitor"):
        estimator.fit(X, Y)


# -- schedules -----------------------------------------------------------------------------------


def test_rates_are_recorded():
    estimator = make(max_epochs=1).fit(X, Y)
    rates = estimator.net_.history[-1, "batches", :, "event_lr"]
    factor = CosineSchedule(4).factor
    assert rates == pytest.approx([0.002 * factor(step) for step in range(4)])


def test_the_rate_warms_up_and_falls_to_zero():
    recorder = Recorder()
    make([recorder], max_epochs=20, learning_rate=0.01).fit(X, Y)
    rates = np.array(recorder.rates)
    assert len(rates) == 80
    np.testing.assert_allclose(rates[:4], [0.0025, 0.005, 0.0075, 0.01])
    assert (np.diff(rates[4:]) < 0).all()
    assert rates[-1] < 1e-4


@pytest.mark.parametrize("n_steps", [1, 2, 3, 19, 20, 21, 1000])
def test_every_step_of_the_schedule_learns(n_steps):
    factors = [CosineSchedule(n_steps).factor(step) for step in range(n_steps)]
    assert min(factors) > 0
    assert max(factors) == 1
    assert CosineSchedule(n_steps).factor(n_steps) == pytest.approx(0 if n_steps > 1 else 1)


def test_a_schedule_of_the_user_replaces_ours():
    recorder = Recorder()
    steps = LRScheduler("StepLR", step_size=1, gamma=0.1)
    estimator = make([recorder, steps], learning_rate=0.01).fit(X, Y)
    np.testing.assert_allclose(recorder.rates, np.repeat([0.01, 0.001, 0.0001], 4))
    assert sum(isinstance(c, LRScheduler) for _, c in estimator.net_.callbacks_) == 1


# -- early stopping ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stopped():
    """Trained on noise, where the validation loss soon rises."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 5)), rng.normal(size=60)
    X_val, y_val = rng.normal(size=(40, 5)), rng.normal(size=40)
    estimator = make(  # one member: the loss is that of the predictions
        trunk=DenseTrunk((64,), n_members=1), max_epochs=100, learning_rate=0.01,
        early_stopping=True, n_iter_no_change=4, tol=0, precision="float64",
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        estimator.fit(X, y, X_val=X_val, y_val=y_val)
    return estimator, y.std(), X_val, y_val


def test_early_stopping_stops_after_n_iter_no_change_epochs(stopped):
    losses = stopped[0].history_["valid_loss"][:, 0]
    assert len(losses) == stopped[0].n_iter_ < 100
    assert losses.argmin() == len(losses) - 1 - 4


def test_early_stopping_restores_the_best_epoch(stopped):
    estimator, scale, X_val, y_val = stopped
    loss = np.mean(((y_val - estimator.predict(X_val)) / scale) ** 2)
    assert loss == pytest.approx(estimator.history_["valid_loss"].min(), rel=1e-6)


@pytest.mark.parametrize("loss", LOSSES)
def test_early_stopping_holds_rows_out(loss):
    estimator = make(early_stopping=True, loss=loss).fit(X, Y)
    assert estimator.history_["valid_loss"].shape == (3, N_TASKS)
    assert np.isfinite(estimator.history_["valid_loss"]).all()


def test_early_stopping_waits_while_the_loss_falls():
    estimator = make(early_stopping=True, n_iter_no_change=2, max_epochs=15).fit(X, X @ [1, 2, 3])
    assert estimator.n_iter_ == 15


def test_early_stopping_of_the_user_is_no_interruption():
    callback = EarlyStopping("train_loss", patience=2, threshold=10, threshold_mode="abs")
    assert_consistent(make([callback], max_epochs=9).fit(X, Y), n_iter=3)


# -- skorch's own callbacks, on the objective or on a task ---------------------------------------


class Weights(Callback):
    """Keeps the trunk's weights of every epoch; heads are rescaled after the training."""

    def __init__(self):
        self.epochs = []

    def on_epoch_end(self, net, **kwargs):
        self.epochs.append(self.of(net))

    @staticmethod
    def of(net):
        params = [p for name, p in net.module_.named_parameters() if name.startswith("trunk")]
        return nn.utils.parameters_to_vector(params).detach()


def fit_noise(*callbacks, **params):
    """One task of noise, whose validation loss soon rises, and one that is learned."""
    rng = np.random.default_rng(1)
    X, X_val = rng.normal(size=(60, 5)), rng.normal(size=(40, 5))
    y, y_val = rng.normal(size=(60, 2)), rng.normal(size=(40, 2))
    y[:, 1], y_val[:, 1] = X[:, 0], X_val[:, 0]
    tasks = [Task("noise", "regression"), Task("signal", "regression")]
    defaults = {"max_epochs": 30, "learning_rate": 0.01, "task_weights": [2, 1]}
    estimator = make(callbacks, tasks=tasks, trunk=DenseTrunk((64,)), **(defaults | params))
    return estimator.fit(X, y, X_val=X_val, y_val=y_val)


def assert_best(estimator, weights, monitor="valid_loss"):
    """The weights are those of the best epoch, which was neither the first nor the last."""
    losses = estimator.history_["valid_loss"]
    column = losses[:, 0] if monitor == "valid_loss/noise" else np.log(losses + 0.1) @ [2, 1]
    best = column.argmin()
    assert 0 < best < len(column) - 1
    assert torch.equal(Weights.of(estimator.net_), weights.epochs[best])
    assert not torch.equal(weights.epochs[best], weights.epochs[best + 1])


@pytest.mark.parametrize("monitor", ["valid_loss", "valid_loss/noise"])
def test_early_stopping_of_the_user_restores_the_best_epoch(monitor):
    weights = Weights()
    stopping = EarlyStopping(monitor, patience=3, threshold=0, load_best=True, sink=noop)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it is no interruption
        estimator = fit_noise(weights, stopping)
    assert_best(estimator, weights, monitor)
    found = estimator.net_.history[:, monitor]
    assert len(found) == np.argmin(found) + 1 + 3 < 30


def test_a_task_is_watched_for_itself():
    """The noise stops first; the signal is still learned when both together stop."""

    def n_epochs(monitor):
        stopping = EarlyStopping(monitor, patience=3, threshold=0, sink=noop)
        return fit_noise(stopping, task_weights=[1, 1]).n_iter_

    noise, both, signal = map(n_epochs, ["valid_loss/noise", "valid_loss", "valid_loss/signal"])
    assert noise < both < signal


@pytest.mark.parametrize(
    "monitor",
    ["valid_loss_best", "valid_loss/noise_best", lambda net: net.history[-1, "valid_loss_best"]],
    ids=["objective", "one task", "function"],
)
def test_checkpoints_of_the_best_epoch(monitor, tmp_path):
    weights = Weights()
    checkpoint = Checkpoint(monitor, dirname=tmp_path, load_best=True, f_history=None)
    estimator = fit_noise(weights, checkpoint)
    name = monitor.removesuffix("_best") if isinstance(monitor, str) else "valid_loss"
    assert_best(estimator, weights, name)
    assert estimator.n_iter_ == len(estimator.net_.history) == 30


@pytest.mark.parametrize("monitor", ["valid_loss", "valid_loss/noise", "train_loss"])
def test_a_plateau_is_one_of_the_objective(monitor):
    """The rates are those of torch's schedule that is told what the history says."""
    settings = {"patience": 1, "factor": 0.5, "threshold": 0.0}
    policy = LRScheduler("ReduceLROnPlateau", monitor=monitor, **settings)
    history = fit_noise(policy, max_epochs=20, learning_rate=0.03).net_.history
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.03)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, **settings)
    expected = []
    for loss in history[:, monitor]:
        expected.append(optimizer.param_groups[0]["lr"])
        schedule.step(loss)
    assert history[:, "event_lr"] == expected
    if monitor != "train_loss":
        assert expected[-1] < 0.03


# -- callbacks that look for parameters ----------------------------------------------------------


def is_of_trunk(name):
    return name.startswith("trunk")


@pytest.mark.parametrize("pattern", ["trunk.*", ["trunk.weight", "trunk.b*"], is_of_trunk])
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_a_freezer_keeps_what_it_names(method, pattern):
    trunk = nn.Linear(3, 8)
    estimator = make([Freezer(pattern)], trunk=trunk)
    module = getattr(estimator, method)(X, Y).module_
    assert torch.equal(module.trunk.weight, trunk.weight)
    assert torch.equal(module.trunk.bias, trunk.bias)
    assert [p.requires_grad for p in module.parameters()] == [False, False, True, True]
    plain = getattr(make(trunk=trunk), method)(X, Y).module_
    assert not torch.equal(plain.trunk.weight, trunk.weight)


def test_an_unfreezer_lets_go_later():
    """Here at the second of three epochs."""
    weights, trunk = Weights(), nn.Linear(3, 8)
    make([Freezer("trunk.*"), Unfreezer("trunk.*", at=2), weights], trunk=trunk).fit(X, Y)
    start = nn.utils.parameters_to_vector(trunk.parameters()).detach()
    still = [torch.equal(found[: len(start)], start) for found in weights.epochs]
    assert still == [True, False, False]


def test_an_initializer_finds_its_parameters():
    zero = Initializer("trunk.weight", fn=nn.init.zeros_)
    module = make([zero], trunk=nn.Linear(3, 8), learning_rate=LOW_RATE).fit(X, Y).module_
    assert module.trunk.weight.abs().max() < 1e-9
    assert module.heads.weight.abs().max() > 0


def test_what_the_loss_learns_can_be_frozen():
    frozen = make([Freezer("combine.*")], loss="uncertainty", learning_rate=0.05).fit(X, Y)
    still = make(loss="uncertainty", learning_rate=LOW_RATE).fit(X, Y)
    found, expected = (e.net_.criterion_.combine.log_variance for e in (frozen, still))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("kind", [Freezer, Unfreezer, Initializer])
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize(
    ("patterns", "named"),
    [
        ("trnk.*", r"'trnk\.\*'"),
        (["heads.*", "module.heads.*"], r"'module\.heads\.\*'"),
        (str.isupper, "isupper"),
    ],
    ids=["one", "several", "callable"],
)
def test_patterns_that_match_nothing(kind, method, patterns, named):
    arguments = {"fn": nn.init.zeros_} if kind is Initializer else {}
    estimator = make([("mine", kind(patterns, **arguments))], trunk=nn.Linear(3, 8))
    names = r"\['trunk\.weight', 'trunk\.bias', 'heads\.weight', 'heads\.bias'\]"
    message = f"callback mine, a {kind.__name__}, but no parameter matches .*{named}.*{names}"
    with pytest.raises(ValueError, match=message):
        getattr(estimator, method)(X, Y)
    assert not hasattr(estimator, "net_")


@pytest.mark.parametrize("callback", [EarlyStopping, Checkpoint])
@pytest.mark.parametrize(
    ("watched", "valid", "message"),
    [
        ("valid_loss/signa", True, r"watches 'valid_loss/signa(_best)?'.*'valid_loss/signal'"),
        ("valid_loss", False, "ask for X_val or early_stopping"),
        ("valid_loss/signal", False, "ask for X_val or early_stopping"),
        ("train_loss/", True, r"'train_loss/(_best)?'.*'train_loss/signal'"),
    ],
)
def test_a_loss_that_is_not_there_is_named_before_training(callback, watched, valid, message):
    """skorch would say so after the first epoch, in its own words."""
    X = np.random.default_rng(0).normal(size=(60, 3))
    y = pd.DataFrame({"signal": X[:, 0], "noise": X[:, 1]})
    monitor = watched if callback is EarlyStopping else f"{watched}_best"
    estimator = MultiTaskCNNEstimator(max_epochs=1, net_params={"callbacks": [callback(monitor)]})
    data = {"X_val": X, "y_val": y} if valid else {}
    with pytest.raises(ValueError, match=message):
        estimator.fit(X, y, **data)


def test_callbacks_have_to_be_listed():
    with pytest.raises(ValueError, match="Pass a list of callbacks"):
        MultiTaskCNNEstimator(net_params={"callbacks": EarlyStopping()}).fit(X, Y)
    MultiTaskCNNEstimator(max_epochs=1, net_params={"callbacks": "disable"}).fit(X, Y)


@pytest.mark.parametrize("loss", ["logprod", "uncertainty"])
def test_a_callback_that_freezes_all_is_named(loss):
    with pytest.raises(ValueError, match="All parameters of the network are frozen"):
        make([Freezer("[!c]*")], loss=loss).fit(X, Y)


def test_the_trunk_is_built_before_the_first_batch():
    with pytest.raises(ValueError, match="an InputShapeSetter"):
        make([InputShapeSetter()]).fit(X, Y)
