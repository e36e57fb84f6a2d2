"""`ConvTrunk`: residual convolutions, for sequences, images and volumes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from numbers import Integral, Real
from typing import Any, ClassVar

import torch
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import Interval, StrOptions
from torch import Tensor, nn

__all__ = ["ConvTrunk", "PooledConv", "Shift", "auto_stride", "rearranged"]


class ConvTrunk(BaseEstimator):
    """Residual convolutional trunk for sequences (C, L), images (C, H, W), volumes (C, D, H, W).

    Stages halve the resolution until it is about 4; the features keep *where* things are, because
    the last map is flattened and not averaged. Large images are made smaller at once, by a first
    convolution with a `stride`.

    Parameters
    ----------
    width : int, default=16
        Channels of the first stage; they double per stage, up to four times.
    n_features : int, default=128
        Size F of the representation.
    max_shift : float, default=0.1
        Largest shift in training, as a share of each side, rounded down to whole pixels: samples
        are moved at random by up to that many pixels (or steps) in every direction, and their edges
        repeated. The network then learns what things look like instead of single pixels by heart.
        With 0.1, sides below 10 pixels do not move. Where a target is a position, declare it by
        `geometry`, see `Task`, and it moves with the image; else the shift is noise, and its
        predictions shrink towards the mean. Choose 0 where a position in X has a meaning of its
        own, as in spectra, and for optimizers with a line search.
    stride : int or 'auto', default='auto'
        Step of a first convolution before the stages, which see images of sides that are shorter
        by this factor; 1 for none. 'auto' is 1 for sequences, volumes, and images of fewer than
        128 x 128 pixels; of larger ones, the power of 2 by which they come closest to 64 x 64: 2
        for 128 x 128, 4 for 224 x 224, 8 for 512 x 512.

    Examples
    --------
    >>> import torch
    >>> from sklearn_mtl.networks import ConvTrunk
    >>> trunk = ConvTrunk(width=8).build((1, 16, 16))
    >>> trunk(torch.zeros(2, 1, 16, 16)).shape
    torch.Size([2, 128])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "width": [Interval(Integral, 1, None, closed="left")],
        "n_features": [Interval(Integral, 1, None, closed="left")],
        "max_shift": [Interval(Real, 0, 0.5, closed="both")],
        "stride": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
    }

    def __init__(
        self,
        width: int = 16,
        n_features: int = 128,
        max_shift: float = 0.1,
        stride: int | str = "auto",
    ) -> None:
        self.width = width
        self.n_features = n_features
        self.max_shift = max_shift
        self.stride = stride

    def build(self, input_shape: tuple[int, ...]) -> nn.Module:
        """Return the trunk for inputs of `input_shape`.

        Parameters
        ----------
        input_shape : tuple of int
            Shape of one sample, channels first.

        Returns
        -------
        trunk : nn.Module
            From a batch (B, ...) to features (B, F).

        Raises
        ------
        ValueError
            If a parameter is not as described, or samples are rows.
        """
        self._validate_params()
        n_dims = len(input_shape) - 1
        if n_dims not in CONV:
            raise ValueError(
                f"ConvTrunk needs samples of shape (C, L), (C, H, W) or (C, D, H, W), got "
                f"{input_shape}. Pass input_shape= to say how to read a row as an image."
            )
        channels, sides = input_shape[0], input_shape[1:]
        layers: list[nn.Module] = [Shift(int(self.max_shift * side + 1e-9) for side in sides)]
        stride = auto_stride(sides) if self.stride == "auto" else int(self.stride)
        if stride > 1:
            layers.append(_stem(n_dims, channels, self.width, stride))
            channels = self.width
        n_stages = max(1, round(math.log2(max(math.ceil(max(sides) / stride) / 4, 2))))
        for stage in range(n_stages):
            width = self.width * 2 ** min(stage, 2)
            layers.append(_Stage(n_dims, channels, width))
            channels = width
        grid = tuple(min(4, side) for side in sides)
        pool = ADAPTIVE_POOL[n_dims](grid)
        summary = nn.Linear(channels * math.prod(grid), self.n_features)
        # Leaky: strong weight decay, before the first thing is learned, can leave all units off.
        return PooledConv(*layers, pool, nn.Flatten(), summary, nn.LeakyReLU())


def auto_stride(sides: Sequence[int]) -> int:
    """Step of the first convolution for samples of these sides; 1 for none."""
    side = math.sqrt(math.prod(sides))  # of a square image with as many pixels
    return 2 ** round(math.log2(side / 64)) if len(sides) == 2 and side >= 128 else 1


class PooledConv(nn.Sequential):
    """Layers that take samples of any sides, as they pool them to a map of one size."""


CONV: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
MAX_POOL: dict[int, Any] = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}
ADAPTIVE_POOL: dict[int, Any] = {
    1: nn.AdaptiveAvgPool1d,
    2: nn.AdaptiveAvgPool2d,
    3: nn.AdaptiveAvgPool3d,
}


class Shift(nn.Module):
    """In training, each sample moved at random by up to `reach` steps along every dimension.

    Drawn on the CPU, from its generator, or torch's global one.
    """

    generator: torch.Generator | None = None

    def __init__(self, reach: Iterable[int]) -> None:
        super().__init__()
        self.reach = tuple(reach)

    def extra_repr(self) -> str:
        """Say how far."""
        return f"reach={self.reach}"

    def forward(self, x: Tensor) -> Tensor:
        """Move samples (n, C, ...) in training."""
        if not self.training or not any(self.reach):
            return x
        places = []
        for reach, size in zip(self.reach, x.shape[2:], strict=True):
            move = torch.randint(-reach, reach + 1, (len(x), 1), generator=self.generator)
            cells = torch.arange(size, device=x.device) + move.to(x.device)
            places.append(cells.clamp(0, size - 1))
        return rearranged(x, places)


def rearranged(x: Tensor, places: Sequence[Tensor]) -> Tensor:
    """Take the cells of samples (n, C, ...) from `places` (n, size), for each dimension."""
    index = [torch.arange(len(x), device=x.device).view(-1, *[1] * len(places))]
    for dim, cells in enumerate(places):
        shape = [cells.shape[1] if d == dim else 1 for d in range(len(places))]
        index.append(cells.view(-1, *shape))
    return x.movedim(1, -1)[tuple(index)].movedim(-1, 1)


class _Stage(nn.Module):
    """Convolution and pooling by 2, then a residual convolution at the lower resolution."""

    def __init__(self, n_dims: int, n_in: int, n_out: int) -> None:
        super().__init__()
        conv = CONV[n_dims]
        self.enter = nn.Sequential(
            conv(n_in, n_out, 3, padding=1, bias=False),
            MAX_POOL[n_dims](2, ceil_mode=True),  # before the norm: a quarter of its cost
            _norm(n_out),
            nn.ReLU(),
        )
        self.residual = nn.Sequential(conv(n_out, n_out, 3, padding=1, bias=False), _norm(n_out))

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        return torch.relu(x + self.residual(x))


def _stem(n_dims: int, n_in: int, n_out: int, stride: int) -> nn.Sequential:
    """Make a convolution over windows that overlap; sides become shorter by `stride`."""
    conv = CONV[n_dims](n_in, n_out, 2 * stride - 1, stride, padding=stride - 1, bias=False)
    return nn.Sequential(conv, _norm(n_out), nn.ReLU())


def _norm(channels: int) -> nn.Module:
    return nn.GroupNorm(math.gcd(8, channels), channels)
