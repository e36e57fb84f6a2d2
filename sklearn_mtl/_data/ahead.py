"""Parts of files, of which the next one is read while the last one is used.

The system does that by itself for maps of files, once it is told which pages they will be: where
these are in memory already, another thread would only take the time of a processor.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

__all__ = ["Ahead", "read_ahead"]

Part = TypeVar("Part")
Read = TypeVar("Read")


def read_ahead(read: Callable[[Part], Read], parts: Iterable[Part]) -> Iterator[Read]:
    """Yield what `read` returns of each part; another thread reads the next one meanwhile.

    What `read` raises is raised where its part would be yielded. Whoever takes no more of them
    waits until the read that has begun is over: no thread goes on.

    Parameters
    ----------
    read : callable
        Called for one part at a time.
    parts : iterable
        Taken one ahead, too.
    """
    with ThreadPoolExecutor(1) as pool:
        waiting: Future[Read] | None = None
        for part in parts:
            reading = pool.submit(read, part)
            if waiting is not None:
                yield waiting.result()
            waiting = reading
        if waiting is not None:
            yield waiting.result()


class Ahead(NamedTuple):
    """What is done for a part while the one before it is used: nothing, of arrays in memory.

    Attributes
    ----------
    by_thread : bool
        Another thread reads it.
    tell : callable or None
        The system is told of it, and reads it.
    """

    by_thread: bool = False
    tell: Callable[[Any], None] | None = None

    @classmethod
    def of_all(cls, each: Sequence[Ahead]) -> Ahead:
        """Return what is done for parts of which each has rows in several arrays."""
        tells = [ahead.tell for ahead in each if ahead.tell is not None]
        tell = functools.partial(_tell_all, tells) if tells else None
        return cls(any(ahead.by_thread for ahead in each), tell)

    def parts(self, read: Callable[[Part], Read], parts: Iterable[Part]) -> Iterator[Read]:
        """Yield what `read` returns of each part."""
        told = parts if self.tell is None else _told(self.tell, parts)
        return read_ahead(read, told) if self.by_thread else map(read, told)

    def at_once(self, read: Callable[[Part], Read], part: Part) -> Read:
        """Return what `read` returns of a single part."""
        if self.tell is not None:
            self.tell(part)
        return read(part)


def _tell_all(tells: Sequence[Callable[[Any], None]], part: Any) -> None:
    for tell in tells:
        tell(part)


def _told(tell: Callable[[Part], None], parts: Iterable[Part]) -> Iterator[Part]:
    """Yield the parts; the next one is told before."""
    waiting: list[Part] = []
    for part in parts:
        tell(part)
        yield from waiting
        waiting = [part]
    yield from waiting
