"""Labels that are likely to be none; and those that are, of which nothing is said."""

import warnings

import numpy as np
import pandas as pd
import pytest

from sklearn_mtl._data.targets import TargetEncoder

N = 60
DIGITS = np.arange(N) % 10

HONEST = {
    "words": np.array(["a", "b", "c"])[np.arange(N) % 3],
    "digits as text": DIGITS.astype(str),
    "codes": DIGITS,
    "half marks": DIGITS / 2,
    "few rows": np.array([f"row {i}" for i in range(20)]),
    "zero and one": np.arange(N) % 2,
    "categories": pd.Categorical(["x", "y"] * 30),
    "thirty labels in sixty rows": np.array([f"group {i % 30}" for i in range(N)]),
    "objects with holes": np.array(["a", None, "b", np.nan, "a", "b"] * 10, dtype=object),
}


@pytest.mark.parametrize("name", HONEST)
def test_honest_labels_are_taken_at_their_word(name):
    y = HONEST[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        TargetEncoder({"y": "classification"}).fit_encode(pd.DataFrame({"y": y}))


@pytest.mark.parametrize("text", ["", " ", "nan", "NaN", "NA", "n/a", "None", "null", "<NA>"])
def test_texts_for_holes_are_holes_once_it_is_said(text):
    y = np.array(["a", "b", text, "?"] * 15)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoder = TargetEncoder(missing_values=[text, "?"])
        targets = encoder.fit_encode(y)
    assert encoder.classes[0].tolist() == ["a", "b"]
    np.testing.assert_array_equal(targets.weight[:, 0] > 0, np.arange(60) % 4 < 2)
    with (
        pytest.raises(ValueError, match="holds the text")
        if text.lower() == "nan"
        else (pytest.warns(UserWarning, match="has the label"))
    ):
        TargetEncoder(missing_values="?").fit_encode(y)


@pytest.mark.parametrize("several", [[-1, -9], (-9, -1), {-1, -9}, [-1, None, -9, np.nan]])
def test_several_values_mean_not_observed(several):
    y = np.array([[1.0, -1], [-9, 2], [3, 4], [5, -9]])
    targets = TargetEncoder(missing_values=several).fit_encode(y)
    np.testing.assert_array_equal(targets.weight, [[1, 0], [0, 1], [1, 1], [1, 0]])
