"""Prediction: rows of X through a trained module, in chunks that a processor likes."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sklearn_mtl._data.inputs import Rows, Source
from sklearn_mtl._memory import naming_memory

__all__ = ["CHUNK_ROWS", "Inputs", "chunk_places", "infer", "predict_raw", "raw_chunks"]

# Input values or features, and rows, per chunk. In larger ones, what is between the layers leaves
# the processor's cache, which is half as fast, and the memory that the process holds grows.
CHUNK_VALUES, CHUNK_ROWS = 2**19, 2**13


class Inputs:
    """Standardised samples by index, as tensors on the device.

    In float64, as long as there is a mean to subtract: a feature of 1e9 + noise keeps its noise in
    float32 afterwards. On a GPU that is done there, and X travels in its own type.

    Parameters
    ----------
    source : Source
        Samples, mean and scale.
    dtype : torch.dtype
        Of the tensors.
    device : torch.device
        Of the tensors.
    """

    def __init__(self, source: Source, dtype: torch.dtype, device: torch.device) -> None:
        self.source, self.dtype, self.device = source, dtype, device
        self.place = device if device.type == "cuda" else torch.device("cpu")  # knows float64
        self.mean = torch.tensor(source.mean, device=self.place)
        self.scale = torch.tensor(source.scale, device=self.place)

    def __call__(self, rows: Rows) -> Tensor:
        """Return the samples of `rows`."""
        return self.standardized(self.source.ahead.at_once(self.source.read, rows))

    def parts(self, rows: Iterable[Rows]) -> Iterator[Tensor]:
        """Return the samples of one part of the rows after the other."""
        return map(self.standardized, self.source.parts(rows))

    def standardized(self, samples: NDArray[Any]) -> Tensor:
        """Return samples that were read."""
        x = torch.from_numpy(samples).to(self.place)
        if x.numel() <= 4 * CHUNK_VALUES or self.place.type == "cuda":
            return (x - self.mean).div_(self.scale).to(self.dtype).to(self.device)
        # Few values at a time: in float64, large batches take much memory, and ten times as long.
        n_rows = max(1, CHUNK_VALUES // math.prod(x.shape[1:]))
        whole = torch.empty(x.shape, dtype=self.dtype, device=self.device)
        for into, part in zip(whole.split(n_rows), x.split(n_rows), strict=True):
            into.copy_((part - self.mean).div_(self.scale))
        return whole


def infer(
    module: Callable[..., Tensor],
    x: Tensor,
    amp_dtype: torch.dtype | None,
    seen: Tensor | None = None,
) -> Tensor:
    """Raw outputs of each member, in full precision."""
    if amp_dtype is None:
        return module(x, by_member=True, seen=seen)
    with torch.autocast(x.device.type, dtype=amp_dtype):
        return module(x, by_member=True, seen=seen).float()


def _without_autocast(device: str) -> contextlib.AbstractContextManager[Any]:
    """Let an autocast around say nothing, at no cost where there is none."""
    if torch.is_autocast_enabled(device):
        return torch.autocast(device, enabled=False)
    return contextlib.nullcontext()


def _trains(module: nn.Module) -> bool:
    """Tell whether any part is in training mode: a tenth of the time that `eval` takes."""
    return module.training or any(
        _trains(part) for part in module._modules.values() if part is not None
    )


def chunk_places(module: Any, source: Source, n_rows: int) -> list[tuple[int, int]]:
    """Where chunks begin and end, of nearly equal size."""
    widest = max(math.prod(source.shape), module.n_features, module.heads.bias.shape[-1])
    n_chunks = max(1, math.ceil(n_rows / min(CHUNK_ROWS, max(1, CHUNK_VALUES // widest))))
    return list(itertools.pairwise(k * n_rows // n_chunks for k in range(n_chunks + 1)))


def raw_chunks(
    module: Any,
    source: Source,
    rows: Rows,
    device: Any,
    amp_dtype: torch.dtype | None = None,
    embed: bool = False,
) -> Iterator[tuple[slice, NDArray[np.floating[Any]]]]:
    """Places among `rows`, and raw outputs (n, n_outputs) or (n, M, n_outputs) there, in turn.

    Or the representation (n, F), to `embed`.
    """
    if _trains(module):
        module.eval()  # all of its parts, whatever they were set to since
    dtype = module.heads.weight.dtype
    inputs = Inputs(source, dtype, torch.device(device))
    places = chunk_places(module, source, len(rows))
    parts = inputs.parts(rows[start:stop] for start, stop in places)
    for place in places:
        memory = naming_memory("Pass X in parts, or fit a smaller trunk.")
        with memory, torch.inference_mode(), _without_autocast(inputs.device.type):
            x = next(parts)
            chunk = module.embed(x) if embed else infer(module, x, amp_dtype)
            found = chunk.to(dtype).cpu().numpy()
        yield slice(*place), found


def predict_raw(*args: Any, **kwargs: Any) -> NDArray[np.floating[Any]]:
    """Return what `raw_chunks` does, of all rows at once."""
    rows, outputs = args[2], None
    for place, chunk in raw_chunks(*args, **kwargs):
        if outputs is None:  # at once: small arrays in between would pin the memory of chunks
            outputs = np.empty((len(rows), *chunk.shape[1:]), chunk.dtype)
        outputs[place] = chunk
    assert outputs is not None
    return outputs
