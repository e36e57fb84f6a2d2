"""Random numbers of torch: drawn from a seed, and the global states left as they were."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

__all__ = ["float32_by_default", "own_random_state", "random_state", "seeded", "set_random_state"]

# Held while torch's global generator is ours, so that fits in threads do not mix their draws.
GENERATOR = threading.RLock()


@contextlib.contextmanager
def seeded(seed: int, device: str) -> Iterator[None]:
    """Draw from `seed` inside, and leave torch's global random states as they were.

    What stands around a fit says nothing inside: gradients are computed, at full precision.
    (Weights that autocast has cached would be those of the first batch as long as it lasts.)
    """
    place = torch.device(device)
    devices = [place] if place.type == "cuda" else []
    with (
        GENERATOR,
        torch.random.fork_rng(devices=devices),
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autocast(place.type, enabled=False, cache_enabled=False),
    ):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed every GPU too
        if devices:
            with torch.cuda.device(place):
                torch.cuda.manual_seed(seed)
        yield


def random_state(device: str) -> dict[str, Tensor]:
    """Return the state of what is drawn from inside of `seeded`."""
    state = {"cpu": torch.get_rng_state()}
    if torch.device(device).type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def set_random_state(device: str, state: dict[str, Tensor]) -> None:
    """Draw from a state that `random_state` returned."""
    torch.set_rng_state(state["cpu"])
    if "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)


@contextlib.contextmanager
def float32_by_default() -> Iterator[None]:
    """Make modules of float32, from the same draws, whatever the default of the process is."""
    before = torch.get_default_dtype()
    if before == torch.float32:  # another thread need not notice
        yield
        return
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def own_random_state(device: Any) -> Any:
    """Leave torch's random states as they are, those of GPUs only where there is one in use."""
    return torch.random.fork_rng(None if str(device).startswith("cuda") else [])
