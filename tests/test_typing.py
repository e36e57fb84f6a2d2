"""Code of a user, which mypy and pyright check strictly, does what it is typed to do."""

from __future__ import annotations

from pathlib import Path

from _user_code import HardestFirst, Share, Squares, loop_of_ones_own, rule, session, spec

from sklearn_mtl.kinds import Kind
from sklearn_mtl.losses import Combiner
from sklearn_mtl.networks import TrunkSpec


def test_the_session_runs(tmp_path: Path) -> None:
    session(tmp_path)


def test_the_loop_runs() -> None:
    loop_of_ones_own()


def test_protocols_are_no_bases() -> None:
    """Whoever follows one need not know of it."""
    assert isinstance(spec, Squares)
    assert TrunkSpec not in Squares.__mro__
    assert isinstance(rule, HardestFirst)
    assert issubclass(HardestFirst, Combiner)
    assert issubclass(Share, Kind)
