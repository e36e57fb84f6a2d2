"""What is the same: told by value, so that a rebuilt object equals the one it was built after."""

from __future__ import annotations

import hashlib
import types
from collections.abc import Iterator, Mapping, Set
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils.hooks import RemovableHandle

__all__ = ["identity"]

PLAIN = (bool, int, float, complex, str, bytes, type(None))

# What every module has, and what says nothing of its value, as its mode.
OF_MODULES = frozenset(vars(nn.Module()))


def identity(value: Any) -> Any:
    """Return plain data that are equal for values that do the same.

    Numbers are compared as numbers, mappings in any order, lists and tuples alike; arrays, tensors
    and modules by content; other objects by class and attributes; functions by their code, and what
    it closes over. Whatever is left is itself.

    Parameters
    ----------
    value : object
        Such as a parameter of an estimator.

    Returns
    -------
    identity : object
        To be compared by ``==``. It holds no part of `value` that may change later, and can be
        pickled where `value` can.
    """
    return _identity(value, ())


def _identity(value: Any, above: tuple[int, ...]) -> Any:
    if isinstance(value, PLAIN):
        return ("NaN",) if value != value else value
    if isinstance(value, np.generic):
        plain = value.item()
        return value if isinstance(plain, np.generic) else _identity(plain, above)
    if id(value) in above:  # an object that holds itself
        return ("above", len(above) - above.index(id(value)))
    above = (*above, id(value))
    if isinstance(value, Mapping):
        return {"mapping": {_key(k, above): _identity(v, above) for k, v in value.items()}}
    if isinstance(value, (list, tuple)):
        return [_identity(item, above) for item in value]
    if isinstance(value, Set):
        return {"set": {_key(item, above) for item in value}}
    if isinstance(value, np.ndarray):
        return _of_array(value, above)
    if isinstance(value, Tensor):
        return _of_tensor(value)
    if isinstance(value, (types.FunctionType, types.MethodType)):
        return _of_function(value, above)
    if isinstance(value, (type, types.ModuleType, types.BuiltinFunctionType)):
        return value
    return _of_object(value, above)


def _key(value: Any, above: tuple[int, ...]) -> Any:
    """Return something that can be hashed."""
    return _hashable(_identity(value, above))


def _hashable(plain: Any) -> Any:
    if isinstance(plain, (list, tuple)):
        return tuple(map(_hashable, plain))
    if isinstance(plain, dict):
        return frozenset((key, _hashable(value)) for key, value in plain.items())
    return frozenset(plain) if isinstance(plain, Set) else plain


def _of_array(values: np.ndarray[Any, Any], above: tuple[int, ...]) -> Any:
    if values.dtype == object or values.size <= 1000:
        return _identity(values.tolist(), above)
    return {"array": (values.shape, values.dtype.str, _digest(np.ascontiguousarray(values)))}


def _of_tensor(tensor: Tensor) -> Any:
    if is_lazy(tensor) or tensor.is_meta:
        return {"tensor without values": str(tensor.dtype)}
    plain = tensor.detach().cpu()
    if plain.layout != torch.strided:
        plain = plain.to_dense()
    content = _digest(plain.contiguous().reshape(-1).view(torch.uint8).numpy())
    return {"tensor": (tuple(tensor.shape), str(tensor.dtype), content)}


def _digest(values: Any) -> str:
    return hashlib.sha256(values).hexdigest()


def _of_function(function: Any, above: tuple[int, ...]) -> Any:
    if isinstance(function, types.MethodType):
        return {"method": (function.__name__, _identity(function.__self__, above))}
    cells = [_content(cell) for cell in function.__closure__ or ()]
    parts = [function.__defaults__, function.__kwdefaults__, cells]
    name = (function.__module__, function.__qualname__)
    code = _of_code(function.__code__, above)
    return {"function": [*name, code, _identity(parts, above)]}


def _content(cell: types.CellType) -> Any:
    try:
        return (cell.cell_contents,)
    except ValueError:  # nothing is in it yet
        return ()


def _of_code(code: types.CodeType, above: tuple[int, ...]) -> Any:
    """Tell what the code does, and that of functions inside."""
    inner = [c for c in code.co_consts if isinstance(c, types.CodeType)]
    constants = [c for c in code.co_consts if not isinstance(c, types.CodeType)]
    plain = [code.co_code, code.co_names, _identity(constants, above)]
    return [*plain, *(_of_code(c, above) for c in inner)]


def _of_object(value: Any, above: tuple[int, ...]) -> Any:
    kind = type(value)
    if isinstance(value, nn.Module):
        own = {
            name: v
            for name, v in vars(value).items()
            if name not in OF_MODULES and not isinstance(v, RemovableHandle)
        }
        parts = [value._parameters, value._buffers, value._modules]
        frozen = [p.requires_grad for p in value._parameters.values() if p is not None]
        return {"object": [kind, _identity([own, *parts, frozen], above)]}
    if isinstance(value, BaseEstimator):
        return {"object": [kind, _identity(value.get_params(deep=False), above)]}
    if hasattr(value, "__array__"):  # frames and series too
        labels = [getattr(value, name, ()) for name in ("columns", "index")]
        names = _identity([[] if callable(found) else list(found) for found in labels], above)
        return {"object": [kind, names, _of_array(np.asarray(value), above)]}
    try:
        parts = value.__reduce_ex__(4)  # all that pickle would write of it
    except Exception:  # it is not made to be written
        return value
    if isinstance(parts, str):  # something that is found by its name
        return value
    make, args, *state = parts
    state = [list(s) if isinstance(s, Iterator) else s for s in state]
    return {"object": [kind, _identity([make, args, state], above)]}
