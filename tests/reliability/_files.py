"""Files with something of everything, and what an estimator that came from a file is asked."""

from __future__ import annotations

import json
import pickle
import resource
import time
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import polars as pl
import torch
from _saved import make
from _small_table import TASKS, N, X, Y
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from sklearn import config_context
from sklearn.base import clone
from torch import Tensor

from sklearn_mtl import MultiTaskCNNEstimator
from sklearn_mtl._files.store import seal
from sklearn_mtl.networks import ConvTrunk, DenseTrunk

MB = 2**20


def every_kind() -> MultiTaskCNNEstimator:
    """Kinds and a gate in pandas, weights of classes."""
    trunk = DenseTrunk((3,), n_members=2, n_frequencies=1)
    return make(tasks=TASKS, trunk=trunk, class_weight={"class": "balanced"}).fit(X, Y)


def named_columns() -> MultiTaskCNNEstimator:
    """Columns of X by name, members that leave out rows, a loss that learns, an optimizer."""
    y = pd.DataFrame({"on": pd.array(X[:, 0] > 0, dtype="boolean"), "n": np.arange(N) % 4})
    est = make(
        tasks={"n": "poisson"},
        trunk=DenseTrunk((3,), n_members=2, n_frequencies=1),
        max_epochs="auto",
        loss="uncertainty",
        optimizer="SGD",
        random_state=np.random.RandomState(3),
        head_hidden_units=2,
    )
    with config_context(enable_metadata_routing=True):
        est.set_fit_request(sample_weight=True)
    return est.fit(pd.DataFrame(X, columns=["a", "b", "c"]), y)


def images() -> MultiTaskCNNEstimator:
    """Images, targets in polars, and a task that waits for its first target."""
    y = pl.DataFrame(
        {"kind": ["a", "b"] * 20, "length": [1.5, None, 2.5, 3.0] * 10, "later": [None] * N},
        schema_overrides={"kind": pl.Categorical, "length": pl.Float32, "later": pl.Float64},
    )
    est = make(tasks={"later": "regression"}, trunk=ConvTrunk(2, 3), net_params={"compile": False})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return est.fit(pictures(), y)


def pictures() -> np.ndarray:
    return np.random.default_rng(5).normal(size=(N, 1, 5, 5)).astype(np.float32)


class Sample(NamedTuple):
    """A file, and X and y of its estimator."""

    content: bytes
    X: Any
    y: Any


def samples(folder: Path) -> list[Sample]:
    """Write them; they are the same in each run."""
    made = []
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    for est, inputs in ((every_kind(), X), (named_columns(), frame), (images(), pictures())):
        path = folder / "sample"
        est.save(path)
        y = Y if inputs is X else est.predict_frame(inputs)
        made.append(Sample(path.read_bytes(), inputs, y))
    return made


# -- files as parts -------------------------------------------------------------------------------


def parts(content: bytes) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Header and tensors of a file."""
    length = int.from_bytes(content[:8], "little")
    text = json.loads(content[8 : 8 + length])["__metadata__"]["sklearn_mtl"]
    return json.loads(text), load_tensors(content)


def joined(header: dict[str, Any] | str, tensors: dict[str, Tensor]) -> bytes:
    """A file of these parts, with a checksum that is right."""
    text = header if isinstance(header, str) else json.dumps(header, separators=(",", ":"))
    start = '{"checksum":"00000000"'
    if not text.startswith(start):
        text = start + "," + text.removeprefix("{")
    return seal(save_tensors(tensors, metadata={"sklearn_mtl": text}))


def places_of(data: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Ways to every value in JSON."""
    items = data.items() if isinstance(data, dict) else enumerate(data)
    found = []
    for key, value in items:
        found.append((*way, key))
        if isinstance(value, dict | list):
            found += places_of(value, (*way, key))
    return found


def at(data: Any, way: tuple[Any, ...]) -> Any:
    for key in way:
        data = data[key]
    return data


# -- questions ------------------------------------------------------------------------------------


def tried(path: Path, content: bytes, sample: Sample) -> str:
    """Load a file, and ask what came of it all that a fitted estimator answers.

    A ValueError that names the file is a right answer of `load`; so is one of `predict` that the
    network's outputs are not finite, which only running it tells.
    """
    path.write_bytes(content)
    held, start = peak_memory(), time.perf_counter()
    try:
        est = MultiTaskCNNEstimator.load(path)
    except ValueError as error:
        assert str(path) in str(error)  # noqa: PT017
        return "refused"
    finally:
        assert time.perf_counter() - start < 5
        assert peak_memory() - held < 10 * len(content) + 50 * MB
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tasks without targets
        sample = sample._replace(X=as_the_file_says(est, sample.X))
        try:
            known = est.predict(sample.X)
        except ValueError as error:
            assert "output is not finite" in str(error)  # noqa: PT017
            return "computes nothing finite"
        answers_all(est, sample)
        est.save(path)
        again = MultiTaskCNNEstimator.load(path).predict(sample.X)
    np.testing.assert_array_equal(again.astype(str), known.astype(str))
    return "loaded"


def as_the_file_says(est: MultiTaskCNNEstimator, X: Any) -> Any:
    """X of the shape and the names of which a file speaks, as these may be others."""
    shape, names = est._fitted.reader.sample_shape_, getattr(est, "feature_names_in_", None)
    if np.shape(X)[1:] != shape:
        X = np.ones((3, *shape))
    return X if names is None else pd.DataFrame(np.asarray(X), columns=names)


def answers_all(est: MultiTaskCNNEstimator, sample: Sample) -> None:
    """Ask for everything; what stands in a file must not come to light later as another error."""
    for how in ("estimate", "nan", "expected"):
        asked = pickle.loads(pickle.dumps(est)).set_params(conditional_output=how)
        asked.predict(sample.X)
        asked.predict_frame(sample.X)
    for name in est.task_names_:
        est.task_view(name).predict(sample.X)
    if hasattr(est, "predict_proba"):
        est.predict_proba_frame(sample.X)
        proba = est.predict_proba(sample.X)
        for p in proba if isinstance(proba, list) else [proba]:
            assert np.isfinite(p).all()
    est.embed(sample.X)
    est.as_module()
    assert repr(est)
    assert est._repr_html_()
    clone(est)
    for name in vars(est):
        getattr(est, name)
    torch.nn.utils.parameters_to_vector(est.module_.parameters())


def peak_memory() -> int:
    """Return the most bytes that this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
