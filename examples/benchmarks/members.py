"""Images: what members that leave out rows are worth, and what they cost.

.. code-block:: bash

   python examples/benchmarks/members.py --data DIR --cache FILE coffee_leaf neu_det

One network, the default, stands beside an `Ensemble` of three, each of which leaves out a third of
the rows and is trained for as many epochs. Sets, splits and scores are those of `never_worse.py`.
Per method:

``score``
    Mean over tasks: AUC of two classes, accuracy of more, and of numbers the share of the variance
    that is explained.
``skill``
    The same with the share of Brier's score for classes. Below 0, a task is predicted worse than by
    its mean; ``worst`` is that of the worst task.
``noise``
    `noise_std_` over the error on new rows: least, median and largest of all numbers.

The script fails (exit code 1) where three members leave a task more than 0.02 below its mean, or
where their score is more than 0.01 below that of one network, in the mean over splits and beyond
the interval, or where the median of their ``noise`` is outside of 0.85 to 1.15. A score whose
interval reaches to both sides is undecided.
"""

from __future__ import annotations

import argparse
import functools
from pathlib import Path
from typing import Any

import numpy as np
import torch
from never_worse import Kept, entries, joint, measure
from numpy.typing import NDArray
from real_data import half_interval, publish

from sklearn_mtl.networks import Ensemble

METHODS = {"one": joint, "three": functools.partial(joint, trunk=Ensemble(n_members=3))}
LEAST_SKILL, LEAST_GAIN, NOISE = -0.02, -0.01, (0.85, 1.15)


def values(records: list[dict[str, Any]], name: str) -> NDArray[np.float64]:
    """Return scores or skills (n_splits, n_tasks)."""
    return np.array([list(record[name].values()) for record in records], dtype=float)


def ratios(records: list[dict[str, Any]]) -> NDArray[np.float64]:
    """Return the noise that is told over the error, of all numbers and splits."""
    pairs = [pair for record in records for pair in record["noise"].values()]
    told, error = np.array(pairs, dtype=float).reshape(-1, 2).T
    return (told / error)[np.isfinite(told / error)]


def report(name: str, n_rows: int, found: Kept) -> tuple[str, bool]:
    """Write the table of a set, and what was asked; tell whether all of it holds."""
    share, n_splits = found["one"][0]["test_share"], len(found["one"])
    title = f"{name}: {n_rows} images, {n_splits} splits"
    header = f"{'':<8}{'score':>8}{'skill':>8}{'worst':>8}{'noise / error':>22}{'seconds':>9}"
    lines = [title, header, "-" * len(header)]
    means, skills, noise = {}, {}, {}
    for method, records in found.items():
        means[method] = np.nanmean(values(records, "scores"), axis=1)
        skills[method], noise[method] = values(records, "skills"), ratios(records)
        by_task = np.nanmean(skills[method], axis=0)
        least, middle, most = np.quantile(noise[method], [0, 0.5, 1])
        seconds = np.nanmedian(np.array([record["seconds"] for record in records], dtype=float))
        lines.append(
            f"{method:<8}{means[method].mean():>8.3f}{by_task.mean():>8.3f}{by_task.min():>8.3f}"
            f"{f'{least:.2f}, {middle:.2f}, {most:.2f}':>22}{seconds:>9.0f}"
        )
    gain = means["three"] - means["one"]
    half = half_interval(gain, share)
    below = [
        f"{task} {np.nanmean(skill):+.3f} ± {half_interval(skill, share):.3f}"
        for task, skill in zip(found["three"][0]["skills"], skills["three"].T, strict=True)
        if np.nanmean(skill) + np.nan_to_num(half_interval(skill, share)) < LEAST_SKILL
    ]
    middle = float(np.median(noise["three"]))
    low, high = gain.mean() - half, gain.mean() + half
    word = "passed" if low >= LEAST_GAIN else "FAILED" if high < LEAST_GAIN else "UNDECIDED"
    checks = {
        f"three - one, score {gain.mean():+.3f} ± {half:.3f}, asked at least {LEAST_GAIN}": word,
        f"tasks below their mean: {', '.join(below) or 'none'}": "FAILED" if below else "passed",
        f"median of noise / error {middle:.2f}, asked {NOISE[0]} to {NOISE[1]}": (
            "passed" if NOISE[0] <= middle <= NOISE[1] else "FAILED"
        ),
    }
    lines += ["", *(f"{word}: {text}" for text, word in checks.items())]
    return "\n".join(lines), "FAILED" not in checks.values()


def main(argv: list[str] | None = None) -> int:
    """Compare both on each set."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("sets", nargs="+", metavar="SET")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--cache", type=Path, required=True, metavar="FILE")
    parser.add_argument("--splits", type=int, default=5, metavar="N")
    parser.add_argument("--rows", type=int, default=4000, help="rows to keep, drawn at random")
    parser.add_argument("--output", type=Path, metavar="FILE", help="also write the tables here")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    command = "$ python examples/benchmarks/members.py --data DIR --cache FILE " + " ".join(
        [*args.sets, f"--splits {args.splits}"]
    )
    texts, known, ok = [command], entries(args.data, args.rows), True
    for name in args.sets:
        data = known[name].load()
        found = measure(name, data, args.splits, args.rows, args.cache, METHODS)
        text, holds = report(name, len(data.y), found)
        texts.append(text)
        ok &= holds
    publish("\n\n".join(texts), args.output)
    return 0 if ok else 1


if __name__ == "__main__":
    raise SystemExit(main())
