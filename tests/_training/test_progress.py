"""A fit that broke off goes on, and ends with the bits of an unbroken one."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from _asserts import assert_alike
from _broken import Breaking, assert_same_bits, bits_of, break_off
from _inputs import make_every_kind, make_table
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from skorch.callbacks import Callback, EarlyStopping, Freezer, LRScheduler, Unfreezer
from torch import nn
from torch.utils.checkpoint import checkpoint

from sklearn_mtl import MultiTaskCNNEstimator, Task
from sklearn_mtl._files.checkpoint import CheckpointFile
from sklearn_mtl._files.store import open_file
from sklearn_mtl._training import fingerprints, fit, progress
from sklearn_mtl.losses import LogProd
from sklearn_mtl.networks import ConvTrunk, DenseTrunk

X, Y = make_table(60)
IMAGES = np.random.default_rng(0).normal(size=(60, 1, 24, 24)).astype(np.float32)
SMALL = DenseTrunk((8,), n_members=2)


def make(callbacks: Any = (), net_params: Any = None, **params: Any) -> MultiTaskCNNEstimator:
    net_params = {"callbacks": [Breaking(), *callbacks]} | (net_params or {})
    defaults = {"trunk": SMALL, "batch_size": 16, "random_state": 0, "checkpoint_every": 0}
    return MultiTaskCNNEstimator(**(defaults | params), net_params=net_params)


def own_trunk() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = nn.Linear(X.shape[1], 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Dropout(0.2)
        return nn.Sequential(*layers)


class Recurrent(nn.Module):
    """Rows as sequences; it counts its steps, which change what it says, and no state has them."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(1, 6, batch_first=True)
        self.register_buffer("mean", torch.zeros(()), persistent=False)
        self.steps = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.steps += 1
            self.mean.lerp_(x.detach().mean().to(self.mean), 0.1)
        return self.gru(x.unsqueeze(-1))[0][:, -1] * (1 + 0.1 * self.steps) + self.mean


class Recomputing(nn.Module):
    """Computes activations again in the backward pass, with the same dropout."""

    def __init__(self, use_reentrant: bool = False) -> None:
        super().__init__()
        self.use_reentrant = use_reentrant
        self.norm = nn.BatchNorm1d(X.shape[1])
        self.inner = nn.Sequential(nn.Linear(X.shape[1], 12), nn.ReLU(), nn.Dropout(0.5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(x)
        if not self.training:
            return self.inner(x)
        return checkpoint(self.inner, x, use_reentrant=self.use_reentrant)


class Late(nn.Module):
    """Draws from the 41st step on."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.steps = nn.Linear(X.shape[1], 8), 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.steps += self.training
        draws = self.training and self.steps > 40
        return self.linear(x) + (0.1 * torch.randn(8) if draws else 0)


class Spreading(nn.Module):
    """A loss with learned weights and a running mean."""

    def __init__(self) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(()))
        self.register_buffer("mean", torch.ones(()))

    def forward(self, losses: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            self.mean.lerp_(losses.mean().to(self.mean), 0.1)
        return losses.sum() / self.mean * self.log_scale.exp() - self.log_scale


class Slowing(Callback):
    """Counts epochs, and lowers the rate by what it has counted."""

    def __init__(self) -> None:
        self.count_ = 0

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        self.count_ += 1
        for group in net.optimizer_.param_groups:
            group["weight_decay"] = 0.1 * self.count_


class Smoothing(Callback):
    """A callback with a state as that of torch: the net ends with a mean of its weights."""

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        self.mean_ = [p.detach().clone() for p in net.module_.parameters()]

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        for mean, p in zip(self.mean_, net.module_.parameters(), strict=True):
            mean.lerp_(p.detach(), 0.5)

    def on_train_end(self, net: Any, **kwargs: Any) -> None:
        for mean, p in zip(self.mean_, net.module_.parameters(), strict=True):
            p.data.copy_(mean)

    def state_dict(self) -> dict[str, Any]:
        return {"mean": self.mean_}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for mean, known in zip(self.mean_, state["mean"], strict=True):
            mean.copy_(known)


EVERY_X, EVERY_Y = make_every_kind(60)
CONDITIONAL = [
    Task("y0", "classification"),
    Task("y1", "regression"),
    Task("y2", "regression", given=("y0", 1)),
]
FREEZING = {"callbacks": [Breaking(), Freezer("trunk.*"), Unfreezer("trunk.*", at=3)]}
GROUPS = {"optimizer__param_groups": [("heads.*", {"lr": 0.01})]}
VALID = {"X_val": X[:20] + 0.1, "y_val": Y[:20]}
STEPS = LRScheduler("StepLR", step_size=2, gamma=0.5)
CYCLE = LRScheduler(
    torch.optim.lr_scheduler.OneCycleLR, step_every="batch", max_lr=0.01, total_steps=24
)
PLATEAU = LRScheduler("ReduceLROnPlateau", patience=1)
STOP = EarlyStopping("valid_loss", patience=2, load_best=True, sink=lambda text: None)

FITS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "the data say when": (
        {"trunk": DenseTrunk((8, 8), n_frequencies=2), "learning_rate": 0.02},
        {},
    ),
    "the default": ({"trunk": "auto"}, {}),
    "a number of epochs": ({"max_epochs": 6}, {}),
    "the default of sequences": (
        {"trunk": "auto", "input_shape": (2, 12), "max_epochs": 3},
        {"X": IMAGES[:, 0, :2, :12]},
    ),
    "images": ({"trunk": ConvTrunk(4, 8), "max_epochs": 5}, {"X": IMAGES}),
    "early stopping": ({"early_stopping": True, "n_iter_no_change": 3, "max_epochs": 9}, VALID),
    "rows held out": ({"early_stopping": ["y1"], "n_iter_no_change": 2, "max_epochs": 9}, {}),
    "validation data": ({"max_epochs": 5}, VALID),
    "weights and groups": (
        {"task_weights": "n_observed", "class_weight": "balanced", "learning_rate": 0.02},
        {"sample_weight": np.linspace(0, 1, 60), "groups": np.arange(60) // 3},
    ),
    "module": ({"trunk": own_trunk(), "max_epochs": 5}, {}),
    "recurrent": ({"trunk": Recurrent(), "max_epochs": 5}, {}),
    "class": ({"trunk": Recurrent, "max_epochs": 5}, {}),
    "computed again": ({"trunk": Recomputing, "max_epochs": 5}, {}),
    "computed again, reentrant": ({"trunk": Recomputing(True), "max_epochs": 5}, {}),
    "drawing late": ({"trunk": Late, "max_epochs": 14}, {}),
    "fine-tuned": ({"trunk": own_trunk(), "max_epochs": 6, "net_params": FREEZING | GROUPS}, {}),
    "conditional": ({"tasks": CONDITIONAL, "max_epochs": 5}, {}),
    "every kind": ({"max_epochs": 5}, {"X": EVERY_X, "y": EVERY_Y}),
    "weighted": ({"loss": "weighted", "max_epochs": 5}, {}),
    "masked_mse": ({"loss": "masked_mse", "max_epochs": 5}, {}),
    "uncertainty": ({"loss": "uncertainty", "max_epochs": 5}, {}),
    "logprod": ({"loss": LogProd(decay=0.5), "max_epochs": 5}, {}),
    "logprod of a batch": ({"loss": LogProd(decay=None), "max_epochs": 5}, {}),
    "loss of one's own": ({"loss": Spreading(), "max_epochs": 5}, {}),
    "callable": ({"loss": lambda losses: losses.sum(), "max_epochs": 5}, {}),
    "one batch": ({"batch_size": 100, "max_epochs": 6}, {}),
    "hidden heads": ({"head_hidden_units": 4, "max_epochs": 5}, {}),
    "SGD": ({"optimizer": "SGD", "net_params": {"optimizer__momentum": 0.9}, "max_epochs": 5}, {}),
    "LBFGS": (
        {"optimizer": "LBFGS", "learning_rate": 0.1, "max_epochs": 4}
        | {"net_params": {"optimizer__max_iter": 4}},
        {},
    ),
    "Adagrad": ({"optimizer": "Adagrad", "max_epochs": 5}, {}),
    "bfloat16": ({"precision": "bfloat16", "max_epochs": 5}, {}),
    "steps": ({"callbacks": [STEPS], "max_epochs": 6}, {}),
    "cycle": ({"callbacks": [CYCLE], "max_epochs": 6}, {}),
    "plateau": ({"callbacks": [PLATEAU], "max_epochs": 9, "learning_rate": 0.1}, {}),
    "skorch stops": ({"callbacks": [STOP], "max_epochs": 9}, VALID),
    "a callback counts": ({"callbacks": [Slowing()], "max_epochs": 5}, {}),
    "a callback with a state": ({"callbacks": [Smoothing()], "max_epochs": 5}, {}),
}


def data_of(data: dict[str, Any]) -> dict[str, Any]:
    return {"X": X, "y": Y} | data


@pytest.mark.parametrize("name", FITS)
def test_a_fit_that_broke_off_goes_on(name, tmp_path):
    params, data = FITS[name]
    path, data = tmp_path / "fit", data_of(data)
    expected = clone(make(**params)).fit(**data)
    last = expected.n_iter_
    for epoch in (2, last):
        break_off(clone(make(**params, checkpoint=path)), (epoch, 1), **data)
        assert path.exists()
        epochs = Epochs()
        est = clone(make(**params, checkpoint=path))
        found = est.set_callbacks(epochs).fit(**data)
        assert epochs.n == last - epoch + 1  # and no more were trained
        assert not any(tmp_path.iterdir())
        assert_same_bits(found, expected)


class Epochs:
    """Counts epochs."""

    def __init__(self) -> None:
        self.n = 0

    def setup(self, estimator: Any, context: Any) -> None: ...

    def teardown(self, estimator: Any, context: Any) -> None: ...

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        self.n += context.task_name == "epoch"

    def on_fit_task_end(self, estimator: Any, context: Any) -> None: ...


# -- seeds, and what was before -------------------------------------------------------------------


def seed_in(path: Path) -> int:
    return json.loads(open_file(path)[0].header)["saved"][0]


def test_a_fit_without_a_seed_goes_on_with_its_own(tmp_path):
    path = tmp_path / "fit"
    params = {"random_state": None, "max_epochs": 4, "checkpoint": path}
    break_off(make(**params), (3, 2), X, Y)
    seed = seed_in(path)
    found = make(**params).fit(X, Y)
    assert_same_bits(found, make(random_state=seed, max_epochs=4).fit(X, Y))
    again = make(**params).fit(X, Y)  # with other entropy
    assert not np.array_equal(again.predict(X), found.predict(X))


def test_rows_held_out_without_a_seed_are_the_same_ones(tmp_path):
    path, stop = tmp_path / "fit", {"early_stopping": True, "n_iter_no_change": 3}
    params = stop | {"random_state": None, "max_epochs": 9}
    break_off(make(**params, checkpoint=path), (4, 1), X, Y)
    seed = seed_in(path)
    found = make(**params, checkpoint=path).fit(X, Y)
    assert_same_bits(found, make(**params | {"random_state": seed}).fit(X, Y))


def test_a_random_state_is_drawn_from_as_before(tmp_path):
    params = {"max_epochs": 4, "checkpoint": tmp_path / "fit"}
    expected = make(max_epochs=4, random_state=np.random.RandomState(3)).fit(X, Y)
    break_off(make(**params, random_state=np.random.RandomState(3)), (2, 2), X, Y)
    found = make(**params, random_state=np.random.RandomState(3)).fit(X, Y)
    assert_same_bits(found, expected)


@pytest.mark.parametrize("params", [{"max_epochs": 4}, {"early_stopping": True, "max_epochs": 8}])
@pytest.mark.parametrize("first", ["fit", "partial_fit"])
def test_a_warm_start_goes_on(first, params, tmp_path):
    params |= {"warm_start": True}
    earlier = getattr(make(**params | {"early_stopping": False}), first)(X, Y).set_params(**params)
    expected = copy.deepcopy(earlier).fit(X[:50], Y[:50])
    est = copy.deepcopy(earlier).set_params(checkpoint=tmp_path / "fit")
    break_off(est, (2, 1), X[:50], Y[:50])
    assert_same_bits(est, earlier)
    assert_same_bits(est.fit(X[:50], Y[:50]), expected)


def test_a_warm_start_from_something_else_is_refused(tmp_path):
    est = make(max_epochs=3, warm_start=True).fit(X, Y).set_params(checkpoint=tmp_path / "fit")
    other = make(max_epochs=3, warm_start=True).fit(X, Y)
    break_off(est, (2, 1), X, Y)
    with torch.no_grad():
        next(other.module_.parameters()).add_(1e-6)
    with pytest.raises(ValueError, match="differs in what was learned before"):
        other.set_params(checkpoint=tmp_path / "fit").fit(X, Y)
    new = make(max_epochs=3, warm_start=True, checkpoint=tmp_path / "fit")
    with pytest.raises(ValueError, match="differs in what was learned before"):
        new.fit(X, Y)


# -- other fits -----------------------------------------------------------------------------------

SHIFTED = X.copy()
SHIFTED[7, 1] += 1e-6
FEWER = Y.copy()
FEWER[3, 1] = np.nan

OTHERS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "max_epochs": ({"max_epochs": 6}, {}),
    "learning_rate": ({"learning_rate": 0.0021}, {}),
    "batch_size": ({"batch_size": 15}, {}),
    "loss": ({"loss": "weighted"}, {}),
    "trunk": ({"trunk": DenseTrunk((9,))}, {}),
    "net_params": ({"net_params": {"optimizer__betas": (0.8, 0.99)}}, {}),
    "random_state": ({"random_state": 1}, {}),
    "tasks": ({"tasks": CONDITIONAL}, {}),
    "standardize": ({"standardize": False}, {}),
    "X": ({}, {"X": SHIFTED}),
    "y or its weights": ({}, {"y": FEWER}),
    "groups": ({}, {"groups": np.arange(60) // 2}),
    "X_val": ({}, {"X_val": SHIFTED[:20]}),
    "y_val or its weights": ({}, {"sample_weight_val": np.arange(1, 21)}),
}


@pytest.mark.parametrize("name", OTHERS)
def test_the_checkpoint_of_another_fit_is_refused_and_kept(name, tmp_path):
    params, data = OTHERS[name]
    path, given = tmp_path / "fit", {"X": X, "y": Y, "X_val": X[:20], "y_val": Y[:20]}
    known = {"max_epochs": 5, "checkpoint": path}
    break_off(make(**known), (3, 1), **given)
    content = path.read_bytes()
    est = make(**known | params)
    with pytest.raises(ValueError, match=f"is of another fit, which differs in .*{name}") as info:
        est.fit(**given | data)
    assert str(path) in str(info.value)
    assert not hasattr(est, "net_")
    assert path.read_bytes() == content
    assert_same_bits(make(**known).fit(**given), make(max_epochs=5).fit(**given))


def test_weights_are_no_small_thing(tmp_path):
    path = tmp_path / "fit"
    break_off(make(checkpoint=path), (3, 1), X, Y, np.ones(60))
    with pytest.raises(ValueError, match="differs in y or its weights"):
        make(checkpoint=path).fit(X, Y, np.linspace(1, 2, 60))
    make(checkpoint=path).fit(X, Y)  # no weights are weights of 1


@pytest.mark.parametrize(
    "changed", [{"verbose": 1}, {"checkpoint_every": 9}, {"max_epochs": np.int64(5)}]
)
def test_what_changes_no_number_is_no_other_fit(changed, tmp_path, capsys):
    params = {"max_epochs": 5, "checkpoint": tmp_path / "fit"}
    break_off(make(**params), (3, 1), X, Y)
    found = make(**params | changed).fit(X, Y)
    assert_same_bits(found, make(max_epochs=5).fit(X, Y))


def test_frames_and_arrays_of_the_same_numbers_are_the_same(tmp_path):
    params = {"max_epochs": 4, "checkpoint": tmp_path / "fit"}
    break_off(make(**params), (2, 1), X, Y)
    found = make(**params).fit(torch.tensor(X).numpy(), Y.copy())
    assert_same_bits(found, make(max_epochs=4).fit(X, Y))


def test_large_inputs_are_looked_at_in_parts(monkeypatch, tmp_path):
    monkeypatch.setattr(fingerprints, "VALUES", X[:12].size)
    monkeypatch.setattr(fingerprints, "PARTS", 6)
    params = {"max_epochs": 4, "checkpoint": tmp_path / "fit", "standardize": False}
    break_off(make(**params), (2, 1), X, Y)
    other = X.copy()
    other[10] += 1  # the first row of a part
    with pytest.raises(ValueError, match="differs in X"):
        make(**params).fit(other, Y)
    make(**params).fit(X, Y)


def test_means_and_scales_tell_what_was_not_looked_at(monkeypatch, tmp_path):
    monkeypatch.setattr(fingerprints, "VALUES", 1)
    params = {"max_epochs": 4, "checkpoint": tmp_path / "fit"}
    break_off(make(**params, trunk="auto"), (2, 1), X, Y)
    with pytest.raises(ValueError, match="differs in X"):
        make(**params, trunk="auto").fit(SHIFTED, Y)


# -- periods, ends, and who else is there ---------------------------------------------------------


def test_states_are_kept_at_the_first_epoch_and_then_by_the_clock(monkeypatch, tmp_path):
    path, clock, kept = tmp_path / "fit", [0.0], []
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(
        CheckpointFile,
        "write",
        lambda self, saved: kept.append(len(saved.state["record"]["train_loss"])),
    )

    class Ticking(Callback):
        def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
            clock[0] += 1

    make([Ticking()], max_epochs=10, checkpoint=path, checkpoint_every=3).fit(X, Y)
    assert kept == [1, 4, 7, 10]
    kept.clear()
    make(max_epochs=3, checkpoint=path, checkpoint_every=60.0).fit(X, Y)
    assert kept == [1]


def test_a_fit_that_ended_leaves_nothing(tmp_path):
    path = tmp_path / "fit"
    make(checkpoint=str(path)).fit(X, Y)
    assert not any(tmp_path.iterdir())
    est = make(max_epochs=3, checkpoint=path, net_params={"callbacks": [Stopping()]})
    with pytest.warns(ConvergenceWarning, match="interrupted"):
        est.fit(X, Y)
    assert not any(tmp_path.iterdir())


class Stopping(Callback):
    """Ends the training as skorch's callbacks do."""

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        if len(net.history) == 2:
            raise KeyboardInterrupt


@pytest.fixture
def _ctrl_c():
    """Interrupts are heard, which those that run in the background may not be."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_ctrl_c")
def test_ctrl_c_is_a_pause(tmp_path):
    path = tmp_path / "fit"

    class Pressing(Breaking):
        def on_batch_end(self, net: Any, training: bool = False, **kwargs: Any) -> None:
            if Pressing.at == len(net.history):
                signal.raise_signal(signal.SIGINT)

    params = {"max_epochs": 5, "checkpoint": path, "net_params": {"callbacks": [Pressing()]}}
    Pressing.at = 3
    with pytest.raises(KeyboardInterrupt):
        make(**params).fit(X, Y)
    Pressing.at = None
    expected = make(**params | {"checkpoint": None}).fit(X, Y)
    assert_same_bits(make(**params).fit(X, Y), expected)


def test_a_fit_that_broke_off_behind_the_training_goes_on(monkeypatch, tmp_path):
    params = {"trunk": DenseTrunk((8,), n_members=2), "checkpoint": tmp_path / "fit"}
    expected = make(trunk=DenseTrunk((8,), n_members=2)).fit(X, Y)
    with monkeypatch.context() as patch:
        patch.setattr(fit, "calibrate", lambda *args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            make(**params).fit(X, Y)
    assert_same_bits(make(**params).fit(X, Y), expected)


def test_what_cannot_be_kept_is_told_of_in_the_first_epoch(tmp_path):
    class Odd(Callback):
        def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
            self.seen_ = object()

    est = make([Odd()], checkpoint=tmp_path / "fit", checkpoint_every=1000)
    with pytest.raises(TypeError, match=r"callback Odd.*seen_.*of type object.*leave checkpoint"):
        est.fit(X, Y)
    assert not any(tmp_path.iterdir())

    class Noting(Callback):
        def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
            net.history.record("odd", object())

    with pytest.raises(TypeError, match=r"history of the net holds .*of type object"):
        make([Noting()], checkpoint=tmp_path / "fit").fit(X, Y)


def test_copies_of_a_net_know_nothing_of_the_file(tmp_path):
    copies: list[Any] = []

    class Keeping(Epochs):
        def on_fit_task_end(self, estimator: Any, context: Any, *, fitted_estimator: Any) -> None:
            copies.append(fitted_estimator)

    est = make(max_epochs=2, checkpoint=tmp_path / "fit").set_callbacks(Keeping()).fit(X, Y)
    for known in (est, *copies):
        assert not [c for _, c in known.net_.callbacks_ if isinstance(c, progress.Progress)]


def test_two_fits_at_once_do_not_mix(tmp_path):
    path, failed = tmp_path / "fit", []

    class Beside(Callback):
        def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
            if not failed:
                with pytest.raises(ValueError, match="is in use by another fit") as info:
                    make(checkpoint=path, random_state=1).fit(X, Y)
                failed.append(info.value)

    expected = make(max_epochs=4).fit(X, Y)
    found = make([Beside()], max_epochs=4, checkpoint=path).fit(X, Y)
    assert failed
    assert_same_bits(found, expected)


def test_a_folder_has_a_file_for_each_fit(tmp_path):
    seeds = [{"random_state": seed} for seed in (0, 1, None)]
    fits = [*seeds, {"random_state": 0, "learning_rate": 0.001}]
    for params in fits:
        break_off(make(**params, max_epochs=4, checkpoint=tmp_path), (3, 1), X, Y)
    files = {p for p in tmp_path.iterdir() if p.suffix == ".checkpoint"}
    assert len(files) == 4
    for params in fits[::-1]:
        found = make(**params, max_epochs=4, checkpoint=tmp_path).fit(X, Y)
        if params["random_state"] is not None:
            assert_same_bits(found, make(**params, max_epochs=4).fit(X, Y))
    assert not any(tmp_path.iterdir())


# -- deaths ---------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a child")
@pytest.mark.parametrize(
    "n", [3, pytest.param(50, marks=pytest.mark.reliability)], ids=["few", "many"]
)
@pytest.mark.parametrize("trunk", [own_trunk, Recomputing, Late])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fit_that_is_killed_goes_on(trunk, n, tmp_path):
    n_epochs = 400 if n > 3 else 24
    params = {"trunk": trunk(), "max_epochs": n_epochs, "early_stopping": True}
    params |= {"n_iter_no_change": n_epochs, "batch_size": 8}
    start = time.perf_counter()
    expected = bits_of(make(**params).fit(X, Y))
    each = (time.perf_counter() - start) / n
    path, bits = tmp_path / "folder" / "fit", tmp_path / "bits"
    path.parent.mkdir()
    rng, n_kills = np.random.default_rng(n), 0
    while not bits.exists():
        child = os.fork()
        if child == 0:  # pragma: no cover
            with contextlib.suppress(BaseException):
                found = make(**params, checkpoint=path).fit(X, Y)
                torch.save(bits_of(found), bits)
                os._exit(0)
            os._exit(1)
        if n_kills < n:
            time.sleep(rng.uniform(0, 2 * each))
            os.kill(child, signal.SIGKILL)
            n_kills += 1
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status) or status == 0
    assert n_kills == n
    assert not any(path.parent.iterdir())
    assert_alike(torch.load(bits, weights_only=False), expected)
