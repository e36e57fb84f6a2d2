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
from typing import Any, NamedTuple

import narwhals.stable.v2 as nw
import numpy as np
import pandas as pd
import torch
from sklearn.utils._metadata_requests import SIMPLE_METHODS, MetadataRequest
from torch import Tensor, nn

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
)
from sklearn_mtl.kinds import KINDS
from sklearn_mtl.losses import LOSSES
from sklearn_mtl.networks import TRUNKS

__all__ = ["decode", "encode"]

SHORT = reprlib.Repr()
SHORT.maxother = 60


def encode(value: Any, where: str, tensors: dict[str, Tensor]) -> Any:
    """Turn a value into what JSON can hold; its numeric arrays are put into `tensors`.

    `where` names the value in errors, and its arrays in the file.
    """
    kind = type(value)
    if value is None or kind in (bool, int, str) or (kind is float and math.isfinite(value)):
        return value
    if kind is list:
        return [encode(v, f"{where}[{i}]", tensors) for i, v in enumerate(value)]
    if kind is dict:
        return {
            "dict": [
                [encode(k, f"a key of {where}", tensors), encode(v, f"{where}[{k!r}]", tensors)]
                for k, v in value.items()
            ]
        }
    if kind is Tensor or (kind is np.ndarray and is_numeric(value.dtype)):
        tensor = value if kind is Tensor else torch.from_numpy(native(value))
        tensors[where] = tensor.detach().cpu().contiguous().clone()
        return {"tensor": where} if kind is Tensor else {"array": [where, value.dtype.str]}
    for tag, rule in RULES.items():
        if rule.fits(value):
            return {tag: encode(rule.pack(value), where, tensors)}
    raise TypeError(
        f"{where} holds {SHORT.repr(value)}, of type {kind.__name__}, which is not plain data: a "
        "file that can run no code cannot hold it. Replace it (loss, optimizer and net_params can "
        "be set to their defaults by set_params, which changes no prediction), or pickle the "
        "estimator."
    )


def decode(data: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Turn back what `encode` returned."""
    if isinstance(data, list):
        return [decode(item, tensors) for item in data]
    if not isinstance(data, dict):
        return data
    ((tag, content),) = data.items()
    if tag == "tensor":
        return tensors[content].clone()  # what safetensors gives out lies in the file itself
    if tag == "array":
        return tensors[content[0]].numpy().astype(dtype_of(content[1]))
    if tag != "dict" and tag not in RULES:
        raise ValueError(f"{tag!r} is not a type that this version knows")
    content = decode(content, tensors)
    return dict(content) if tag == "dict" else RULES[tag].unpack(content)


class Rule(NamedTuple):
    """How one type of object is written: which values it takes, to plainer data, and back."""

    fits: Callable[[Any], bool]
    pack: Callable[[Any], Any]
    unpack: Callable[[Any], Any]


def _exactly(kind: type) -> Callable[[Any], bool]:
    """Tell values of a type, and not of types derived from it, which may hold more."""
    return lambda value: type(value) is kind


# -- types of columns ------------------------------------------------------------------------


def _is_named(dtype: Any) -> bool:
    """Tell types of pandas that are found again by their names."""
    if not isinstance(dtype, pd.api.extensions.ExtensionDtype):
        return False
    try:
        return bool(pd.api.types.pandas_dtype(str(dtype)) == dtype)
    except (TypeError, NotImplementedError):
        return False


def _string_dtype(content: list[Any]) -> Any:
    storage, has_nan = content
    na_value = np.nan if has_nan else pd.NA
    try:
        return pd.StringDtype(storage, na_value)
    except ImportError:  # no Arrow here: strings are stored otherwise, and are the same
        return pd.StringDtype("python", na_value)


def _pack_arrow(dtype: Any) -> Any:
    """Name of an Arrow type; a list of its parts where it has some."""
    import pyarrow as pa

    if pa.types.is_dictionary(dtype):
        parts = _pack_arrow(dtype.index_type), _pack_arrow(dtype.value_type), dtype.ordered
        return ["dictionary", *parts]
    if pa.types.is_decimal128(dtype):
        return ["decimal128", dtype.precision, dtype.scale]
    return str(dtype)


def _unpack_arrow(content: Any) -> Any:
    import pyarrow as pa

    if isinstance(content, str):
        return pa.type_for_alias(content)
    name, *parts = content
    if name == "dictionary":
        return pa.dictionary(_unpack_arrow(parts[0]), _unpack_arrow(parts[1]), parts[2])
    return pa.decimal128(*parts)


# Types of narwhals, for frames that are not of pandas. Those without parameters:
NARWHALS = {
    kind.__name__: kind
    for kind in (
        nw.Boolean,
        nw.String,
        nw.Categorical,
        nw.Object,
        nw.Float32,
        nw.Float64,
        nw.Int8,
        nw.Int16,
        nw.Int32,
        nw.Int64,
        nw.Int128,
        nw.UInt8,
        nw.UInt16,
        nw.UInt32,
        nw.UInt64,
        nw.UInt128,
    )
}


# Libraries whose frames are read (`eager_only`); others are not to be imported.
BACKENDS = {
    name: nw.Implementation[name] for name in ("PANDAS", "MODIN", "CUDF", "PYARROW", "POLARS")
}


# -- objects of this package -----------------------------------------------------------------


def _filled(kind: Any, state: dict[str, Any]) -> Any:
    """Return an object with these attributes, whatever its constructor would do."""
    methods = [name for name in state if callable(getattr(kind, name, None))]
    if methods:
        raise ValueError(f"{methods} are no attributes of data")
    out = object.__new__(kind)
    vars(out).update(state)
    return out


def _of(kind: type) -> Rule:
    """Rule for a class whose objects are their attributes."""
    return Rule(_exactly(kind), lambda v: dict(vars(v)), lambda state: _filled(kind, state))


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


# A value is written by the first rule that fits.
RULES: dict[str, Rule] = {
    "float": Rule(_exactly(float), repr, float),  # nan and inf, which JSON lacks
    "tuple": Rule(lambda v: type(v) in (tuple, torch.Size), list, tuple),
    "set": Rule(_exactly(set), list, set),
    "frozenset": Rule(_exactly(frozenset), list, frozenset),
    "range": Rule(_exactly(range), lambda v: [v.start, v.stop, v.step], lambda c: range(*c)),
    "scalar": Rule(
        is_scalar, lambda v: [v.dtype.str, v.item()], lambda c: np.array(c[1], dtype_of(c[0]))[()]
    ),
    "long_labels": Rule(is_long, pack_long, unpack_long),
    "labels": Rule(
        lambda v: type(v) is np.ndarray and v.dtype.kind in "OU", pack_labels, unpack_labels
    ),
    "random_state": Rule(is_mersenne, lambda v: v.get_state(legacy=False), random_state),
    "numpy_dtype": Rule(
        lambda v: isinstance(v, np.dtype) and v.kind in "biufOUS", lambda v: v.str, dtype_of
    ),
    "interval": Rule(
        _exactly(pd.Interval), lambda v: [v.left, v.right, v.closed], lambda c: pd.Interval(*c)
    ),
    "index": Rule(
        lambda v: isinstance(v, pd.Index) and not isinstance(v, pd.MultiIndex),
        lambda v: [v.tolist(), v.dtype, v.name],
        lambda c: pd.Index(c[0], dtype=c[1], name=c[2]),
    ),
    "series": Rule(
        _exactly(pd.Series),
        lambda v: [v.tolist(), v.index, v.dtype, v.name],
        lambda c: pd.Series(c[0], index=c[1], dtype=c[2], name=c[3]),
    ),
    "categorical_dtype": Rule(
        _exactly(pd.CategoricalDtype),
        lambda v: [v.categories, v.ordered],
        lambda c: pd.CategoricalDtype(*c),
    ),
    "string_dtype": Rule(
        _exactly(pd.StringDtype), lambda v: [v.storage, v.na_value is not pd.NA], _string_dtype
    ),
    "arrow_dtype": Rule(
        _exactly(pd.ArrowDtype),
        lambda v: _pack_arrow(v.pyarrow_dtype),
        lambda c: pd.ArrowDtype(_unpack_arrow(c)),
    ),
    "pandas_dtype": Rule(_is_named, str, pd.api.types.pandas_dtype),
    "narwhals_dtype": Rule(
        lambda v: type(v) in NARWHALS.values(), lambda v: type(v).__name__, lambda c: NARWHALS[c]()
    ),
    "narwhals_enum": Rule(
        lambda v: isinstance(v, nw.Enum), lambda v: list(v.categories), lambda c: nw.Enum(c)
    ),
    "narwhals_decimal": Rule(
        lambda v: isinstance(v, nw.Decimal),
        lambda v: [v.precision, v.scale],
        lambda c: nw.Decimal(*c),
    ),
    "backend": Rule(
        lambda v: isinstance(v, nw.Implementation), lambda v: v.name, lambda c: BACKENDS[c]
    ),
    "task": Rule(
        _exactly(Task),
        lambda v: {field.name: getattr(v, field.name) for field in fields(v)},
        lambda state: Task(**state),
    ),
    "template": Rule(_exactly(Template), lambda v: v._asdict(), lambda state: Template(**state)),
    "encoder": _of(TargetEncoder),
    "reader": _of(InputReader),
    "kind": _registered(KINDS, lambda v: dict(vars(v)), _filled),
    "trunk": _registered(
        TRUNKS, lambda v: v.get_params(deep=False), lambda kind, params: kind(**params)
    ),
    "loss": _registered(LOSSES, _pack_loss, _unpack_loss),
    "optimizer": Rule(
        lambda v: isinstance(v, type) and v in OPTIMIZERS.values(),
        lambda v: v.__name__,
        lambda c: OPTIMIZERS[c],
    ),
    "requests": Rule(_exactly(MetadataRequest), _pack_requests, _unpack_requests),
}
