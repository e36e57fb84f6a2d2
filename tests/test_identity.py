"""Identity: what is the same by value, and what is not."""

from __future__ import annotations

import copy
import functools
import os
import pickle
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from _asserts import pickled
from skorch.callbacks import EarlyStopping
from torch import nn

from sklearn_mtl import Task
from sklearn_mtl._identity import fingerprint, identity
from sklearn_mtl.losses import LogProd
from sklearn_mtl.networks import ConvTrunk, DenseTrunk


class Bare:
    """An object of which Python knows an address only."""

    def __init__(self, **attributes: Any) -> None:
        vars(self).update(attributes)

    def __call__(self, losses: Any, counts: Any) -> Any:
        return losses.sum()


class Slotted:
    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


def holding_itself(**attributes: Any) -> Bare:
    bare = Bare(**attributes)
    bare.inner = [bare]  # type: ignore[attr-defined]
    return bare


def of_closure(number: Any) -> Any:
    return lambda losses, counts: number * losses.sum()


def calling_itself(last: int) -> Any:
    def count_down(n: int) -> int:
        return last if n == 0 else count_down(n - 1)

    return count_down


def linear(seed: int = 0) -> nn.Linear:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Linear(3, 2)


def frozen(module: nn.Module) -> nn.Module:
    return module.requires_grad_(False)


def one_hot(n: int = 3) -> torch.Tensor:
    return torch.eye(n)


SAME: dict[str, tuple[Any, Any]] = {
    "ints and floats": ({0: 1, 1: 2}, {0: 1.0, 1: 2.0}),
    "keys": ({0: "a"}, {0.0: "a"}),
    "keys of numpy": ({np.int64(1): 0}, {1: 0}),
    "keys that are tuples": ({(1, 2): 0}, {(1.0, np.int8(2)): 0}),
    "order of a dict": ({"a": 1, "b": [2]}, {"b": [2], "a": 1}),
    "lists and tuples": ([1, (2, 3)], (1, [2, 3])),
    "arrays and lists": (np.array([[1, 2]]), [[1.0, 2.0]]),
    "numbers of numpy": ([np.float64(1), np.int8(2), np.bool_(True)], [1, 2, True]),
    "strings of numpy": (np.str_("a"), "a"),
    "long doubles": (np.longdouble(2), np.longdouble(2)),
    "NaN": ({"missing": float("nan")}, {"missing": np.nan}),
    "NaN of numpy": (np.float32("nan"), float("nan")),
    "NaN in arrays": (np.array([np.nan, 1]), [float("nan"), 1]),
    "NaN as a key": ({float("nan"): 1}, {float("nan"): 1}),
    "sets": ({1, (2, 3)}, {(2, 3), 1.0}),
    "large arrays": (np.arange(5000.0), np.arange(5000.0)[::1].copy()),
    "arrays of objects": (np.array(["a", 1.0], object), np.array(["a", 1], object)),
    "tasks": ([Task("a", "quantile", quantile=0.9)], (Task("a", "quantile", quantile=0.9),)),
    "specs": (DenseTrunk((8, 4)), DenseTrunk([8, 4])),
    "rules": (LogProd(torch.ones(3)), LogProd(torch.ones(3))),
    "modules": (nn.Sequential(linear(), nn.ReLU()), nn.Sequential(linear(), nn.ReLU())),
    "frozen modules": (frozen(linear()), frozen(linear())),
    "lazy modules": (nn.LazyLinear(3), nn.LazyLinear(3)),
    "tensors": (torch.ones(3), torch.ones(3)),
    "sparse tensors": (one_hot().to_sparse(), one_hot().to_sparse()),
    "strided tensors": (torch.ones(1).expand(3), torch.ones(6)[::2]),
    "transposed tensors": (torch.arange(6).view(2, 3).T, torch.tensor([[0, 3], [1, 4], [2, 5]])),
    "partial": (functools.partial(DenseTrunk, (8,)), functools.partial(DenseTrunk, [8])),
    "closures": (of_closure(2), of_closure(2.0)),
    "functions that call themselves": (calling_itself(1), calling_itself(1)),
    "objects": (Bare(a=1, b=[2.0]), Bare(b=(2,), a=1.0)),
    "slots": (Slotted([1]), Slotted((1.0,))),
    "objects that hold themselves": (holding_itself(a=1), holding_itself(a=1)),
    "methods": (Bare(a=1).__call__, Bare(a=1).__call__),
    "frames": (pd.DataFrame({"a": [1, 2]}), pd.DataFrame({"a": [1.0, 2.0]})),
    "frames of polars": (pl.DataFrame({"a": [1, 2]}), pl.DataFrame({"a": [1.0, 2.0]})),
    "series": (pd.Series([1, 2], ["a", "b"]), pd.Series([1.0, 2.0], ["a", "b"])),
    "generators of numpy": (np.random.default_rng(1), np.random.default_rng(1)),
    "classes": (torch.optim.SGD, torch.optim.SGD),
    "types of torch": (torch.float32, torch.float32),
    "devices": (torch.device("cpu"), torch.device("cpu")),
}

OTHER: dict[str, tuple[Any, Any]] = {
    "numbers": ({0: 1, 1: 2}, {0: 1, 1: 2.5}),
    "keys": ({0: 1}, {"0": 1}),
    "keys that look alike": ({(1, 2): 0}, {"[1, 2]": 0}),
    "one key more": ({0: 1}, {0: 1, 1: None}),
    "order of a list": ([1, 2], [2, 1]),
    "None and NaN": (None, float("nan")),
    "numbers and text": (1, "1"),
    "a string and its letters": ("ab", ["a", "b"]),
    "arrays": (np.array([1, 2]), np.array([1, 3])),
    "shapes": (np.arange(6).reshape(2, 3), np.arange(6).reshape(3, 2)),
    "large arrays": (np.arange(5000.0), np.arange(5000.0)[::-1]),
    "sets": ({1, 2}, {1, 3}),
    "tasks": ([Task("a", "quantile", quantile=0.9)], [Task("a", "quantile", quantile=0.8)]),
    "specs": (DenseTrunk((8, 4)), DenseTrunk((8, 5))),
    "specs of other classes": (DenseTrunk(), ConvTrunk()),
    "rules": (LogProd(torch.ones(3)), LogProd(torch.ones(3), decay=0.5)),
    "weights of rules": (LogProd(torch.ones(3)), LogProd(torch.tensor([1.0, 1.0, 2.0]))),
    "weights of modules": (nn.Sequential(linear(0)), nn.Sequential(linear(1))),
    "frozen modules": (nn.Sequential(linear()), nn.Sequential(frozen(linear()))),
    "order of layers": (nn.Sequential(nn.ReLU(), nn.Tanh()), nn.Sequential(nn.Tanh(), nn.ReLU())),
    "settings of layers": (nn.Dropout(0.1), nn.Dropout(0.2)),
    "lazy modules": (nn.LazyLinear(3), nn.LazyLinear(4)),
    "tensors": (torch.ones(3), torch.tensor([1.0, 1.0, 1.0 + 2**-23])),
    "types of tensors": (torch.zeros(3), torch.zeros(3, dtype=torch.int32)),
    "shapes of tensors": (torch.zeros(6), torch.zeros(2, 3)),
    "tensors of half precision": (one_hot().bfloat16(), 2 * one_hot().bfloat16()),
    "partial": (functools.partial(DenseTrunk, (8,)), functools.partial(DenseTrunk, (9,))),
    "keywords of partial": (functools.partial(max, key=abs), functools.partial(max, key=float)),
    "closures": (of_closure(2), of_closure(3)),
    "functions that call themselves": (calling_itself(1), calling_itself(2)),
    "code": (lambda x: x + 1, lambda x: x - 1),
    "constants of code": (lambda x: x + 1, lambda x: x + 2),
    "names in code": (lambda x: np.sin(x), lambda x: np.cos(x)),
    "code inside": (lambda: lambda x: x + 1, lambda: lambda x: x - 1),
    "constants of code inside": (lambda: lambda x: x + 1, lambda: lambda x: x + 2),
    "defaults": (lambda x=1: x, lambda x=2: x),
    "defaults of keywords": (lambda *, x=1: x, lambda *, x=2: x),
    "objects": (Bare(a=1), Bare(a=2)),
    "attributes": (Bare(a=1), Bare(a=1, b=1)),
    "slots": (Slotted(1), Slotted(2)),
    "objects that hold themselves": (holding_itself(a=1), holding_itself(a=2)),
    "methods of other objects": (Bare(a=1).__call__, Bare(a=2).__call__),
    "frames": (pd.DataFrame({"a": [1, 2]}), pd.DataFrame({"a": [1, 3]})),
    "columns": (pd.DataFrame({"a": [1, 2]}), pd.DataFrame({"b": [1, 2]})),
    "columns of polars": (pl.DataFrame({"a": [1, 2]}), pl.DataFrame({"b": [1, 2]})),
    "labels of a series": (pd.Series([1, 2], ["a", "b"]), pd.Series([1, 2], ["b", "a"])),
    "generators of numpy": (np.random.default_rng(1), np.random.default_rng(2)),
    "classes": (torch.optim.SGD, torch.optim.Adam),
    "types of torch": (torch.float32, torch.float64),
}


@pytest.mark.parametrize("case", SAME)
def test_equal_values_are_the_same(case: str) -> None:
    a, b = SAME[case]
    assert identity(a) == identity(b)
    assert identity({"of": [a]}) == identity({"of": (b,)})


@pytest.mark.parametrize("case", OTHER)
def test_other_values_are_told(case: str) -> None:
    a, b = OTHER[case]
    assert identity(a) == identity(a)
    assert identity(a) != identity(b)
    assert identity({"of": [a]}) != identity({"of": [b]})


@pytest.mark.parametrize("case", [*SAME.items(), *OTHER.items()], ids=lambda case: case[0])
def test_a_pickle_is_the_same_and_so_is_the_pickle_of_an_identity(case: Any) -> None:
    for value in case[1]:
        try:
            data = pickle.dumps(value)
        except (pickle.PicklingError, AttributeError):  # functions inside others
            continue
        assert identity(pickle.loads(data)) == identity(value)
        assert pickled(identity(value)) == identity(value)


@pytest.mark.parametrize(
    ("value", "change"),
    [
        ({"y0": {0: 1.0}}, lambda v: v["y0"].update({0: 9.0})),
        ([[1], 2], lambda v: v[0].append(3)),
        ({1, 2}, lambda v: v.add(3)),
        (np.zeros(3), lambda v: v.fill(1)),
        (np.zeros(3000), lambda v: v.fill(1)),
        (np.array([[1], [2, 3]], object), lambda v: v[0].append(2)),
        (torch.zeros(3), lambda v: v.fill_(1)),
        (linear(), lambda v: v.weight.data.fill_(1)),
        (linear(), lambda v: v.requires_grad_(False)),
        (nn.Dropout(0.1), lambda v: setattr(v, "p", 0.2)),
        (Bare(a=[1]), lambda v: v.a.append(2)),
        (DenseTrunk(), lambda v: v.set_params(n_members=2)),
        (pd.Series([1, 2]), lambda v: v.update(pd.Series([3, 4]))),
        (functools.partial(max, [1]), lambda v: v.args[0].append(2)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_change_in_place_is_told(value: Any, change: Any) -> None:
    before = identity(value)
    assert identity(value) == before
    change(value)
    assert identity(value) != before


def test_what_a_function_closes_over_may_change() -> None:
    notes: list[int] = []

    def note(x: int) -> None:
        notes.append(x)

    before = identity(note)
    note(1)
    assert identity(note) != before


def test_a_variable_may_be_bound_later() -> None:
    def read() -> int:
        return later

    before = identity(read)
    later = 1
    assert identity(read) != before


def test_what_cannot_be_taken_apart_is_itself() -> None:
    numbers = (n for n in range(3))
    assert identity(numbers) == identity(numbers)
    assert identity(numbers) != identity(n for n in range(3))


def test_copies_are_the_same() -> None:
    for value in (linear(), Bare(a=[1]), holding_itself(), ConvTrunk(), nn.LazyLinear(2)):
        assert identity(copy.deepcopy(value)) == identity(value)


def test_nothing_is_changed_by_looking() -> None:
    module = linear().eval()
    before = copy.deepcopy(module.state_dict())
    rng = np.random.default_rng(0)
    identity([module, rng])
    assert not module.training
    assert all(torch.equal(v, before[name]) for name, v in module.state_dict().items())
    assert rng.random() == np.random.default_rng(0).random()


class Linked:
    """Objects that all know each other."""

    def __init__(self, n):
        self.others = []
        for _ in range(n):
            other = object.__new__(Linked)
            other.others = [self, *self.others]
            self.others.append(other)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Linked(60),
        lambda: torch.fx.symbolic_trace(
            nn.Sequential(*[nn.Sequential(nn.Linear(2, 2), nn.ReLU()) for _ in range(12)])
        ),
    ],
    ids=["objects", "graph"],
)
def test_many_links_take_no_more_than_many_objects(make):
    """Walking along every path would take longer than anybody waits."""
    torch.manual_seed(0)
    value = make()
    start = time.perf_counter()
    assert identity(value) == identity(value)
    assert fingerprint(value) == fingerprint(value)
    assert time.perf_counter() - start < 5


def test_which_objects_are_one_is_part_of_what_they_are():
    """A layer that is used twice is not two layers; a list that is used twice is two lists."""
    layer = nn.Linear(2, 2)
    assert identity([layer, layer]) != identity([layer, copy.deepcopy(layer)])
    labels = ["a", 1]
    assert identity({"x": labels, "y": labels}) == identity({"x": ["a", 1], "y": ("a", 1.0)})


def test_callbacks_are_their_parameters():
    """And not the notes that they take."""
    fresh, used = EarlyStopping(patience=3), EarlyStopping(patience=3)
    used.misses_, used.dynamic_threshold_ = 2, 0.5
    assert identity(fresh) == identity(used) != identity(EarlyStopping(patience=4))


# -- fingerprints: the same in every process ------------------------------------------------------

VALUES: dict[str, Any] = {
    "number": 3,
    "fraction": 0.1,
    "text": "a",
    "nothing": None,
    "list": [1, "a", None],
    "mapping": {"a": 1, 2: {"b", "c", "d"}},
    "array": np.arange(2000.0),
    "labels": np.array(["a", "b"], dtype=object),
    "class": torch.optim.AdamW,
    "function": lambda losses, scale=2.0: losses.sum() * scale,
    "module": nn.BatchNorm1d(3),
    "spec": DenseTrunk((8, 8)),
    "frame": pd.DataFrame({"a": [1, 2]}),
}


def test_fingerprints_tell_values_apart() -> None:
    found = {name: fingerprint(value) for name, value in VALUES.items()}
    assert len(set(found.values())) == len(VALUES)
    assert {name: fingerprint(copy.deepcopy(value)) for name, value in VALUES.items()} == found


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (3, 3.0, True),
        (3, np.int64(3), True),
        (True, 1, True),
        (3, "3", False),
        (3.5, 3.25, False),
        ([1, 2], (1, 2), True),
        ([1, 2], [2, 1], False),
        ([[1], 2], [1, [2]], False),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        ({"a": 1}, {"a": 2}, False),
        ({1, 2, 3}, {3, 2, 1}, True),
        (float("nan"), np.nan, True),
        (None, "None", False),
        (["a,b"], ["a", "b"], False),
        (2**70, 2**70 + 1, False),
    ],
)
def test_fingerprints_are_equal_as_values_are(one: Any, other: Any, same: bool) -> None:
    assert (fingerprint(one) == fingerprint(other)) is same
    assert (identity(one) == identity(other)) is same


def test_fingerprints_are_those_of_other_processes() -> None:
    code = """
import numpy as np, torch
from sklearn_mtl._identity import fingerprint
from sklearn_mtl.networks import DenseTrunk
values = [{"b", "a", "c"}, {"x": {1, 2}, "y": torch.optim.SGD}, np.arange(3000), DenseTrunk((3,))]
found = fingerprint(values)
"""
    here: dict[str, Any] = {}
    exec(code, here)
    there = subprocess.run(
        [sys.executable, "-c", f"{code}\nprint(found)"],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONHASHSEED": "1"},
    )
    assert there.stdout.strip() == here["found"]
    assert len(here["found"]) == 64
