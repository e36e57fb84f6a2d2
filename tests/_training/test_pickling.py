"""Fitted estimators in the files and copies of others: pickle, joblib, cloudpickle and deepcopy."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import cloudpickle
import joblib
import numpy as np
import pytest
from _asserts import assert_predicts_the_same
from _saved import make
from sklearn.callback import ProgressBar
from skorch.callbacks import Callback

X = np.random.default_rng(6).normal(size=(40, 3))
Y = np.column_stack([X[:, 0] > 0, X[:, 1]])


def by_joblib(estimator: Any) -> Any:
    file = io.BytesIO()
    joblib.dump(estimator, file)
    file.seek(0)
    return joblib.load(file)


COPIES: dict[str, Callable[[Any], Any]] = {
    "pickle": lambda estimator: pickle.loads(pickle.dumps(estimator)),
    "joblib": by_joblib,
    "cloudpickle": lambda estimator: cloudpickle.loads(cloudpickle.dumps(estimator)),
    "deepcopy": copy.deepcopy,
}


class Counter(Callback):
    """Counts epochs."""

    count = 0

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        self.count += 1


def total(losses: Any, counts: Any) -> Any:
    return losses.sum()


ESTIMATORS: dict[str, Callable[[], Any]] = {
    "a numbered device": lambda: make(device="cpu:0"),
    "a function as loss": lambda: make(loss=total),
    "a callback of skorch": lambda: make(net_params={"callbacks": [Counter()]}),
    "a callback of scikit-learn": lambda: make().set_callbacks(ProgressBar()),
    "a lambda as loss": lambda: make(loss=lambda losses, counts: losses.sum()),
    "a lambda as trunk": lambda: make(trunk=lambda: __import__("torch").nn.Linear(3, 4)),
}


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_copy_predicts_and_goes_on(name, how, capsys):
    """As the original does, to the last bit; pickle itself knows no lambdas."""
    estimator = ESTIMATORS[name]().partial_fit(X, Y)
    if "lambda" in name and how in ("pickle", "joblib"):
        with pytest.raises((pickle.PicklingError, AttributeError), match="lambda"):
            COPIES[how](estimator)
        return
    twin = COPIES[how](estimator)
    assert_predicts_the_same(twin, estimator, X, Y)
    assert twin.net_.device == "cpu"
    assert twin.device == estimator.device
    for each in (twin, estimator):
        each.partial_fit(X, Y)
    assert_predicts_the_same(twin, estimator, X, Y)
