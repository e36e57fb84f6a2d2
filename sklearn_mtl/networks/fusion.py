"""`Fusion`: a trunk for several inputs, made of a trunk for each."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any, ClassVar, Self

import torch
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import Interval
from torch import Tensor, nn
from torch.nn import functional as F

from sklearn_mtl.networks.build import TRUNKS, build_trunk, named_spec, takes_channels_last
from sklearn_mtl.networks.dense import DenseTrunk, layer_sizes
from sklearn_mtl.networks.module import in_channels_last

__all__ = ["Fused", "Fusion", "parts_of", "single_spec"]


class Fusion(BaseEstimator):
    """Trunk for X of several parts, such as an image and a table: a trunk for each.

    The features of all parts go side by side through one layer, in which they meet; heads see what
    that makes of them, and the features themselves. Where a row lacks a part, a learned vector
    stands in for its features, and the part's trunk learns nothing from the row.

    Parameters
    ----------
    parts : dict of str to (str, spec, nn.Module or callable), default=None
        Trunks by the names of the parts of X, as :class:`~sklearn_mtl.datasets.MultiInput` or the
        `input_shape` of the estimator has them. What a trunk can be, is said of `trunk` of the
        estimator. Parts that are not named here have 'auto': a `ConvTrunk`, or for tables a
        `DenseTrunk` of a single member. Parameters of specs can be searched:
        ``trunk__image__width``.
    hidden_layer_sizes : sequence of int or int, default=(128,)
        Units of the layers that all features go through; ``()`` for none: heads then add up what
        the parts say.

    Notes
    -----
    *Ensembles.* Where the trunk of a part has members, such as ``DenseTrunk()`` with five, each of
    them meets the features of the other parts, and loss and predictions are averaged over them.
    Members leave out no rows here, as they share the trunks of other parts: there are no
    `oob_prediction_` and no intervals without validation data. Those of an `Ensemble` of the whole
    `Fusion` do.

    Examples
    --------
    >>> from sklearn_mtl import MultiTaskCNNEstimator
    >>> from sklearn_mtl.networks import ConvTrunk, Fusion
    >>> estimator = MultiTaskCNNEstimator(trunk=Fusion({"image": ConvTrunk()}))
    >>> estimator.set_params(trunk__image__width=8).get_params()["trunk__image__width"]
    8
    """

    takes_parts = True

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "parts": [None, dict],
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        parts: dict[str, Any] | None = None,
        hidden_layer_sizes: Sequence[int] | int = (128,),
    ) -> None:
        self.parts = parts
        self.hidden_layer_sizes = hidden_layer_sizes

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters; `deep`, those of the trunks too, as ``image__width``."""
        params: dict[str, Any] = super().get_params(deep=False)
        if deep:
            for name, part in parts_of(self).items():
                params[name] = part
                if hasattr(part, "get_params") and not isinstance(part, type):
                    params |= {f"{name}__{n}": v for n, v in part.get_params().items()}
        return params

    def set_params(self, **params: Any) -> Self:
        """Set parameters, trunks by their names, and parameters of trunks by ``image__width``.

        Raises
        ------
        ValueError
            If there is no such parameter, or a trunk is a name and has none.
        """
        if "parts" in params:
            self.parts = params.pop("parts")
        known = parts_of(self)
        whole = {name: params.pop(name) for name in list(params) if name in known}
        if whole:
            self.parts = {**known, **whole}
        for name in params:
            part = parts_of(self).get(name.partition("__")[0])
            if part is not None and not hasattr(part, "get_params"):
                raise ValueError(
                    f"{name} cannot be set: the trunk of this part is {part!r}, which has no "
                    "parameters. Pass a spec instead, such as ConvTrunk() of sklearn_mtl.networks."
                )
        return super().set_params(**params)

    def build(
        self,
        input_shape: Mapping[str, tuple[int, ...]],
        two_valued: Any = (),
        n_rows: int | None = None,
    ) -> nn.Module:
        """Return the trunk for inputs of these shapes.

        Parameters
        ----------
        input_shape : dict of str to tuple of int
            Shapes of samples of each part, in the order in which they stand in a row.
        two_valued : dict of str to tuple of int, default=()
            Positions of features of a part that take at most two values.
        n_rows : int, optional
            Rows to train on.

        Returns
        -------
        trunk : Fused
            From rows (B, d), in which all parts stand side by side, to features (B, F), or (B, M,
            F) if a trunk of a part has M members.

        Raises
        ------
        ValueError
            If a parameter is not as described, X has no part of a name, or a trunk does not fit.
        """
        sizes = layer_sizes(self)
        self._check_names(input_shape)
        built = {}
        for name, spec in self._specs(input_shape).items():
            levels = two_valued.get(name, ()) if isinstance(two_valued, Mapping) else ()
            try:
                trunk, n_features = build_trunk(spec, input_shape[name], levels, n_rows)
            except (ValueError, TypeError) as error:
                kind = ValueError if isinstance(error, ValueError) else TypeError
                raise kind(f"Fusion, part {name!r}: {error}") from error
            built[name] = _Part(trunk, n_features, input_shape[name])
        return Fused(built, input_shape, sizes)

    def resolved(self, input_shape: Mapping[str, tuple[int, ...]]) -> Fusion:
        """Return a Fusion in which every part has its trunk, and no trunk is a name.

        Parameters
        ----------
        input_shape : dict of str to tuple of int
            Shapes of samples of each part, in the order in which they stand in a row.

        Returns
        -------
        trunk : Fusion
            With a trunk for each part.
        """
        return Fusion(self._specs(input_shape), self.hidden_layer_sizes)

    def _specs(self, input_shape: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
        """Return the trunks of all parts."""
        parts = dict(self.parts or {})
        unknown = [name for name in parts if name not in input_shape]
        if unknown:
            raise ValueError(
                f"Fusion has trunks for {unknown}, which are no parts of X. Its parts are "
                f"{list(input_shape)}."
            )
        for name in input_shape:
            parts.setdefault(name, "auto")
        return {n: single_spec(spec, input_shape[n]) for n, spec in parts.items()}

    def _check_names(self, input_shape: Mapping[str, tuple[int, ...]]) -> None:
        """Refuse names that could be no parameters."""
        own = super().get_params(deep=False)
        for name in [*parts_of(self), *input_shape]:
            if not isinstance(name, str) or name in ("", *own) or "__" in name:
                raise ValueError(
                    f"Fusion has a part called {name!r}. Pass a text without two underscores, and "
                    f"none of {list(own)}."
                )


TRUNKS["fusion"] = Fusion


def parts_of(trunk: Any) -> Mapping[str, Any]:
    """Return the trunks by name that a trunk has; none if it is no Fusion, or not as described."""
    parts = trunk.parts if isinstance(trunk, Fusion) else None
    return parts if isinstance(parts, Mapping) else {}


def single_spec(trunk: Any, shape: Any) -> Any:
    """Return what a name stands for, where 'auto' is no ensemble: of a table, a single member."""
    if trunk == "auto" and isinstance(shape, tuple):
        if len(shape) == 1:
            return DenseTrunk(n_members=1)
        trunk = "conv"
    return named_spec(trunk, shape) if isinstance(trunk, str) else trunk


class _Part(nn.Module):
    """The trunk of a part, and what stands in for its features where it is missing."""

    def __init__(self, trunk: nn.Module, n_features: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.trunk, self.shape, self.n_features = trunk, shape, n_features
        self.channels_last = takes_channels_last(trunk, shape)
        self.absent = nn.Parameter(torch.zeros(n_features))

    def forward(self, flat: Tensor) -> Tensor:
        """Return the features (B, F) or (B, M, F) of flat samples."""
        missing = flat[:, 0].isnan()
        if self.training:
            if not missing.any():
                return self._features(flat)
            return self._of_some(flat, ~missing)
        # Without a branch, as graphs are written by one pass.
        features = self._features(flat.masked_fill(missing.unsqueeze(1), 0))
        absent = self.absent.to(features.dtype)
        return torch.where(missing.view(-1, *[1] * (features.ndim - 1)), absent, features)

    def _of_some(self, flat: Tensor, seen: Tensor) -> Tensor:
        """Return the features where only some rows go through the trunk."""
        absent = self.absent.expand(len(flat), -1)
        if not seen.any():
            return absent
        try:
            found = self._features(flat[seen])
        except ValueError as error:
            if seen.sum() > 1:
                raise
            raise ValueError(
                "A part of X is there in a single row of a batch, of which its trunk cannot learn: "
                f"{str(error).removesuffix('.')}. Batch norms need two: pass a larger batch_size, "
                "or a trunk without them, such as ConvTrunk."
            ) from error
        absent = absent.to(found.dtype)
        if found.ndim == 3:
            absent = absent.unsqueeze(1).expand(-1, found.shape[1], -1)
        return absent.index_put((seen.nonzero()[:, 0],), found)

    def _features(self, flat: Tensor) -> Tensor:
        x = flat.unflatten(1, self.shape)
        features: Tensor = self.trunk(in_channels_last(x) if self.channels_last else x)
        return features


class Fused(nn.Module):
    """Trunks of several parts, and the layers in which their features meet.

    Parameters
    ----------
    parts : dict of str to nn.Module
        Map flat samples of a part to its features.
    input_shape : dict of str to tuple of int
        Of all parts, in the order in which they stand in a row.
    sizes : sequence of int
        Units of the layers.

    Examples
    --------
    `Fusion` makes one:

    >>> import torch
    >>> from sklearn_mtl.networks import DenseTrunk, Fusion
    >>> dense = DenseTrunk((8,), n_members=1)
    >>> spec = Fusion({"left": dense, "right": dense}, hidden_layer_sizes=16)
    >>> fused = spec.build({"left": (3,), "right": (2,)})
    >>> fused.trunk_of("left") is fused.trunk_of("right")
    False
    >>> fused(torch.zeros(4, 5)).shape  # 16 units of the layer, and 8 features of each part
    torch.Size([4, 32])
    """

    def __init__(
        self,
        parts: Mapping[str, _Part],
        input_shape: Mapping[str, tuple[int, ...]],
        sizes: Sequence[int],
    ) -> None:
        super().__init__()
        self.names = tuple(parts)
        self.order = tuple(list(input_shape).index(name) for name in parts)
        self.widths = tuple(math.prod(shape) for shape in input_shape.values())
        self.parts = nn.ModuleList(parts.values())
        widths = [sum(part.n_features for part in parts.values()), *sizes]
        self.layers = nn.ModuleList(
            nn.Linear(n_in, n_out) for n_in, n_out in itertools.pairwise(widths)
        )

    def trunk_of(self, name: str) -> nn.Module:
        """Return the trunk of a part.

        Parameters
        ----------
        name : str
            Of the part.

        Returns
        -------
        trunk : nn.Module
            From samples of the part to its features.
        """
        trunk: Any = self.parts[self.names.index(name)]
        return trunk.trunk

    def forward(self, x: Tensor) -> Tensor:
        """Map rows (B, d), in which all parts stand side by side, to features."""
        flat = x.split(self.widths, dim=1)
        features = torch.cat(
            _alike([part(flat[i]) for part, i in zip(self.parts, self.order, strict=True)]), dim=-1
        )
        if not self.layers:
            return features
        together = features
        for layer in self.layers:
            together = F.leaky_relu(layer(together))  # for the reason of ConvTrunk
        return torch.cat([together, features], dim=-1)


def _alike(features: list[Tensor]) -> list[Tensor]:
    """Repeat what has no members for those of others."""
    sizes = {f.shape[1] for f in features if f.ndim == 3}
    if not sizes:
        return features
    if len(sizes) > 1:
        raise ValueError(
            f"trunks of parts are ensembles of {sorted(sizes)} members. Let them have as many, or "
            "a single one"
        )
    (n_members,) = sizes
    return [f if f.ndim == 3 else f.unsqueeze(1).expand(-1, n_members, -1) for f in features]
