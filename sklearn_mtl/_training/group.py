"""Processes that train one network together: who they are, and what they tell one another."""

from __future__ import annotations

import contextlib
import datetime
import functools
import json
import math
import os
import pickle
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from numbers import Real
from typing import Any, NoReturn, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed

__all__ = ["ALONE", "Group", "data_parallel", "once", "present_group", "together"]

Train = TypeVar("Train", bound=Callable[..., Any])

dist: Any = distributed  # whose types leave half of its names out

# Errors that all processes raise as the one does that they come from; others become RuntimeError.
TOLD = {kind.__name__: kind for kind in (ValueError, TypeError, MemoryError, KeyboardInterrupt)}

# Seconds: how long to wait for what a process has to say that is gone, and from look to look.
LAST_WORDS, LOOK = 3.0, 0.01


class Group:
    """The processes of a training as one of them sees them; of this class, it is the only one.

    Attributes
    ----------
    rank : int
        Number of this process, from 0.
    size : int
        How many there are.
    """

    rank, size, local_rank = 0, 1, 0

    def share(self, n: int) -> slice:
        """Return which of n rows this process reads: shares differ by one at most."""
        return slice(self.rank * n // self.size, (self.rank + 1) * n // self.size)

    def sum(self, values: Tensor) -> Tensor:
        """Add up tensors of one shape, in place: one message. All get the same bits."""
        return values

    def gather(self, value: Any) -> list[Any]:
        """Return what each process passes here, in their order."""
        return [value]

    def rows(self, mine: NDArray[Any]) -> NDArray[Any]:
        """Put the rows of all shares together."""
        return mine if self.size == 1 else np.concatenate(self.gather(mine))

    def read(self, read: Callable[[NDArray[np.intp]], NDArray[Any]], rows: Any) -> NDArray[Any]:
        """Call a function of rows on the share of this process, and return the results of all."""
        if self.size == 1 or len(rows) < self.size:
            return read(rows)
        return self.rows(read(rows[self.share(len(rows))]))

    def leader(self, act: Callable[[], Any]) -> Any:
        """Let process 0 do something, and return to all what came of it."""
        return self.gather(act() if self.rank == 0 else None)[0]

    def once(self, what: str, act: Callable[[], Any]) -> None:
        """Let process 0 do something that all would do; the others wait until it is done."""
        act()

    @contextlib.contextmanager
    def training(self) -> Iterator[None]:
        """Begin a training, in which no process is left alone: an error of one is one of all."""
        yield

    def __repr__(self) -> str:
        """Return which process this is."""
        return f"<process {self.rank} of {self.size}>"


ALONE = Group()


class Processes(Group):
    """Several processes, by way of `torch.distributed`.

    They are connected anew after each error: connections are closed then, so that whoever waits
    for this process is told, and finds its last words in the store.

    Parameters
    ----------
    store : torch.distributed.Store
        Where they find one another.
    rank, size, local_rank : int
        Which of them this one is, and which on its machine.
    timeout : timedelta
        How long to wait for one another.
    """

    def __init__(
        self, store: Any, rank: int, size: int, local_rank: int, timeout: datetime.timedelta
    ) -> None:
        self.store, self.timeout = store, timeout
        self.rank, self.size, self.local_rank = rank, size, local_rank
        self.n_errors = 0  # connections so far that have ended by one
        self.by_device: dict[str, Any] = {}  # connections, by the type of device
        self.n_messages = self.n_trainings = 0
        self.error: BaseException | None = None  # of another one, which has ended the training
        self.lost: BaseException | None = None  # there is one that will not come again

    def sum(self, values: Tensor) -> Tensor:
        """Add up tensors of one shape, in place: one message."""
        self._through(values.device.type, lambda links: links.allreduce([values]))
        return values

    def gather(self, value: Any) -> list[Any]:
        """Return what each process passes here, in their order: two messages."""
        mine = torch.from_numpy(np.frombuffer(pickle.dumps(value), dtype=np.uint8).copy())
        lengths = torch.zeros(self.size, dtype=torch.int64)
        lengths[self.rank] = len(mine)
        sizes = self.sum(lengths).tolist()
        padded = torch.zeros(max(sizes), dtype=torch.uint8)
        padded[: len(mine)] = mine
        parts = [torch.empty_like(padded) for _ in sizes]
        self._through("cpu", lambda links: links.allgather([parts], [padded]))
        # What other processes of this very training have packed.
        return [
            pickle.loads(part[:size].numpy().tobytes())
            for part, size in zip(parts, sizes, strict=True)
        ]

    def once(self, what: str, act: Callable[[], Any]) -> None:
        """Let process 0 do something; no message, as nobody may wait for it but those who do."""
        key = f"once/{self.n_trainings}/{what}"
        if self.rank == 0:
            try:
                act()
            except BaseException as error:
                self._say(key, _words(error))
                raise
            self._say(key, "")
        elif not self._wait_for([key], self.timeout.total_seconds(), unless=["left/0"]):
            raise RuntimeError(f"Process 0 has not come to write {what!r}, which it does for all.")
        elif said := self.store.get(key).decode():
            kind, text = json.loads(said)
            raise TOLD.get(kind, RuntimeError)(f"Process 0 of {self.size} {text}")

    @contextlib.contextmanager
    def training(self) -> Iterator[None]:
        """Tell the others of an error that ends this training here, and hear of theirs."""
        self.n_trainings += 1
        try:
            self._connect()
            yield
            self.gather(None)  # nobody takes for done what somebody else has not ended
        except BaseException as error:
            self._close(error)
            raise

    def leave(self, error: BaseException | None) -> None:
        """Go: with an error at once, else once all others do."""
        self._say(f"left/{self.rank}", "" if error is None else _words(error))
        if error is None and self.by_device:
            self._wait_for([f"left/{k}" for k in range(self.size)], LAST_WORDS)
        self.by_device = {}

    # -- connections ----------------------------------------------------------------------------

    def _connect(self) -> None:
        """Find the others, who may still be on their way, or gone."""
        if self.lost is not None:
            raise self.lost
        if self.by_device:
            return
        self._say(f"here/{self.n_errors}/{self.rank}", "")
        here = [f"here/{self.n_errors}/{k}" for k in range(self.size)]
        gone = [f"left/{k}" for k in range(self.size)]
        if not self._wait_for(here, self.timeout.total_seconds(), unless=gone):
            self._fail()
        self.sum(torch.zeros(1))

    def _links(self, device: str) -> Any:
        """Connect the processes, for tensors on a type of device."""
        store = dist.PrefixStore(f"{device}/{self.n_errors}", self.store)
        kind = dist.ProcessGroupNCCL if device == "cuda" else dist.ProcessGroupGloo
        return kind(store, self.rank, self.size, self.timeout)

    def _through(self, device: str, send: Callable[[Any], Any]) -> None:
        if self.error is not None:
            raise self.error
        self.n_messages += 1
        try:
            if device not in self.by_device:
                self.by_device[device] = self._links(device)
            send(self.by_device[device]).wait()
        except RuntimeError:
            self._fail()

    def _close(self, error: BaseException) -> None:
        """Leave last words, unless others have, and close the connections."""
        if self.by_device:
            self._say(f"words/{self.n_errors}/{self.rank}", _words(error))
        self.by_device, self.error = {}, None
        self.n_errors += 1

    def _say(self, key: str, words: str) -> None:
        with contextlib.suppress(RuntimeError):  # the process that keeps the store has ended
            self.store.set(key, words)

    def _fail(self) -> NoReturn:
        """Raise the error of another process."""
        others = [k for k in range(self.size) if k != self.rank]
        words = [f"words/{self.n_errors}/{k}" for k in others]
        end = time.monotonic() + LAST_WORDS
        found = None
        while found is None and time.monotonic() < end:
            found = self._last_words(others, [*words, *(f"left/{k}" for k in others)])
            time.sleep(LOOK)
        self.by_device = {}  # so that it is not told of as an error of this process
        if found is None:
            self.error = self.lost = RuntimeError(
                f"Another of the {self.size} processes that train together has ended without a "
                f"word, or has not answered for {self.timeout.total_seconds():g} seconds. Look at "
                "what it has printed; data_parallel(timeout=...) waits longer."
            )
        else:
            rank, kind, text = found
            self.error = TOLD.get(kind, RuntimeError)(
                f"Process {rank} of {self.size} {text or 'has left data_parallel'}"
            )
        raise self.error from None

    def _last_words(self, others: list[int], keys: list[str]) -> tuple[int, str, str] | None:
        """Find out who has ended, and why."""
        try:
            for rank, key in zip([*others, *others], keys, strict=True):
                if self.store.check([key]):
                    said = self.store.get(key).decode()
                    return (rank, *json.loads(said)) if said else (rank, "", "")
        except RuntimeError:  # the store is gone, too
            pass
        return None

    def _wait_for(self, keys: list[str], seconds: float, unless: list[str] | None = None) -> bool:
        """Wait until all keys are there; or, of others, one is."""
        end = time.monotonic() + seconds
        try:
            while not self.store.check(keys):
                if time.monotonic() > end or any(self.store.check([k]) for k in unless or ()):
                    return False
                time.sleep(LOOK)
        except RuntimeError:  # the process that keeps the store has ended
            return False
        return True


def _words(error: BaseException) -> str:
    """Last words of a process."""
    kind = next((k.__name__ for k in type(error).__mro__ if k.__name__ in TOLD), "")
    said = "was interrupted" if kind == "KeyboardInterrupt" else f"failed: {error}"
    return json.dumps([kind, f"{said}" if kind else f"failed: {error!r}"])


# -- who trains together -------------------------------------------------------------------------

# The group of `data_parallel`; it is not that of threads or processes that are begun inside.
PRESENT: ContextVar[Group | None] = ContextVar("PRESENT", default=None)


@contextlib.contextmanager
def data_parallel(timeout: float = 1800.0) -> Iterator[Group]:
    """Let the processes that a launcher has started train one estimator together.

    In this context, each `fit` and `partial_fit` of a
    :class:`~sklearn_mtl.MultiTaskCNNEstimator` is one training of all processes that ``torchrun``,
    or another launcher, has started: each reads its share of the rows of a batch, and all end
    with the same estimator, to the bit. All of them make the same calls with the same data, as they
    do if they run the same script. A script that was started without a launcher is one process, and
    runs as it would without this context. See the guide on several processes.

    Parameters
    ----------
    timeout : float, default=1800.0
        Seconds that processes wait for one another before they raise an error.

    Yields
    ------
    group : object
        ``rank`` is the number of this process, from 0, and ``size`` how many there are.

    Raises
    ------
    ValueError
        If `timeout` is no positive number.
    RuntimeError
        In a `fit`, if another process has failed or does not answer. A ValueError, TypeError,
        MemoryError or KeyboardInterrupt of one process is raised in all.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_mtl import MultiTaskCNNEstimator, data_parallel
    >>> X = np.random.default_rng(0).normal(size=(100, 3))
    >>> y = np.column_stack([X[:, 0] > 0, X[:, 1]])
    >>> with data_parallel() as group:
    ...     estimator = MultiTaskCNNEstimator(max_epochs=2, random_state=0).fit(X, y)
    >>> group.rank, group.size
    (0, 1)
    """
    seconds: Any = timeout
    if not isinstance(seconds, Real) or not 0 < float(seconds) < math.inf:
        raise ValueError(f"timeout={timeout!r} must be a number of seconds above 0.")
    outer = PRESENT.get()
    if outer is not None:
        yield outer
        return
    group = _launched(timeout)
    token, error = PRESENT.set(group), None
    try:
        yield group
    except BaseException as raised:
        error = raised
        raise
    finally:
        PRESENT.reset(token)
        if isinstance(group, Processes):
            group.leave(error)


def present_group() -> Group:
    """Return the processes that train together here, of which this may be the only one.

    Raises
    ------
    RuntimeError
        If a launcher has started several, and nobody has said whether they do.
    """
    group = PRESENT.get()
    if group is None and _n_launched() > 1:
        raise RuntimeError(
            f"This is one of {_n_launched()} processes of torchrun or another launcher, and "
            "nothing says that they train together: each would train the same model. Fit inside of "
            "`with sklearn_mtl.data_parallel():`, and searches with n_jobs=1; or take WORLD_SIZE "
            "out of os.environ, and each process trains by itself."
        )
    return group or ALONE


def _n_launched() -> int:
    """How many processes a launcher has started, as far as one can tell."""
    n = os.environ.get("WORLD_SIZE", "")
    return int(n) if n.isdigit() and "RANK" in os.environ else 1


def once(what: str, act: Callable[[], Any]) -> None:
    """Let one of the processes that train together here do something, such as writing a file."""
    (PRESENT.get() or ALONE).once(what, act)


def together(train: Train) -> Train:
    """Let a function be one training of all processes."""

    @functools.wraps(train)
    def training(*args: Any, **kwargs: Any) -> Any:
        with present_group().training():
            return train(*args, **kwargs)

    return cast(Train, training)


# One for each process: it may be kept by process 0, of which it takes a port.
STORES: list[Any] = []
CONTEXTS = [0]  # how many there were: each has keys of its own


def _launched(timeout: float) -> Group:
    """Find the processes that a launcher has started."""
    if _n_launched() == 1:
        return ALONE
    limit = datetime.timedelta(seconds=timeout)
    if not STORES:
        STORES.extend(next(dist.rendezvous("env://", timeout=limit))[:1])
    CONTEXTS[0] += 1
    store = dist.PrefixStore(f"sklearn_mtl/{CONTEXTS[0]}", STORES[0])
    rank, size = int(os.environ["RANK"]), _n_launched()
    return Processes(store, rank, size, int(os.environ.get("LOCAL_RANK", rank)), limit)
