"""Do the tests notice? Change the code in one place at a time, and count what fails a test.

    python .ci/mutate.py sklearn_mtl/metrics.py tests/test_metrics.py --sample 40

Operators, comparisons, conditions, constants and returned values are changed; `not` and statements
are left out. Each change runs in a process of its own, forked where torch and scikit-learn are
imported already, so that it takes about as long as the tests until the first failure. What survives
is printed: it wants a test, or means the same as before. Needs a system that forks.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import importlib.abc
import importlib.util
import io
import os
import random
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

ROOT = Path(__file__).parents[1]

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
    elif isinstance(new, ast.Return) and new.value is not None:
        new.value = ast.Constant(None)
        yield "return None", new
    elif isinstance(new, ast.Expr | ast.Assign | ast.AugAssign) and not is_text(node):
        yield "statement left out", ast.Pass()


def is_text(node: ast.AST) -> bool:
    """Whether a statement is a docstring."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def told(node: ast.AST) -> bool:
    """Whether a node only says something to people or to type checkers."""
    raises = isinstance(node, ast.Raise)
    return raises or isinstance(node, ast.AnnAssign) or is_text(node)


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


class Replaced(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one module from a tree instead of its file."""

    def __init__(self, mutant: Mutant) -> None:
        self.mutant = mutant
        parts = mutant.path.relative_to(ROOT).with_suffix("").parts
        self.is_package = parts[-1] == "__init__"
        self.name = ".".join(parts[:-1] if self.is_package else parts)

    def find_spec(self, name: str, path: object = None, target: object = None) -> object:
        """Answer for this module alone."""
        if name != self.name:
            return None
        place = str(self.mutant.path)
        return importlib.util.spec_from_file_location(
            name, place, loader=self,
            submodule_search_locations=[str(Path(place).parent)] if self.is_package else None,
        )  # fmt: skip

    def create_module(self, spec: object) -> None:
        """Leave that to Python."""

    def exec_module(self, module: ModuleType) -> None:
        """Run the tree."""
        exec(compile(self.mutant.tree, str(self.mutant.path), "exec"), module.__dict__)


def outcome(mutant: Mutant | None, tests: list[str], seconds: int) -> int:
    """Exit status of pytest in a forked process: 0 if nothing failed."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        status = 99
        try:
            resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
            import pytest

            if mutant is not None:
                sys.meta_path.insert(0, Replaced(mutant))
            options = ["-n0", "-x", "-q", "-p", "no:cacheprovider"]
            said = io.StringIO()
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
                status = int(pytest.main(["-o", "addopts=", *options, *tests]))
            if mutant is None and status:
                sys.__stdout__.write(said.getvalue())
                sys.__stdout__.flush()
        finally:
            os._exit(status)
    _, ended = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(ended)


def main() -> None:
    """Change what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("paths", nargs="+", help="a file or folder of the package, and its tests")
    parser.add_argument("--sample", type=int, help="this many changes, drawn at random")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=60.0, help="end after so many")
    arguments = parser.parse_args()
    os.chdir(ROOT)
    sys.path[:0] = [str(ROOT)]
    code = [ROOT / path for path in arguments.paths if not path.startswith("tests")]
    tests = [path for path in arguments.paths if path.startswith("tests")]
    files = [
        file for path in code for file in ([path] if path.is_file() else sorted(path.glob("*.py")))
    ]
    mutants = [mutant for file in files for mutant in mutants_of(file)]
    drawn = random.Random(arguments.seed)
    chosen = drawn.sample(mutants, min(arguments.sample or len(mutants), len(mutants)))
    print(f"{len(mutants)} changes of {len(files)} files; {len(chosen)} are tried")
    for module in ("torch", "sklearn.metrics", "skorch", "pandas", "pytest"):
        importlib.import_module(module)  # once, for all
    start = time.monotonic()
    if outcome(None, tests, 3600):
        sys.exit("The tests fail as it is.")
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = 30 + 3 * int(used.ru_utime + used.ru_stime)
    print(f"the tests take {used.ru_utime + used.ru_stime:.0f} s", flush=True)
    survived = tried = 0
    for mutant in chosen:
        if time.monotonic() - start > 60 * arguments.minutes:
            break
        tried += 1
        if outcome(mutant, tests, seconds) == 0:
            survived += 1
            line = mutant.path.read_text(encoding="utf-8").splitlines()[mutant.line - 1].strip()
            where = mutant.path.relative_to(ROOT)
            print(f"survived: {where}:{mutant.line}: {mutant.what}: {line}", flush=True)
    share = 100 * (tried - survived) / max(tried, 1)
    print(f"{tried - survived} of {tried} killed, {share:.0f} %", flush=True)


if __name__ == "__main__":
    main()
