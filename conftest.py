"""What tests share with doctests, which `tests/conftest.py` does not reach."""

import gc
import sys
from collections.abc import Iterator

import pytest


def pytest_collection_finish() -> None:
    """Spare the garbage collector a look at thousands of tests, time and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def close_figures() -> Iterator[None]:
    """Close the figures that a test, an example or a page has left open."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


@pytest.fixture(autouse=True)
def write_elsewhere(request: pytest.FixtureRequest) -> None:
    """Let examples and pages write files by plain names, as users do, into a folder."""
    if isinstance(request.node, pytest.DoctestItem):
        request.getfixturevalue("monkeypatch").chdir(request.getfixturevalue("tmp_path"))
