"""How much a prediction changes with each value of X: gradients, in the mean over noisy copies."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from sklearn_mtl._fitted import Fitted

__all__ = ["as_effects", "as_maps", "mean_gradients"]

FloatArray = NDArray[np.float64]


def mean_gradients(
    fitted: Fitted,
    task: str,
    inputs: Any,
    n: int,
    noise: float,
    n_copies: int,
    generator: torch.Generator,
) -> dict[str | None, FloatArray]:
    """Mean size of the gradient of each part of X, (n, *input_shape), over noisy copies.

    The noise is a share of the range of images, and of the standard deviations of a table.
    """
    module = fitted.as_module(task)
    passed: dict[str | None, torch.Tensor] = {}
    spread: dict[str | None, Any] = {}
    for name, reader, array in fitted.reader.each(inputs):
        samples = reader.of(array, to_predict=True).read(range(n))
        X = passed[name] = torch.from_numpy(_as_passed(np.asarray(samples, np.float32), reader))
        there = X[~X.isnan()]
        if len(reader.input_shape_) == 1:
            scale = np.broadcast_to(reader.scale_, reader.input_shape_).astype(np.float32)
            spread[name] = noise * torch.from_numpy(scale).reshape(X.shape[1:])
        else:
            spread[name] = noise * float(there.max() - there.min()) if len(there) else 0.0
    total = {name: torch.zeros_like(X) for name, X in passed.items()}
    for _ in range(n_copies):
        copies = {
            name: (X + spread[name] * torch.randn(X.shape, generator=generator)).requires_grad_()
            for name, X in passed.items()
        }
        out = module(copies if fitted.reader.names != [None] else copies[None])
        explained = out.amax(dim=1).log() if out.shape[1] > 1 else out[:, 0]
        found = torch.autograd.grad(explained.sum(), list(copies.values()))
        for name, gradient in zip(copies, found, strict=True):
            total[name] += gradient.abs()
    return {
        name: _as_read(total[name].numpy().astype(np.float64) / n_copies, reader)
        for name, reader, _ in fitted.reader.each(inputs)
    }


def as_maps(gradients: FloatArray) -> FloatArray:
    """Add up the channels of images (n, C, H, W); of volumes, take the middle slice."""
    maps = gradients.sum(axis=1)
    return maps[:, maps.shape[1] // 2] if maps.ndim == 4 else maps


def as_effects(
    fitted: Fitted, inputs: Any, gradients: dict[str | None, FloatArray], shown: str | None
) -> pd.DataFrame:
    """Gradients times standard deviations of what is not `shown`, a column for each feature.

    Features of tables have their names. Another part, such as a second image, is one column.
    """
    columns: dict[str, FloatArray] = {}
    for part, reader, _ in fitted.reader.each(inputs):
        if part == shown:
            continue
        shape = reader.input_shape_
        effects = gradients[part] * np.broadcast_to(reader.scale_, shape)
        if len(shape) > 1:
            columns[str(part)] = effects.reshape(len(effects), -1).sum(axis=1)
            continue
        known = reader.feature_names_in_
        names = known if known is not None else [f"{part} {j}" for j in range(math.prod(shape))]
        for name, column in zip(names, effects.T, strict=True):
            columns[name if name not in columns else f"{part}: {name}"] = column
    return pd.DataFrame(columns)


def _as_passed(samples: NDArray[np.float32], reader: Any) -> NDArray[np.float32]:
    """Return samples, channels first, in the layout in which X was passed."""
    if reader.data_format == "channels_last" and samples.ndim > 2:
        samples = np.moveaxis(samples, 1, -1)
    return np.ascontiguousarray(samples.reshape(len(samples), *reader.sample_shape_))


def _as_read(values: FloatArray, reader: Any) -> FloatArray:
    """Return values in the layout of X, channels first."""
    shape = reader.input_shape_
    if reader.data_format == "channels_last" and len(shape) > 1:
        return np.moveaxis(values.reshape(len(values), *shape[1:], shape[0]), -1, 1)
    return values.reshape(len(values), *shape)
