"""The house: which room may know which. See the table; a change of it wants a reason."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import sklearn_mtl

PACKAGE = Path(sklearn_mtl.__file__).parent
MODULES = {path.stem: ast.parse(path.read_text()) for path in sorted(PACKAGE.glob("*.py"))}


class Room(NamedTuple):
    """What a module may import: from the package, from outside, and inside functions only."""

    inside: str = ""
    outside: str = ""
    lazily: str = ""


# Data flows one way, and a room knows only the rooms before it.
HOUSE = {
    "__init__": Room(
        "_estimator _tasks _views kinds networks losses metrics inspection plotting datasets"
    ),
    "_estimator": Room(
        "_validation _recipe _engine _callbacks _training _views _files losses metrics networks",
        "numpy sklearn",
    ),
    # A mixin like that of `_files`: what `fit` and `partial_fit` share.
    "_training": Room("_validation _targets _recipe _batches _engine _callbacks", "numpy sklearn"),
    "_validation": Room("", "numpy narwhals sklearn"),
    "_tables": Room("", "numpy narwhals pandas"),  # y in every container, apart from X
    # One object per kind of target, public: people add their own.
    "kinds": Room("_tables", "numpy sklearn.metrics pandas scipy"),
    "_tasks": Room("_tables kinds", "numpy"),
    "_targets": Room("_validation _tables _tasks kinds", "numpy pandas"),
    "_extra_trunks": Room("", "torch sklearn.base", "tabm timm"),
    "networks": Room(  # specs are cloned, searched and checked
        "_extra_trunks", "torch sklearn.base sklearn.utils._param_validation"
    ),
    "losses": Room("", "torch"),
    "_recipe": Room("networks", "torch"),  # by the size of the data, and the kind of trunk
    "_batches": Room("_validation _recipe losses", "numpy torch"),
    "_compile": Room("losses", "torch"),  # any net of skorch as it comes
    "_net": Room("_batches _compile losses", "numpy torch skorch"),
    "_engine": Room(
        "_validation _recipe _batches _compile _net networks losses",
        "numpy torch skorch sklearn.exceptions",
    ),
    "_callbacks": Room("_validation _engine"),  # scikit-learn's, apart from skorch's
    "_views": Room("", "numpy sklearn"),  # takes any fitted estimator with tasks as it comes
    # What may stand in a file: data, and objects of these rooms, which therefore are known here.
    "_codec": Room(
        "_tables _tasks _targets _validation kinds networks losses",
        "numpy pandas narwhals torch sklearn.utils._metadata_requests",
        "pyarrow",
    ),
    "_persistence": Room("_codec", "torch safetensors", "sklearn_mtl.__version__"),
    "_onnx": Room("_validation kinds losses", "torch", "onnx onnxscript"),
    "_files": Room("_recipe _engine _persistence _onnx networks", "numpy sklearn"),
    "metrics": Room("_validation _views", "numpy sklearn pandas"),  # scorers of one task
    "model_selection": Room("_views _targets", "numpy sklearn"),
    "inspection": Room("_validation _views _targets metrics losses", "numpy sklearn pandas scipy"),
    "plotting": Room("metrics", "numpy sklearn", "matplotlib"),
    "datasets": Room("", "numpy sklearn pandas"),
}


def imports(node: ast.AST, lazy: bool = False) -> Iterator[tuple[str, bool]]:
    """Dotted names that a module imports, and whether only inside a function."""
    if isinstance(node, ast.Import):
        yield from ((alias.name, lazy) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, "absolute imports only"
        if node.module == "sklearn_mtl":
            yield from ((f"sklearn_mtl.{alias.name}", lazy) for alias in node.names)
        else:
            yield str(node.module), lazy
    for child in ast.iter_child_nodes(node):
        yield from imports(child, lazy or isinstance(child, ast.FunctionDef))


def is_in(name: str, allowed: str) -> bool:
    return any(name == prefix or name.startswith(prefix + ".") for prefix in allowed.split())


def strangers(module: str, tree: ast.AST) -> set[str]:
    """What a module imports although its row does not allow it."""
    room = HOUSE[module]
    inside = " ".join(f"sklearn_mtl.{name}" for name in room.inside.split())
    return {
        name
        for name, lazy in imports(tree)
        if name.partition(".")[0] not in sys.stdlib_module_names
        and not is_in(name, f"{inside} {room.outside} {room.lazily if lazy else ''}")
    }


@pytest.mark.parametrize("module", MODULES)
def test_module_knows_only_the_rooms_before_it(module: str) -> None:
    assert module in HOUSE, f"{module}.py has no row in the table: say what it may know"
    assert strangers(module, MODULES[module]) == set()


@pytest.mark.parametrize(
    ("module", "code", "expected"),
    [
        ("losses", "import numpy as np", {"numpy"}),
        ("losses", "import torch.nn as nn", set()),
        ("losses", "import torchvision", {"torchvision"}),
        ("networks", "from sklearn.base import clone", set()),
        ("networks", "from sklearn.utils import check_array", {"sklearn.utils"}),
        ("_estimator", "def f():\n    import torch", {"torch"}),
        ("_targets", "from sklearn_mtl import losses", {"sklearn_mtl.losses"}),
        ("_targets", "from sklearn_mtl.losses import LOSSES", {"sklearn_mtl.losses"}),
        ("plotting", "class A:\n    def f(self):\n        import matplotlib.pyplot", set()),
        ("plotting", "import matplotlib.pyplot", {"matplotlib.pyplot"}),
    ],
)
def test_strangers_are_noticed(module: str, code: str, expected: set[str]) -> None:
    assert strangers(module, ast.parse(code)) == expected


def test_the_house_has_no_circle() -> None:
    """A room stands after all rooms it may import."""
    built: set[str] = set()
    rooms = dict(HOUSE)
    while rooms:
        ready = [name for name, room in rooms.items() if set(room.inside.split()) <= built]
        assert ready, f"a circle among {sorted(rooms)}"
        for name in ready:
            built.add(name)
            del rooms[name]


@pytest.mark.parametrize("module", MODULES)
def test_module_says_what_it_offers(module: str) -> None:
    """`__all__` is a list of strings, each of them defined."""
    lists = [
        node.value
        for node in MODULES[module].body
        if isinstance(node, ast.Assign)
        and [t.id for t in node.targets if isinstance(t, ast.Name)] == ["__all__"]
    ]
    assert len(lists) == 1, f"{module}.py has no __all__"
    names = ast.literal_eval(lists[0])
    assert isinstance(names, list)
    assert all(isinstance(name, str) for name in names)
    assert len(set(names)) == len(names)
    name = "sklearn_mtl" if module == "__init__" else f"sklearn_mtl.{module}"
    loaded = __import__(name, fromlist=["__all__"])
    assert [name for name in names if not hasattr(loaded, name)] == []


@pytest.mark.parametrize("module", MODULES)
def test_nothing_is_printed(module: str) -> None:
    """Verbose output goes through skorch's log."""
    lines = [
        node.lineno
        for node in ast.walk(MODULES[module])
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "print"
    ]
    assert not lines, f"print( in {module}.py, lines {lines}"


def test_importing_the_package_brings_no_extra() -> None:
    code = """
import sys
import sklearn_mtl
extras = {"matplotlib", "polars", "h5py", "zarr", "onnx", "onnxscript"}
extras |= {"tabm", "timm", "torchvision", "torchjd"}
print(sorted(extras & set(sys.modules)))
"""
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == "[]"
