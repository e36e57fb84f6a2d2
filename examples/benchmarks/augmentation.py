"""What augmentation gains on real images, with targets that move with them, and without.

.. code-block:: bash

   python examples/benchmarks/augmentation.py --data DIR --cache FILE neu_det coffee_leaf

The data sets are described in `real_data.py`, splits and scores in `quality.py`; sets with groups
are split by them. In each split, these are trained with the same seed and epochs, on the same rows:

- ``shifts``: the default, in which images are shifted, and places do not know of it;
- ``shifts, aware``: the same, with a geometry for the numbers that have one (`GEOMETRY`);
- ``turned``: mirrored and scaled images, as `AUGMENT` says for each set, shifted as far;
  numbers stay as they are ("blind");
- ``turned, aware``: the same, and numbers move with the images;
- ``constant``: the most frequent class, or the mean, of the training rows.

The script fails (exit code 1) if, in the mean over tasks, knowing the geometry of turned images
does not gain, or does not predict better than the constant, with an interval above 0; and where the
mean over tasks (accuracy and R2) of the better of the aware ways is below ``--bar``.

Every fit is kept in ``--cache`` and not repeated: delete its lines after changing a model.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import quality
from numpy.typing import NDArray
from quality import exact_name, joint, open_data
from real_data import DataSet, half_interval, publish

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
    "neu_det": Augment(flip="both"),
    "magnetic_tile": Augment(flip="both", scale=0.1),
    "coffee_leaf": Augment(flip="both", color=0.2),
}
WAYS = ("shifts", "shifts, aware", "turned", "turned, aware", "constant")


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


def trained(data: DataSet, train: Any, test: Any, seed: int, *, way: str) -> dict[str, Any]:
    """Predict a task each by one of `WAYS`."""
    augment = AUGMENT[data.name] if way.startswith("turned") else None
    return joint(declared(data, way.endswith("aware")), train, test, seed, augment=augment)


def measure(
    data: DataSet, n_splits: int, cache: Path
) -> tuple[dict[str, NDArray[np.float64]], float]:
    """Scores (n_splits, n_tasks) of each way, and test rows per training row."""
    ways = {way: functools.partial(trained, way=way) for way in WAYS if way != "constant"}
    quality.METHODS.update(ways)
    records = quality.measure(data.name, data, WAYS, n_splits, None, cache)
    names = [exact_name(data, task) for task in data.tasks]
    scores = {
        way: np.array([[r["scores"][name] for name in names] for r in kept], dtype=float)
        for way, kept in records.items()
    }
    return scores, records["shifts"][0]["test_share"]


def table(
    data: DataSet, scores: dict[str, NDArray[np.float64]], share: float, bar: float | None = None
) -> tuple[str, bool]:
    """Table of one set, and whether it is as promised."""
    lines = [f"{'task':18s}" + "".join(f"{way:>18s}" for way in WAYS)]
    rule = "-" * len(lines[0])
    lines.append(rule)
    for k, task in enumerate(data.tasks):
        cells = [np.nanmean(scores[way][:, k]) for way in WAYS]
        lines.append(f"{task.name:18s}" + "".join(f"{cell:18.3f}" for cell in cells))
    lines.append(rule)
    means = {way: np.nanmean(scores[way], axis=1) for way in WAYS}
    cells = [f"{m.mean():.3f}±{half_interval(m, share):.3f}" for m in means.values()]
    lines.append(f"{'mean':18s}" + "".join(f"{cell:>18s}" for cell in cells))
    aware = means["turned, aware"]
    gains = {
        "aware - blind": aware - means["turned"],
        "turned, aware - constant": aware - means["constant"],
        "turned, aware - shifts": aware - means["shifts"],
    }
    said, failed = [], []
    for name, gain in gains.items():
        half = half_interval(gain, share)
        said.append(f"{name}: {gain.mean():+.3f}±{half:.3f}")
        if name.endswith(("blind", "constant")) and not gain.mean() - half > 0:
            failed.append(f"{name} is not above 0")
    best = max(means[way].mean() for way in WAYS if way.endswith("aware"))
    if bar is not None and not best >= bar:
        failed.append(f"the mean is {best:.3f}, asked at least {bar:g}")
    lines += ["", "; ".join(said), f"FAILED: {'; '.join(failed)}" if failed else "passed"]
    return "\n".join(lines), not failed


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; 0 if all is as promised."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="+", choices=GEOMETRY, metavar="NAME")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--cache", type=Path, required=True, metavar="FILE")
    parser.add_argument("--splits", type=int, default=5, metavar="N")
    parser.add_argument("--bar", type=float, metavar="MEAN", help="asked of the mean over tasks")
    parser.add_argument("--output", type=Path, metavar="FILE", help="also write the tables here")
    args = parser.parse_args(argv)
    if args.splits < 2:
        parser.error("--splits must be at least 2")
    command = "$ python examples/benchmarks/augmentation.py --data DIR --cache FILE"
    options = f" --splits {args.splits}" + (f" --bar {args.bar:g}" if args.bar is not None else "")
    text, passed = [], True
    for name in args.names:
        data = open_data(args.data, name, None)
        shown, is_passed = table(data, *measure(data, args.splits, args.cache), args.bar)
        sides = "x".join(map(str, data.X.shape[1:]))
        groups = ", split by group" if data.group is not None else ""
        what = f"{name}: {len(data.X)} images of {sides}{groups}"
        text.append(f"{what}\n{command} {name}{options}\n{shown}")
        passed &= is_passed
    publish("\n\n".join(text), args.output)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
