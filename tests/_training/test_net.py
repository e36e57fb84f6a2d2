"""skorch's net: what it records, what it decays, and X as the estimator takes it."""

import numpy as np
import pytest
import torch
from _fits import LOW_RATE, Recorder, X, Y, assert_consistent, make, weights_of
from _inputs import make_table
from sklearn.metrics import brier_score_loss, log_loss
from skorch.callbacks import Callback
from torch import nn

from sklearn_mtl._training.net import MultiTaskLoss
from sklearn_mtl.losses import LOSSES, LogProd, TaskLosses
from sklearn_mtl.networks import DenseTrunk

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


def test_asking_for_effective_weights_changes_nothing():
    criterion = MultiTaskLoss(TaskLosses(["regression"], [1]), LogProd(floor=0))
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


# -- steps ---------------------------------------------------------------------------------------


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


def test_a_callback_may_come_and_go():
    """Who listens is looked up anew in every epoch."""

    class Adder(Callback):
        def on_epoch_end(self, net, **kwargs):
            if len(net.history) == 1:
                net.callbacks_.append(("late", recorder))

    recorder = Recorder()
    estimator = make([Adder()]).fit(X, Y)
    assert recorder.events.count("batch_end") == 8
    assert estimator.net_.listeners_ is None


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


# -- weight decay --------------------------------------------------------------------------------


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
