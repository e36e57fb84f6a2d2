"""`DenseTrunk`: fully connected, for tabular rows."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, ClassVar

import torch
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import Interval, StrOptions
from torch import Tensor, nn

from sklearn_mtl.networks.members import MemberTrunk

__all__ = ["DenseTrunk", "layer_sizes"]

IN_CACHE = 2**17  # values of waves

# Frequency scales of so many rows and fewer, of so many and more; between, along a power of them.
FEW_ROWS, MANY_ROWS = (2_000, 0.3), (20_000, 1.0)


class DenseTrunk(BaseEstimator):
    """Fully connected trunk for tabular rows (other inputs are flattened).

    Every feature is clipped softly, and goes in as it is and as learned waves, from which a few
    layers build functions with steps and bends as trees do [1]_. The heads see the features too,
    so that what is linear in them is learned soon. All this is there once for each member of a
    small ensemble: features have the shape (B, n_members, F), loss and predictions are averaged
    over members. In `fit`, each member leaves out a part of the rows, its fold, as in
    cross-validation and bagging; predictions of the rows left out say how long to train, and how
    much to believe. There are no batch statistics and no dropout, so that a sample weight of 2
    equals the row twice.

    Features that take at most two values in `fit`, such as one-hot codes, get no waves: all
    functions of such a feature are linear in it.

    Predictions level off beyond three standard deviations of a feature, as those of trees do beyond
    the last split. Where numbers of rows left out are predicted much better by a line over features
    that are not clipped, as sums of features with long tails are, that is mixed into the heads
    instead, and levels off one range beyond the data. For trends to be continued, choose
    ``n_frequencies=0``.

    Parameters
    ----------
    hidden_layer_sizes : sequence of int or int, default=(192, 192)
        Units per layer; an int is one layer. ``()`` has no hidden layer: every head is then a
        linear model of X, and the other parameters say nothing.
    n_members : int, default=5
        Members of the ensemble, and folds of the rows. Time grows with it. A single member leaves
        out nothing.
    n_frequencies : int, default=16
        Waves per feature; time grows with it. 0 for none, and for features that are not clipped.
    frequency_scale : float or 'auto', default='auto'
        Standard deviation of the waves' initial frequencies, in periods per unit of a feature,
        which has been scaled to about one standard deviation. Higher fits steps, and noise, more:
        'auto' is 0.3, and grows with the rows from 2,000 on, to 1 from 20,000 on; not with a single
        member, as nothing says when that has learned enough.

    References
    ----------
    .. [1] D. Holzmueller, L. Grinsztajn, I. Steinwart, "Better by Default: Strong Pre-Tuned MLPs
       and Boosted Trees on Tabular Data", NeurIPS 2024, arXiv:2407.04491 (the embedding PBLD).

    Examples
    --------
    >>> import torch
    >>> from sklearn_mtl.networks import DenseTrunk
    >>> DenseTrunk((32,), n_members=1).build((5,))(torch.zeros(2, 5)).shape
    torch.Size([2, 32])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
        "n_members": [Interval(Integral, 1, None, closed="left")],
        "n_frequencies": [Interval(Integral, 0, None, closed="left")],
        "frequency_scale": [Interval(Real, 0, None, closed="neither"), StrOptions({"auto"})],
    }

    def __init__(
        self,
        hidden_layer_sizes: Sequence[int] | int = (192, 192),
        n_members: int = 5,
        n_frequencies: int = 16,
        frequency_scale: float | str = "auto",
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.n_members = n_members
        self.n_frequencies = n_frequencies
        self.frequency_scale = frequency_scale

    @property
    def n_folds(self) -> int:
        """Folds of the rows, of which each member leaves out one; 0 for none."""
        return self.n_members if layer_sizes(self) and self.n_members > 1 else 0

    def build(
        self,
        input_shape: tuple[int, ...],
        two_valued: tuple[int, ...] = (),
        n_rows: int | None = None,
    ) -> nn.Module:
        """Return the trunk for inputs of `input_shape`.

        Parameters
        ----------
        input_shape : tuple of int
            Shape of one sample.
        two_valued : tuple of int, default=()
            Positions of features that take at most two values, and get no waves.
        n_rows : int, optional
            Rows to train on, which 'auto' goes by; few, if nothing is said. In a stream, those of
            the first call.

        Returns
        -------
        trunk : nn.Module
            From a batch (B, ...) to features (B, F), or (B, M, F) of M members.

        Raises
        ------
        ValueError
            If a parameter is not as described.
        """
        sizes = layer_sizes(self)
        width = math.prod(input_shape)
        if not sizes:
            return nn.Flatten()
        embedding, n_embedded = self._embedding(width, two_valued, n_rows)
        if self.n_members > 1:
            return MemberTrunk(input_shape, embedding, n_embedded, sizes, self.n_members)
        layers = [nn.Flatten(), *[embedding] * (self.n_frequencies > 0)]
        for n_in, n_out in itertools.pairwise([n_embedded, *sizes]):
            layers += [nn.Linear(n_in, n_out), nn.ReLU()]
        return nn.Sequential(*layers)

    def _embedding(
        self, width: int, two_valued: tuple[int, ...], n_rows: int | None
    ) -> tuple[nn.Module, int]:
        """Return what comes before the layers, and its number of outputs."""
        if not self.n_frequencies:
            return nn.Identity(), width
        waved = sorted(set(range(width)) - set(two_valued))
        if not waved:
            return _SoftClip(), width
        members = self.n_members if self.n_members > 1 else None
        scale = self.frequency_scale
        told = n_rows if members else None  # noise is fine, too, and a single one learns it
        scale = auto_frequency_scale(told) if scale == "auto" else float(scale)
        waves = _Waves(width, self.n_frequencies, scale, waved, members)
        return waves, width + len(waved) * waves.n_mixtures


def auto_frequency_scale(n_rows: int | None) -> float:
    """Return what 'auto' is for so many rows: the more there are, the finer steps they tell."""
    (few, least), (many, most) = FEW_ROWS, MANY_ROWS
    power = math.log(most / least) / math.log(many / few)
    return float(least * (min(max(n_rows or few, few), many) / few) ** power)


def layer_sizes(spec: Any) -> tuple[int, ...]:
    """Return the units per layer, once all parameters of a spec are as described.

    Parameters
    ----------
    spec : estimator
        With `hidden_layer_sizes`.
    """
    spec._validate_params()
    given = spec.hidden_layer_sizes
    sizes = (given,) if isinstance(given, Integral) else tuple(given)
    if any(isinstance(u, bool) or not isinstance(u, Integral) or int(u) < 1 for u in sizes):
        raise ValueError(
            f"hidden_layer_sizes={given!r} of {type(spec).__name__} must be whole numbers above 0."
        )
    return sizes


class _SoftClip(nn.Module):
    """Features x / sqrt(1 + (x / 3)^2): outliers do not pull the network."""

    def forward(self, x: Tensor) -> Tensor:
        near = x.clamp(-1e9, 1e9)  # squares stay finite; infinity, by 0 * x, becomes NaN: an error
        return near * torch.rsqrt(1 + (near / 3) ** 2) + 0 * x


class _Waves(_SoftClip):
    """Features (B, d), and for n of them a few mixtures of cosines of it: (B, d + 4 n).

    M members have waves of their own: (B, d) or (B, M, d) to (B, M, d + 4 n). Clipped softly,
    outliers do not run through many periods.
    """

    n_mixtures = 4
    waved: Tensor | None  # positions of the n; None if n is d

    def __init__(
        self,
        width: int,
        n_frequencies: int,
        scale: float,
        waved: Sequence[int],
        n_members: int | None = None,
    ) -> None:
        super().__init__()
        some = None if len(waved) == width else torch.tensor(waved)
        self.register_buffer("waved", some, persistent=False)  # it follows from the data
        shape = (*([n_members] if n_members else []), len(waved), n_frequencies)
        self.frequency = nn.Parameter(scale * torch.randn(shape))
        self.phase = nn.Parameter(torch.rand(shape))
        self.mixture = nn.Parameter(n_frequencies**-0.5 * torch.randn(*shape, self.n_mixtures))

    def no_weight_decay(self) -> set[str]:
        return {"frequency", "phase"}

    def forward(self, x: Tensor) -> Tensor:
        x, own = super().forward(x), (self.frequency, self.phase, self.mixture)
        if self.frequency.ndim == 2:
            return self._with_mixtures(x, *own)
        # Not of rows to predict: an exported graph has no number of them that it could go by.
        few = self.training or x.ndim == 3
        if few and len(x) * self.frequency.numel() <= IN_CACHE:
            return self._with_mixtures(x, *own)
        members = x.unbind(1) if x.ndim == 3 else [x] * len(self.frequency)
        # One after the other, which takes half the time of all at once: they stay in the cache.
        return torch.stack([*map(self._with_mixtures, members, *own)], dim=1)

    def _with_mixtures(
        self, x: Tensor, frequency: Tensor, phase: Tensor, mixture: Tensor
    ) -> Tensor:
        """Return (B, d + 4 n), or (B, M, d + 4 n) by the waves of all members."""
        waved = x if self.waved is None else x.index_select(-1, self.waved)
        # (n, B, 1): a matrix product for each. In this order in memory, and so is all that follows.
        by_feature = waved.movedim(0, -1).unsqueeze(-1).contiguous()
        turns = torch.addcmul(phase.unsqueeze(-2), by_feature, frequency.unsqueeze(-2))
        cosines = torch.cos(turns.mul_(2 * math.pi)).flatten(0, -3)
        mixtures = torch.bmm(cosines, mixture.flatten(0, -3))
        mixtures = mixtures.view(*turns.shape[:-1], self.n_mixtures).movedim(-2, 0).flatten(-2)
        if mixtures.ndim > x.ndim:
            x = x.unsqueeze(1).expand(-1, mixtures.shape[1], -1)
        return torch.cat([x, mixtures], dim=-1)
