"""The format of the file: what others, older and newer versions, and attackers have written."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from _asserts import assert_alike, assert_predicts_the_same, assert_random_states_untouched
from _inputs import make_table
from _saved import (
    Change,
    as_text,
    drop,
    drop_tensor,
    fit_table,
    opened,
    put,
    put_tensor,
    rewrite,
)
from safetensors.torch import save_file

from sklearn_mtl import MultiTaskCNNEstimator
from sklearn_mtl._files import schema
from sklearn_mtl._files.formats import FORMAT_VERSION
from sklearn_mtl._fitted import fitted_of
from sklearn_mtl._intervals import SHAPES
from sklearn_mtl._training.copies import rule_of


@pytest.fixture(scope="module")
def fitted() -> MultiTaskCNNEstimator:
    """Treat it as read-only."""
    return fit_table()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"


def test_no_file(path):
    with pytest.raises(FileNotFoundError):
        MultiTaskCNNEstimator.load(path)


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.write_text, (self.path, "boom")


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff" * 99, b"PK\x03\x04" * 9])
def test_foreign_files(content, path):
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is damaged, or is not a safetensors file"):
        MultiTaskCNNEstimator.load(path)


@pytest.mark.parametrize("dump", [pickle.dump, torch.save])
def test_pickles_are_not_run(dump, path, tmp_path):
    with path.open("wb") as file:
        dump(Bomb(tmp_path / "ran"), file)
    with pytest.raises(ValueError, match=r"is a pickle, and not|is not a safetensors file"):
        MultiTaskCNNEstimator.load(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_files_of_others(metadata, path):
    save_file({"module.heads.weight": torch.zeros(1)}, path, metadata=metadata)
    with pytest.raises(ValueError, match="is a safetensors file, but not one that"):
        MultiTaskCNNEstimator.load(path)


@pytest.mark.parametrize("keep", [0, 7, 100, 0.3, 0.7, 0.999])
def test_truncated_files(keep, fitted, path):
    fitted.save(path)
    content = path.read_bytes()
    path.write_bytes(content[: keep if isinstance(keep, int) else int(keep * len(content))])
    with pytest.raises(ValueError, match="is damaged"):
        MultiTaskCNNEstimator.load(path)


def put_two_valued(value: Any) -> Change:
    """A change of which features have no waves."""

    def change(header: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
        state = header["fitted"]["reader"]["reader"]["dict"]
        (item,) = (item for item in state if item[0] == "two_valued_")
        item[1] = value

    return change


def put_error(name: str, value: Any) -> Change:
    """A change of what is known of errors."""

    def change(header: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
        array = tensors[f"errors[{name!r}]"]
        tensors[f"errors[{name!r}]"] = value(array) if callable(value) else value

    return change


CHANGES = {
    "not JSON": as_text("{"),
    "a list": as_text("[]"),
    "deep": as_text("[" * 100_000),
    "empty": as_text("{}"),
    "version is text": put("format_version", value="one"),
    "version is a number in quotes": put("format_version", value="2"),
    "version is negative": put("format_version", value=-1),
    "version is 0": put("format_version", value=0),
    "version is a fraction": put("format_version", value=1.5),
    "no version": drop("format_version"),
    "no package version": drop("package_version"),
    "no params": drop("params"),
    "no fitted": drop("fitted"),
    "no others": drop("others"),
    "no frozen": drop("frozen"),
    "no precision": drop("precision"),
    "params is a list": put("params", value=[]),
    "fitted is text": put("fitted", value="encoder"),
    "others is a list": put("others", value=[["note_", 1]]),
    "no encoder": drop("fitted", "encoder"),
    "no reader": drop("fitted", "reader"),
    "no history": drop("fitted", "history"),
    "nothing out of bag": drop("fitted", "oob"),
    "out of bag is a number": put("fitted", "oob", value=1),
    "more out of bag": put("fitted", "oob", value={"dict": [["oob_", 1]]}),
    "out of bag hides a method": put("fitted", "oob", value={"dict": [["predict", 1]]}),
    "no errors": drop("fitted", "errors"),
    "errors are a number": put("fitted", "errors", value=1),
    "errors of nothing": put("fitted", "errors", value={"dict": [["n", 1]]}),
    "errors of other tasks": put_error("n", lambda n: n[:2].clone()),
    "errors of half a row": put_error("n", lambda n: n / 1e3),
    "errors that fall": put_error("quantiles", lambda q: -q),
    "errors without an end": put_error("ends", lambda e: e * torch.nan),
    "errors that end before": put_error("ends", lambda e: -e),
    "errors with one end": put_error("ends", lambda e: e * torch.tensor([0.0, 1.0]).double()),
    "errors of a class": put_error("std", lambda s: torch.ones_like(s)),
    "errors of infinite slope": put_error("slope", lambda s: s * torch.inf),
    "history of nothing": put("fitted", "history", value={"dict": []}),
    "more is fitted": put("fitted", "x_", value=1),
    "a net of its own": put("fitted", "net", value=1),
    "encoder is a number": put("fitted", "encoder", value=5),
    "reader is an encoder": put("fitted", "reader", value={"encoder": {"dict": []}}),
    "two-valued features are a number": put_two_valued(1),
    "more two-valued features": put_two_valued({"tuple": [0]}),
    "unknown type": put("params", "loss", value={"os.system": "true"}),
    "a tag too many": put("params", "loss", value={"tuple": [], "set": []}),
    "unknown kind": put("others", "x_", value={"kind": {"dict": [["os.system", {"dict": []}]]}}),
    "unknown trunk": put(
        "params", "trunk", value={"trunk": {"dict": [["subprocess.Popen", {"dict": []}]]}}
    ),
    "unknown loss": put("params", "loss", value={"loss": {"dict": [["eval", {"dict": []}]]}}),
    "unknown optimizer": put("params", "optimizer", value={"optimizer": "Evil"}),
    "optimizer by name": put("params", "optimizer", value="lr_scheduler"),
    "unknown dtype": put("others", "x_", value={"numpy_dtype": "V8"}),
    "unknown pandas dtype": put("others", "x_", value={"pandas_dtype": "os.system"}),
    "unknown frame": put("others", "x_", value={"backend": "os"}),
    "task of unknown kind": put(
        "others", "x_", value={"task": {"dict": [["name", "a"], ["kind", "os"]]}}
    ),
    "hides a method": put("others", "predict", value=1),
    "hides a property": put("others", "module_", value=1),
    "hides a parameter": put("others", "tol", value=1),
    "hides callbacks": put("others", "_skl_callbacks", value=[1]),
    "unknown parameter": put("params", "backdoor", value=1),
    "unknown precision": put("precision", value="float8"),
    "too many skorch parameters": put("params", "net_params", value={"dict": [["zzz", 1]]}),
    "trunk of other size": put("params", "trunk", value="dense"),
    "heads of other size": put_tensor("module.heads.weight", torch.zeros(1, 1)),
    "no bias": drop_tensor("module.heads.bias"),
    "a weight too many": put_tensor("module.heads.other", torch.zeros(1)),
    "no array": drop_tensor("task_weights"),
    "frozen is a number": put("frozen", value=1),
    "frozen is text": put("frozen", value="heads.bias"),
    "frozen names no parameter": put("frozen", value=["heads.bias", "heads.other"]),
    "frozen names a part": put("frozen", value=["heads"]),
    "rule of other size": put_tensor("rule.running", torch.ones(4)),
    "rule of no size": put_tensor("rule.running", torch.tensor(1.0)),
    "rule that the loss has not": put_tensor("rule.log_variance", torch.ones(3)),
    "rule of another loss": put("params", "loss", value="uncertainty"),
    "rule of a loss without one": put("params", "loss", value="weighted"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_damaged_headers(change, fitted, path):
    fitted.save(path)
    rewrite(path, change)
    with assert_random_states_untouched(), pytest.raises(ValueError, match="is damaged") as raised:
        MultiTaskCNNEstimator.load(path)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize("name", ["kind", "trunk", "loss", "type"])
def test_what_a_file_cannot_name_is_named(name, fitted, path):
    fitted.save(path)
    rewrite(path, CHANGES[f"unknown {name}"])
    with pytest.raises(ValueError, match=r"'(os.system|subprocess.Popen|eval)' is not a.* knows"):
        MultiTaskCNNEstimator.load(path)


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("errors", {"n": 1}),
        ("errors", {"n": None, "std": None}),
        ("errors", {1: 2}),
        ("errors", dict.fromkeys(SHAPES)),
        ("errors", dict.fromkeys(SHAPES, np.zeros((1, 1)))),
        ("errors", dict.fromkeys(SHAPES, "text")),
        ("errors", []),
        ("oob", {"oob_score_": 1}),
        ("oob", {"oob_prediction_": None, "oob_score_": {}}),
        ("oob", [1]),
        ("history", {}),
        ("history", {"train_loss": 1}),
        ("history", None),
    ],
)
def test_what_was_fitted_is_refused_by_name(part, value, fitted):
    """Names are compared before anything is read, so that no other exception can come of it."""
    state = fitted_of(fitted).state()
    with pytest.raises(ValueError, match=f"^{part}=.* is not what it should be"):
        schema.check(state | {part: value}, {})


@pytest.mark.parametrize(
    "stream",
    [
        {"noise": 1},
        {"optimizer": None},
        {"optimizer": None, "constant_losses": None},
        {"optimizer": None, "constant_losses": np.ones(3), "more": 1},
        [1],
    ],
)
def test_a_stream_is_refused_by_name(stream):
    with pytest.raises(ValueError, match="the state of the stream is not what it should be"):
        schema.check_stream(stream, 3)


def test_rewriting_alone_does_no_damage(fitted, path):
    fitted.save(path)
    rewrite(path, lambda header, tensors: None)
    assert_predicts_the_same(MultiTaskCNNEstimator.load(path), fitted, *make_table(30))


@pytest.mark.parametrize("version", [FORMAT_VERSION + 1, 99])
def test_files_of_a_newer_version(version, fitted, path):
    fitted.save(path)
    rewrite(path, put("format_version", value=version))
    newest = f"up to {FORMAT_VERSION}. Upgrade sklearn-mtl"
    said = rf"{path.name} has format {version}, written by .* {newest}"
    with pytest.raises(ValueError, match=said):
        MultiTaskCNNEstimator.load(path)


def test_parameters_that_an_older_file_lacks_are_at_their_defaults(fitted, path):
    fitted.save(path)
    rewrite(path, drop("params", "tol"))
    assert MultiTaskCNNEstimator.load(path).tol == MultiTaskCNNEstimator().tol


# -- earlier formats -----------------------------------------------------------------------------

GOLDEN = Path(__file__).parents[1] / "golden"
X = np.random.default_rng(0).normal(size=(40, 4))


@pytest.fixture
def first(path: Path) -> Path:
    """A copy of a file of format 1."""
    path.write_bytes((GOLDEN / "format_1.safetensors").read_bytes())
    return path


def test_a_file_of_the_second_format_is_of_that_format():
    header, _ = opened(GOLDEN / "format_2.safetensors")
    assert header["format_version"] == 2
    assert "two_valued_" not in dict(header["fitted"]["reader"]["reader"]["dict"])


def test_a_file_of_the_first_format_is_of_that_format(first):
    header, tensors = opened(first)
    assert header["format_version"] == 1
    assert "compile" in header["params"]  # which is none any more
    assert not {"others", "frozen"} & set(header)
    assert not any(name.startswith("rule.") for name in tensors)


@pytest.mark.parametrize("version", [1, 2, 3, 4, 5])
def test_a_file_of_an_earlier_format_becomes_one_of_today(version, path):
    """At first, networks had waves of every feature, the fourth too, which was 0 or 1."""
    old = MultiTaskCNNEstimator.load(GOLDEN / f"format_{version}.safetensors")
    assert fitted_of(old).reader.two_valued_ == ((3,) if version > 2 else ())
    old.save(path)
    header, _ = opened(path)
    assert header["format_version"] == FORMAT_VERSION
    assert sorted(header["fitted"]) == sorted(fitted_of(old).state())
    assert header["others"] == {}
    new = MultiTaskCNNEstimator.load(path)
    y = old.predict_frame(X)
    assert_predicts_the_same(new, old, X, y)
    for estimator in (old, new):
        estimator.set_params(warm_start=True, conditional_output="estimate").fit(X, y)
    assert_predicts_the_same(new, old, X, y)


@pytest.mark.parametrize("loss", ["logprod", "uncertainty", "weighted"])
def test_training_starts_what_the_first_format_lacks(loss, first):
    """As after a loss of another type, of which nothing is taken: denominators and variances."""
    estimators = []
    for loaded in (loss, "masked_mse"):
        rewrite(first, put("params", "loss", value=loaded))
        estimators.append(MultiTaskCNNEstimator.load(first))
    y = estimators[0].predict_frame(X)
    for estimator in estimators:
        estimator.set_params(loss=loss, warm_start=True).fit(X, y)
    states = [dict(rule_of(estimator.net_).state_dict()) for estimator in estimators]
    assert_alike(*states)
    assert_predicts_the_same(*estimators, X, y)
    assert "factor" in states[0]


@pytest.mark.parametrize(
    "change",
    [
        drop("fitted"),
        drop("fitted", "_encoder"),
        drop("fitted", "_reader"),
        drop("fitted", "history_"),
        put("fitted", "_encoder", value=5),
        put("fitted", "_reader", value={"encoder": {"dict": []}}),
        put("fitted", "predict", value=1),
        put("fitted", "tol", value=1),
        put("fitted", "_skl_callbacks", value=[1]),
        put("params", "backdoor", value=1),
        put_tensor("rule.running", torch.ones(7)),
        drop_tensor("module.heads.bias"),
    ],
)
def test_damaged_files_of_the_first_format(change, first):
    rewrite(first, change)
    with pytest.raises(ValueError, match="has format 1, and cannot be made") as raised:
        MultiTaskCNNEstimator.load(first)
    assert str(first) in str(raised.value)
