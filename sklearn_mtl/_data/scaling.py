"""What means and scales are of: steps of sequences; and those that are told, and not learned."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["IMAGENET", "seen_steps", "told_scaling"]

FloatArray = NDArray[np.float64]

# Mean and standard deviation of red, green and blue, of pixels from 0 to 1.
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def seen_steps(samples: FloatArray) -> tuple[FloatArray, NDArray[np.intp]]:
    """Return the steps of sequences up to their ends, as samples of one step.

    Parameters
    ----------
    samples : ndarray of shape (n, C + 1, L)
        Their last channel is a mask, which changes where a sequence ends.

    Returns
    -------
    steps : ndarray of shape (m, C + 1, 1)
    counts : ndarray of int of shape (n,)
        How many of them each sequence has.
    """
    mask = samples[:, -1]
    seen = np.logical_and.accumulate(mask == mask[:, :1], axis=1)
    return samples.transpose(0, 2, 1)[seen, :, None], seen.sum(axis=1)


def told_scaling(
    standardize: Any,
    input_shape: tuple[int, ...],
    low: float,
    high: float,
    pretrained: tuple[Any, Any] | None = None,
) -> tuple[FloatArray, FloatArray] | None:
    """Return mean and scale as `standardize` tells them, None where they are to be learned.

    Parameters
    ----------
    standardize : bool, 'auto', 'imagenet' or (mean, std)
        As the parameter of the estimator.
    input_shape : tuple of int
        Shape of a sample, channels first.
    low, high : float
        The least and the greatest value of the rows to train on.
    pretrained : (mean, std), optional
        Of the pixels, from 0 to 1, that the trunk was trained on before: what 'auto' takes.

    Returns
    -------
    mean, scale : ndarray of shape (n_channels, 1, ...)

    Raises
    ------
    ValueError
        If X holds no pixels of three channels for 'imagenet', or the numbers do not fit X.
    """
    mean, std = np.zeros(1), np.ones(1)
    if isinstance(standardize, bool | np.bool_):
        if standardize:
            return None
    elif standardize == "auto":
        of_images = _of_pixels(pretrained, input_shape, low, high)
        if of_images is None:
            return None
        mean, std = of_images
    elif isinstance(standardize, str):
        mean, std = np.array(IMAGENET) * _pixel_range(input_shape, low, high)
    else:
        mean, std = _pair(standardize, input_shape)
    shape = (input_shape[0], *[1] * (len(input_shape) - 1))
    return _per_channel(mean, shape), _per_channel(std, shape)


def _per_channel(values: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    return np.broadcast_to(values, shape[:1]).reshape(shape).copy()


def _of_pixels(
    pretrained: tuple[Any, Any] | None, input_shape: tuple[int, ...], low: float, high: float
) -> tuple[FloatArray, FloatArray] | None:
    """Return mean and scale of a pretraining, if X holds pixels of colour or grey images."""
    is_image = len(input_shape) == 3 and input_shape[0] in (1, 3)
    if pretrained is None or not is_image or low < 0 or high > 255:
        return None
    mean, std = (np.asarray(part, dtype=np.float64) for part in pretrained)
    if input_shape[0] == 1:  # weights are summed over the colours, which are alike then
        mean, std = mean.mean(keepdims=True), std.mean(keepdims=True)
    largest = 1.0 if high <= 1 else 255.0
    return mean * largest, std * largest


def _pixel_range(input_shape: tuple[int, ...], low: float, high: float) -> float:
    """Return 1 for pixels from 0 to 1, and 255 for others: of any type, as bytes may be floats."""
    if len(input_shape) != 3 or input_shape[0] != 3:
        raise ValueError(
            f"standardize='imagenet' is for images of three channels, but samples of X are of "
            f"shape {input_shape}, channels first. Pass standardize=(mean, std), or True; where "
            "only a part of X holds images, a dict: standardize={'image': 'imagenet'}."
        )
    if low < 0 or high > 255:
        raise ValueError(
            f"standardize='imagenet' is for pixels from 0 to 1 or from 0 to 255, but X holds "
            f"values from {low:g} to {high:g}. Pass the images as they were stored; or, if they "
            "are scaled already, standardize=False."
        )
    return 1.0 if high <= 1 else 255.0


def _pair(standardize: Any, input_shape: tuple[int, ...]) -> tuple[FloatArray, FloatArray]:
    """Return mean and standard deviation: numbers, or one per channel or feature."""
    try:
        mean, std = (np.atleast_1d(np.asarray(part, dtype=np.float64)) for part in standardize)
    except (TypeError, ValueError):
        mean = std = np.empty(0)
    n, of = input_shape[0], "feature" if len(input_shape) == 1 else "channel"
    fits = all(part.shape in ((1,), (n,)) and np.isfinite(part).all() for part in (mean, std))
    if not (fits and (std > 0).all()):
        raise ValueError(
            f"standardize={standardize!r} does not fit X. Pass a pair (mean, std), both a number "
            f"or {n} numbers, one per {of}, finite and std above 0; or 'auto', True, False or "
            "'imagenet'."
        )
    return mean, std
