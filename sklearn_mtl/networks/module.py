"""`MultiTaskModule`: one trunk, and a head per task."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["HiddenHeads", "MultiTaskModule", "in_channels_last"]


class HiddenHeads(nn.Module):
    """One hidden layer of ReLU units per task, and the task's outputs on top of it.

    Parameters
    ----------
    n_features : int
        Inputs of all tasks.
    n_outputs : sequence of int
        Outputs per task; they stand side by side.
    n_hidden : int
        Hidden units per task. No other task sees them.

    Notes
    -----
    Two matrix products and no loop over tasks: the second matrix is zero where an output would meet
    the units of another task. It grows with the square of the number of tasks, which costs little
    up to about a hundred.
    """

    owner: Tensor

    def __init__(self, n_features: int, n_outputs: Sequence[int], n_hidden: int) -> None:
        super().__init__()
        n_tasks = len(n_outputs)
        self.hidden = nn.Linear(n_features, n_tasks * n_hidden)
        bound = n_hidden**-0.5  # as in nn.Linear
        self.weight = nn.Parameter(torch.empty(sum(n_outputs), n_hidden).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(sum(n_outputs)).uniform_(-bound, bound))
        owner = torch.eye(n_tasks).repeat_interleave(torch.tensor(n_outputs), dim=0)
        self.register_buffer("owner", owner.unsqueeze(2), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """Map (..., n_features) to (..., sum(n_outputs))."""
        hidden = torch.relu(self.hidden(features))
        weight = (self.owner * self.weight.unsqueeze(1)).flatten(1)
        return nn.functional.linear(hidden, weight, self.bias)


class MultiTaskModule(nn.Module):
    """A shared trunk with one head per task.

    Parameters
    ----------
    trunk : nn.Module
        Maps ``(B, *input_shape)`` to features (B, F) or (B, M, F).
    n_features : int
        F.
    n_outputs : sequence of int
        Raw outputs per task; they stand side by side in the output.
    bias : Tensor of shape (sum(n_outputs),), optional
        Start of the heads' biases: the raw outputs of the best constant predictor, from where
        training of rare classes starts best.
    head_hidden_units : int, default=0
        Hidden ReLU units of each head, which no other task shares; 0 for linear heads.
    channels_last : bool, default=False
        Whether the trunk gets images in the memory order "channels last", in which most
        convolutions are faster.

    Notes
    -----
    `heads` is one layer for all tasks, with a `weight` and a `bias` of length sum(n_outputs):
    there is no loop over tasks.
    """

    def __init__(
        self,
        trunk: nn.Module,
        n_features: int,
        n_outputs: Sequence[int],
        bias: Tensor | None = None,
        head_hidden_units: int = 0,
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        self.trunk, self.n_features, self.channels_last = trunk, n_features, channels_last
        self.heads: nn.Linear | HiddenHeads
        with warnings.catch_warnings():  # a single ordered class has no output at all
            warnings.filterwarnings("ignore", "Initializing zero-element tensors")
            if head_hidden_units:
                self.heads = HiddenHeads(n_features, n_outputs, head_hidden_units)
            else:
                self.heads = nn.Linear(n_features, sum(n_outputs))
        if bias is not None:
            with torch.no_grad():
                self.heads.bias.copy_(bias)

    def embed(self, x: Tensor) -> Tensor:
        """Shared representation (B, F), averaged over ensemble members."""
        features = self._features(x)
        return features.mean(dim=1) if features.ndim == 3 else features

    def forward(self, x: Tensor) -> Tensor:
        """Raw outputs (B, sum(n_outputs)), or (B, M, sum(n_outputs))."""
        features = self._features(x)
        if features.ndim == 2:
            return self.heads(features)
        # Members as rows: linear layers over three axes are compiled for one size of batches only.
        return self.heads(features.flatten(0, 1)).unflatten(0, (-1, features.shape[1]))

    def _features(self, x: Tensor) -> Tensor:
        return self.trunk(in_channels_last(x) if self.channels_last else x)


def in_channels_last(x: Tensor) -> Tensor:
    """Return images (B, C, H, W) as they are, but in the memory order of (B, H, W, C).

    Also those of one channel, for which `Tensor.contiguous` sees no difference.
    """
    moved = x.movedim(1, -1)
    return moved.flatten(1).unflatten(1, moved.shape[1:]).movedim(-1, 1)
