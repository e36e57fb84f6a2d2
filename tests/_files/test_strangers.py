"""Files from strangers: what is made to harm is refused, in little time and memory.

Files that are damaged in thousands of ways are tried in `tests/reliability`.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from _saved import Change, make, opened, put, put_tensor, rewrite
from _small_table import TASKS, X, Y

from sklearn_mtl import MultiTaskCNNEstimator
from sklearn_mtl._files.formats import FORMAT_VERSION
from sklearn_mtl.networks import ConvTrunk, DenseTrunk

MB = 2**20


@pytest.fixture(scope="module")
def content(tmp_path_factory) -> bytes:
    """A small file with something of everything."""
    path = tmp_path_factory.mktemp("files") / "model"
    trunk = DenseTrunk((3,), n_members=2, n_frequencies=1)
    make(tasks=TASKS, trunk=trunk, class_weight={"class": "balanced"}).fit(X, Y).save(path)
    return path.read_bytes()


@pytest.fixture
def path(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "model"
    path.write_bytes(content)
    return path


def test_an_array_is_there_once(path):
    header, _ = opened(path)
    mean = {"array": ["mean_", "<f8"]}
    rewrite(path, put("others", "x_", value={"tuple": [header["fitted"]["task_weights"], mean]}))
    with pytest.raises(ValueError, match="cannot be loaded"):
        MultiTaskCNNEstimator.load(path)


# -- sizes ----------------------------------------------------------------------------------------


def trunk(name: str, **params: Any) -> Change:
    items = [[key, value] for key, value in params.items()]
    return put("params", "trunk", value={"trunk": {"dict": [[name, {"dict": items}]]}})


def other(value: Any) -> Change:
    return put("others", "x_", value=value)


HUGE = 10**7

SIZES: dict[str, Change] = {
    "wide": trunk("dense", hidden_layer_sizes=[HUGE, HUGE]),
    "deep": trunk("dense", hidden_layer_sizes=[1] * 100_000),
    "members": trunk("dense", n_members=HUGE),
    "waves": trunk("dense", n_frequencies=HUGE),
    "width of convolutions": trunk("conv", width=HUGE),
    "features": trunk("conv", n_features=10**9),
    "hidden units": put("params", "head_hidden_units", value=HUGE),
    "members of TabM": trunk("tabm", k=HUGE),
    "blocks of TabM": trunk("tabm", n_blocks=HUGE, d_block=1),
    "range": other({"tuple": {"range": [0, 10 * HUGE, 1]}}),
    "strings": other({"labels": ["<U500000000", [2], ["a", "b"]]}),
    "a string": other({"scalar": ["<U500000000", "a"]}),
    "one long string of many": other({"labels": ["<U9", [20_001], ["a" * 50_000] + [""] * 20_000]}),
    "a shape": other({"labels": ["|O", [10**15], []]}),
    "type of a column": other({"numpy_dtype": "<U500000000"}),
    "requests": other([{"requests": ["a", {"dict": []}]}] * 20_000),
    "indexes": other([{"index": [[], {"numpy_dtype": "|O"}, None]}] * 20_000),
    "losses": other([{"loss": {"dict": [["logprod", {"dict": []}]]}}] * 20_000),
    "a long header": other("a" * 5_000_000),
    "an array of bytes as numbers": other({"array": ["module.heads.bias", "<f8"]}),
}


# Strings of any declared width are as wide as they are.
NO_LARGER_THAN_THEY_ARE = {"strings", "a string", "one long string of many"}


@pytest.mark.parametrize("name", SIZES)
def test_sizes_are_compared_before_anything_is_built(name, path):
    rewrite(path, SIZES[name])
    size = path.stat().st_size
    MultiTaskCNNEstimator.load(Path(__file__).parents[1] / "golden" / "format_5.safetensors")
    refused = pytest.raises(ValueError, match="is damaged")
    expected = contextlib.nullcontext() if name in NO_LARGER_THAN_THEY_ARE else refused
    tracemalloc.start()
    before = resident()
    try:
        with expected:
            MultiTaskCNNEstimator.load(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10 * size + 50 * MB
    assert resident() - before < 10 * size + 50 * MB
    start = time.process_time()
    with contextlib.suppress(ValueError):  # as before, but for the eyes of tracemalloc
        MultiTaskCNNEstimator.load(path)
    seconds = time.process_time() - start
    assert seconds < 3


def resident() -> int:
    """Return the most bytes that this process has held so far."""
    resource = pytest.importorskip("resource")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def test_large_images_need_no_memory(tmp_path):
    """A convolution says what it needs of an image by the weights alone."""
    images = np.random.default_rng(0).normal(size=(20, 1, 17, 17)).astype(np.float32)
    path = tmp_path / "model"
    make(trunk=ConvTrunk(2, 3)).fit(images, X[:20, 0]).save(path)
    header, _ = opened(path)
    assert "[1,17,17]" in json.dumps(header, separators=(",", ":"))

    def change(header: dict[str, Any], tensors: dict[str, torch.Tensor]) -> str:
        text = json.dumps(header, separators=(",", ":"))
        return text.replace("[1,17,17]", "[1,22,20000]").replace("[1,1,17]", "[1,22,20000]")

    before = resident()
    rewrite(path, change)
    with pytest.raises(ValueError, match="is damaged"):  # it has more stages
        MultiTaskCNNEstimator.load(path)
    assert resident() - before < 50 * MB


# -- names ----------------------------------------------------------------------------------------

NAMES = {
    "a zone": {"pandas_dtype": "datetime64[ns, dateutil//etc/hosts]"},
    "a zone of an index": {"index": [[], "datetime64[ns, dateutil//etc/hosts]", None]},
    "a zone of a series": {"series": [[], None, "datetime64[ns, Europe/Paris]", None]},
    "a zone of intervals": {"pandas_dtype": "interval[datetime64[ns, Asia/Tokyo], left]"},
    "a zone of Arrow": {"arrow_dtype": "timestamp[s, tz=Asia/Tokyo]"},
    "a period": {"pandas_dtype": "period[D]"},
    "a package": {"backend": "PYSPARK"},
}

LOOKS: list[str] = []
WATCHED: list[bool] = []


def _look(event: str, args: tuple[Any, ...]) -> None:
    if WATCHED and event in ("open", "import"):
        LOOKS.append(f"{event} {args[0]}")


@pytest.mark.parametrize("name", NAMES)
def test_no_name_in_a_file_is_looked_up(name, path):
    rewrite(path, other(NAMES[name]))
    assert_refused_without_a_look(path)


def assert_refused_without_a_look(path: Path) -> None:
    if not getattr(sys, "_looked_at", False):
        sys.addaudithook(_look)
        sys._looked_at = True  # type: ignore[attr-defined]
    LOOKS.clear()
    WATCHED.append(True)
    try:
        with pytest.raises(ValueError, match="cannot be loaded"):
            MultiTaskCNNEstimator.load(path)
    finally:
        WATCHED.clear()
    assert [look for look in LOOKS if str(path) not in look and "lib/python" not in look] == []


@pytest.mark.parametrize("device", ["hpu", "xla", "mps", "meta", "privateuseone", "cuda:99", "?"])
def test_a_device_that_is_not_here_is_the_cpu(device, path):
    rewrite(path, put("params", "device", value=device))
    before = set(sys.modules)
    assert MultiTaskCNNEstimator.load(path).net_.device == "cpu"
    assert not [m for m in set(sys.modules) - before if m.startswith("torch.hpu")]


# -- meaning --------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0, -1.0])
@pytest.mark.parametrize("name", ["scale_", "unit_", "spread_"])
def test_scales_are_finite_and_positive(name, value, path):
    def change(header: dict[str, Any], tensors: dict[str, torch.Tensor]) -> str:
        text = json.dumps(header, separators=(",", ":"))
        start = text.index(f'["{name}",', text.index('"gamma",{"dict":[["mean_"')) + len(name) + 4
        stop = text.index("]", start)
        number = json.dumps({"float": repr(value)}) if value != value or value > 1 else repr(value)
        return text[:start] + number + text[stop:]

    rewrite(path, change)
    with pytest.raises(ValueError, match=r"kinds_=.* is not what it should be"):
        MultiTaskCNNEstimator.load(path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("scale_", torch.tensor([1.0, 0.0, 1.0]).double()),
        ("mean_", torch.tensor([1.0, torch.nan, 1.0]).double()),
        ("mean_", torch.ones(4).double()),
        ("scale_", torch.ones(3, 1).double()),
    ],
)
def test_means_and_scales_of_inputs(name, value, path):
    _, tensors = opened(path)
    (full,) = [n for n in tensors if n.startswith("reader") and f"'{name}'" in n]
    rewrite(path, put_tensor(full, value))
    with pytest.raises(ValueError, match=f"{name}=.* is not what it should be"):
        MultiTaskCNNEstimator.load(path)


@pytest.mark.parametrize("weight", ["module.heads.weight", "module.trunk.layers.0.bias"])
def test_weights_are_finite(weight, path):
    _, tensors = opened(path)
    rewrite(path, put_tensor(weight, torch.full_like(tensors[weight], torch.nan)))
    with pytest.raises(ValueError, match="weights are not finite"):
        MultiTaskCNNEstimator.load(path)


@pytest.mark.parametrize("version", [0, -5, True, "01", 1.0, 1.9, None, [5]])
def test_versions_are_whole_numbers_from_1(version, path):
    rewrite(path, put("format_version", value=version))
    with pytest.raises(ValueError, match=r"there is no format"):
        MultiTaskCNNEstimator.load(path)


def test_an_older_version_is_no_way_around_the_checksum(path, content):
    width = len(str(FORMAT_VERSION))  # the header is as long as it says
    now, before = (
        f'\\"format_version\\":{v:{width}}'.encode() for v in (FORMAT_VERSION, FORMAT_VERSION - 1)
    )
    older = content.replace(now, before)
    assert older != content
    path.write_bytes(older)
    with pytest.raises(ValueError, match="checksum"):
        MultiTaskCNNEstimator.load(path)
    path.write_bytes(content)
    rewrite(path, lambda header, tensors: header.pop("checksum") and None)
    with pytest.raises(ValueError, match="checksum"):
        MultiTaskCNNEstimator.load(path)
