"""How far a training is: all that decides how it goes on, kept from time to time in a file."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

import numpy as np
from skorch import History, NeuralNet
from skorch.callbacks import EpochTimer, PrintLog, ProgressBar
from torch import nn
from torch.utils.hooks import RemovableHandle

from sklearn_mtl._identity import OF_MODULES, identity
from sklearn_mtl._training.lines import EpochBar
from sklearn_mtl._training.listeners import OfOneTraining, plain_module

__all__ = ["Elsewhere", "File", "Progress", "Saved", "Store"]


class Saved(NamedTuple):
    """What a file holds of a fit that has not ended.

    Attributes
    ----------
    seed : int
        Of the fit.
    plan : str
        Fingerprint of what was planned by it.
    state : dict
        Of the training: plain data and tensors.
    """

    seed: int
    plan: str
    state: dict[str, Any]


class File(Protocol):
    """Where the progress of one fit is kept."""

    every: float  # seconds

    def read(self) -> Saved | None:
        """Return what an earlier process has written, if one has."""

    def refuse(self, *names: str) -> None:
        """Say that these differ from what the fit was given that the file is of."""

    def write(self, saved: Saved) -> None:
        """Replace what was written before."""

    def remove(self) -> None:
        """Remove the file: the fit has ended."""

    def blaming(self) -> AbstractContextManager[None]:
        """Say of errors inside that the file is at fault."""


class Store(Protocol):
    """Where the progress of fits is kept."""

    def of(self, fit: Mapping[str, str]) -> AbstractContextManager[File]:
        """Open the file of one fit, told by fingerprints of what it was given."""


class Elsewhere:
    """The file of a fit that another process keeps."""

    every = math.inf

    def read(self) -> None:
        """Leave that to it."""

    def refuse(self, *names: str) -> None:
        """Leave that to it."""

    def write(self, saved: Saved) -> None:
        """Leave that to it."""

    def remove(self) -> None:
        """Leave that to it."""

    def blaming(self) -> AbstractContextManager[None]:
        """Let errors be as they are."""
        return contextlib.nullcontext()


class Progress(OfOneTraining):
    """Keep in a file how far a training is, at the ends of epochs, and go on from there.

    It stands behind all other callbacks. The first epoch is kept whatever the time is, so that a
    state that cannot be written is told of in the beginning.

    Parameters
    ----------
    file : File
        Where to keep it.
    seed : int
        Of the fit.
    plan : str
        Fingerprint of what was planned.
    saved : Saved or None
        What the file holds, to go on from.

    Raises
    ------
    ValueError
        If the file holds the progress of another plan.
    """

    def __init__(self, file: File, seed: int, plan: str, saved: Saved | None) -> None:
        self.file, self.seed, self.plan = file, seed, plan
        self.state = None
        if saved is not None:
            if saved.plan != plan:
                file.refuse("X")
            self.state = saved.state

    def on_train_begin(self, net: NeuralNet, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        """Note how all begins, and go on from the state if there is one."""
        batches, valid = X  # the pair that the net is trained on
        self.sources = (
            {"batches": batches} if valid is None else {"batches": batches, "valid": valid}
        )
        self.notes_ = {
            owner: {name: identity(value) for name, value in values.items()}
            for owner, _, values in _others_of(net)
        }
        self.written_ = None if self.state is None else time.monotonic()
        if self.state is not None:
            with self.file.blaming():
                self._restore(net, self.state)
            self.state = None

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Keep the state if it is time to."""
        if self.file.every == math.inf:
            return
        if self.written_ is None or time.monotonic() - self.written_ >= self.file.every:
            self.file.write(Saved(self.seed, self.plan, self._state_of(net)))
            self.written_ = time.monotonic()

    def _state_of(self, net: NeuralNet) -> dict[str, Any]:
        history = json.dumps(list(net.history), default=_as_plain).encode()
        return {
            "module": _tensors_of(plain_module(net)),
            "criterion": _tensors_of(_criterion_of(net)),
            "frozen": [name for name, p in _parameters_of(net) if not p.requires_grad],
            "optimizer": net.optimizer_.state_dict(),
            "others": {
                owner: _changed(values, self.notes_.get(owner, {}))
                for owner, _, values in _others_of(net)
            },
            "history": np.frombuffer(history, dtype=np.uint8),
            "record": {name: np.array(rows) for name, rows in net.record_.items()},
            "best": net.best_,
            "sources": {n: s.state_dict() for n, s in self.sources.items()},
            "random": net.draws_.state_dict(),
        }

    def _restore(self, net: NeuralNet, state: dict[str, Any]) -> None:
        _load_tensors(plain_module(net), state["module"])
        _load_tensors(_criterion_of(net), state["criterion"])
        for name, p in _parameters_of(net):
            p.requires_grad_(name not in state["frozen"])
        for owner, holder, values in _others_of(net):
            _put_back(holder, values, state["others"].get(owner, {}))
        net.optimizer_.load_state_dict(state["optimizer"])
        net.history_ = History(json.loads(state["history"].tobytes()))
        net.record_ = {name: list(rows) for name, rows in state["record"].items()}
        net.best_ = state["best"]
        for name, source in self.sources.items():
            source.load_state_dict(state["sources"][name])
        net.draws_.load_state_dict(state["random"])


def _as_plain(value: Any) -> Any:
    """Take numbers of numpy and torch in the history for plain ones."""
    if not hasattr(value, "item"):
        raise TypeError(
            f"The history of the net holds {value!r}, of type {type(value).__name__}, which a "
            "checkpoint cannot hold. Let callbacks record plain numbers and text."
        )
    return value.item()


def _criterion_of(net: NeuralNet) -> nn.Module:
    return getattr(net.criterion_, "_orig_mod", net.criterion_)


def _parameters_of(net: NeuralNet) -> list[tuple[str, nn.Parameter]]:
    parts = {"module": plain_module(net), "criterion": _criterion_of(net)}
    return [(f"{name}.{n}", p) for name, m in parts.items() for n, p in m.named_parameters()]


# -- tensors of modules ---------------------------------------------------------------------------


def _tensors_of(module: nn.Module) -> dict[str, Any]:
    """Return the state of a module, and the buffers that it says not to save."""
    buffers = {name: buffer.detach() for name, buffer in module.named_buffers()}
    return buffers | dict(module.state_dict())


def _load_tensors(module: nn.Module, state: dict[str, Any]) -> None:
    known = module.state_dict().keys()
    unsaved = {n: buffer for n, buffer in module.named_buffers() if n not in known}
    for name, buffer in unsaved.items():
        buffer.copy_(state[name])
    module.load_state_dict({name: t for name, t in state.items() if name not in unsaved})


# -- what callbacks and modules keep besides ------------------------------------------------------

# Callbacks of skorch that show something, and change nothing.
DISPLAYS = (EpochTimer, EpochBar, PrintLog, ProgressBar)


def _others_of(net: NeuralNet) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """Callbacks, which may have a state of their own, and all modules: who, and its attributes."""
    for name, callback in net.callbacks_:
        if hasattr(callback, "load_state_dict"):
            yield f"callback {name}", None, {"state": callback}
        elif not isinstance(callback, (OfOneTraining, *DISPLAYS)):
            values = {n: v for n, v in vars(callback).items() if v is not net}
            yield f"callback {name}", callback, values
    for kind, root in {"module": plain_module(net), "loss": _criterion_of(net)}.items():
        for name, part in root.named_modules():
            values = {n: v for n, v in vars(part).items() if n not in OF_MODULES}
            values = {n: v for n, v in values.items() if not _refers_to_weights(v)}
            if values:
                yield f"{kind} {name}", part, values


def _refers_to_weights(value: Any) -> bool:
    """Tell lists of parameters, as recurrent layers keep them, and hooks."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return any(map(_refers_to_weights, value))
    return isinstance(value, nn.Parameter | RemovableHandle)


def _has_state(value: Any) -> bool:
    return hasattr(value, "load_state_dict") and not isinstance(value, type)


def _changed(values: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    """Return attributes that are others than before, and the states of those that have one."""
    changed = {}
    for name, value in values.items():
        if _has_state(value):
            changed[name] = dict(value.state_dict())
        elif name not in before or identity(value) != before[name]:
            changed[name] = dict(value) if isinstance(value, OrderedDict) else value
    return changed


def _put_back(holder: Any, values: dict[str, Any], changed: dict[str, Any]) -> None:
    for name, value in changed.items():
        if name in values and _has_state(values[name]):
            values[name].load_state_dict(value)
        else:
            setattr(holder, name, value)
