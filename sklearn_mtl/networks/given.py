"""Trunks and modules as users hand them over: as they are, or as something that makes one."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from torch import nn

__all__ = ["TrunkLike", "TrunkSpec", "check_nested", "module_of"]


class TrunkSpec(Protocol):
    """Anything that builds a trunk for samples of a shape: a type for `trunk`.

    Deriving from it is not needed. A scikit-learn `BaseEstimator` with such a method is one whose
    parameters can be searched, as ``trunk__width``. What else a spec may say, such as the
    attributes ``takes_parts`` and ``n_folds``, stands on the page *Extending*.

    Examples
    --------
    >>> from torch import nn
    >>> from sklearn_mtl.networks import TrunkSpec, build_trunk
    >>> class Rectified:
    ...     def build(self, input_shape: tuple[int, ...]) -> nn.Module:
    ...         return nn.Sequential(nn.Linear(input_shape[0], 4), nn.ReLU())
    >>> spec: TrunkSpec = Rectified()  # as type checkers see it
    >>> build_trunk(spec, (3,))[1]
    4
    """

    def build(self, input_shape: Any, /) -> nn.Module:
        """Make a trunk.

        Parameters
        ----------
        input_shape : tuple of int, or dict of str to tuple of int
            Shape of one sample, channels first; a dict for a spec of several inputs.

        Returns
        -------
        trunk : nn.Module
            From a batch (B, ...) to features (B, F), or (B, M, F) for an ensemble of M members.
        """


# What may be passed as `trunk`: the name of a spec, a spec, a module, or what makes one.
TrunkLike = str | TrunkSpec | nn.Module | Callable[[], nn.Module]


def check_nested(trunk: Any, params: Iterable[str]) -> None:
    """Refuse to set parameters of a trunk, such as ``trunk__width``, if it has none.

    Parameters
    ----------
    trunk : object
        As it will be then.
    params : iterable of str
        Names of what is set.

    Raises
    ------
    ValueError
        If one of them is a parameter of the trunk, and that is a name or a module.
    """
    nested = next((name for name in params if name.startswith("trunk__")), None)
    if nested is not None and not hasattr(trunk, "set_params"):
        name = "is a name and " if isinstance(trunk, str) else ""
        raise ValueError(
            f"{nested} cannot be set: trunk={trunk!r} {name}has no parameters. Pass a spec "
            "instead, such as trunk=ConvTrunk() or trunk=Ensemble() of sklearn_mtl.networks."
        )


def module_of(given: Any, name: str) -> nn.Module:
    """Copy a module, or call what makes one.

    Parameters
    ----------
    given : nn.Module or callable
        A callable takes no arguments, such as a class of modules.
    name : str
        Of the parameter, for errors.

    Returns
    -------
    module : nn.Module

    Raises
    ------
    TypeError
        If a callable needs arguments, or returns something else than an nn.Module.
    ValueError
        If a module cannot be copied, or a callable fails.
    """
    if isinstance(given, nn.Module):
        return _copied(given, name)
    _check_no_arguments(given, name)
    try:
        module = given()
    except ImportError:  # says what to install
        raise
    except Exception as error:  # whatever a user's callable raises
        raise ValueError(f"{name}={given!r} fails when it is called: {error!r}.") from error
    if not isinstance(module, nn.Module):
        raise TypeError(
            f"{name}={given!r} returned {type(module).__name__}, expected an nn.Module."
        )
    return module


def _copied(module: nn.Module, name: str) -> nn.Module:
    try:
        return copy.deepcopy(module)
    except Exception as error:  # lazy batch statistics, for example
        raise ValueError(
            f"{name} is a {type(module).__name__} that cannot be copied: {error}. Pass a callable "
            "that makes it, without arguments."
        ) from error


def _check_no_arguments(factory: Callable[[], Any], name: str) -> None:
    """Refuse what cannot be called without arguments."""
    try:
        inspect.signature(factory).bind()
    except TypeError as error:
        called = getattr(factory, "__name__", repr(factory))
        raise TypeError(
            f"{name}={called} cannot be called without arguments: {error}. Pass a module, or "
            f"a callable that makes one, such as lambda: {called}(...)."
        ) from error
    except ValueError:  # no signature is known
        pass
