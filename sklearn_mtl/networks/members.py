"""Layers of an ensemble whose members share no weights: each can be trained on rows of its own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["MemberHeads", "MemberLinear", "MemberTrunk", "Members"]


class MemberLinear(nn.Module):
    """A linear layer of M members: (B, n_in) or (B, M, n_in) to (B, M, n_out).

    One batched product; in memory, members come first.

    Parameters
    ----------
    n_in : int
        Inputs.
    n_out : int
        Outputs.
    n_members : int
        M.

    Examples
    --------
    >>> import torch
    >>> from sklearn_mtl.networks import MemberLinear
    >>> MemberLinear(4, 8, n_members=5)(torch.zeros(2, 4)).shape
    torch.Size([2, 5, 8])
    """

    def __init__(self, n_in: int, n_out: int, n_members: int) -> None:
        super().__init__()
        bound = n_in**-0.5  # as in nn.Linear
        self.weight = nn.Parameter(torch.empty(n_members, n_in, n_out).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(n_members, n_out).uniform_(-bound, bound))

    def no_weight_decay(self) -> set[str]:
        """Name the parameters that decay leaves alone.

        Returns
        -------
        names : set of str
            As `named_parameters` has them.
        """
        return {"bias"}

    def forward(self, x: Tensor) -> Tensor:
        """Map samples that members share, or one sample for each."""
        by_member = x.expand(len(self.weight), -1, -1) if x.ndim == 2 else x.transpose(0, 1)
        return torch.baddbmm(self.bias.unsqueeze(1), by_member, self.weight).transpose(0, 1)


class MemberHeads(nn.Module):
    """Linear heads of M members, side by side: (B, M, n_features) to (B, M, n_outputs).

    The weights begin with 0: training begins with the constant that the bias is.

    Parameters
    ----------
    n_features : int
        Inputs.
    n_outputs : int
        Outputs of all tasks.
    n_members : int
        M.

    Examples
    --------
    >>> import torch
    >>> from sklearn_mtl.networks import MemberHeads
    >>> MemberHeads(8, n_outputs=3, n_members=5)(torch.zeros(2, 5, 8)).shape
    torch.Size([2, 5, 3])
    """

    def __init__(self, n_features: int, n_outputs: int, n_members: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(n_members, n_features, n_outputs))
        self.bias = nn.Parameter(torch.zeros(n_members, n_outputs))

    def no_weight_decay(self) -> set[str]:
        """Name the parameters that decay leaves alone.

        Returns
        -------
        names : set of str
            As `named_parameters` has them.
        """
        return {"bias"}

    def add(self, output: int, weight: Tensor, bias: Tensor) -> None:
        """Add to one output what is linear in the last features.

        Parameters
        ----------
        output : int
            Position of the output.
        weight : Tensor of shape (M, d)
            Of the last d features, for each member.
        bias : Tensor of shape (M,)
            Of each member.
        """
        self.weight[:, -weight.shape[1] :, output] += weight
        self.bias[:, output] += bias

    def widen(self, n_more: int) -> None:
        """Take more features behind the others, to which no output gives weight.

        Who holds the weights, such as an optimizer, holds them still.

        Parameters
        ----------
        n_more : int
            Number of them.
        """
        shape = (len(self.weight), n_more, self.weight.shape[2])
        self.weight.data = torch.cat([self.weight.data, self.weight.new_zeros(shape)], dim=1)
        self.weight.grad = None

    def rescale(self, slope: Tensor) -> None:
        """Multiply each output by a slope.

        Parameters
        ----------
        slope : Tensor of shape (n_outputs,)
            One for each output.
        """
        self.weight.mul_(slope)
        self.bias.mul_(slope)

    def forward(self, features: Tensor) -> Tensor:
        """Map the features of each member to its outputs."""
        by_member = features.transpose(0, 1)
        return torch.baddbmm(self.bias.unsqueeze(1), by_member, self.weight).transpose(0, 1)


class Members(nn.Module):
    """A trunk of members that share no weights: each can leave out a fold of the rows.

    It maps samples ``(B, *input_shape)`` to features (B, M, F), and so samples
    ``(B, M, *input_shape)``, of which each member sees one.

    Parameters
    ----------
    n_members : int
        M.

    Attributes
    ----------
    spares_rows : bool
        Whether it takes, in training, a second argument `seen` (B, M), and spares itself the
        features of samples for which a member has 0 there; they may be anything.

    Examples
    --------
    >>> from sklearn_mtl.networks import ConvTrunk, Ensemble, Members
    >>> isinstance(Ensemble(ConvTrunk(), n_members=3).build((1, 16, 16)), Members)
    True
    """

    spares_rows = False

    def __init__(self, n_members: int) -> None:
        super().__init__()
        self.n_members = n_members


class MemberTrunk(Members):
    """Members that see the same samples, or each one its own.

    Features of a member are its last hidden units, and the (clipped) inputs. Where there are
    `bounds`, the inputs follow once more, as they are between these, in `units`.

    Parameters
    ----------
    input_shape : tuple of int
        Shape of one sample.
    embedding : nn.Module
        Maps inputs (B, d) or, a sample for each member, (B, M, d) to (B, e) or (B, M, e), of which
        the first d are the inputs. What it has learned, if anything, should be each member's own:
        it then returns (B, M, e) always.
    n_embedded : int
        The number e of what the embedding returns.
    sizes : sequence of int
        Units per layer.
    n_members : int
        M.

    Attributes
    ----------
    bounds : Tensor of shape (2, d) or None
        The least and the greatest values of inputs that are not clipped otherwise; None, as at
        first, if heads see none.

    Notes
    -----
    Samples ``(B, *input_shape)`` are mapped to features (B, M, F), and so are samples
    ``(B, M, *input_shape)``, of which each member sees one.

    Examples
    --------
    >>> import torch
    >>> from sklearn_mtl.networks import MemberTrunk
    >>> trunk = MemberTrunk((4,), torch.nn.Identity(), n_embedded=4, sizes=[8], n_members=5)
    >>> trunk(torch.zeros(2, 4)).shape  # 8 hidden units, and the 4 inputs
    torch.Size([2, 5, 12])
    """

    bounds: Tensor | None

    def __init__(
        self,
        input_shape: tuple[int, ...],
        embedding: nn.Module,
        n_embedded: int,
        sizes: Sequence[int],
        n_members: int,
    ) -> None:
        super().__init__(n_members)
        self.n_axes, self.width = len(input_shape), torch.Size(input_shape).numel()
        self.embedding = embedding
        self.register_buffer("bounds", None)
        widths = [n_embedded, *sizes]
        self.layers = nn.ModuleList(
            MemberLinear(n_in, n_out, n_members)
            for n_in, n_out in zip(widths[:-1], sizes, strict=True)
        )

    @property
    def units(self) -> Tensor:
        """Units (d,) of the inputs within bounds: 1, or an eighteenth of the way between these.

        Whichever is more: where inputs are large, a step of a weight would move predictions far.
        """
        low, high = torch.zeros(2, self.width) if self.bounds is None else self.bounds / 18
        return (high - low).clamp(min=1)

    def straight(self, x: Tensor) -> Tensor:
        """Return the inputs as they reach the heads.

        Parameters
        ----------
        x : Tensor of shape (B, ...), or (B, M, ...)
            Samples.

        Returns
        -------
        inputs : Tensor of shape (B, d), or (B, 2 d) where there are bounds
            Of samples for each member, those of the first.
        """
        x = x.flatten(-self.n_axes)
        parts = self._straight(x, self.embedding(x))
        return torch.cat([part if part.ndim == 2 else part[:, 0] for part in parts], dim=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the features (B, M, F)."""
        x = x.flatten(-self.n_axes)
        hidden = self.embedding(x)
        straight = [
            part if part.ndim == 3 else part.unsqueeze(1).expand(-1, self.n_members, -1)
            for part in self._straight(x, hidden)
        ]
        for layer in self.layers:
            hidden = torch.relu(layer(hidden))
        return torch.cat([hidden, *straight], dim=2)

    def _straight(self, x: Tensor, embedded: Tensor) -> list[Tensor]:
        """Return what the heads see of inputs (B, d) or (B, M, d): clipped, and within bounds."""
        clipped = embedded[..., : self.width]
        if self.bounds is None:
            return [clipped]
        return [clipped, torch.clamp(x, self.bounds[0], self.bounds[1]) / self.units]
