"""A fitted network as an ONNX graph, from X as it is passed to one output per task."""

from __future__ import annotations

import importlib
import json
import os
import threading
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from sklearn_mtl._files.disk import write_file
from sklearn_mtl._fitted_module import FittedModule

__all__ = ["export"]

# Held while torch traces a module, which it does for one thread at a time.
EXPORTING = threading.Lock()


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


class _OfInputs(nn.Module):
    """A module that takes the parts of X one after the other."""

    def __init__(self, module: nn.Module, names: list[str]) -> None:
        super().__init__()
        self.module, self.names = module, names

    def forward(self, *parts: Tensor) -> Any:
        return self.module(dict(zip(self.names, parts, strict=True)))


def export(
    fitted: FittedModule,
    classes: dict[str, list[Any] | None],
    path: str | os.PathLike[str],
) -> None:
    """Write a module to a file; `classes` maps the name of each task to its labels, if any."""
    try:
        for package in ("onnx", "onnxscript"):
            importlib.import_module(package)
    except ImportError as error:
        raise ImportError(
            f'to_onnx needs {error.name}. Install it: pip install "sklearn-mtl[onnx]".'
        ) from error
    names = list(classes)
    inputs: list[str] = []
    for name in fitted.inputs:
        while name in [*names, *inputs]:
            name += "_"
        inputs.append(name)
    module, n_rows = _exportable(fitted), torch.export.Dim("n")
    free = ({0: n_rows},) * len(fitted.inputs)
    samples = tuple(torch.zeros(2, *shape) for shape in fitted.inputs.values())
    with EXPORTING, warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # about how torch 2.13 calls itself
        warnings.filterwarnings("ignore", ".*axis name: n will not be used")  # but once
        program: Any = torch.onnx.export(
            _OfInputs(module, list(fitted.inputs)).eval() if fitted.has_parts else module,
            samples,
            dynamo=True,
            dynamic_shapes=(free,) if fitted.has_parts else free,
            input_names=inputs,
            verbose=False,
        )
    model = program.model.graph
    # What stands inside may have the name of a task by chance, and gives way.
    inside = [*model.initializers.values(), *(out for node in model for out in node.outputs)]
    for i, value in enumerate(inside):
        if value.name in (*inputs, *names):
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
