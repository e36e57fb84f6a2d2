"""Which rows are left out together."""

import numpy as np
import pytest

from sklearn_mtl._data.encoded import EncodedTargets
from sklearn_mtl._data.inputs import InputReader, as_input
from sklearn_mtl._training import dealing
from sklearn_mtl._training.dealing import equal_rows, kept_together


def test_equal_rows_are_of_one_number():
    X = np.random.default_rng(0).normal(size=(6, 3))
    X[4] = X[1]
    X[5] = X[2]
    values, weight = np.arange(6.0)[:, None], np.ones((6, 1))
    values[4] = values[1]  # but not row 5, whose target is another
    reader = InputReader(None, "channels_first", "").fit_names(X)
    rows = np.arange(6)
    reader.fit(as_input(X), rows, np.ones(6))
    found = equal_rows(reader, reader.of(as_input(X)), EncodedTargets(values, weight), rows)
    assert found[4] == found[1]
    assert len(np.unique(found)) == 5


def test_of_very_many_rows_one_input_puts_them_in_order(monkeypatch):
    """Those of equal content have one number, though others have the same first input."""
    X = np.random.default_rng(0).integers(0, 2, size=(60, 3)).astype(float)
    y, rows = np.zeros((60, 1)), np.arange(60)
    reader = InputReader(None, "channels_first", "").fit_names(X)
    reader.fit(as_input(X), rows, np.ones(60))
    of = reader, reader.of(as_input(X)), EncodedTargets(y, np.ones((60, 1))), rows
    found = equal_rows(*of)
    monkeypatch.setattr(dealing, "VALUES", 60)
    fewer = equal_rows(*of)
    assert len(np.unique(fewer)) == len(np.unique(X, axis=0))
    assert len({*zip(found, fewer, strict=True)}) == len(np.unique(found))
    assert fewer[X[:, 0] == 0].max() < fewer[X[:, 0] == 1].min()
    monkeypatch.setattr(dealing, "VALUES", 0)  # more rows than that
    np.testing.assert_array_equal(equal_rows(*of), fewer)


@pytest.mark.parametrize(
    ("weight", "found"),
    [([1, 1, 1, 1], []), ([1, 1, 0, 0], [1]), ([1, 0, 1, 0], []), ([0, 0, 0, 0], [])],
)
def test_a_task_of_a_single_fold_is_not_left_out(weight, found):
    folds = np.array([0, 0, 1, 1])
    weights = np.column_stack([np.ones(4), weight])
    assert kept_together(folds, EncodedTargets(np.zeros((4, 2)), weights)) == found
