"""How fast: against skorch, Lightning, Keras and loops by hand; and how time and memory grow.

.. code-block:: bash

   python -m pip install jax keras lightning threadpoolctl
   python examples/benchmarks/speed.py

``dense``, ``conv``
    Seconds of an epoch with the same network, Adam and batches of 128 rows: a dense one, 20-64-64-3
    on 30,000 rows, and a convolutional one, 16-32 on 10,000 images of 28 x 28. Every peer has a
    process of its own, with one thread; they take turns, and ratios are those of one turn. "First"
    is all until the end of the first epochs: imports, data, and what other libraries compile, of
    which nothing is left from earlier runs. The product of matrices is one of 1024 x 1024 numbers.
    bfloat16 is left out where the processor does not multiply in it.
``bfloat16``
    Scores of networks trained in bfloat16 and in float32: as many starts as turns, which are to
    differ by less than starts do.
``tasks``
    An epoch of the dense network with 5 tasks, and with 100.
``fit``
    1,000 x 10 rows, 20 epochs, batches of 200: against `MLPRegressor` with the same layers.
``predict``
    100,000 rows against the bare module in its best chunk size, and one row against
    `MLPRegressor.predict`.
``imports``
    What importing the package adds to importing PyTorch and scikit-learn.
``search``
    `GridSearchCV` with two jobs, one thread each, against one job.
``memory``
    Memory that `fit` needs beside 2 GB of images in whole numbers, with a network that has next to
    none of its own.
``rows``
    Seconds and memory of an epoch from 1,000 to 1,000,000 rows of 20 numbers; ``--plot FILE`` draws
    them.

The script fails (exit code 1) where a bar is missed. It wants a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")

import numpy as np

BATCH, RATE = 128, 1e-3
Table = tuple[list[str], list[list[str]], list[tuple[bool, str]]]

# -- peers: each makes a function that trains some epochs, and returns the seconds of each ------


def dense_data() -> tuple[Any, Any]:
    """Rows of 20 numbers, and three targets."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(30_000, 20)).astype(np.float32)
    noise = rng.normal(size=(30_000, 3))
    return X, (X @ rng.normal(size=(20, 3)) + noise).astype(np.float32)


def conv_data() -> tuple[Any, Any]:
    """Images of one channel, and three targets."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(10_000, 1, 28, 28)).astype(np.float32)
    y = np.stack([X[:, 0, :14].mean((1, 2)), X[:, 0, 14:].mean((1, 2)), X.mean((1, 2, 3))], axis=1)
    return X, (y / y.std(axis=0)).astype(np.float32)


DATA = {"dense": dense_data, "conv": conv_data}


def torch_trunk(case: str) -> Any:
    """The network but for its last layer, and its number of features."""
    from torch import nn

    if case == "dense":
        return nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU()), 64
    stages = []
    for n_in, n_out in ((1, 16), (16, 32)):
        stages += [nn.Conv2d(n_in, n_out, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*stages, nn.Flatten()), 32 * 7 * 7


def torch_net(case: str) -> Any:
    """The whole network."""
    from torch import nn

    trunk, n_features = torch_trunk(case)
    return nn.Sequential(*trunk, nn.Linear(n_features, 3))


def loop(case: str, channels_last: bool = False, bfloat16: bool = False) -> Callable[[], Any]:
    """A loop by hand over tensors in memory."""
    import torch

    X, y = map(torch.from_numpy, DATA[case]())
    net = torch_net(case)
    if channels_last:
        net, X = net.to(memory_format=torch.channels_last), X.contiguous()
        X = X.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(net.parameters(), lr=RATE)

    def epoch() -> list[float]:
        start = time.perf_counter()
        for rows in torch.randperm(len(X)).split(BATCH):
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                output = net(X[rows])
            torch.nn.functional.mse_loss(output.float(), y[rows]).backward()
            optimizer.step()
        return [time.perf_counter() - start]

    return epoch


def loader(case: str) -> Callable[[], Any]:
    """The same with TensorDataset and DataLoader."""
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    X, y = map(torch.from_numpy, DATA[case]())
    net = torch_net(case)
    optimizer = torch.optim.Adam(net.parameters(), lr=RATE)
    batches = DataLoader(TensorDataset(X, y), batch_size=BATCH, shuffle=True)

    def epoch() -> list[float]:
        start = time.perf_counter()
        for x, target in batches:
            optimizer.zero_grad()
            torch.nn.functional.mse_loss(net(x), target).backward()
            optimizer.step()
        return [time.perf_counter() - start]

    return epoch


def skorch(case: str) -> Callable[[], Any]:
    """skorch's NeuralNetRegressor."""
    import torch
    from skorch import NeuralNetRegressor

    X, y = DATA[case]()
    net = NeuralNetRegressor(
        torch_net(case),
        max_epochs=1,
        batch_size=BATCH,
        lr=RATE,
        optimizer=torch.optim.Adam,
        train_split=None,
        verbose=0,
        iterator_train__shuffle=True,
    ).initialize()

    def epoch() -> Any:
        net.partial_fit(X, y)
        return net.history[-1:, "dur"]

    return epoch


def lightning(case: str) -> Callable[[], Any]:
    """Lightning's Trainer, all logging off."""
    import logging

    import lightning
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    X, y = map(torch.from_numpy, DATA[case]())

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = torch_net(case)

        def training_step(self, batch: Any, index: int) -> Any:
            return torch.nn.functional.mse_loss(self.net(batch[0]), batch[1])

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters(), lr=RATE)

        def on_train_epoch_start(self) -> None:
            self.start = time.perf_counter()

        def on_train_epoch_end(self) -> None:
            self.seconds = time.perf_counter() - self.start

    module = Module()
    batches = DataLoader(TensorDataset(X, y), batch_size=BATCH, shuffle=True)

    def epoch() -> list[float]:
        lightning.Trainer(
            max_epochs=1,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        ).fit(module, batches)
        return [module.seconds]

    return epoch


def keras(case: str, backend: str) -> Callable[[], Any]:
    """Keras' fit, on either backend."""
    os.environ["KERAS_BACKEND"] = backend
    import keras

    X, y = DATA[case]()
    layers = keras.layers
    if case == "dense":
        hidden = [layers.Dense(64, "relu"), layers.Dense(64, "relu")]
    else:
        X = X.transpose(0, 2, 3, 1)
        hidden = []
        for width in (16, 32):
            hidden += [layers.Conv2D(width, 3, padding="same", activation="relu")]
            hidden += [layers.MaxPooling2D(2)]
        hidden += [layers.Flatten()]
    net = keras.Sequential([keras.Input(X.shape[1:]), *hidden, layers.Dense(3)])
    net.compile(keras.optimizers.Adam(RATE), "mse")

    class Clock(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self.start = time.perf_counter()

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.seconds = time.perf_counter() - self.start

    clock = Clock()

    def epoch() -> list[float]:
        net.fit(X, y, batch_size=BATCH, epochs=1, shuffle=True, verbose=0, callbacks=[clock])
        return [clock.seconds]

    return epoch


def ours(case: str, n_epochs: int = 2, **params: Any) -> Callable[[], Any]:
    """The estimator with its default loss; the first epochs of a fit do not count."""
    from sklearn_mtl import MultiTaskCNNEstimator

    X, y = DATA[case]()
    model = MultiTaskCNNEstimator(
        trunk=torch_trunk(case)[0],
        max_epochs=n_epochs,
        batch_size=BATCH,
        learning_rate=RATE,
        optimizer="Adam",
        random_state=0,
        **params,
    )

    def epoch() -> Any:
        return model.fit(X, y).net_.history[1:, "dur"]

    return epoch


PEERS: dict[str, Callable[[str], Callable[[], Any]]] = {
    "skorch": skorch,
    "loop": loop,
    "loop, channels last": lambda case: loop(case, channels_last=True),
    "loop, channels last, bfloat16": lambda case: loop(case, channels_last=True, bfloat16=True),
    "sklearn_mtl": ours,
    "sklearn_mtl, bfloat16": lambda case: ours(case, precision="bfloat16"),
    "Keras on JAX": lambda case: keras(case, "jax"),
    "Keras on torch": lambda case: keras(case, "torch"),
    "DataLoader": loader,
    "Lightning": lightning,
}


def serve(peer: str, case: str) -> None:
    """Train an epoch for every line that is read, and write how long it took."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # nothing else is said there
    import torch

    torch.set_num_threads(1)
    start = time.perf_counter()
    try:
        epoch = PEERS[peer](case)
        epoch()
    except ImportError as error:
        print(f"absent: {error}", file=out, flush=True)
        return
    print(time.perf_counter() - start, file=out, flush=True)
    for _ in sys.stdin:
        print(np.mean(epoch()), file=out, flush=True)


class Peer:
    """A process that trains on demand."""

    def __init__(self, name: str, case: str) -> None:
        command = [sys.executable, __file__, "--serve", name, case]
        pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.folder = tempfile.TemporaryDirectory()
        env = os.environ | {"TORCHINDUCTOR_CACHE_DIR": self.folder.name}
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=env, **pipes)
        answer = self.process.stdout.readline().strip()  # type: ignore[union-attr]
        self.absent = "" if answer and not answer.startswith("absent") else answer or "fails"
        self.start = float("nan") if self.absent else float(answer)
        if self.absent:
            self.close()

    def __call__(self) -> float:
        """Seconds of an epoch."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(file=self.process.stdin, flush=True)
        return float(self.process.stdout.readline())

    def close(self) -> None:
        """End the process."""
        self.process.communicate()
        self.folder.cleanup()


def dense(n_turns: int) -> list[Table]:
    """Compare epochs of a dense network."""
    return [epochs_of("dense", 3 * n_turns)]


def conv(n_turns: int) -> list[Table]:
    """Compare epochs of a convolutional network."""
    return [epochs_of("conv", n_turns)]


def epochs_of(case: str, n_turns: int) -> Table:
    """Compare epochs with those of peers."""
    left_out = () if case == "conv" else ("channels last", "bfloat16")
    if not has_bfloat16():  # emulated, it takes ten times as long
        left_out = (*left_out, "bfloat16")
    names = [name for name in PEERS if not any(word in name for word in left_out)]
    peers = {name: Peer(name, case) for name in names}
    absent = [f"{name}: {peer.absent}" for name, peer in peers.items() if peer.absent]
    peers = {name: peer for name, peer in peers.items() if not peer.absent}
    seconds = np.array([[peer() for peer in peers.values()] for _ in range(n_turns)])
    for peer in peers.values():
        peer.close()
    of = dict(zip(peers, seconds.T, strict=True))

    def ratio(name: str, other: str) -> float:
        return float(np.median(of[name] / of[other]))

    rows = [
        [name, f"{np.median(of[name]):.3f}", f"{ratio(name, 'skorch'):.2f}", f"{peer.start:.0f}"]
        for name, peer in peers.items()
    ]
    what = {"dense": "20-64-64-3, 30,000 rows", "conv": "16-32 on 28x28, 10,000 images"}[case]
    header = [f"{case} {what}", "s per epoch", "x skorch", "first s"]
    default = "sklearn_mtl"
    speed, peak = gflop(case) / np.median(of[default]), peak_gflops()
    rows.append([f"{default}: {speed:.0f} GFLOP/s, {speed / peak:.0%} of a product of matrices"])
    if case == "dense":
        checks = [
            at_most("default, x skorch", ratio(default, "skorch"), 0.33),
        ]
    else:
        loops = ratio(default, "loop"), ratio(default, "loop, channels last")
        checks = [
            at_most("float32, x skorch", ratio(default, "skorch"), 0.7),
            at_most("float32, x the better loop", max(loops), 1.05),
        ]
        if has_bfloat16():
            half = ratio("sklearn_mtl, bfloat16", "skorch")
            checks.append(at_most("bfloat16, x skorch", half, 0.55))
    return header, [*rows, *([line] for line in absent)], checks


def gflop(case: str) -> float:
    """Billions of operations of an epoch: products of matrices and convolutions."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    X, _ = DATA[case]()
    with FlopCounterMode(display=False) as counter:
        torch_net(case)(torch.from_numpy(X[:BATCH])).square().sum().backward()
    return counter.get_total_flops() / BATCH * len(X) / 1e9


def peak_gflops() -> float:
    """Billions of operations per second in the product of two large matrices, one thread."""
    import torch

    n = 1024
    a, b = torch.rand(2, n, n)
    return 2 * n**3 / turns(20, lambda: a @ b).min() / 1e9


def has_bfloat16() -> bool:
    """Whether the processor multiplies in bfloat16."""
    with contextlib.suppress(OSError):
        return "_bf16" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    return False


# -- the estimator alone -------------------------------------------------------------------------


def bfloat16(n_turns: int) -> list[Table]:
    """Compare scores of training in bfloat16 with those in float32."""
    from sklearn_mtl import MultiTaskCNNEstimator
    from sklearn_mtl.datasets import make_digit_scenes

    X_test, y_test = make_digit_scenes(1000, subset="test", random_state=1000)
    scores: dict[str, list[float]] = {"float32": [], "bfloat16": []}
    for seed in range(n_turns):
        X, y = make_digit_scenes(1000, random_state=seed)
        for precision, found in scores.items():
            model = MultiTaskCNNEstimator(precision=precision, random_state=seed).fit(X, y)
            found.append(model.score(X_test, y_test))
    spread = float(np.std(scores["float32"], ddof=1))
    rows = [
        [name, f"{np.mean(found):.4f}", f"{np.std(found, ddof=1):.4f}"]
        for name, found in scores.items()
    ]
    difference = abs(np.subtract(*scores.values()).mean())
    check = (
        difference <= spread,
        (f"mean difference: {difference:.4f}, asked at most the spread of starts, {spread:.4f}"),
    )
    return [([f"digit scenes, {n_turns} starts", "score", "spread"], rows, [check])]


def tasks(n_turns: int) -> list[Table]:
    """Compare 100 tasks with 5."""
    from sklearn_mtl import MultiTaskCNNEstimator

    X, _ = dense_data()
    rng = np.random.default_rng(0)
    y = X @ rng.normal(size=(20, 100)) + rng.normal(size=(len(X), 100))
    y[:, ::2] = y[:, ::2] > 0  # half of them classes
    y[rng.random(y.shape) < 0.2] = np.nan
    found = []
    for _ in range(n_turns):
        models = [
            MultiTaskCNNEstimator(
                trunk=torch_trunk("dense")[0], batch_size=BATCH, max_epochs=3, random_state=0
            ).fit(X, y[:, :n])
            for n in (5, 100)
        ]
        found.append([np.mean(model.net_.history[1:, "dur"]) for model in models])
    few, many = np.median(found, axis=0)
    rows = [["5 tasks", f"{few:.3f}"], ["100 tasks", f"{many:.3f}"]]
    ratio = float(np.median([b / a for a, b in found]))
    checks = [at_most("100 tasks, x 5 tasks", ratio, 2)]
    return [(["dense, classes and numbers with holes", "s per epoch"], rows, checks)]


def fit(n_turns: int) -> list[Table]:
    """Compare a small fit with that of scikit-learn's network."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPRegressor

    X, y = small_data()
    network, model = small_models()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # 20 epochs are what is asked for
        seconds = turns(
            10 * n_turns, lambda: MLPRegressor(**network).fit(X, y), lambda: model.fit(X, y)
        )
    ratio = float(np.median(seconds[:, 1] / seconds[:, 0]))
    rows = table_of(seconds, ["MLPRegressor", "sklearn_mtl"], 1e3)
    checks = [at_most("fit, x MLPRegressor", ratio, 1.5)]
    return [(["fit, 1,000 x 10, 20 epochs, batches of 200", "ms"], rows, checks)]


def small_data() -> tuple[Any, Any]:
    """1,000 rows of 10 numbers."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1000, 10))
    return X, X @ rng.normal(size=(10, 2)) + rng.normal(size=(1000, 2))


def small_models() -> tuple[dict[str, Any], Any]:
    """Parameters of `MLPRegressor`, and our estimator with the same layers and batches."""
    from sklearn_mtl import MultiTaskCNNEstimator
    from sklearn_mtl.networks import DenseTrunk

    network = {"hidden_layer_sizes": (64, 64), "batch_size": 200, "max_iter": 20}
    network |= {"random_state": 0, "n_iter_no_change": 100, "tol": 0}
    trunk = DenseTrunk((64, 64), n_members=1, n_frequencies=0)
    sizes = {"batch_size": 200, "max_epochs": 20}
    return network, MultiTaskCNNEstimator(trunk=trunk, random_state=0, **sizes)


def predict(n_turns: int) -> list[Table]:
    """Compare predictions with those of the bare module, and of scikit-learn's network."""
    import torch
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPRegressor

    X, y = small_data()
    network, model = small_models()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        other = MLPRegressor(**network).fit(X, y)
    model.fit(X, y)
    many = np.random.default_rng(1).normal(size=(100_000, 10)).astype(np.float32)
    tensor, module = torch.from_numpy(many), model.module_

    def bare(size: int) -> Callable[[], Any]:
        def run() -> Any:
            with torch.inference_mode():
                return torch.cat([module(part) for part in tensor.split(size)]).numpy()

        return run

    sizes = [512, 2048, 8192, 32768, 100_000]
    first = turns(n_turns, *(bare(size) for size in sizes))
    best = sizes[int(np.median(first, axis=0).argmin())]
    seconds = turns(10 * n_turns, bare(best), lambda: model.predict(many))
    ratio = float(np.median(seconds[:, 1] / seconds[:, 0]))
    names = [f"module, chunks of {best}", "predict"]
    one = X[:1]
    single = turns(200 * n_turns, lambda: other.predict(one), lambda: model.predict(one))
    single_ratio = float(np.median(single[:, 1] / single[:, 0]))
    return [
        (
            ["100,000 x 10 rows, 10-64-64-2", "ms"],
            table_of(seconds, names, 1e3),
            [at_most("predict, x the bare module", ratio, 1.1)],
        ),
        (
            ["one row", "ms"],
            table_of(single, ["MLPRegressor.predict", "predict"], 1e3),
            [at_most("one row, x MLPRegressor", single_ratio, 2)],
        ),
    ]


def imports(n_turns: int) -> list[Table]:
    """Measure what importing the package adds to PyTorch and scikit-learn."""
    code = (
        "import time, torch, sklearn.base, sklearn.model_selection\n"
        "start = time.perf_counter()\n"
        "import sklearn_mtl\n"
        "print(time.perf_counter() - start)\n"
    )
    environment = {
        key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"
    }
    seconds = []
    with tempfile.TemporaryDirectory() as compiled:  # as modules of an installed package are
        command = [sys.executable, "-X", f"pycache_prefix={compiled}", "-c", code]
        for _ in range(n_turns + 1):
            run = subprocess.run(
                command, capture_output=True, text=True, check=True, env=environment
            )
            seconds.append(float(run.stdout))
    seconds = seconds[1:]  # the first compiles
    value = float(np.median(seconds))
    header = ["import, after torch and scikit-learn", "s"]
    return [(header, [["sklearn_mtl", f"{value:.2f}"]], [at_most("seconds", value, 0.15)])]


def search(n_turns: int) -> list[Table]:
    """Compare a search in two jobs with one job."""
    from sklearn.model_selection import GridSearchCV
    from threadpoolctl import threadpool_limits

    from sklearn_mtl import MultiTaskCNNEstimator

    X, y = dense_data()
    grid = {"learning_rate": [1e-3, 2e-3, 4e-3, 8e-3], "weight_decay": [0.0, 3.0]}
    seconds = []
    for n_jobs in (1, 2):
        estimator = MultiTaskCNNEstimator(max_epochs=3, random_state=0)
        start = time.perf_counter()
        with threadpool_limits(1):
            GridSearchCV(estimator, grid, cv=3, n_jobs=n_jobs, refit=False).fit(X, y)
        seconds.append(time.perf_counter() - start)
    rows = [[f"n_jobs={n}", f"{s:.0f}"] for n, s in zip((1, 2), seconds, strict=True)]
    ratio = seconds[0] / seconds[1]
    check = ratio >= 1.7, f"one job, x two jobs: {ratio:.2f}, asked at least 1.7"
    return [(["GridSearchCV, 24 fits of 20,000 rows", "s"], rows, [check])]


def memory(n_turns: int) -> list[Table]:
    """Measure the highest memory of a fit on 2 GB of images."""
    code = (
        "import resource, numpy as np, torch\n"
        "torch.set_num_threads(1)\n"
        "from sklearn_mtl import MultiTaskCNNEstimator\n"
        "from torch import nn\n"
        "trunk = nn.Sequential(nn.AvgPool2d(16), nn.Flatten())\n"
        "model = MultiTaskCNNEstimator(trunk=trunk, max_epochs=1, random_state=0)\n"
        "model.fit(np.eye(64, dtype=np.uint8)[:, :, None] * np.eye(64, dtype=np.uint8),\n"
        "    np.arange(64.0))\n"
        "X = np.full((174_763, 3, 64, 64), 7, np.uint8)\n"
        "X[::2] = 9\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20\n"
        "before = peak()\n"
        "model.fit(X, np.arange(float(len(X))))\n"
        "print(before, peak())\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    before, after = map(float, answer.split())
    rows = [["before fit, with X", f"{before:.2f}"], ["highest in fit", f"{after:.2f}"]]
    checks = [at_most("GB that fit adds", after - before, 0.5)]
    return [(["2 GB of images 3x64x64, one epoch of a linear network", "GB"], rows, checks)]


def rows(n_turns: int, plot: Path | None = None) -> list[Table]:
    """Measure how time and memory grow with rows; draw it, if there is a file to draw to."""
    code = (
        "import resource, sys, time, numpy as np, torch\n"
        "torch.set_num_threads(1)\n"
        "from sklearn_mtl import MultiTaskCNNEstimator\n"
        "n = int(sys.argv[1])\n"
        "rng = np.random.default_rng(0)\n"
        "X = rng.normal(size=(n, 20))\n"
        "y = np.column_stack([X[:, 0] > 0, X[:, 1], X[:, 2]])\n"
        "model = MultiTaskCNNEstimator(max_epochs=1, batch_size=128, random_state=0)\n"
        "model.fit(X[:500], y[:500])\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10\n"
        "before, start = peak(), time.perf_counter()\n"
        "model.fit(X, y)\n"
        "print(time.perf_counter() - start, peak() - before)\n"
    )
    found = {}
    for n in [1000, 3000, 10_000, 30_000, 100_000, 300_000, 1_000_000]:
        command = [sys.executable, "-c", code, str(n)]
        answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        found[n] = tuple(map(float, answer.split()))
    cells = [
        [f"{n:,}", f"{s:.2f}", f"{s / n * 1e6:.1f}", f"{mb:.0f}"] for n, (s, mb) in found.items()
    ]
    growth = found[1_000_000][0] / found[10_000][0] / 100
    checks = [
        at_most("seconds per row, 1,000,000 x 10,000 rows", growth, 1.2),
        at_most("MB per 1,000,000 rows of 20 numbers, 160 MB", found[1_000_000][1], 320),
    ]
    if plot is not None:
        draw(found, plot)
    return [
        (["rows, default network", "s, fit of one epoch", "µs per row", "MB added"], cells, checks)
    ]


def draw(found: dict[int, tuple[float, ...]], file: Path) -> None:
    """Draw seconds and memory over rows."""
    import matplotlib.pyplot as plt  # main has tried it

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    sizes = np.array(list(found))
    for axis, values, what in [
        (left, [s for s, _ in found.values()], "seconds, fit of one epoch"),
        # 0, which has no logarithm: no more than the 500 rows before
        (right, [mb or np.nan for _, mb in found.values()], "MB added by fit"),
    ]:
        axis.plot(sizes, values, "o-", label="measured")
        axis.plot(sizes, values[-1] * sizes / sizes[-1], ":", color="0.5", label="proportional")
        axis.set(xscale="log", yscale="log", xlabel="rows of 20 numbers", ylabel=what)
        axis.legend()
    figure.savefig(file, dpi=120)
    plt.close(figure)


# -- tables --------------------------------------------------------------------------------------


def turns(n: int, *functions: Callable[[], Any]) -> Any:
    """Seconds of functions that take turns, (n, n_functions), after two turns to warm up."""
    seconds = np.empty((n + 2, len(functions)))
    for turn in seconds:
        for k, function in enumerate(functions):
            start = time.perf_counter()
            function()
            turn[k] = time.perf_counter() - start
    return seconds[2:]


def table_of(seconds: Any, names: list[str], factor: float) -> list[list[str]]:
    """Rows of medians."""
    medians = factor * np.median(seconds, axis=0)
    return [[name, f"{value:.2f}"] for name, value in zip(names, medians, strict=True)]


def at_most(what: str, value: float, bound: float) -> tuple[bool, str]:
    """Whether a value keeps its bound, and a line that says so."""
    return value <= bound, f"{what}: {value:.2f}, asked at most {bound:g}"


def show(table: Table) -> str:
    """Write a table, and what was asked."""
    header, cells, checks = table
    full = [row for row in [header, *cells] if len(row) == len(header)]  # others are remarks
    widths = [max(map(len, column)) for column in zip(*full, strict=True)]
    lines = [
        "  ".join(
            c.ljust(w) if k == 0 else c.rjust(w)
            for k, (c, w) in enumerate(zip(row, widths, strict=False))
        )
        for row in [header, *cells]
    ]
    lines.insert(1, "-" * len(lines[0]))
    lines += ["", *(f"{'passed' if ok else 'FAILED'}: {text}" for ok, text in checks)]
    return "\n".join(line.rstrip() for line in lines)


SECTIONS: dict[str, Callable[[int], list[Table]]] = {
    "dense": dense,
    "conv": conv,
    "bfloat16": bfloat16,
    "tasks": tasks,
    "fit": fit,
    "predict": predict,
    "imports": imports,
    "search": search,
    "memory": memory,
    "rows": rows,
}


def main() -> int:
    """Print the tables, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument("--turns", type=int, default=5, metavar="N")
    parser.add_argument("--output", type=Path, metavar="FILE", help="also write the tables here")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw rows here")
    parser.add_argument("--serve", nargs=2, metavar=("PEER", "CASE"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(*args.serve)
        return 0
    if unknown := [name for name in args.sections if name not in SECTIONS]:
        parser.error(f"{unknown[0]!r} is not one of {', '.join(SECTIONS)}")
    import torch

    torch.set_num_threads(1)
    chosen = args.sections or list(SECTIONS)
    command = f"$ python examples/benchmarks/speed.py {' '.join(chosen)} --turns {args.turns}"
    sections = dict(SECTIONS)
    if args.plot is not None:
        if "rows" not in chosen:
            parser.error("--plot draws the section rows, which was not chosen")
        import matplotlib.pyplot as _  # noqa: F401  # before anything is measured

        sections["rows"] = functools.partial(rows, plot=args.plot)
        command += f" --plot {args.plot.name}"
    texts = [command]
    print(texts[0])
    ok = True
    for name in chosen:
        for table in sections[name](args.turns):
            texts.append(show(table))
            print("", texts[-1], sep="\n", flush=True)
            ok &= all(passed for passed, _ in table[2])
    if args.output is not None:
        args.output.write_text("\n\n".join(texts) + "\n", encoding="utf-8")
    return int(not ok)


if __name__ == "__main__":
    sys.exit(main())
