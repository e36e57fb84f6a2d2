"""A fitted network as one PyTorch module, from X as it is passed to predictions of every task."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sklearn_mtl._data.fused import FusedReader
from sklearn_mtl._data.inputs import InputReader
from sklearn_mtl.kinds import ClassificationTarget, Kind, UnobservedTarget

__all__ = ["FittedModule"]


def _decoded(raw: Tensor, kind: Kind) -> Tensor:
    """Probabilities (n, n_classes) or numbers (n,) of raw outputs (n, M, n_outputs)."""
    members = kind.link(raw)
    return members.mean(dim=1) if kind.is_class else _in_units(members, *kind.units)


def _in_units(members: Tensor, scale: float, shift: float = 0.0) -> Tensor:
    """Mean of members (n, M), scaled and shifted in float64: a large offset would cost digits."""
    # Tensors, as the exporter would round plain numbers to float32.
    given: Any = {"dtype": torch.float64, "device": members.device}
    factor, offset = torch.tensor([[scale], [shift]], **given)
    return members.mean(dim=1).double() * factor + offset


def _is_linked(kind: type[Kind]) -> bool:
    """Tell whether all that a kind predicts follows from its link and units."""
    if kind is UnobservedTarget:  # NaN, or no class
        return True
    if issubclass(kind, ClassificationTarget):
        return kind.proba is ClassificationTarget.proba
    return kind.link is not Kind.link and kind.decode is Kind.decode


def _answering(kind: Kind) -> type[Kind]:
    """Class of what answers: of a task that was not observed, what its labels are known to."""
    if isinstance(kind, UnobservedTarget) and kind.is_known:
        return type(kind.kind)
    return type(kind)


class FittedModule(nn.Module):
    """Reader, network and decoders as one module, in evaluation mode.

    Parameters
    ----------
    network : nn.Module
        Maps standardised samples to raw outputs; copied, to compute in float32 on the CPU.
    reader : InputReader
    names : sequence of str
        Of the tasks.
    kinds : sequence of Kind
        Fitted.
    task : str, optional
        The only task that is asked for.

    Attributes
    ----------
    network : MultiTaskModule
        A copy, with the layers `trunk` and `heads`.
    inputs : dict of str to tuple of int
        Shapes of samples as they are passed, of each part of X; of an X without parts, by 'X'.
    """

    mean: Tensor
    scale: Tensor

    def __init__(
        self,
        network: nn.Module,
        reader: InputReader,
        names: Sequence[str],
        kinds: Sequence[Kind],
        task: str | None = None,
    ) -> None:
        super().__init__()
        if task is not None and task not in names:
            raise ValueError(f"task={task!r} is not a task. Use one of {list(names)}.")
        for name, kind in zip(names, kinds, strict=True):
            if task in (None, name) and not _is_linked(_answering(kind)):
                raise ValueError(
                    f"Task {name!r}: {type(kind).__name__} cannot be exported, as it decodes "
                    "without a link. Give it a method link(raw) that works on tensors, and leave "
                    "the rest to its base."
                )
        copied: Any = copy.deepcopy(network).cpu().float().eval()
        copied.channels_last = False  # memory is the runtime's business
        self.network = copied
        self.names, self.kinds, self.task = list(names), list(kinds), task
        self.reader = reader
        readers = reader.readers_ if isinstance(reader, FusedReader) else {"X": reader}
        self.layouts = {name: _layout(r) for name, r in readers.items()}
        self.inputs = {name: r.sample_shape_ for name, r in readers.items()}
        self.has_parts = isinstance(reader, FusedReader)
        self.always_there = _always_there(reader) if isinstance(reader, FusedReader) else []
        self.register_buffer("mean", torch.from_numpy(reader.mean_))
        self.register_buffer("scale", torch.from_numpy(reader.scale_))
        self.eval().zero_grad()  # what training has left

    def forward(self, X: Tensor | Mapping[str, Tensor]) -> Tensor | dict[str, Tensor]:
        """Return the outputs of all tasks by name, in their order; or of the one asked for.

        X of several parts is a dict of them, or a tensor in which they stand side by side. Outputs
        are NaN where a part is missing that was in all rows of `fit`.

        Raises
        ------
        TypeError
            If X is no tensor.
        ValueError
            If samples have another shape than those of `fit`.
        """
        X = self._parts(X) if self.has_parts else self._samples("X", X)
        # In float64, as in the reader: a feature of 1e6 + noise keeps the noise that it has.
        inputs = (X.double() - self.mean) / self.scale
        raw = self.network(inputs.to(self.network.heads.weight.dtype), by_member=True)
        if self.always_there:
            unknown = X[:, self.always_there].isnan().any(dim=1)
            raw = raw.masked_fill(unknown.view(-1, *[1] * (raw.ndim - 1)), math.nan)
        raw = raw.unsqueeze(1) if raw.ndim == 2 else raw
        parts = raw.split([kind.n_outputs for kind in self.kinds], dim=-1)
        by_name = zip(self.names, self.kinds, parts, strict=True)
        if self.task is None:
            return {name: _decoded(part, kind) for name, kind, part in by_name}
        (out,) = (_decoded(part, kind) for name, kind, part in by_name if name == self.task)
        return out if out.ndim == 2 else out.unsqueeze(1)

    def _samples(self, name: str, X: Any) -> Tensor:
        """Return X, or a part of it, channels first."""
        if not isinstance(X, Tensor):
            raise TypeError(
                f"{name} is of type {type(X).__name__}, and a module takes tensors. Pass "
                f"torch.tensor(np.asarray({name}), dtype=torch.float32)."
            )
        reader, shape, channels_last = self.layouts[name]
        reader.check_shape(X)
        if channels_last:
            return X.reshape(-1, *shape[1:], shape[0]).movedim(-1, 1)
        return X.reshape(-1, *shape)

    def _parts(self, X: Any) -> Tensor:
        """Return the parts of X side by side."""
        if isinstance(X, Mapping):
            if set(X) != set(self.layouts):
                raise ValueError(f"X has the parts {list(X)}. Pass {list(self.layouts)}.")
            parts = [self._samples(name, X[name]) for name in self.layouts]
        elif isinstance(X, Tensor):
            self.reader.check_shape(X)
            shapes = [reader.sample_shape_ for reader, _, _ in self.layouts.values()]
            flat = X.split([math.prod(shape) for shape in shapes], dim=1)
            parts = [
                self._samples(name, part.reshape(-1, *shape))
                for name, part, shape in zip(self.layouts, flat, shapes, strict=True)
            ]
        else:
            raise TypeError(
                f"X is of type {type(X).__name__}, and a module takes tensors. Pass a dict of "
                f"them, with the parts {list(self.layouts)}."
            )
        return torch.cat([part.flatten(1) for part in parts], dim=1)


def _always_there(reader: FusedReader) -> list[int]:
    """Return where in a row the parts begin that no row of `fit` lacked."""
    sizes = [math.prod(part.sample_shape_) for part in reader.readers_.values()]
    starts = itertools.accumulate(sizes[:-1], initial=0)
    places = zip(reader.readers_.values(), starts, strict=True)
    return [start for part, start in places if not part.lacks_]


def _layout(reader: InputReader) -> tuple[InputReader, tuple[int, ...], bool]:
    """Return a reader, the shape of its samples, and whether X has their channels last."""
    shape = reader.input_shape_
    return reader, shape, reader.data_format == "channels_last" and len(shape) > 1
