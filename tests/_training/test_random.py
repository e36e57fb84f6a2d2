"""Randomness: one seed gives the same bits, and global states are left as found."""

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from _asserts import assert_random_states_untouched
from _fits import X, Y, make, weights_of
from skorch.callbacks import Callback, Initializer
from torch import nn
from torch.utils.checkpoint import checkpoint

from sklearn_mtl._training.random import Draws
from sklearn_mtl.networks import ConvTrunk, DenseTrunk


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


@contextlib.contextmanager
def default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    yield
    torch.set_default_dtype(before)


SETTINGS = {
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "default dtype": lambda: default_dtype(torch.float64),
    "default device": lambda: torch.device("meta"),
}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_what_stands_around_says_nothing(setting, method, precision):
    """The same bits, in training and in prediction; and it is left as it was."""
    expected = getattr(make(precision=precision), method)(X, Y)
    with SETTINGS[setting]():
        found = getattr(make(precision=precision), method)(X, Y)
        assert torch.is_autocast_enabled("cpu") == (setting == "autocast")
        assert torch.is_grad_enabled() == (setting not in ("no_grad", "inference_mode"))
        np.testing.assert_array_equal(found.predict_proba(X), expected.predict_proba(X))
    assert torch.equal(weights_of(found), weights_of(expected))
    assert all(p.requires_grad and not p.is_inference() for p in found.module_.parameters())


# -- threads --------------------------------------------------------------------------------------


class Noisy(nn.Module):
    """A module of the user that draws in its own way, besides a layer of torch that does."""

    def __init__(self):
        super().__init__()
        self.linear, self.drop = nn.Linear(3, 8), nn.Dropout(0.3)

    def forward(self, x):
        noise = torch.randn_like(x) if self.training else 0
        return self.drop(torch.relu(self.linear(x + noise)))


class Recomputing(nn.Module):
    """Runs its forward pass again in the backward pass, with the same draws."""

    def __init__(self, use_reentrant=False):
        super().__init__()
        self.inner, self.use_reentrant = (
            nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5)),
            use_reentrant,
        )

    def forward(self, x):
        if not self.training:
            return self.inner(x)
        return checkpoint(self.inner, x.requires_grad_(), use_reentrant=self.use_reentrant)


class RandomWeights(nn.Module):
    """A rule that weighs tasks at random."""

    def forward(self, losses, counts):
        return (losses * torch.rand_like(losses)).sum()


class NoisySGD(torch.optim.SGD):
    """An optimizer that draws in its steps."""

    def step(self, closure=None):
        loss = super().step(closure)
        with torch.no_grad():
            for group in self.param_groups:
                for p in group["params"]:
                    p.add_(1e-3 * torch.randn_like(p))
        return loss


class NoisyGradients(Callback):
    """A callback that draws between steps."""

    def on_grad_computed(self, net, named_parameters, **kwargs):
        for _, p in named_parameters:
            p.grad.add_(1e-3 * torch.randn_like(p))


def random_layers():
    return nn.Sequential(
        nn.Unflatten(1, (1, 3)), nn.Conv1d(1, 4, 1), nn.Dropout1d(0.2), nn.RReLU(),
        nn.Flatten(), nn.AlphaDropout(0.2), nn.Linear(12, 8), nn.Dropout(0.5, inplace=True),
    )  # fmt: skip


DRAWING = {
    "dense": lambda seed: make(trunk=DenseTrunk((8,), 3), random_state=seed),
    "dropout": lambda seed: make(trunk=dropout_trunk, random_state=seed),
    "layers": lambda seed: make(trunk=random_layers, random_state=seed),
    "shift": lambda seed: make(trunk=shifting_trunk, random_state=seed),
    "module": lambda seed: make(trunk=Noisy, random_state=seed, early_stopping=True),
    "transformer": lambda seed: make(
        trunk=lambda: nn.Sequential(
            nn.Unflatten(1, (3, 1)),
            nn.Linear(1, 4),
            nn.TransformerEncoderLayer(4, 2, 8),
            nn.Flatten(),
        ),
        random_state=seed,
    ),
    "loss": lambda seed: make(loss=RandomWeights(), random_state=seed),
    "optimizer": lambda seed: make(optimizer=NoisySGD, random_state=seed),
    "callback": lambda seed: make([NoisyGradients()], random_state=seed),
    "initializer": lambda seed: make([Initializer("*bias", nn.init.normal_)], random_state=seed),
}


@contextlib.contextmanager
def others_drawing():
    """Another thread draws from torch's global generator all the time."""
    stop = threading.Event()

    def draw():
        while not stop.is_set():
            torch.randn(3)

    thread = threading.Thread(target=draw)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("name", DRAWING)
def test_what_draws_in_a_fit_leaves_the_global_generator_alone(name):
    with assert_random_states_untouched():
        expected = weights_of(DRAWING[name](0).fit(X, Y))
    torch.manual_seed(5)
    assert torch.equal(weights_of(DRAWING[name](0).fit(X, Y)), expected)
    assert not torch.equal(weights_of(DRAWING[name](1).fit(X, Y)), expected)


@pytest.mark.parametrize("name", DRAWING)
def test_fits_side_by_side_are_those_one_after_another(name):
    """Also while somebody else draws from the global generator."""

    def stream(seed):
        estimator = DRAWING[name](seed).set_params(early_stopping=False)
        for rows in (slice(0, 30), slice(30, 60)):
            estimator.partial_fit(X[rows], Y[rows])
        return weights_of(estimator)

    def fit(seed):
        return weights_of(DRAWING[name](seed).fit(X, Y))

    for learn in (fit, stream):
        expected = [learn(seed) for seed in range(3)]
        with others_drawing(), ThreadPoolExecutor(3) as pool:
            found = list(pool.map(learn, range(3)))
        assert all(map(torch.equal, found, expected))


class Meeting(Callback):
    """Waits in each batch until the other fit is in one too."""

    def __init__(self, barrier):
        self.barrier = barrier

    def on_batch_end(self, net, training=None, **kwargs):
        self.barrier.wait(timeout=60)


class MeetingTrunk(nn.Module):
    """Waits in each forward pass of the training."""

    def __init__(self, barrier):
        super().__init__()
        self.linear, self.barrier = nn.Linear(3, 8), [barrier]

    def __deepcopy__(self, memo):
        return MeetingTrunk(self.barrier[0])

    def forward(self, x):
        if self.training:
            self.barrier[0].wait(timeout=60)
        return self.linear(x)


@pytest.mark.parametrize("name", ["dense", "dropout", "shift", "module"])
def test_fits_in_two_threads_overlap(name):
    """They meet in every batch: with a lock for a fit, one would wait for ever."""
    barrier = threading.Barrier(2)

    def fit(seed):
        estimator = DRAWING[name](seed).set_params(net_params={"callbacks": [Meeting(barrier)]})
        return estimator.fit(X, Y).n_iter_

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(fit, range(2))) == [3, 3]


def test_forward_passes_of_unknown_modules_overlap():
    barrier = threading.Barrier(2)

    def fit(seed):
        trunk = lambda: MeetingTrunk(barrier)  # noqa: E731
        return make(trunk=trunk, random_state=seed, max_epochs=12).fit(X, Y).n_iter_

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(fit, range(2))) == [12, 12]


class Late:
    """Draws for the first time in the 40th call, and now and then."""

    n_calls = 0

    def noise(self, like):
        self.n_calls += 1
        return torch.randn_like(like) if self.n_calls >= 40 and self.n_calls % 3 else 0


class LateTrunk(Late, nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.norm = nn.Linear(3, 8), nn.BatchNorm1d(8)
        self.register_buffer("mean", torch.zeros(8))

    def forward(self, x):
        z = self.norm(self.linear(x))
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * z.detach().mean(0)  # another tensor each time
            z = z + self.mean + self.noise(z)
        return z


class NoisyBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, late):
        ctx.late = late
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return grad + ctx.late.noise(grad), None


class LateBackward(Late, nn.Linear):
    def forward(self, x):
        return NoisyBackward.apply(super().forward(x), self)


class LateLoss(Late, nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("total", torch.zeros(()))

    def forward(self, losses, counts):
        self.total += losses.detach().sum()
        return (losses * (1 + 0.1 * self.noise(losses))).sum() / (1 + self.total)


class LateSGD(Late, torch.optim.SGD):
    """Langevin's steps: noise, once the first ones are done."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs, momentum=0.9)

    def step(self, closure=None):
        loss = super().step(closure)
        with torch.no_grad():
            for group in self.param_groups:
                noise = self.noise(group["params"][0])
                group["params"][0].add_(1e-2 * noise)
        return loss


class LateCallback(Late, Callback):
    def on_batch_end(self, net, training=None, **kwargs):
        with torch.no_grad():
            for p in net.module_.parameters():
                p.add_(1e-3 * self.noise(p))


LATE = {
    "module": lambda: {"trunk": LateTrunk},
    "backward": lambda: {"trunk": lambda: LateBackward(3, 8)},
    "loss": lambda: {"loss": LateLoss()},
    "optimizer": lambda: {"optimizer": LateSGD},
    "callback": lambda: {"net_params": {"callbacks": [LateCallback()]}},
    "module, several times a step": lambda: {
        "trunk": LateTrunk,
        "optimizer": "LBFGS",
        "max_epochs": 2,
    },
}


@pytest.mark.parametrize("name", LATE)
def test_code_that_draws_late_draws_from_the_seed_too(name):
    """A step in which it is noticed is done again."""

    def fit(seed):
        params = {"batch_size": 10, "max_epochs": 10} | LATE[name]()
        return make(random_state=seed, **params).fit(X, Y)

    torch.manual_seed(1)
    with assert_random_states_untouched():
        expected = fit(0)
    torch.manual_seed(2)
    found = fit(0)
    assert torch.equal(weights_of(found), weights_of(expected))
    for loss, other in zip(found.history_.values(), expected.history_.values(), strict=True):
        np.testing.assert_array_equal(loss, other)
    assert not torch.equal(weights_of(fit(1)), weights_of(expected))


@pytest.mark.parametrize("name", ["module", "loss", "optimizer"])
def test_a_step_that_is_done_again_is_as_if_done_once(name, monkeypatch):
    """Equal to a fit that is watched all the time."""

    def fit():
        return make(batch_size=10, max_epochs=10, **LATE[name]()).fit(X, Y)

    found = fit()
    monkeypatch.setattr("sklearn_mtl._training.random.CALM", 10**6)
    expected = fit()
    assert torch.equal(weights_of(found), weights_of(expected))
    for loss, other in zip(found.history_.values(), expected.history_.values(), strict=True):
        np.testing.assert_array_equal(loss, other)


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_what_a_fit_predicts_is_drawn_from_the_seed_too(method):
    """By a module that draws also where it is not trained."""

    class Blurred(nn.Linear):
        def forward(self, x):
            return super().forward(x) + 0.1 * torch.randn(8)

    def noise():
        estimator = make(trunk=lambda: Blurred(3, 8))
        return getattr(estimator, method)(X, Y).noise_std_

    with assert_random_states_untouched():
        expected = noise()
    torch.manual_seed(5)
    np.testing.assert_array_equal(noise(), expected)


def test_draws_of_somebody_else_are_not_taken_back():
    """They look as if the step had drawn, which it has not: it is done again, and that is all."""

    class Beside(nn.Linear):
        def forward(self, x):
            if self.training and len(x) > 2:
                thread = threading.Thread(target=lambda: drawn.append(torch.randn(1).item()))
                thread.start()
                thread.join()
            return super().forward(x)

    drawn, trunk = [], Beside(3, 8)
    torch.manual_seed(3)
    make(trunk=trunk, batch_size=10, max_epochs=10).fit(X, Y)
    torch.manual_seed(3)
    assert drawn == [torch.randn(1).item() for _ in drawn]


def test_batch_statistics_are_those_of_one_pass_where_a_step_is_done_again():
    class Normed(Recomputing):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm1d(3)

        def forward(self, x):
            return super().forward(self.norm(x))

    class Kept(Normed):
        def forward(self, x):
            return self.inner(self.norm(x))

    again, kept = (make(trunk=trunk).fit(X, Y).module_.trunk.norm for trunk in (Normed, Kept))
    assert again.num_batches_tracked == kept.num_batches_tracked
    torch.testing.assert_close(again.running_mean, kept.running_mean)


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_what_is_computed_again_in_the_backward_pass_draws_the_same_again(use_reentrant):
    """Equal to what is kept: gradients are those of the same draws."""
    kept = make(trunk=lambda: nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5))).fit(X, Y)
    with assert_random_states_untouched():
        again = make(trunk=lambda: Recomputing(use_reentrant)).fit(X, Y)
    torch.testing.assert_close(weights_of(again), weights_of(kept))


def test_layers_are_as_they_were_between_steps():
    class Looking(Callback):
        def on_batch_end(self, net, **kwargs):
            found.append({name for m in net.module_.modules() for name in vars(m)})

    found = []
    make([Looking()], trunk=dropout_trunk).fit(X, Y)
    assert found
    assert not any(names & {"forward", "generator"} for names in found)


def test_states_of_a_training_can_be_taken_and_given_back():
    draws = Draws(3, "cpu")
    state = draws.state_dict()

    def numbers():
        with draws.drawing():
            return torch.randn(4).tolist(), draws.order.random(3).tolist()

    first, second = numbers(), numbers()
    assert first != second
    draws.load_state_dict(state)
    assert (numbers(), numbers()) == (first, second)


def test_default_dtype_of_the_process_is_never_changed():
    """It is one for all threads."""
    seen, stop = set(), threading.Event()

    def look():
        while not stop.is_set():
            seen.add(torch.get_default_dtype())

    expected = weights_of(make(random_state=0).fit(X, Y))
    with default_dtype(torch.float64):
        thread = threading.Thread(target=look)
        thread.start()
        with ThreadPoolExecutor(2) as pool:
            found = list(pool.map(lambda _: weights_of(make(random_state=0).fit(X, Y)), range(2)))
        stop.set()
        thread.join()
    assert seen == {torch.float64}
    assert all(torch.equal(weights, expected) for weights in found)
