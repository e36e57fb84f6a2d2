"""Whose a checkpoint is: fingerprints of all that a fit was given, at a bounded cost."""

from __future__ import annotations

import hashlib
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sklearn_mtl._data.inputs import InputReader, Source
from sklearn_mtl._data.rows import Samples, check_groups
from sklearn_mtl._fitted import Fitted
from sklearn_mtl._identity import fingerprint
from sklearn_mtl._training.batches import Batches
from sklearn_mtl._training.copies import rule_of
from sklearn_mtl._training.listeners import plain_module
from sklearn_mtl._training.plan import Plan

__all__ = ["given_to", "learned_by", "made_of"]

# Parameters that change nothing in the numbers of a fit.
OTHERS = {"checkpoint", "checkpoint_every", "estimator_name", "verbose"}

# Values of X that are looked at, in so many parts of the rows; all if there are no more.
VALUES, PARTS = 2**24, 64


def given_to(
    plan: Plan, samples: Samples, valid: Batches | None, previous: Fitted | None
) -> dict[str, str]:
    """Return fingerprints of what a fit was given, by name; fresh entropy has no part in them.

    Parameters
    ----------
    plan : Plan
        Of the fit.
    samples : Samples
        That it was given.
    valid : Batches or None
        Validation data of the user.
    previous : Fitted or None
        What it goes on from.
    """
    params = {n: v for n, v in vars(plan.parameters).items() if n not in OTHERS}
    params["device"] = plan.recipe.device
    if plan.parameters.random_state is not None:
        params["random_state"] = plan.seed
    given = {name: fingerprint(value) for name, value in params.items()}
    rows = plan.rows if plan.held_out is None else np.union1d(plan.rows, plan.held_out)
    given["X"] = _of_rows(plan.source, rows, plan.reader)
    given["y or its weights"] = fingerprint([vars(plan.encoder), *plan.targets.contents])
    given["groups"] = fingerprint(check_groups(samples.groups, len(plan.targets)))
    if valid is not None:
        given["X_val"] = _of_rows(valid.source, valid.rows, plan.reader)
        given["y_val or its weights"] = fingerprint([valid.rows, *valid.targets.contents])
    if previous is not None:
        given["what was learned before"] = fingerprint(learned_by(previous))
    return given


def learned_by(previous: Fitted | None) -> list[Any]:
    """Return the weights that a fit goes on from, and what its rule has learned."""
    if previous is None:
        return []
    return [_state_of(part) for part in (plain_module(previous.net), rule_of(previous.net))]


def made_of(plan: Plan) -> str:
    """Return a fingerprint of what a plan has made of all this: rows, folds, means and scales."""
    recipe = plan.recipe._replace(verbose=0, net_params={})
    return fingerprint([plan.rows, plan.held_out, plan.folds, vars(plan.reader), recipe])


def _state_of(part: Any) -> Any:
    return part.state_dict() if hasattr(part, "state_dict") else part


def _of_rows(source: Source, rows: NDArray[np.intp], reader: InputReader) -> str:
    """Read all rows, or the first ones of each of some parts."""
    digest = hashlib.sha256(repr((len(rows), source.shape)).encode())
    each = max(1, VALUES // PARTS // math.prod(source.shape))
    for part in np.array_split(rows, PARTS):
        for samples in source.parts(reader.chunks(part[:each])):
            digest.update(np.ascontiguousarray(samples).data)
    return digest.hexdigest()
