"""Ctrl-C that is lost on its way: Python, or code of others, keeps the exception to itself."""

import contextlib
import signal
import threading

import pytest
import torch
from _fits import Recorder, X, Y, make, weights_of
from sklearn.model_selection import GridSearchCV

from sklearn_mtl._training.ctrl_c import CtrlC
from sklearn_mtl._training.random import float32_by_default
from sklearn_mtl.networks import DenseTrunk
from sklearn_mtl.networks.draws import DrawsFrom, Generators

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(autouse=True)
def default_sigint():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    after = signal.signal(signal.SIGINT, before)
    assert after is signal.default_int_handler


@contextlib.contextmanager
def default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    yield
    torch.set_default_dtype(before)


def press():
    signal.raise_signal(signal.SIGINT)


def in_a_generator():
    """Press while Python ends a generator, which ignores what is raised."""

    def numbers():
        try:
            yield 1
        finally:
            press()

    any(numbers())


def in_a_destructor():
    class Last:
        def __del__(self):
            press()

    Last()


def under_a_bare_except():
    with contextlib.suppress(BaseException):
        press()


def as_another_error():
    try:
        press()
    except BaseException as error:
        raise ValueError("what a library makes of it") from error


LOSING = pytest.mark.parametrize(
    "lose", [in_a_generator, in_a_destructor, under_a_bare_except, as_another_error]
)


class Losing(torch.nn.Linear):
    """Ctrl-C is lost in a forward pass of the training."""

    lose = None

    def forward(self, x):
        if self.training and len(x) > 2:
            Losing.lose()
        return super().forward(x)


@LOSING
def test_it_is_raised_in_the_end(lose):
    with pytest.raises(KeyboardInterrupt), CtrlC() as ctrl_c:
        lose()
    assert ctrl_c.pressed


@LOSING
@pytest.mark.parametrize("event", ["train_begin", "epoch_begin", "batch_end", "valid_end"])
def test_a_fit_ends_soon(lose, event):
    estimator = make().fit(X, X[:, :2])
    before = weights_of(estimator).clone()
    recorder = Recorder(event, 1, lose)
    estimator.set_params(net_params={"callbacks": [recorder]}, max_epochs=50)
    with pytest.raises(KeyboardInterrupt):
        estimator.fit(X, Y, X_val=X[:9], y_val=Y[:9])
    assert recorder.events.count("epoch_end") <= 1
    assert estimator.predict(X).shape == (60, 2)
    assert torch.equal(weights_of(estimator), before)


@LOSING
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_in_a_batch(lose, method, monkeypatch):
    monkeypatch.setattr(Losing, "lose", staticmethod(lose))
    estimator = make(trunk=Losing(3, 4), batch_size=60, max_epochs=1)
    with pytest.raises(KeyboardInterrupt):
        getattr(estimator, method)(X, Y)
    assert not hasattr(estimator, "module_")


@LOSING
def test_before_the_first_epoch(lose):
    """Where the trunk is made, for example."""

    def trunk():
        lose()
        return torch.nn.Linear(3, 4)

    with pytest.raises(KeyboardInterrupt):
        make(trunk=trunk).fit(X, Y)


def test_a_search_stops_though_it_would_take_an_error_for_a_score(monkeypatch):
    monkeypatch.setattr(Losing, "lose", staticmethod(as_another_error))
    search = GridSearchCV(make(trunk=Losing(3, 4)), {"learning_rate": [0.01, 0.02]}, cv=2)
    with pytest.raises(KeyboardInterrupt):
        search.fit(X, Y)
    assert not hasattr(search, "cv_results_")


@LOSING
def test_a_fit_inside_of_another_one_ends_both(lose):
    inner = make([Recorder("batch_end", 1, lose)])
    outer = make([Recorder("batch_end", 2, lambda: inner.fit(X, Y))])
    with pytest.raises(KeyboardInterrupt):
        outer.fit(X, Y)
    assert not hasattr(inner, "net_")
    assert not hasattr(outer, "net_")


def test_an_outer_context_knows_of_what_an_inner_one_saw():
    outer, inner = CtrlC(), CtrlC()
    with pytest.raises(KeyboardInterrupt), outer, contextlib.suppress(KeyboardInterrupt), inner:
        press()
    assert inner.pressed
    assert outer.pressed


def test_contexts_that_were_not_left_are_left():
    """An interrupt as the first thing that `__exit__` of a context sees."""

    def enter_and_press():
        for context in (torch.no_grad(), DrawsFrom(Generators(0)), float32_by_default()):
            context.__enter__()
        press()

    with default_dtype(torch.float64), torch.overrides.BaseTorchFunctionMode():
        with pytest.raises(KeyboardInterrupt), CtrlC():
            enter_and_press()
        assert torch.is_grad_enabled()
        assert torch.empty(1).dtype == torch.float64
        assert not torch._C._len_torch_dispatch_stack()


def test_handlers_of_others_are_left_alone():
    heard = []
    handler = lambda signum, frame: heard.append(signum)  # noqa: E731
    for mine in (handler, signal.SIG_IGN):
        signal.signal(signal.SIGINT, mine)
        make([Recorder("batch_end", 1, press)]).fit(X, Y)
        assert signal.signal(signal.SIGINT, signal.default_int_handler) is mine
    assert heard == [signal.SIGINT]


def test_a_handler_that_is_set_inside_stays():
    handler = lambda signum, frame: None  # noqa: E731
    with CtrlC():
        signal.signal(signal.SIGINT, handler)
    assert signal.signal(signal.SIGINT, signal.default_int_handler) is handler


def test_a_thread_sets_none():
    seen = []
    fit = make([Recorder("batch_end", 1, lambda: seen.append(signal.getsignal(signal.SIGINT)))]).fit
    thread = threading.Thread(target=fit, args=(X, Y))
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]


def test_a_callback_may_end_a_fit_beside():
    """A thread is not told of an interrupt of the main one: its fit ends as it is asked to."""

    def stop():
        raise KeyboardInterrupt

    found = []

    def fit():
        with contextlib.suppress(UserWarning):
            found.append(make([Recorder("batch_end", 1, stop)]).fit(X, Y))

    def press_beside():
        thread = threading.Thread(target=fit)
        thread.start()
        thread.join()
        press()

    with pytest.raises(KeyboardInterrupt):
        make([Recorder("batch_end", 1, press_beside)]).fit(X, Y)


def test_workers_of_a_search_have_it_too():
    from joblib import Parallel, delayed

    assert Parallel(2)([delayed(_noted_in_a_fit)()]) == [True]


def _noted_in_a_fit():
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which those of some shells ignore
    seen = []
    note = Recorder("batch_end", 1, lambda: seen.append(signal.getsignal(signal.SIGINT)))
    make([note], trunk=DenseTrunk((4,), 2)).fit(X, Y)
    return isinstance(getattr(seen[0], "__self__", None), CtrlC)


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_ctrl_c_counts_while_parameters_are_checked(monkeypatch, method):
    est = make()
    monkeypatch.setattr(type(est), "_validate_params", lambda self: in_a_generator())
    with pytest.raises(KeyboardInterrupt):
        getattr(est, method)(X, Y)
    assert not hasattr(est, "net_")
