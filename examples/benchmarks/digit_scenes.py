"""Digit scenes: does every loss learn the class, the number and the conditional numbers?

Fits `MultiTaskCNNEstimator` with default settings on 4,000 scenes, for each loss and several seeds
(of scenes and network alike), scores 2,000 scenes with other digits, and prints one table. Fails
(exit code 1) when a mean over seeds is below what we promise: accuracy 0.9 for ``digit_present``,
R2 0.8 for ``brightness``, 0.6 for ``digit_size``, and 0.8 for its place, ``digit_x``, ``digit_y``.

    python examples/benchmarks/digit_scenes.py --seeds 3
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch
from scipy import stats

from sklearn_mtl import MultiTaskCNNEstimator, Task
from sklearn_mtl.datasets import make_digit_scenes
from sklearn_mtl.losses import LOSSES

PROMISE = {
    "digit_present": 0.9,
    "brightness": 0.8,
    "digit_size": 0.6,
    "digit_x": 0.8,
    "digit_y": 0.8,
}
TASKS = [
    Task("digit_present", "classification"),
    Task("brightness", "regression"),
    Task("digit_size", "regression", given=("digit_present", 1)),
    Task("digit_x", "regression", given=("digit_present", 1)),
    Task("digit_y", "regression", given=("digit_present", 1)),
]


def run(loss: str, seed: int) -> tuple[list[float], float]:
    """Return the test scores of one fit, and its seconds."""
    X, y = make_digit_scenes(4000, position=True, random_state=seed)
    test = {"subset": "test", "random_state": 1000 + seed}
    X_test, y_test = make_digit_scenes(2000, position=True, **test)
    estimator = MultiTaskCNNEstimator(tasks=TASKS, loss=loss, random_state=seed)
    start = time.perf_counter()
    estimator.fit(X, y)
    seconds = time.perf_counter() - start
    return list(estimator.score_tasks(X_test, y_test).values()), seconds


def describe(values: np.ndarray) -> str:
    """Mean and half width of its 95 % interval (Student's t over independent seeds)."""
    if len(values) == 1:
        return f"{values[0]:.3f}"
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return f"{values.mean():.3f} +- {half:.3f}"


def main() -> int:
    """Run all losses, print the table, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds")
    parser.add_argument("--n-threads", type=int, default=1, help="threads of torch")
    parser.add_argument("--output", type=Path, help="also write the table to this file")
    args = parser.parse_args()
    torch.set_num_threads(args.n_threads)

    lines = [
        "digit scenes, default settings, 4000 training and 2000 test scenes",
        f"$ python examples/benchmarks/digit_scenes.py --seeds {args.seeds}",
        f"mean over {args.seeds} seeds, with 95 % intervals; {args.n_threads} thread(s)",
        "",
        f"{'loss':<12}" + "".join(f"{name:>16}" for name in PROMISE) + f"{'seconds':>10}",
        "-" * (22 + 16 * len(PROMISE)),
    ]
    missed = []
    for loss in LOSSES:
        results = [run(loss, seed) for seed in range(args.seeds)]
        scores = np.array([result[0] for result in results])
        seconds = np.mean([result[1] for result in results])
        cells = "".join(f"{describe(column):>16}" for column in scores.T)
        lines.append(f"{loss:<12}{cells}{seconds:>10.0f}")
        for (name, bound), mean in zip(PROMISE.items(), scores.mean(axis=0), strict=True):
            if not mean >= bound:  # NaN is missed too
                missed.append(f"{loss}: {name} {mean:.3f} is below {bound}")
    lines.append(f"{'promised':<12}" + "".join(f"{bound:>16.3f}" for bound in PROMISE.values()))
    lines += ["", *(missed or ["passed: every loss reaches what is promised"])]
    table = "\n".join(lines)
    print(table)
    if args.output:
        args.output.write_text(table + "\n")
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
