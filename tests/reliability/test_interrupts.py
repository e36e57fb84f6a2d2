"""Ctrl-C at any moment: always a KeyboardInterrupt, and everything is as it was before the call.

A moment is a call of a function, in whatever library, also of a generator that Python ends: a trial
counts calls, and presses Ctrl-C at one of them.
"""

from __future__ import annotations

import copy
import gc
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch
from _asserts import assert_random_states_untouched
from _inputs import make_table
from _trials import several
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from sklearn_mtl import MultiTaskCNNEstimator
from sklearn_mtl.networks import DenseTrunk

X, Y = make_table(40)

# What Python loses, and says so.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


class AtCall:
    """Calls `act` once at the n-th call of a function in this context; an `n` of 0 counts."""

    def __init__(self, n: int, act: Callable[[], Any]) -> None:
        self.n, self.act, self.calls = n, act, 0

    def _note(self, frame: Any, event: str, argument: Any) -> None:
        if event == "call":
            self.calls += 1
            if self.calls == self.n:
                sys.setprofile(None)
                self.act()

    def __enter__(self) -> AtCall:
        sys.setprofile(self._note)
        return self

    def __exit__(self, *error: object) -> None:
        sys.setprofile(None)


@pytest.fixture(autouse=True)
def default_sigint() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    gc.disable()  # what it calls would be other calls in every run
    yield
    gc.enable()
    after = signal.signal(signal.SIGINT, before)
    assert after is signal.default_int_handler


def press() -> None:
    signal.raise_signal(signal.SIGINT)


def make(**params: Any) -> MultiTaskCNNEstimator:
    defaults = {
        "trunk": DenseTrunk((4,), n_members=2, n_frequencies=1),
        "max_epochs": 2,
        "batch_size": 20,
        "random_state": 0,
    }
    return MultiTaskCNNEstimator(**defaults | params)


def call_fit(est: Any) -> None:
    est.fit(X, Y)


def call_fit_with_validation(est: Any) -> None:
    est.set_params(early_stopping=True).fit(X, Y, X_val=X[:9], y_val=Y[:9])


def call_fit_until_it_is_enough(est: Any) -> None:
    est.set_params(max_epochs="auto").fit(X, Y)


def call_warm_start(est: Any) -> None:
    est.set_params(warm_start=True).fit(X, Y)


def call_partial_fit(est: Any) -> None:
    est.partial_fit(X, Y)


def call_predict(est: Any) -> None:
    est.predict(X)


def call_save_and_load(est: Any) -> None:
    with TemporaryDirectory() as folder:
        est.save(Path(folder) / "model")
        est.load(Path(folder) / "model")


CALLS = {
    f.__name__: f
    for f in (
        call_fit,
        call_fit_with_validation,
        call_fit_until_it_is_enough,
        call_warm_start,
        call_partial_fit,
        call_predict,
        call_save_and_load,
    )
}
OF_FITTED = ("call_predict", "call_save_and_load")


def run(act: Callable[[], Any], n: int) -> tuple[bool, int]:
    """Press Ctrl-C at the n-th call, if there are so many; tell whether there was an interrupt."""
    watch = AtCall(n, press)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with watch:
                act()
        except KeyboardInterrupt:
            return True, watch.calls
    return False, watch.calls


@pytest.fixture(scope="module")
def fitted() -> MultiTaskCNNEstimator:
    return make().partial_fit(X, Y)


@pytest.fixture(scope="module")
def n_calls() -> dict[Any, int]:
    """Calls of functions by name of what was called, once counted."""
    return {}


@several("interrupts", few=4, many=1_000)
def test_an_interrupt_is_one_and_changes_nothing(trials, fitted, n_calls):
    for rng in trials:
        name = list(CALLS)[rng.integers(len(CALLS))]
        begun = name not in OF_FITTED and rng.random() < 0.3  # not fitted before
        est = clone(fitted) if begun else copy.deepcopy(fitted)
        if (name, begun) not in n_calls:
            once = copy.deepcopy(est)
            run(lambda once=once, name=name: CALLS[name](once), 0)  # what is done only once
            n_calls[name, begun] = run(lambda once=once, name=name: CALLS[name](once), 0)[1]
        n = int(rng.integers(1, n_calls[name, begun] * 0.98))
        what = f"{name}, call {n} of {n_calls[name, begun]}"
        params = est.get_params(deep=False)
        before = {k: v for k, v in vars(est).items() if k not in params}
        weights = [p.detach().clone() for p in () if begun] or _weights(est)
        with assert_random_states_untouched():
            interrupted, _ = run(lambda est=est, name=name: CALLS[name](est), n)
        assert interrupted, what
        after = {k: v for k, v in vars(est).items() if k not in params}
        assert before.keys() == after.keys(), what
        assert all(after[k] is v for k, v in before.items()), what
        assert all(torch.equal(a, b) for a, b in zip(weights, _weights(est), strict=True)), what
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler, what
        assert torch.is_grad_enabled(), what
        assert not torch._C._len_torch_dispatch_stack(), what
        assert not torch._C._len_torch_function_stack(), what
        assert torch.get_default_dtype() is torch.float32, what
        trials.saw(name)


def _weights(est: Any) -> list[torch.Tensor]:
    if not hasattr(est, "net_"):
        return []
    return [p.detach().clone() for p in est.module_.parameters()]


def test_an_interrupted_fit_can_be_done_again(fitted):
    expected = make().fit(X, Y).predict(X)
    est = make()
    for n in (500, 5000):
        assert run(lambda: est.fit(X, Y), n)[0]
        np.testing.assert_array_equal(est.fit(X, Y).predict(X), expected)


@several("interrupts of a search", few=2, many=200)
def test_an_interrupt_stops_a_search(trials):
    grid = {"learning_rate": [0.01, 0.02]}
    for _ in range(2):  # the first one imports, and fills caches
        total = run(lambda: GridSearchCV(make(), grid, cv=2).fit(X, Y), 0)[1]
    for rng in trials:
        search = GridSearchCV(make(), grid, cv=2)
        n = int(rng.integers(1, total * 0.98))
        interrupted, calls = run(lambda search=search: search.fit(X, Y), n)
        assert interrupted, n
        assert calls == n
        assert not hasattr(search, "cv_results_")
