"""What a trunk, as users pass it, is made of."""

from __future__ import annotations

from typing import Any

from sklearn_mtl.networks.build import TRUNKS, named_spec
from sklearn_mtl.networks.ensemble import Ensemble
from sklearn_mtl.networks.fusion import Fusion, parts_of

__all__ = ["is_data", "spelled_out", "trunk_of"]


def is_data(trunk: Any) -> bool:
    """Tell trunks that have a name, or are one: what they build begins with random weights.

    Parameters
    ----------
    trunk : 'auto', a name of `TRUNKS`, spec, nn.Module or callable
        As in `build_trunk`.

    Returns
    -------
    answer : bool
        False for modules, and for specs of others.
    """
    if type(trunk) is Ensemble:
        return is_data(trunk.trunk)
    if type(trunk) is Fusion:
        return all(is_data(part) for part in parts_of(trunk).values())
    return isinstance(trunk, str) or type(trunk) in TRUNKS.values()


def spelled_out(trunk: Any, input_shape: Any) -> Any:
    """Return the spec that a trunk which is data stands for, without names in it.

    Parameters
    ----------
    trunk : 'auto', a name of `TRUNKS`, or spec
        See `is_data`.
    input_shape : tuple of int, or dict of str to tuple of int
        As in `build_trunk`.

    Returns
    -------
    spec : object with a method ``build(input_shape)``
        As it was, if it was one without names.
    """
    spec = named_spec(trunk, input_shape) if isinstance(trunk, str) else trunk
    return spec.resolved(input_shape) if isinstance(spec, Ensemble | Fusion) else spec


def trunk_of(trunk: Any, name: str | None) -> Any:
    """Return what a trunk for several inputs has for one of them, or what an ensemble is of.

    Parameters
    ----------
    trunk : 'auto', a name of `TRUNKS`, spec, nn.Module or callable
        As in `build_trunk`.
    name : str or None
        Of the part; None for an X that has no parts.

    Returns
    -------
    trunk : object
        'auto' where nothing is said of the part; without parts, the trunk itself.
    """
    if isinstance(trunk, Ensemble):
        return trunk_of(trunk.trunk, name)
    if name is None:
        return trunk
    return parts_of(trunk).get(name, "auto")
