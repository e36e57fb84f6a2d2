"""Random numbers of a training, and what stands around it: global states are left as they are."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Set
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from sklearn_mtl.networks.draws import (
    Again,
    DrawsFrom,
    Generators,
    drawing_layers,
    global_states,
    is_known,
    lent,
    set_global_states,
)

__all__ = ["Draws", "float32_by_default", "undisturbed"]

# Calls without a draw after which unknown code is taken not to draw.
CALM = 32

RUNS_AGAIN = "saved tensors have hooks: it may be run again in the backward pass"


class Draws(Generators):
    """All that a training draws from: one seed, and no global state.

    First weights, and what callbacks draw, come from it by `DrawsFrom`. In steps, layers that are
    known to draw are handed generators, which costs nothing. Code that is not known, such as
    a module of the user, is run by `run`.

    Parameters
    ----------
    seed : int
    device : str or torch.device

    Attributes
    ----------
    order : numpy.random.Generator
        Shuffles the rows.
    is_idle : bool
        Whether nothing draws in a step.
    knows_evaluation : bool
        Whether all that draws on the way forwards and backwards are layers that are known to.
    """

    def __init__(self, seed: int, device: Any) -> None:
        super().__init__(seed, device)
        self.seed = seed
        self.order = np.random.default_rng(seed)
        self.held: list[tuple[dict[str, Any], dict[str, Any]]] = []
        self.unknown: frozenset[str] = frozenset()  # parts of a step whose code is not known
        self.is_idle = self.knows_evaluation = self.lends = self.is_lent = False
        self.to_watch: dict[str, int] = {}  # runs of unknown parts that are still to be watched

    def renew(self, *key: int) -> None:
        """Begin anew with generators that are others for each key."""
        seed = int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> np.uint64(1))
        for generator in self.by_type.values():
            generator.manual_seed(seed)

    def state_dict(self) -> dict[str, Any]:
        """Return all states, as they are now."""
        return {
            "torch": self._states(),
            "numpy": self.order.bit_generator.state,
            "lends": self.lends,
            "to_watch": dict(self.to_watch),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from states that `state_dict` has returned."""
        self._set_states(state["torch"])
        self.order.bit_generator.state = state["numpy"]
        self.lends, self.to_watch = state["lends"], dict(state["to_watch"])

    def _states(self) -> dict[str, Tensor]:
        return {name: generator.get_state() for name, generator in self.by_type.items()}

    def _set_states(self, states: dict[str, Tensor]) -> None:
        for name, generator in self.by_type.items():
            generator.set_state(states[name])

    def drawing(self) -> DrawsFrom:
        """Let all operations draw from here."""
        return DrawsFrom(self)

    def predicting(self) -> contextlib.AbstractContextManager[Any]:
        """Let a network whose code is not known draw from here where it predicts."""
        return self.drawing() if "module" in self.unknown else contextlib.nullcontext()

    def aside(self) -> DrawsFrom:
        """Let all operations draw what they would draw from here, and yet change nothing here."""
        return DrawsFrom(self.copy())

    def look_at(self, module: nn.Module, unknown: Set[str]) -> None:
        """Look which layers of a network draw, beside unknown parts; callbacks may change it."""
        layers = list(module.modules())
        plain = [layer for layer in layers if "_orig_mod" not in layer._modules]
        known = [layer for layer in plain if is_known(layer)]
        is_unknown = len(known) < len(plain)
        self.held = drawing_layers(known, self)
        self.unknown = frozenset(unknown | {"module"} if is_unknown else unknown)
        # Compiled code draws from global generators only.
        self.lends |= len(plain) < len(layers) and bool(self.held or is_unknown)
        self.is_idle = not (self.held or self.unknown or self.lends)
        self.knows_evaluation = not (self.unknown & {"module", "loss"} or self.lends)

    @contextlib.contextmanager
    def lending(self) -> Iterator[None]:
        """Put generators in place of torch's global ones, in a step or a part of it."""
        if self.is_lent:
            yield
            return
        self.is_lent = True
        try:
            with lent(self):
                yield
        finally:
            self.is_lent = False

    @contextlib.contextmanager
    def forward(self) -> Iterator[None]:
        """Let layers that are known to draw do so from here, in a forward pass of the network."""
        if self.lends:
            with self.lending():
                yield
            return
        for layer, held in self.held:
            layer.update(held)
        try:
            with self._once() if "module" in self.unknown else contextlib.nullcontext():
                yield
        finally:
            for layer, held in self.held:
                for name in held:
                    layer.pop(name, None)

    @contextlib.contextmanager
    def _once(self) -> Iterator[None]:
        """Refuse what runs again in the backward pass: it would set global generators back."""
        if not torch.is_grad_enabled():
            yield
            return
        self.runs_once = True
        try:
            with torch.autograd.graph.disable_saved_tensors_hooks(RUNS_AGAIN):
                yield
        except RuntimeError as error:
            if RUNS_AGAIN in str(error):
                raise Again from error
            raise
        finally:
            self.runs_once = False

    def run(
        self, part: str, act: Callable[[], Any], undoing: Callable[[], Callable[[], None]]
    ) -> Any:
        """Run a part of a step whose code is not known, so that all that it draws comes from here.

        In `DrawsFrom`, until it has been seen not to draw; then as it is, which takes less time. If
        the global generators have then moved, it is undone, and done again in `DrawsFrom`. What can
        draw from nothing else is done again with these generators in their place.

        Parameters
        ----------
        part : str
            Its name.
        act : callable
            Runs it.
        undoing : callable
            Called before, returns what undoes it.
        """
        if self.lends or self.is_lent:
            with self.lending():
                return act()
        undo, states = undoing(), self._states()
        try:
            if self.to_watch.get(part, CALM):
                return self._watched(part, act)
            before = global_states(self)
            result = act()
            after = global_states(self)
            if _are_equal(before, after):
                return result
            undo()
            self._set_states(states)
            result = self._watched(part, act)
            is_own = self.to_watch[part] == CALM  # else somebody else has drawn
            if is_own and _are_equal(global_states(self), after):
                set_global_states(self, before)
            return result
        except Again:
            undo()
            self._set_states(states)
            self.lends = True
            with self.lending():
                return act()

    def _watched(self, part: str, act: Callable[[], Any]) -> Any:
        with DrawsFrom(self) as mode:
            result = act()
        left = self.to_watch.get(part, CALM)
        self.to_watch[part] = CALM if mode.n_draws else max(0, left - 1)
        return result


def _are_equal(states: list[Tensor], others: list[Tensor]) -> bool:
    return all(map(torch.equal, states, others))


@contextlib.contextmanager
def undisturbed(device: str) -> Iterator[None]:
    """Let what stands around a fit say nothing: gradients are computed, at full precision.

    Tensors are made on the CPU, where nothing else is said. (Weights that autocast has cached would
    be those of the first batch as long as it lasts.)
    """
    on_cpu = torch.get_default_device().type == "cpu"
    with (
        contextlib.nullcontext() if on_cpu else torch.device("cpu"),
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autocast(torch.device(device).type, enabled=False, cache_enabled=False),
    ):
        yield


# What makes tensors of the default type, and what does so of values that have none.
MAKERS = {
    *(torch.empty, torch.zeros, torch.ones, torch.rand, torch.randn, torch.normal),
    *(torch.eye, torch.linspace, torch.logspace, torch.empty_strided),
}
OF_VALUES = {torch.tensor, torch.as_tensor, torch.asarray, torch.full, torch.arange}


class _Float32ByDefault(TorchFunctionMode):
    """In this context, this thread makes tensors of float32, whatever the default of the process.

    That one is for all threads, and stays as it is.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call a function, with a type if it is one that makes tensors of none."""
        kwargs, default = kwargs or {}, torch.get_default_dtype()
        typed = [v for v in (*args, *kwargs.values()) if hasattr(v, "dtype")]
        if default == torch.float32 or typed or kwargs.get("dtype") is not None:
            return func(*args, **kwargs)
        if func in MAKERS:
            return func(*args, **kwargs | {"dtype": torch.float32})
        result = func(*args, **kwargs)
        return result.float() if func in OF_VALUES and result.dtype == default else result


def float32_by_default() -> contextlib.AbstractContextManager[Any]:
    """Make modules of float32, from the same draws, whatever the default of the process is."""
    usual = torch.get_default_dtype() == torch.float32
    return contextlib.nullcontext() if usual else _Float32ByDefault()
