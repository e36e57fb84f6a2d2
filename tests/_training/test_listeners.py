"""Callbacks of skorch: our schedule, early stopping, and those of the user."""

import warnings

import numpy as np
import pytest
from _fits import N_TASKS, Recorder, X, Y, assert_consistent, make
from skorch.callbacks import BatchScoring, EarlyStopping, EpochScoring, LRScheduler

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
