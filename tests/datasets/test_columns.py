"""`ColumnInputs`: one table becomes several inputs."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, clone
from sklearn.compose import make_column_selector
from sklearn.exceptions import NotFittedError
from sklearn.impute import SimpleImputer
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from sklearn_mtl import MultiTaskCNNEstimator
from sklearn_mtl.datasets import ColumnInputs, ImageReader
from sklearn_mtl.networks import ConvTrunk, Fusion

N = 24
RNG = np.random.default_rng(0)
TABLE = pd.DataFrame(
    {"age": RNG.normal(size=N), "kind": list("ab") * (N // 2), "size": RNG.normal(size=N)}
)
TABLE.loc[3, "age"] = np.nan


def make():
    return ColumnInputs(
        [
            ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), ["age", "size"]),
            ("codes", OneHotEncoder(), ["kind"]),
            ("raw", "passthrough", "size"),
        ]
    )


def test_parts_are_what_their_transformers_return():
    inputs = make()
    found = inputs.fit_transform(TABLE)
    assert list(found.parts) == ["numbers", "codes", "raw"]
    expected = make_pipeline(SimpleImputer(), StandardScaler()).fit(TABLE[["age", "size"]])
    some = inputs.transform(TABLE[5:9])
    np.testing.assert_array_equal(some["numbers"], expected.transform(TABLE[["age", "size"]][5:9]))
    np.testing.assert_array_equal(some["codes"].toarray(), [[0, 1], [1, 0]] * 2)
    pd.testing.assert_series_equal(some["raw"], TABLE["size"][5:9])
    assert not hasattr(make().transformers[0][1][0], "statistics_")


def test_columns_may_be_chosen_by_type():
    inputs = ColumnInputs([("n", SimpleImputer(), make_column_selector(dtype_include="number"))])
    assert inputs.fit_transform(TABLE)["n"].shape == (N, 2)
    assert inputs.fit(TABLE).transform(TABLE)["n"].shape == (N, 2)
    positions = ColumnInputs([("n", "passthrough", [0, 2])])
    assert positions.fit_transform(TABLE.to_numpy())["n"].shape == (N, 2)


@pytest.mark.parametrize("columns", [[0], slice(0, 1), [True, False, False]], ids=str)
def test_columns_by_place_are_of_the_same_table(columns):
    """Else another column would be taken, silently."""
    inputs = ColumnInputs([("a", "passthrough", columns)]).fit(TABLE)
    assert list(inputs.feature_names_in_) == ["age", "kind", "size"]
    assert inputs.n_features_in_ == 3
    assert list(inputs.transform(TABLE[:4])["a"].columns) == ["age"]
    with pytest.raises(ValueError, match="feature names should match"):
        inputs.transform(TABLE[["size", "kind", "age"]])
    with pytest.raises(ValueError, match="feature names should match"):
        inputs.transform(TABLE[["age", "kind"]])


def test_columns_by_name_may_have_others_beside_them():
    inputs = ColumnInputs([("a", "passthrough", ["age"]), ("b", "passthrough", "size")]).fit(TABLE)
    found = inputs.transform(TABLE[["size", "age"]].assign(more=0))
    pd.testing.assert_series_equal(found["b"], TABLE["size"])
    assert list(found["a"].columns) == ["age"]


def test_parameters_are_those_of_the_transformers():
    inputs = clone(make()).set_params(codes__drop="first", raw=SimpleImputer())
    assert inputs.get_params()["codes__drop"] == "first"
    assert isinstance(inputs.transformers[2][1], SimpleImputer)
    assert make().get_params()["codes__drop"] is None
    pickle.loads(pickle.dumps(inputs))


def test_a_table_with_photographs_and_holes(tmp_path):
    image = pytest.importorskip("PIL.Image")
    table = TABLE.assign(file=[f"{i}.png" for i in range(N)])
    for i, name in enumerate(table["file"]):
        image.fromarray(np.full((12, 10), 10 * i, dtype=np.uint8)).save(tmp_path / name)
    y = np.column_stack([np.arange(N) % 3 > 1, TABLE["size"]])
    inputs = ColumnInputs(
        [
            ("image", ImageReader(size=8, root=tmp_path, mode="L"), "file"),
            ("table", SimpleImputer(), ["age", "size"]),
        ]
    )
    trunk = Fusion({"image": ConvTrunk(2, 8)})
    net = MultiTaskCNNEstimator(trunk=trunk, max_epochs=2, random_state=0)
    model = make_pipeline(inputs, net)
    assert model.fit(table, y).predict(table).shape == (N, 2)
    assert np.isfinite(cross_val_score(model, table, y, cv=2)).all()
    grid = {"columninputs__image__size": [8, 10], "multitaskcnnestimator__trunk__image__width": [2]}
    assert GridSearchCV(model, grid, cv=2).fit(table, y).predict(table).shape == (N, 2)


@pytest.mark.parametrize(
    ("transformers", "match"),
    [
        ([], "no list of"),
        (None, "transformers=None is no list of"),
        ([("a", "passthrough")], "no list of"),
        ([("a", "passthrough", ["age"]), ("a", "passthrough", ["size"])], r"names \['a', 'a'\]"),
        ([("a", "drop", ["age"])], "has 'drop' for 'a'"),
        (
            [("a", "passthrough", ["weight"])],
            r"no columns \['weight'\], of .* 'a'.* It has",
        ),
        ({"a": 1}, "no list of"),
        ([("a__b", "passthrough", ["age"])], "part called 'a__b'"),
        ([(3, "passthrough", ["age"])], "part called 3"),
        ([("", "passthrough", ["age"])], "part called ''"),
        ([(["a"], "passthrough", ["age"])], "part called"),
        ([("a", StandardScaler, ["age"])], "StandardScaler.* for 'a'. Pass an object"),
        ([("a", StandardScaler(), [])], r"Part 'a' has no columns: \[\] are none"),
        ([("a", "passthrough", make_column_selector("x"))], "Part 'a' has no columns"),
    ],
)
def test_what_is_wrong_is_named(transformers, match):
    with pytest.raises(ValueError, match=match):
        ColumnInputs(transformers).fit(TABLE)
    with pytest.raises(NotFittedError):
        make().transform(TABLE)


@pytest.mark.parametrize("transformers", [None, [("a", StandardScaler())], [("a", int, "age")]])
def test_parameters_that_are_wrong_can_be_looked_at(transformers):
    inputs = ColumnInputs(transformers)
    assert inputs.get_params()["transformers"] is transformers
    assert inputs.set_params(transformers=make().transformers).fit(TABLE)
    with pytest.raises(ValueError, match=r"raw__x cannot be set: .* 'passthrough'"):
        inputs.set_params(raw__x=1)


def test_lists_of_rows_are_tables():
    rows = [[1.0, "a"], [2.0, "b"], [np.nan, "a"]]
    inputs = ColumnInputs([("n", SimpleImputer(), [0]), ("k", OneHotEncoder(), [1])])
    found = inputs.fit_transform(rows)
    np.testing.assert_array_equal(found["n"], [[1], [2], [1.5]])
    np.testing.assert_array_equal(inputs.transform(rows[1:2])["k"].toarray(), [[0, 1]])


class Centred(BaseEstimator):
    """Has `fit` and `transform` alone."""

    def fit(self, X, y=None):
        self.mean_ = np.asarray(X).mean(axis=0)
        return self

    def transform(self, X):
        return np.asarray(X) - self.mean_


def test_fit_and_transform_are_enough():
    found = ColumnInputs([("n", Centred(), ["size"])]).fit_transform(TABLE)
    np.testing.assert_allclose(found["n"], TABLE[["size"]] - TABLE[["size"]].mean())
