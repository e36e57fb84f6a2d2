"""Folds of the rows: how they are dealt, and what does not matter."""

import numpy as np
import pytest

from sklearn_mtl._data.folds import alike, content_keys, deal_folds, keys_of_cells


def dealt(groups, traits=None, n_folds=5, seed=0):
    """Folds; by default each row has one and the same trait."""
    groups = np.asarray(groups)
    traits = np.ones((len(groups), 1), dtype=bool) if traits is None else np.asarray(traits)
    return deal_folds(groups, [np.flatnonzero(trait) for trait in traits.T], n_folds, seed)


def sizes_of(folds, n_folds=5):
    return np.bincount(folds, minlength=n_folds)


# -- content ------------------------------------------------------------------------------------


def test_rows_of_equal_content_have_equal_keys():
    values = np.random.default_rng(0).normal(size=(50, 3))
    keys = content_keys(values)
    assert len(np.unique(keys)) == 50
    np.testing.assert_array_equal(content_keys(values[[3, 3, 7]]), keys[[3, 3, 7]])


def test_minus_zero_is_zero():
    keys = content_keys(np.array([[0.0, 1.0], [-0.0, 1.0], [0.0, -1.0]]))
    assert keys[0] == keys[1] != keys[2]


def test_values_in_other_columns_are_other_content():
    """Nor do small whole numbers meet, of which sums are alike."""
    keys = content_keys(np.stack(np.meshgrid(*[np.arange(10.0)] * 4), axis=-1).reshape(-1, 4))
    assert len(np.unique(keys)) == 10_000


def test_keys_of_cells_are_those_of_all_values():
    rng = np.random.default_rng(0)
    values = np.where(rng.random((40, 6)) < 0.2, rng.normal(size=(40, 6)), 0)
    cells = [(np.flatnonzero(column), column[column != 0]) for column in values.T]
    np.testing.assert_array_equal(keys_of_cells(cells, 40, 6), content_keys(values))


def test_no_more_columns_are_asked_for_than_decide():
    def columns():
        yield np.array([1.0, 0.0, 1.0, np.nan, np.nan])
        yield np.array([5.0, 5.0, 4.0, 2.0, 3.0])
        raise AssertionError("nothing is tied any more")

    assert alike(np.arange(5, dtype=np.uint64), columns()).tolist() == [2, 0, 1, 3, 4]


def test_numbers_of_rows_follow_the_columns():
    columns = np.array([[2.0, 0.0], [1.0, 5.0], [1.0, 4.0], [2.0, 0.0]])
    assert alike(content_keys(columns), columns.T).tolist() == [2, 1, 0, 2]


def test_content_decides_where_columns_are_equal():
    """Such as the first eight of many: different rows have different numbers."""
    columns, keys = np.zeros((4, 2)), np.array([7, 3, 7, 5], dtype=np.uint64)
    assert alike(keys, columns.T).tolist() == [2, 0, 2, 1]


def test_units_and_order_of_rows_do_not_change_their_numbers():
    rng = np.random.default_rng(0)
    columns = rng.integers(4, size=(40, 3)).astype(float)
    numbers = alike(content_keys(columns), columns.T)
    assert len(np.unique(numbers)) == len(np.unique(columns, axis=0))
    other = columns * [1000, 1e-3, 7] + [5, 0, 1]
    np.testing.assert_array_equal(alike(content_keys(other), other.T), numbers)
    order = rng.permutation(40)
    moved = columns[order]
    np.testing.assert_array_equal(alike(content_keys(moved), moved.T), numbers[order])


# -- folds --------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_rows", [1, 3, 4, 5, 11, 100, 203])
@pytest.mark.parametrize("n_folds", [2, 5])
def test_folds_differ_by_one_row_at_most(n_rows, n_folds):
    """And fewer rows than folds leave some empty."""
    sizes = sizes_of(dealt(np.arange(n_rows), n_folds=n_folds), n_folds)
    assert len(sizes) == n_folds
    assert sizes.sum() == n_rows
    assert sizes.max() - sizes.min() <= 1


def test_folds_differ_by_one_group_at_most():
    """However large groups are, whose rows stay together."""
    groups = np.repeat(np.arange(23), np.random.default_rng(0).integers(1, 9, size=23))
    folds = dealt(groups)
    of_group = [np.unique(folds[groups == g]) for g in range(23)]
    assert all(len(found) == 1 for found in of_group)
    sizes = sizes_of(np.concatenate(of_group))
    assert sizes.max() - sizes.min() <= 1


def test_a_single_row_has_a_fold():
    assert dealt([0]).shape == (1,)
    assert 0 <= dealt([0])[0] < 5


def test_rows_in_another_order_have_the_same_folds():
    rng = np.random.default_rng(0)
    groups = rng.integers(30, size=80)
    traits = np.column_stack([np.ones(80, dtype=bool), rng.random((80, 4)) < 0.2])
    order = rng.permutation(80)
    np.testing.assert_array_equal(dealt(groups[order], traits[order]), dealt(groups, traits)[order])


def test_seeds_deal_other_folds():
    folds = [dealt(np.arange(100), seed=seed) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(folds[0], folds[1])
    assert (folds[0] == folds[2]).mean() < 0.5


@pytest.mark.parametrize("n_rare", [1, 4, 5, 12, 50, 250])
def test_the_rarest_trait_is_spread_evenly(n_rare):
    """A share of each fold, up to one row."""
    rng = np.random.default_rng(0)
    traits = np.ones((1000, 2), dtype=bool)
    traits[:, 1] = rng.permutation(1000) < n_rare
    counts = sizes_of(dealt(np.arange(1000), traits)[traits[:, 1]])
    assert counts.max() - counts.min() <= 1
    assert sizes_of(dealt(np.arange(1000), traits)).tolist() == [200] * 5


def test_rare_classes_of_a_task_are_all_spread_evenly():
    """They exclude each other, so that each pattern is one class."""
    code = np.repeat([0, 1, 2, 3], [180, 11, 6, 23])
    traits = np.column_stack([np.ones(220, dtype=bool), *(code == c for c in range(4))])
    folds = dealt(np.arange(220), traits)
    for c in range(1, 4):
        counts = sizes_of(folds[code == c])
        assert counts.max() - counts.min() <= 1


def test_rarely_observed_targets_are_in_every_fold():
    """Of several tasks, that overlap as it comes."""
    traits = np.random.default_rng(0).random((300, 4)) < [1.0, 0.3, 0.2, 0.1]
    folds = dealt(np.arange(300), traits)
    for trait in traits.T:
        counts, mean = sizes_of(folds[trait]), trait.sum() / 5
        assert (abs(counts - mean) <= 5).all()
    counts = sizes_of(folds[traits[:, 3]])  # the rarest
    assert counts.max() - counts.min() <= 1


def test_rows_without_a_trait_are_not_dealt():
    """And take no place of others."""
    traits = np.arange(60)[:, None] % 3 > 0
    folds = dealt(np.arange(60), traits)
    assert (folds[~traits[:, 0]] == 0).all()
    assert sizes_of(folds[traits[:, 0]]).tolist() == [8] * 5


def test_a_group_has_what_one_of_its_rows_has():
    """Here the rare trait of every second row."""
    groups = np.repeat(np.arange(100), 2)
    rare = (groups < 10) & (np.arange(200) % 2 == 1)
    folds = dealt(groups, np.column_stack([np.ones(200, dtype=bool), rare]))
    assert sizes_of(folds[rare]).tolist() == [2] * 5
