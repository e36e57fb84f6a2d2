"""Small fits of one table, for tests of the training."""

import pickle

import numpy as np
from _inputs import make_table
from skorch.callbacks import Callback
from torch import nn

from sklearn_mtl import MultiTaskCNNEstimator
from sklearn_mtl.networks import DenseTrunk

X, Y = make_table(60)
N_TASKS = Y.shape[1]
LOW_RATE = 1e-12  # so that the weights stand still


def make(callbacks=(), **params):
    """A small estimator: four batches of 15 rows per epoch."""
    net_params = {"callbacks": list(callbacks)} if callbacks else None
    defaults = {
        "trunk": DenseTrunk((8,), n_members=2),
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
