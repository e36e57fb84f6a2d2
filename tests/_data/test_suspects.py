"""Labels that are likely to be none; and those that are, of which nothing is said."""

import warnings

import numpy as np
import pandas as pd
import pytest

from sklearn_mtl import Task
from sklearn_mtl._data.targets import TargetEncoder

N = 60
LETTERS = list("abcdefghijklmnopqrstuvwxyz")
DIGITS = np.arange(N) % 10

HONEST = {
    "words": np.array(["a", "b", "c"])[np.arange(N) % 3],
    "digits as text": DIGITS.astype(str),
    "codes": DIGITS,
    "few rows": np.array([f"row {i}" for i in range(20)]),
    "zero and one": np.arange(N) % 2,
    "categories": pd.Categorical(["x", "y"] * 30),
    "thirty labels in sixty rows": np.array([f"group {i % 30}" for i in range(N)]),
    "few shares as text": np.array([f"{5 * i} %" for i in range(12)])[np.arange(N) % 12],
    "counted things": np.array([f"{1 + i} rooms" for i in range(5)])[np.arange(N) % 5],
    "few digits as text": np.array(["0", "1", "2", "3", "4"]),
    "few half marks": np.arange(12) % 5 / 2,
    "text with fractions": np.array(["0.5", "1.5", "2.5"])[np.arange(N) % 3],
    "letters of both cases": np.array(["a", "A", "b"])[np.arange(N) % 3],
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


SIGNS = ["{:.1f} kg", "{:.1f}%", "<{:.1f}", "${:,.2f}", "{:.1f} €", "\u2265 {:.0f}", "+{:.1f}"]


@pytest.mark.parametrize("text", SIGNS)
def test_numbers_with_signs_and_units_are_numbers_as_text(text):
    y = np.array([text.format(3 * i + 0.5) for i in range(N)])
    with pytest.warns(UserWarning, match="60 of 60 labels are numbers written as text, such as .*"):
        TargetEncoder().fit_encode(y)


def test_signs_of_bounds_point_to_intervals():
    y = pd.DataFrame({"dose": [f"<{i}.5" if i % 3 else f"{i}.25" for i in range(N)]})
    with pytest.warns(UserWarning, match=r"pass sklearn_mtl.to_intervals\(column\), without units"):
        TargetEncoder().fit_encode(y)
    with pytest.raises(ValueError, match=r"Convert the column, sklearn_mtl.to_intervals\(column\)"):
        TargetEncoder({"dose": "regression"}).fit_encode(y)


def test_fractions_are_classes_where_that_is_said():
    y = pd.DataFrame({"dose": DIGITS / 2})
    with pytest.warns(UserWarning, match=r"'dose' takes numbers .* 10 classes.*categories=\[...\]"):
        TargetEncoder({"dose": "classification"}).fit_encode(y)
    listed = Task("dose", "classification", categories=np.arange(10) / 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for tasks in ([listed], {"dose": "ordinal"}):
            TargetEncoder(tasks).fit_encode(y)
        TargetEncoder({"dose": "classification"}).fit_encode(y[:20])
        TargetEncoder({"dose": "classification"}).fit_encode(y, classes=np.arange(10) / 2)


@pytest.mark.parametrize("labels", [["1", "1.0", "2"], ["01", "1", "a"]])
def test_labels_that_spell_one_number(labels):
    with pytest.warns(UserWarning, match=r"'y0' has the labels .*'1'.*, which spell one number"):
        TargetEncoder().fit_encode(np.array(labels)[np.arange(N) % 3])


def test_days_are_no_numbers():
    y = pd.DataFrame({"day": pd.date_range("2020-01-01", periods=N).astype(object)})
    with pytest.warns(UserWarning, match="60 different labels.* days since a first one"):
        TargetEncoder().fit_encode(y)
    with pytest.raises(ValueError, match=r"'day': the target must hold numbers.*dt\.days"):
        TargetEncoder({"day": "regression"}).fit_encode(y)


def test_flags_that_are_one_class():
    y = np.eye(3)[np.arange(N) % 3]
    for flags in (y, y.astype(bool), pd.DataFrame(y, columns=list("abc"))):
        with pytest.warns(UserWarning, match=r"one of the 3 columns of y is 1 in each row"):
            TargetEncoder().fit_encode(flags)
    _silently(y, {"y0": "classification"})
    with pytest.warns(UserWarning, match="one observed label") as said:
        TargetEncoder().fit_encode(np.column_stack([y[:, 0], 1 - y[:, 0], np.zeros(N)]))
    assert len(said) == 1
    _silently(y[:, 1:])
    _silently(y[:20])
    _silently(np.where(np.arange(N)[:, None] == 7, np.nan, y))
    _silently(np.maximum(y, np.arange(N)[:, None] == 7))


def _silently(y, tasks=None):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        TargetEncoder(tasks).fit_encode(y)


def test_whole_numbers_of_which_none_is_observed_are_numbers():
    y = pd.DataFrame({"n": pd.array([None] * N, dtype="Int64"), "x": DIGITS})
    encoder = TargetEncoder()
    with pytest.warns(UserWarning, match="Task 'n' has no observed value"):
        encoder.fit_encode(y)
    assert [task.kind for task in encoder.tasks_] == ["regression", "regression"]


def test_labels_that_are_listed_are_taken_at_their_word():
    labels = ["none", "mild", "NA"]
    tasks = [Task("y0", "classification", categories=labels)]
    numbers = [Task("y0", "ordinal", categories=[v / 2 for v in range(30)])]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        TargetEncoder(tasks).fit_encode(np.array(labels * 10))
        TargetEncoder(numbers).fit_encode(np.arange(30) / 2)
        TargetEncoder().fit_encode(np.array(LETTERS), classes=LETTERS)


def test_the_first_rows_of_a_stream_are_questioned_too():
    with pytest.warns(UserWarning, match="26 different labels in 26 rows"):
        TargetEncoder().fit_encode(np.array(LETTERS), more_comes=True)


def test_text_that_was_nan_is_refused_after_fit_too():
    encoder = TargetEncoder()
    encoder.fit_encode(np.array(["a", "b", "a"]))
    with pytest.raises(ValueError, match=r"holds the text 'NaN' in 2 rows, the first \[0, 2\]"):
        encoder.read(np.array(["NaN", "a", "NaN"]))
    with pytest.raises(ValueError, match="holds the text 'nan'"):
        encoder.read_task(0, np.array(["nan", "a"]))
    encoder.read(np.array(["c", "a"]))  # a label that is wrong in any case


NUMBERS = np.random.default_rng(0).normal(size=N)

HONEST_NUMBERS = {
    "normal": NUMBERS,
    "exponential": np.exp(2 * NUMBERS),
    "many zeros": np.maximum(NUMBERS, 0),
    "counts": DIGITS**2,
    "three levels": np.arange(N) % 3,
    "negative": NUMBERS - 999,
    "one that is far": np.r_[NUMBERS, 50.0],
    "constant": np.full(N, 7.0),
}


@pytest.mark.parametrize("name", HONEST_NUMBERS)
def test_honest_numbers_are_taken_at_their_word(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        TargetEncoder().fit_encode(pd.DataFrame({"y": HONEST_NUMBERS[name]}))


@pytest.mark.parametrize("code", [-999.0, -1e4 + 1, 999.0])
def test_codes_among_numbers_are_told_of_once_and_silent_where_settled(code):
    y = pd.DataFrame({"a": NUMBERS, "b": NUMBERS, "c": NUMBERS})
    y.loc[::10, ["a", "c"]] = code
    with pytest.warns(UserWarning, match=rf"'a' holds {code:g} again.*missing_values={code}.*'c'"):
        TargetEncoder().fit_encode(y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        TargetEncoder(missing_values=code).fit_encode(y)


@pytest.mark.parametrize("code", [-1, 9, 99])
def test_a_code_beside_flags_is_told_of_and_silent_where_settled(code):
    y = np.where(DIGITS == 3, code, np.arange(N) % 2)
    with pytest.warns(UserWarning, match=rf"'y0' holds {code} beside 0 and 1, and is taken for"):
        TargetEncoder().fit_encode(y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for tasks in ({"y0": "regression"}, [Task("y0", "classification")]):
            TargetEncoder(tasks).fit_encode(y)
        TargetEncoder(missing_values=code).fit_encode(y)
