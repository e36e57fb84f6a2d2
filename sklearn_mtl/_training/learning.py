"""What a reader learns of X, told by the trunk that it reads for."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sklearn_mtl._data.inputs import InputReader
from sklearn_mtl._data.likely import look
from sklearn_mtl._training.group import ALONE, Group
from sklearn_mtl.networks import ConvTrunk, TimmTrunk, pixel_statistics_of, reads_mask, trunk_of

__all__ = ["learn_inputs"]


def learn_inputs(
    reader: InputReader,
    inputs: Any,
    rows: NDArray[np.intp],
    weight: NDArray[np.float64],
    parameters: Any,
    group: Group = ALONE,
) -> None:
    """Let a reader learn from the rows to train on, and warn where X looks like something else.

    Parameters
    ----------
    reader : InputReader
        Fitted here.
    inputs : array-like
        X, as `as_inputs` returns it.
    rows : ndarray of int
        Rows to train on.
    weight : ndarray of shape (n_rows,)
        Their weights.
    parameters : namespace
        Of the estimator: `trunk` and `standardize` are read.
    group : Group
        Of processes, each of which reads its share of the rows.
    """
    specs = {name: trunk_of(parameters.trunk, name) for name in reader.names}
    masked = [name for name, spec in specs.items() if reads_mask(spec)]
    pixels, mine = pixel_statistics_of(specs, parameters.standardize), group.share(len(rows))
    reader.fit(inputs, rows[mine], weight[mine], masked, pixels, group.gather)
    for name, part, array in reader.each(inputs):
        spec = specs[name]
        convolves = isinstance(spec, ConvTrunk | TimmTrunk) or spec in ("auto", "conv")
        look(part, array, rows, convolves, spec == "auto" and name is None, name in masked)
