"""X of several parts: flat rows, statistics of what is there, and what is refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from sklearn_mtl._data.fused import as_inputs, reader_for
from sklearn_mtl._data.inputs import InputReader
from sklearn_mtl.datasets import MultiInput

RNG = np.random.default_rng(0)
N = 12
IMAGES = RNG.integers(256, size=(N, 3, 4, 4)).astype(np.uint8)
TABLE = RNG.normal(size=(N, 2)) * [1, 1e3] + [0, 1e9]


def fitted(X, weight=None, rows=None, **params):
    params = {
        "input_shape": None,
        "data_format": "channels_first",
        "estimator_name": "Est",
    } | params
    reader = reader_for(X, **params).fit_names(X)
    rows = np.arange(N) if rows is None else rows
    return reader.fit(as_inputs(X), rows, np.ones(len(rows)) if weight is None else weight)


def read(reader, X, rows=range(N), **how):
    source = reader.of(as_inputs(X), **how)
    samples = source.read(rows)
    assert samples.shape == (len(rows), *source.shape)
    return samples


def alone(X, **params):
    reader = InputReader(None, "channels_first", "Est", **params)
    return reader.fit(X, np.arange(len(X)), np.ones(len(X)))


def test_a_row_holds_all_parts_side_by_side():
    X = MultiInput(image=IMAGES, table=TABLE)
    reader = fitted(X)
    assert reader.input_shape_ == {"image": (3, 4, 4), "table": (2,)}
    assert reader.sample_shape_ == (50,)
    found = read(reader, X)
    np.testing.assert_array_equal(found[:, :48], IMAGES.reshape(N, -1))
    np.testing.assert_array_equal(found[:, 48:], TABLE)
    for part, images in ((reader, IMAGES), (alone(IMAGES), None)):
        mean = np.broadcast_to(part.mean_[:48], 48) if images is not None else None
        if mean is not None:
            np.testing.assert_allclose(mean.reshape(3, 4, 4)[:, 0, 0], IMAGES.mean(axis=(0, 2, 3)))
    np.testing.assert_array_equal(reader.mean_[48:], alone(TABLE).mean_)
    np.testing.assert_array_equal(reader.scale_[48:], alone(TABLE).scale_)


def test_bytes_stay_bytes():
    X = MultiInput(left=IMAGES, right=IMAGES[::-1].copy())
    assert read(fitted(X), X).dtype == np.uint8


def test_missing_rows_count_in_no_statistic():
    table, images = TABLE.copy(), IMAGES.astype(np.float32)
    table[[0, 5]], images[3] = np.nan, np.nan
    X = MultiInput(image=images, table=table)
    reader = fitted(X)
    seen = np.delete(np.arange(N), [0, 5])
    np.testing.assert_allclose(reader.mean_[48:], TABLE[seen].mean(axis=0))
    np.testing.assert_allclose(reader.scale_[48:], TABLE[seen].std(axis=0))
    expected = np.delete(IMAGES, 3, axis=0).mean(axis=(0, 2, 3))
    np.testing.assert_allclose(reader.mean_[:48].reshape(3, 16), np.outer(expected, np.ones(16)))
    found = read(reader, X)
    assert np.isnan(found[[0, 5], 48:]).all()
    assert np.isnan(found[3, :48]).all()
    assert np.isfinite(found).sum() == found.size - 4 - 48


def test_weights_count_for_what_is_there():
    table = TABLE.copy()
    table[0] = np.nan
    X, weight = MultiInput(image=IMAGES, table=table), np.arange(1.0, N + 1)
    twice = np.repeat(np.arange(N), weight.astype(int))
    once, repeated = fitted(X, weight), fitted(X[twice], rows=np.arange(len(twice)))
    np.testing.assert_allclose(once.mean_, repeated.mean_)
    np.testing.assert_allclose(once.scale_, repeated.scale_)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.int64])
def test_none_in_a_list_is_a_missing_row(dtype):
    images = [*IMAGES.astype(dtype)]
    images[4] = None
    X = MultiInput(image=images, table=TABLE)
    reader = fitted(X)
    found = read(reader, X)
    assert np.isnan(found[4, :48]).all()
    np.testing.assert_array_equal(
        np.delete(found[:, :48], 4, axis=0), np.delete(IMAGES, 4, axis=0).reshape(N - 1, -1)
    )
    expected = np.delete(IMAGES, 4, axis=0).mean(axis=(0, 2, 3))
    np.testing.assert_allclose(reader.mean_[:48:16], expected)
    series = MultiInput(image=pd.Series(images), table=TABLE)
    np.testing.assert_array_equal(read(reader, series), found)


@pytest.mark.parametrize(
    "make",
    [
        np.asarray,
        sparse.csr_matrix,
        lambda X: pd.DataFrame(X, columns=[f"c{i}" for i in range(50)]),
    ],
)
@pytest.mark.parametrize("width", [2, -1])
def test_columns_of_a_table_are_parts(make, width):
    flat = np.hstack([IMAGES.reshape(N, -1), TABLE])
    X = MultiInput(image=IMAGES, table=TABLE)
    expected = fitted(X)
    reader = fitted(make(flat), input_shape={"image": (3, 4, 4), "table": (width,)})
    np.testing.assert_allclose(reader.mean_, expected.mean_)
    assert reader.input_shape_ == expected.input_shape_
    np.testing.assert_array_equal(read(reader, make(flat)), read(expected, X))
    np.testing.assert_array_equal(read(expected, flat), flat)


def test_parts_are_matched_by_name():
    X = MultiInput(image=IMAGES, table=TABLE)
    reader = fitted(X)
    swapped = MultiInput(table=TABLE, image=IMAGES)
    reader.check_shape(as_inputs(swapped))
    np.testing.assert_array_equal(read(reader, swapped), read(reader, X))


def test_channels_last_is_of_every_part_with_channels():
    X = MultiInput(image=np.moveaxis(IMAGES, 1, -1), table=TABLE)
    reader = fitted(X, data_format="channels_last")
    np.testing.assert_array_equal(read(reader, X)[:, :48], IMAGES.reshape(N, -1))


def test_scales_are_told_by_part():
    X = MultiInput(image=IMAGES, table=TABLE)
    reader = fitted(X, standardize={"image": "imagenet"})
    np.testing.assert_allclose(reader.mean_[:48:16], [255 * m for m in (0.485, 0.456, 0.406)])
    np.testing.assert_array_equal(reader.mean_[48:], alone(TABLE).mean_)
    assert (fitted(X, standardize=False).scale_ == 1).all()


def test_levels_are_of_each_part():
    table = TABLE.copy()
    table[:, 1] = np.arange(N) % 2
    table[3] = np.nan
    reader = fitted(MultiInput(image=IMAGES, table=table))
    assert reader.two_valued_ == {"image": (), "table": (1,)}
    reader.forget_levels()
    assert reader.two_valued_ == {"image": (), "table": ()}


def broken(part, where, value):
    X = MultiInput(image=IMAGES.astype(float), table=TABLE.copy())
    X[part][where] = value
    return X


@pytest.mark.parametrize(
    ("X", "match"),
    [
        (broken("table", (3, 1), np.nan), r"Part 'table' of X: X contains NaN .* \[3\].* column"),
        (broken("image", (3, 1, 1), np.inf), "Part 'image' of X: X contains infinity"),
        (broken("table", slice(None), np.nan), "Part 'table' of X: It is missing in all rows"),
        (MultiInput(image=[None] * N, table=TABLE), "Part 'image' of X: It is missing in all rows"),
        (MultiInput(image=IMAGES, table=list("ab" * 6)), r"X\['table'\] holds text"),
        (MultiInput(image=["a.jpg"] * N, table=TABLE), r"X\['image'\] holds paths of images"),
        (MultiInput(image=IMAGES, table=TABLE[:, 0]), r"X\['table'\].reshape\(-1, 1\)"),
        (MultiInput(image=np.zeros((N, 5, 5, 3)), table=TABLE), "Part 'image' of X: .*channels"),
    ],
)
def test_bad_parts_are_named(X, match):
    with pytest.raises(ValueError, match=match):
        fitted(X)


@pytest.mark.parametrize("rows", [[4], [4, 7], [7, 4, 0]])
def test_a_list_of_holes_alone_can_be_read_where_the_part_is_known(rows):
    images = [None if row in (4, 7) else image for row, image in enumerate(IMAGES)]
    X = MultiInput(image=images, table=TABLE)
    reader = fitted(X)
    some = X[rows]
    reader.check_shape(as_inputs(some))
    np.testing.assert_array_equal(read(reader, some, range(len(rows))), read(reader, X)[rows])


def test_a_row_without_any_part_is_an_error():
    X = broken("table", slice(2, 4), np.nan)
    X["image"][3] = np.nan
    with pytest.raises(ValueError, match=r"X lacks all of its parts in 1 of the 12 .* \[3\]"):
        read(fitted(X), X)


def test_what_was_never_missing_must_be_there():
    X = MultiInput(image=IMAGES, table=TABLE)
    reader, less = fitted(X), broken("table", slice(2, 4), np.nan)
    with pytest.raises(
        ValueError, match=r"X\['table'\] is missing in 2 .* \[2, 3\], .* that was trained on"
    ):
        read(reader, less, to_predict=True)
    read(reader, less)  # as rows held out
    more = reader.with_more()
    more.look_for_missing(as_inputs(less), np.arange(2))
    with pytest.raises(ValueError, match="but was in no"):
        read(more, less, to_predict=True)
    more.look_for_missing(as_inputs(less), np.arange(3))
    read(more, less, to_predict=True)
    assert not reader.readers_["table"].lacks_
    read(fitted(less), less, to_predict=True)


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"input_shape": (50,)}, r"input_shape=\(50,\) is of one input, .* 'image', 'table'"),
        ({"input_shape": {"picture": (3, 4, 4)}}, r"input_shape names the parts \['picture'\]"),
        ({"input_shape": {"image": (3, 4, 5)}}, r"Part 'image' of X: input_shape=\(3, 4, 5\)"),
        ({"input_shape": {"image": 48}}, "input_shape has 48 for a part"),
        ({"standardize": {"tabel": False}}, r"standardize names the parts \['tabel'\]"),
        ({"standardize": "imagenet"}, "Part 'table' of X: standardize='imagenet' .* a dict"),
        ({"standardize": {"image": "imagnet"}}, "standardize has 'imagnet' for a part"),
        ({"standardize": {"table": None}}, "standardize has None for a part"),
        ({"standardize": {"table": np.eye(2)}}, "standardize has array"),
    ],
)
def test_bad_parameters_are_named(params, match):
    with pytest.raises(ValueError, match=match):
        fitted(MultiInput(image=IMAGES, table=TABLE), **params)


@pytest.mark.parametrize(
    "shape",
    [
        {"a": (3,), "b": (4,)},
        {"a": (3,), "b": (6,)},
        {"a": (-1,), "b": (-1,)},
        {"a": (8,), "b": (-1,)},
        {"a": (0,), "b": (8,)},
        {"a": ("x",)},
        {},
    ],
)
def test_shapes_that_do_not_fit_a_table(shape):
    with pytest.raises(ValueError, match=r"input_shape=.* does not fit X of shape \(12, 8\)"):
        fitted(np.ones((N, 8)), input_shape=shape)


def test_other_layouts_are_refused():
    X = MultiInput(image=IMAGES, table=TABLE)
    reader = fitted(X)
    for other, match in [
        (
            MultiInput(image=IMAGES),
            r"has the parts \['image'\], but Est was fitted on \['image', 't",
        ),
        (MultiInput(image=IMAGES[:, :1], table=TABLE), r"X\['image'\] has samples of shape \(1, 4"),
        (MultiInput(image=IMAGES, table=TABLE[:, :1]), r"X\['table'\] has 1 features"),
        (IMAGES, r"fitted on the parts image \(3, 4, 4\), table \(2,\), 50 values"),
    ]:
        with pytest.raises(ValueError, match=match):
            reader.check_shape(as_inputs(other))
    with pytest.raises(
        ValueError, match=r"X has the parts 'image', 'table', but Est was fitted on"
    ):
        alone(np.ones((N, 50))).check_shape(as_inputs(X))


def test_columns_of_parts_have_names():
    frame = pd.DataFrame(TABLE, columns=["a", "b"])
    reader = fitted(MultiInput(image=IMAGES, table=frame))
    reader.check_names(MultiInput(image=IMAGES, table=frame))
    with pytest.raises(ValueError, match="feature names should match"):
        reader.check_names(MultiInput(image=IMAGES, table=frame[["b", "a"]]))
