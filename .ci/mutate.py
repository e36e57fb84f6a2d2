"""Do the tests notice? Change the code in one place at a time, and count what fails a test.

    python .ci/mutate.py sklearn_mtl/metrics.py tests/test_metrics.py --sample 40

Operators, comparisons, conditions, constants and returned values are changed; `not` and statements
are left out. Errors and `zip(strict=...)` stay: they tell of mistakes in the code, or in words.
Tests are collected and run once, to see which functions each of them comes to. For each change the
process forks, functions get the changed code, and the tests that come to the function run, quick
ones first, until the first failure, which mostly takes less than a second. What survives is
printed: it wants a test, or means the same as before. Code that runs while modules are imported is
not changed. Needs a system that forks. Options that are not known here are those of pytest.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import gc
import importlib
import io
import json
import os
import random
import resource
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, NamedTuple

import pytest

Functions = dict[tuple[str, int], FunctionType]

ROOT = Path(__file__).parents[1]
BROKEN = 99  # exit status of a process in which this script failed, and not a test

SWAPS: dict[type, type] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.FloorDiv: ast.Div, ast.Mod: ast.FloorDiv,
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
    ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip


class Mutant(NamedTuple):
    """One change of one file."""

    path: Path
    line: int
    what: str
    tree: ast.Module


def changes(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """Yield what may stand in place of a node, and what that is called."""
    new = copy.deepcopy(node)
    if isinstance(new, ast.BinOp | ast.BoolOp | ast.AugAssign) and type(new.op) in SWAPS:
        new.op = SWAPS[type(new.op)]()
        yield type(new.op).__name__, new
    elif isinstance(new, ast.Compare) and len(new.ops) == 1:
        new.ops = [SWAPS[type(new.ops[0])]()]
        yield type(new.ops[0]).__name__, new
    elif isinstance(new, ast.UnaryOp) and isinstance(new.op, ast.Not | ast.USub | ast.Invert):
        yield f"without {type(new.op).__name__}", new.operand
    elif isinstance(new, ast.If | ast.IfExp | ast.While):
        new.test = ast.UnaryOp(ast.Not(), new.test)
        yield "condition negated", new
    elif isinstance(new, ast.Constant) and type(new.value) in (bool, int, float):
        new.value = not new.value if type(new.value) is bool else new.value + 1
        yield f"constant {new.value}", new
    elif isinstance(new, ast.Return) and new.value is not None and not is_none(new.value):
        new.value = ast.BoolOp(ast.And(), [ast.Constant(None), new.value])
        yield "return None", new
    elif isinstance(new, ast.Expr | ast.Assign | ast.AugAssign) and not is_text(node):
        # Not `pass`: a function is to know the same names of those around it.
        yield "statement left out", ast.If(ast.Constant(False), [new], [])


def is_text(node: ast.AST) -> bool:
    """Whether a statement is a docstring."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def is_none(node: ast.AST) -> bool:
    """Whether an expression is None."""
    return isinstance(node, ast.Constant) and node.value is None


def told(node: ast.AST) -> bool:
    """Whether a node only says something to people or to checkers of types, or what cannot be."""
    strict = isinstance(node, ast.keyword) and node.arg == "strict"
    return strict or isinstance(node, ast.Raise | ast.AnnAssign) or is_text(node)


def mutants_of(path: Path) -> Iterator[Mutant]:
    """All changes inside the functions of a file, but for texts and annotations."""
    source = ast.parse(path.read_text(encoding="utf-8"))

    def walk(node: ast.AST, inside: bool) -> Iterator[tuple[ast.AST, str, int | None]]:
        for field, value in ast.iter_fields(node):
            if field in ("annotation", "returns", "decorator_list"):
                continue
            for i, child in enumerate(value if isinstance(value, list) else [value]):
                if not isinstance(child, ast.AST) or told(child):
                    continue
                within = inside or isinstance(node, ast.FunctionDef)
                if within:
                    yield node, field, i if isinstance(value, list) else None
                yield from walk(child, within)

    for parent, field, i in list(walk(source, False)):
        value = getattr(parent, field)
        old = value if i is None else value[i]
        for what, new in changes(old):
            ast.copy_location(new, old)
            for place in ast.walk(new):
                if not hasattr(place, "lineno"):
                    ast.copy_location(place, old)
            if i is None:
                setattr(parent, field, new)
            else:
                value[i] = new
            tree = ast.fix_missing_locations(copy.deepcopy(source))
            yield Mutant(path, getattr(old, "lineno", getattr(parent, "lineno", 0)), what, tree)
            if i is None:
                setattr(parent, field, old)
            else:
                value[i] = old


def named(path: Path) -> ModuleType:
    """Import the module of a file."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return importlib.import_module(".".join(parts).removesuffix(".__init__"))


def functions_of(module: ModuleType) -> Functions:
    """Functions and methods of a module, by name and first line; also those under decorators."""
    found = [f for f in gc.get_objects() if type(f) is FunctionType]
    own = [f for f in found if f.__globals__ is module.__dict__]
    return {place_of(f): f for f in own if f.__code__.co_filename == module.__file__}


def place_of(function: FunctionType) -> tuple[str, int]:
    """Name and first line of a function."""
    return function.__code__.co_qualname, function.__code__.co_firstlineno


def put_in_place(path: Path, tree: ast.Module, live: Functions) -> None:
    """Give functions the code and the numbers by default that the changed module has."""
    changed = ModuleType(named(path).__name__)
    changed.__file__ = str(path)
    exec(compile(tree, str(path), "exec", dont_inherit=True), changed.__dict__)
    for place, new in functions_of(changed).items():
        old = live[place]
        old.__code__ = new.__code__
        if new.__defaults__ is not None:
            old.__defaults__ = tuple(map(number, old.__defaults__, new.__defaults__))
        for name, value in (new.__kwdefaults__ or {}).items():
            old.__kwdefaults__[name] = number(old.__kwdefaults__[name], value)


def marked(path: Path, lines: set[int]) -> ast.Module:
    """Return the tree of a file whose functions add their first lines to `lines` when called."""
    named(path).__dict__["_lines"] = lines
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            line = min(place.lineno for place in (node, *node.decorator_list))
            node.body[is_text(node.body[0]) : 0] = ast.parse(f"_lines.add({line})").body
    return tree


def number(old: Any, new: Any) -> Any:
    """Take the new one of two values if it is a number."""
    return new if type(new) in (bool, int, float) else old


class Trials:
    """A plugin of pytest that runs what was collected for each mutant, instead of once."""

    def __init__(self, mutants: list[Mutant], minutes: float, longest: float) -> None:
        self.mutants, self.minutes, self.longest = mutants, minutes, longest
        self.tried, self.killed = Counter[str](), Counter[str]()

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Run the tests as it is, then for each mutant."""
        start = time.monotonic()
        modules = {mutant.path: named(mutant.path) for mutant in self.mutants}
        gc.unfreeze()  # what was collected is frozen by `conftest.py`, and would not be seen
        live = {path: functions_of(module) for path, module in modules.items()}
        gc.collect()
        gc.freeze()  # from here on, `functions_of` sees new functions alone
        with tempfile.TemporaryDirectory() as folder:
            told = Path(folder) / "told"
            if forked(lambda: watch(session.items, live, told)):
                raise pytest.UsageError(f"{told.read_text()} fails as it is")
            tests = json.loads(told.read_text())
        say(f"{len(tests)} tests take {sum(seconds for seconds, _ in tests):.0f} s")
        for mutant in self.mutants:
            if time.monotonic() - start > 60 * self.minutes:
                break
            self.try_one(mutant, live[mutant.path], session.items, tests)
        return True

    def try_one(
        self, mutant: Mutant, live: Functions, items: list[pytest.Item], tests: list[Any]
    ) -> None:
        """See whether a mutant fails a test that comes to its function."""
        line = max((line for _, line in live if line <= mutant.line), default=0)
        asked = [
            (item, seconds)
            for item, (seconds, reached) in zip(items, tests, strict=True)
            if seconds <= self.longest and line in reached.get(str(mutant.path), ())
        ]
        asked.sort(key=lambda pair: pair[1])
        followers = [*(item for item, _ in asked[1:]), None]

        def run() -> None:
            put_in_place(mutant.path, mutant.tree, live)
            for (item, seconds), following in zip(asked, followers, strict=False):
                if fails(item, following, limit=10 + 10 * seconds):
                    os._exit(1)

        name = str(mutant.path.relative_to(ROOT))
        self.tried[name] += 1
        if forked(run):
            self.killed[name] += 1
            return
        text = mutant.path.read_text(encoding="utf-8").splitlines()[mutant.line - 1].strip()
        say(f"survived: {name}:{mutant.line}: {mutant.what}: {text}")

    def report(self) -> None:
        """Print the share that was killed, of each file and of all."""
        for name, n in [*self.tried.items(), ("all", self.tried.total())]:
            killed = self.killed.total() if name == "all" else self.killed[name]
            say(f"{killed:>5} of {n:>5} killed, {100 * killed / max(n, 1):>3.0f} %: {name}")


def watch(items: list[pytest.Item], live: dict[Path, Functions], told: Path) -> None:
    """Run the tests as it is; write how long each takes, and which functions it comes to."""
    tests, reached = [], {str(path): set[int]() for path in live}
    for path, functions in live.items():
        put_in_place(path, marked(path, reached[str(path)]), functions)
    for item, following in zip(items, [*items[1:], None], strict=True):
        start = time.process_time()
        if fails(item, following, limit=3600):
            told.write_text(item.nodeid)
            os._exit(1)
        lines = {path: sorted(found) for path, found in reached.items() if found}
        tests.append((time.process_time() - start, lines))
        for found in reached.values():
            found.clear()
    told.write_text(json.dumps(tests))


def fails(item: pytest.Item, following: pytest.Item | None, limit: float) -> bool:
    """Run one test, and tell whether it fails; the process ends where it takes longer."""
    seconds = int(time.process_time() + limit) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, resource.RLIM_INFINITY))
    item.ihook.pytest_runtest_protocol(item=item, nextitem=following)
    return item.session.testsfailed > 0


def forked(run: Callable[[], None]) -> int:
    """Exit status of what is done in a process of its own, quietly."""
    child = os.fork()
    if child == 0:
        status, loud = BROKEN, os.fdopen(os.dup(2), "w")
        for stream in (1, 2):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
        try:
            run()
            status = 0
        except BaseException:
            traceback.print_exc(file=loud)
        finally:
            loud.flush()
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status == BROKEN:
        raise RuntimeError("a change could not be tried")
    return status


def say(text: str) -> None:
    """Print at once, also where pytest does not."""
    print(text, file=sys.__stdout__, flush=True)


def main() -> None:
    """Change what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("paths", nargs="+", help="files or folders of the package, and tests")
    parser.add_argument("--sample", type=int, help="this many changes per file, drawn at random")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=60.0, help="end after so many")
    parser.add_argument("--longest", type=float, default=60.0, help="seconds of tests to ask")
    arguments, options = parser.parse_known_args()
    os.chdir(ROOT)
    sys.path[:0] = [str(ROOT)]
    code = [ROOT / path for path in arguments.paths if not path.startswith("tests")]
    files = [
        file for path in code for file in ([path] if path.is_file() else sorted(path.glob("*.py")))
    ]
    drawn = random.Random(arguments.seed)
    chosen = []
    for file in files:
        mutants = list(mutants_of(file))
        chosen += drawn.sample(mutants, min(arguments.sample or len(mutants), len(mutants)))
    say(f"{len(chosen)} changes of {len(files)} files")
    trials, said = Trials(chosen, arguments.minutes, arguments.longest), io.StringIO()
    options += ["-n0", "-s", "-q", "-p", "no:cacheprovider"]
    with contextlib.redirect_stdout(said):
        status = pytest.main([*options, *arguments.paths], plugins=[trials])
    if status not in (pytest.ExitCode.OK, pytest.ExitCode.INTERRUPTED):
        sys.exit(said.getvalue())
    trials.report()


if __name__ == "__main__":
    main()
