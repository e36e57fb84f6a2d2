"""Beyond memory, one process and a few tasks: what it costs, by sections.

Times are CPU seconds of this process and its threads, so that neighbours of the machine do not
count, unless said otherwise. Each figure stands beside what it has to be.

*reading*. An epoch's batches of a memmap, HDF5 and Zarr against an array in memory, in turns; and
shuffled reads against a pass in order.

*cold*. Rows a second of a memmap that is not in the page cache.

*sorting*. Scores on rows that are sorted.

*passes*. What is read besides the epochs, as a share of one.

*untold*. What a row costs that has no target, as a share of one that has.

*folds*. The private memory that a search adds over that of a fit, with an X in a file.

*clusters*. Wall time of a search by two workers of Dask and of Ray, beside that in two processes by
joblib alone, on a machine with nothing else to do; and whether scores are the same. It needs
``pip install "sklearn-mtl[dask,ray]"``.

*serving*. Answers of ``serve_fastapi.py`` over HTTP on the loopback: wall time, and whether they
are right. It needs ``pip install "sklearn-mtl[serve,onnx]"``.

*memory*. The private memory of a fit and a prediction of a memmap of many images (`--gigabytes`).

*tasks*. The memory of a process that fits thousands of tasks, of which few cells are observed, and
its CPU time per observed cell beside that of 20 tasks without holes; what predictions and scores of
five times as many tasks take.

    python examples/benchmarks/scale.py
    python examples/benchmarks/scale.py reading folds
    python examples/benchmarks/scale.py memory --gigabytes 20
"""

import argparse
import contextlib
import functools
import http.client
import json
import math
import os
import runpy
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

import h5py
import joblib
import numpy as np
import torch
import zarr
from real_data import publish
from sklearn.model_selection import GridSearchCV

from sklearn_mtl import MultiTaskCNNEstimator, Task
from sklearn_mtl._data.encoded import EncodedTargets
from sklearn_mtl._data.fused import as_inputs, reader_for
from sklearn_mtl._training import batches as batches_of
from sklearn_mtl._training.batches import Batches
from sklearn_mtl._training.recipe import Recipe
from sklearn_mtl._training.windows import shuffled_windows
from sklearn_mtl.datasets import RowsOnDisk
from sklearn_mtl.networks import ConvTrunk, DenseTrunk


class Figure(NamedTuple):
    """What was measured, and what it has to be."""

    what: str
    value: float
    unit: str = ""
    most: float = math.inf
    least: float = -math.inf

    @property
    def missed(self) -> bool:
        """Tell whether it is not what it has to be."""
        return not self.least <= self.value <= self.most

    def __str__(self) -> str:
        """Lay it out as a line of a table."""
        bound = f"at least {self.least:g}" if self.least > -math.inf else ""
        bound = f"at most {self.most:g}" if self.most < math.inf else bound
        return f"{self.what:62s}{self.value:12.5g} {self.unit:10s}{bound:16s}" + (
            "  FAILED" if self.missed else ""
        )


SECTIONS: dict[str, Callable[[Any, Path], Iterator[Figure]]] = {}


def section(measure: Callable[[Any, Path], Iterator[Figure]]) -> Any:
    """Let a function be a section of that name: it takes the arguments, and an empty folder."""
    SECTIONS[measure.__name__] = measure
    return measure


def cpu_seconds(run: Callable[[], Any], n_turns: int = 3) -> float:
    """CPU seconds of this process: the least of some turns."""
    found = []
    for _ in range(n_turns):
        start = time.process_time()
        run()
        found.append(time.process_time() - start)
    return min(found)


def cpu_of_both(one: Callable[[], Any], other: Callable[[], Any]) -> tuple[float, float]:
    """CPU seconds of two runs, in turns, as neighbours change what a second is worth."""
    pairs = [(cpu_seconds(one, 1), cpu_seconds(other, 1)) for _ in range(4)]
    return min(a for a, _ in pairs), min(b for _, b in pairs)


# -- reading ---------------------------------------------------------------------------------

SHAPE = 3, 64, 64


def images(n: int, seed: int = 0) -> np.ndarray:
    """Noise that is the same in every second row of an image, so that it can be packed."""
    some = np.random.default_rng(seed).normal(128, 30, size=(min(n, 512), *SHAPE)).astype(np.uint8)
    some[:, :, ::2] = some[:, :, :1]
    return np.concatenate([some] * math.ceil(n / len(some)))[:n]


def stored(X: np.ndarray, folder: Path, n_chunk: int) -> dict[str, Any]:
    """Put an array into files of several kinds."""
    chunks = (n_chunk, *X.shape[1:])
    np.save(folder / "X.npy", X)
    found: dict[str, Any] = {"memmap": np.load(folder / "X.npy", mmap_mode="r")}
    for packed in ("lzf", "gzip"):
        path = folder / f"{packed}.h5"
        with h5py.File(path, "w") as file:
            file.create_dataset("X", data=X, chunks=chunks, compression=packed)
        found[f"HDF5, {packed}"] = h5py.File(path, "r")["X"]
    found["Zarr"] = zarr.create_array(folder / "X.zarr", data=X, chunks=chunks)
    return found


def batches(X: Any, seed: int = 0) -> Batches:
    """Batches of 128, in a new order in each pass, as `fit` has them."""
    n = X.shape[0]
    reader = reader_for(X, None, "channels_first", "Est")
    reader.fit(as_inputs(X), np.arange(0, n, max(1, n // 200)), np.ones(n))
    recipe = Recipe(1, 128, 1e-3, "AdamW", 0.0, "cpu", "float32", 0, {})
    targets = EncodedTargets(np.zeros((n, 1)), np.ones((n, 1)))
    return Batches(
        reader.of(as_inputs(X)), targets, np.arange(n), recipe, order=np.random.default_rng(seed)
    )


def epoch(of: Batches) -> None:
    """Read all batches, and nothing else."""
    for _ in of:
        pass


def in_order(x: Any, n_chunk: int) -> None:
    """Read all chunks, one after the other."""
    for start in range(0, x.shape[0], n_chunk):
        np.asarray(x[start : start + n_chunk])


def shuffled(x: Any, n_chunk: int) -> None:
    """Read all rows as an epoch does."""
    rows = RowsOnDisk(x)
    blocks, n_rows = rows.blocks(np.arange(len(rows))), batches_of.WINDOW_BYTES // math.prod(SHAPE)
    order = np.random.default_rng(0)
    for window in shuffled_windows(blocks, math.ceil(len(rows) / 128), n_rows, order):
        rows.take(np.sort(np.concatenate(window)))


@section
def reading(args: Any, folder: Path) -> Iterator[Figure]:
    """What it costs to read rows, in order and in none."""
    n = args.rows
    X = images(n)
    memory = functools.partial(epoch, batches(X))
    what = f"array in memory: batches of {n:,} images of 64 px"
    yield Figure(what, 1e6 * cpu_seconds(memory) / n, "us/row")
    for n_chunk in (64, 256):
        (folder / str(n_chunk)).mkdir()
        for kind, x in stored(X, folder / str(n_chunk), n_chunk).items():
            name = kind if kind == "memmap" else f"{kind}, chunks of {n_chunk}"
            base, all_in_all = cpu_of_both(memory, functools.partial(epoch, batches(x)))
            bounds = {"memmap": 0.8, "HDF5, lzf": 0.5, "HDF5, gzip": 0.5, "Zarr": 0.5}
            least = bounds[kind] if n_chunk == 64 else -math.inf
            share = base / all_in_all
            yield Figure(f"{name}: rows a second, of those in memory", share, "", least=least)
            if kind == "memmap":
                continue
            ours, plain = (
                cpu_seconds(functools.partial(read, x, n_chunk)) for read in (shuffled, in_order)
            )
            yield Figure(f"{name}: shuffled, times a pass in order", ours / plain, "", most=2.0)
            alone = (plain + base) / base
            yield Figure(f"{name}: at most possible, as unpacking has its time", 1 / alone)


@section
def cold(args: Any, folder: Path) -> Iterator[Figure]:
    """Rows a second of a memmap that is in no cache; wall time, as the disk is what counts."""
    path = folder / "cold.bin"
    n = args.cold_rows
    with path.open("wb") as file:
        for seed in range(math.ceil(n / 1000)):
            file.write(np.random.default_rng(seed).bytes(1000 * math.prod(SHAPE)))
        file.flush()
        os.fsync(file.fileno())
    n = 1000 * math.ceil(n / 1000)
    rng, speeds = np.random.default_rng(0), {}
    for way in ("numpy", "ours"):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        X = np.memmap(path, np.uint8, "r", shape=(n, *SHAPE))
        start, done = time.perf_counter(), 0
        while done < 1024 and time.perf_counter() - start < 20:
            rows = np.sort(rng.choice(n, min(n, 256), replace=False))
            _ = X[rows] if way == "numpy" else RowsOnDisk(X).take(rows)
            done += len(rows)
        speeds[way] = done / (time.perf_counter() - start)
        del X
    size = f"{n * math.prod(SHAPE) / 1e9:.1f} GB"
    yield Figure(f"cold memmap of {size}: rows a second, by numpy alone", speeds["numpy"])
    times = speeds["ours"] / speeds["numpy"]
    yield Figure(
        "cold memmap: rows a second, times those of numpy", times, "", least=args.least_cold
    )


class Chunks:
    """An array in memory that says that it is in chunks."""

    def __init__(self, values: np.ndarray, n_chunk: int) -> None:
        self.values, self.shape, self.dtype = values, values.shape, values.dtype
        self.chunks = (n_chunk, *values.shape[1:])

    def __getitem__(self, rows: slice) -> np.ndarray:
        return self.values[rows]


@section
def sorting(args: Any, folder: Path) -> Iterator[Figure]:
    """R2 on new rows, where those to learn from are sorted by a feature, by blocks per window."""
    n, n_test = args.sorted_rows, 4000

    def draw(n: int, rng: Any) -> tuple[np.ndarray, np.ndarray]:
        X = rng.normal(size=(n, 10)).astype(np.float32)
        signal = np.sin(2 * X[:, 0]) + X[:, 1] * X[:, 2] + X[:, 3]
        return X, np.column_stack([signal + rng.normal(size=n), np.abs(X[:, 4]) + X[:, 0]])

    scores: dict[str, list[float]] = {}
    for seed in range(args.seeds):
        rng = np.random.default_rng(seed)
        (X, y), test = draw(n, rng), draw(n_test, rng)
        order = np.argsort(X[:, 0])
        X, y = X[order], y[order]
        est = MultiTaskCNNEstimator(
            trunk=DenseTrunk((64,), n_members=1), max_epochs=10, batch_size=64, random_state=seed
        )
        for n_blocks in (None, 64, 8, 1):  # in a window of an eighth of the rows
            size = n // 8
            rows: Any = X
            if n_blocks is not None:
                rows = RowsOnDisk(Chunks(X, 1), block=size // n_blocks)
            before = batches_of.WINDOW_BYTES
            batches_of.WINDOW_BYTES = size * 40
            try:
                score = est.fit(rows, y).score(*test)
            finally:
                batches_of.WINDOW_BYTES = before
            name = "row by row" if n_blocks is None else f"{n_blocks} blocks in a window"
            scores.setdefault(name, []).append(score)
    base = np.mean(scores.pop("row by row"))
    yield Figure(f"{n:,} sorted rows, {args.seeds} seeds: score, shuffled row by row", float(base))
    for name, found in scores.items():
        most = args.most_lost if name.startswith("64") else math.inf
        yield Figure(
            f"sorted rows: score lost, {name}", float(base - np.mean(found)), "", most=most
        )


@section
def passes(args: Any, folder: Path) -> Iterator[Figure]:
    """What is read besides the epochs, as a share of one, where X is said to be too large."""
    X = images(args.pass_rows)
    y = X.mean(axis=(1, 2, 3)) / 100.0
    y = np.column_stack([y, y > np.median(y)])
    from sklearn_mtl._data import inputs
    from sklearn_mtl._training import fit

    trunk = ConvTrunk(width=8)
    MultiTaskCNNEstimator(trunk=trunk, max_epochs=1).fit(X[:256], y[:256])  # the first one imports
    for name, n_values in (("all rows", 2**60), ("some rows", X.size // 80)):
        before = inputs.SAMPLE_VALUES, fit.SAMPLE_VALUES, fit.CLOSING_ROWS
        inputs.SAMPLE_VALUES = fit.SAMPLE_VALUES = n_values
        # As 2**28 values, and 2**14 rows, of 1.7 million images.
        fit.CLOSING_ROWS = max(1, len(X) // 100)
        est = MultiTaskCNNEstimator(trunk=trunk, random_state=0, batch_size=128)
        try:
            one, three = (
                cpu_seconds(functools.partial(est.set_params(max_epochs=k).fit, X, y), args.turns)
                for k in (1, 3)
            )
        finally:
            inputs.SAMPLE_VALUES, fit.SAMPLE_VALUES, fit.CLOSING_ROWS = before
        of_epoch = (three - one) / 2
        most = args.most_passes if name == "some rows" else math.inf
        share = (one - of_epoch) / of_epoch
        what = f"statistics and closing by {name}, epochs of conv"
        # Less than nothing is noise, and shows nothing.
        yield Figure(what, share, "", most=most, least=args.least_passes)


@section
def untold(args: Any, folder: Path) -> Iterator[Figure]:
    """What rows without a target cost: 99.5 % of a table, and of small images."""
    n, rng = args.untold_rows, np.random.default_rng(0)
    y = rng.normal(size=(n, 2))
    y[rng.random(n) > 0.005] = np.nan
    told = ~np.isnan(y[:, 0])
    inputs = {
        "a table": (rng.normal(size=(n, 8)).astype(np.float32), "auto"),
        "images of 8 px": (rng.integers(0, 255, (n, 3, 8, 8), np.uint8), ConvTrunk(width=8)),
    }
    for name, (X, trunk) in inputs.items():
        est = MultiTaskCNNEstimator(trunk=trunk, max_epochs=10, random_state=0)
        est.fit(X[told], y[told])  # the first one imports
        some, every = (
            cpu_seconds(functools.partial(est.fit, X[rows], y[rows]), args.turns)
            for rows in (told, slice(None))
        )
        cost = some / told.sum()
        yield Figure(f"{name}, 10 epochs: CPU of a row with targets", 1e6 * cost, "us")
        what = f"{name}: CPU of a row without, of one with"
        yield Figure(what, (every - some) / (n - told.sum()) / cost, "", most=args.most_untold)


# -- memory ----------------------------------------------------------------------------------

PRIVATE = """
import sys, threading, time
import numpy as np
import torch
from sklearn.model_selection import GridSearchCV, ShuffleSplit
from sklearn_mtl import MultiTaskCNNEstimator
from sklearn_mtl.datasets import RowsOnDisk
from sklearn_mtl.networks import ConvTrunk

torch.set_num_threads(1)
path, n, what, observed = sys.argv[1], int(sys.argv[2]), sys.argv[3], float(sys.argv[4])
X = np.memmap(path, np.uint8, "r", shape=(n, 3, 64, 64))
rng = np.random.default_rng(0)
y = rng.normal(size=(n, 2))
y[rng.random(n) > observed] = np.nan

def private():  # anonymous memory, in MB: the page cache of the file is not ours
    lines = open("/proc/self/status").read().splitlines()
    ours = [line for line in lines if line.startswith(("RssAnon", "RssShmem"))]
    return sum(int(line.split()[1]) for line in ours) / 1e3

if sys.argv[5] == "warm":  # modules that a first search loads
    few = MultiTaskCNNEstimator(trunk=ConvTrunk(width=2), max_epochs=1, random_state=0)
    GridSearchCV(few, {"learning_rate": [1e-3]}, cv=2).fit(RowsOnDisk(X[:64]), rng.normal(size=64))
most, ended = [private()], threading.Event()
def watch():
    while not ended.wait(0.02):
        most.append(private())
before = private()
threading.Thread(target=watch, daemon=True).start()
est = MultiTaskCNNEstimator(
    trunk=ConvTrunk(width=2), max_epochs=1, batch_size=256, random_state=0
)
start = time.process_time()
if what == "fit":
    est.fit(X, y)
elif what == "predict":
    est.fit(X[:256], rng.normal(size=256)).predict(X[: int(n * observed)])
else:  # a score predicts all rows of a fold
    cv = ShuffleSplit(3, train_size=2 / 3, test_size=observed / 3, random_state=0)
    GridSearchCV(est, {"learning_rate": [1e-3, 2e-3]}, cv=cv).fit(RowsOnDisk(X), y)
ended.set()
print(before, max(most), time.process_time() - start)
"""


def private_memory(
    path: Path, n: int, what: str, observed: float, warm: bool = False
) -> tuple[float, float]:
    """MB that are added by a fit, a prediction or a search in a process of its own; CPU seconds.

    Code is not counted in a `warm` process, which has made a small search before.
    """
    command = [sys.executable, "-c", PRIVATE, str(path), str(n), what, str(observed)]
    command.append("warm" if warm else "cold")
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    before, most, seconds = map(float, done.stdout.split())
    return most - before, seconds


def sparse_file(folder: Path, gigabytes: float) -> tuple[Path, int]:
    """Make a file of images that are zero, which take no room on the disk."""
    path, n = folder / "sparse.bin", int(gigabytes * 1e9 / math.prod(SHAPE))
    with path.open("wb") as file:
        file.truncate(n * math.prod(SHAPE))
    return path, n


@section
def folds(args: Any, folder: Path) -> Iterator[Figure]:
    """What a search over a memmap adds to the memory of a fit."""
    path, n = sparse_file(folder, args.fold_gigabytes)
    fit, _ = private_memory(path, n, "fit", args.observed, warm=True)
    search, _ = private_memory(path, n, "search", args.observed, warm=True)
    size = f"{args.fold_gigabytes:g} GB"
    # Of many rows, their numbers alone are tens of MB in each fold.
    most = 50 if args.fold_gigabytes <= 2 else 200
    yield Figure(f"fit of a memmap of {size}: private memory", fit, "MB")
    yield Figure("GridSearchCV over it adds to that of the fit", search - fit, "MB", most=most)
    yield Figure("GridSearchCV over it adds in all", search, "MB", most=args.most_memory)


@section
def memory(args: Any, folder: Path) -> Iterator[Figure]:
    """What a fit and a prediction of many images need."""
    path, n = sparse_file(folder, args.gigabytes)
    for what in ("fit", "predict"):
        most, seconds = private_memory(path, n, what, args.observed)
        n_rows = int(n * args.observed)
        size = f"{args.gigabytes:g} GB, {n_rows:,} images used"
        yield Figure(f"{what} of a memmap of {size}", most, "MB", most=args.most_memory)
        yield Figure(f"{what}: CPU", 1e6 * seconds / n_rows, "us/row")


# -- tasks -----------------------------------------------------------------------------------

MANY = """
import sys, threading, time
import numpy as np
import torch
from scipy.sparse import csr_array
from sklearn_mtl import MultiTaskCNNEstimator

torch.set_num_threads(1)
n, n_tasks, observed, what = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
rng = np.random.default_rng(0)
X = rng.normal(size=(n, 20)).astype(np.float32)
weights = rng.normal(size=(20, n_tasks))
each = max(1, round(n_tasks * observed))
y = np.empty((n, each))
tasks = np.empty((n, each), dtype=np.int32)
for at in range(0, n, 500):
    some = X[at : at + 500]
    order = rng.random((len(some), n_tasks)).argsort(axis=1)[:, :each]
    tasks[at : at + 500] = np.sort(order, axis=1)
    y[at : at + 500] = np.take_along_axis(some @ weights, tasks[at : at + 500], axis=1)
y += rng.normal(size=y.shape)
del order, some, weights
if each < n_tasks:
    y = csr_array((y.ravel(), tasks.ravel(), np.arange(0, y.size + 1, each)), shape=(n, n_tasks))
del tasks
cells = n * each

def resident():  # MB
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 1e6

def made(X, y):
    return MultiTaskCNNEstimator(max_epochs=1, random_state=0).fit(X, y)

made(X[:200], X[:200, :2])  # the first one imports
most, ended = [resident()], threading.Event()
def watch():
    while not ended.wait(0.02):
        most.append(resident())
if what == "predict":
    estimator = made(X[:300], y[:300])
    y = y.toarray()
    most = [resident()]
threading.Thread(target=watch, daemon=True).start()
before, times = most[0], []
for _ in range(1 if what == "fit" else 3):
    start = time.process_time()
    if what == "fit":
        made(X, y)
    else:
        estimator.score(X, y)
    times.append(time.process_time() - start)
ended.set()
of_row = []
for _ in range(5 if what == "predict" else 0):
    start = time.process_time()
    estimator.predict(X[:1])
    of_row.append(time.process_time() - start)
print(cells, max(most), max(most) - before, min(times), min(of_row, default=0))
"""


def many_tasks(n: int, n_tasks: int, observed: float, what: str) -> list[float]:
    """Cells, MB in all and added, CPU seconds of a fit or score, and of predicting a row."""
    command = [sys.executable, "-c", MANY, *map(str, (n, n_tasks, observed)), what]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [*map(float, done.stdout.split())]


@section
def tasks(args: Any, folder: Path) -> Iterator[Figure]:
    """What thousands of tasks take."""
    n, n_tasks = args.task_rows, args.tasks
    cells, *_, seconds, _ = many_tasks(n, 20, 1.0, "fit")
    base = 1e6 * seconds / cells
    yield Figure(f"20 tasks without holes, {n:,} rows: fit of an epoch", base, "us/cell")
    cells, most, added, seconds, _ = many_tasks(n, n_tasks, 0.05, "fit")
    what = f"{n_tasks:,} tasks, 95 % holes, y sparse"
    yield Figure(f"{what}: memory of the process", most, "MB", most=4000)
    yield Figure(f"{what}: a fit adds", added, "MB")
    of_y = n * n_tasks * 8 / 1e6
    yield Figure(f"{what}: a fit adds, times a dense y", added / of_y, "")
    found = 1e6 * seconds / cells
    yield Figure(f"{what}: fit of an epoch", found, "us/cell")
    yield Figure(f"{what}: time per cell, times that of 20", found / base, "", most=3)
    n, n_tasks = args.score_rows, 5 * n_tasks
    _, _, added, seconds, of_row = many_tasks(n, n_tasks, 0.05, "predict")
    what = f"{n_tasks:,} tasks, {n:,} rows"
    yield Figure(f"{what}: score", seconds, "s", most=5)
    of_y = n * n_tasks * 8 / 1e6
    yield Figure(f"{what}: a score adds, times y", added / of_y, "", most=args.most_of_y)
    yield Figure(f"{what}: prediction of one row", 1e3 * of_row, "ms", most=50)


# -- clusters --------------------------------------------------------------------------------


@contextlib.contextmanager
def dask_workers(*data: np.ndarray) -> Iterator[None]:
    """Let joblib use two workers of Dask, to each of which data are sent once."""
    import dask
    from dask.distributed import Client, LocalCluster

    kept = runpy.run_path(str(Path(__file__).resolve().parents[1] / "cluster_search_dask.py"))[
        "KEPT"
    ]
    one_core_each = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with dask.config.set(kept):
        cluster = LocalCluster(host="127.0.0.1", **one_core_each)
    with cluster, Client(cluster), joblib.parallel_config("dask", n_jobs=2, scatter=[*data]):
        yield


@contextlib.contextmanager
def ray_workers(*data: np.ndarray) -> Iterator[None]:
    """Let joblib use two workers of Ray, which stores large data once itself."""
    import ray
    from ray.util.joblib import register_ray

    ray.init(num_cpus=2, include_dashboard=False, _node_ip_address="127.0.0.1")
    register_ray()
    try:
        with joblib.parallel_config("ray", n_jobs=2):
            yield
    finally:
        ray.shutdown()


@section
def clusters(args: Any, folder: Path) -> Iterator[Figure]:
    """Searches by two workers, which are there already and have imported what they need."""
    X, y = table(args.cluster_rows)

    def search(max_epochs: int) -> GridSearchCV:
        est = MultiTaskCNNEstimator(max_epochs=max_epochs, random_state=0)
        return GridSearchCV(est, {"learning_rate": [0.001, 0.003]}, cv=2, refit=False).fit(X, y)

    def timed() -> tuple[float, dict[str, Any]]:
        search(max_epochs=1)
        start = time.perf_counter()
        found = search(args.cluster_epochs).cv_results_
        return time.perf_counter() - start, found

    with joblib.parallel_config("loky", n_jobs=2):
        base, local = timed()
    yield Figure("a fit of four", local["mean_fit_time"].mean(), "s", least=args.least_fit)
    yield Figure("joblib alone, two processes", base, "s")
    for name, workers in {"Dask": dask_workers, "Ray": ray_workers}.items():
        with workers(X, y):
            seconds, found = timed()
        yield Figure(f"{name}: time, of that of joblib alone", seconds / base, most=args.most_time)
        others = [k for k in local if k.endswith("score") and (found[k] != local[k]).any()]
        yield Figure(f"{name}: columns of scores that differ", len(others), most=0)


# -- serving ---------------------------------------------------------------------------------


def table(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows with a class, and a number that is observed in half of them."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 20)).astype(np.float32)
    number = np.where(rng.random(n) < 0.5, X[:, 1] * X[:, 2], np.nan)
    return X, np.column_stack([X[:, 0] + X[:, 3] > 0, number])


SERVER = """
import sys
sys.path.insert(0, sys.argv[1])
import uvicorn
from serve_fastapi import make_app
uvicorn.run(make_app(sys.argv[2]), host="127.0.0.1", port=int(sys.argv[3]), log_level="error")
"""


def request(to: http.client.HTTPConnection, rows: np.ndarray) -> tuple[float, Any]:
    """Send rows, and return seconds and what came back."""
    start = time.perf_counter()
    body = json.dumps({"rows": rows.tolist()})
    to.request("POST", "/predict", body, {"Content-Type": "application/json"})
    answer = json.loads(to.getresponse().read())
    return time.perf_counter() - start, answer


@contextlib.contextmanager
def served(path: Path) -> Iterator[int]:
    """Start the server of the example in a process of its own, and return its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    examples = str(Path(__file__).resolve().parents[1])
    server = subprocess.Popen([sys.executable, "-c", SERVER, examples, str(path), str(port)])
    try:
        while True:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            if server.poll() is not None:
                raise RuntimeError("The server has not started.")
            time.sleep(0.05)
        yield port
    finally:
        server.terminate()
        server.wait()


@section
def serving(args: Any, folder: Path) -> Iterator[Figure]:
    """Wall time of single rows over HTTP, by one client and by eight at once."""
    X, y = table(1000)
    tasks = [Task("good", "classification"), Task("amount", "regression")]
    est = MultiTaskCNNEstimator(tasks, max_epochs=3, random_state=0).fit(X, y)
    est.to_onnx(folder / "model.onnx")
    amount, chance = est.predict(X)[:, 1], est.predict_proba(X)

    def ask(client: int, n_clients: int, port: int) -> tuple[list[float], int]:
        took, n_wrong = [], 0
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        with contextlib.closing(connection):
            for at in range(client, args.requests, n_clients):
                row = at % len(X)
                seconds, answer = request(connection, X[row : row + 1])
                found = [*answer["amount"], *answer["good"][0].values()]
                right = [amount[row], *chance[row]]
                n_wrong += not np.allclose(found, right, rtol=1e-3, atol=1e-4)
                took.append(seconds)
        return took, n_wrong

    with served(folder / "model.onnx") as port:
        ask(0, 10, port)  # the first ones
        for n in (1, 8):
            with ThreadPoolExecutor(n) as pool:
                begin = time.perf_counter()
                found = list(pool.map(lambda k, n=n: ask(k, n, port), range(n)))
                took = time.perf_counter() - begin
            each = 1e3 * np.concatenate([seconds for seconds, _ in found])
            name = f"{n} client{'s' * (n > 1)}"
            for share in (50, 99):
                yield Figure(f"{name}: p{share}", float(np.percentile(each, share)), "ms")
            yield Figure(f"{name}: answers", len(each) / took, "per s")
            wrong = sum(n_wrong for _, n_wrong in found)
            yield Figure(f"{name}: wrong answers of {len(each):,}", wrong, most=0)


# -- all -------------------------------------------------------------------------------------

TINY = {
    "rows": 300, "cold_rows": 1000, "sorted_rows": 640, "seeds": 1, "pass_rows": 300, "turns": 1,
    "fold_gigabytes": 0.01, "gigabytes": 0.01, "least_cold": 0.0, "most_lost": 1.0,
    "most_passes": 9.0, "least_passes": -math.inf, "most_memory": 2000, "untold_rows": 1000,
    "most_untold": 9.0,
    "task_rows": 200, "tasks": 40, "score_rows": 100, "most_of_y": math.inf,
    "requests": 40,
    "cluster_rows": 200, "cluster_epochs": 1, "least_fit": 0.0, "most_time": math.inf,
}  # fmt: skip


def main() -> int:
    """Print the tables, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sections", nargs="*", choices=[*SECTIONS, []], help="default: all")
    parser.add_argument("--gigabytes", type=float, default=20.0, help="of the section memory")
    parser.add_argument("--fold-gigabytes", type=float, default=1.5, help="of the section folds")
    parser.add_argument(
        "--observed",
        type=float,
        default=1.0,
        help="share of rows with targets, and of those that are predicted, of both",
    )
    parser.add_argument("--task-rows", type=int, default=100_000, help="of the section tasks")
    parser.add_argument("--tasks", type=int, default=2000, help="of the section tasks")
    parser.add_argument("--tiny", action="store_true", help="little of all, and no bounds")
    parser.add_argument("--output", type=Path, metavar="FILE", help="also write the table here")
    args = SimpleNamespace(
        rows=24_000, cold_rows=250_000, sorted_rows=16_384, seeds=5, pass_rows=4000, turns=2,
        least_cold=5.0, most_lost=0.003, most_passes=0.3, least_passes=0.0, most_memory=1500,
        untold_rows=200_000, most_untold=0.02,
        score_rows=1000, most_of_y=2.5,
        requests=2000,
        cluster_rows=4000, cluster_epochs=60, least_fit=5.0, most_time=1.2,
    )  # fmt: skip
    vars(args).update(vars(parser.parse_args()))
    if args.tiny:
        vars(args).update(TINY)
    torch.set_num_threads(1)
    lines = [" ".join(["$ python examples/benchmarks/scale.py", *sys.argv[1:]])]
    missed = []
    for name in args.sections or SECTIONS:
        lines += ["", name, "-" * len(name)]
        with tempfile.TemporaryDirectory() as folder:
            for figure in SECTIONS[name](args, Path(folder)):
                lines.append(str(figure))
                print(figure, flush=True, file=sys.stderr)
                if figure.missed and not args.tiny:
                    missed.append(figure.what)
    lines += ["", f"FAILED: {'; '.join(missed)}" if missed else "passed"]
    publish("\n".join(lines), args.output)
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
