"""Expected amounts of a hurdle network on held-out persons, beside two-part models.

.. code-block:: bash

   python examples/benchmarks/hurdle.py --data DIR [NAME]

Amounts that are mostly zero (spending, claims, rain) are a class, *any or none*, and a number that
exists only where there is any. One network learns them all: classes, gamma heads given them, and
``conditional_output="expected"``, which multiplies an amount with the probability that there is
one. Beside it stands, per amount, the two-part model of health economics: a logistic regression of
any, times a gamma regression of the amounts > 0.

``NAME`` (default: rand_hie) is a folder in the format of ``real_data.py``. Every number ``log_*``
that exists given a class is taken for the logarithm of an amount. Persons (groups) are split into
five parts; each part is held out once. The table tells, per amount, the sum observed over the sum
expected of all persons held out; its interval is a bootstrap over persons. The script fails (exit
code 1) if 1 is not in the interval of one of the network's ratios.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from real_data import DataSet, make_model, publish, read_data_set
from sklearn.linear_model import GammaRegressor, LogisticRegression
from sklearn.metrics import d2_tweedie_score
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_mtl import Task

MODELS = ("hurdle network", "two-part models")

# Tweedie deviances of powers between 1 and 2 measure a sum of gamma amounts, of which there may be
# none: what a hurdle model predicts.
TWEEDIE_POWER = 1.5


class Amount(NamedTuple):
    """An amount, and the class that tells whether there is one."""

    name: str
    gate: str
    label: Any


def read_amounts(folder: Path) -> tuple[DataSet, list[Amount]]:
    """Read a data set; logarithms that exist given a class become gamma tasks."""
    data = read_data_set(folder)
    y, tasks, amounts = data.y.copy(), [], []
    for task in data.tasks:
        if task.given is not None and task.name.startswith("log_"):
            name = task.name.removeprefix("log_")
            y[name] = np.exp(y.pop(task.name))
            amounts.append(Amount(name, *task.given))
            task = Task(name, "gamma", task.given)
        tasks.append(task)
    return replace(data, y=y[[task.name for task in tasks]], tasks=tasks), amounts


def folds(data: DataSet, n_splits: int) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Yield training and test rows; no group is on both sides."""
    groups = np.arange(len(data.y)) if data.group is None else data.group
    yield from GroupKFold(n_splits, shuffle=True, random_state=0).split(data.X, groups=groups)


def paid(y: pd.DataFrame, amount: Amount) -> NDArray[np.float64]:
    """Amounts with 0 where there is none; NaN where neither is known."""
    none = y[amount.gate].notna() & (y[amount.gate] != amount.label)
    return y[amount.name].mask(none, 0.0).to_numpy(dtype=float)


def two_part(
    X: NDArray[np.float64], y: pd.DataFrame, amount: Amount, X_test: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Expected amounts of a logistic and a gamma regression."""
    known, some = y[amount.gate].notna().to_numpy(), y[amount.name].notna().to_numpy()
    logistic = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    logistic.fit(X[known], y.loc[known, amount.gate] == amount.label)
    gamma = make_pipeline(StandardScaler(), GammaRegressor(alpha=1e-3, max_iter=1000))
    gamma.fit(X[some], y.loc[some, amount.name])
    return logistic.predict_proba(X_test)[:, 1] * gamma.predict(X_test)


@dataclass
class Result:
    """Held-out persons: observed amounts (n, n_amounts), and expected ones of each model."""

    amounts: list[Amount]
    observed: NDArray[np.float64]
    expected: dict[str, NDArray[np.float64]]
    group: NDArray[Any]
    fold: NDArray[np.intp]
    fit_seconds: float


def evaluate(data: DataSet, amounts: list[Amount], loss: str, n_splits: int) -> Result:
    """Hold every person out once."""
    shape, names = (len(data.y), len(amounts)), [task.name for task in data.tasks]
    expected = {name: np.full(shape, np.nan) for name in MODELS}
    fold, seconds = np.zeros(len(data.y), dtype=np.intp), []
    for number, (train, test) in enumerate(folds(data, n_splits)):
        model = make_model(data, loss, None, seed=number)
        model[-1].set_params(conditional_output="expected")
        y, start = data.y.iloc[train], time.perf_counter()
        model.fit(data.X.iloc[train], y)
        seconds.append(time.perf_counter() - start)
        X, X_test = (model[:-1].transform(data.X.iloc[rows]) for rows in (train, test))
        predicted = model[-1].predict(X_test)
        fold[test] = number
        for k, amount in enumerate(amounts):
            expected[MODELS[0]][test, k] = predicted[:, names.index(amount.name)]
            expected[MODELS[1]][test, k] = two_part(X, y, amount, X_test)
    observed = np.column_stack([paid(data.y, amount) for amount in amounts])
    group = np.arange(len(observed)) if data.group is None else data.group
    return Result(amounts, observed, expected, group, fold, float(np.mean(seconds)))


class Ratio(NamedTuple):
    """A sum observed over a sum expected, and its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def calibrated(self) -> bool:
        """Whether 1 is in the interval."""
        return self.low <= 1 <= self.high


def ratio(
    observed: NDArray[np.float64],
    expected: NDArray[np.float64],
    group: NDArray[Any],
    n_bootstrap: int = 2000,
) -> Ratio:
    """Compare the sums over rows that were observed; whole groups are drawn with replacement."""
    seen = np.isfinite(observed)
    found, group = np.unique(group[seen], return_inverse=True)
    sums = np.array([np.bincount(group, part[seen]) for part in (observed, expected)])
    rng, n = np.random.default_rng(0), len(found)
    draws = rng.multinomial(n, np.full(n, 1 / n), size=n_bootstrap) @ sums.T
    low, high = np.quantile(draws[:, 0] / draws[:, 1], [0.025, 0.975])
    return Ratio(float(sums[0].sum() / sums[1].sum()), float(low), float(high))


def deviance_explained(observed: NDArray[np.float64], expected: NDArray[np.float64]) -> float:
    """D2 of the Tweedie deviance over rows that were observed."""
    seen = np.isfinite(observed)
    return float(d2_tweedie_score(observed[seen], expected[seen], power=TWEEDIE_POWER))


def report(result: Result, data: DataSet, command: str) -> tuple[str, list[str]]:
    """Write the table, and name the amounts that the network does not get right in sum."""
    n_splits = int(result.fold.max()) + 1
    lines = [
        f"{data.name}: sum observed / sum expected of held-out persons",
        f"$ {command}",
        f"{len(data.y)} rows of {len(np.unique(result.group))} persons, {n_splits} splits by person"
        f"; {len(data.tasks)} tasks in one network, fit: {result.fit_seconds:.1f} s on "
        f"{torch.get_num_threads()} thread(s)",
        f"[ ]: bootstrap over persons, 95 %; D2: Tweedie deviance of power {TWEEDIE_POWER}",
        "",
        f"{'amount':8s}{'model':18s}{'all persons':>22s}  {'split by split':30s}{'D2':>7s}",
    ]
    lines += ["-" * len(lines[-1])]
    wrong = []
    for k, amount in enumerate(result.amounts):
        observed = result.observed[:, k]
        for model, expected in result.expected.items():
            total = ratio(observed, expected[:, k], result.group)
            parts = []
            for number in range(n_splits):
                rows = result.fold == number
                parts.append(np.nansum(observed[rows]))
                parts[-1] /= expected[rows & np.isfinite(observed), k].sum()
            if model == MODELS[0] and not total.calibrated:
                wrong.append(amount.name)
            lines.append(
                f"{amount.name:8s}{model:18s}{total.value:8.3f} [{total.low:.3f}, {total.high:.3f}]"
                f"  {' '.join(f'{part:.2f}' for part in parts):30s}"
                f"{deviance_explained(observed, expected[:, k]):7.3f}"
            )
    failed = f"FAILED: 1 is not in the interval of {', '.join(wrong)}"
    lines += ["", failed if wrong else "passed: 1 is in every interval of the network"]
    return "\n".join(lines), wrong


def make_parser() -> argparse.ArgumentParser:
    """Build the command line."""
    parser = argparse.ArgumentParser(description="Calibration of expected amounts.")
    parser.add_argument("name", nargs="?", default="rand_hie", help="folder of DIR")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--loss", default="logprod")
    parser.add_argument("--splits", type=int, default=5, metavar="N")
    parser.add_argument("--output", type=Path, metavar="FILE", help="also write the table here")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; return 1 if a sum is wrong."""
    parser = make_parser()
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    data, amounts = read_amounts(args.data / args.name)
    if not amounts:
        parser.error(f"{args.name} has no number log_* that exists given a class")
    result = evaluate(data, amounts, args.loss, args.splits)
    command = f"python examples/benchmarks/hurdle.py --data DIR {args.name}"
    for option in ("loss", "splits"):
        if getattr(args, option) != parser.get_default(option):
            command += f" --{option} {getattr(args, option)}"
    table, wrong = report(result, data, command)
    publish(table, args.output)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
