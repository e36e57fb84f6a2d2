"""compile=True: the step in one function. Most tests trace it without generating code: seconds."""

from __future__ import annotations

import functools
import pickle
import shutil
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from _inputs import make_table
from skorch.callbacks import Callback, Freezer, GradientNormClipping, LRScheduler, Unfreezer
from torch import nn
from torch._dynamo.utils import counters

from sklearn_mtl import MultiTaskCNNEstimator, _compile
from sklearn_mtl.losses import LOSSES
from sklearn_mtl.networks import ConvTrunk, DenseTrunk

X, Y = make_table(62)  # batches of 15 and 16 rows


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run what torch.compile makes of the step, without compiling it; count the calls."""
    torch.compiler.reset()
    counters.clear()
    calls: list[bool] = []  # whether with the update

    @functools.cache
    def trace(dynamic: bool) -> Any:
        args = {"fullgraph": True, "isolate_recompiles": True, "backend": "eager"}
        args |= {"recompile_limit": 32}
        step = torch.compile(_compile._step, dynamic=None if dynamic else False, **args)

        def count(*args: Any) -> Any:
            found = step(*args)
            calls.append(bool(args[4]))
            return found

        return count

    monkeypatch.setattr(_compile, "_compiled", trace)
    # Other tests leave threads behind, such as those that callbacks listen to.
    monkeypatch.setattr(_compile, "_is_alone", lambda: True)
    return calls


def make(callbacks: Any = (), **params: Any) -> MultiTaskCNNEstimator:
    """Four batches per epoch, three epochs."""
    net_params = {"callbacks": list(callbacks)} if callbacks else None
    defaults = {
        "trunk": DenseTrunk((8,), n_frequencies=2),
        "max_epochs": 3,
        "batch_size": 16,
        "precision": "float64",
        "random_state": 0,
        "net_params": net_params,
    }
    return MultiTaskCNNEstimator(**(defaults | params))


def assert_same(a: MultiTaskCNNEstimator, b: MultiTaskCNNEstimator, **tolerance: Any) -> None:
    """Of the same predictions, history and state."""
    tolerance = {"rtol": 1e-9, "atol": 1e-9} | tolerance
    np.testing.assert_allclose(a.predict(X), b.predict(X), **tolerance)
    for name, rows in a.history_.items():
        np.testing.assert_allclose(rows, b.history_[name], **tolerance)
    for name, tensor in a.net_.criterion_.state_dict().items():
        np.testing.assert_allclose(tensor, b.net_.criterion_.state_dict()[name], **tolerance)


def fit_both(*args: Any, **params: Any) -> tuple[MultiTaskCNNEstimator, MultiTaskCNNEstimator]:
    """Fit without and with compiling; args make callbacks."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="compile=True")
        plain, compiled = (
            make([arg() for arg in args], compile=flag, **params).fit(X, Y)
            for flag in (False, True)
        )
    return plain, compiled


# Adam counts its steps in float32, and the compiled one also corrects for them in it.
LIKE_ADAM = {"rtol": 1e-4, "atol": 1e-5}


@pytest.mark.parametrize("loss", LOSSES)
def test_the_update_is_part_of_the_step(traced: Any, loss: str) -> None:
    """But for the first one, which makes the optimizer's state. Holes, and batches of two sizes."""
    plain, compiled = fit_both(loss=loss)
    assert traced == 11 * [True]
    assert_same(plain, compiled, **LIKE_ADAM)
    twin = pickle.loads(pickle.dumps(compiled))
    np.testing.assert_array_equal(twin.predict(X), compiled.predict(X))


@pytest.mark.parametrize("optimizer", ["SGD", "RMSprop", "NAdam"])
def test_other_optimizers_get_compiled_gradients(traced: Any, optimizer: str) -> None:
    plain, compiled = fit_both(optimizer=optimizer, learning_rate=0.01)
    assert traced == 11 * [False]
    assert_same(plain, compiled)


@pytest.mark.parametrize("name", ["amsgrad", "maximize"])
def test_variants_of_adam_get_compiled_gradients(traced: Any, name: str) -> None:
    params = {"net_params": {f"optimizer__{name}": True}}
    plain, compiled = (make(compile=flag, **params).fit(X, Y) for flag in (False, True))
    assert traced == 11 * [False]
    assert_same(plain, compiled)


def test_those_who_look_at_gradients_get_them(traced: Any) -> None:
    """Clipping: called in every batch, and with effect."""
    clip = functools.partial(GradientNormClipping, 1e-3)
    plain, compiled = fit_both(clip, optimizer="SGD", learning_rate=0.1)
    assert traced == 9 * [False]  # the callback is not known: every epoch begins as usual
    assert_same(plain, compiled)
    assert np.abs(compiled.predict(X) - make(compile=True).fit(X, Y).predict(X)).max() > 1e-3
    adam = fit_both(clip)
    assert_same(*adam)


class ByMatrix(nn.Module):
    """A convolution whose filters are kept in another memory order."""

    def __init__(self) -> None:
        super().__init__()
        self.filters = nn.Parameter(torch.randn(3, 3, 2, 4) / 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(nn.functional.conv2d(x, self.filters.permute(3, 2, 0, 1))).flatten(1)


@pytest.mark.parametrize("optimizer", ["Adam", "SGD"])
def test_gradients_come_in_the_memory_order_of_their_parameters(
    traced: Any, optimizer: str
) -> None:
    """Fused optimizers take both as they stand in memory."""
    rng = np.random.default_rng(0)
    images, clip = rng.normal(size=(len(Y), 2, 5, 5)), GradientNormClipping(1e6)
    torch.manual_seed(0)
    params = {"trunk": ByMatrix(), "optimizer": optimizer, "learning_rate": 0.01}
    params["net_params"] = {"callbacks": [clip]}
    plain, compiled = (make(compile=c, **params).fit(images, Y) for c in (False, True))
    assert traced == 9 * [False]
    np.testing.assert_allclose(compiled.predict(images), plain.predict(images), rtol=1e-4)


def test_callbacks_of_batches_are_called(traced: Any) -> None:
    """A schedule of the user, per batch, sets the rate of compiled updates; losses are numbers."""

    class Recorder(Callback):
        def __init__(self) -> None:
            self.losses_: list[Any] = []

        def on_batch_end(self, net: Any, y_pred: Any = None, **kwargs: Any) -> None:
            assert y_pred.shape[-1] == 4  # two classes, two numbers
            self.losses_.append(net.history[-1, "batches", -1, "train_loss"])

    schedule = functools.partial(LRScheduler, "StepLR", step_size=1, gamma=0.7, step_every="batch")
    plain, compiled = fit_both(schedule, Recorder)
    assert traced == 9 * [True]
    assert_same(plain, compiled, **LIKE_ADAM)
    losses = [dict(e.net_.callbacks_)["Recorder"].losses_ for e in (plain, compiled)]
    assert len(losses[1]) == 12
    assert {type(loss) for loss in losses[1]} == {float}
    np.testing.assert_allclose(*losses, **LIKE_ADAM)


def test_parameters_can_be_frozen_and_set_free(traced: Any) -> None:
    freeze = functools.partial(Freezer, "trunk.*", at=1)
    release = functools.partial(Unfreezer, "trunk.*", at=3)
    plain, compiled = fit_both(freeze, release)
    assert traced == 10 * [True]  # ordinary are the first step, and that after they were set free
    assert_same(plain, compiled, **LIKE_ADAM)


def test_parameters_without_a_gradient_stay(traced: Any) -> None:
    class Idle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.idle = nn.Linear(3, 5), nn.Linear(3, 5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.used(x)

    plain, compiled = fit_both(trunk=Idle, weight_decay=3)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        before = Idle()
    for estimator in (plain, compiled):
        weight = estimator.module_.trunk.idle.weight
        np.testing.assert_allclose(weight.detach(), before.idle.weight.detach(), rtol=1e-6)
    assert_same(plain, compiled, **LIKE_ADAM)


def test_buffers_are_kept(traced: Any) -> None:
    """Running statistics, which the step writes to."""
    trunk = nn.Sequential(nn.Linear(3, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.3))
    plain, compiled = fit_both(trunk=trunk, optimizer="SGD")
    assert traced == 11 * [False]  # all modules are known
    assert_same(plain, compiled)
    for name, buffer in plain.module_.named_buffers():
        np.testing.assert_allclose(buffer, compiled.module_.get_buffer(name), rtol=1e-9)
    assert compiled.module_.trunk[1].num_batches_tracked == 12


@pytest.mark.parametrize("max_shift", [0.0, 0.2])
def test_convolutions(traced: Any, max_shift: float) -> None:
    """The random shifts are those of the ordinary step."""
    images = np.random.default_rng(0).normal(size=(30, 8, 8))
    y = np.column_stack([images.mean(axis=(1, 2)), images[:, 0, 0] > 0])
    plain, compiled = (
        make(trunk=ConvTrunk(4, 8, max_shift), compile=flag, optimizer="SGD").fit(images, y)
        for flag in (False, True)
    )
    assert traced
    np.testing.assert_allclose(plain.predict(images), compiled.predict(images), rtol=1e-7)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_precisions(traced: Any, precision: str) -> None:
    plain, compiled = fit_both(precision=precision)
    assert traced == 11 * [True]
    assert_same(plain, compiled, rtol=0.02, atol=0.02)


def test_one_tracing_serves_all_of_a_structure(traced: Any) -> None:
    """Other seeds, rates, decays and batch sizes, as in a grid search."""
    make(compile=True).fit(X, Y)
    n_graphs = counters["stats"]["unique_graphs"]
    assert n_graphs == 1
    for seed, size in enumerate((8, 16, 31)):
        params = {"batch_size": size, "learning_rate": 0.001 * (seed + 1), "random_state": seed}
        make(compile=True, **params).fit(X, Y)
    assert counters["stats"]["unique_graphs"] == n_graphs
    for decay in (0.1, 0.2, 0.3):
        make(compile=True, weight_decay=decay).fit(X, Y)
    assert counters["stats"]["unique_graphs"] <= n_graphs + 2  # a number, then any number


def test_batches_of_one_row(traced: Any) -> None:
    plain, compiled = fit_both(batch_size=1, max_epochs=1, optimizer="SGD")
    assert traced == 61 * [False]
    assert_same(plain, compiled)


def fails(*args: Any) -> Any:
    raise RuntimeError("no C++ compiler found\nand more")


def test_without_a_compiler_the_ordinary_step_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one warning, and the same bits."""
    monkeypatch.setattr(_compile, "_compiled", lambda dynamic: fails)
    for params in ({}, {"optimizer": "SGD"}):
        plain = make(**params).fit(X, Y)
        with pytest.warns(UserWarning, match=r"no C\+\+ compiler found.* g\+\+") as found:
            compiled = make(compile=True, **params).fit(X, Y)
        assert len(found) == 1
        np.testing.assert_array_equal(plain.predict(X), compiled.predict(X))


def test_an_error_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(*args: Any) -> Any:
        raise NotImplementedError

    monkeypatch.setattr(_compile, "_compiled", lambda dynamic: silent)
    with pytest.warns(UserWarning, match="NotImplementedError: $"):
        make(compile=True).fit(X, Y)


class Averaging(nn.Module):
    """A rule that replaces its buffer, or counts in Python."""

    def __init__(self, replaces: bool) -> None:
        super().__init__()
        self.replaces, self.n = replaces, 0
        self.register_buffer("average", torch.ones(3, dtype=torch.float64))

    def forward(self, losses: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
        if self.replaces:
            self.average = 0.8 * self.average + 0.2 * losses.detach()
        elif self.training:
            self.n += 1
        return (losses / self.average).sum() / (1 + self.n)


@pytest.mark.parametrize("replaces", [False, True])
def test_what_others_wrote_is_not_trusted(traced: Any, replaces: bool) -> None:
    """Its state changes behind the back of compiled code: the ordinary step runs."""
    plain = make(loss=Averaging(replaces)).fit(X, Y)
    with pytest.warns(UserWarning, match="cannot be compiled"):
        compiled = make(loss=Averaging(replaces), compile=True).fit(X, Y)
    assert_same(plain, compiled, **LIKE_ADAM)
    assert compiled.net_.criterion_.combine.n == (0 if replaces else 12)


def test_hooks_are_called(traced: Any) -> None:
    class Clamped(nn.Linear):
        def __init__(self) -> None:
            super().__init__(3, 5)
            self.weight.register_hook(lambda gradient: 0 * gradient)

    plain = make(trunk=Clamped).fit(X, Y)
    with pytest.warns(UserWarning, match="has a hook"):
        compiled = make(trunk=Clamped, compile=True).fit(X, Y)
    assert_same(plain, compiled)
    assert not traced


def test_momenta_may_change_with_the_rate(traced: Any) -> None:
    """What is not a tensor is compiled in: another value is not overlooked."""
    schedule = functools.partial(
        LRScheduler,
        torch.optim.lr_scheduler.OneCycleLR,
        max_lr=0.01,
        total_steps=12,
        step_every="batch",
    )
    plain = make([schedule()]).fit(X, Y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it cannot be compiled, should it be so
        compiled = make([schedule()], compile=True).fit(X, Y)
    assert_same(plain, compiled, **LIKE_ADAM)


class NewOptimizer(Callback):
    """Starts the optimizer anew."""

    def __init__(self, event: str) -> None:
        self.event = event

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        if self.event == "train":
            net.initialize_optimizer()

    def on_epoch_begin(self, net: Any, **kwargs: Any) -> None:
        if self.event == "epoch" and len(net.history) == 2:
            net.initialize_optimizer()


@pytest.mark.parametrize("event", ["train", "epoch"])
def test_the_optimizer_may_be_replaced(traced: Any, event: str) -> None:
    plain, compiled = fit_both(functools.partial(NewOptimizer, event))
    assert traced
    assert_same(plain, compiled, **LIKE_ADAM)


def test_branches_may_be_switched_on(traced: Any) -> None:
    """Parameters whose first gradient comes late."""

    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.both = nn.Linear(3, 5), nn.Linear(3, 5), False

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.a(x) + self.b(x) if self.both else self.a(x)

    class Switch(Callback):
        def on_epoch_begin(self, net: Any, **kwargs: Any) -> None:
            net.module_.trunk.both = len(net.history) > 1

    plain, compiled = fit_both(Switch, trunk=Branches)
    assert traced
    assert_same(plain, compiled, **LIKE_ADAM)


def test_nothing_is_left_behind(traced: Any) -> None:
    """After an exception, and in a pickle that a callback makes meanwhile."""

    class Meddler(Callback):
        def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
            self.net_, self.pickle_ = net, pickle.dumps(net.__getstate__()["compiled"])
            raise ZeroDivisionError

    meddler = Meddler()
    with pytest.raises(ZeroDivisionError):
        make([meddler], compile=True).fit(X, Y)
    assert meddler.net_.compiled is None
    assert meddler.net_.heard is None
    assert pickle.loads(meddler.pickle_) is None


def test_what_cannot_be_traced_runs_as_it_is(traced: Any) -> None:
    """A rule that decides by a value."""

    def capricious(losses: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
        return losses.sum() if losses[0] > 0.1 else losses.square().sum()

    plain = make(loss=capricious).fit(X, Y)
    with pytest.warns(UserWarning, match="cannot be compiled"):
        compiled = make(loss=capricious, compile=True).fit(X, Y)
    assert_same(plain, compiled)


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_compiled_code() -> None:
    """Once with the real compiler."""
    counters.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's own parts
        warnings.filterwarnings("error", message="compile=True")
        compiled = make(compile=True).fit(X, Y)
    assert counters["stats"]["unique_graphs"] == 1
    assert_same(make().fit(X, Y), compiled, **LIKE_ADAM)


def test_a_stream_is_compiled_too(traced: list[bool]) -> None:
    ordinary, compiled = make(), make(compile=True)
    for _ in range(3):
        ordinary.partial_fit(X, Y)
        compiled.partial_fit(X, Y)
    assert traced == 9 * [True]  # all steps of a call but its first one
    assert_same(ordinary, compiled, **LIKE_ADAM)
