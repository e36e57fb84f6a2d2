"""A fitted network as an ONNX graph, from X as it is passed to one output per task."""

from __future__ import annotations

import copy
import importlib
import json
import os
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sklearn_mtl._data.inputs import InputReader
from sklearn_mtl._files.disk import write_file
from sklearn_mtl.kinds import ClassificationTarget, Kind

__all__ = ["Graph", "export"]


def _decoded(raw: Tensor, kind: Kind) -> Tensor:
    """Probabilities (n, n_classes) or numbers (n,) of raw outputs (n, M, n_outputs)."""
    members = kind.link(raw)
    return members.mean(dim=1) if kind.is_class else _in_units(members, *kind.units)


def _in_units(members: Tensor, scale: float, shift: float = 0.0) -> Tensor:
    """Mean of members (n, M), scaled and shifted in float64: a large offset would cost digits."""
    # Tensors, as the exporter would round plain numbers to float32.
    factor, offset = torch.tensor([[scale], [shift]], dtype=torch.float64)
    return members.mean(dim=1).double() * factor + offset


def _is_linked(kind: type[Kind]) -> bool:
    """Tell whether all that a kind predicts follows from its link and units."""
    if issubclass(kind, ClassificationTarget):
        return kind.proba is ClassificationTarget.proba
    return kind.link is not Kind.link and kind.decode is Kind.decode


class Graph(nn.Module):
    """Reader, network and decoders as one module.

    Parameters
    ----------
    module : nn.Module
        Maps standardised samples to raw outputs; copied, to compute in float32 on the CPU.
    reader : InputReader
    names : sequence of str
        Of the tasks.
    kinds : sequence of Kind
        Fitted.
    """

    mean: Tensor
    scale: Tensor

    def __init__(
        self, module: nn.Module, reader: InputReader, names: Sequence[str], kinds: Sequence[Kind]
    ) -> None:
        super().__init__()
        for name, kind in zip(names, kinds, strict=True):
            if not _is_linked(type(kind)):
                raise ValueError(
                    f"Task {name!r}: {type(kind).__name__} cannot be exported, as it decodes "
                    "without a link. Give it a method link(raw) that works on tensors, and leave "
                    "the rest to its base."
                )
        exported: Any = copy.deepcopy(module).cpu().float()
        exported.channels_last = False  # memory is the runtime's business
        self.module = _exportable(exported)
        self.kinds, self.shape = list(kinds), reader.input_shape_
        self.channels_last = reader.data_format == "channels_last" and len(self.shape) > 1
        self.register_buffer("mean", torch.from_numpy(reader.mean_))
        self.register_buffer("scale", torch.from_numpy(reader.scale_))

    def forward(self, X: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs of all tasks, in their order."""
        if self.channels_last:
            X = X.reshape(-1, *self.shape[1:], self.shape[0]).movedim(-1, 1)
        else:
            X = X.reshape(-1, *self.shape)
        # In float64, as in the reader: a feature of 1e6 + noise keeps the noise that it has.
        raw = self.module(((X.double() - self.mean) / self.scale).float())
        raw = raw.unsqueeze(1) if raw.ndim == 2 else raw
        parts = raw.split([kind.n_outputs for kind in self.kinds], dim=-1)
        return tuple(_decoded(part, kind) for part, kind in zip(parts, self.kinds, strict=True))


class _AdaptiveAvgPool3d(nn.Module):
    """The same as torch's, for which there is no operator in ONNX, as one matrix per axis."""

    def __init__(self, output_size: Any) -> None:
        super().__init__()
        self.sizes = output_size if isinstance(output_size, tuple) else (output_size,) * 3

    def forward(self, x: Tensor) -> Tensor:
        for axis, size in zip((-3, -2, -1), self.sizes, strict=True):
            if size is not None:
                x = x.movedim(axis, -1)
                x = (x @ _averages(int(x.shape[-1]), size)).movedim(-1, axis)
        return x


def _averages(n_in: int, n_out: int) -> Tensor:
    """Matrix (n_in, n_out) whose columns average over nearly equal parts of an axis."""
    matrix = torch.zeros(n_in, n_out)
    for i in range(n_out):
        start, stop = i * n_in // n_out, -((i + 1) * n_in // -n_out)
        matrix[start:stop, i] = 1 / (stop - start)
    return matrix


def _exportable(module: nn.Module) -> nn.Module:
    """Put in place of layers that cannot be exported others that compute the same."""
    for name, child in module.named_children():
        if type(child) is nn.AdaptiveAvgPool3d:
            setattr(module, name, _AdaptiveAvgPool3d(child.output_size))
        else:
            _exportable(child)
    return module


def export(
    graph: Graph,
    sample_shape: tuple[int, ...],
    classes: dict[str, list[Any] | None],
    path: str | os.PathLike[str],
) -> None:
    """Write a graph to a file; `classes` maps the name of each task to its labels, if any."""
    try:
        for package in ("onnx", "onnxscript"):
            importlib.import_module(package)
    except ImportError as error:
        raise ImportError(
            f'to_onnx needs {error.name}. Install it: pip install "sklearn-mtl[onnx]".'
        ) from error
    names, X = list(classes), "X"
    while X in names:
        X += "_"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # about how torch 2.13 calls itself
        program: Any = torch.onnx.export(
            graph.eval(),
            (torch.zeros(2, *sample_shape),),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("n")},),
            input_names=[X],
            verbose=False,
        )
    model = program.model.graph
    # What stands inside may have the name of a task by chance, and gives way.
    inside = [*model.initializers.values(), *(out for node in model for out in node.outputs)]
    for i, value in enumerate(inside):
        if value.name in (X, *names):
            value.name = f"{value.name}.inside.{i}"
    for value, name in zip(model.outputs, names, strict=True):
        value.name = name
    _forget_origin(program.model)
    program.model.metadata_props["classes"] = json.dumps(classes, default=str)
    write_file(path, program.model_proto.SerializeToString())


def _forget_origin(model: Any) -> None:
    """Drop what the exporter notes for those who debug it: paths, and lines of source code."""
    graphs = [model.graph, *model.functions.values()]
    nodes = [node for graph in graphs for node in graph.all_nodes()]
    values = [value for node in nodes for value in (*node.inputs, *node.outputs) if value]
    for part in (model, *graphs, *nodes, *values, *model.graph.inputs, *model.graph.outputs):
        part.metadata_props.clear()
        part.doc_string = None
