"""What is the same: told by value, so that a rebuilt object equals the one it was built after."""

from __future__ import annotations

import contextlib
import hashlib
import types
from collections.abc import Iterator, Mapping, Set
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils.hooks import RemovableHandle

__all__ = ["OF_MODULES", "fingerprint", "identity"]

PLAIN = (bool, int, float, complex, str, bytes, type(None))

# What every module has, and what says nothing of its value, as its mode.
OF_MODULES = frozenset(vars(nn.Module()))


def identity(value: Any) -> Any:
    """Return plain data that are equal for values that do the same.

    Numbers are compared as numbers, mappings in any order, lists and tuples alike; arrays, tensors
    and modules by content; estimators and callbacks by their parameters; other objects by class and
    attributes; functions by their code, and what it closes over. Whatever is left is itself.

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
    return _Reader().read(value)


def fingerprint(value: Any) -> str:
    """Return a short text that is equal for values of equal identity, in other processes too.

    Parameters
    ----------
    value : object
        Such as a parameter of an estimator.

    Returns
    -------
    fingerprint : str
        Hexadecimal. Of objects that cannot be read, nothing but their type counts.
    """
    return _digest(_text_of(identity(value), {}).encode())


def _text_of(plain: Any, known: dict[int, str]) -> str:
    """Write an identity as a short text; parts without an order are sorted.

    Containers, which may be parts of many, are read once, and `known` by their id.
    """
    if isinstance(plain, float) and not plain.is_integer():
        return repr(plain)
    if isinstance(plain, bool | int | float):
        return repr(int(plain))
    if isinstance(plain, PLAIN):
        return repr(plain)
    if not isinstance(plain, (list, tuple, dict, Set)):
        named = plain if hasattr(plain, "__qualname__") else type(plain)
        return f"<{getattr(named, '__module__', '')}.{named.__qualname__}>"
    if id(plain) not in known:
        if isinstance(plain, list | tuple):
            kind, parts = "list", [_text_of(part, known) for part in plain]
        elif isinstance(plain, dict):
            pairs = [(_text_of(k, known), _text_of(v, known)) for k, v in plain.items()]
            kind, parts = "dict", sorted(f"{key}:{value}" for key, value in pairs)
        else:
            kind, parts = "set", sorted(_text_of(part, known) for part in plain)
        known[id(plain)] = f"{kind} {_digest(','.join(parts).encode())}"
    return known[id(plain)]


class _Reader:
    """Reads values once each: objects refer to each other in circles, and to one from many.

    Which objects are one and the same is part of what they are; for containers, it is not.
    """

    def __init__(self) -> None:
        # By id: the value, which is kept alive, and its reading, or its number.
        self.containers: dict[int, tuple[Any, Any]] = {}
        self.objects: dict[int, tuple[Any, int]] = {}

    def read(self, value: Any) -> Any:
        """Return what a value is."""
        if isinstance(value, PLAIN):
            return ("NaN",) if value != value else value
        if isinstance(value, np.generic):
            plain = value.item()
            return value if isinstance(plain, np.generic) else self.read(plain)
        if isinstance(value, (type, types.ModuleType, types.BuiltinFunctionType)):
            return value
        if isinstance(value, (Mapping, list, tuple, Set, np.ndarray)):
            if id(value) not in self.containers:
                self.containers[id(value)] = value, ("being read",)  # if it holds itself
                self.containers[id(value)] = value, self._read(value)
            return self.containers[id(value)][1]
        if id(value) in self.objects:
            return ("known", self.objects[id(value)][1])
        self.objects[id(value)] = value, len(self.objects)
        return self._read(value)

    def _read(self, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {"mapping": {_hashable(self.read(k)): self.read(v) for k, v in value.items()}}
        if isinstance(value, (list, tuple)):
            return [self.read(item) for item in value]
        if isinstance(value, Set):
            return {"set": {_hashable(self.read(item)) for item in value}}
        if isinstance(value, np.ndarray):
            return self._read_array(value)
        if isinstance(value, Tensor):
            return _of_tensor(value)
        if isinstance(value, types.MethodType):
            return {"method": (value.__name__, self.read(value.__self__))}
        if isinstance(value, types.FunctionType):
            return self._read_function(value)
        return self._read_object(value)

    def _read_array(self, values: np.ndarray[Any, Any]) -> Any:
        if values.dtype == object or values.size <= 1000:
            return self.read(values.tolist())
        return {"array": (values.shape, values.dtype.str, _digest(np.ascontiguousarray(values)))}

    def _read_function(self, function: Any) -> Any:
        cells = [_content(cell) for cell in function.__closure__ or ()]
        parts = [function.__defaults__, function.__kwdefaults__, cells]
        name = (function.__module__, function.__qualname__)
        return {"function": [*name, self._read_code(function.__code__), self.read(parts)]}

    def _read_code(self, code: types.CodeType) -> Any:
        """Tell what the code does, and that of functions inside."""
        inner = [c for c in code.co_consts if isinstance(c, types.CodeType)]
        constants = [c for c in code.co_consts if not isinstance(c, types.CodeType)]
        plain = [code.co_code, code.co_names, self.read(constants)]
        return [*plain, *map(self._read_code, inner)]

    def _read_object(self, value: Any) -> Any:
        kind = type(value)
        if isinstance(value, nn.Module):
            return {"object": [kind, self.read(_parts_of_module(value))]}
        if hasattr(value, "get_params"):  # as estimators and callbacks have
            with contextlib.suppress(AttributeError, TypeError):  # parameters are kept elsewhere
                return {"object": [kind, self.read(value.get_params(deep=False))]}
        if hasattr(value, "__array__"):  # frames and series too
            labels = [getattr(value, name, ()) for name in ("columns", "index")]
            names = self.read([[] if callable(label) else list(label) for label in labels])
            return {"object": [kind, names, self.read(np.asarray(value))]}
        try:
            parts = value.__reduce_ex__(4)  # all that pickle would write of it
        except Exception:  # it is not made to be written
            return value
        if isinstance(parts, str):  # something that is found by its name
            return value
        make, args, *state = parts
        state = [list(s) if isinstance(s, Iterator) else s for s in state]
        return {"object": [kind, self.read([make, args, state])]}


def _parts_of_module(module: nn.Module) -> list[Any]:
    own = {
        name: value
        for name, value in vars(module).items()
        if name not in OF_MODULES and not isinstance(value, RemovableHandle)
    }
    frozen = [p.requires_grad for p in module._parameters.values() if p is not None]
    return [own, module._parameters, module._buffers, module._modules, frozen]


def _hashable(plain: Any) -> Any:
    if isinstance(plain, (list, tuple)):
        return tuple(map(_hashable, plain))
    if isinstance(plain, dict):
        return frozenset((key, _hashable(value)) for key, value in plain.items())
    return frozenset(plain) if isinstance(plain, Set) else plain


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


def _content(cell: types.CellType) -> Any:
    try:
        return (cell.cell_contents,)
    except ValueError:  # nothing is in it yet
        return ()
