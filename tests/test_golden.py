"""Predictions that stay: kinds, trunks, losses, streams and files give what they gave before.

The arrays were written by this file itself. Where results are *meant* to change, write them anew,
and say so in the changelog::

    python tests/test_golden.py CASE [CASE ...]   # or --all; --compare tells what is not the same

What files of earlier formats say was written then, and stays: ``--all`` leaves it alone.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from sklearn_mtl import MultiTaskCNNEstimator, Task
from sklearn_mtl.datasets import MultiInput
from sklearn_mtl.losses import LogProd
from sklearn_mtl.networks import ConvTrunk, DenseTrunk, Fusion

GOLDEN = Path(__file__).parent / "golden"
ARRAYS = GOLDEN / "predictions.npz"

Outcome = dict[str, np.ndarray]

TASKS = [
    Task("class", "classification"),
    Task("grade", "ordinal", categories=["low", "mid", "high"]),
    Task("number", "regression"),
    Task("median", "quantile", quantile=0.8),
    Task("count", "poisson"),
    Task("amount", "gamma", given=("class", ["a", "b"])),
]


def table(n: int = 96, seed: int = 0) -> tuple[np.ndarray, pd.DataFrame]:
    """Rows, and a column of each kind with holes."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 4))
    X[:, 3] = X[:, 3] > 0
    label = np.array(list("abc"))[np.digitize(X[:, 0], [-0.5, 0.5])].astype(object)
    grade = np.array(["low", "mid", "high"])[np.digitize(X[:, 1] + X[:, 3], [0, 1])].astype(object)
    amount = np.where(label == "c", np.nan, np.exp(X[:, 2] + rng.normal(size=n)))
    y = pd.DataFrame(
        {
            "class": label,
            "grade": grade,
            "number": 1e3 + 5 * X[:, 0] * X[:, 1],
            "median": X[:, 2] + rng.exponential(size=n),
            "count": rng.poisson(np.exp(X[:, 0])).astype(float),
            "amount": amount,
        }
    )
    holes = rng.random(y.shape) < 0.2
    holes[:, 0] &= np.isnan(amount) == False  # noqa: E712 - a gate stays where it refuses
    return X, y.mask(holes)


def images(shape: tuple[int, ...], n: int = 72) -> tuple[np.ndarray, np.ndarray]:
    """Samples of some shape, a class and a number with holes."""
    rng = np.random.default_rng(len(shape))
    X = rng.normal(size=(n, *shape)).astype(np.float32)
    y = np.column_stack([X.reshape(n, -1)[:, :9].sum(axis=1) > 0, X.reshape(n, -1).mean(axis=1)])
    y[rng.random(n) < 0.3, 1] = np.nan
    return X, y


def outcome(est: Any, X: Any, y: Any) -> Outcome:
    """What a fitted estimator says, in float64."""
    found: Outcome = {}
    frame = est.predict_frame(X)
    for name in est.task_names_:
        values = frame[name].to_numpy()
        if values.dtype.kind in "biuf":
            found[f"predict {name}"] = values.astype(float)
        else:
            found[f"predict {name}"] = values.astype(str)
    if hasattr(est, "classes_"):
        proba = est.predict_proba(X)
        for k, p in enumerate(proba if isinstance(proba, list) else [proba]):
            found[f"proba {k}"] = p
    found["embed"] = est.embed(X)[:4, :16]
    found["score"] = np.array(list(est.score_tasks(X, y).values()))
    found["noise_std"] = est.noise_std_
    for name, values in est.history_.items():
        found[f"history {name}"] = values
    return found


def of_table(**params: Any) -> Outcome:
    X, y = table()
    defaults = {"max_epochs": 2, "batch_size": 32, "random_state": 0, "tasks": TASKS}
    est = MultiTaskCNNEstimator(**(defaults | params)).fit(X, y)
    est.conditional_output = "expected"
    return outcome(est, X, y)


def of_images(shape: tuple[int, ...], input_shape: Any = None, **params: Any) -> Outcome:
    X, y = images(shape)
    params = {"max_epochs": 2, "batch_size": 24, "random_state": 0} | params
    return outcome(MultiTaskCNNEstimator(input_shape=input_shape, **params).fit(X, y), X, y)


def several_inputs(**params: Any) -> Outcome:
    """An image and a table, of which some rows lack one."""
    (images_, _), (X, y) = images((1, 12, 12), 96), table()
    images_[::5], X[1::5] = np.nan, np.nan
    both = MultiInput(image=images_, table=X)
    params = {"max_epochs": 2, "batch_size": 32, "random_state": 0} | params
    return outcome(MultiTaskCNNEstimator(TASKS, **params).fit(both, y), both, y)


def own_trunk() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.Tanh(), nn.Dropout(0.1))


def seeded_trunk() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Linear(4, 8)


def validated() -> Outcome:
    (X, y), (X_val, y_val) = table(), table(48, seed=1)
    est = MultiTaskCNNEstimator(
        TASKS, max_epochs=6, n_iter_no_change=2, early_stopping=True, random_state=0
    )
    weight = np.linspace(0.5, 2, len(X))
    return outcome(est.fit(X, y, weight, X_val=X_val, y_val=y_val), X, y)


def held_out() -> Outcome:
    return of_table(early_stopping=True, n_iter_no_change=2, max_epochs=5, validation_fraction=0.2)


def weighted_cells() -> Outcome:
    X, y = table()
    weight = np.random.default_rng(5).integers(0, 4, size=y.shape)
    est = MultiTaskCNNEstimator(
        TASKS, max_epochs=3, task_weights="n_observed", class_weight="balanced", random_state=1
    )
    return outcome(est.fit(X, y, weight), X, y)


def stream() -> Outcome:
    X, y = table()
    est = MultiTaskCNNEstimator(TASKS, batch_size=16, random_state=0)
    for rows in np.array_split(np.arange(len(X)), 3):
        est.partial_fit(X[rows], y.iloc[rows], {"class": ["a", "b", "c"]})
    return outcome(est, X, y)


def warm() -> Outcome:
    """Without a rule that learns, which a warm start did not keep."""
    X, y = table()
    est = MultiTaskCNNEstimator(
        TASKS, loss="weighted", max_epochs=2, warm_start=True, random_state=0
    )
    return outcome(est.fit(X, y).fit(X, y), X, y)


def saved() -> Outcome:
    X, y = table()
    est = MultiTaskCNNEstimator(TASKS, max_epochs=2, random_state=0).fit(X, y)
    with tempfile.TemporaryDirectory() as folder:
        est.save(Path(folder) / "m.safetensors")
        again = MultiTaskCNNEstimator.load(Path(folder) / "m.safetensors")
    return outcome(again, X, y)


def graph() -> Outcome:
    runtime = pytest.importorskip("onnxruntime", reason="runs the graphs")
    X, y = table()
    est = MultiTaskCNNEstimator(TASKS, max_epochs=2, random_state=0).fit(X, y)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.onnx"
        est.to_onnx(path)
        session = runtime.InferenceSession(path)
        found = session.run(None, {"X": X.astype(np.float32)})
    return dict(zip(est.task_names_, found, strict=True))


def file_of_format(version: int) -> Outcome:
    """A file that the version of then wrote, and what it said then.

    Of ``DenseTrunk((16, 16), 2, 4)``, and since format 3 of smaller ones.
    """
    X, y = table()
    est = MultiTaskCNNEstimator.load(GOLDEN / f"format_{version}.safetensors")
    found = outcome(est, X, y[est.task_names_])
    if version < 4:  # the representation was the mean over members, and without the inputs
        units = est.trunk.hidden_layer_sizes[-1]
        found["embed"] = est.embed(X)[:4].reshape(4, 2, -1)[:, :, :units].mean(axis=1)
    else:
        found["oob_prediction"] = est.oob_prediction_.astype(str)
        found["oob_score"] = np.array(list(est.oob_score_.values()))
        found["oob_decision_function"] = est.oob_decision_function_
    if version > 7:
        found["interval"] = est.predict_interval(X, [0.5, 0.9])[:, 1:].astype(float)
        found["set"] = est.predict_set(X, [0.5, 0.9])
    return found


CASES: dict[str, Callable[[], Outcome]] = {
    **{
        f"loss {loss}": lambda loss=loss: of_table(loss=loss)
        for loss in ("logprod", "weighted", "masked_mse", "uncertainty")
    },
    "loss object": lambda: of_table(loss=LogProd(decay=None, floor=0.01)),
    "loss callable": lambda: of_table(loss=lambda losses, counts: losses.sum()),
    "loss of losses": lambda: of_table(loss=lambda losses: losses.log().sum()),
    "trunk tabm": lambda: of_table(trunk="tabm", max_epochs=1),
    "trunk own": lambda: of_table(trunk=own_trunk, weight_decay=0.1),
    "trunk own, copied": lambda: of_table(trunk=seeded_trunk(), weight_decay=3.0),
    "heads hidden": lambda: of_table(head_hidden_units=4),
    "float32, SGD": lambda: of_table(precision="float32", optimizer="SGD", learning_rate=0.1),
    "bfloat16": lambda: of_table(precision="bfloat16"),
    "defaults": lambda: of_images((5,), max_epochs="auto", batch_size="auto"),
    "sequences": lambda: of_images((2, 12), (2, 12)),
    "sequences, one network": lambda: of_images((2, 12), (2, 12), trunk="conv"),
    "images": lambda: of_images((12, 12)),
    "images, channels last": lambda: of_images((12, 12, 3), data_format="channels_last"),
    "several inputs": several_inputs,
    "several inputs, members": lambda: several_inputs(
        trunk=Fusion({"image": ConvTrunk(2, 8), "table": DenseTrunk((8,), 2)}, (8,))
    ),
    "volumes": lambda: of_images((1, 8, 8, 8)),
    "validation data": validated,
    "early stopping": held_out,
    "weights": weighted_cells,
    "stream": stream,
    "warm start": warm,
    "file": saved,
    "graph": graph,
    **{f"file of format {v}": lambda v=v: file_of_format(v) for v in range(1, 12)},
}

# What processors round differently; files of earlier formats must say what they said.
ROUNDING = {
    "bfloat16": 2e-2,
    "file of format 1": 1e-5,
    "file of format 2": 1e-5,
    "file of format 3": 1e-11,  # in float64
    "file of format 4": 1e-5,
    "file of format 5": 1e-5,
    "file of format 6": 1e-5,
    "file of format 7": 1e-5,
}


def run(case: str) -> Outcome:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {f"{case}: {name}": values for name, values in CASES[case]().items()}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", CASES)
def test_outcome_is_as_before(case: str) -> None:
    """Up to what processors round differently."""
    found = run(case)
    with np.load(ARRAYS) as known:
        names = [name for name in known.files if name.startswith(f"{case}: ")]
        assert sorted(found) == sorted(names)
        rtol = ROUNDING.get(case, 2e-4)
        for name in names:
            if known[name].dtype.kind == "U":
                assert (found[name] == known[name]).mean() > 0.97, name
            else:
                scale = np.nanmax(np.abs(known[name]), initial=1e-9)
                np.testing.assert_allclose(
                    found[name], known[name], rtol=rtol, atol=rtol * scale, err_msg=name
                )


def main(cases: list[str]) -> None:
    """Write the outcomes of some cases, or say which are not the same to the last bit."""
    torch.set_num_threads(1)
    known: Outcome = dict(np.load(ARRAYS)) if ARRAYS.exists() else {}
    if cases == ["--compare"]:
        for case in CASES:
            found = run(case)
            names = {name for name in known if name.startswith(f"{case}: ")} | set(found)
            other = [
                name
                for name in sorted(names)
                if name not in found
                or name not in known
                or not np.array_equal(
                    found[name], known[name], equal_nan=known[name].dtype.kind == "f"
                )
            ]
            print(f"{case}: {'the same' if not other else f'{len(other)} differ, {other[:4]}'}")
        return
    GOLDEN.mkdir(exist_ok=True)
    today = [case for case in CASES if not case.startswith("file of format")]
    for case in today if cases == ["--all"] else cases:
        known = {name: v for name, v in known.items() if not name.startswith(f"{case}: ")}
        known |= run(case)
    np.savez_compressed(ARRAYS, **known)


if __name__ == "__main__":
    main(sys.argv[1:])
