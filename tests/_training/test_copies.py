"""What one net takes over from another: copies, weights, what is frozen, and the loss's own."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from _asserts import pickled
from _fits import N_TASKS, X, Y, make, weights_of
from skorch.callbacks import Freezer
from torch import nn

from sklearn_mtl import MultiTaskCNNEstimator
from sklearn_mtl._training.copies import frozen_of
from sklearn_mtl.losses import LogProd
from sklearn_mtl.networks import DenseTrunk


def fitted(**params: Any) -> MultiTaskCNNEstimator:
    return make(warm_start=True, **params).fit(X, Y)


def saved(estimator: MultiTaskCNNEstimator, folder: Path) -> MultiTaskCNNEstimator:
    estimator.save(folder / "model.safetensors")
    return MultiTaskCNNEstimator.load(folder / "model.safetensors")


WAYS = pytest.mark.parametrize(
    "way", [lambda e, _: e, lambda e, _: pickled(e), saved], ids=["kept", "pickle", "file"]
)

# How a training goes on.
ON = pytest.mark.parametrize("method", ["fit", "partial_fit"])


@pytest.mark.parametrize("name", ["trunk", "loss"])
def test_a_part_that_cannot_be_copied_is_named(name: str) -> None:
    estimator = make().partial_fit(X, Y)
    net = estimator.net_
    part = net.module_.trunk if name == "trunk" else net.criterion_.combine
    part.last = torch.ones(1, requires_grad=True) + 1  # as of a forward pass
    with pytest.raises(ValueError, match=f"{name} cannot be copied"):
        estimator.partial_fit(X, Y)


def test_the_net_of_a_stream_is_one() -> None:
    net = make().partial_fit(X, Y).partial_fit(X, Y).net_
    assert net.module is net.module_
    assert net.criterion is net.criterion_


# -- what the loss has learned -------------------------------------------------------------------


@ON
@WAYS
@pytest.mark.parametrize("loss", ["logprod", LogProd(decay=0.8)], ids=["name", "object"])
def test_running_denominators_go_on(
    loss: Any, way: Callable[..., Any], method: str, tmp_path: Path
) -> None:
    """The next step takes them one batch further, instead of back to the constant predictor."""
    exact = {"batch_size": 60, "precision": "float64", "learning_rate": 0.03}
    exact["trunk"] = DenseTrunk((8,), n_members=1)  # members would see folds that they left out
    estimator = fitted(loss=loss, max_epochs=40, **exact)
    before = estimator.net_.criterion_.combine.running.clone()
    weights = estimator.history_["effective_weight"][-1]
    estimator = way(estimator, tmp_path).set_params(max_epochs=1)
    getattr(estimator, method)(X, Y)
    combine = estimator.net_.criterion_.combine
    batch = torch.from_numpy(estimator.history_["train_loss"][-1])
    expected = combine.decay * before + (1 - combine.decay) * batch
    torch.testing.assert_close(combine.running, expected)
    np.testing.assert_allclose(estimator.history_["effective_weight"][-1], weights, rtol=0.05)
    fresh = make(loss=loss, max_epochs=1, **exact).fit(X, Y).history_["effective_weight"]
    assert (weights > 1.3 * fresh).all()  # as is told apart here


def test_another_loss_keeps_nothing_of_the_one_before() -> None:
    one_step = {"batch_size": 60, "max_epochs": 1}
    estimator = fitted(loss="weighted").set_params(loss="logprod", **one_step).fit(X, Y)
    combine = estimator.net_.criterion_.combine
    losses = torch.from_numpy(estimator.history_["train_loss"][-1]).float()
    constant = combine.lowest / combine.floor
    torch.testing.assert_close(combine.running, 0.95 * constant + 0.05 * losses)


# -- what is frozen ------------------------------------------------------------------------------


@ON
@WAYS
@pytest.mark.parametrize("optimizer", ["AdamW", "SGD", "LBFGS"])
def test_what_is_frozen_stays_as_it_is(
    optimizer: str, way: Callable[..., Any], method: str, tmp_path: Path
) -> None:
    own: Any = {"net_params": {"optimizer__max_iter": 4}}
    own = own if optimizer == "LBFGS" else {"weight_decay": 0.5}
    estimator = fitted(optimizer=optimizer, learning_rate=0.01, **own)
    estimator.module_.trunk.requires_grad_(False)
    before = {name: p.clone() for name, p in estimator.module_.named_parameters()}
    frozen = frozen_of(estimator.net_)
    assert frozen == [name for name in before if name.startswith("trunk.")]
    estimator = way(estimator, tmp_path)
    for _ in range(2):
        getattr(estimator, method)(X, Y)
        assert frozen_of(estimator.net_) == frozen
        for name, p in estimator.module_.named_parameters():
            assert torch.equal(p, before[name]) == (name in frozen)


def test_what_is_frozen_in_a_stream_stays_as_it_is() -> None:
    """Also where the optimizer, which knows the parameters from before, goes on."""
    estimator = make().partial_fit(X, Y)
    trunk, heads = estimator.module_.trunk.requires_grad_(False), estimator.module_.heads
    estimator = pickled(estimator.partial_fit(X, Y)).partial_fit(X, Y)
    for p, q in zip(estimator.module_.trunk.parameters(), trunk.parameters(), strict=True):
        assert torch.equal(p, q)
        assert not p.requires_grad
    assert not torch.equal(estimator.module_.heads.weight, heads.weight)
    assert {int(state["step"]) for state in estimator.net_.optimizer_.state.values()} == {4, 12}


@ON
@pytest.mark.parametrize("trunk", [DenseTrunk((8,)), nn.Linear(3, 8).requires_grad_(False)])
def test_what_is_frozen_may_be_trained_again(trunk: Any, method: str) -> None:
    """Also where it was passed frozen: what counts is how the fitted module is left."""
    estimator = fitted(trunk=trunk)
    estimator.module_.trunk.requires_grad_(False)
    getattr(estimator, method)(X, Y)
    before = copy.deepcopy(estimator.module_)
    estimator.module_.requires_grad_(True)
    getattr(estimator, method)(X, Y)
    assert frozen_of(estimator.net_) == []
    for p, q in zip(estimator.module_.parameters(), before.parameters(), strict=True):
        assert not torch.equal(p, q)


def test_a_cold_fit_knows_nothing_of_what_was_frozen() -> None:
    estimator = make().fit(X, Y)
    expected = weights_of(estimator)
    estimator.module_.requires_grad_(False)
    assert torch.equal(weights_of(estimator.fit(X, Y)), expected)
    assert frozen_of(estimator.net_) == []
    assert estimator.history_["train_loss"].shape == (3, N_TASKS)


# -- who has frozen what -------------------------------------------------------------------------


def moved(before, est):
    """Whether the trunk is another than before."""
    return not all(torch.equal(a, b) for a, b in zip(before, trunk_of(est), strict=True))


def trunk_of(est):
    return [p.detach().clone() for p in est.module_.trunk.parameters()]


@pytest.mark.parametrize("by", ["in place", "another"])
@pytest.mark.parametrize("frozen_first", [True, False])
def test_a_trunk_that_is_passed_frozen_or_free_is_taken_at_its_word(frozen_first, by):
    """First the heads, then all of it: what the last training found does not matter."""
    trunk = nn.Sequential(nn.Linear(X.shape[1], 8), nn.ReLU()).requires_grad_(not frozen_first)
    est = make(trunk=trunk, warm_start=True)
    start = [p.detach().clone() for p in trunk.parameters()]
    assert moved(start, est.fit(X, Y)) is not frozen_first
    before = trunk_of(est)
    if by == "in place":
        trunk.requires_grad_(frozen_first)
    else:
        est.set_params(trunk=copy.deepcopy(trunk).requires_grad_(frozen_first))
    assert moved(before, est.fit(X, Y)) is frozen_first


def test_what_a_callback_froze_is_free_without_it():
    freezer = {"callbacks": [Freezer("trunk*")]}
    est = make(warm_start=True, net_params=freezer).fit(X, Y)
    before = trunk_of(est)
    assert not moved(
        before, est.set_params(net_params={"callbacks": [Freezer("trunk*")]}).fit(X, Y)
    )
    assert moved(before, est.set_params(net_params=None).fit(X, Y))


def test_what_the_user_froze_stays_so_until_he_sets_it_free():
    """Over any number of trainings, of either sort, and through a file."""
    est = make(warm_start=True).fit(X, Y)
    est.module_.trunk.requires_grad_(False)
    before = trunk_of(est)
    for train in (est.fit, est.fit, est.partial_fit, est.partial_fit, est.fit):
        assert not moved(before, train(X, Y))
    est.module_.trunk.requires_grad_(True)
    assert moved(before, est.fit(X, Y))
    before = trunk_of(est)
    assert moved(before, est.partial_fit(X, Y))
