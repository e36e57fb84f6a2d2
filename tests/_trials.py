"""Trials of which there are many: a few in the ordinary run, all by ``pytest -m reliability``.

Each trial has random numbers of its own, so that it is the same in every run, and alone.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

__all__ = ["Trials", "several"]


class Trials:
    """Trials of a kind; iterating begins each with its random numbers.

    Parameters
    ----------
    kind : str
        What they are, in the table of counts.
    n : int
        How many there are.
    only : int, optional
        The number of the only one to run.
    """

    def __init__(self, kind: str, n: int, only: int | None = None) -> None:
        self.kind, self.n, self.only = kind, n, only
        self.now = self.done = 0
        self.outcomes: Counter[str] = Counter()

    def __iter__(self) -> Iterator[np.random.Generator]:
        for number in range(self.n) if self.only is None else [self.only]:
            self.now = number
            yield np.random.default_rng([zlib.crc32(self.kind.encode()), self.now])
            self.done += 1

    def saw(self, outcome: str, times: int = 1) -> None:
        """Count how a trial ended."""
        self.outcomes[outcome] += times

    @property
    def are_all(self) -> bool:
        """Whether none were left out on request; one alone need not show all outcomes."""
        return self.only is None


def several(kind: str, few: int, many: int) -> pytest.MarkDecorator:
    """Run a test with `few` trials, or with `many` by ``-m reliability``; it takes `trials`.

    Those that take long have no short form, a `few` of 0.
    """
    counts: dict[str, Any] = {"few": (kind, few)} if few else {}
    counts["many"] = pytest.param((kind, many), marks=pytest.mark.reliability)
    return pytest.mark.parametrize("trials", counts.values(), ids=counts, indirect=True)
