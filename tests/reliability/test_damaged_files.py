"""Files that were damaged, by accident or on purpose: they are refused, or all that is asked works.

What is damaged on purpose has a checksum that is right.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from _files import Sample, at, joined, parts, places_of, samples, tried
from _trials import several

from sklearn_mtl._files.store import seal

pytestmark = pytest.mark.filterwarnings("ignore")  # of what is odd in files that load


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    return samples(tmp_path_factory.mktemp("files"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model"


def chosen(rng: np.random.Generator, items: Any) -> Any:
    return items[rng.integers(len(items))]


def test_samples_load(files, path):
    for sample in files:
        assert tried(path, sample.content, sample) == "loaded"


# -- accidents: the checksum tells ----------------------------------------------------------------


@several("files with a flipped bit", few=150, many=6_000)
def test_a_flipped_bit_is_refused(trials, files, path):
    for rng in trials:
        sample = chosen(rng, files)
        content = bytearray(sample.content)
        n_header = 8 + int.from_bytes(content[:8], "little")
        stop = n_header if rng.random() < 0.5 else len(content)
        content[rng.integers(stop)] ^= 1 << rng.integers(8)
        outcome = tried(path, bytes(content), sample)
        assert outcome == "refused"
        trials.saw(outcome)


def cut(rng: np.random.Generator, content: bytes, other: bytes) -> bytes:
    """Cut, join and overwrite: what disks, networks and editors do to files."""
    a, b = np.sort(rng.integers(1, len(content), size=2))
    match rng.integers(7):
        case 0:
            return content[:a]
        case 1:
            return content[:a] + content[b + 1 :]
        case 2:
            return content[:a] + rng.bytes(b - a + 1) + content[b + 1 :]
        case 3:
            return content + rng.bytes(1 + a % 50)
        case 4:
            return content[:a] + bytes(b - a + 1) + content[b + 1 :]
        case 5:
            return content[:a] + other[a:]
        case _:
            return content[:b] + content[a:]


@several("files cut, joined or overwritten", few=100, many=4_000)
def test_what_is_cut_joined_or_overwritten_is_refused(trials, files, path):
    for rng in trials:
        sample, other = chosen(rng, files), chosen(rng, files)
        content = cut(rng, sample.content, other.content)
        outcome = "the same" if content == sample.content else tried(path, content, sample)
        assert outcome == ("the same" if content in {f.content for f in files} else "refused")
        trials.saw(outcome)


# -- intentions: with a checksum that is right ----------------------------------------------------

ODD: list[Any] = [
    *(None, True, False, -1, 0, 1, 2, 7, 10**9, 10**30, 0.5, -0.0, 5e-324, 1e308),
    *("", "x", "nan", "cpu", "auto", "y0", "\x00", "ß" * 300, [], [[]], [1, 2], {}, {"x": 1}),
    *({"float": "nan"}, {"float": "inf"}, {"float": "-inf"}, {"float": "1_0"}, {"float": "1"}),
    *({"tuple": []}, {"tuple": [[]]}, {"dict": []}, {"dict": [[1, 2]]}, {"set": [1]}),
    *({"array": ["mean_", "<f8"]}, {"scalar": ["<U9", "a"]}, {"numpy_dtype": "|O"}),
    *({"scalar": ["<f8", 1.5]}, {"scalar": ["<i8", 2**70]}, {"scalar": ["|b1", True]}),
    *({"labels": ["|O", [2], ["a", None]]}, {"labels": ["<U1", [0], []]}, {"frozenset": [1]}),
    {"kind": {"dict": [["gamma", {"dict": []}]]}},
    {"unobserved": {"kind": {"dict": [["regression", {"dict": []}]]}}},
    {"reader": {"dict": []}},
    {"encoder": {"dict": []}},
    {"task": {"dict": [["name", "a"]]}},
    {"pandas_dtype": "Int8"},
    {"string_dtype": ["python", True]},
    {"interval": [0, 1, "left"]},
    {"series": [[1], None, {"numpy_dtype": "<i8"}, None]},
    {"index": [["a"], {"numpy_dtype": "|O"}, None]},
    {"categorical_dtype": [{"index": [["a"], {"numpy_dtype": "|O"}, None]}, True]},
    {"narwhals_dtype": "Int8"},
    {"backend": "POLARS"},
    {"trunk": {"dict": [["dense", {"dict": []}]]}},
    {"loss": {"dict": [["uncertainty", {"dict": []}]]}},
    {"optimizer": "LBFGS"},
]


def edited(rng: np.random.Generator, header: dict[str, Any], other: dict[str, Any]) -> Any:
    """Change one place of a header; `other` is that of another file."""
    header = json.loads(json.dumps(header))
    *way, last = chosen(rng, places_of(header))
    part = at(header, tuple(way))
    match rng.integers(7):
        case 0 if isinstance(part, dict | list):
            del part[last]
        case 1 if isinstance(part, list):
            part.append(part[last])
        case 2:  # from elsewhere
            part[last] = at(other, chosen(rng, places_of(other)))
        case 3 if isinstance(part[last], int | float):
            part[last] = chosen(rng, [part[last] + 1, -part[last], part[last] * 1e6, 1 / 3])
        case 4 if isinstance(part, list):
            rng.shuffle(part)
        case 5 if isinstance(part, dict):
            part[chosen(rng, ["x", "_x", "__class__", "predict", "n_outputs", "fit"])] = part[last]
        case _:
            part[last] = chosen(rng, ODD)
    return header


@several("files with an edited header", few=60, many=4_000)
def test_edited_headers_are_refused_or_work(trials, files, path):
    known = [parts(sample.content) for sample in files]
    for rng in trials:
        i, j = rng.integers(len(files), size=2)
        header = edited(rng, known[i][0], known[j][0])
        trials.saw(tried(path, joined(header, known[i][1]), files[i]))
    if trials.are_all:  # parameters of training may be others
        assert 0 < trials.outcomes["loaded"] < 0.5 * trials.done


@several("files with parts of another", few=30, many=2_000)
def test_spliced_headers_are_refused_or_work(trials, files, path):
    """A part at the same place in another file; and now and then, the tensors of another."""
    known = [parts(sample.content) for sample in files]
    for rng in trials:
        i, j = rng.permutation(len(files))[:2]
        (header, tensors), (other, others) = known[i], known[j]
        header = json.loads(json.dumps(header))
        for _ in range(rng.integers(1, 4)):
            place = chosen(rng, [p for p in places_of(other) if len(p) > 1][:400])
            try:
                at(header, place[:-1])[place[-1]] = at(other, place)
            except (KeyError, IndexError, TypeError):
                header[place[0]] = other[place[0]]
        if rng.random() < 0.3:
            tensors = tensors | {n: t for n, t in others.items() if rng.random() < 0.5}
        trials.saw(tried(path, joined(header, tensors), files[i]))


@several("files with other tensors", few=30, many=2_000)
def test_edited_tensors_are_refused_or_work(trials, files, path):
    known = [parts(sample.content) for sample in files]
    for rng in trials:
        i = rng.integers(len(files))
        header, tensors = known[i][0], dict(known[i][1])
        name = chosen(rng, sorted(tensors))
        tensor = tensors[name]
        match rng.integers(8):
            case 0:
                del tensors[name]
            case 1:
                tensors[name] = torch.full_like(tensor, -1)
            case 2 if tensor.is_floating_point():
                tensors[name] = torch.full_like(tensor, chosen(rng, [np.nan, np.inf, 1e38, 0.0]))
            case 3:
                tensors[name] = torch.stack([tensor, tensor])
            case 4:
                tensors[name] = tensor.to(chosen(rng, [torch.int8, torch.float16, torch.bool]))
            case 5:
                tensors[name] = tensors[chosen(rng, sorted(tensors))].clone()
            case 6:
                tensors[name] = tensor.flatten()[:-1].clone()
            case _:
                tensors[f"{name}2"] = tensor.clone()
        trials.saw(tried(path, joined(header, tensors), files[i]))


@several("files with bytes changed, and sealed again", few=60, many=3_000)
def test_changed_bytes_that_are_sealed_are_refused_or_work(trials, files, path):
    for rng in trials:
        sample = chosen(rng, files)
        content = bytearray(sample.content)
        n_header = 8 + int.from_bytes(content[:8], "little")
        for _ in range(rng.integers(1, 4)):
            # Most of what a header of safetensors says comes behind our own.
            place = rng.integers(0 if rng.random() < 0.8 else n_header, len(content))
            place = min(place, n_header - 1) if rng.random() < 0.7 else place
            place = rng.integers(n_header) if rng.random() < 0.5 else place
            content[place] = chosen(rng, b'0123456789,:"-.e[]{}\\aZ\x00\xff')
        trials.saw(tried(path, seal(bytes(content)), sample))
