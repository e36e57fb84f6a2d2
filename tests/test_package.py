"""What `import sklearn_mtl` gives, in a process of its own: nothing else has imported a part."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import sklearn_mtl

# Each submodule, and something in it.
OFFERED = {
    "augmentation": "Augment",
    "datasets": "make_digit_scenes",
    "inspection": "transfer_report",
    "kinds": "KINDS",
    "losses": "LOSSES",
    "metrics": "task_scorer",
    "model_selection": "cross_val_predict_tasks",
    "networks": "TRUNKS",
    "plotting": "TargetsDisplay",
}


STRANGERS = ["drawing", "nothing", "_nothing", "os", "SUBMODULE"]

# What is listed before anything is asked for; then each submodule, whichever comes first.
CODE = f"""
import sys

import sklearn_mtl

print(*dir(sklearn_mtl))
for name in {STRANGERS}:
    assert not hasattr(sklearn_mtl, name)
    try:
        getattr(sklearn_mtl, name)
    except AttributeError as error:
        assert str(error) == f"module 'sklearn_mtl' has no attribute {{name!r}}"
try:
    from sklearn_mtl import nothing
except ImportError:
    print("END")

for order in ({list(OFFERED)}, {list(OFFERED)[::-1]}):
    for name in [name for name in sys.modules if name.partition(".")[0] == "sklearn_mtl"]:
        del sys.modules[name]
    import sklearn_mtl
    for module in order:
        found = getattr(sklearn_mtl, module)
        assert hasattr(found, {OFFERED}[module]), module
        assert found.__name__ == "sklearn_mtl." + module
        assert found is getattr(sklearn_mtl, module) is sys.modules[found.__name__]
    print(*order)
"""


def test_submodules_answer_to_a_bare_import_and_all_else_is_an_attribute_error() -> None:
    """Whichever is asked for first; the same object again, and by an import."""
    run = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, check=False, timeout=300
    )
    assert run.returncode == 0, run.stderr
    listed, end, *orders = (line.split() for line in run.stdout.splitlines())
    assert end == ["END"]
    assert orders == [list(OFFERED), list(OFFERED)[::-1]]
    assert listed == sorted(set(listed))
    assert {*OFFERED, *sklearn_mtl.__all__} <= set(listed)
    assert not set(STRANGERS) & set(listed)


def test_what_is_offered_is_all_there_is() -> None:
    assert set(sklearn_mtl.SUBMODULES) == set(OFFERED)
    package = Path(sklearn_mtl.__file__).parent
    public = {path.stem for path in package.iterdir() if path.stem[0] not in "._"}
    assert public - {"py"} == set(OFFERED)
    names: dict[str, Any] = {}
    exec("from sklearn_mtl import *", names)
    assert set(sklearn_mtl.__all__) <= set(names)
