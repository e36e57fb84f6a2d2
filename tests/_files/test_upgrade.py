"""Files of earlier formats: what they held says the same in the layers of today.

The members of a dense trunk once shared their matrices and differed by scales of them. Such a trunk
is built here as one of a user, and what is saved of it is put into a file of format 3.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from _asserts import assert_alike
from _saved import opened, rewrite
from torch import Tensor, nn

from sklearn_mtl import MultiTaskCNNEstimator, Task
from sklearn_mtl._files.codec import encode
from sklearn_mtl._files.formats import FORMAT_VERSION
from sklearn_mtl._fitted import fitted_of
from sklearn_mtl._training.copies import frozen_of, rule_of
from sklearn_mtl.networks import ConvTrunk, DenseTrunk

GOLDEN = Path(__file__).parents[1] / "golden"
N = 40
X = np.random.default_rng(0).normal(size=(N, 4))
X[:, 3] = X[:, 3] > 0
Y = np.column_stack([X[:, 0] > 0, X[:, 1], X[:, 2] + X[:, 3]])
Y[::3, 1] = np.nan
TASKS = [Task("y0", "classification"), Task("y1", "regression"), Task("y2", "quantile")]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"


class SharedLinear(nn.Module):
    """A layer as it was, in the plainest words: one matrix, and scales of it for each member."""

    def __init__(self, n_in: int, n_out: int, n_members: int) -> None:
        super().__init__()
        self.shared = nn.Linear(n_in, n_out, bias=False)
        self.scale_in = nn.Parameter(torch.randn(n_members, n_in))
        self.scale_out = nn.Parameter(torch.randn(n_members, n_out))
        self.bias = nn.Parameter(torch.randn(n_members, n_out))

    def forward(self, x: Tensor) -> Tensor:
        x = x.unsqueeze(1) if x.ndim == 2 else x
        return self.shared(x * self.scale_in) * self.scale_out + self.bias


def old_trunk(
    spec: DenseTrunk, shape: tuple[int, ...], two_valued: tuple[int, ...] = ()
) -> nn.Module:
    """What `spec` built then: as today for one member, but for the layers."""
    single = DenseTrunk(**(spec.get_params() | {"n_members": 1})).build(shape, two_valued)
    layers = (
        SharedLinear(layer.in_features, layer.out_features, spec.n_members)
        if isinstance(layer, nn.Linear)
        else layer
        for layer in single
    )
    return nn.Sequential(*layers).double()


def write_old(path: Path, estimator: MultiTaskCNNEstimator, trunk: Any) -> None:
    """Write what an estimator with an old trunk has learned as a file of format 3."""
    estimator.save(path)

    def change(header: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        header["format_version"] = 3
        header["params"]["trunk"] = encode(trunk, "trunk", tensors)
        assert header["fitted"].pop("oob") == {"dict": []}
        assert header["fitted"].pop("errors") == {"dict": []}

    rewrite(path, change)


def fit_old(
    spec: DenseTrunk, inputs: Any = X, two_valued: tuple[int, ...] = (3,), **params: Any
) -> MultiTaskCNNEstimator:
    torch.manual_seed(0)
    params = {"max_epochs": 2, "random_state": 0, "device": "cpu", "precision": "float64"} | params
    trunk = old_trunk(spec, inputs.shape[1:], two_valued)
    return MultiTaskCNNEstimator(TASKS, trunk=trunk, **params).fit(inputs, Y)


def assert_says_the_same(found: Any, expected: Any, inputs: Any = X) -> None:
    """All raw outputs of all members, to rounding."""
    raw, known = fitted_of(found).raw(inputs), fitted_of(expected).raw(inputs)
    assert raw.shape == known.shape
    assert np.ptp(known, axis=1).max() > 1e-3  # members differ
    np.testing.assert_allclose(raw, known, rtol=1e-10, atol=1e-10)
    assert_alike(found.noise_std_, expected.noise_std_)
    assert_alike(found.history_, expected.history_)


DEFAULT = DenseTrunk((256, 256), n_members=4, frequency_scale=0.3)
IMAGES = np.random.default_rng(1).normal(size=(N, 2, 5, 5))
FLAGS = (X > 0).astype(float)

VARIANTS: dict[str, tuple[DenseTrunk, dict[str, Any]]] = {
    "waves": (DenseTrunk((8, 6), 3, 2), {}),
    "waves of every feature": (DenseTrunk((8, 6), 3, 2), {"inputs": X[:, :3], "two_valued": ()}),
    "no waves": (DenseTrunk((8, 6), 3, 0), {}),
    "two values in every feature": (DenseTrunk(8, 2), {"inputs": FLAGS, "two_valued": range(4)}),
    "one layer": (DenseTrunk(5, 3, 2), {}),
    "many layers": (DenseTrunk([3, 4, 5, 4, 3, 6], 2, 1), {}),
    "hidden heads": (DenseTrunk((8, 6), 3, 2), {"head_hidden_units": 4}),
    "hidden heads, no waves": (DenseTrunk((5,), 3, 0), {"head_hidden_units": 2}),
    "images": (DenseTrunk((6,), 3, 2), {"inputs": IMAGES, "two_valued": ()}),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_members_get_matrices_of_their_own(name, path):
    spec, params = VARIANTS[name]
    old = fit_old(spec, **params)
    write_old(path, old, spec)
    new, inputs = MultiTaskCNNEstimator.load(path), params.get("inputs", X)
    assert_alike(new.trunk, spec)
    assert_says_the_same(new, old, inputs)
    assert fitted_of(new).oob == {}
    assert_alike(dict(rule_of(new.net_).state_dict()), dict(rule_of(old.net_).state_dict()))
    new.save(path)
    assert opened(path)[0]["format_version"] == FORMAT_VERSION
    assert_says_the_same(MultiTaskCNNEstimator.load(path), old, inputs)


@pytest.mark.parametrize(
    ("trunk", "inputs"),
    [("auto", X), ("dense", X), ("dense", IMAGES)],
    ids=["auto", "dense", "2-D"],
)
def test_a_name_becomes_the_spec_that_it_was(trunk, inputs, path):
    old = fit_old(DEFAULT, inputs, two_valued=(3,) if inputs is X else ())
    write_old(path, old, trunk)
    new = MultiTaskCNNEstimator.load(path)
    assert_alike(new.trunk, DEFAULT)
    assert_says_the_same(new, old, inputs)


@pytest.mark.parametrize(
    ("trunk", "inputs"),
    [
        (ConvTrunk(width=2), IMAGES),
        (DenseTrunk((5,), n_members=1), X),
        (DenseTrunk(()), X),
    ],
    ids=["conv", "single", "linear"],
)
def test_other_trunks_are_what_they_were(trunk, inputs, path):
    params = {"max_epochs": 1, "random_state": 0, "device": "cpu", "precision": "float64"}
    old = MultiTaskCNNEstimator(TASKS, trunk=trunk, **params).fit(inputs, Y)
    write_old(path, old, trunk)
    new = MultiTaskCNNEstimator.load(path)
    assert_alike(new.trunk, trunk)
    assert_alike(new.predict(inputs), old.predict(inputs))


@pytest.mark.parametrize("name", ["auto", "conv"])
@pytest.mark.parametrize("inputs", [IMAGES, IMAGES[:, 0]], ids=["images", "sequences"])
def test_a_name_becomes_the_one_network_that_it_was(name, inputs, path):
    """Sequences have members since then, but not those of a file."""
    params = {"max_epochs": 1, "random_state": 0, "device": "cpu", "precision": "float64"}
    params["input_shape"] = inputs.shape[1:]
    old = MultiTaskCNNEstimator(TASKS, trunk="conv", **params).fit(inputs, Y)
    write_old(path, old, name)
    new = MultiTaskCNNEstimator.load(path)
    assert_alike(new.trunk, ConvTrunk())
    assert_alike(new.predict(inputs), old.predict(inputs))
    for estimator in (new, old):
        estimator.set_params(warm_start=True).fit(inputs, Y)
    assert_alike(new.predict(inputs), old.predict(inputs))


def test_a_trunk_of_the_user_stays_whatever_its_layers_are_called(path):
    spec = DenseTrunk((8, 6), 3, 2)
    old = fit_old(spec)
    write_old(path, old, None)

    def change(header: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        del header["params"]["trunk"]

    rewrite(path, change)
    new = MultiTaskCNNEstimator.load(path, trunk=old_trunk(spec, (4,), (3,)))
    assert_alike(new.predict(X), old.predict(X))


FROZEN = {
    "waves": (["trunk.1.phase"], ["trunk.embedding.phase"]),
    "matrix": (["trunk.4.shared.weight"], ["trunk.layers.1.weight"]),
    "biases": (["trunk.2.bias", "heads.bias"], ["trunk.layers.0.bias", "heads.bias"]),
    "scales": (["trunk.2.scale_in", "trunk.4.scale_out"], []),
    "heads": (["heads.weight"], ["heads.weight"]),
}


@pytest.mark.parametrize("go_on", ["fit", "partial_fit"])
@pytest.mark.parametrize("name", FROZEN)
def test_what_is_frozen_stays_frozen(name, go_on, path):
    spec, (before, names) = DenseTrunk((8, 6), 3, 2), FROZEN[name]
    old = fit_old(spec)
    for parameter, tensor in old.module_.named_parameters():
        tensor.requires_grad_(parameter not in before)
    write_old(path, old, spec)
    new = MultiTaskCNNEstimator.load(path).set_params(warm_start=True)
    assert frozen_of(new.net_) == names
    known = {n: p.detach().clone() for n, p in new.module_.named_parameters()}
    getattr(new, go_on)(X, Y)
    assert frozen_of(new.net_) == names
    for n, p in new.module_.named_parameters():
        assert torch.equal(p, known[n]) == (n in names), n


@pytest.mark.parametrize("head_hidden_units", [0, 3])
@pytest.mark.parametrize("go_on", ["fit", "partial_fit"])
def test_training_goes_on_from_what_was_learned(go_on, head_hidden_units, path):
    """And heads may learn from the inputs then."""
    spec = DenseTrunk((8, 6), 3, 2)
    write_old(path, fit_old(spec, head_hidden_units=head_hidden_units, max_epochs=9), spec)
    new = MultiTaskCNNEstimator.load(path).set_params(warm_start=True, max_epochs=1)
    heads = new.module_.heads.hidden if head_hidden_units else new.module_.heads
    assert not heads.weight[:, 6:].any()
    before = fitted_of(new).raw(X)
    still = MultiTaskCNNEstimator.load(path).set_params(warm_start=True, learning_rate=1e-12)
    getattr(still.set_params(max_epochs=1), go_on)(X, Y)
    # Slopes and constants of the outputs are fitted anew by a fit, and nothing else.
    after = fitted_of(still).raw(X)
    if go_on == "partial_fit":
        np.testing.assert_allclose(after, before, atol=1e-8)
    for k in range(before.shape[-1]):
        assert np.corrcoef(after[..., k].ravel(), before[..., k].ravel())[0, 1] > 1 - 1e-8
    getattr(new, go_on)(X, Y)
    heads = new.module_.heads.hidden if head_hidden_units else new.module_.heads
    assert heads.weight[:, 6:].any()
    assert np.isfinite(fitted_of(new).raw(X)).all()


LARGE = np.random.default_rng(2).normal(size=(N, 1, 128, 128)).astype(np.float32)


@pytest.mark.parametrize(
    "trunk",
    ["auto", "conv", ConvTrunk(), ConvTrunk(max_shift=0), ConvTrunk(width=2, n_features=3)],
    ids=repr,
)
def test_large_images_once_went_into_the_stages_as_they_were(trunk, path):
    """Until format 10, trunks had no stride."""
    spec = ConvTrunk() if isinstance(trunk, str) else trunk
    whole = ConvTrunk(**spec.get_params() | {"stride": 1})
    old = MultiTaskCNNEstimator(TASKS, trunk=whole, max_epochs=1, random_state=0, device="cpu")
    old.fit(LARGE[:8], Y[:8]).save(path)

    def change(header: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        header["format_version"] = 9
        header["params"]["trunk"] = encode(trunk, "trunk", tensors)
        if not isinstance(trunk, str):
            ((_, params),) = header["params"]["trunk"]["trunk"]["dict"]
            params["dict"] = [[name, value] for name, value in params["dict"] if name != "stride"]

    rewrite(path, change)
    new = MultiTaskCNNEstimator.load(path)
    assert_alike(new.trunk, whole)
    assert_alike(new.predict(LARGE[:4]), old.predict(LARGE[:4]))


# -- files that earlier versions wrote -----------------------------------------------------------


@pytest.mark.parametrize("version", [1, 2, 3, 4, 5, 6, 7])
def test_a_golden_file_is_of_its_format(version):
    header, tensors = opened(GOLDEN / f"format_{version}.safetensors")
    assert header["format_version"] == version
    assert any(name.endswith(".shared.weight") for name in tensors) == (version < 4)
    assert ("oob" in header["fitted"]) == (version > 3)
    assert ("errors" in header["fitted"]) == (version > 7)
    waves = [name for name in tensors if name.endswith(".frequency")]
    assert [tensors[name].ndim for name in waves] == [3 if version > 4 else 2]
    if version > 1:
        reader = dict(header["fitted"]["reader"]["reader"]["dict"])
        assert ("standardize" in reader) == (version > 5)
    assert ("others" in header) == (version > 1)


def skeleton(path: Path) -> dict[str, Any]:
    """Names of all that a file holds, and how it is tagged, but not its values."""
    header, tensors = opened(path)

    def names(data: Any) -> Any:
        if isinstance(data, list):
            return [names(item) for item in data]
        if not isinstance(data, dict):
            return type(data).__name__
        if "dict" in data:
            return {str(key): names(value) for key, value in data["dict"]}
        return {tag: names(content) for tag, content in data.items()}

    return {"header": names(header), "tensors": sorted(tensors)}


def test_what_is_written_today_is_the_present_format(path):
    """If it is not: see "Files" in CONTRIBUTING.md."""
    golden = GOLDEN / f"format_{FORMAT_VERSION}.safetensors"
    MultiTaskCNNEstimator.load(golden).save(path)
    assert skeleton(path) == skeleton(golden)
    estimator = MultiTaskCNNEstimator.load(golden)
    est = MultiTaskCNNEstimator(**estimator.get_params(deep=False))
    known = skeleton(golden)["header"]
    y = estimator.predict_frame(X)
    y.loc[:2, "class"] = ["a", "b", "c"]
    y.loc[2, "amount"] = np.nan
    est.set_params(tasks={"class": "classification", "number": "regression"})
    est.fit(X, y[["class", "number"]]).save(path)
    found = skeleton(path)["header"]
    assert list(found) == list(known)
    for part in ("params", "fitted"):
        assert list(found[part]) == list(known[part])
    for part in ("encoder", "reader"):
        assert list(found["fitted"][part][part]) == list(known["fitted"][part][part])


def test_frozen_parts_of_the_third_format():
    new = MultiTaskCNNEstimator.load(GOLDEN / "format_3.safetensors")
    assert opened(GOLDEN / "format_3.safetensors")[0]["frozen"] == [
        "trunk.1.phase",
        "trunk.4.shared.weight",
    ]
    assert frozen_of(new.net_) == ["trunk.embedding.phase", "trunk.layers.1.weight"]
    assert fitted_of(new).reader.two_valued_ == (3,)
    assert_alike(new.trunk, DenseTrunk((8, 8), 2, 2, frequency_scale=0.3))


def with_frozen(names: Any) -> Callable[[dict[str, Any], dict[str, Tensor]], None]:
    def change(header: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        header["frozen"] = names

    return change


def without(name: str) -> Callable[[dict[str, Any], dict[str, Tensor]], None]:
    def change(header: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        del tensors[name]

    return change


def renamed(old: str, new: str) -> Callable[[dict[str, Any], dict[str, Tensor]], None]:
    def change(header: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        tensors[new] = tensors.pop(old)

    return change


@pytest.mark.parametrize(
    "change",
    [
        with_frozen(1),
        with_frozen("heads.bias"),
        with_frozen([1]),
        with_frozen(["trunk.3.bias"]),
        without("module.trunk.2.scale_in"),
        without("module.trunk.4.scale_out"),
        without("module.trunk.4.bias"),
        without("module.trunk.2.shared.weight"),
        without("module.trunk.1.phase"),
        without("module.heads.weight"),
        renamed("module.trunk.2.scale_in", "module.trunk.two.scale_in"),
        renamed("module.trunk.2.scale_in", "module.scale_in"),
    ],
)
def test_damaged_files_of_the_third_format(change, path):
    path.write_bytes((GOLDEN / "format_3.safetensors").read_bytes())
    rewrite(path, change)
    with pytest.raises(
        ValueError, match=f"has format 3, and cannot be made one of format {FORMAT_VERSION}"
    ):
        MultiTaskCNNEstimator.load(path)
