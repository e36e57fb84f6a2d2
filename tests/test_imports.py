"""The house: which room may know which. See the table; a change of it wants a reason."""

from __future__ import annotations

import ast
import functools
import importlib.util
import inspect
import statistics
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

import sklearn_mtl

PACKAGE = Path(sklearn_mtl.__file__).parent
FILES = {  # by dotted name without that of the package: "losses", "losses.cells", "_fitted"
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
MODULES = {name: ast.parse(path.read_text()) for name, path in FILES.items()}

# Names that may stay in private places of others. They are few, and each has a reason.
FOREIGN = {
    "methods of named tuples, which are public": "_replace _asdict",
    "parameters are checked as in scikit-learn's own estimators": (
        "_fit_context _get_param_names _param_validation _validate_params"
    ),
    "rows and names of columns, in the containers that scikit-learn takes": (
        "_safe_indexing _safe_split _check_feature_names"
    ),
    "where scikit-learn asks for it: callbacks, routing, scorers, tags and pages": (
        "_init_callback_context _metadata_requests _accept_sample_weight _skip_test"
    ),
    "why a method is not there, which scikit-learn's own descriptor keeps to itself": (
        "_available_if _AvailableIfDescriptor"
    ),
    "who asks for a fit, and for what": ("_getframe _scorers _response_method _score_func _kwargs"),
    "where torch keeps what a module holds": (
        "_parameters _buffers _modules _forward_hooks _forward_pre_hooks"
    ),
    "operations of torch, and what they say of themselves": "_python_dispatch _schema",
    "what torch.compile wraps": "_orig_mod",
    "contexts of torch that an interrupt has not let end": (
        "_C _len_torch_function_stack _pop_torch_function_stack"
        " _len_torch_dispatch_stack _pop_torch_dispatch_stack"
    ),
    "the base of torch's losses, to tell them from ours": "_Loss",
}


class Room(NamedTuple):
    """What a module may import: from the package, from outside, and inside functions only.

    In the package, ``.cells`` is a neighbour in the same folder, ``_data.*`` all of a folder.
    """

    inside: str = ""
    outside: str = ""
    lazily: str = ""


# Data flows one way, and a room knows only the rooms below it. The table is written from the
# ground up; what a row like "losses.*" allows, it allows to all rooms of the folder.
HOUSE = {
    "_identity": Room("", "numpy torch"),  # what is the same, of anything
    "_memory": Room("", "torch"),
    "_addresses": Room("", "importlib"),  # of the metadata of the package
    # Torch only, as people build on them: a bare loop, networks of their own.
    "losses.*": Room("", "torch"),
    "losses.links": Room("", "scipy"),  # the same for tensors and arrays
    "losses.intervals": Room(),
    "losses.cells": Room(".intervals .links"),
    "losses.task_losses": Room(".cells"),
    "losses.combiners": Room(),
    "losses.balancing": Room(".combiners"),
    "losses": Room(".balancing .cells .combiners .task_losses"),
    "networks.*": Room("", "torch"),
    "networks.draws": Room("", "torch"),  # random numbers, and layers that draw them
    "networks.members": Room(),  # what members of an ensemble have of their own
    "networks.dense": Room(".members", "sklearn.base sklearn.utils._param_validation"),  # specs
    "networks.conv": Room("", "sklearn.base sklearn.utils._param_validation"),
    "networks.sequences": Room("", "sklearn.base sklearn.utils._param_validation"),
    "networks.given": Room(),
    "networks.finetuning": Room(".given", "sklearn.base"),
    # timm and tabm, once they are built
    "networks.extras": Room(".draws .finetuning", "sklearn.base importlib"),
    "networks.module": Room(".members"),
    "networks.build": Room(
        "_memory .conv .dense .draws .extras .given .members .module .sequences"
    ),
    "networks.fusion": Room(
        ".build .dense .module", "sklearn.base sklearn.utils._param_validation"
    ),
    "networks.ensemble": Room(
        ".build .fusion .given .members", "sklearn.base sklearn.utils._param_validation"
    ),
    "networks.specs": Room(".build .ensemble .fusion"),
    "networks": Room(
        ".build .conv .dense .ensemble .extras .finetuning .fusion .given .members .module "
        ".sequences .specs"
    ),
    "augmentation": Room(
        "_addresses networks.conv", "numpy torch sklearn.base sklearn.utils._param_validation"
    ),
    # What a column of y can be: people add their own.
    "kinds.*": Room("losses losses.cells losses.links", "numpy scipy torch"),
    "kinds.values": Room("", "pandas"),
    "kinds.bounds": Room("", "pandas"),  # pairs of numbers
    "kinds.tobit": Room(".bounds"),
    "kinds.concordance": Room(".bounds", "pandas sklearn.exceptions sklearn.utils"),
    "kinds.scores": Room("", "pandas sklearn.exceptions sklearn.utils"),
    "kinds.base": Room("_identity .scores"),
    "kinds.deciding": Room(
        "", "scipy.optimize scipy.special sklearn.base sklearn.exceptions sklearn.metrics"
    ),
    "kinds.classes": Room(".base .deciding .values", "sklearn.metrics"),
    "kinds.ordinal": Room(".classes .values", "sklearn.metrics"),
    "kinds.numbers": Room(".base .bounds .values", "sklearn.metrics"),
    "kinds.censored": Room(".base .bounds .concordance .numbers .tobit"),
    "kinds.unobserved": Room(".base"),
    "kinds": Room(".base .censored .classes .numbers .ordinal .unobserved"),
    # X and y as people hold them -> arrays.
    "_data.*": Room("kinds kinds.bounds kinds.values", "numpy pandas narwhals sklearn.utils"),
    "_data.ahead": Room(),
    "_data.opening": Room("", "torch scipy.sparse"),  # what numpy reads by half
    "_data.contents": Room(".opening"),
    "_data.weights": Room(".opening"),
    "_data.tables": Room(".contents .opening"),
    "_data.bounds": Room(".contents .tables"),
    "_data.geometry": Room(),
    "_data.tasks": Room(".bounds .geometry .tables kinds.censored"),
    "_data.gates": Room(".tables .tasks"),
    "_data.observed": Room(".tables .tasks kinds.censored"),
    "_data.labels": Room(".tables .tasks .weights"),
    "_data.lazy": Room(),  # what is cut into rows without being read
    "_data.mapped": Room(),
    "_data.stores": Room(".lazy .mapped .opening", "scipy.sparse torch", "h5py zarr"),  # lazily
    "_data.on_disk": Room(".ahead .lazy .mapped .stores", "scipy.sparse"),
    "_data.rows": Room(".contents .on_disk .opening .weights"),
    "_data.folds": Room(),
    "_data.levels": Room(),
    "_data.sampling": Room(),
    "_data.scaling": Room(),
    "_data.parts": Room(".lazy .rows", "scipy.sparse"),  # several inputs per row
    "_data.refusals": Room(".contents .parts", "scipy.sparse"),
    "_data.shapes": Room(),
    "_data.inputs": Room(
        ".ahead .levels .on_disk .opening .parts .refusals .sampling .scaling .shapes",
        "scipy.sparse",
    ),
    "_data.fused": Room(".ahead .inputs .on_disk .parts .refusals .scaling"),
    "_data.likely": Room(".inputs .refusals"),
    "_data.suspects": Room(".likely .tables .tasks"),
    "_data.encoded": Room(".tables"),
    "_data.decoding": Room(".encoded .gates .tables .tasks"),
    "_data.targets": Room(
        ".bounds .decoding .encoded .gates .labels .observed .rows .suspects .tables .tasks"
        " kinds.censored"
    ),
    "_data.tree": Room(".decoding .tasks"),
    "_data": Room(),
    # What a training leaves, and how it predicts: without skorch.
    "_predict": Room("_data.inputs _memory", "numpy torch"),
    "_score": Room(
        "_data.tables _data.tasks kinds kinds.bounds kinds.concordance", "numpy sklearn"
    ),
    "_fitted_module": Room("_data.fused _data.inputs kinds", "torch"),
    "_intervals": Room("_data.decoding _data.gates kinds kinds.values", "numpy"),
    "_fitted": Room(
        "_data.fused _data.inputs _data.on_disk _data.refusals _data.targets _data.tree"
        " _fitted_module _intervals _predict _score",
        "numpy sklearn",
    ),
    # The only folder that knows skorch.
    "_training.*": Room("_data.* losses networks networks.draws", "numpy torch"),
    "_training.group": Room(),  # torch.distributed
    "_training.agreeing": Room(".group _identity"),
    "_training.weighing": Room(),
    "_training.random": Room(),
    "_training.ctrl_c": Room(),
    "_training.recipe": Room(),
    "_training.augmenting": Room("augmentation networks.conv"),
    "_training.windows": Room(),
    "_training.by_row": Room("", "scipy.sparse"),
    "_training.batches": Room(".augmenting .by_row .group .recipe .windows _predict"),
    "_training.listeners": Room(".recipe networks.fusion", "skorch"),
    "_training.lines": Room("", "skorch", "tqdm"),  # what `verbose` shows
    "_training.averaging": Room(".listeners .recipe", "skorch"),
    "_training.criterion": Room(".group"),
    "_training.pickling": Room("", "skorch"),
    "_training.groups": Room(),
    "_training.undoing": Room(".listeners"),
    "_training.sharing": Room(".group .groups .listeners .random"),
    "_training.thawing": Room(".listeners", "skorch"),
    "_training.net": Room(
        ".averaging .batches .criterion .ctrl_c .groups .lines .listeners .pickling .random"
        " .sharing .undoing _predict",
        "skorch",
    ),
    "_training.build": Room(
        ".batches .criterion .groups .listeners .net .random .recipe _identity kinds"
    ),
    "_training.copies": Room(".listeners .net", "skorch"),
    "_training.dealing": Room(".group"),
    "_training.learning": Room(".group"),
    "_training.plan": Room(
        ".agreeing .augmenting .batches .copies .dealing .group .learning .recipe .weighing"
        " _fitted _identity",
        "sklearn.base sklearn.utils",
    ),
    "_training.run": Room(
        "_data.tasks _memory .averaging .batches .ctrl_c .listeners .net .random .recipe .thawing",
        "skorch sklearn.exceptions",
    ),
    "_training.fit_tasks": Room(".copies .listeners .net _fitted"),  # scikit-learn's callbacks
    "_training.progress": Room(".lines .listeners _identity", "skorch"),  # of a fit, for a file
    "_training.fingerprints": Room(".batches .copies .listeners .plan _fitted _identity"),
    "_training.line": Room(".net .plan _predict", "scipy"),
    "_training.calibrate": Room(".line .net .plan .run"),
    "_training.likeliest": Room("kinds.bounds kinds.tobit", "scipy"),
    "_training.measure": Room(".likeliest _intervals", "scipy"),
    "_training.left_out": Room(".listeners .net .plan _predict _score"),
    "_training.errors": Room(
        ".dealing .left_out .likeliest .measure .net .plan _intervals kinds kinds.bounds"
    ),
    "_training.fit": Room(
        ".agreeing .augmenting .batches .build .calibrate .copies .ctrl_c .errors .fingerprints"
        " .fit_tasks .thawing"
        " .group .left_out .net .plan .progress .random .run .sharing"
        " _fitted _identity"
    ),
    "_training": Room(),
    # What may stand in a file: data, and objects of rooms that are therefore known here.
    "_files.*": Room("_data.* kinds losses networks", "numpy torch"),
    "_files.arrays": Room(),
    "_files.disk": Room(),
    "_files.columns": Room(".arrays", "pandas narwhals", "pyarrow"),
    "_files.codec": Room(
        ".arrays .columns augmentation", "pandas sklearn.utils._metadata_requests"
    ),
    "_files.formats": Room("networks.conv"),  # and what was written before
    "_files.store": Room(".codec .disk .formats", "safetensors", "sklearn_mtl.__version__"),
    "_files.checkpoint": Room(
        ".codec .disk .store _identity _training.progress", "", "sklearn_mtl.__version__"
    ),
    "_files.limits": Room(),
    "_files.readers": Room(),
    "_files.schema": Room(
        ".readers _identity _intervals kinds.bounds kinds.censored",
        "sklearn.utils._metadata_requests",
    ),
    "_files.onnx": Room(
        ".disk _fitted_module", "importlib"
    ),  # onnx and onnxscript, once a graph is written
    "_files.save": Room(
        ".formats .limits .onnx .schema .store _data.tasks _fitted _identity kinds"
        " _training.build _training.copies _training.listeners _training.plan _training.random"
        " _training.recipe"
    ),
    "_files": Room(),
    # Tools: they take any fitted estimator with tasks, and know nothing of training and files.
    "datasets.*": Room("", "numpy"),
    "datasets.scenes": Room("", "pandas sklearn"),
    "datasets.pictures": Room("", "", "PIL"),  # Pillow, once a picture is read
    "datasets.reading": Room(".pictures", "joblib pandas torch"),
    "datasets.images": Room(".pictures .reading _data.lazy"),
    "datasets.padding": Room("", "sklearn.base sklearn.utils.validation"),
    "datasets.reader": Room(".images", "sklearn.base sklearn.utils"),
    "datasets.columns": Room("_data.parts", "sklearn.base sklearn.utils sklearn.utils.validation"),
    "datasets": Room(".columns .images .padding .reader .scenes _data.on_disk _data.parts"),
    "_one_task": Room("_fitted _intervals", "numpy sklearn"),
    "_views": Room("_fitted _intervals _one_task", "numpy sklearn"),
    "_through": Room("_fitted _intervals", "numpy sklearn"),  # methods as functions
    "metrics": Room(
        "_data.rows _fitted _score _views kinds.bounds kinds.concordance kinds.scores",
        "numpy sklearn",
    ),
    "model_selection": Room("_data.rows _data.targets _data.tasks _fitted", "numpy sklearn"),
    # matplotlib, once something is drawn
    "plotting.*": Room("_data.tables _data.targets _fitted", "numpy", "matplotlib"),
    "plotting.axes": Room(),
    "plotting.reading": Room(".axes _data.contents _data.rows"),
    "plotting.pictures": Room("_data.inputs"),
    "plotting.outlines": Room(".axes _data.geometry _data.tasks"),
    "plotting.scores": Room(".axes .reading _data.contents _score kinds kinds.bounds"),
    "plotting.targets": Room(".axes .reading _data.gates"),
    "plotting.conditional": Room(".axes .reading _data.contents _data.gates kinds.values"),
    "plotting.errors": Room(".axes .reading _intervals kinds.bounds"),
    "plotting.history": Room(".axes .reading"),
    "plotting.weights": Room(".axes .reading"),
    "plotting.transfer": Room(".axes", "pandas"),
    "plotting.images": Room(
        ".axes .outlines .pictures .reading _data.fused _data.geometry _data.rows _data.tasks"
        " kinds.bounds kinds.values"
    ),
    "plotting.gradients": Room("", "pandas torch"),
    "plotting.saliency": Room(
        ".axes .gradients .pictures .reading _data.fused _data.rows", "pandas torch"
    ),
    "plotting": Room(
        ".conditional .errors .history .images .saliency .scores .targets .transfer .weights"
    ),
    "_results": Room(
        "plotting.axes plotting.history plotting.transfer", "numpy pandas"
    ),  # plot themselves
    "inspection": Room(
        "_data.geometry _data.rows _data.tables _data.targets _data.tasks _fitted"
        " _results kinds.bounds losses metrics",
        "numpy sklearn pandas scipy",
    ),
    "_callers": Room("_data.rows _data.tables kinds.values metrics", "numpy"),
    "_estimator": Room(
        "_addresses _data.rows _fitted _training.ctrl_c _training.fit _training.fit_tasks"
        " _training.group"
        " _training.plan _training.recipe _callers _files.checkpoint _files.save _fitted_module"
        " _intervals _results _through _views augmentation losses losses.combiners networks"
        " networks.given",
        "numpy sklearn",
    ),
    "__init__": Room(
        "_data.bounds _data.tasks _estimator _through _training.group _views", "importlib"
    ),
}
FOLDERS = [name.removesuffix(".*") for name in HOUSE if name.endswith(".*")]


def names_of(module: str, inside: str) -> set[str]:
    """Modules that the words of a row stand for."""
    names: set[str] = set()
    for word in inside.split():
        name = module.partition(".")[0] + word if word.startswith(".") else word
        folder = name.removesuffix(".*")
        names |= {name} if name == folder else {n for n in HOUSE if n.startswith(f"{folder}.")}
    return {name for name in names if not name.endswith(".*")}


def row_of(module: str) -> Room:
    """What a module may import, by its own row and that of its folder."""
    rooms = [HOUSE[module]]
    if "." in module:
        rooms.append(HOUSE.get(f"{module.partition('.')[0]}.*", Room()))
    inside = {name for room in rooms for name in names_of(module, room.inside)}
    outside, lazily = (" ".join(parts) for parts in list(zip(*rooms, strict=True))[1:])
    return Room(" ".join(sorted(inside)), outside, lazily)


def imports(node: ast.AST, lazy: bool = False) -> Iterator[tuple[str, bool]]:
    """Dotted names that a module imports, and whether only inside a function."""
    if isinstance(node, ast.Import):
        yield from ((alias.name, lazy) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, "absolute imports only"
        module = str(node.module)
        for alias in node.names:  # a room of a folder, or a name in a room
            room = f"{module}.{alias.name}"
            is_room = module == "sklearn_mtl" or room.removeprefix("sklearn_mtl.") in HOUSE
            yield room if is_room else module, lazy
    for child in ast.iter_child_nodes(node):
        yield from imports(child, lazy or isinstance(child, (ast.FunctionDef, ast.Lambda)))


def is_in(name: str, allowed: str) -> bool:
    return any(name == prefix or name.startswith(prefix + ".") for prefix in allowed.split())


def strangers(module: str, tree: ast.AST) -> set[str]:
    """What a module imports although its row does not allow it."""
    room = row_of(module)
    free = sys.stdlib_module_names - {"importlib"}  # by which anything could be imported
    return {
        name
        for name, lazy in imports(tree)
        if name.partition(".")[0] not in free
        and name.removeprefix("sklearn_mtl.") not in room.inside.split()
        and not is_in(name, f"{room.outside} {room.lazily if lazy else ''}")
    }


@pytest.mark.parametrize("module", MODULES)
def test_module_knows_only_the_rooms_below_it(module: str) -> None:
    assert module in HOUSE, f"{FILES[module]} has no row in HOUSE: say what it may know"
    assert strangers(module, MODULES[module]) == set()


@pytest.mark.parametrize(
    ("module", "code", "expected"),
    [
        ("losses.cells", "import numpy as np", {"numpy"}),
        ("losses.cells", "import torch.nn as nn", set()),
        ("losses.cells", "import torchvision", {"torchvision"}),
        ("losses.cells", "from sklearn_mtl.losses.links import exp", set()),
        ("losses.cells", "from sklearn_mtl.losses import links", set()),
        ("losses.cells", "from sklearn_mtl.losses import LOSSES", {"sklearn_mtl.losses"}),
        ("losses.links", "from sklearn_mtl.losses import cells", {"sklearn_mtl.losses.cells"}),
        ("networks.dense", "from sklearn.base import clone", set()),
        ("networks.dense", "from sklearn.utils import check_array", {"sklearn.utils"}),
        ("networks.dense", "import importlib", {"importlib"}),
        ("_estimator", "def f():\n    import torch", {"torch"}),
        ("_data.targets", "from sklearn_mtl import losses", {"sklearn_mtl.losses"}),
        ("_data.targets", "from sklearn_mtl.losses import LOSSES", {"sklearn_mtl.losses"}),
        ("_data.inputs", "import sklearn_mtl", {"sklearn_mtl"}),
        ("_training.net", "from sklearn_mtl._fitted import Fitted", {"sklearn_mtl._fitted"}),
        ("_views", "from sklearn_mtl._training.fit import train", {"sklearn_mtl._training.fit"}),
        ("_files.columns", "class A:\n    def f(self):\n        import pyarrow as pa", set()),
        ("_files.codec", "import pyarrow as pa", {"pyarrow"}),
        ("_files.store", "def f():\n    from sklearn_mtl import __version__", set()),
    ],
)
def test_strangers_are_noticed(module: str, code: str, expected: set[str]) -> None:
    assert strangers(module, ast.parse(code)) == expected


def too_high(house: dict[str, Room]) -> dict[str, set[str]]:
    """Rooms that may import what does not stand before them in the table."""
    found, built = {}, set()
    for name, room in house.items():
        if above := {n for n in names_of(name, room.inside) if n not in built}:
            found[name] = above
        built.add(name)
    return found


def scattered(house: dict[str, Room]) -> list[str]:
    """Folders whose rooms do not stand together in the table."""
    folders = [name.partition(".")[0] for name in house]
    changes = [a for a, b in zip(folders, [*folders[1:], ""], strict=True) if a != b]
    return sorted({folder for folder in changes if changes.count(folder) > 1})


def test_the_house_has_no_circle() -> None:
    """Neither of rooms, nor of folders: all of a folder stands after all that it may import."""
    assert too_high(HOUSE) == {}
    assert scattered(HOUSE) == []
    extra = {name for name in HOUSE if not name.endswith(".*")} - set(MODULES)
    assert not extra, f"there is no such module: {sorted(extra)}"


def test_circles_are_noticed() -> None:
    assert too_high({"a": Room("b"), "b": Room("a")}) == {"a": {"b"}}
    assert too_high({"a.x": Room(".y"), "a.y": Room(".x")}) == {"a.x": {"a.y"}}
    assert scattered({"a.x": Room(), "b": Room("a.x"), "a.y": Room("b")}) == ["a"]


def test_skorch_lives_in_one_folder() -> None:
    assert {name for name, room in HOUSE.items() if is_in("skorch", room.outside)} <= {
        name for name in HOUSE if name.startswith("_training.")
    }


def test_the_picture_of_the_house_has_a_place_for_every_room(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    script = Path(__file__).parents[1] / "docs" / "draw_house.py"
    spec = importlib.util.spec_from_file_location("draw_house", script)
    assert spec is not None
    assert spec.loader is not None
    drawing = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(drawing)
    rooms = drawing.read_rooms()
    modules = {f"{room.name}.{module}" for room in rooms.values() for module in room.modules}
    assert modules | set(rooms) | {"__init__"} == set(MODULES)
    for theme in drawing.THEMES:
        drawing.draw(tmp_path / "house.svg", theme)


def test_public_rooms_are_found_at_once() -> None:
    """`import sklearn_mtl` is enough to use them."""
    public = [name for name in MODULES if "." not in name and not name.startswith("_")]
    assert sorted(sklearn_mtl.SUBMODULES) == sorted(public)
    assert set(public) <= set(dir(sklearn_mtl))
    for name in public:
        assert getattr(sklearn_mtl, name) is importlib.import_module(f"sklearn_mtl.{name}")


# -- private names --------------------------------------------------------------------------------


def is_private(name: object) -> bool:
    return isinstance(name, str) and name.startswith("_") and not name.startswith("__")


def private_uses(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Private names that a module imports or takes of objects, and of what."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            rooms = {f"{node.module}.{alias.name}": alias.name for alias in node.names}
            private = {n for room, n in rooms.items() if room[len("sklearn_mtl.") :] not in HOUSE}
            yield from ((name, str(node.module)) for name in private)
        elif isinstance(node, ast.Attribute):
            yield node.attr, ast.unparse(node.value)
        elif isinstance(node, ast.Call) and len(node.args) > 1:
            if ast.unparse(node.func) in ("getattr", "setattr", "hasattr", "delattr"):
                yield getattr(node.args[1], "value", ""), ast.unparse(node.args[0])
        elif isinstance(node, ast.Subscript):
            owner = ast.unparse(node.value)
            if owner.startswith("vars(") or owner.endswith("__dict__"):
                yield getattr(node.slice, "value", ""), owner


def made_by_classes(tree: ast.AST) -> set[str]:
    """Names that the classes of a module define, or set on `self` or in what they return."""
    made = set()
    for owner in ast.walk(tree):
        for node in ast.walk(owner) if isinstance(owner, ast.ClassDef) else ():
            if isinstance(node, ast.FunctionDef):
                made.add(node.name)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                made |= {node.attr} if ast.unparse(node.value) == "self" else set()
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                made.add(node.id)
            elif isinstance(node, ast.Dict):
                made |= {key.value for key in node.keys if isinstance(key, ast.Constant)}
    return made


def pried(tree: ast.AST) -> set[str]:
    """Private names of others that a module uses.

    Its own are those that its classes define, and what `self` inherits. The former may be asked of
    any object but an imported one: a method may look into another object of the same class.
    """
    own = made_by_classes(tree)
    imported = {
        alias.asname or alias.name.partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for alias in node.names
    }
    allowed = " ".join(FOREIGN.values()).split()
    return {
        f"{owner}.{name}"
        for name, owner in private_uses(tree)
        if is_private(name)
        and name not in allowed
        and owner not in ("self", "cls", "super()")
        and (name not in own or owner.partition(".")[0] in imported)
    }


@pytest.mark.parametrize("module", MODULES)
def test_no_room_uses_private_names_of_another(module: str) -> None:
    assert pried(MODULES[module]) == set()


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("from sklearn_mtl.losses.cells import _square", {"sklearn_mtl.losses.cells._square"}),
        ("from sklearn_mtl import _views", set()),  # a room
        ("from sklearn_mtl._files import store\nstore._write()", {"store._write"}),
        ("from sklearn.utils import _safe_indexing", set()),
        ("from sklearn.utils import _print_elapsed_time", {"sklearn.utils._print_elapsed_time"}),
        ("def f(net):\n    return net.criterion_._groups", {"net.criterion_._groups"}),
        ("def f(net):\n    return net._orig_mod", set()),
        ("def f(x):\n    return getattr(x, '_secret', None)", {"x._secret"}),
        ("def f(x):\n    return vars(x)['_secret']", {"vars(x)._secret"}),
        ("class A:\n    def _f(self):\n        return self._f()", set()),
        ("class A:\n    def f(self):\n        return self._of_a_base", set()),
        ("class A:\n    def f(self):\n        return self.net._mine", {"self.net._mine"}),
        ("class A:\n    def _f(self, twin):\n        return twin._f", set()),
        ("class A:\n    def f(self, twin):\n        self._x = twin._x", set()),
        ("class A:\n    def f(self, twin):\n        return twin._x", {"twin._x"}),
        ("import b\nclass A:\n    def _f(self):\n        return b._f", {"b._f"}),
        ("def _f():\n    return _f()", set()),
    ],
)
def test_prying_is_noticed(code: str, expected: set[str]) -> None:
    assert pried(ast.parse(code)) == expected


def test_all_exceptions_are_needed() -> None:
    text = "\n".join(path.read_text() for path in FILES.values())
    names = [name for names in FOREIGN.values() for name in names.split()]
    assert [name for name in names if name not in text] == []


# -- size -----------------------------------------------------------------------------------------


def bodies(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Functions, and how many lines they have below the docstring."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            body = node.body[ast.get_docstring(node) is not None :]
            n_lines = int(body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
            yield f"{node.name}, line {node.lineno}", n_lines


def test_rooms_are_small() -> None:
    """A reader should be able to hold one in the head; the estimator's is full of docstrings."""
    sizes = {name: len(path.read_text().splitlines()) for name, path in FILES.items()}
    large = {name: n for name, n in sizes.items() if n > 400 and name != "_estimator"}
    assert not large, f"more than 400 lines, split them by idea: {large}"
    assert statistics.median(sizes.values()) < 200


@pytest.mark.parametrize("module", MODULES)
def test_bodies_are_short(module: str) -> None:
    large = {name: n for name, n in bodies(MODULES[module]) if n > 50}
    assert not large, f"more than 50 lines in {FILES[module]}, the docstring not counted: {large}"


def test_lines_of_bodies_are_counted() -> None:
    code = """
def f():
    '''One.

    Two.
    '''
    # A comment above all is free.
    x = 1

    def g():
        '''Alone.'''

    return x
"""
    assert dict(bodies(ast.parse(code))) == {"f, line 2": 6, "g, line 10": 0}


# -- classes --------------------------------------------------------------------------------------

# What a function hands over once an object is made.
HANDED_OVER = {
    "MultiTaskCNNEstimator": {"net_"},  # `Fitted.keep_in`
    "TaskNet": {"task_names_"},  # `build_net`
}


def self_reads(tree: ast.AST) -> set[str]:
    """Attributes that a class reads of `self`."""
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Load)
        and ast.unparse(node.value) == "self"
    }


def self_sets(tree: ast.AST) -> set[str]:
    """Attributes that a class sets on `self`, by assignment or by ``self.method("name", ...)``."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names |= {node.attr} if ast.unparse(node.value) == "self" else set()
        elif isinstance(node, ast.Call) and ast.unparse(node.func).startswith("self."):
            first = node.args[0] if node.args else None
            names |= {first.value} if isinstance(first, ast.Constant) else set()
    return names


@functools.cache
def sets(cls: type) -> set[str]:
    """Attributes that the code of a class sets on `self`."""
    try:
        return self_sets(ast.parse(textwrap.dedent(inspect.getsource(cls))))
    except (OSError, TypeError):  # written in C
        return set()


def has(cls: type) -> set[str]:
    """Attributes that a class or its bases define or set."""
    names = {*dir(cls), *getattr(cls, "__dataclass_fields__", ())}
    if issubclass(cls, torch.nn.Module):
        names |= set(vars(torch.nn.Module()))
    return names.union(*(sets(base) for base in set(cls.__mro__) - {object}))


def leaves(cls: type) -> list[type]:
    """Classes that derive from a class, and that no other derives from."""
    ours = ("sklearn_mtl", __name__)  # and not what other tests derive
    below = [sub for sub in cls.__subclasses__() if sub.__module__.startswith(ours)]
    return [leaf for sub in below for leaf in leaves(sub)] if below else [cls]


def borrowed(cls: type, tree: ast.AST) -> set[str]:
    """What a class reads of `self` that neither it nor a base sets.

    Subclasses may, if it declares the attribute by an annotation, and each of them does.
    """
    declared = {
        str(node.target.id)
        for node in getattr(tree, "body", ())
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    given = set.intersection(*(has(leaf) for leaf in leaves(cls)))
    return self_reads(tree) - has(cls) - (declared & given)


CLASSES = [
    pytest.param(module, node, id=f"{module}.{node.name}")
    for module, tree in MODULES.items()
    for node in tree.body
    if isinstance(node, ast.ClassDef)
]


@pytest.mark.parametrize(("module", "node"), CLASSES)
def test_no_class_reads_what_another_sets(module: str, node: ast.ClassDef) -> None:
    """So no mixin is half of a class, whose other half stands elsewhere."""
    cls = getattr(importlib.import_module(f"sklearn_mtl.{module}"), node.name)
    assert borrowed(cls, node) - HANDED_OVER.get(node.name, set()) == set()


class Half:
    """Reads what others set."""

    declared: int
    not_given: int

    def f(self) -> list[int]:
        return [self.own, self.declared, self.not_given, self.foreign]  # type: ignore[attr-defined]

    def g(self) -> None:
        self.own = 1


class Whole(Half):
    """Sets what its base declares, and what it does not."""

    def h(self) -> None:
        self.declared = self.foreign = 2


def test_borrowing_is_noticed() -> None:
    (tree,) = ast.parse(inspect.getsource(Half)).body
    assert borrowed(Half, tree) == {"not_given", "foreign"}


def test_the_estimator_has_no_bases_of_ours() -> None:
    """It is read in one place, from its parameters to its files."""
    bases = sklearn_mtl.MultiTaskCNNEstimator.__bases__
    assert [base.__module__.partition(".")[0] for base in bases] == ["sklearn"] * len(bases)


# -- what every module does -----------------------------------------------------------------------


@pytest.mark.parametrize("module", MODULES)
def test_module_says_what_it_offers(module: str) -> None:
    """`__all__` is a list of strings, each of them defined."""
    lists = [
        node.value
        for node in MODULES[module].body
        if isinstance(node, (ast.Assign, ast.AnnAssign))
        and ast.unparse(node).partition(" ")[0].rstrip(":") == "__all__"
    ]
    assert len(lists) == 1, f"{FILES[module]} has no __all__"
    names = ast.literal_eval(lists[0])
    assert isinstance(names, list)
    assert all(isinstance(name, str) for name in names)
    assert len(set(names)) == len(names)
    loaded = importlib.import_module(
        "sklearn_mtl" if module == "__init__" else f"sklearn_mtl.{module}"
    )
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
    assert not lines, f"print( in {FILES[module]}, lines {lines}"


IMPORT = """
import sys
import sklearn_mtl
extras = {"PIL", "matplotlib", "polars", "h5py", "zarr", "onnx", "onnxscript"}
extras |= {"tabm", "timm", "torchvision", "torchjd"}
print(sorted(extras & set(sys.modules)))
"""
FIT = """
import sys
from sklearn_mtl import MultiTaskCNNEstimator
MultiTaskCNNEstimator(max_epochs=1).fit([[0.0], [1.0]] * 5, [0.0, 1.0] * 5)
rooms = [name.removeprefix("sklearn_mtl.") for name in sys.modules]
late = ("_files", "datasets", "inspection", "model_selection")
print(sorted(room for room in rooms if room.startswith(late)))
"""


@pytest.mark.parametrize("code", [IMPORT, FIT], ids=["import", "fit"])
def test_neither_an_import_nor_a_fit_brings_what_is_not_needed(code: str) -> None:
    """Extras, files and tools are imported by whoever asks for them: workers start sooner."""
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout == "[]\n"
