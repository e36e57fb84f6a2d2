"""Random numbers from generators of one's own, where torch takes them from its global ones.

What a thread draws here changes nothing for others, nor do they change what it draws.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = [
    "Again",
    "DrawsFrom",
    "Generators",
    "drawing_layers",
    "global_states",
    "is_known",
    "lent",
    "set_global_states",
]

# Layers of torch that draw in training; of those with an attribute `dropout`, if that is above 0.
RANDOM = (
    *(nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout),
    *(nn.FeatureAlphaDropout, nn.RReLU, nn.FractionalMaxPool2d, nn.FractionalMaxPool3d),
    *(nn.RNNBase, nn.MultiheadAttention),
)

# Held while global generators are lent.
LENT = threading.RLock()


class Again(Exception):
    """Numbers are drawn in what the backward pass runs once more, and would be others there."""


class Generators:
    """Generators of the CPU and, if it is another one, of the device that computes.

    Parameters
    ----------
    seed : int
        Of both.
    device : str or torch.device, default="cpu"
    """

    def __init__(self, seed: int, device: Any = "cpu") -> None:
        places = {torch.device("cpu"), torch.device(device)}
        self.by_type = {p.type: torch.Generator(p).manual_seed(seed) for p in places}
        self.runs_once = False  # whether a draw without gradients is one of a forward to come again

    def of(self, device: torch.device) -> torch.Generator | None:
        """Return that of a device; None if torch's own has to do."""
        if self.runs_once and not torch.is_grad_enabled():
            raise Again
        return self.by_type.get(device.type)

    def copy(self) -> Generators:
        """Return others, which will draw the same."""
        twin = Generators.__new__(Generators)
        twin.runs_once = False
        twin.by_type = {name: g.clone_state() for name, g in self.by_type.items()}
        return twin


class DrawsFrom(TorchDispatchMode):
    """In this context, all operations of this thread draw from `generators`.

    They take several microseconds more each. Compiled code is not run as such.

    Parameters
    ----------
    generators : Generators

    Attributes
    ----------
    n_draws : int
        Operations that have drawn.
    """

    def __init__(self, generators: Generators) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.generators, self.n_draws = generators, 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call an operation, with a generator if it is one that draws."""
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded not in func.tags or _has_generator(args, kwargs):
            return func(*args, **kwargs)
        device = _device_of(args, kwargs)
        generator, op = self.generators.of(device), _taking_generator(func)
        if generator is not None and op is not None:
            self.n_draws += 1
            return op(*args, **kwargs, generator=generator)
        if _drops_nothing(func, args, kwargs):
            return func(*args, **kwargs)
        with lent(self.generators) as has_drawn:
            result = func(*args, **kwargs)
            self.n_draws += has_drawn()
        return result


def _has_generator(args: Any, kwargs: Mapping[str, Any]) -> bool:
    return any(isinstance(value, torch.Generator) for value in (*args, *kwargs.values()))


def _device_of(args: Any, kwargs: Mapping[str, Any]) -> torch.device:
    if kwargs.get("device") is not None:
        return torch.device(kwargs["device"])
    tensors = (value for value in (*args, *kwargs.values()) if isinstance(value, Tensor))
    return next((tensor.device for tensor in tensors), torch.device("cpu"))


def _drops_nothing(op: Any, args: Any, kwargs: Mapping[str, Any]) -> bool:
    """Tell whether an operation that could drop out, such as an attention, does not."""
    arguments = op._schema.arguments
    values = {a.name: a.default_value for a in arguments}
    values |= dict(zip([a.name for a in arguments], args, strict=False)) | dict(kwargs)
    return any(values.get(name) == 0 for name in ("dropout_p", "p", "dropout", "train"))


@functools.cache
def _taking_generator(op: Any) -> Any:
    """Return the form of an operation that takes a generator; None if there is none."""
    names = [argument.name for argument in op._schema.arguments]
    if "generator" in names:
        return op
    others = (getattr(op.overloadpacket, name) for name in op.overloadpacket.overloads())
    for other in others:
        theirs = [argument.name for argument in other._schema.arguments]
        if "generator" in theirs and [name for name in theirs if name != "generator"] == names:
            return other
    return None


@contextlib.contextmanager
def lent(generators: Generators) -> Iterator[Callable[[], bool]]:
    """Put generators in place of torch's global ones, for what can draw from no others.

    One thread at a time; those that draw from the global ones would draw from these. Inside, a
    function tells whether anything was drawn.
    """
    own = list(generators.by_type.values())
    with LENT:
        before, given = global_states(generators), [generator.get_state() for generator in own]
        set_global_states(generators, given)
        try:
            yield lambda: not all(map(torch.equal, global_states(generators), given))
        finally:
            for generator, state in zip(own, global_states(generators), strict=True):
                generator.set_state(state)
            set_global_states(generators, before)


def global_states(generators: Generators) -> list[Tensor]:
    """Return the states of torch's global generators of the devices that generators are of."""
    return [_global_state(generator.device)[0]() for generator in generators.by_type.values()]


def set_global_states(generators: Generators, states: list[Tensor]) -> None:
    """Put back what `global_states` has returned."""
    for generator, state in zip(generators.by_type.values(), states, strict=True):
        _global_state(generator.device)[1](state)


def _global_state(device: torch.device) -> tuple[Callable[[], Tensor], Callable[[Tensor], None]]:
    """Functions that get and set the state of the global generator of a device."""
    if device.type == "cpu":
        return torch.get_rng_state, torch.set_rng_state
    module: Any = torch.get_device_module(device)
    if device.type == "mps":
        return module.get_rng_state, module.set_rng_state
    get = functools.partial(module.get_rng_state, device)
    return get, functools.partial(module.set_rng_state, device=device)


def is_known(layer: nn.Module) -> bool:
    """Tell whether nothing of a layer itself can draw but what `drawing_layers` knows of it."""
    ours = type(layer).__module__.startswith(("torch.nn.", "sklearn_mtl."))
    return ours and "forward" not in vars(layer) and not _hooks_of(layer)


def _hooks_of(layer: nn.Module) -> Any:
    return layer._forward_hooks or layer._forward_pre_hooks


def drawing_layers(
    layers: Iterable[nn.Module], generators: Generators
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Find layers that draw, and what their attributes have to hold to draw from `generators`.

    Parameters
    ----------
    layers : iterable of nn.Module
        All that are known, `is_known`. Ours with an attribute `generator` are found, and torch's.
    generators : Generators

    Returns
    -------
    held : list of tuple of dict
        Attributes of each layer, as `vars` returns them, and those to be added for a while.
    """
    held: list[tuple[dict[str, Any], dict[str, Any]]] = []
    for layer in layers:
        if hasattr(type(layer), "generator"):
            held.append((vars(layer), {"generator": generators.by_type["cpu"]}))
        elif isinstance(layer, RANDOM) and getattr(layer, "dropout", 1) > 0:
            forward = _drop if type(layer) is nn.Dropout else _draw
            held.append((vars(layer), {"forward": functools.partial(forward, layer, generators)}))
    return held


def _drop(layer: Any, generators: Generators, x: Tensor) -> Tensor:
    """Forward of a dropout: the same bits as torch's, and as fast."""
    if not layer.training or not 0 < layer.p < 1 or x.numel() == 0:
        return type(layer).forward(layer, x)
    generator = generators.of(x.device)
    if generator is None:
        return _draw(layer, generators, x)
    kept = torch.empty_like(x).bernoulli_(1 - layer.p, generator=generator).div_(1 - layer.p)
    return x.mul_(kept) if layer.inplace else x * kept


def _draw(layer: Any, generators: Generators, *args: Any, **kwargs: Any) -> Any:
    """Forward of any other layer."""
    with DrawsFrom(generators):
        return type(layer).forward(layer, *args, **kwargs)
