"""skorch's net: what it records, what it decays, and X as the estimator takes it."""

import copy
import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from _fits import LOW_RATE, Recorder, X, Y, assert_consistent, make, weights_of
from _inputs import make_table
from sklearn.metrics import brier_score_loss, log_loss
from skorch.callbacks import Callback, PassthroughScoring
from torch import nn

from sklearn_mtl import Task
from sklearn_mtl._fitted import fitted_of
from sklearn_mtl._training.criterion import MultiTaskLoss
from sklearn_mtl.losses import LOSSES, LogProd, TaskLosses
from sklearn_mtl.networks import ConvTrunk, DenseTrunk

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


@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_effective_weights_are_derivatives(loss):
    """Of the value of a batch, where the rule knows them as well."""
    rule = LOSSES[loss](torch.tensor([1.0, 2.0, 3.0]))
    rule.start(torch.tensor([0.5, 2.0, 1.0]), torch.ones(3), torch.tensor([1.0, 2.0, 1.0]))
    criterion = MultiTaskLoss(TaskLosses(["regression"] * 3, [1] * 3), rule)
    losses, counts = torch.tensor([0.3, 4.0, 0.0]), torch.tensor([1.0, 0.5, 0.0])
    weights = criterion.effective_weights(losses, counts)
    (derivatives,) = torch.autograd.grad(rule.eval()(losses.requires_grad_(), counts), losses)
    torch.testing.assert_close(weights, derivatives)
    assert not weights.requires_grad


def sum_of_roots(losses, counts):
    return losses.sqrt().sum()


def test_a_callable_loss_has_effective_weights():
    history = make(loss=sum_of_roots).fit(X, Y).history_
    np.testing.assert_allclose(history["effective_weight"], 0.5 * history["train_loss"] ** -0.5)


SHARES = np.array([1 - Y[:, 0].mean(), Y[:, 0].mean()])


@pytest.mark.parametrize("holes", [False, True])
@pytest.mark.parametrize(
    ("loss", "objective"),
    [
        ("weighted", lambda losses, w, _: losses @ w),
        ("masked_mse", lambda losses, w, _: losses @ w),
        ("logprod", lambda losses, w, floor: np.log(losses + floor) @ w),
        ("uncertainty", lambda losses, w, floor: (np.log(losses + floor) + 1) @ w / 2),
        (sum_of_roots, lambda losses, w, _: np.sqrt(losses).sum(axis=1)),
    ],
)
def test_the_losses_of_the_net_are_the_objective(loss, objective, holes):
    """Of losses over the whole epoch, by its formula; a task without targets is left out."""
    X_val, y_val = make_table(20, seed=1)
    if holes:
        y_val[:, 2] = np.nan
    floor = 0.1 * np.array([-SHARES @ np.log(SHARES), 1, 1])  # a tenth of the constant's losses
    task_weights = np.array([1.0, 2.0, 3.0]) if isinstance(loss, str) else None
    estimator = make(loss=loss, task_weights=task_weights, precision="float64", max_epochs=5)
    estimator.fit(X, Y, X_val=X_val, y_val=y_val)
    for name in ("train_loss", "valid_loss"):
        losses = estimator.history_[name]
        seen = np.isfinite(losses[0])
        assert seen.tolist() == [True, True, not holes or name == "train_loss"]
        w = task_weights[seen] if isinstance(loss, str) else None
        expected = objective(losses[:, seen], w, floor[seen])
        np.testing.assert_allclose(estimator.net_.history[:, name], expected, rtol=1e-6)


def test_the_net_knows_the_losses_of_its_tasks():
    """And when they were the best so far; never, if they were not observed."""
    X_val, y_val = make_table(20, seed=1)
    y_val[:, 2] = np.nan
    tasks = [Task("size", "classification"), Task("b best", "regression"), Task("c", "regression")]
    estimator = make(tasks=tasks, max_epochs=12, learning_rate=0.05)
    estimator.fit(X, Y, X_val=X_val, y_val=y_val)
    history = estimator.net_.history
    for part in ("train_loss", "valid_loss"):
        columns = {f"{part}/{t.name}": estimator.history_[part][:, k] for k, t in enumerate(tasks)}
        columns[part] = np.array(history[:, part])
        for name, column in columns.items():
            np.testing.assert_array_equal(history[:, name], column)
            best = [np.isfinite(v) and (v < column[:k]).all() for k, v in enumerate(column)]
            assert history[:, f"{name}_best"] == best
    assert not any(history[:, "valid_loss/c_best"])
    assert 0 < sum(history[:, "valid_loss_best"]) < 12
    assert history[:, "valid_objective"] == history[:, "valid_loss"]  # its earlier name


def test_a_loss_that_stays_is_no_better():
    estimator = make(learning_rate=1e-300, weight_decay=0, precision="float64")
    history = estimator.fit(X, Y, X_val=X[:20], y_val=Y[:20]).net_.history
    assert len(set(history[:, "valid_loss"])) == 1
    for name in ("valid_loss", "valid_loss/y0"):
        assert history[:, f"{name}_best"] == [True, False, False]


def test_a_task_may_be_called_what_its_neighbour_s_flag_is_called():
    tasks = [Task("a", "classification"), Task("a_best", "regression"), Task("c", "regression")]
    estimator = make(tasks=tasks).fit(X, Y)
    found = estimator.net_.history[:, "train_loss/a_best"]
    np.testing.assert_array_equal(found, estimator.history_["train_loss"][:, 1])


def test_a_net_has_no_scores_of_skorch():
    """They would average over batches, and overwrite the objective."""
    callbacks = dict(make().fit(X, Y).net_.callbacks_).values()
    assert not any(isinstance(callback, PassthroughScoring) for callback in callbacks)


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
    make([Adder()]).fit(X, Y)
    assert recorder.events.count("batch_end") == 8


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
    of_trunk = {"trunk.embedding.mixture", "trunk.layers.0.weight"}
    matrices = of_trunk | {"heads.weight", "heads.hidden.weight"}
    assert {names[id(p)] for p in decayed["params"]} == matrices
    assert len(decayed["params"]) + len(spared["params"]) == len(names)


@pytest.mark.parametrize(
    ("trunk", "matrices"),
    [
        (DenseTrunk(), {"embedding.mixture", "layers.0.weight", "layers.1.weight"}),
        (DenseTrunk((8, 8), n_members=1), {"1.mixture", "2.weight", "4.weight"}),
        (DenseTrunk((8, 8), n_frequencies=0), {"layers.0.weight", "layers.1.weight"}),
        (DenseTrunk(()), set()),
    ],
    ids=["default", "one member", "no waves", "linear"],
)
def test_decay_of_dense_trunks(trunk, matrices):
    """Matrices of all members, and mixtures; not the biases, of which each member has a row."""
    net = make(trunk=trunk, weight_decay=0.5, max_epochs=1).fit(X, Y).net_
    names = {id(p): name for name, p in net.module_.named_parameters()}
    decayed, spared = net.optimizer_.param_groups
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.5, 0)
    decayed, spared = ({names[id(p)] for p in g["params"]} for g in (decayed, spared))
    assert decayed == {f"trunk.{name}" for name in matrices} | {"heads.weight"}
    assert spared == set(names.values()) - decayed
    assert not [name for name in spared if name.endswith("weight")]


@pytest.mark.parametrize("pattern", ["heads.*", "*"])
def test_groups_of_the_user(pattern):
    """They keep what the user says of them, and the others are as they were."""
    groups = [(pattern, {"lr": LOW_RATE, "weight_decay": 0.25})]
    params = {"trunk": nn.Linear(3, 8), "weight_decay": 0.5}
    estimator = make(net_params={"optimizer__param_groups": groups}, **params).fit(X, Y)
    still = make(learning_rate=LOW_RATE, **params).fit(X, Y)
    found, *others = estimator.net_.optimizer_.param_groups
    assert found["weight_decay"] == 0.25
    assert len(found["params"]) == (2 if pattern == "heads.*" else 4)
    assert [group["weight_decay"] for group in others] == [0.5, 0] * (pattern == "heads.*")
    assert sum(len(group["params"]) for group in others) == 4 - len(found["params"])
    heads, trunk = estimator.module_.heads, estimator.module_.trunk
    torch.testing.assert_close(heads.weight, still.module_.heads.weight)
    moved = (trunk.weight - estimator.trunk.weight).abs().max()
    assert (moved > 1e-4) == (pattern == "heads.*")


def test_a_group_without_a_decay_has_the_usual_one():
    """A group with the rate of all others changes nothing: vectors are not decayed."""
    groups = [("trunk.*", {"lr": 0.01}), ("heads.*", {"lr": 0.01})]
    params = {"trunk": DenseTrunk((8, 8)), "weight_decay": 0.5, "learning_rate": 0.01}
    grouped = make(net_params={"optimizer__param_groups": groups}, **params).fit(X, Y)
    decays = [group["weight_decay"] for group in grouped.net_.optimizer_.param_groups]
    assert decays == [0.5, 0, 0.5, 0]
    np.testing.assert_allclose(grouped.predict(X), make(**params).fit(X, Y).predict(X), rtol=1e-5)


@pytest.mark.parametrize(
    ("group", "message"),
    [
        (("heads.*", {"learning_rate": 0.1}), r"\['learning_rate'\] are no options of AdamW.*'lr'"),
        (("heads.*", 0.1), "Pass a list of pairs"),
        ("heads.*", "Pass a list of pairs"),
        (("heads.*", {"lr": 0.1}, 3), "Pass a list of pairs"),
    ],
)
def test_groups_that_are_not_understood(group, message):
    """Else a wrong name would be kept in the group, and nothing done with it."""
    with pytest.raises(ValueError, match=f"optimizer__param_groups.*{message}"):
        make(net_params={"optimizer__param_groups": [group]}).fit(X, Y)


def test_optimizers_of_the_user_may_take_any_option():
    class Open(torch.optim.SGD):
        def __init__(self, params, lr=0.1, **options):
            super().__init__(params, lr)

    groups = [("heads.*", {"hue": 3})]
    net = make(optimizer=Open, net_params={"optimizer__param_groups": groups}).fit(X, Y).net_
    assert net.optimizer_.param_groups[0]["hue"] == 3


def test_batch_statistics_of_frozen_layers_stand_still():
    """What a frozen trunk says of a row stays; others go on to count."""
    trunk = nn.Sequential(nn.Linear(X.shape[1], 8), nn.BatchNorm1d(8), nn.ReLU())
    est = make(trunk=trunk, warm_start=True).fit(X, Y)
    est.module_.trunk.requires_grad_(False)
    before, seen = est.embed(X), int(est.module_.trunk[1].num_batches_tracked)
    np.testing.assert_array_equal(est.fit(X, Y).embed(X), before)
    np.testing.assert_array_equal(est.partial_fit(X, Y).embed(X), before)
    est.module_.trunk.requires_grad_(True)
    assert int(est.fit(X, Y).module_.trunk[1].num_batches_tracked) > seen


def test_groups_that_match_nothing():
    groups = [("heads.*", {"lr": 0.1}), ("trnk.*", {"lr": 0.1})]
    estimator = make(net_params={"optimizer__param_groups": groups})
    message = r"optimizer__param_groups: no parameter matches 'trnk\.\*'.*'heads\.weight'"
    with pytest.raises(ValueError, match=message):
        estimator.fit(X, Y)
    with pytest.raises(ValueError, match=message):
        estimator.partial_fit(X, Y)


# -- a net of skorch ----------------------------------------------------------------------------


def images():
    rng = np.random.default_rng(0)
    return rng.integers(256, size=(40, 6, 5, 3), dtype=np.uint8), rng.normal(size=(40, 2))


def as_frame(values):
    return pd.DataFrame(values, columns=["p", "q", "r"])


CHANNELS_LAST = {"data_format": "channels_last", "trunk": ConvTrunk(width=4)}
INPUTS = {
    "array": (X, Y, {}),
    "list": (X.tolist(), Y, {}),
    "frame": (as_frame(X), Y, {}),
    "polars": (pl.DataFrame(as_frame(X)), Y, {}),
    "integers": (X.astype(int), Y, {"precision": "float64"}),
    "channels last": (*images(), CHANNELS_LAST),
    "in another shape": (*images(), {"input_shape": (2, 45), "trunk": ConvTrunk(width=4)}),
}


@pytest.mark.parametrize("case", INPUTS)
def test_a_net_takes_what_the_estimator_takes(case):
    """Whatever the module was set to since; the estimator makes its predictions of the same."""
    given, y, params = INPUTS[case]
    estimator = make(max_epochs=1, batch_size=32, **params).fit(given, y)
    net, expected = estimator.net_, fitted_of(estimator).raw(given)
    net.module_.train()
    np.testing.assert_allclose(net.predict(given), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(net.predict_proba(given), net.predict(given))
    np.testing.assert_array_equal(net.forward(given).numpy(), net.predict(given))
    parts = list(net.forward_iter(given))
    assert [len(part) for part in parts] == [32, len(expected) - 32]
    np.testing.assert_array_equal(torch.cat(parts).numpy(), net.predict(given))
    twin = pickle.loads(pickle.dumps(net))
    np.testing.assert_array_equal(twin.predict(given), net.predict(given))


def test_a_net_computes_in_its_own_precision():
    estimator = make(precision="bfloat16", batch_size=60).fit(X, Y)
    net = estimator.net_
    np.testing.assert_array_equal(net.predict(X), fitted_of(estimator).raw(X))
    rounded = net.predict(X)
    net.amp_dtype_ = None
    assert 1e-5 < abs(net.predict(X) - rounded).max() < 0.1


def test_a_net_refuses_what_the_estimator_refuses():
    net = make().fit(X, Y).net_
    with pytest.raises(ValueError, match=r"X has 2 features.*expecting 3"):
        net.predict(X[:, :2])
    with pytest.raises(ValueError, match="NaN"):
        net.forward(np.full_like(X, np.nan))


@pytest.mark.parametrize("method", ["fit", "partial_fit", "fit_loop"])
def test_a_net_is_trained_by_its_estimator(method):
    """And nothing has happened to it when it says so."""
    estimator = make(warm_start=True).fit(X, Y)
    net, before = estimator.net_, weights_of(estimator)
    record, history = copy.deepcopy(net.record_), copy.deepcopy(net.history)
    with pytest.raises(TypeError, match=r"trained by its estimator\. Call fit or partial_fit of"):
        getattr(net, method)(X, Y)
    assert torch.equal(weights_of(estimator), before)
    assert str(net.record_) == str(record)
    assert net.history == history
    assert_consistent(estimator, n_iter=3)
    assert_consistent(estimator.fit(X, Y), n_iter=3)


def test_the_net_predicts_in_evaluation_mode_whatever_was_set_since():
    """A part that was set to training, as for dropout, learns nothing from predictions."""
    trunk = nn.Sequential(nn.Linear(X.shape[1], 8), nn.BatchNorm1d(8), nn.Dropout(0.5))
    est = make(trunk=trunk).fit(X, Y)
    before = est.predict(X)
    raw = est.net_.predict(X)
    est.module_.trunk.train()
    np.testing.assert_array_equal(est.net_.predict(X + 5), est.net_.predict(X + 5))
    np.testing.assert_array_equal(est.net_.predict(X), raw)
    np.testing.assert_array_equal(est.predict(X), before)
