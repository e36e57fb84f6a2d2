"""A fitted estimator's state as JSON and arrays, and back: data alone, which cannot run code.

`encode` and `decode` know plain Python values and the objects of one table, `RULES`. A rule turns
an object into plainer data, and is found again by its tag; no name in a file is ever imported.
What has no rule is refused when it is written, not guessed at.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.utils._metadata_requests import SIMPLE_METHODS, MetadataRequest
from torch import Tensor, nn

from sklearn_mtl._data.fused import FusedReader, PartReader
from sklearn_mtl._data.inputs import InputReader
from sklearn_mtl._data.tables import Template
from sklearn_mtl._data.targets import TargetEncoder
from sklearn_mtl._data.tasks import Task
from sklearn_mtl._files.arrays import (
    dtype_of,
    is_long,
    is_mersenne,
    is_numeric,
    is_scalar,
    native,
    pack_labels,
    pack_long,
    random_state,
    unpack_labels,
    unpack_long,
    unpack_scalar,
)
from sklearn_mtl._files.columns import COLUMNS, Rule, exactly
from sklearn_mtl.augmentation import Augment
from sklearn_mtl.kinds import KINDS, CensoredAmount, CensoredTarget, Kind, UnobservedTarget
from sklearn_mtl.losses import LOSSES
from sklearn_mtl.networks import TRUNKS

__all__ = ["decode", "encode"]

# Objects that take much more memory, and time to make, than their text: kilobytes, about. A small
# file may hold 2 MB of them, and a larger one a fifth of its size.
LARGE = {"index": 1, "series": 2, "categorical_dtype": 1, "arrow_dtype": 1}
LARGE |= {"loss": 50, "requests": 20, "random_state": 5}
ROOM, BYTES_PER_ROOM = 2000, 5000

SHORT = reprlib.Repr()
SHORT.maxother = 60


# What to do about what is not plain data.
MEND = (
    "Replace it (loss, optimizer and net_params can be set to their defaults by set_params, which "
    "changes no prediction), or pickle the estimator."
)
MEND_LABELS = (
    "It is a label of y: fit on labels that are text, column.astype(str), or pickle the estimator."
)


def encode(value: Any, where: str, tensors: dict[str, Tensor], mend: str = MEND) -> Any:
    """Turn a value into what JSON can hold; its numeric arrays are put into `tensors`.

    `where` names the value in errors, and its arrays in the file; `mend` says what to do.
    """
    kind = type(value)
    if value is None or kind in (bool, int, str) or (kind is float and math.isfinite(value)):
        return value
    if kind is list:
        return [encode(v, f"{where}[{i}]", tensors, mend) for i, v in enumerate(value)]
    if kind is dict:
        return {
            "dict": [
                [
                    encode(k, f"a key of {where}", tensors, mend),
                    encode(v, f"{where}[{k!r}]", tensors, mend),
                ]
                for k, v in value.items()
            ]
        }
    if kind is Tensor or (kind is np.ndarray and is_numeric(value.dtype)):
        tensor = value if kind is Tensor else torch.from_numpy(native(value))
        name = where
        while name in tensors:  # task_weights are a parameter, and what it comes to
            name += "_"
        tensors[name] = tensor.detach().cpu().contiguous().clone()
        return {"tensor": name} if kind is Tensor else {"array": [name, value.dtype.str]}
    for tag, rule in RULES.items():
        if rule.fits(value):
            return {tag: encode(rule.pack(value), where, tensors, mend)}
    if "['classes_']" in where or "['categories" in where:
        mend = MEND_LABELS
    raise TypeError(
        f"{where} holds {SHORT.repr(value)}, of type {kind.__name__}, which is not plain data: a "
        f"file that can run no code cannot hold it. {mend}"
    )


def decode(data: Any, tensors: dict[str, Tensor]) -> Any:
    """Turn back what `encode` returned, and take the tensors that belong to it.

    Each tensor is taken once, and of objects that take much more memory than their text, there are
    no more than a file of this size can have a use for.
    """
    left = ROOM + sum(t.nbytes for t in tensors.values()) // BYTES_PER_ROOM

    def read(data: Any) -> Any:
        nonlocal left
        if isinstance(data, list):
            return [read(item) for item in data]
        if not isinstance(data, dict):
            return data
        ((tag, content),) = data.items()
        if tag == "tensor":
            return tensors.pop(content)
        if tag == "array":
            array = tensors.pop(content[0]).numpy()
            dtype = dtype_of(content[1])
            if array.dtype != dtype.newbyteorder("="):
                raise ValueError(f"the array {content[0]!r} is not of {content[1]!r}")
            return array.astype(dtype, copy=False)
        if tag != "dict" and tag not in RULES:
            raise ValueError(f"{tag!r} is not a type that this version knows")
        left -= LARGE.get(tag, 0)
        if left < 0:
            raise ValueError("there are too many objects for a file of this size")
        content = read(content)
        return dict(content) if tag == "dict" else RULES[tag].unpack(content)

    return read(data)


# -- objects of this package -----------------------------------------------------------------


def _filled(kind: Any, state: dict[str, Any], base: Any = None) -> Any:
    """Return an object with these attributes, whatever its constructor would do.

    They hide nothing that the class has, or its `base`, of which others may set what they like.
    """
    hidden = [
        name
        for name in state
        if (hasattr(base or kind, name) and name not in OF_OBJECTS)
        or callable(getattr(kind, name, None))
    ]
    if hidden:
        raise ValueError(f"{hidden} are no attributes of data")
    out = object.__new__(kind)
    vars(out).update(state)
    return out


# Attributes of classes that objects set.
OF_OBJECTS = {"n_outputs"}


def _of(kind: type) -> Rule:
    """Rule for a class whose objects are their attributes."""
    return Rule(exactly(kind), lambda v: dict(vars(v)), lambda state: _filled(kind, state))


def _registered(
    registry: Mapping[str, Any],
    pack: Callable[[Any], dict[str, Any]],
    unpack: Callable[[Any, dict[str, Any]], Any],
) -> Rule:
    """Rule for the classes of a registry, found again by their names there."""

    def made(content: dict[str, Any]) -> Any:
        ((name, state),) = content.items()
        if name not in registry:
            raise ValueError(f"{name!r} is not among those that this version knows")
        return unpack(registry[name], state)

    def named(value: Any) -> dict[str, Any]:
        name = next(name for name, kind in registry.items() if kind is type(value))
        return {name: pack(value)}

    return Rule(lambda v: type(v) in registry.values(), named, made)


def _pack_task(task: Task) -> dict[str, Any]:
    """Fields of a task; those that came with formats 8 and 9 only where there are some."""
    state = {field.name: getattr(task, field.name) for field in fields(task)}
    new = ("lower", "upper", "geometry")
    return {name: v for name, v in state.items() if v is not None or name not in new}


def _unpack_augment(params: dict[str, Any]) -> Augment:
    if not all(v is None or isinstance(v, str | float | int | np.number) for v in params.values()):
        raise ValueError("Augment has parameters that are neither numbers nor text")
    augment = Augment(**params)
    augment._validate_params()
    return augment


def _pack_loss(combine: nn.Module) -> dict[str, Any]:
    """Numbers and tensors of a combiner, without what every module has."""
    own = {name: v for name, v in vars(combine).items() if name not in vars(nn.Module())}
    learned = {name: v if v is None else v.detach() for name, v in combine._parameters.items()}
    return {**own, **combine._buffers, **learned, **combine._modules}


def _unpack_loss(kind: Callable[[], nn.Module], state: dict[str, Any]) -> nn.Module:
    combine = kind()
    unknown = sorted(set(state) - set(_pack_loss(combine)))
    if unknown:
        raise ValueError(f"{unknown} are no attributes of {type(combine).__name__}")
    for name, value in state.items():
        learned = name in combine._parameters and value is not None
        setattr(combine, name, nn.Parameter(value) if learned else value)
    return combine


def _pack_requests(request: MetadataRequest) -> list[Any]:
    owner = request.owner  # named in messages, and nothing else
    name = owner if isinstance(owner, str) else type(owner).__name__
    return [name, {method: getattr(request, method).requests for method in SIMPLE_METHODS}]


def _unpack_requests(content: list[Any]) -> MetadataRequest:
    owner, requests = content
    request = MetadataRequest(owner=owner)
    for method in SIMPLE_METHODS:
        for param, alias in requests.get(method, {}).items():
            getattr(request, method).add_request(param=param, alias=alias)
    return request


OPTIMIZERS = {
    name: kind
    for name, kind in vars(torch.optim).items()
    if isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer)
}


# What stands in for kinds of number where some are known within bounds.
CENSORED = {kind.__name__: kind for kind in (CensoredTarget, CensoredAmount)}


# A value is written by the first rule that fits.
RULES: dict[str, Rule] = {
    "float": Rule(exactly(float), repr, float),  # nan and inf, which JSON lacks
    "tuple": Rule(lambda v: type(v) in (tuple, torch.Size, range), list, tuple),
    "set": Rule(exactly(set), list, set),
    "frozenset": Rule(exactly(frozenset), list, frozenset),
    "scalar": Rule(is_scalar, lambda v: [v.dtype.str, v.item()], unpack_scalar),
    "long_labels": Rule(is_long, pack_long, unpack_long),
    "labels": Rule(
        lambda v: type(v) is np.ndarray and v.dtype.kind in "OU", pack_labels, unpack_labels
    ),
    "random_state": Rule(is_mersenne, lambda v: v.get_state(legacy=False), random_state),
    "interval": Rule(
        exactly(pd.Interval), lambda v: [v.left, v.right, v.closed], lambda c: pd.Interval(*c)
    ),
    **COLUMNS,
    "task": Rule(
        exactly(Task),
        _pack_task,
        lambda state: Task(**state),
    ),
    "template": Rule(exactly(Template), lambda v: v._asdict(), lambda state: Template(**state)),
    "encoder": _of(TargetEncoder),
    "reader": _of(InputReader),
    "part_reader": _of(PartReader),
    "fused_reader": _of(FusedReader),
    "kind": _registered(
        KINDS, lambda v: dict(vars(v)), lambda kind, state: _filled(kind, state, base=Kind)
    ),
    "censored": _registered(
        CENSORED, lambda v: dict(vars(v)), lambda kind, state: _filled(kind, state, base=Kind)
    ),
    "unobserved": Rule(exactly(UnobservedTarget), lambda v: v.kind, UnobservedTarget),
    "trunk": _registered(
        TRUNKS, lambda v: v.get_params(deep=False), lambda kind, params: kind(**params)
    ),
    "augment": Rule(exactly(Augment), lambda v: v.get_params(deep=False), _unpack_augment),
    "loss": _registered(LOSSES, _pack_loss, _unpack_loss),
    "optimizer": Rule(
        lambda v: isinstance(v, type) and v in OPTIMIZERS.values(),
        lambda v: v.__name__,
        lambda c: OPTIMIZERS[c],
    ),
    "requests": Rule(exactly(MetadataRequest), _pack_requests, _unpack_requests),
}
