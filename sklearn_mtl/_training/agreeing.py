"""What all processes of a training have to have in common, before it begins."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral
from typing import Any

from torch import nn

from sklearn_mtl._data.inputs import InputReader
from sklearn_mtl._data.rows import random_seed
from sklearn_mtl._identity import fingerprint
from sklearn_mtl._training.group import Group
from sklearn_mtl.networks import is_data

__all__ = ["agree", "agreed_seed", "layout"]

# Parameters that change nothing in the numbers of a fit, and the seed, on which they agree.
OTHERS = {"checkpoint", "checkpoint_every", "random_state", "verbose"}


def agree(group: Group, given: Mapping[str, Any]) -> None:
    """Refuse what differs between the processes of a training, by its name.

    Parameters
    ----------
    group : Group
        Of the processes.
    given : mapping of str to object
        What this process was given; of all of them, it is compared by value.

    Raises
    ------
    ValueError
        In all processes, if one was given something else.
    """
    if group.size == 1:
        return
    first, *others = group.gather({name: fingerprint(value) for name, value in given.items()})
    for rank, theirs in enumerate(others, start=1):
        if differs := [name for name in first if theirs.get(name) != first[name]]:
            raise ValueError(
                f"{differs[0]} of process {rank} differs from that of process 0. Processes that "
                "train together make the same calls, with the same data and parameters: each of "
                "them takes its share of the rows by itself."
            )


def agreed_seed(group: Group, parameters: Any, given: Mapping[str, Any]) -> int:
    """Return the seed of a fit, which all processes are found to do with the same data.

    Parameters
    ----------
    group : Group
        Of the processes.
    parameters : namespace
        Of the estimator.
    given : mapping of str to object
        What else has to be the same.

    Returns
    -------
    seed : int
        That of the first process.

    Raises
    ------
    ValueError
        If a process was given something else.
    """
    seed = random_seed(parameters.random_state)
    if group.size == 1:
        return seed
    named = {name: value for name, value in vars(parameters).items() if name not in OTHERS}
    for name in ("trunk", "loss"):  # modules begin with the weights of the first process
        if isinstance(named[name], nn.Module) or (name == "trunk" and not is_data(named[name])):
            named[name] = type(named[name])
    if isinstance(parameters.random_state, Integral):
        named["random_state"] = seed
    agree(group, named | dict(given))
    return int(group.leader(lambda: seed))


def layout(reader: InputReader, inputs: Any, name: str = "X") -> dict[str, Any]:
    """Return what processes compare of X, of whose values each reads a share only.

    Parameters
    ----------
    reader : InputReader
        Which knows the names of its columns.
    inputs : array-like
        X, as `as_inputs` returns it.
    name : str, default='X'
        That errors call it by.
    """
    parts = getattr(inputs, "arrays", {"": inputs})
    readers = getattr(reader, "readers_", {})
    types = {part: str(getattr(array, "dtype", None)) for part, array in parts.items()}
    names = {part: each.feature_names_in_ for part, each in readers.items()}
    return {
        f"the shape of {name}": {part: list(array.shape) for part, array in parts.items()},
        f"the type of {name}": types,
        f"the names of columns of {name}": names | {"": reader.feature_names_in_},
    }
