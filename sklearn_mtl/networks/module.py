"""`MultiTaskModule`: one trunk, and a head per task."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sklearn_mtl.networks.members import MemberHeads, MemberLinear, Members, MemberTrunk

__all__ = ["HiddenHeads", "MultiTaskModule", "in_channels_last"]


class LinearHeads(nn.Linear):
    """Heads of all tasks, side by side."""

    def rescale(self, slope: Tensor) -> None:
        """Multiply the outputs by a slope (n_outputs,) each."""
        self.weight.mul_(slope.unsqueeze(1))
        self.bias.mul_(slope)


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
    n_members : int, default=0
        Members of an ensemble, each with weights of its own; 0 for weights that members share.

    Notes
    -----
    No loop over tasks: those with as many outputs are one batched product. Time and memory grow
    with the number of tasks, and not with its square.

    Examples
    --------
    >>> import torch
    >>> from sklearn_mtl.networks import HiddenHeads
    >>> HiddenHeads(8, n_outputs=[2, 1], n_hidden=16)(torch.zeros(5, 8)).shape
    torch.Size([5, 3])
    """

    tasks: Tensor | None  # tasks and outputs, in the order of the groups; None if there is one
    outputs: Tensor | None
    back: Tensor | None

    def __init__(
        self, n_features: int, n_outputs: Sequence[int], n_hidden: int, n_members: int = 0
    ) -> None:
        super().__init__()
        self.n_hidden = n_hidden
        n_units = len(n_outputs) * n_hidden
        self.hidden: nn.Linear | MemberLinear
        if n_members:
            self.hidden = MemberLinear(n_features, n_units, n_members)
        else:
            self.hidden = nn.Linear(n_features, n_units)
        bound = n_hidden**-0.5  # as in nn.Linear
        shape = (*[n_members] * (n_members > 0), sum(n_outputs), n_hidden)
        self.weight = nn.Parameter(torch.empty(shape).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(sum(n_outputs)).uniform_(-bound, bound))
        groups: dict[int, list[int]] = {}  # tasks by their number of outputs
        for k, width in enumerate(n_outputs):
            groups.setdefault(width, []).append(k)
        self.groups = [(len(tasks), width) for width, tasks in groups.items()]
        starts = list(itertools.accumulate(n_outputs, initial=0))
        tasks = [k for members in groups.values() for k in members]
        outputs = torch.tensor([starts[k] + i for k in tasks for i in range(n_outputs[k])]).long()
        alike = len(groups) == 1
        self.register_buffer("tasks", None if alike else torch.tensor(tasks), persistent=False)
        self.register_buffer("outputs", None if alike else outputs, persistent=False)
        self.register_buffer("back", None if alike else outputs.argsort(), persistent=False)

    def rescale(self, slope: Tensor) -> None:
        """Multiply each output by a slope.

        Parameters
        ----------
        slope : Tensor of shape (sum(n_outputs),)
            One for each output.
        """
        self.weight.mul_(slope.unsqueeze(1))
        self.bias.mul_(slope)

    def forward(self, features: Tensor) -> Tensor:
        """Map (..., n_features) to (..., sum(n_outputs))."""
        hidden = torch.relu(self.hidden(features)).unflatten(-1, (-1, self.n_hidden))
        hidden, weight = _take(hidden, self.tasks), _take(self.weight, self.outputs)
        hiddens = hidden.split([n_tasks for n_tasks, _ in self.groups], dim=-2)
        weights = weight.split([n_tasks * width for n_tasks, width in self.groups], dim=-2)
        product = "...th,tch->...tc" if weight.ndim == 2 else "bmth,mtch->bmtc"
        parts = [
            torch.einsum(product, h, w.unflatten(-2, group)).flatten(-2)
            for h, w, group in zip(hiddens, weights, self.groups, strict=True)
        ]
        out = parts[0] if self.back is None else torch.cat(parts, -1).index_select(-1, self.back)
        return out + self.bias


def _linear_heads(n_in: int, n_out: int) -> LinearHeads:
    """Linear heads, also of no output, as a single ordered class has: torch would warn of that."""
    layer = LinearHeads(n_in, max(1, n_out))
    if not n_out:
        layer.out_features = 0
        layer.weight, layer.bias = (
            nn.Parameter(p.detach()[:0]) for p in (layer.weight, layer.bias)
        )
    return layer


def _take(values: Tensor, index: Tensor | None) -> Tensor:
    return values if index is None else values.index_select(-2, index)


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

    Attributes
    ----------
    n_folds : int
        Members that share no weights, so that each can leave out a fold of the rows; 0 for none.

    Notes
    -----
    `heads` is one layer for all tasks, with a `weight` and a `bias` of length sum(n_outputs):
    there is no loop over tasks.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from sklearn_mtl.networks import MultiTaskModule
    >>> module = MultiTaskModule(nn.Linear(4, 8), n_features=8, n_outputs=[2, 1])
    >>> module(torch.zeros(5, 4)).shape  # two logits, and a number
    torch.Size([5, 3])
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
        self.n_folds = n_members = trunk.n_members if isinstance(trunk, Members) else 0
        self.heads: LinearHeads | HiddenHeads | MemberHeads
        if head_hidden_units:
            self.heads = HiddenHeads(n_features, n_outputs, head_hidden_units, n_members)
        elif n_members:
            self.heads = MemberHeads(n_features, sum(n_outputs), n_members)
        else:
            self.heads = _linear_heads(n_features, sum(n_outputs))
        if bias is not None:
            with torch.no_grad():
                self.heads.bias.copy_(bias)

    def widen(self, bounds: Tensor) -> None:
        """Let the heads of a `MemberTrunk` see inputs that are not clipped, but end at bounds.

        No output gives weight to them yet.

        Parameters
        ----------
        bounds : Tensor of shape (2, d)
            The least and the greatest values of the inputs.

        Raises
        ------
        ValueError
            If bounds are no such values, or the network has other heads or another trunk.
        """
        trunk, heads = self.trunk, self.heads
        if not (isinstance(trunk, MemberTrunk) and isinstance(heads, MemberHeads)):
            raise ValueError("bounds are for linear heads of a MemberTrunk.")
        right = bounds.shape == (2, trunk.width) and bool(torch.isfinite(bounds).all())
        if not (right and bool((bounds[0] <= bounds[1]).all())):
            raise ValueError(f"bounds must be finite, and of the shape {(2, trunk.width)}.")
        if trunk.bounds is None:
            heads.widen(trunk.width)
            self.n_features += trunk.width
        # Which ends sooner in float32 than in float64.
        trunk.bounds = bounds.detach().to(heads.weight, copy=True).nan_to_num()

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        """Make room for what the heads of a fitted network see, if this one's do not."""
        bounds = state_dict.get(f"{prefix}trunk.bounds")
        if isinstance(self.trunk, MemberTrunk) and bounds is not None:
            self.widen(bounds)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def embed(self, x: Tensor) -> Tensor:
        """Shared representation, which all heads see.

        Parameters
        ----------
        x : Tensor of shape (B, ...)
            Samples.

        Returns
        -------
        features : Tensor of shape (B, F), or (B, M F)
            Averaged over the members of an ensemble; of members that share no weights, side by
            side.
        """
        features = self._features(x)
        if self.n_folds:
            return features.flatten(1)
        return features.mean(dim=1) if features.ndim == 3 else features

    def forward(
        self, x: Tensor, by_member: bool | None = None, seen: Tensor | None = None
    ) -> Tensor:
        """Raw outputs of all tasks, side by side.

        Parameters
        ----------
        x : Tensor of shape (B, ...)
            Samples.
        by_member : bool, default=None
            Whether to return those of each member of an ensemble, or their mean. None is True in
            training mode, where losses are averaged, and False in evaluation mode.
        seen : Tensor of shape (B, M), default=None
            0 where a member does not learn from a sample: its output may be anything there.

        Returns
        -------
        raw : Tensor of shape (B, sum(n_outputs)), or (B, M, sum(n_outputs))
            With an axis for M members where they are asked for.
        """
        features = self._features(x, seen)
        if features.ndim == 2 or self.n_folds:
            raw = self.heads(features)
        else:  # Members as rows: three axes would be compiled for one size of batches only.
            raw = self.heads(features.flatten(0, 1)).unflatten(0, (-1, features.shape[1]))
        if by_member or (by_member is None and self.training) or raw.ndim == 2:
            return raw
        return raw.mean(dim=1)

    def _features(self, x: Tensor, seen: Tensor | None = None) -> Tensor:
        x = in_channels_last(x) if self.channels_last else x
        if seen is not None and isinstance(self.trunk, Members) and self.trunk.spares_rows:
            return self.trunk(x, seen)
        return self.trunk(x)


def in_channels_last(x: Tensor) -> Tensor:
    """Return images (B, C, H, W) as they are, but in the memory order of (B, H, W, C).

    Also those of one channel, for which `Tensor.contiguous` sees no difference.
    """
    moved = x.movedim(1, -1)
    return moved.flatten(1).unflatten(1, moved.shape[1:]).movedim(-1, 1)
