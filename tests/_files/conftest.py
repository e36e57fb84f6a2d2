from __future__ import annotations

from pathlib import Path

import pytest
from _saved import fit_table

from sklearn_mtl import MultiTaskCNNEstimator


@pytest.fixture(scope="module")
def fitted() -> MultiTaskCNNEstimator:
    """Treat it as read-only."""
    return fit_table()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"
