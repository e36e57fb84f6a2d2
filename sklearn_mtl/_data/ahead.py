"""Parts of files, of which the next one is read while the last one is used."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

__all__ = ["read_ahead"]

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
