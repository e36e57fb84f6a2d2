"""Targets by row: tensors of the observed cells give what tensors of all do."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sklearn_mtl._data.encoded import EncodedTargets
from sklearn_mtl._training import by_row
from sklearn_mtl._training.by_row import TargetRows

N, N_TASKS = 60, 7


def both(bounded: bool, dtype: torch.dtype = torch.float32) -> tuple[TargetRows, TargetRows]:
    rng = np.random.default_rng(0)
    weight = np.where(rng.random((N, N_TASKS)) < 0.1, rng.integers(1, 4, size=(N, N_TASKS)), 0.0)
    weight[:, 2] = 0
    values = np.where(weight > 0, rng.normal(size=(N, N_TASKS)), 0)
    reach = np.where(weight > 0, rng.exponential(size=(N, N_TASKS)), 0) if bounded else None
    whole = EncodedTargets(values, weight, reach)
    cells = (whole.cells(k) for k in range(N_TASKS))
    few = EncodedTargets.of(cells, weight.shape, np.count_nonzero(weight), bounded)
    made = [TargetRows(targets, dtype, torch.device("cpu")) for targets in (whole, few)]
    assert made[0].cells is None
    assert made[1].cells is not None
    return made[0], made[1]


@pytest.mark.parametrize("bounded", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_of_few_cells_are_those_of_all(bounded: bool, dtype: torch.dtype) -> None:
    whole, few = both(bounded, dtype)
    in_any_order = torch.tensor([5, 5, 0, 59, 17, 30])  # some without a target
    for index in (in_any_order, torch.arange(N)):
        for one, other in zip(few.take(index), whole.take(index), strict=True):
            assert (one is None) == (other is None)
            if one is not None:
                assert one.dtype == dtype
                torch.testing.assert_close(one, other, rtol=0, atol=0)
    torch.testing.assert_close(few.mass, whole.mass)
    assert not few.complete


def test_parts_are_all_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, few = both(bounded=True)
    monkeypatch.setattr(by_row, "VALUES", 3 * N_TASKS)
    (expected,), parts = whole.parts(), list(few.parts())
    assert len(parts) == 5
    for found, of_all in zip(zip(*parts, strict=True), expected, strict=True):
        torch.testing.assert_close(torch.cat(found), of_all, rtol=0, atol=0)


def test_they_become_encoded_targets_again() -> None:
    whole, few = both(bounded=False)
    assert few.encoded.are_few
    for one, other in zip(few.encoded, whole.encoded, strict=True):
        np.testing.assert_array_equal(one, other)
