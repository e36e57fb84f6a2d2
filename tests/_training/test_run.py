"""Training that is interrupted, and training that fails."""

import contextlib
import os
import re
import signal
import threading
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from _fits import Recorder, X, Y, assert_consistent, make, weights_of
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from skorch.callbacks import Callback, EarlyStopping

from sklearn_mtl import MultiTaskCNNEstimator, Task
from sklearn_mtl.networks import ConvTrunk, DenseTrunk, Ensemble

# -- interruption --------------------------------------------------------------------------------


def stop():
    raise KeyboardInterrupt


def interrupt_process():
    os.kill(os.getpid(), signal.SIGINT)


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
    with pytest.warns(ConvergenceWarning, match="interrupted the training in epoch"):
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
    ("event", "count"),
    [
        ("train_begin", 1),
        ("epoch_begin", 1),
        ("batch_begin", 1),
        ("batch_end", 1),
        ("batch_end", 4),
        ("valid_end", 2),
        ("epoch_end", 3),
        ("train_end", 1),
    ],
)
def test_ctrl_c_is_no_success(event, count, batch_size):
    """Not in the first or the last batch either; the estimator and Ctrl-C are as they were."""
    estimator = make(batch_size=batch_size).fit(X, X[:, :2])
    before = weights_of(estimator).clone()
    recorder = Recorder(event, count, interrupt_process)
    estimator.set_params(net_params={"callbacks": [recorder]}, max_epochs=5)
    with pytest.raises(KeyboardInterrupt):
        estimator.fit(X, Y, X_val=X[:9], y_val=Y[:9])
    assert recorder.events.count(event) == count
    assert (recorder.events[-1] == "train_end") == (event != "train_begin")
    assert estimator.predict(X).shape == (60, 2)
    assert torch.equal(weights_of(estimator), before)


class Pressing(torch.nn.Linear):
    """Somebody presses Ctrl-C while a batch of the training goes through the trunk."""

    def forward(self, x):
        if self.training and len(x) > 2:
            interrupt_process()
        return super().forward(x)


@pytest.mark.usefixtures("default_sigint")
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_ctrl_c_in_the_only_batch(method):
    estimator = make(trunk=Pressing(3, 4), batch_size=60, max_epochs=1)
    with pytest.raises(KeyboardInterrupt):
        getattr(estimator, method)(X, Y)
    assert not hasattr(estimator, "module_")


@pytest.mark.usefixtures("default_sigint")
def test_ctrl_c_that_a_callback_swallows_counts():
    class Swallowing(Recorder):
        def on_batch_end(self, net, **kwargs):
            with contextlib.suppress(KeyboardInterrupt):
                interrupt_process()

    with pytest.raises(KeyboardInterrupt):
        make([Swallowing("never", 0, stop)]).fit(X, Y)


class Presses(Callback):
    """Somebody presses Ctrl-C in the second epoch."""

    n_fits = 0

    def on_train_begin(self, net, **kwargs):
        Presses.n_fits += 1

    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == 2:
            interrupt_process()


@pytest.mark.usefixtures("default_sigint")
def test_ctrl_c_stops_a_search():
    Presses.n_fits = 0
    search = GridSearchCV(make([Presses()]), {"learning_rate": [0.01, 0.02]}, cv=2)
    with pytest.raises(KeyboardInterrupt):
        search.fit(X, Y)
    assert Presses.n_fits == 1


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
    with pytest.raises(ValueError, match=r"loss is not finite in epoch \d. Lower learning_rate"):
        estimator.fit(X, Y)
    np.testing.assert_array_equal(estimator.predict(X), before)


def test_an_error_in_a_callback_is_not_swallowed():
    def fail():
        raise RuntimeError("mine")

    estimator = make([Recorder("batch_end", 2, fail)])
    with pytest.raises(RuntimeError, match="mine"):
        estimator.fit(X, Y)
    assert not hasattr(estimator, "net_")


def test_a_network_of_frozen_parameters_is_refused():
    """By name, and not by what autograd has to say of it."""
    est = make(warm_start=True).fit(X, Y)
    est.module_.requires_grad_(False)
    with pytest.raises(ValueError, match="All parameters of the network are frozen"):
        est.fit(X, Y)


def test_frozen_heads_are_not_balanced_either():
    """The closing constant of counts belongs to the bias of the heads."""
    counts = np.random.default_rng(0).poisson(np.exp(X[:, 0])).astype(float)
    est = make(tasks=[Task("n", "poisson")], warm_start=True, max_epochs=2).fit(X, counts)
    est.module_.heads.requires_grad_(False)
    before = est.module_.heads.bias.clone()
    assert est.fit(X, counts).module_.heads.bias.equal(before)
    est.module_.heads.requires_grad_(True)
    assert not est.fit(X, counts).module_.heads.bias.equal(before)


# -- tasks that say when to stop ------------------------------------------------------------------


def noisy_and_clean(n=300):
    """A clean number, which goes on to be learned, and noise, which is learned by heart soon."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 4))
    return X, pd.DataFrame({"clean": np.sin(2 * X[:, 0]) + X[:, 1], "noise": rng.normal(size=n)})


def stopped_by(early_stopping, **fit):
    X, y = noisy_and_clean()
    estimator = MultiTaskCNNEstimator(
        early_stopping=early_stopping, n_iter_no_change=4, random_state=0, max_epochs=60
    )
    return estimator.fit(X, y, **fit)


def test_the_tasks_that_are_watched_say_when_to_stop():
    noise, clean = stopped_by(["noise"]), stopped_by("clean")
    assert noise.n_iter_ < clean.n_iter_
    for estimator, name in ((noise, "noise"), (clean, "clean")):
        loss = [epoch["valid_loss"] for epoch in estimator.net_.history]
        alone = [epoch[f"valid_loss/{name}"] for epoch in estimator.net_.history]
        np.testing.assert_array_equal(np.argsort(loss), np.argsort(alone))


def test_all_tasks_that_are_named_are_all_tasks():
    one, other = stopped_by(True), stopped_by(("clean", "noise"))
    assert one.n_iter_ == other.n_iter_
    np.testing.assert_array_equal(one.history_["valid_loss"], other.history_["valid_loss"])


def test_tasks_to_watch_that_are_not_there():
    with pytest.raises(ValueError, match=r"early_stopping names unknown tasks \['nose'\]"):
        stopped_by(["nose"])
    X, y = noisy_and_clean(20)
    with pytest.raises(ValueError, match="no observed target of a task that early_stopping names"):
        stopped_by("noise", X_val=X, y_val=y.assign(noise=np.nan))


def test_tasks_that_are_not_watched_need_no_validation_targets():
    X, y = noisy_and_clean(60)
    y.loc[1:, "noise"] = np.nan
    estimator = MultiTaskCNNEstimator(early_stopping="clean", random_state=0, max_epochs=3)
    assert np.isfinite(estimator.fit(X, y).history_["valid_loss"][:, 0]).all()
    with pytest.warns(UserWarning, match=r"early_stopping does not look at \['noise'\]"):
        estimator.set_params(early_stopping=True).fit(X, y)
    with pytest.raises(ValueError, match="'noise' has 1"):
        estimator.set_params(early_stopping="noise").fit(X, y)


def test_a_fit_whose_outputs_diverge_is_no_success():
    """Losses stay finite here, which quantiles measure one by one; outputs do not."""
    settings = {"optimizer": "SGD", "learning_rate": 1e20, "precision": "float32"}
    trunk = DenseTrunk((4,), n_members=1, n_frequencies=0)
    estimator = make(tasks=[Task("y", "quantile")], trunk=trunk, batch_size=20, **settings)
    with pytest.raises(ValueError, match="Lower learning_rate"):
        estimator.fit(X, X[:, 0] + Y[:, 0])


def test_a_validation_loss_that_is_not_finite_names_the_validation_data():
    y = X[:, 0]
    with pytest.raises(ValueError, match=r"validation loss is not finite.*X_val and y_val"):
        make(early_stopping=True, precision="float32").fit(X, y, X_val=X, y_val=1e30 * y)


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"optimizer": "SparseAdam"}, "sparse gradients only"),
        ({"net_params": {"callbacks": [3]}}, "holds 3 among its callbacks"),
        ({"net_params": {"callbacks": [("mine", 3)]}}, "among its callbacks"),
        ({"net_params": {1: 2}}, "names as its keys"),
        ({"net_params": {"history": 3}}, "which the estimator sets itself"),
        (
            {"net_params": {"optimizer__fused": True, "optimizer__foreach": True}},
            "optimizer=AdamW and net_params do not go together",
        ),
        ({"trunk": lambda: 1 / 0}, "fails when it is called: ZeroDivisionError"),
        ({"head_hidden_units": 10**12}, "head_hidden_units=1000000000000 cannot be made"),
    ],
)
def test_parameters_that_cannot_be_are_named(params, said):
    estimator = make(**params)
    with pytest.raises(ValueError, match=said):
        estimator.fit(X, Y)
    assert not hasattr(estimator, "net_")


@pytest.mark.parametrize(
    "params",
    [
        *({"loss": "none"}, {"trunk": "none"}, {"batch_size": 0}, {"net_params": [1]}),
        *({"task_weights": "none"}, {"weight_decay": "none"}, {"precision": "none"}),
    ],
)
def test_a_stream_checks_parameters_in_every_call(params):
    estimator = make().partial_fit(X, Y)
    with pytest.raises(ValueError, match=next(iter(params))):
        estimator.set_params(**params).partial_fit(X, Y)


# -- nothing learned -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def two_images():
    """Two images, many times: of what they show one target tells, and three do not."""
    shown = np.repeat([0.0, 1.0], 32)
    noise = np.tile([0.0, 1.0], 32)  # as often on both sides
    y = pd.DataFrame({"shown": shown, "a": noise + 3, "b": noise, "one": 1.0})
    return shown[:, None, None] * np.ones((8, 8)), y


SMALL = ConvTrunk(width=2, n_features=4)


@pytest.mark.parametrize("early_stopping", [False, True])
def test_tasks_that_stay_at_their_constants_are_named(two_images, early_stopping):
    images, y = two_images
    params = {"trunk": SMALL, "early_stopping": early_stopping, "random_state": 0}
    estimator = MultiTaskCNNEstimator({"a": "regression"}, **params)
    with pytest.warns(ConvergenceWarning) as caught:
        estimator.fit(images, y.drop(columns="one"))
    (message,) = [str(w.message) for w in caught]
    kept = np.argmin(estimator.net_.history[:, "valid_loss"]) if early_stopping else -1
    share = estimator.history_["train_loss"][kept, 1] / estimator.net_.constant_losses_[1]
    assert message.startswith("Task 'a' was not learned: the loss on its training rows ended at ")
    assert f" {share:.3g} times that of the best constant" in message
    assert message.endswith("The like holds for 'b'.")
    assert "weight_decay (here 3)" in message


def test_the_advice_is_of_what_was_set(two_images):
    """There may be no decay to lower, and patience may have ended the training."""
    images, y = two_images
    params = {"trunk": SMALL, "optimizer": "Adam", "random_state": 0}
    advice = {False: "raise max_epochs (here 100)", True: "raise n_iter_no_change (here 10)"}
    for early_stopping, expected in advice.items():
        estimator = MultiTaskCNNEstimator(early_stopping=early_stopping, **params)
        with pytest.warns(ConvergenceWarning, match=re.escape(f"about it, {expected}, or try")):
            estimator.fit(images, y[["b"]])


class RunAway(Callback):
    """At the begin of an epoch, the outputs of one member are a thousand times as large."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch_begin(self, net, **kwargs):
        if len(net.history) == self.epoch:
            with torch.no_grad():
                net.module_.heads.bias[-1] += 1000


@pytest.mark.parametrize(
    ("trunk", "max_epochs"),
    [
        (Ensemble(SMALL, 3), 3),
        (DenseTrunk((4,), n_members=2), 3),
        (DenseTrunk((4,), n_members=2), "auto"),
        (SMALL, "auto"),
    ],
)
def test_who_runs_away_is_told_of(two_images, trunk, max_epochs):
    """Rows left out shrink what it says, so that scores alone would look like those of noise."""
    images, y = two_images
    params = {"trunk": trunk, "max_epochs": max_epochs, "random_state": 0}
    params["net_params"] = {"callbacks": [RunAway(1)]}
    with pytest.warns(
        ConvergenceWarning, match=r"'shown' was not learned.*Lower learning_rate \(here 0.002\)"
    ):
        MultiTaskCNNEstimator({"shown": "regression"}, **params).fit(images, y[["shown"]])


def test_lbfgs_that_runs_away_is_told_to_search_along_lines(two_images):
    images, y = two_images
    params = {"optimizer": "LBFGS", "learning_rate": 0.1, "max_epochs": 2, "random_state": 0}
    params["net_params"] = {"callbacks": [RunAway(2)], "optimizer__max_iter": 1}
    estimator = MultiTaskCNNEstimator({"shown": "regression"}, trunk=Ensemble(SMALL, 2), **params)
    with pytest.warns(
        ConvergenceWarning, match=r"\(here 0.1\), or pass net_params={.*strong_wolfe"
    ):
        estimator.fit(images, y[["shown"]])
    searches = {"optimizer__line_search_fn": "strong_wolfe"}
    estimator.set_params(net_params=searches).fit(images, y[["shown"]])
    assert estimator.history_["train_loss"][-1] < estimator.net_.constant_losses_


NEARLY = 1e9 + 1e-6 * np.random.default_rng(0).normal(size=64)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("regression", np.tile([0.3, 0.1 + 0.2], 32)),
        ("regression", NEARLY),
        ("poisson", 1e6 + np.tile([0, 1], 32)),
        ("gamma", 1e6 + np.tile([0, 1], 32)),
    ],
)
@pytest.mark.parametrize("trunk", [DenseTrunk((4,), n_members=2), SMALL])
def test_targets_that_hardly_vary_do_not_run_away(two_images, kind, values, trunk):
    """The loss of their constant is next to nothing, and others are many times that."""
    images, y = two_images
    estimator = MultiTaskCNNEstimator({"shown": "regression", "x": kind}, trunk=trunk)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        estimator.set_params(random_state=0).fit(images, y[["shown"]].assign(x=values))
    assert not [w for w in caught if "Lower learning_rate" in str(w.message)]


def test_who_is_put_back_has_not_run_away(two_images):
    images, y = two_images
    best = EarlyStopping("train_loss", load_best=True)
    params = {"max_epochs": 3, "random_state": 0, "net_params": {"callbacks": [best, RunAway(2)]}}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        MultiTaskCNNEstimator(trunk=Ensemble(SMALL, 2), **params).fit(images, y[["shown"]])


def test_who_runs_away_after_the_epoch_that_is_kept_is_not():
    table = np.random.default_rng(0).normal(size=(64, 2))
    trunk, net_params = DenseTrunk((8,), n_members=2), {"callbacks": [RunAway(9)]}
    params = {"trunk": trunk, "learning_rate": 0.02, "random_state": 0}
    estimator = MultiTaskCNNEstimator(net_params=net_params, **params).fit(table, table.sum(axis=1))
    loss = estimator.history_["train_loss"]
    assert loss[-1] > 1000 * loss[0]
    assert estimator.oob_score_["y0"] > 0.5


def test_tasks_without_weight_are_not_to_be_learned(two_images):
    images, y = two_images
    weights = {"a": 0, "b": 0}
    params = {"trunk": SMALL, "task_weights": weights, "random_state": 0}
    MultiTaskCNNEstimator({"a": "regression"}, **params).fit(images, y[["shown", "a", "b"]])


def test_who_chose_the_epochs_knows_that_they_may_be_few(two_images):
    """And constants are right where rows that were left out say so, or all targets are alike."""
    images, y = two_images
    numbers = {"a": "regression"}
    MultiTaskCNNEstimator(numbers, trunk=SMALL, max_epochs=1).fit(images, y[["a"]])
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(2000, 3))
    trunk = DenseTrunk((4,), n_members=2)
    estimator = MultiTaskCNNEstimator(trunk=trunk, random_state=0).fit(noise[:, :2], noise[:, 2])
    assert estimator.history_["train_loss"][-1] > 0.99 * estimator.net_.constant_losses_
    MultiTaskCNNEstimator({"one": "regression"}, trunk=SMALL).fit(images, y[["shown", "one"]])
    with pytest.warns(UserWarning, match="one") as caught:
        MultiTaskCNNEstimator({"one": "classification"}, trunk=SMALL).fit(
            images, y[["shown", "one"]]
        )
    assert not any(isinstance(w.message, ConvergenceWarning) for w in caught)


def test_who_stops_a_fit_knows_that_it_was_brief(two_images):
    class Stop:
        def setup(self, estimator, context): ...

        def teardown(self, estimator, context): ...

        def on_fit_task_begin(self, estimator, context): ...

        def on_fit_task_end(self, estimator, context):
            return context.task_name == "epoch"

    images, y = two_images
    estimator = MultiTaskCNNEstimator({"a": "regression"}, trunk=SMALL).set_callbacks(Stop())
    assert estimator.fit(images, y[["a"]]).n_iter_ == 1
