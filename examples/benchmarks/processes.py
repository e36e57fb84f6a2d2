"""Several processes train one estimator: CPU time of each, messages, and what they learn.

The default trunk on images of 64 x 64 pixels, and on a table, in one process and in two of this
machine, which talk by gloo. CPU seconds are of the fit alone, without what the process imports:
the least of some turns. Predictions are compared in float64, and in float32 with what another order
of the rows in each batch makes in one process: sums are rounded otherwise there too.

    python examples/benchmarks/processes.py
    python examples/benchmarks/processes.py --processes 2 3 --output docs/results/processes.txt
"""

import argparse
import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import unittest.mock
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from real_data import publish

from sklearn_mtl import MultiTaskCNNEstimator, data_parallel
from sklearn_mtl._training.batches import Batches
from sklearn_mtl.networks import ConvTrunk, DenseTrunk

MOST_CPU, MOST_APART, EPOCHS = 0.6, 1e-10, 3  # of one process; of predictions
STARTS = 20  # in float32


def data(kind: str, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Make images or rows, with a class and a number, half of which are holes."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 3, 64, 64) if kind == "images" else (n, 20)).astype(np.float32)
    flat = X.reshape(n, -1)
    y = np.column_stack([flat[:, 0] > 0, flat[:, :5].sum(axis=1) + rng.normal(size=n)])
    y[rng.random(y.shape) < 0.5] = np.nan
    return X, y


def fit(kind: str, n: int, precision: str, epochs: int, seed: int = 0) -> MultiTaskCNNEstimator:
    """Train without what is drawn by each process for itself."""
    trunk = ConvTrunk(max_shift=0) if kind == "images" else DenseTrunk(n_members=1)
    estimator = MultiTaskCNNEstimator(
        trunk=trunk, precision=precision, max_epochs=epochs, batch_size=64, random_state=seed
    )
    return estimator.fit(*data(kind, n))


def float32_predictions(kind: str) -> list[list[list[float]]]:
    """Predict after ten epochs in float32, for each of some starts."""
    X, _ = data(kind, 16)
    return [fit(kind, 128, "float32", 10, seed).predict(X).tolist() for seed in range(STARTS)]


@contextlib.contextmanager
def reversed_batches() -> Iterator[None]:
    """Turn the order of the rows in each batch round."""
    together = Batches._together

    def turned(self: Batches, parts: Any) -> Iterator[Any]:
        return together(self, [part[::-1] for part in parts])

    with unittest.mock.patch.object(Batches, "_together", turned):
        yield


def measure(n: int, n_turns: int) -> None:
    """Print what one process of several, or the only one, has found."""
    torch.set_num_threads(1)
    found = {}
    with data_parallel(timeout=300) as group:
        for kind, rows in (("images", n), ("table", 8 * n)):
            seconds, messages = [], []
            for epochs in [1, EPOCHS] * n_turns:  # what is not an epoch takes no part
                start, sent = time.process_time(), getattr(group, "n_messages", 0)
                fit(kind, rows, "float32", epochs)
                seconds.append(time.process_time() - start)
                messages.append(getattr(group, "n_messages", 0) - sent)
            _, y = data(kind, rows)
            per_epoch = (min(seconds[1::2]) - min(seconds[::2])) / (EPOCHS - 1)
            X, _ = data(kind, 16)
            found[kind] = {
                "seconds": per_epoch,
                "messages": (messages[-1] - messages[-2]) / (EPOCHS - 1),
                "steps": -(-int(np.isfinite(y).any(axis=1).sum()) // 64),  # rows with a target
                "predictions": fit(kind, 128, "float64", 2).predict(X).tolist(),
                "float32": float32_predictions(kind),
            }
            if getattr(group, "size", 1) == 1:
                with reversed_batches():
                    found[kind]["reversed"] = float32_predictions(kind)
    print(json.dumps(found))


def root_mean_square(one: list[list[list[float]]], other: list[list[list[float]]]) -> float:
    """Return the size of differences of predictions (n_starts, n, n_tasks)."""
    return float(np.sqrt(np.mean(np.subtract(one, other) ** 2)))


def launch(n_processes: int, args: argparse.Namespace) -> list[dict]:
    """Let processes measure, and return what each has found."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        env = os.environ | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    env |= {"WORLD_SIZE": str(n_processes), "GLOO_SOCKET_IFNAME": "lo"}
    command = [sys.executable, __file__, "--measure"]
    command += ["--images", str(args.images), "--turns", str(args.turns)]
    started = [
        subprocess.Popen(command, env=env | {"RANK": str(k)}, stdout=subprocess.PIPE, text=True)
        for k in range(n_processes)
    ]
    return [json.loads(process.communicate()[0].splitlines()[-1]) for process in started]


def main() -> None:
    """Compare, and fail where a promise is missed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--processes", type=int, nargs="*", default=[2])
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    if args.measure:
        measure(args.images, args.turns)
        return
    (alone,) = launch(1, args)
    lines, missed = [], []
    for n in args.processes:
        found = launch(n, args)
        for kind in ("images", "table"):
            seconds = max(of[kind]["seconds"] for of in found)
            share = seconds / alone[kind]["seconds"]
            apart = np.subtract(alone[kind]["predictions"], found[0][kind]["predictions"])
            alike = all(of[kind]["predictions"] == found[0][kind]["predictions"] for of in found)
            rounded = root_mean_square(alone[kind]["float32"], found[0][kind]["float32"])
            turned = root_mean_square(alone[kind]["float32"], alone[kind]["reversed"])
            per_step = (found[0][kind]["messages"] - 1) / found[0][kind]["steps"]
            checks = {
                "CPU": kind == "table" or n > 2 or share <= MOST_CPU,
                "messages": per_step == 1,
                "predictions": np.abs(apart).max() <= MOST_APART and alike,
                "float32": rounded <= turned,
            }
            missed += [f"{kind}, {n} processes: {name}" for name, ok in checks.items() if not ok]
            lines.append(
                f"{kind:8s}{n} processes: {share:5.2f} of the CPU time of one process, which is "
                f"{alone[kind]['seconds']:6.3f} s an epoch; messages per step {per_step:g}, and "
                f"one per epoch; predictions {np.abs(apart).max():.1e} apart in float64, "
                f"{'equal' if alike else 'DIFFERENT'} in all of them; in float32 {rounded:.1e}, "
                f"root mean square, and {turned:.1e} where one process turns its batches round"
            )
    lines += [f"MISSED: {what}" for what in missed]
    publish("\n".join(lines), args.output)
    if missed:
        sys.exit(1)


if __name__ == "__main__":
    main()
