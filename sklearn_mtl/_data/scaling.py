"""What means and scales are of: steps of sequences; and those that are told, and not learned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["IMAGENET", "Moments", "Together", "alone", "seen_steps", "told_scaling"]

FloatArray = NDArray[np.float64]

# From what this process has found in its rows to what all have found, one after the other.
Together = Callable[[Any], list[Any]]


def alone(found: Any) -> list[Any]:
    """Return what the only process has found."""
    return [found]


class Moments:
    """Means and spreads of channels, of samples that come in parts, which are merged [1]_.

    Parameters
    ----------
    n_channels : int

    Attributes
    ----------
    total : float
        Sum of the weights of all values of a channel.
    mean : ndarray of shape (n_channels,)

    References
    ----------
    .. [1] T. F. Chan, G. H. Golub and R. J. LeVeque, "Updating Formulae and a Pairwise Algorithm
       for Computing Sample Variances", COMPSTAT 1982.
    """

    def __init__(self, n_channels: int) -> None:
        self.total = 0.0
        # Sums of what is left of a huge offset lose no digits.
        zeros: FloatArray = np.zeros((3, n_channels))
        self.shift, self.rest, self.square = zeros

    @property
    def mean(self) -> FloatArray:
        """Return the weighted means."""
        return self.rest + self.shift

    @property
    def scale(self) -> FloatArray:
        """Return standard deviations, and what to divide by where there is none."""
        scale = np.sqrt(self.square / self.total)
        # A spread within the rounding error of the mean is no spread (as in StandardScaler).
        least = 10 * np.finfo(np.float64).eps * np.abs(self.mean)
        return np.where(scale <= least, np.maximum(1.0, least), scale)

    def add(self, batch: FloatArray, weight: NDArray[Any]) -> None:
        """Take in samples (n, C, m) with weights (n,); of the samples, deviations are left."""
        if self.total == 0:
            self.shift = batch.mean(axis=(0, 2))
        batch -= self.shift[:, None]
        mass = weight.sum() * batch.shape[2]
        mean = np.einsum("i,icj->c", weight, batch) / mass
        batch -= mean[:, None]
        self._merge(mass, mean, np.einsum("i,icj,icj->c", weight, batch, batch))

    @classmethod
    def merged(cls, parts: Sequence[Moments]) -> Moments:
        """Merge those of several parts; that of one stays as it is."""
        if len(parts) == 1:
            return parts[0]
        out = cls(len(parts[0].mean))
        for part in parts:
            if part.total > 0:
                if out.total == 0:
                    out.shift = part.shift
                out._merge(part.total, part.rest + (part.shift - out.shift), part.square)
        return out

    def _merge(self, mass: Any, mean: FloatArray, square: FloatArray) -> None:
        delta = mean - self.rest
        self.total += mass
        self.rest = self.rest + delta * (mass / self.total)
        self.square = self.square + square
        self.square += delta**2 * (mass * ((self.total - mass) / self.total))


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
