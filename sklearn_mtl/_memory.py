"""Memory that is not there: torch says so by a RuntimeError."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

__all__ = ["naming_memory"]


@contextlib.contextmanager
def naming_memory(mend: str) -> Iterator[None]:
    """Make a MemoryError, which says how to mend it, of torch's error about memory."""
    try:
        yield
    except RuntimeError as error:
        said = str(error).partition("\n")[0]
        if not isinstance(error, torch.OutOfMemoryError) and "allocate memory" not in said:
            raise
        raise MemoryError(f"There is not enough memory for the network. {mend} ({said})") from error
