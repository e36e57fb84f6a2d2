"""The script that changes the code in one place at a time comes to its end, and counts."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.benchmarks
def test_changes_are_tried_and_counted():
    """In functions that pytest has collected, and asked its garbage collector to leave alone."""
    command = [".ci/mutate.py", "sklearn_mtl/_addresses.py", "tests/test_addresses.py"]
    done = subprocess.run(
        [sys.executable, *command, "--sample=2"], cwd=ROOT, capture_output=True, text=True
    )
    assert re.search(r"[12] of +2 killed, +\d+ %: all", done.stdout), done.stdout + done.stderr
