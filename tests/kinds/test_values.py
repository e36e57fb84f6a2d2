"""Labels and numbers of every type."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from _observed import small


@pytest.mark.parametrize("first", [2**63 - 10, 2**60])
def test_large_labels_are_the_same_in_either_type_of_integer(first: int) -> None:
    labels = first + np.arange(24, dtype=np.uint64) % 3
    est = small(tasks={"y0": "classification"}).fit(np.eye(24), labels)
    score = est.score(np.eye(24), labels)
    assert score == est.score(np.eye(24), labels.astype(np.int64)) > 0
    assert est.score(np.eye(24), labels.astype(np.int64) + 3) == 0


def test_labels_of_64_bits_beside_holes() -> None:
    labels = [None if i % 5 == 0 else 2**63 + 5 + i % 3 for i in range(24)]
    y = pl.Series("y", labels, dtype=pl.UInt64)
    est = small(tasks={"y": "classification"}).fit(np.eye(24), y)
    assert est.classes_.tolist() == [2**63 + 5, 2**63 + 6, 2**63 + 7]
    assert est.predict_frame(np.eye(24))["y"].dtype == pl.UInt64
