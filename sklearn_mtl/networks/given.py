"""Modules as users hand them over: as they are, or as something that makes one."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from typing import Any

from torch import nn

__all__ = ["module_of"]


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
