"""Samples of an input as pictures to look at."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sklearn_mtl._data.inputs import InputReader

__all__ = ["as_pictures", "pictures_of"]

FloatArray = NDArray[np.float64]


def pictures_of(reader: InputReader, inputs: Any, n: int) -> FloatArray:
    """Read samples of an input, of several parts those of the first part that holds images.

    Returns
    -------
    images : ndarray of shape (n, H, W) or (n, H, W, 3)
        From 0 to 1.

    Raises
    ------
    ValueError
        If there are no images.
    """
    shapes = []
    for _, part, array in reader.each(inputs):
        shapes.append(part.input_shape_)
        if len(part.input_shape_) >= 3:
            return as_pictures(part.of(array, to_predict=True).read(range(n)), channels_first=True)
    raise ValueError(
        f"The estimator was fitted to samples of shape {' and '.join(map(str, shapes))}, which are "
        "no images. Pass one that was fitted to images (C, H, W)."
    )


def as_pictures(samples: NDArray[Any], channels_first: bool = False) -> FloatArray:
    """Turn samples into grey pictures (n, H, W) or colours (n, H, W, 3), from 0 to 1.

    Of volumes (n, C, D, H, W), the middle slice; of two channels, or more than four, the first one.
    """
    samples = np.asarray(samples)
    if samples.dtype.kind not in "biuf" or not 3 <= samples.ndim <= 5:
        raise ValueError(
            f"Images of shape {samples.shape} and type {samples.dtype} cannot be shown. Pass "
            "numbers of shape (n, H, W), (n, C, H, W) or (n, H, W, C)."
        )
    if samples.ndim == 5:
        samples, channels_first = samples[:, :, samples.shape[2] // 2], True
    if samples.ndim == 4:
        last = not channels_first and samples.shape[1] not in (1, 3, 4)
        samples = samples if last else np.moveaxis(samples, 1, -1)
        samples = samples[..., :3] if samples.shape[-1] in (3, 4) else samples[..., 0]
    whole = samples.dtype == np.uint8
    samples = samples.astype(np.float64)
    if whole:
        return samples / 255
    if np.isnan(samples).all():  # rows that all lack the part
        return samples
    low, high = np.nanmin(samples), np.nanmax(samples)
    if low >= 0 and high <= 1:
        return samples
    if low >= 0 and high <= 255 and high > 1 and (samples == np.round(samples)).all():
        return samples / 255 if high > 16 else samples / high  # digits of 16 grey values
    return (samples - low) / (high - low if high > low else 1.0)
