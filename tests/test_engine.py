import contextlib
import os
import pickle
import signal
import threading
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from _asserts import assert_random_states_untouched
from _inputs import EnsembleTrunk, lbfgs, make_table
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import brier_score_loss, log_loss
from sklearn.model_selection import GridSearchCV
from skorch.callbacks import Callback, EarlyStopping, LRScheduler
from torch import nn

from sklearn_mtl import MultiTaskCNNEstimator, Task, _net
from sklearn_mtl import _engine as engine
from sklearn_mtl import _recipe as recipes
from sklearn_mtl._batches import Batches
from sklearn_mtl._validation import Source
from sklearn_mtl.losses import LOSSES, LogProd, TaskLosses, Uncertainty
from sklearn_mtl.networks import ConvTrunk, DenseTrunk

X, Y = make_table(60)
N_TASKS = Y.shape[1]
LOW_RATE = 1e-12  # so that the weights stand still


def make(callbacks=(), **params):
    """A small estimator: four batches of 15 rows per epoch."""
    net_params = {"callbacks": list(callbacks)} if callbacks else None
    defaults = {
        "trunk": DenseTrunk((8,)),
        "max_epochs": 3,
        "batch_size": 15,
        "random_state": 0,
        "net_params": net_params,
    }
    return MultiTaskCNNEstimator(**(defaults | params))


def weights_of(estimator):
    return nn.utils.parameters_to_vector(estimator.module_.parameters()).detach()


def assert_consistent(estimator, n_iter):
    """A fitted estimator: finite predictions and a record of `n_iter` epochs."""
    assert estimator.n_iter_ == n_iter
    assert {rows.shape for rows in estimator.history_.values()} == {(n_iter, N_TASKS)}
    assert np.isfinite(estimator.history_["train_loss"]).all()
    assert np.isfinite(estimator.predict(X)).all()
    twin = pickle.loads(pickle.dumps(estimator))
    np.testing.assert_array_equal(twin.predict(X), estimator.predict(X))


def assert_consistent_history(history, n_iter):
    assert {rows.shape for rows in history.values()} == {(n_iter, N_TASKS)}
    assert all(np.isfinite(rows).all() for rows in history.values())


# -- batches -------------------------------------------------------------------------------------


def source_of(values):
    """Samples that are not standardised."""
    return Source(lambda rows: values[rows], (1,), np.zeros(1), np.ones(1))


def make_batches(n_rows=23, batch_size=5, shuffle_seed=0):
    """Rows 0, 2, 4, ... of an X that says the number of its row; y is ten times that."""
    values = np.arange(2.0 * n_rows)[:, None]
    recipe = recipes.Recipe(1, batch_size, 1e-3, "SGD", 0.0, "cpu", "float64", 0, {})
    rows = np.arange(0, 2 * n_rows, 2)
    weight = np.ones_like(values)
    return Batches(source_of(values), 10 * values, weight, rows, recipe, shuffle_seed)


@pytest.mark.parametrize("shuffle_seed", [None, 0])
@pytest.mark.parametrize("n_rows", [1, 5, 6, 23, 64])
@pytest.mark.parametrize("batch_size", [1, 5, 100])
def test_batches_hold_every_row_once(n_rows, batch_size, shuffle_seed):
    """In sizes that differ by at most one, read forwards, and each with its target."""
    batches = make_batches(n_rows, batch_size, shuffle_seed)
    for _ in range(2):
        parts = [(x[:, 0], target[:, 0]) for x, (target, *_) in batches]
        sizes = [len(x) for x, _ in parts]
        assert len(parts) == len(batches)
        assert max(sizes) <= min(batch_size, min(sizes) + 1)
        assert all((x.diff() > 0).all() and torch.equal(target, 10 * x) for x, target in parts)
        assert sorted(torch.cat([x for x, _ in parts]).tolist()) == list(range(0, 2 * n_rows, 2))


def test_batches_are_shuffled_reproducibly():
    """Anew in every pass, alike for one seed; without a seed in order."""

    def passes(seed):
        batches = make_batches(shuffle_seed=seed)
        return [[x[:, 0].tolist() for x, _ in batches] for _ in range(2)]

    assert passes(1) == passes(1)
    assert passes(1) != passes(2)
    assert passes(1)[0] != passes(1)[1]
    assert [row for part in passes(None)[1] for row in part] == list(range(0, 46, 2))


@pytest.mark.parametrize("holes", [False, True])
def test_batches_know_their_shares(holes):
    """Each target's share of its task's weight in the batch; no mask where nothing is missing."""
    rng = np.random.default_rng(0)
    values, weight = rng.normal(size=(23, 2)), rng.uniform(1, 2, size=(23, 2))
    weight[:7, 0] = weight[:7, 0] * (not holes)
    recipe = recipes.Recipe(1, 5, 1e-3, "SGD", 0.0, "cpu", "float64", 0, {})
    batches = Batches(source_of(values), values, weight, np.arange(23), recipe)
    start = 0
    for x, (target, observed, share, counts) in batches:
        part = slice(start, start := start + len(x))
        w = weight[part] / weight.max(axis=0)
        assert torch.equal(target, x)
        np.testing.assert_allclose(counts, w.sum(axis=0))
        np.testing.assert_allclose(share * counts, w)
        assert observed is None if not holes else (observed.numpy() == (w > 0)).all()
    assert start == 23


# -- the record ----------------------------------------------------------------------------------


@pytest.mark.parametrize("per_task", [False, True])
@pytest.mark.parametrize("loss", LOSSES)
def test_losses_of_an_epoch_are_one_pass_over_all_observed_targets(loss, per_task):
    """Not a mean of batch means, however unevenly holes and weights fall into batches."""
    rng = np.random.default_rng(0)
    weight = rng.choice([0.2, 1.0, 5.0], size=Y.shape if per_task else len(Y))
    X_val, y_val = make_table(20, seed=1)
    still = {"learning_rate": LOW_RATE, "weight_decay": 0, "precision": "float64"}
    trunk = DenseTrunk((8,), n_members=1)  # of several, their losses are averaged, not predictions
    estimator = make(loss=loss, trunk=trunk, batch_size=7, **still)
    estimator.fit(X, Y, weight, X_val=X_val, y_val=y_val)
    weight = np.broadcast_to(weight.reshape(len(Y), -1), Y.shape)
    scale = [
        np.sqrt(np.cov(column[seen], aweights=w[seen], ddof=0))
        for column, w, seen in zip(Y.T, weight.T, ~np.isnan(Y.T), strict=True)
    ]

    def one_pass(X, y, weight):
        predicted, proba = estimator.predict(X), estimator.predict_proba(X)
        args = y[:, 0], proba, weight[:, 0]
        if loss == "masked_mse":
            losses = [brier_score_loss(*args[:2], sample_weight=args[2], scale_by_half=False)]
        else:
            losses = [log_loss(*args[:2], sample_weight=args[2])]
        for k in (1, 2):
            seen = ~np.isnan(y[:, k])
            error = (y[seen, k] - predicted[seen, k]) / scale[k]
            losses.append(np.average(error**2, weights=weight[seen, k]))
        return losses

    losses = one_pass(X, Y, weight), one_pass(X_val, y_val, np.ones_like(y_val))
    for name, expected in zip(("train_loss", "valid_loss"), losses, strict=True):
        np.testing.assert_allclose(estimator.history_[name], np.tile(expected, (3, 1)), rtol=1e-6)


def test_a_task_without_validation_targets_has_no_validation_loss():
    X_val, y_val = make_table(20, seed=1)
    y_val[:, 1] = np.nan
    history = make().fit(X, Y, X_val=X_val, y_val=y_val).history_
    assert np.isnan(history["valid_loss"][:, 1]).all()
    assert np.isfinite(history["valid_loss"][:, [0, 2]]).all()


def test_validation_data_change_nothing_but_the_record():
    plain, validated = make().fit(X, Y), make().fit(X, Y, X_val=X[:9], y_val=Y[:9])
    assert torch.equal(weights_of(plain), weights_of(validated))
    assert set(plain.history_) == {"train_loss", "effective_weight"}
    assert set(validated.history_) == {"train_loss", "valid_loss", "effective_weight"}
    assert_consistent(plain, n_iter=3)
    assert_consistent(validated, n_iter=3)


def test_effective_weights_of_logprod_are_inverse_losses():
    estimator = make(learning_rate=LOW_RATE, max_epochs=25, task_weights=[1, 2, 3])
    history = estimator.fit(X, Y).history_
    losses = history["train_loss"] + estimator.net_.criterion_.combine.lowest.numpy()
    product = history["effective_weight"] * losses / [1, 2, 3]
    np.testing.assert_allclose(product[-5:].mean(axis=0), 1, rtol=0.15)


@pytest.mark.parametrize("loss", ["weighted", "masked_mse"])
def test_effective_weights_are_the_given_weights(loss):
    history = make(loss=loss, task_weights=[1, 2, 3]).fit(X, Y).history_
    np.testing.assert_allclose(history["effective_weight"], np.tile([1, 2, 3], (3, 1)), rtol=1e-6)


def test_combiners_are_told_what_to_expect():
    """Counts in a batch, and the constant predictor's losses, from which the floor is measured."""
    estimator = make(loss="weighted").fit(X, Y)
    factor = estimator.net_.criterion_.combine.factor
    np.testing.assert_allclose(1 / factor, estimator.n_observed_ / 4, rtol=1e-6)
    share = np.array([1 - Y[:, 0].mean(), Y[:, 0].mean()])
    constant = [-share @ np.log(share), 1, 1]
    combine = make(loss="logprod").fit(X, Y).net_.criterion_.combine
    lowest = combine.objective(torch.zeros(3), torch.ones(3)).item()
    assert lowest == pytest.approx(np.log(combine.floor * np.array(constant)).sum(), rel=1e-5)


@pytest.mark.parametrize("loss", ["logprod", "uncertainty"])
def test_combiners_are_told_what_measures_a_scale(loss):
    tasks = [Task("a", "classification"), Task("b", "quantile"), Task("c", "regression")]
    combine = make(loss=loss, tasks=tasks).fit(X, Y).net_.criterion_.combine
    assert combine.powers.tolist() == [1, 2, 1]


def test_constant_predictors_are_weighted():
    weight = np.where(Y[:, 0] == 1, 3.0, 1.0)
    estimator = make(loss="uncertainty", learning_rate=LOW_RATE).fit(X, Y[:, 0], weight)
    share = np.average(Y[:, 0], weights=weight)
    entropy = -share * np.log(share) - (1 - share) * np.log(1 - share)
    combine = estimator.net_.criterion_.combine
    assert combine.log_variance.item() == pytest.approx(np.log(entropy), rel=1e-4)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_constant_target_is_measured_by_itself(loss):
    combine = make(loss=loss).fit(X, np.full(60, 7.5)).net_.criterion_.combine
    assert all(torch.isfinite(value).all() for value in combine.state_dict().values())
    assert getattr(combine, "lowest", 0.1) == pytest.approx(0.1)


def test_asking_for_effective_weights_changes_nothing():
    criterion = _net.MultiTaskLoss(TaskLosses(["regression"], [1]), LogProd(floor=0))
    criterion.combine.start(torch.ones(1), torch.ones(1))
    weights = criterion.effective_weights(torch.tensor([5.0]), torch.ones(1))
    assert weights.tolist() == pytest.approx([1])
    assert criterion.combine.running.tolist() == [1]
    assert criterion.combine.training


def sum_of_roots(losses, counts):
    return losses.sqrt().sum()


def test_a_callable_loss_has_effective_weights():
    history = make(loss=sum_of_roots).fit(X, Y).history_
    np.testing.assert_allclose(history["effective_weight"], 0.5 * history["train_loss"] ** -0.5)


# -- losses that learn, and rules of losses alone ------------------------------------------------

RARE = Y.copy()
RARE[np.flatnonzero(Y[:, 0] == 1)[2:], 2] = np.nan  # two targets, in at most two of four batches
COMPLETE = np.column_stack([Y[:, 0], X @ [1.0, -2.0, 0.5], X[:, 0]])  # every task in every batch


@pytest.mark.parametrize("loss", ["uncertainty", Uncertainty()])
def test_variances_are_trained(loss):
    """From the constant predictor's losses, by a group of the optimizer without decay."""
    estimator = make(loss=loss, weight_decay=0.5, learning_rate=LOW_RATE).fit(X, Y)
    combine = estimator.net_.criterion_.combine
    share = Y[:, 0].mean()
    constant = [-share * np.log(share) - (1 - share) * np.log(1 - share), 1, 1]
    start = combine.log_variance.detach().numpy()
    np.testing.assert_allclose(start, np.log(constant), rtol=1e-5, atol=1e-6)
    groups = [
        group["weight_decay"]
        for group in estimator.net_.optimizer_.param_groups
        if any(p is combine.log_variance for p in group["params"])
    ]
    assert groups == [0]
    moved = make(loss=loss, learning_rate=0.02, max_epochs=30).fit(X, Y)
    variance = moved.net_.criterion_.combine.log_variance.detach().exp().numpy()
    assert_consistent(moved, n_iter=30)
    assert (variance < 0.9 * np.array(constant)).all()
    history = moved.history_
    np.testing.assert_allclose(history["effective_weight"][-1], 0.5 / variance, rtol=1e-5)


def test_variances_become_the_losses():
    exact = {"optimizer": lbfgs, "learning_rate": 1.0, "weight_decay": 0, "batch_size": 60}
    estimator = make(loss=Uncertainty(floor=0), trunk=DenseTrunk(()), max_epochs=10, **exact)
    estimator.fit(X, Y)
    variance = estimator.net_.criterion_.combine.log_variance.detach().exp()
    np.testing.assert_allclose(variance, estimator.history_["train_loss"][-1], rtol=1e-3)


def test_task_weights_of_uncertainty():
    plain, weighted = (
        make(loss="uncertainty", task_weights=w, learning_rate=LOW_RATE).fit(X, Y).history_
        for w in (None, [1, 2, 3])
    )
    ratio = weighted["effective_weight"] / plain["effective_weight"]
    np.testing.assert_allclose(ratio, np.tile([1, 2, 3], (3, 1)), rtol=1e-5)


@pytest.mark.parametrize("takes", ["losses", "losses, scale=1.0", "losses, counts=None", "*both"])
def test_a_rule_of_losses_alone_is_given_the_tasks_of_the_batch(takes):
    """One that takes counts is given all of them."""
    sizes = []

    def note(losses, counts=None):
        sizes.append(len(losses))
        assert counts is None or len(counts) == len(losses) == N_TASKS
        assert counts is not None or (losses > 0).all()
        return losses.sum()

    rule = {
        "losses": lambda losses: note(losses),
        "losses, scale=1.0": lambda losses, scale=1.0: note(scale * losses),
        "losses, counts=None": lambda losses, counts=None: note(losses, counts),
        "*both": lambda *both: note(*both),
    }[takes]
    history = make(loss=rule, max_epochs=2).fit(X, RARE).history_
    alone = takes.startswith("losses") and "counts" not in takes
    steps = sizes[1:5]  # after the trial
    assert steps.count(N_TASKS) in ((1, 2) if alone else (4,))
    assert set(sizes) == ({2, 3} if alone else {3})
    assert_consistent_history(history, n_iter=2)
    np.testing.assert_allclose(history["effective_weight"], 1)


def test_no_task_in_the_batch_is_no_loss():
    rule = engine.PresentTasks(lambda losses: losses.log().mean())
    losses = torch.zeros(3, requires_grad=True)
    value = rule(losses, torch.zeros(3))
    (gradient,) = torch.autograd.grad(value, losses)
    assert value == 0
    assert (gradient == 0).all()


def test_a_rule_is_trained_with_batches_of_nothing():
    y = Y.copy()
    y[15:] = np.nan  # most batches of one row have no target
    estimator = make(loss=lambda losses: losses.log().mean(), batch_size=1, max_epochs=1)
    assert_consistent_history(estimator.fit(X, y).history_, n_iter=1)


@pytest.mark.parametrize(
    ("rule", "alone"),
    [
        (lambda losses: 0, True),
        (lambda losses, scale=1.0: 0, True),
        (lambda losses, **kwargs: 0, True),
        (lambda losses, /: 0, True),
        (lambda losses, counts: 0, False),
        (lambda losses, counts=None: 0, False),
        (lambda *args: 0, False),
        (LogProd(), False),
        (nn.Identity(), True),
    ],
)
def test_rules_are_told_apart(rule, alone):
    found = engine._combiner(rule)
    assert isinstance(found, engine.PresentTasks) == alone
    assert (found.rule if alone else found) is rule


def test_a_trial_leaves_no_trace():
    for rule in (LogProd(), Uncertainty()):
        engine._check_combiner(rule, rule, N_TASKS, torch.float32)
        assert rule.training
        assert not rule.state_dict()


@pytest.mark.parametrize(("name", "args"), [("GeometricMean", ()), ("STCH", (0.5,))])
def test_scalarizers_of_torchjd(name, args):
    """A task that is absent is not theirs to see: its loss of 0 would be the product."""
    rule = getattr(pytest.importorskip("torchjd.scalarization"), name)(*args)
    steps = {"learning_rate": 0.03, "max_epochs": 25, "weight_decay": 0}
    estimator = make(loss=rule, **steps).fit(X, RARE)
    assert_consistent(estimator, n_iter=25)
    loss, weights = (estimator.history_[key] for key in ("train_loss", "effective_weight"))
    assert (loss[-1] < 0.8 * loss[0]).all()
    if name == "GeometricMean":
        np.testing.assert_allclose(weights * loss, np.tile((weights * loss)[:, :1], 3), rtol=1e-5)
        np.testing.assert_allclose((weights * loss).sum(axis=1) ** 3, loss.prod(axis=1), rtol=1e-5)
    else:
        np.testing.assert_allclose(weights.sum(axis=1), 1 / 3, rtol=1e-5)


@pytest.mark.parametrize("name", ["UW", "IMTLL"])
def test_scalarizers_of_torchjd_that_learn(name):
    rule = getattr(pytest.importorskip("torchjd.scalarization"), name)(N_TASKS)
    estimator = make(loss=rule, learning_rate=0.02, max_epochs=10).fit(X, COMPLETE)
    assert_consistent(estimator, n_iter=10)
    (before,), (learned,) = rule.parameters(), estimator.net_.criterion_.combine.parameters()
    assert (before == 0).all()  # a copy was trained
    assert (learned.abs() > 0.01).all()
    sign, factor = (-1, 0.5) if name == "UW" else (1, 1)
    weights = factor * (sign * learned).exp().detach()
    np.testing.assert_allclose(estimator.history_["effective_weight"][-1], weights, rtol=1e-5)


def test_a_loss_object_is_copied():
    loss = LogProd(decay=0.5)
    estimator = make(loss=loss).fit(X, Y)
    assert loss.running is None
    assert not torch.equal(weights_of(estimator), weights_of(make().fit(X, Y)))


# -- callbacks and schedules ---------------------------------------------------------------------


class Recorder(Callback):
    """Notes what happens, and acts once at a given event."""

    def __init__(self, event=None, count=1, act=None):
        self.event, self.count, self.act = event, count, act
        self.events, self.rates = [], []

    def _note(self, event, net):
        self.events.append(event)
        if event == self.event and self.events.count(event) == self.count:
            self.act()

    def on_train_begin(self, net, **kwargs):
        self._note("train_begin", net)

    def on_train_end(self, net, **kwargs):
        self._note("train_end", net)

    def on_epoch_begin(self, net, **kwargs):
        self._note("epoch_begin", net)

    def on_epoch_end(self, net, **kwargs):
        self._note("epoch_end", net)

    def on_batch_begin(self, net, training=True, **kwargs):
        self._note("batch_begin" if training else "valid_begin", net)

    def on_batch_end(self, net, training=True, **kwargs):
        self.rates.append(net.optimizer_.param_groups[0]["lr"])
        self._note("batch_end" if training else "valid_end", net)


def test_callbacks_of_the_user_fire():
    recorder = Recorder()
    make([recorder], max_epochs=2, batch_size=30).fit(X, Y, X_val=X[:9], y_val=Y[:9])
    batches = ["batch_begin", "batch_end"] * 2 + ["valid_begin", "valid_end"]
    epoch = ["epoch_begin", *batches, "epoch_end"]
    assert recorder.events == ["train_begin", *epoch, *epoch, "train_end"]


def test_all_parts_are_set_to_training():
    """A trunk that was evaluated before, and one that a callback evaluates in between."""

    class Noting(nn.Linear):
        def forward(self, x):
            modes.append(self.training)
            return super().forward(x)

    class Evaluating(Callback):
        def on_batch_end(self, net, **kwargs):
            net.module_.trunk.eval()

    for callbacks in ((), [Evaluating()]):
        modes = []
        make(callbacks, trunk=lambda: Noting(3, 5).eval()).fit(X, Y)
        assert modes.count(True) == 12


def test_rates_are_recorded():
    estimator = make(max_epochs=1).fit(X, Y)
    rates = estimator.net_.history[-1, "batches", :, "event_lr"]
    factor = _net.CosineSchedule(4).factor
    assert rates == pytest.approx([0.002 * factor(step) for step in range(4)])


def test_a_callback_may_come_and_go():
    """Who listens is looked up anew in every epoch."""

    class Adder(Callback):
        def on_epoch_end(self, net, **kwargs):
            if len(net.history) == 1:
                net.callbacks_.append(("late", recorder))

    recorder = Recorder()
    estimator = make([Adder()]).fit(X, Y)
    assert recorder.events.count("batch_end") == 8
    assert estimator.net_.heard is None


@pytest.mark.parametrize("verbose", [0, 1])
def test_epochs_are_printed_if_asked_for(verbose, capsys):
    make(verbose=verbose).fit(X, Y)
    assert ("train_loss" in capsys.readouterr().out) == bool(verbose)


@pytest.mark.parametrize("verbose", [0, 1])
def test_lines_may_go_elsewhere(verbose, capsys):
    """What the user says of them counts, also where none are printed."""
    lines = []
    net_params = {"callbacks__print_log__sink": lines.append}
    make(net_params=net_params, verbose=verbose).fit(X, Y)
    assert any("train_loss" in line for line in lines)
    assert capsys.readouterr().out == ""


def test_predictions_are_those_of_evaluation():
    """Also when a part of the module was set to training after the fit."""
    trunk = nn.Sequential(nn.Linear(3, 6), nn.Dropout(0.5))
    estimator = make(trunk=trunk).fit(X, Y)
    expected = estimator.predict(X)
    estimator.module_.trunk.train()
    np.testing.assert_array_equal(estimator.predict(X), expected)


@pytest.mark.parametrize(
    ("optimizer", "chosen", "fused"),
    [
        ("AdamW", {}, True),
        ("SGD", {}, True),
        ("AdamW", {"optimizer__foreach": True}, None),
        ("AdamW", {"optimizer__fused": False}, False),
        ("RMSprop", {}, None),
    ],
)
def test_optimizers_are_fused_where_they_can(optimizer, chosen, fused):
    estimator = make(optimizer=optimizer, net_params=chosen, max_epochs=1).fit(X, Y)
    assert all(group.get("fused") == fused for group in estimator.net_.optimizer_.param_groups)


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
    factors = [_net.CosineSchedule(n_steps).factor(step) for step in range(n_steps)]
    assert min(factors) > 0
    assert max(factors) == 1
    assert _net.CosineSchedule(n_steps).factor(n_steps) == pytest.approx(0 if n_steps > 1 else 1)


def test_a_schedule_of_the_user_replaces_ours():
    recorder = Recorder()
    steps = LRScheduler("StepLR", step_size=1, gamma=0.1)
    estimator = make([recorder, steps], learning_rate=0.01).fit(X, Y)
    np.testing.assert_allclose(recorder.rates, np.repeat([0.01, 0.001, 0.0001], 4))
    assert sum(isinstance(c, LRScheduler) for _, c in estimator.net_.callbacks_) == 1


@pytest.mark.parametrize("optimizer", ["SGD", "Adam", "RMSprop", torch.optim.NAdam])
def test_optimizers_go_by_name_or_class(optimizer):
    name = optimizer if isinstance(optimizer, str) else optimizer.__name__
    estimator = make(optimizer=optimizer).fit(X, Y)
    assert type(estimator.net_.optimizer_).__name__ == name
    assert_consistent(estimator, n_iter=3)


@pytest.mark.parametrize("optimizer", ["LBFGS", "Rprop"])
def test_optimizers_without_weight_decay(optimizer):
    assert_consistent(make(optimizer=optimizer, loss="weighted").fit(X, Y), n_iter=3)


# -- interruption --------------------------------------------------------------------------------


def stop():
    raise KeyboardInterrupt


def interrupt_process():
    os.kill(os.getpid(), signal.SIGINT)


def interrupt_process_twice():
    interrupt_process()
    interrupt_process()
    raise AssertionError("Ctrl-C came too late")


@pytest.fixture
def default_sigint():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    after = signal.signal(signal.SIGINT, before)
    assert after is signal.default_int_handler


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize(
    ("event", "count", "n_iter"),
    [
        ("batch_end", 1, 1),
        ("batch_end", 6, 2),
        ("batch_end", 8, 2),
        ("batch_begin", 6, 2),
        ("batch_begin", 5, 1),
        ("valid_end", 1, 1),
        ("valid_begin", 2, 2),
        ("epoch_begin", 2, 1),
        ("epoch_end", 2, 2),
    ],
)
def test_a_callback_can_interrupt(event, count, n_iter, early_stopping):
    recorder = Recorder(event, count, stop)
    estimator = make([recorder], max_epochs=5, early_stopping=early_stopping)
    with pytest.warns(ConvergenceWarning, match="interrupted in epoch"):
        estimator.fit(X, Y, X_val=X[:9], y_val=Y[:9])
    assert recorder.events[-2:] == [event, "train_end"]
    assert_consistent(estimator, n_iter)


@pytest.mark.parametrize("event", ["epoch_begin", "batch_begin"])
def test_an_interruption_before_the_first_batch_leaves_the_constant_predictor(event):
    estimator = make([Recorder(event, 1, stop)], max_epochs=5)
    with pytest.warns(ConvergenceWarning, match="interrupted"):
        estimator.fit(X, Y)
    assert estimator.n_iter_ == 0
    assert estimator.predict(X).shape == Y.shape


@pytest.mark.usefixtures("default_sigint")
@pytest.mark.parametrize("batch_size", [15, 60])
@pytest.mark.parametrize(
    ("event", "count"), [("batch_end", 1), ("batch_end", 4), ("valid_end", 2), ("epoch_end", 2)]
)
def test_ctrl_c_stops_after_the_batch(event, count, batch_size):
    """It keeps the weights so far, warns, and leaves Ctrl-C as it was."""
    recorder = Recorder(event, count, interrupt_process)
    estimator = make([recorder], max_epochs=9, batch_size=batch_size)
    with pytest.warns(ConvergenceWarning, match="interrupted in epoch"):
        estimator.fit(X, Y, X_val=X[:9], y_val=Y[:9])
    in_epoch = 60 // batch_size
    n_batches = count if event == "batch_end" else count * in_epoch
    assert recorder.events.count("batch_end") == n_batches
    assert_consistent(estimator, n_iter=-(-n_batches // in_epoch))


@pytest.mark.usefixtures("default_sigint")
def test_a_second_ctrl_c_does_not_wait():
    estimator = make([Recorder("batch_begin", 2, interrupt_process_twice)])
    with pytest.warns(ConvergenceWarning, match="interrupted in epoch"):
        estimator.fit(X, Y)
    assert_consistent(estimator, n_iter=1)


@pytest.mark.usefixtures("default_sigint")
@pytest.mark.parametrize("learning_rate", [1e-3, 1e30])
def test_ctrl_c_is_as_it_was_after_a_fit(learning_rate):
    """Whether it succeeds or not."""
    with contextlib.suppress(ValueError):
        make(optimizer="SGD", learning_rate=learning_rate).fit(X, Y)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_handler_of_the_user_stays():
    calls = []
    handler = lambda signum, frame: calls.append(signum)  # noqa: E731
    before = signal.signal(signal.SIGINT, handler)
    try:
        estimator = make([Recorder("batch_end", 2, interrupt_process)]).fit(X, Y)
        assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert calls == [signal.SIGINT]
    assert_consistent(estimator, n_iter=3)


def test_training_in_a_thread():
    estimator = make()
    thread = threading.Thread(target=estimator.fit, args=(X, Y))
    thread.start()
    thread.join()
    assert torch.equal(weights_of(estimator), weights_of(make().fit(X, Y)))


# -- failures ------------------------------------------------------------------------------------


def test_non_finite_weights_are_refused():
    """And the estimator is left as it was."""
    estimator = make().fit(X, Y)
    before = estimator.predict(X)
    estimator.set_params(optimizer="SGD", learning_rate=1e30)
    with pytest.raises(ValueError, match=r"non-finite weights. Lower learning_rate"):
        estimator.fit(X, Y)
    np.testing.assert_array_equal(estimator.predict(X), before)


def test_an_error_in_a_callback_is_not_swallowed():
    def fail():
        raise RuntimeError("mine")

    estimator = make([Recorder("batch_end", 2, fail)])
    with pytest.raises(RuntimeError, match="mine"):
        estimator.fit(X, Y)
    assert not hasattr(estimator, "net_")


# -- randomness ----------------------------------------------------------------------------------


def dropout_trunk():
    return nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5))


def shifting_trunk():
    """Rows of 3 as sequences, which move by one step."""
    return nn.Sequential(nn.Unflatten(1, (1, 3)), ConvTrunk(2, 3, max_shift=0.5).build((1, 3)))


TRUNKS = pytest.mark.parametrize(
    "trunk", [DenseTrunk((8,)), dropout_trunk, shifting_trunk], ids=["dense", "dropout", "shift"]
)


@TRUNKS
def test_global_random_states_are_left_as_found(trunk):
    with assert_random_states_untouched():
        estimator = make(trunk=trunk, early_stopping=True).fit(X, Y)
        estimator.predict(X)


@TRUNKS
def test_dropout_and_shifts_are_off_in_predictions(trunk):
    estimator = make(trunk=trunk).fit(X, Y)
    estimator.module_.train()
    np.testing.assert_array_equal(estimator.predict(X), estimator.predict(X))


@TRUNKS
def test_one_seed_gives_the_same_bits(trunk):
    def fit(seed):
        return weights_of(make(trunk=trunk, random_state=seed, early_stopping=True).fit(X, Y))

    torch.manual_seed(1)
    expected = fit(0)
    torch.manual_seed(2)
    assert torch.equal(fit(0), expected)
    assert not torch.equal(fit(1), expected)
    assert torch.equal(fit(np.random.RandomState(3)), fit(np.random.RandomState(3)))
    assert not torch.equal(fit(None), fit(None))


def test_the_seed_drives_the_order_of_the_batches():
    """Also where the weights are given."""
    trunk = dropout_trunk()[:1]
    one, other = (make(trunk=trunk, random_state=seed).fit(X, Y) for seed in (0, 1))
    assert not torch.equal(one.module_.trunk[0].weight, other.module_.trunk[0].weight)


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


# -- the automatic recipe ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("images", "n_rows", "n_epochs", "size", "decay"),
    [
        (False, 1, 30, 64, 3.0),
        (False, 711, 30, 64, 3.0),
        (False, 1600, 20, 64, 3.0),
        (False, 4000, 13, 128, 3.0),
        (False, 4445, 12, 128, 3.0),
        (False, 200_000, 12, 512, 3.0),
        (True, 1, 60, 64, 3.0),
        (True, 1111, 60, 64, 3.0),
        (True, 2500, 45, 64, 2.0),
        (True, 5625, 30, 64, 4 / 3),
        (True, 10_000, 30, 128, 1.0),
        (True, 200_000, 30, 256, 5**-0.5 / 2),
    ],
)
def test_automatic_recipe(images, n_rows, n_epochs, size, decay):
    """Weight decay is for AdamW only."""
    epochs, batch = recipes.auto_max_epochs(n_rows, images), recipes.auto_batch_size(n_rows, images)
    assert type(epochs) is type(batch) is int
    assert (epochs, batch) == (n_epochs, size)
    for optimizer in ("AdamW", torch.optim.AdamW):
        assert recipes.auto_weight_decay(optimizer, n_rows, images) == pytest.approx(decay)
    assert recipes.auto_weight_decay("Adam", n_rows, images) == 0


@pytest.mark.parametrize(("images", "least", "most"), [(False, 12, 30), (True, 30, 60)])
def test_automatic_epochs_fall_with_the_rows(images, least, most):
    epochs = [recipes.auto_max_epochs(n, images) for n in range(1, 10_000)]
    assert (np.diff(epochs) <= 0).all()
    assert set(epochs) == set(range(least, most + 1))


@pytest.mark.parametrize(
    ("shape", "epochs", "batch", "decay"), [((3,), 12, 256, 3.0), ((1, 3), 30, 128, 1.0)]
)
def test_rows_and_images_have_their_recipes(shape, epochs, batch, decay):
    """A sequence of one channel is no row."""
    estimator = MultiTaskCNNEstimator()
    reader = SimpleNamespace(input_shape_=shape)
    recipe = estimator._recipe(reader, n_rows=10_000)
    assert (recipe.max_epochs, recipe.batch_size, recipe.weight_decay) == (epochs, batch, decay)


def test_automatic_epochs_are_those_of_the_training_rows():
    """With the schedule, which ends with them, and without the rows that are held out."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(2500, 2)), rng.normal(size=2500)
    assert MultiTaskCNNEstimator().max_epochs == "auto"
    recorder = Recorder()
    rows = make([recorder], max_epochs="auto", batch_size=500).fit(X, y)
    assert rows.n_iter_ == 16  # 800 / sqrt(2500)
    assert recorder.rates[-1] < 0.01 * max(recorder.rates)
    held_out = {"early_stopping": True, "validation_fraction": 0.25, "n_iter_no_change": 1000}
    part = make(max_epochs="auto", batch_size=2500, **held_out).fit(X, y)
    assert part.n_iter_ == recipes.auto_max_epochs(1875, images=False) == 18


def test_a_default_fit_on_few_rows_has_thirty_epochs():
    estimator = MultiTaskCNNEstimator(random_state=0).fit(X[:20], Y[:20])
    assert estimator.n_iter_ == 30
    assert estimator.max_epochs == "auto"  # a parameter stays as it was passed


# -- precision and prediction --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("float32", torch.float32), ("float64", torch.float64), ("bfloat16", torch.float32)],
)
def test_precision(precision, dtype):
    """Weights in `dtype`; predictions in float64 that agree but for rounding."""
    estimator = make(precision=precision, max_epochs=20).fit(X, Y)
    expected = make(precision="float64", max_epochs=20).fit(X, Y).predict_proba(X)
    assert {p.dtype for p in estimator.module_.parameters()} == {dtype}
    proba = estimator.predict_proba(X)
    assert proba.dtype == estimator.predict(X).dtype == np.float64
    np.testing.assert_allclose(proba, expected, atol=0.1 if precision == "bfloat16" else 1e-4)
    assert_consistent(estimator, n_iter=20)


def test_automatic_precision_is_float64_for_dense_full_batches():
    assert (
        make(precision="auto", batch_size=60).fit(X, Y).module_.heads.weight.dtype == torch.float64
    )
    assert (
        make(precision="auto", batch_size=59).fit(X, Y).module_.heads.weight.dtype == torch.float32
    )


@pytest.mark.parametrize(
    ("limit", "value", "n_features", "largest"),
    [
        ("CHUNK_VALUES", 1, 8, 1),
        ("CHUNK_VALUES", 8 * 3 - 1, 8, 2),
        ("CHUNK_VALUES", 8 * 60, 8, 60),
        ("CHUNK_VALUES", 3 * 3 - 1, 2, 2),
        ("CHUNK_ROWS", 1, 8, 1),
        ("CHUNK_ROWS", 7, 8, 7),
        ("CHUNK_ROWS", 60, 8, 60),
    ],
)
def test_predictions_do_not_depend_on_the_chunks(limit, value, n_features, largest, monkeypatch):
    """Of at most so many features, or input values, three per row, and so many rows."""
    estimator = make(trunk=DenseTrunk((n_features,)), precision="float64").fit(X, Y)
    expected, embedded = estimator.predict(X), estimator.embed(X)
    monkeypatch.setattr(engine, limit, value)
    sizes = []
    handle = estimator.module_.trunk.register_forward_pre_hook(
        lambda module, args: sizes.append(len(args[0]))
    )
    np.testing.assert_allclose(estimator.predict(X), expected, rtol=1e-12)
    handle.remove()
    assert (max(sizes), sum(sizes)) == (largest, 60)
    np.testing.assert_allclose(estimator.embed(X), embedded, rtol=1e-12)


class HalfTrunk(nn.Linear):
    def forward(self, x):
        with torch.autocast("cpu", torch.bfloat16):
            return super().forward(x)


def test_features_of_half_precision_are_embedded():
    estimator = make(trunk=HalfTrunk(3, 4), precision="bfloat16").fit(X, Y)
    assert estimator.embed(X).dtype == estimator.predict(X).dtype == np.float64


# -- heads with hidden units ---------------------------------------------------------------------


@pytest.mark.parametrize("trunk", [DenseTrunk((8,)), EnsembleTrunk(3)], ids=["dense", "ensemble"])
@pytest.mark.parametrize("loss", LOSSES)
def test_heads_with_hidden_units(loss, trunk):
    estimator = make(loss=loss, trunk=trunk, head_hidden_units=4, early_stopping=True).fit(X, Y)
    assert_consistent(estimator, n_iter=3)
    assert estimator.module_.heads.hidden.out_features == N_TASKS * 4


def test_heads_with_hidden_units_start_from_the_best_constants():
    hidden, linear = (
        make(learning_rate=LOW_RATE, head_hidden_units=n).fit(X, Y).module_.heads.bias.detach()
        for n in (4, 0)
    )
    assert abs(hidden[0] - hidden[1]) > 0.01
    np.testing.assert_allclose(hidden, linear, atol=1e-6)


def test_heads_have_linear_ones_as_their_default():
    linear = make().fit(X, Y)
    np.testing.assert_array_equal(make(head_hidden_units=0).fit(X, Y).predict(X), linear.predict(X))
    assert type(linear.module_.heads) is nn.Linear


def test_a_hole_leaves_the_hidden_units_of_its_head_alone():
    """In a batch without a target of the task, their gradient is exactly zero."""
    moved = []

    class Note(Callback):
        def on_grad_computed(self, net, named_parameters, **kwargs):
            heads = net.module_.heads
            hidden = heads.hidden.weight.grad.unflatten(0, (N_TASKS, 4)).flatten(1)
            moved.append([*hidden.any(dim=1).tolist(), bool(heads.weight.grad[2].any())])

    rare = np.where(np.arange(len(Y))[:, None] < [60, 2, 60], Y, np.nan)  # of the second task
    rare[:2, 1] = [1.0, 2.0]
    make(callbacks=[Note()], head_hidden_units=4, max_epochs=5).fit(X, rare)
    first, second, _, second_outputs = np.transpose(moved)
    assert first.all()
    assert 5 <= second.sum() <= 10  # in one batch or two of the four
    np.testing.assert_array_equal(second, second_outputs)


def test_decay_of_heads_with_hidden_units():
    net = make(head_hidden_units=4, weight_decay=0.5).fit(X, Y).net_
    names = {id(p): name for name, p in net.module_.named_parameters()}
    decayed, spared = net.optimizer_.param_groups
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.5, 0)
    shared = {"trunk.1.mixture", "trunk.2.shared.weight"}
    matrices = shared | {"heads.weight", "heads.hidden.weight"}
    assert {names[id(p)] for p in decayed["params"]} == matrices
    assert len(decayed["params"]) + len(spared["params"]) == len(names)


@pytest.mark.parametrize(
    ("trunk", "matrices"),
    [
        (DenseTrunk(), {"1.mixture", "2.shared.weight", "4.shared.weight"}),
        (DenseTrunk((8, 8), n_members=1), {"1.mixture", "2.weight", "4.weight"}),
        (DenseTrunk((8, 8), n_frequencies=0), {"1.shared.weight", "3.shared.weight"}),
        (DenseTrunk(()), set()),
    ],
    ids=["default", "one member", "no waves", "linear"],
)
def test_decay_of_dense_trunks(trunk, matrices):
    """Matrices that members share, and mixtures; what each member has of its own is spared."""
    net = make(trunk=trunk, weight_decay=0.5, max_epochs=1).fit(X, Y).net_
    names = {id(p): name for name, p in net.module_.named_parameters()}
    decayed, spared = net.optimizer_.param_groups
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.5, 0)
    decayed, spared = ({names[id(p)] for p in g["params"]} for g in (decayed, spared))
    assert decayed == {f"trunk.{name}" for name in matrices} | {"heads.weight"}
    assert spared == set(names.values()) - decayed
    assert not [name for name in spared if name.endswith("weight")]


def test_hidden_units_of_heads_are_searched():
    grid = {"head_hidden_units": [0, 3]}
    search = GridSearchCV(make(), grid, cv=2, error_score="raise").fit(X, Y)
    assert search.best_estimator_.head_hidden_units == search.best_params_["head_hidden_units"]


@pytest.mark.parametrize("head_hidden_units", [-1, 2.5, None, (3,)])
def test_hidden_units_that_do_not_exist(head_hidden_units):
    with pytest.raises(ValueError, match="'head_hidden_units' parameter of MultiTaskCNNEstimator"):
        make(head_hidden_units=head_hidden_units).fit(X, Y)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("loss", LOSSES)
def test_cuda_agrees_with_the_cpu(loss):
    there, here = (
        make(loss=loss, device=device, precision="float64", early_stopping=True).fit(X, Y)
        for device in ("cuda", "cpu")
    )
    assert there.module_.heads.weight.is_cuda
    np.testing.assert_allclose(there.predict_proba(X), here.predict_proba(X), rtol=1e-6)
    for name, rows in here.history_.items():
        np.testing.assert_allclose(there.history_[name], rows, rtol=1e-6)


class Seen:
    """A rule that is no module, and remembers."""

    def __init__(self):
        self.dtypes = []

    def __call__(self, losses, counts):
        self.dtypes.append(losses.dtype)
        return losses @ torch.ones(len(losses), dtype=losses.dtype)


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_rules_see_losses_in_one_precision_and_no_others_than_those_of_batches(precision):
    rule = Seen()
    estimator = make(loss=rule, precision=precision, batch_size=20, max_epochs=2).fit(X, Y)
    assert rule.dtypes == []
    found = estimator.net_.criterion_.combine.dtypes
    assert found == [getattr(torch, precision)] * 2 * -(-len(X) // 20)


@pytest.mark.parametrize("early_stopping", [False, True])
def test_rules_may_hold_numbers_of_their_own(early_stopping):
    weights = torch.tensor([1.0, 2.0, 3.0])
    settings = {"precision": "float32", "max_epochs": 2, "early_stopping": early_stopping}
    history = make(loss=lambda losses, counts: losses @ weights, **settings).fit(X, Y).history_
    np.testing.assert_allclose(history["effective_weight"], [[1, 2, 3]] * 2)


def test_a_rule_in_another_precision_is_named():
    with pytest.raises(ValueError, match=r"loss=.* fails for 3 tasks"):
        make(loss=lambda losses, counts: losses @ torch.ones(3), precision="float64").fit(X, Y)
