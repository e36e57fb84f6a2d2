"""What members of an ensemble say of the rows that they left out."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sklearn_mtl._data.decoding import RawOutputs
from sklearn_mtl._data.inputs import Source
from sklearn_mtl._data.tables import Column
from sklearn_mtl._data.targets import TargetEncoder
from sklearn_mtl._predict import predict_raw, raw_chunks
from sklearn_mtl._score import score_columns
from sklearn_mtl._training.listeners import mend_of
from sklearn_mtl._training.net import TaskNet
from sklearn_mtl._training.plan import Plan

__all__ = ["MemberCells", "check_finite", "members_at", "out_of_bag", "raw_left_out", "raw_of"]

VALUES = 2**19  # of raw outputs that become predictions at once


def raw_left_out(plan: Plan, net: TaskNet) -> NDArray[Any]:
    """Raw outputs (n, n_outputs) on the rows that were trained on, of members that left them out.

    Those of the others, of which there are as many as members, are never held of all rows.
    """
    return plan.group.read(functools.partial(_left_out, plan, net), np.arange(len(plan.rows)))


def _left_out(plan: Plan, net: TaskNet, places: NDArray[np.intp]) -> NDArray[Any]:
    """Raw outputs (n, n_outputs) of the members that left rows out; those of others are not kept.

    Rows are given by their places among those that were trained on.
    """
    assert plan.folds is not None
    folds, out = plan.folds[places], np.empty(0)
    of = net.module_, plan.source, plan.rows[places], net.device, net.amp_dtype_
    for at, chunk in raw_chunks(*of):
        check_finite(chunk, net)
        if not len(out):
            out = np.empty((len(places), chunk.shape[2]), chunk.dtype)
        out[at] = chunk[np.arange(len(chunk)), folds[at]]
    return out


def check_finite(raw: NDArray[Any], net: TaskNet) -> None:
    """Refuse outputs that are not finite, at the end of a training."""
    if not np.isfinite(raw).all():
        raise ValueError(f"Training ended with outputs that are not finite. {mend_of(net)}")


def raw_of(plan: Plan, net: TaskNet, source: Source, rows: NDArray[np.intp]) -> NDArray[Any]:
    """Raw outputs of rows, of which each process predicts its share."""
    return plan.group.read(
        lambda mine: predict_raw(net.module_, source, mine, net.device, net.amp_dtype_), rows
    )


class MemberCells:
    """Raw outputs of all members where tasks of numbers were observed, and of no other cells.

    Parameters
    ----------
    wanted : dict of int to ndarray of int
        Rows, by raw output.
    n_members : int
    dtype : dtype
    """

    def __init__(
        self, wanted: dict[int, NDArray[np.integer[Any]]], n_members: int, dtype: Any
    ) -> None:
        ends = np.cumsum([0, *map(len, wanted.values())]).tolist()
        self.at = {
            o: slice(*pair) for o, pair in zip(wanted, itertools.pairwise(ends), strict=True)
        }
        rows = np.concatenate([*wanted.values()]) if wanted else np.arange(0)
        outputs = np.repeat(np.array([*wanted], dtype=np.int32), [*map(len, wanted.values())])
        self.order = np.argsort(rows, kind="stable").astype(np.int32)
        self.rows, self.outputs = rows[self.order], outputs[self.order]
        self.values = np.empty((len(rows), n_members), dtype)

    def put(self, rows: slice, chunk: NDArray[Any]) -> None:
        """Take what is wanted of outputs (n, M, n_outputs) of some rows."""
        some = slice(*np.searchsorted(self.rows, [rows.start, rows.stop]).tolist())
        row, output = self.rows[some] - rows.start, self.outputs[some]
        self.values[self.order[some]] = chunk[row, :, output]

    def part(self, outputs: slice, rows: Any) -> NDArray[Any]:
        """Return outputs (n_rows, M, width) of the rows that were wanted of them: all of those."""
        found = [self.values[self.at[o]] for o in range(outputs.start, outputs.stop)]
        return np.stack(found, axis=2)


def members_at(
    plan: Plan, net: TaskNet, columns: Sequence[Column], drawn: NDArray[np.intp]
) -> NDArray[Any] | MemberCells:
    """Raw outputs of all members on drawn rows; of the observed cells, where they are few."""
    rows = plan.rows[drawn]
    if not plan.targets.are_few or plan.group.size > 1:
        return raw_of(plan, net, plan.source, rows)
    starts = np.cumsum([0, *plan.encoder.n_outputs]).tolist()
    place = np.full(columns[0].n_rows, -1)
    place[drawn] = np.arange(len(drawn))
    wanted: dict[int, NDArray[np.integer[Any]]] = {}
    for k, (kind, column) in enumerate(zip(plan.encoder.kinds_, columns, strict=True)):
        if not kind.is_class:
            found = place[column.rows]
            wanted |= dict.fromkeys(range(starts[k], starts[k + 1]), found[found >= 0])
    cells: MemberCells | None = None
    of = net.module_, plan.source, rows, net.device, net.amp_dtype_
    for at, chunk in raw_chunks(*of):
        cells = cells or MemberCells(wanted, chunk.shape[1], chunk.dtype)
        cells.put(at, chunk)
    assert cells is not None
    return cells


def out_of_bag(
    plan: Plan,
    encoder: TargetEncoder,
    columns: Sequence[Column],
    weight: NDArray[np.float64],
    raw: NDArray[Any] | RawOutputs,
) -> dict[str, Any]:
    """Attributes about rows of the training, by outputs of members that left them out."""
    rule, found = plan.parameters.conditional_output, _Found(encoder, columns, raw)
    scores = score_columns(encoder.names, encoder.kinds_, columns, found, weight, in_fit=True)
    n_outputs = sum(encoder.n_outputs)
    step = max(1, VALUES // max(1, n_outputs))
    predictions: NDArray[Any] | None = None
    probabilities: list[NDArray[Any]] = []
    for at in range(0, len(plan.rows), step):
        some = slice(at, min(at + step, len(plan.rows)))
        part = raw[some] if isinstance(raw, np.ndarray) else raw.part(slice(0, n_outputs), some)
        decoded, rows = encoder.decode(part, rule), plan.rows[some]
        proba = list(encoder.probabilities(part).values())
        if predictions is None:
            predictions = _everywhere(encoder, decoded, plan)
            probabilities = [np.full((len(plan.targets), p.shape[1]), np.nan) for p in proba]
        predictions[rows] = encoder.matrix(decoded)
        for whole, p in zip(probabilities, proba, strict=True):
            whole[rows] = p
    oob: dict[str, Any] = {"oob_prediction_": predictions, "oob_score_": scores}
    if probabilities:
        only = len(probabilities) == 1
        oob["oob_decision_function_"] = probabilities[0] if only else probabilities
    return oob


class _Found(Sequence[NDArray[Any]]):
    """Predictions of each task (n,), of the rows in which it was observed, made when asked for."""

    def __init__(
        self, encoder: TargetEncoder, columns: Sequence[Column], raw: NDArray[Any] | RawOutputs
    ) -> None:
        self.encoder, self.columns, self.raw = encoder, columns, raw

    def __len__(self) -> int:
        return len(self.columns)

    def __getitem__(self, k: Any) -> Any:
        rows = self.columns[k].rows
        values = self.encoder.kinds_[k].decode(self.encoder.part_of(self.raw, k, rows))
        out = np.zeros(self.columns[k].n_rows, values.dtype)
        out[rows] = values
        return out


def _everywhere(encoder: TargetEncoder, some: list[NDArray[Any]], plan: Plan) -> NDArray[Any]:
    """Room for predictions of all rows, of the types that those of some have.

    It holds NaN among numbers, and None among labels.
    """
    if len(plan.rows) < len(plan.targets):
        numbers = [values.dtype.kind in "iuf" for values in some]
        some = [np.array([np.nan if is_number else None]) for is_number in numbers]
    one = encoder.matrix([values[:1] for values in some])
    room = np.empty((len(plan.targets), *one.shape[1:]), one.dtype)
    if len(plan.rows) < len(plan.targets):
        room[:] = one
    return room
