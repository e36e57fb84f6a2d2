"""`SequenceTrunk`: residual convolutions over sequences that end where their mask says."""

from __future__ import annotations

import math
from numbers import Integral
from typing import Any, ClassVar

import torch
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import Interval
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["SequenceTrunk"]

CELLS = 4  # that the last map is pooled to


class SequenceTrunk(BaseEstimator):
    """Residual convolutional trunk for sequences of unequal length, padded to one.

    Samples have the shape (C + 1, L), as :class:`~sklearn_mtl.datasets.SequencePad` makes them. The
    last channel is a mask: it has one value at the first step and at all others that are part of
    the sequence, and another one at the padding behind them. What the padding holds, and how long
    it is, changes no prediction of a network: convolutions see zeros there, norms and pooling leave
    it out, and so do the mean and the scale by which the estimator standardises channels.

    Stages halve the resolution until L steps, padding included, are about 4: padded to another
    length, a fit may have another stage; `SequencePad(length=...)` sets it. Of what is left
    of each sequence, the means of its four quarters are read, so that the features keep *where*
    things are.

    Parameters
    ----------
    width : int, default=16
        Channels of the first stage; they double per stage, up to four times.
    n_features : int, default=128
        Size F of the representation.

    Examples
    --------
    >>> import torch
    >>> from sklearn_mtl.networks import SequenceTrunk
    >>> SequenceTrunk().build((2, 60))(torch.ones(3, 2, 60)).shape  # a channel and its mask
    torch.Size([3, 128])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "width": [Interval(Integral, 1, None, closed="left")],
        "n_features": [Interval(Integral, 1, None, closed="left")],
    }

    reads_mask: ClassVar[bool] = True

    def __init__(self, width: int = 16, n_features: int = 128) -> None:
        self.width = width
        self.n_features = n_features

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
            If a parameter is not as described, or samples are no sequences with a mask.
        """
        self._validate_params()
        if len(input_shape) != 2 or input_shape[0] < 2:
            raise ValueError(
                f"SequenceTrunk needs samples of shape (C + 1, L), the last channel a mask, got "
                f"{input_shape}. Pass what SequencePad of sklearn_mtl.datasets makes, and its "
                "shape as input_shape=X.shape[1:]; of a part of X, as input_shape={name: shape}."
            )
        n_stages = max(1, round(math.log2(max(input_shape[1] / 4, 2))))
        stages, channels = nn.ModuleList(), input_shape[0] - 1
        for stage in range(n_stages):
            width = self.width * 2 ** min(stage, 2)
            stages.append(_Stage(channels, width))
            channels = width
        return _Sequences(stages, nn.Linear(CELLS * channels, self.n_features))


class _Sequences(nn.Module):
    """Stages that know where sequences end, and a layer that reads the four quarters of each."""

    def __init__(self, stages: nn.ModuleList, summary: nn.Linear) -> None:
        super().__init__()
        self.stages, self.summary = stages, summary

    def forward(self, x: Tensor) -> Tensor:
        seen = (x[:, -1:] != x[:, -1:, :1]).cumsum(dim=-1) == 0  # up to where it ends
        x = x[:, :-1].where(seen, 0)
        for stage in self.stages:
            x, seen = stage(x, seen)
        return F.leaky_relu(self.summary(_quarters(x, seen).flatten(1)))


class _Stage(nn.Module):
    """As of `ConvTrunk`: convolution and pooling by 2, then a residual convolution."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.enter = nn.Conv1d(n_in, n_out, 3, padding=1, bias=False)
        self.norm = _SeenNorm(n_out)
        self.residual = nn.Conv1d(n_out, n_out, 3, padding=1, bias=False)
        self.residual_norm = _SeenNorm(n_out)

    def forward(self, x: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        x = self.enter(x).masked_fill(~seen, -torch.inf)
        x, seen = F.max_pool1d(x, 2, ceil_mode=True), seen[..., ::2]
        x = torch.relu(self.norm(x, seen))
        x = torch.relu(x + self.residual_norm(self.residual(x), seen))
        return x.where(seen, 0), seen


class _SeenNorm(nn.Module):
    """Group norm of the steps that are seen; the others become 0."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.n_groups = math.gcd(8, channels)
        self.weight = nn.Parameter(torch.ones(channels, 1))
        self.bias = nn.Parameter(torch.zeros(channels, 1))

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        x = x.to(self.weight.dtype).where(seen, 0)
        groups = x.unflatten(1, (self.n_groups, -1))
        count = seen.sum(dim=-1)[..., None, None] * groups.shape[2]
        off = (groups - groups.sum(dim=(2, 3), keepdim=True) / count).where(seen[:, None], 0)
        spread = off.square().sum(dim=(2, 3), keepdim=True) / count
        return ((off * (spread + 1e-5).rsqrt()).flatten(1, 2) * self.weight + self.bias).where(
            seen, 0
        )


def _quarters(x: Tensor, seen: Tensor) -> Tensor:
    """Return the means of the quarters of each sequence, (B, C, 4), as of an adaptive pooling."""
    length = seen.sum(dim=-1, keepdim=True)  # (B, 1, 1)
    cell = torch.arange(CELLS, device=x.device)[:, None]
    step = torch.arange(x.shape[-1], device=x.device)
    start = torch.div(cell * length, CELLS, rounding_mode="floor")
    stop = torch.div((cell + 1) * length + CELLS - 1, CELLS, rounding_mode="floor")
    inside = ((step >= start) & (step < stop)).to(x.dtype)  # (B, 4, L)
    return x @ (inside / inside.sum(dim=-1, keepdim=True)).transpose(1, 2)
