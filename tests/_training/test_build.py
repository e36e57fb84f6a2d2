"""What a net is built of: rules, optimizers, precision and heads."""

import numpy as np
import pytest
import torch
from _fits import (
    LOW_RATE,
    N_TASKS,
    X,
    Y,
    assert_consistent,
    assert_consistent_history,
    make,
    weights_of,
)
from _inputs import EnsembleTrunk, lbfgs
from sklearn.model_selection import GridSearchCV
from skorch.callbacks import Callback
from torch import nn

from sklearn_mtl import Task
from sklearn_mtl._training import build
from sklearn_mtl.losses import LOSSES, LogProd, Uncertainty
from sklearn_mtl.networks import DenseTrunk
from sklearn_mtl.networks.members import MemberHeads

# -- combiners are told what to expect -----------------------------------------------------------


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
    rule = build.PresentTasks(lambda losses: losses.log().mean())
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
    found = build._combiner(rule)
    assert isinstance(found, build.PresentTasks) == alone
    assert (found.rule if alone else found) is rule


def test_a_trial_leaves_no_trace():
    for rule in (LogProd(), Uncertainty()):
        build._check_combiner(rule, rule, N_TASKS, torch.float32)
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


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"net_params": {"zz": 1}}, "net_params do not go together.*zz"),
        ({"net_params": {"callbacks": np.ones(2)}}, "^net_params holds callbacks="),
        ({"net_params": {"optimizer__eps": "small"}}, "^optimizer=AdamW and net_params do not go"),
        ({"optimizer": torch.nn.ReLU()}, r"^optimizer=ReLU\(\) and net_params do not go together"),
        ({"trunk": DenseTrunk((10**30,))}, r"^trunk=DenseTrunk\(.* cannot be built for samples"),
        ({"trunk": DenseTrunk(n_frequencies=10**30)}, "^trunk=DenseTrunk.* cannot be built for"),
    ],
)
def test_errors_of_other_libraries_name_the_parameter(params, message):
    with pytest.raises(ValueError, match=message):
        make(**params).fit(X, Y)


# -- optimizers ----------------------------------------------------------------------------------


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


@pytest.mark.parametrize("optimizer", ["SGD", "Adam", "RMSprop", torch.optim.NAdam])
def test_optimizers_go_by_name_or_class(optimizer):
    name = optimizer if isinstance(optimizer, str) else optimizer.__name__
    estimator = make(optimizer=optimizer).fit(X, Y)
    assert type(estimator.net_.optimizer_).__name__ == name
    assert_consistent(estimator, n_iter=3)


@pytest.mark.parametrize("optimizer", ["LBFGS", "Rprop"])
def test_optimizers_without_weight_decay(optimizer):
    assert_consistent(make(optimizer=optimizer, loss="weighted").fit(X, Y), n_iter=3)


# -- precision and device ------------------------------------------------------------------------


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


# -- heads with hidden units ---------------------------------------------------------------------


@pytest.mark.parametrize("trunk", [DenseTrunk((8,)), EnsembleTrunk(3)], ids=["dense", "ensemble"])
@pytest.mark.parametrize("loss", LOSSES)
def test_heads_with_hidden_units(loss, trunk):
    estimator = make(loss=loss, trunk=trunk, head_hidden_units=4, early_stopping=True).fit(X, Y)
    assert_consistent(estimator, n_iter=3)
    assert estimator.module_.heads.hidden.bias.shape[-1] == N_TASKS * 4


def test_heads_with_hidden_units_start_from_the_best_constants():
    class Note(Callback):
        def on_epoch_end(self, net, **kwargs):
            self.bias = net.module_.heads.bias.detach().clone()  # before outputs are rescaled

    notes = Note(), Note()
    for note, n in zip(notes, (4, 0), strict=True):
        make([note], learning_rate=LOW_RATE, head_hidden_units=n).fit(X, Y)
    hidden, linear = notes[0].bias, notes[1].bias[0]  # the same of each member
    assert abs(hidden[0] - hidden[1]) > 0.01
    np.testing.assert_allclose(hidden, linear, atol=1e-6)


def test_heads_have_linear_ones_as_their_default():
    linear = make().fit(X, Y)
    np.testing.assert_array_equal(make(head_hidden_units=0).fit(X, Y).predict(X), linear.predict(X))
    assert type(linear.module_.heads) is MemberHeads
    assert isinstance(make(trunk=nn.Linear(3, 4)).fit(X, Y).module_.heads, nn.Linear)


def test_a_hole_leaves_the_hidden_units_of_its_head_alone():
    """In a batch without a target of the task, their gradient is exactly zero."""
    moved = []

    class Note(Callback):
        def on_grad_computed(self, net, named_parameters, **kwargs):
            heads = net.module_.heads
            hidden = heads.hidden.weight.grad.unflatten(2, (N_TASKS, 4)).movedim(2, 0).flatten(1)
            moved.append([*hidden.any(dim=1).tolist(), bool(heads.weight.grad[:, 2].any())])

    rare = np.where(np.arange(len(Y))[:, None] < [60, 2, 60], Y, np.nan)  # of the second task
    rare[:2, 1] = [1.0, 2.0]
    make(callbacks=[Note()], head_hidden_units=4, max_epochs=5).fit(X, rare)
    first, second, _, second_outputs = np.transpose(moved)
    assert first.all()
    assert 5 <= second.sum() <= 10  # in one batch or two of the four
    np.testing.assert_array_equal(second, second_outputs)


def test_hidden_units_of_heads_are_searched():
    grid = {"head_hidden_units": [0, 3]}
    search = GridSearchCV(make(), grid, cv=2, error_score="raise").fit(X, Y)
    assert search.best_estimator_.head_hidden_units == search.best_params_["head_hidden_units"]


@pytest.mark.parametrize("head_hidden_units", [-1, 2.5, None, (3,)])
def test_hidden_units_that_do_not_exist(head_hidden_units):
    with pytest.raises(ValueError, match="'head_hidden_units' parameter of MultiTaskCNNEstimator"):
        make(head_hidden_units=head_hidden_units).fit(X, Y)


# -- members that share no weights ----------------------------------------------------------------


class Promised:
    """A spec that says three folds."""

    n_folds = 3

    def __init__(self, n_members):
        self.n_members = n_members

    def build(self, input_shape):
        return DenseTrunk(n_members=self.n_members).build(input_shape)


@pytest.mark.parametrize("n_members", [1, 4])
def test_a_trunk_has_the_members_that_its_spec_promises(n_members):
    with pytest.raises(ValueError, match=r"has n_folds=3, but its module has \d members"):
        make(trunk=Promised(n_members)).fit(X, Y)
    assert make(trunk=Promised(3)).fit(X, Y).oob_score_


def test_a_module_of_members_leaves_out_folds_and_a_callable_does_not():
    module = DenseTrunk((4,), n_members=2).build((X.shape[1],))
    assert hasattr(make(trunk=module).fit(X, Y), "oob_score_")
    assert not hasattr(make(trunk=lambda: module).fit(X, Y), "oob_score_")
