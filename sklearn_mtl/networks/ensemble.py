"""`Ensemble`: any trunk several times, so that members can leave out rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any, ClassVar, Self

import torch
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import Interval
from torch import Tensor, nn

from sklearn_mtl.networks.build import TRUNKS, build_trunk, features_of
from sklearn_mtl.networks.fusion import Fusion, single_spec
from sklearn_mtl.networks.given import check_nested
from sklearn_mtl.networks.members import Members

__all__ = ["Ensemble"]


class Ensemble(BaseEstimator):
    """Several of the same trunk, with weights of their own, each of which leaves out some rows.

    It gives images, sequences and several inputs what `DenseTrunk` gives tables, and is the default
    for sequences. In `fit`, each member leaves out its fold of the rows, as in cross-validation;
    predictions are the mean of the members' [1]_. What they predict of the rows that they left out
    says how much to believe: a task that cannot be predicted is shrunk to its mean. There are
    `oob_prediction_` and `oob_score_`, `noise_std_` is the error on new rows, and intervals need no
    validation data. As members compute nothing of what they leave out, a fit takes `n_members` - 1
    times as long as that of one network, from two on, and as many times the memory for what lies
    between the layers. Predictions take `n_members` times as long.

    Parameters
    ----------
    trunk : str, spec, nn.Module or callable, default='auto'
        What each member is, as `trunk` of the estimator; with weights drawn anew for each, but
        those of a module, which is copied. Parameters of a spec can be searched:
        ``trunk__trunk__width``. For sequences, 'auto' is a `ConvTrunk`. For tables, it is a
        `DenseTrunk` of a single member; take a `DenseTrunk` alone, which has members already, is
        several times faster, and has lines mixed into its heads.
    n_members : int, default=5
        Members, and folds of the rows. A single one leaves out nothing.

    References
    ----------
    .. [1] B. Lakshminarayanan, A. Pritzel, C. Blundell, "Simple and Scalable Predictive Uncertainty
       Estimation using Deep Ensembles", NeurIPS 2017, arXiv:1612.01474.

    Examples
    --------
    >>> from sklearn_mtl import MultiTaskCNNEstimator
    >>> from sklearn_mtl.networks import ConvTrunk, Ensemble
    >>> estimator = MultiTaskCNNEstimator(trunk=Ensemble(ConvTrunk(), n_members=3))
    >>> estimator.set_params(trunk__trunk__width=8).get_params()["trunk__trunk__width"]
    8
    """

    takes_parts: ClassVar[None] = None  # the trunk of a member says so

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "trunk": "no_validation",
        "n_members": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(self, trunk: Any = "auto", n_members: int = 5) -> None:
        self.trunk = trunk
        self.n_members = n_members

    def set_params(self, **params: Any) -> Self:
        """Set parameters, those of the trunk as ``trunk__width``.

        Parameters
        ----------
        **params : dict
            Parameters and their values.

        Returns
        -------
        self : Ensemble
            The spec itself.

        Raises
        ------
        ValueError
            If a parameter is unknown, or the trunk is a name or a module, which have none.
        """
        check_nested(params.get("trunk", self.trunk), params)
        return super().set_params(**params)

    @property
    def n_folds(self) -> int:
        """Folds of the rows, of which each member leaves out one; 0 for none."""
        self._validate_params()
        return self.n_members if self.n_members > 1 else 0

    def build(self, input_shape: Any, two_valued: Any = (), n_rows: int | None = None) -> nn.Module:
        """Return the trunk for inputs of `input_shape`.

        Parameters
        ----------
        input_shape : tuple of int, or dict of str to tuple of int
            Shape of one sample, channels first; a dict for several inputs.
        two_valued : tuple of int, default=()
            Positions of features that take at most two values.
        n_rows : int, optional
            Rows to train on.

        Returns
        -------
        trunk : nn.Module
            From a batch (B, ...) to features (B, M, F), or (B, F) of a single member.

        Raises
        ------
        ValueError
            If a parameter is not as described, or a member is an ensemble itself.
        """
        self._validate_params()
        spec = single_spec(self.trunk, input_shape)
        told = input_shape, two_valued, n_rows
        built = [build_trunk(spec, *told)[0] for _ in range(self.n_members)]
        if features_of(built[0], input_shape).ndim == 3:
            raise ValueError(
                f"Ensemble has trunk={self.trunk!r}, which is an ensemble itself. Pass that alone, "
                "or let it have a single member, such as DenseTrunk(n_members=1)."
            )
        return _Copies(built, input_shape) if len(built) > 1 else built[0]

    def resolved(self, input_shape: Any) -> Ensemble:
        """Return an Ensemble in which no trunk is a name.

        Parameters
        ----------
        input_shape : tuple of int, or dict of str to tuple of int
            As in `build`.

        Returns
        -------
        trunk : Ensemble
            Of a spec.
        """
        spec = single_spec(self.trunk, input_shape)
        spec = spec.resolved(input_shape) if isinstance(spec, Fusion) else spec
        return Ensemble(spec, self.n_members)


class _Copies(Members):
    """Trunks side by side: samples (B, ...), or one for each, (B, M, ...), to (B, M, F)."""

    spares_rows = True

    def __init__(self, trunks: Sequence[nn.Module], input_shape: Any) -> None:
        super().__init__(len(trunks))
        self.trunks = nn.ModuleList(trunks)
        self.n_axes = 1 if isinstance(input_shape, Mapping) else len(input_shape)

    def forward(self, x: Tensor, seen: Tensor | None = None) -> Tensor:
        """Return the features of each trunk; anything for samples that it has not `seen`."""
        if seen is not None:  # in training, where members share the samples
            pairs = zip(self.trunks, seen.unbind(1), strict=True)
            return torch.stack([_of_some(trunk, x, its) for trunk, its in pairs], dim=1)
        each = x.unbind(1) if x.ndim > self.n_axes + 1 else [x] * self.n_members
        return torch.stack([t(s) for t, s in zip(self.trunks, each, strict=True)], dim=1)


def _of_some(trunk: nn.Module, x: Tensor, seen: Tensor) -> Tensor:
    rows = seen.nonzero().squeeze(1)
    if len(rows) < 2:  # too few for layers that normalise over a batch
        return trunk(x)
    features = trunk(x[rows])  # channels last, if x is, which those of `index_select` are not
    return features.new_zeros(len(x), features.shape[1]).index_copy(0, rows, features)


TRUNKS["ensemble"] = Ensemble
