"""Random numbers of torch: drawn from a seed, and the global states left as they were."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import torch

__all__ = ["own_random_state", "seeded"]

# Held while torch's global generator is ours, so that fits in threads do not mix their draws.
GENERATOR = threading.RLock()


@contextlib.contextmanager
def seeded(seed: int, device: str) -> Iterator[None]:
    """Draw from `seed` inside, and leave torch's global random states as they were."""
    place = torch.device(device)
    devices = [place] if place.type == "cuda" else []
    with GENERATOR, torch.random.fork_rng(devices=devices):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed every GPU too
        if devices:
            with torch.cuda.device(place):
                torch.cuda.manual_seed(seed)
        yield


def own_random_state(device: Any) -> Any:
    """Leave torch's random states as they are, those of GPUs only where there is one in use."""
    return torch.random.fork_rng(None if str(device).startswith("cuda") else [])
