"""Tests of the step of a pipeline that reads images, and of images in files as X of all else."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from _broken import Breaking, break_off
from PIL import Image
from sklearn import config_context
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.model_selection import GridSearchCV, cross_validate, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import parametrize_with_checks

from sklearn_mtl import MultiTaskCNNEstimator, predict_frame, task_view
from sklearn_mtl.datasets import ImageFiles, ImageReader, MultiInput, load_images
from sklearn_mtl.networks import ConvTrunk

N = 48


@pytest.fixture(scope="module")
def table(tmp_path_factory: Any) -> pd.DataFrame:
    """Pictures of one colour each, in a folder, and what is known of them."""
    folder = tmp_path_factory.mktemp("pictures")
    red = np.random.default_rng(0).integers(20, 230, size=N)
    for i, r in enumerate(red.tolist()):
        Image.new("RGB", (30 + i % 7, 40 - i % 5), (r, 100, 250 - r)).save(folder / f"{i}.png")
    files = [f"{i}.png" for i in range(N)]
    holes = np.where(np.arange(N) % 5 == 0, np.nan, red)
    return pd.DataFrame({"file": files, "warm": red > 120, "red": holes}).assign(root=str(folder))


def small(**params: Any) -> MultiTaskCNNEstimator:
    trunk = ConvTrunk(width=4, n_features=16)
    return MultiTaskCNNEstimator(
        **{"max_epochs": 3, "trunk": trunk, "random_state": 0, "batch_size": 16} | params
    )


def targets(table: pd.DataFrame) -> pd.DataFrame:
    return table[["warm", "red"]]


def files(table: pd.DataFrame, **params: Any) -> ImageFiles:
    return ImageFiles(table["file"], size=16, root=table["root"].iloc[0], **params)


# -- files instead of an array -------------------------------------------------------------------


@pytest.mark.parametrize("params", [{}, {"early_stopping": True}, {"warm_start": True}])
@pytest.mark.parametrize("cache", [0, 10 * 3 * 16 * 16, 2**28])
def test_files_train_and_predict_like_the_array(
    table: pd.DataFrame, params: dict[str, Any], cache: int
) -> None:
    X, y = files(table, cache=cache), targets(table)
    of_files, of_array = small(**params).fit(X, y), small(**params).fit(np.asarray(X), y)
    np.testing.assert_array_equal(of_files.predict(X), of_array.predict(np.asarray(X)))
    np.testing.assert_array_equal(of_files.predict(X), of_files.predict(np.asarray(X)))
    assert of_files.score(X, y) == of_array.score(np.asarray(X), y)
    np.testing.assert_array_equal(of_files.embed(X[3:9]), of_array.embed(np.asarray(X)[3:9]))


def test_streams_validation_data_and_views(table: pd.DataFrame) -> None:
    X, y = files(table), targets(table)
    A = np.asarray(X)
    est, same = small(), small()
    for rows in (slice(0, 20), slice(20, N)):
        est.partial_fit(X[rows], y[rows])
        same.partial_fit(A[rows], y[rows])
    np.testing.assert_array_equal(est.predict(X), same.predict(A))
    est.fit(X[:30], y[:30], X_val=X[30:], y_val=y[30:])
    same.fit(A[:30], y[:30], X_val=A[30:], y_val=y[30:])
    np.testing.assert_array_equal(est.history_["valid_loss"], same.history_["valid_loss"])
    assert task_view(est, "warm").score(X, y["warm"]) == task_view(est, "warm").score(A, y["warm"])


def test_searches_and_splits_in_other_processes(table: pd.DataFrame) -> None:
    X, y = files(table), targets(table)
    X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
    assert isinstance(X_train, ImageFiles)
    grid = {"learning_rate": [1e-3, 1e-2]}
    search = GridSearchCV(small(), grid, cv=2, n_jobs=2).fit(X_train, y_train)
    alone = GridSearchCV(small(), grid, cv=2).fit(np.asarray(X_train), y_train)
    for name in ("mean_test_score", "std_test_score"):
        np.testing.assert_allclose(search.cv_results_[name], alone.cv_results_[name], rtol=1e-5)
    assert np.isfinite(search.score(X_test, y_test))
    scores = cross_validate(small(), X, y, cv=2, n_jobs=2)["test_score"]
    expected = cross_validate(small(), np.asarray(X), y, cv=2)["test_score"]
    np.testing.assert_allclose(scores, expected, rtol=1e-5)


def test_a_fit_of_files_goes_on_after_a_break(table: pd.DataFrame, tmp_path: Path) -> None:
    """The checkpoint knows the images again, and refuses others."""
    X, y = files(table), targets(table)
    unbroken = small(max_epochs=6).fit(X, y)
    params = {"max_epochs": 6, "checkpoint": tmp_path / "fit", "checkpoint_every": 0}
    params["net_params"] = {"callbacks": [Breaking()]}
    est = small(**params)
    break_off(est, (3, 1), X, y)
    with pytest.raises(ValueError, match="X"):
        small(**params).fit(X[::-1], y)
    est = small(**params).fit(X, y)
    np.testing.assert_array_equal(est.predict(X), unbroken.predict(X))


@pytest.mark.parametrize("others", ["val", "train"])
def test_broken_files_are_named_before_training(
    table: pd.DataFrame, tmp_path: Path, others: str
) -> None:
    noise = np.random.default_rng(0).integers(256, size=(50, 50, 3), dtype=np.uint8)
    paths = [str(tmp_path / f"{i}.jpg") for i in range(8)]
    for path in paths:
        Image.fromarray(noise).save(path)
    for path in (paths[2], paths[5]):
        Path(path).write_bytes(Path(path).read_bytes()[:900])
    X, y = files(table), targets(table)
    bad = ImageFiles([*X.paths[:20], *paths], size=16)
    est, val = small(), {"X_val": bad, "y_val": y[:28]}
    given = (X, y, val) if others == "val" else (bad, y[:28], {})
    with pytest.raises(ValueError, match=r"2 of 28 images.*2.jpg' \(.*5.jpg' \("):
        est.fit(*given[:2], **given[2])
    assert not hasattr(est, "net_")


@pytest.mark.parametrize("held", ["X", "X_val"])
def test_rows_without_an_image_are_named_before_training(table: pd.DataFrame, held: str) -> None:
    """Also where rows were taken before: their numbers are those of what was passed."""
    holes = table["file"].where(~table.index.isin([5, 30, 31]))
    X, y = files(table), targets(table)
    bad = ImageFiles(holes, size=16, root=table["root"].iloc[0])[10:]
    est = small()
    message = rf"^{held} has no path in 2 of {N - 10} rows, the first \[20, 21\]. Leave out"
    given = (X, y, bad, y[10:]) if held == "X_val" else (bad, y[10:], X, y)
    with pytest.raises(ValueError, match=message):
        est.fit(*given[:2], X_val=given[2], y_val=given[3])
    assert not hasattr(est, "net_")
    est.fit(bad[~bad.missing], y[10:][~bad.missing])
    for method in (est.predict, est.predict_proba, est.embed):
        with pytest.raises(ValueError, match=r"^X has no path in 2 of"):
            method(bad)
    with pytest.raises(ValueError, match=r"^X has no path in 2 of"):
        est.score(bad, y[10:])


def test_beside_a_table_a_row_may_have_no_image(table: pd.DataFrame) -> None:
    holes = table["file"].where(~table.index.isin([5, 30, 31]))
    images = ImageFiles(holes, size=16, root=table["root"].iloc[0])
    numbers = np.arange(N)[:, None] % 7
    est = MultiTaskCNNEstimator(max_epochs=1, random_state=0)
    est.fit(MultiInput(image=images, table=numbers), targets(table))
    array = np.asarray(files(table)).astype(np.float32)
    array[images.missing] = np.nan
    same = clone(est).fit(MultiInput(image=array, table=numbers), targets(table))
    found, expected = (
        e.predict(MultiInput(image=x, table=numbers)) for e, x in [(est, images), (same, array)]
    )
    np.testing.assert_array_equal(found, expected)


# -- a column of paths ---------------------------------------------------------------------------


def test_a_table_goes_through_a_pipeline(table: pd.DataFrame) -> None:
    reader = ImageReader("file", size=16, root=table["root"][0])
    y, X = targets(table), files(table)
    pipeline = make_pipeline(reader, small()).fit(table, y)
    expected = small().fit(X, y).predict(X)
    np.testing.assert_array_equal(pipeline.predict(table), expected)
    found = predict_frame(pipeline, table[["file"]].set_index(np.arange(N) + 7))
    assert found.index.tolist() == list(range(7, N + 7))
    grid = {"imagereader__size": [8, 16], "imagereader__resize": ["crop"]}
    search = GridSearchCV(pipeline, grid, cv=2).fit(table, y)
    assert search.best_estimator_[0].resize == "crop"


@pytest.mark.parametrize(
    ("column", "held"),
    [
        (None, lambda t: t["file"]),
        (None, lambda t: t[["file"]]),
        (None, lambda t: t["file"].tolist()),
        ("file", lambda t: t),
        ("file", lambda t: pl.DataFrame(t.to_dict("list"))),
        ("file", lambda t: pa.table({"red": t["red"], "file": t["file"].tolist()})),
        (("a", "b"), lambda t: pd.DataFrame({("a", "b"): t["file"], ("a", "c"): t["red"]})),
        (0, lambda t: t),
        (-1, lambda t: t[["red", "file"]].to_numpy(dtype=object)),
    ],
)
def test_columns_by_name_and_place(table: pd.DataFrame, column: Any, held: Any) -> None:
    reader = ImageReader(column, size=(8, 9), root=table["root"][0], mode="L", background=3)
    X = clone(reader).fit_transform(held(table))
    assert isinstance(X, ImageFiles)
    expected = load_images(table["file"], (8, 9), root=table["root"][0], mode="L", background=3)
    np.testing.assert_array_equal(np.asarray(X), expected)
    np.testing.assert_array_equal(np.asarray(reader.transform(held(table))), expected)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"column": "path"}, "X has no column 'path', but ['file', 'warm', 'red', 'root']."),
        ({"column": "file", "size": 0}, "size=0"),
        ({"column": "file", "mode": "BGR"}, "mode='BGR'"),
        ({"column": None}, "a frame of 4 columns"),
    ],
)
def test_mistakes_are_told_by_fit(
    table: pd.DataFrame, params: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        ImageReader(**params).fit(table)
    pipeline = make_pipeline(ImageReader(**params), small())
    with pytest.raises(ValueError, match=re.escape(message)):
        pipeline.fit(table, targets(table))


@pytest.mark.parametrize("hole", [None, np.nan, pd.NA, ""])
def test_rows_without_a_path_are_named_by_the_estimator(table: pd.DataFrame, hole: Any) -> None:
    reader = ImageReader("file", size=16, root=table["root"][0])
    holes = table["file"].astype(object)
    holes[[3, 8]] = hole
    pipeline = make_pipeline(reader, small())
    message = r"^X has no path in 2 of 48 rows, the first \[3, 8\].*X\[X\[column\].notna\(\)\]"
    with pytest.raises(ValueError, match=message):
        pipeline.fit(table.assign(file=holes), targets(table))
    assert reader.transform(table.assign(file=holes)).missing.sum() == 2


def test_a_table_that_is_not_computed_yet(table: pd.DataFrame) -> None:
    lazy = pl.DataFrame(table.to_dict("list")).lazy()
    with pytest.raises(ValueError, match=r"X is a LazyFrame, .*Pass X.collect\(\)"):
        ImageReader("file").fit(lazy)


# -- as a transformer of scikit-learn --------------------------------------------------------------


class OfNumbers(ImageReader, auto_wrap_output_keys=None):
    """Said to take numbers, so that the checks try it at all."""

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        return tags


NUMBERS = "X of the check holds numbers, which are no paths"
NO_PATHS = dict.fromkeys(
    [
        "check_fit_score_takes_y",
        "check_estimators_dtypes",
        "check_pipeline_consistency",
        "check_estimators_pickle",
        "check_f_contiguous_array_estimator",
        "check_transformer_general",
        "check_transformer_preserve_dtypes",
        "check_transformers_unfitted_stateless",
        "check_methods_sample_order_invariance",
        "check_methods_subset_invariance",
        "check_dict_unchanged",
        "check_fit_idempotent",
    ],
    NUMBERS,
)


@parametrize_with_checks([OfNumbers()], expected_failed_checks=lambda reader: NO_PATHS)
def test_manners_of_scikit_learn(estimator: Any, check: Any) -> None:
    check(estimator)


def test_tags_and_pages(table: pd.DataFrame) -> None:
    reader = ImageReader("file", size=16, root=table["root"][0])
    tags = get_tags(reader)
    assert (tags.input_tags.string, tags.input_tags.two_d_array) == (True, False)
    assert (tags.no_validation, tags.requires_fit) == (True, False)
    assert "ImageReader" in reader._repr_html_()
    assert not hasattr(reader, "set_output")
    assert not hasattr(reader, "get_feature_names_out")
    with config_context(transform_output="pandas"):
        assert isinstance(reader.fit_transform(table), ImageFiles)
    copy = pickle.loads(pickle.dumps(reader))
    np.testing.assert_array_equal(copy.transform(table), reader.transform(table))


def test_names_are_those_of_the_table(table: pd.DataFrame) -> None:
    """By name, other columns may come and go; by place, they may not."""
    root = table["root"][0]
    reader = ImageReader("file", size=16, root=root).fit(table)
    assert reader.n_features_in_ == 4
    assert reader.feature_names_in_.tolist() == list(table.columns)
    assert len(reader.transform(table[["red", "file"]])) == N
    by_place = ImageReader(0, size=16, root=root).fit(table)
    for other in (table[["red", "file"]], table[["file"]]):
        with pytest.raises(ValueError, match="feature names should match"):
            by_place.transform(other)
    by_place.fit(table.to_numpy(dtype=object))
    with pytest.raises(ValueError, match="expecting 4 features"):
        by_place.transform(table[["file"]].to_numpy(dtype=object))
    assert not hasattr(ImageReader(size=16, root=root).fit(table["file"]), "n_features_in_")


def test_a_column_of_paths_beside_others_in_a_column_transformer(table: pd.DataFrame) -> None:
    reader = ImageReader(size=8, root=table["root"][0])
    images = make_pipeline(reader, FunctionTransformer(lambda X: np.asarray(X).reshape(len(X), -1)))
    table = table.assign(age=np.arange(N))
    columns = ColumnTransformer([("image", images, "file"), ("table", StandardScaler(), ["age"])])
    rows = columns.fit_transform(table)
    expected = load_images(table["file"], 8, root=table["root"][0]).reshape(N, -1)
    np.testing.assert_array_equal(rows[:, :-1], expected)
    shapes = {"image": (3, 8, 8), "table": (1,)}
    pipeline = make_pipeline(columns, MultiTaskCNNEstimator(input_shape=shapes, max_epochs=1))
    assert pipeline.fit(table, targets(table)).predict(table).shape == (N, 2)
    alone = ColumnTransformer([("image", images[0], "file")])
    with pytest.raises(ValueError, match="should be 2D"):
        alone.fit_transform(table)
