"""What augmentation gains on real images, with targets that move with them, and without.

.. code-block:: bash

   python examples/benchmarks/augmentation.py --data DIR neu_det magnetic_tile coffee_leaf

The data sets are described in `real_data.py`, splits and scores in `quality.py`. In each split,
these are trained with the same seed and epochs, on the same rows:

- ``shifts``: the default, in which images are shifted, and places do not know of it;
- ``shifts, aware``: the same, with a geometry for the numbers that have one (`GEOMETRY`);
- ``turned``: mirrored and scaled images, as `AUGMENT` says for each set, shifted as far;
  numbers stay as they are ("blind");
- ``turned, aware``: the same, and numbers move with the images.

The script fails (exit code 1) if, in the mean over tasks, knowing the geometry of turned images
does not gain, with an interval above 0.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from quality import exact_name, joint, open_data, task_scores
from real_data import DataSet, half_interval, splits

from sklearn_mtl.augmentation import Augment

# What the numbers of known sets say of the image; all others are invariant.
GEOMETRY: dict[str, dict[str, Any]] = {
    "neu_det": {"cx": "x", "cy": "y", "log_cover": "log_area"},
    "magnetic_tile": {
        "cx": "x",
        "cy": "y",
        "log_area": "log_area",
        "box_w": "length",
        "box_h": "length",
    },
    "coffee_leaf": {"lesion_cx": "x", "lesion_cy": "y"},
}
AUGMENT = {
    "neu_det": Augment(flip="both", scale=0.1),
    "magnetic_tile": Augment(flip="both", scale=0.1),
    "coffee_leaf": Augment(flip="both", color=0.2),
}
METHODS = ("shifts", "shifts, aware", "turned", "turned, aware")


def declared(data: DataSet, aware: bool) -> DataSet:
    """The set with a geometry for each number: what it is, or that it stays."""
    known = GEOMETRY.get(data.name, {}) if aware else {}
    tasks = [
        task
        if task.kind == "classification"
        else dataclasses.replace(task, geometry=known.get(task.name, "invariant"))
        for task in data.tasks
    ]
    return dataclasses.replace(data, tasks=tasks)


def measure(data: DataSet, n_splits: int) -> tuple[dict[str, NDArray[np.float64]], float]:
    """Scores (n_splits, n_tasks) of each way, and test rows per training row."""
    scores: dict[str, list[list[float]]] = {name: [] for name in METHODS}
    for seed, (train, test) in enumerate(splits(data, n_splits)):
        for name in METHODS:
            augment = AUGMENT[data.name] if name.startswith("turned") else None
            known = declared(data, name.endswith("aware"))
            found = task_scores(data, test, joint(known, train, test, seed, augment=augment))
            scores[name].append([found[exact_name(data, task)] for task in data.tasks])
            print(data.name, name, seed, f"{np.mean(scores[name][-1]):.4f}", file=sys.stderr)
    share = 0.0 if data.split is not None else len(test) / len(train)
    return {name: np.array(rows) for name, rows in scores.items()}, share


def table(data: DataSet, scores: dict[str, NDArray[np.float64]], share: float) -> tuple[str, bool]:
    """Table of one set, and whether it is as promised."""
    lines = [f"{'task':18s}" + "".join(f"{name:>18s}" for name in METHODS)]
    lines.append("-" * len(lines[0]))
    for k, task in enumerate(data.tasks):
        cells = [scores[name][:, k].mean() for name in METHODS]
        lines.append(f"{task.name:18s}" + "".join(f"{cell:18.3f}" for cell in cells))
    lines.append("-" * len(lines[0]))
    means = {name: scores[name].mean(axis=1) for name in METHODS}
    cells = [f"{m.mean():.3f}±{half_interval(m, share):.3f}" for m in means.values()]
    lines.append(f"{'mean':18s}" + "".join(f"{cell:>18s}" for cell in cells))
    gains = {
        "aware - blind": means["turned, aware"] - means["turned"],
        "turned, aware - shifts": means["turned, aware"] - means["shifts"],
    }
    said = []
    for name, gain in gains.items():
        said.append(f"{name}: {gain.mean():+.3f}±{half_interval(gain, share):.3f}")
    aware = gains["aware - blind"]
    passed = bool(aware.mean() - half_interval(aware, share) > 0)
    lines += ["", "; ".join(said), "passed" if passed else "FAILED: geometry does not gain"]
    return "\n".join(lines), passed


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; 0 if all is as promised."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="+", choices=GEOMETRY, metavar="NAME")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--splits", type=int, default=5, metavar="N")
    parser.add_argument("--output", type=Path, metavar="FILE", help="also write the tables here")
    args = parser.parse_args(argv)
    if args.splits < 2:
        parser.error("--splits must be at least 2")
    command = f"$ python examples/benchmarks/augmentation.py --data DIR {' '.join(args.names)}"
    text, passed = [f"{command} --splits {args.splits}"], True
    for name in args.names:
        data = open_data(args.data, name, None)
        shown, is_passed = table(data, *measure(data, args.splits))
        sides = "x".join(map(str, data.X.shape[1:]))
        text.append(f"{name}: {len(data.X)} images of {sides}\n{shown}")
        passed &= is_passed
    out = "\n\n".join(text)
    print(out)
    if args.output is not None:
        args.output.write_text(out + "\n", encoding="utf-8")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
