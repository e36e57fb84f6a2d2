"""What all processes of a training have to have in common, before it begins."""

from __future__ import annotations

from numbers import Integral
from typing import Any

from torch import nn

from sklearn_mtl._data.rows import random_seed
from sklearn_mtl._data.targets import EncodedTargets
from sklearn_mtl._identity import fingerprint
from sklearn_mtl._training.group import Group
from sklearn_mtl.networks import is_data

__all__ = ["agreed_seed"]

# Parameters that change nothing in the numbers of a fit, and the seed, on which they agree.
OTHERS = {"checkpoint", "checkpoint_every", "random_state", "verbose"}


def agreed_seed(group: Group, parameters: Any, inputs: Any, targets: EncodedTargets) -> int:
    """Return the seed of a fit, which all processes are found to do with the same data.

    Parameters
    ----------
    group : Group
        Of the processes.
    parameters : namespace
        Of the estimator.
    inputs : array-like
        X, as `as_inputs` returns it; of its values, each process reads a share only.
    targets : EncodedTargets
        y and its weights.

    Returns
    -------
    seed : int
        That of the first process.

    Raises
    ------
    ValueError
        If a process was given other parameters, another y, or an X of another shape.
    """
    seed = random_seed(parameters.random_state)
    if group.size == 1:
        return seed
    given = {name: value for name, value in vars(parameters).items() if name not in OTHERS}
    for name in ("trunk", "loss"):  # modules begin with the weights of the first process
        if isinstance(given[name], nn.Module) or (name == "trunk" and not is_data(given[name])):
            given[name] = type(given[name])
    if isinstance(parameters.random_state, Integral):
        given["random_state"] = seed
    parts = getattr(inputs, "arrays", {"": inputs})
    given["the shape of X"] = {name: list(array.shape) for name, array in parts.items()}
    given["y, or its weights,"] = list(targets)
    mine = seed, {name: fingerprint(value) for name, value in given.items()}
    (seed, first), *others = group.gather(mine)
    for rank, (_, theirs) in enumerate(others, start=1):
        if differs := [name for name in first if theirs.get(name) != first[name]]:
            raise ValueError(
                f"{differs[0]} of process {rank} differs from that of process 0. Processes that "
                "train together are given the same data and parameters: each of them takes its "
                "share of the rows by itself."
            )
    return int(seed)
