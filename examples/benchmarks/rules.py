"""Is there a rule for combining task losses that costs nothing and beats 'logprod'?

.. code-block:: bash

   python examples/benchmarks/rules.py --data DIR --cache FILE --output FILE

The tables of `never_worse.py` that defaults are chosen on, with its splits and scores. The
estimator, with all defaults but for ``loss``:

``logprod``
    The default: weights 1 / running mean of a task's loss.
``weighted``
    Weight 1.
``uw-so T``
    Weights by a softmax of 1 / (T running mean) over tasks [1]_.
``famo``
    Weights that are learned, so that all losses fall at one rate [2]_. After each step the losses
    of the batch are computed anew.
``stch``
    A smooth maximum of the losses, mu = 0.1 [3]_.
``max-norm``
    Logarithms of losses. Their gradients by the last shared features are made as long as the
    longest of them, for each member of the ensemble [4]_; without that paper's average of gradients
    over batches.
``tuned``
    For comparison: weights by a random search, the best of ``--draws`` from 0.1 to 10, log-uniform,
    by the mean over tasks of ``oob_score_``. It is done on the first split, and the weights are
    those of all splits; its time is as if each split had its own.

Losses are divided by that of the constant predictor, so that those of classes and numbers are
comparable. Where a rule divides by them, a tenth is added, the floor of `LogProd`. All trainings
end by one objective, the sum of logarithms: what differs is what a step follows. FAMO and STCH are
those of ``torchjd``.

The script fails (exit code 1) if a rule, other than ``tuned``, is above ``logprod`` in the mean
over sets and the 95 % interval excludes 0: then the default should be reconsidered. Every fit is
kept in ``--cache``, as in `never_worse.py`.

References
----------
.. [1] L. Kirchdorfer et al., "Analytical Uncertainty-Based Loss Weighting in Multi-Task Learning",
   arXiv:2408.07985.
.. [2] B. Liu et al., "FAMO: Fast Adaptive Multitask Optimization", arXiv:2306.03792.
.. [3] X. Lin et al., "Smooth Tchebycheff Scalarization for Multi-Objective Optimization",
   arXiv:2402.19078.
.. [4] B. Lin et al., "Dual-Balancing for Multi-Task Learning", arXiv:2308.12029.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import never_worse
import numpy as np
import pandas as pd
import torch
from never_worse import Predictions, Record, Result, Rows, entries, folds
from numpy.typing import NDArray
from real_data import DataSet, half_interval, make_model, publish
from shipped_data import Entry, cut
from skorch.callbacks import Callback
from torch import Tensor

from sklearn_mtl.losses import LogProd
from sklearn_mtl.networks.members import MemberTrunk

# -- rules -----------------------------------------------------------------------------------


class Relative(LogProd):
    """Losses, over those of the constant predictor, with weights; 1 by default.

    The objective is that of `LogProd`, whatever the weights.
    """

    reference: Any  # a tensor, after `start`

    def __init__(self, shares: Sequence[float] | None = None) -> None:
        super().__init__()
        self.given = shares

    def start(self, reference: Tensor, counts: Tensor, powers: Tensor | None = None) -> None:
        """Remember the constant predictor's losses."""
        super().start(reference, counts, powers)
        self.register_buffer("reference", torch.where(reference > 0, reference.detach(), 1))

    def forward(self, losses: Tensor, counts: Tensor) -> Tensor:
        """Weighted sum, in which each target of a task counts alike in all batches."""
        running = self._scales(losses.detach(), counts) / self.reference
        factors = self._factors(counts) * self.shares(running) / self.reference
        return losses.dot(factors.to(losses.dtype))

    def shares(self, running: Tensor) -> Tensor:
        """Weights, by the running means of the losses, 1.1 for the constant predictor."""
        return torch.ones_like(running) if self.given is None else running.new_tensor(self.given)

    def now(self, losses: Tensor, counts: Tensor) -> Tensor:
        """Losses of one batch plus the floor; 1 for tasks without a target."""
        return torch.where(counts > 0, losses / self.reference + self.floor, 1)


class UWSO(Relative):
    """Soft optimal uncertainty weighting: a softmax of 1 / (temperature x running mean)."""

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature

    def shares(self, running: Tensor) -> Tensor:
        """Weights whose sum is 1."""
        return (1 / (self.temperature * running)).softmax(0)


class STCH(Relative):
    """Smooth Tchebycheff scalarization: mu log sum exp(loss / (n_tasks mu)), of the batch."""

    def __init__(self, mu: float = 0.1) -> None:
        super().__init__()
        self.mu = mu

    def forward(self, losses: Tensor, counts: Tensor) -> Tensor:
        """Smooth maximum over the tasks that are observed."""
        from torchjd import scalarization

        seen = counts > 0
        if not seen.any():
            return 0 * losses.sum()
        return scalarization.STCH(self.mu)((losses / self.reference)[seen])


class FAMO(Relative):
    """Fast adaptive multitask optimization: call `learn` with the losses after each step."""

    def start(self, reference: Tensor, counts: Tensor, powers: Tensor | None = None) -> None:
        """Begin with equal weights."""
        from torchjd import scalarization

        super().start(reference, counts, powers)
        self.famo = scalarization.FAMO(len(reference)).to(reference)

    def forward(self, losses: Tensor, counts: Tensor) -> Tensor:
        """Weighted sum of logarithms."""
        return self.famo(self.now(losses, counts))

    def learn(self, losses: Tensor, counts: Tensor) -> None:
        """Say what the losses of the same batch are now."""
        self.famo.update(self.now(losses, counts))


class MaxNorm(Relative):
    """Gradients of the logarithms by the shared features, all as long as the longest one.

    `see` has to be called with the features before the losses. It gives them their gradient;
    heads have that of the sum of the logarithms.
    """

    features: Tensor | None = None
    n_shared: int | None = None

    def see(self, trunk: Any, x: Any, features: Tensor) -> None:
        """Take the features of a batch: a forward hook of the trunk.

        The inputs, which stand behind the hidden units of a `MemberTrunk`, share no parameter.
        """
        if features.requires_grad:
            n_inputs = trunk.width if isinstance(trunk, MemberTrunk) else 0
            self.features, self.n_shared = features, features.shape[-1] - n_inputs

    def forward(self, losses: Tensor, counts: Tensor) -> Tensor:
        """Return the sum of logarithms; the gradient of the features will be another."""
        logs = self.now(losses, counts).log()
        features, self.features = self.features, None
        if features is not None and logs.requires_grad:
            parts = [torch.autograd.grad(log, features, retain_graph=True)[0] for log in logs]
            gradients = torch.stack(parts)
            scales = self.scales(gradients[..., : self.n_shared])
            balanced = (gradients * scales).sum(dim=0)
            features.register_hook(lambda gradient: balanced)
        return logs.sum()

    def scales(self, gradients: Tensor) -> Tensor:
        """Largest norm over tasks / norm, from (n_tasks, B, F) or, of members, (n_tasks, B, M, F).

        Zeros are left as they are.
        """
        norms = gradients.norm(dim=(1, -1), keepdim=True)
        return norms.amax(dim=0) / torch.where(norms > 0, norms, 1)


class Look(Callback):
    """Let `MaxNorm` see the features."""

    def on_train_begin(self, net: Any, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        """Let the trunk show them."""
        net.module_.trunk.register_forward_hook(net.criterion_.combine.see)


class LookAgain(Callback):
    """Let FAMO see the losses after a step."""

    def on_batch_end(
        self, net: Any, batch: Any = None, training: bool | None = None, **kwargs: Any
    ) -> None:
        """Compute them anew."""
        if training:
            (X, cells), criterion = batch, net.criterion_
            with torch.no_grad():
                losses = criterion.task_losses.compare(net.infer(X), cells)
            criterion.combine.learn(losses, cells.counts)


RULES: dict[str, Callable[[], LogProd]] = {
    "logprod": LogProd,
    "weighted": Relative,
    "uw-so 1": lambda: UWSO(1),
    "uw-so 5": lambda: UWSO(5),
    "uw-so 20": lambda: UWSO(20),
    "famo": FAMO,
    "stch": STCH,
    "max-norm": MaxNorm,
}
TUNED = "tuned"

# -- fits ------------------------------------------------------------------------------------


def fit(
    rule: LogProd, data: DataSet, train: Rows, test: Rows, seed: int
) -> tuple[Predictions, Record]:
    """Train with a rule, and predict."""
    model = make_model(data, rule, None, seed)  # type: ignore[arg-type]
    if isinstance(rule, FAMO | MaxNorm):
        callback = LookAgain() if isinstance(rule, FAMO) else Look()
        model.set_params(net__net_params={"callbacks": [callback]})
    X = [data.X.iloc[rows] for rows in (train, test)]
    y = data.y[[task.name for task in data.tasks]].iloc[train]
    start = time.process_time()
    model.fit(X[0], y)
    cpu = time.process_time() - start
    inputs, net = model[:-1].transform(X[1]), model[-1]
    columns = net.predict(inputs).reshape(len(inputs), -1).T
    found: Predictions = dict(zip(net.task_names_, columns, strict=True))
    if classes := [task.name for task in data.tasks if task.kind == "classification"]:
        probabilities, labels = net.predict_proba(inputs), net.classes_
        if len(classes) == 1:
            probabilities, labels = [probabilities], [labels]
        found |= dict(zip(classes, zip(labels, probabilities, strict=True), strict=True))
    out_of_bag = float(np.nanmean(list(net.oob_score_.values())))
    return found, {"n_iter": int(net.n_iter_), "cpu": cpu, "oob": out_of_bag}


def search(
    n_draws: int, data: DataSet, train: Rows, test: Rows, seed: int
) -> tuple[Predictions, Record]:
    """Draw weights, and return what the best ones predict."""
    draws = 10 ** np.random.default_rng(seed).uniform(-1, 1, (n_draws, len(data.tasks)))
    fits = [fit(Relative(draw.tolist()), data, train, test, seed) for draw in draws]
    cpu = sum(extra["cpu"] for _, extra in fits)
    best = int(np.argmax([extra["oob"] for _, extra in fits]))
    predictions, extra = fits[best]
    return predictions, extra | {"cpu": cpu, "shares": draws[best].tolist()}


def tuned(n_draws: int, shares: Sequence[float] | None, *args: Any) -> tuple[Predictions, Record]:
    """Fit with the weights of an earlier search, or search."""
    if shares is None:
        return search(n_draws, *args)
    predictions, extra = fit(Relative(shares), *args)
    return predictions, extra | {"cpu": n_draws * extra["cpu"], "shares": list(shares)}


def measure(name: str, data: DataSet, args: argparse.Namespace) -> dict[str, list[Record]]:
    """Return the records of each rule, in order of the splits; fit what is absent."""
    cache: Path = args.cache
    lines = cache.read_text(encoding="utf-8").splitlines() if cache.exists() else []
    kept = [record for record in map(json.loads, lines) if record["data"] == name]
    records: dict[str, list[Record]] = {
        rule: [] for rule in [*RULES, TUNED] if args.draws or rule != TUNED
    }
    for seed, (train, test, share) in enumerate(folds(data, args.splits)):
        for rule, found in records.items():
            key = {"data": name, "rows": args.rows, "split": seed, "rule": rule}
            key |= {"draws": args.draws} if rule == TUNED else {}
            record = next((record for record in kept if key.items() <= record.items()), None)
            if record is None:
                if rule == TUNED:
                    shares = found[0].get("shares") if found else None
                    method = functools.partial(tuned, args.draws, shares)
                else:
                    method = functools.partial(fit, RULES[rule]())
                fitted = never_worse._fit(method, data, train, test, seed)
                record = key | {"test_share": share} | fitted
                with cache.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(record) + "\n")
                print(f"{name} {rule} {seed}: {never_worse._in_short(record)}", file=sys.stderr)
            found.append(record)
    return records


# -- report ----------------------------------------------------------------------------------


def gains(result: Result, rule: str, task: str | None = None) -> NDArray[Any]:
    """Score above 'logprod' per split, in the mean over tasks or of one."""
    if task is not None:
        return result.of(rule, "scores", task) - result.of("logprod", "scores", task)
    return result.means(rule) - result.means("logprod")


def over_sets(results: Sequence[Result], rule: str) -> tuple[NDArray[Any], float, float]:
    """Mean gain of each set, their mean, and half of its 95 % interval."""
    of_sets = np.array([np.nanmean(gains(result, rule)) for result in results])
    return of_sets, float(of_sets.mean()), half_interval(of_sets, 0.0)


def worst_task(results: Sequence[Result], rule: str) -> tuple[float, str]:
    """Least mean gain of a task, and its name."""
    found = [
        (float(np.nanmean(gain)), f"{result.name} {task}")
        for result in results
        for task in result.tasks
        if np.isfinite(gain := gains(result, rule, task)).any()
    ]
    return min(found)


def times(results: Sequence[Result], rule: str) -> float:
    """Median over sets of the CPU seconds of a fit over those of 'logprod'."""
    cpu = {
        name: [np.mean([record["cpu"] for record in result.records[name]]) for result in results]
        for name in (rule, "logprod")
    }
    return float(np.median(np.divide(cpu[rule], cpu["logprod"])))


def table(results: Sequence[Result]) -> list[str]:
    """Write a row per set, and what they amount to."""
    others = [rule for rule in results[0].records if rule != "logprod"]
    rows = [["set", "rows", "tasks", "logprod", *others]]
    for result in results:
        cells = [result.name, str(result.n_rows), str(len(result.tasks))]
        cells.append(f"{result.means('logprod').mean():.3f}")
        for rule in others:
            gain = gains(result, rule)
            cells.append(f"{gain.mean():+.3f} ± {half_interval(gain, result.test_share):.3f}")
        rows.append(cells)
    found = {rule: over_sets(results, rule) for rule in others}
    worst = {rule: worst_task(results, rule) for rule in others}
    foot = {
        "mean over sets": [f"{mean:+.4f} ± {half:.4f}" for _, mean, half in found.values()],
        "sets above / below": [f"{(v > 0).sum()} / {(v < 0).sum()}" for v, _, _ in found.values()],
        "worst task": [f"{value:+.3f}" for value, _ in worst.values()],
        "time, median": [f"x {times(results, rule):.2f}" for rule in others],
    }
    rows += [[name, "", "", "", *cells] for name, cells in foot.items()]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            c.rjust(w) if j else c.ljust(w)
            for j, (c, w) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    rule = "-" * max(map(len, lines))
    lines = [lines[0], rule, *lines[1 : -len(foot)], rule, *lines[-len(foot) :]]
    return [*lines, "", *(f"worst task of {r}: {name} {v:+.3f}" for r, (v, name) in worst.items())]


def verdict(results: Sequence[Result]) -> tuple[str, bool]:
    """Say which rules are above 'logprod', and whether there are none."""
    texts = {}
    for rule in results[0].records:
        _, mean, half = over_sets(results, rule)
        if rule != "logprod" and mean > half:
            texts[rule] = f"{rule} ({mean:+.4f} ± {half:.4f})"
    reference = texts.pop(TUNED, None)
    after = f"; so is {reference}, at many times the cost" if reference else ""
    if texts:
        return f"FAILED: above logprod: {', '.join(texts.values())}{after}", False
    after = f"; {reference} is, at many times the cost" if reference else ""
    return f"passed: no rule is above logprod with an interval that excludes 0{after}", True


def report(results: Sequence[Result], command: str) -> tuple[str, bool]:
    """Write everything; and say whether no rule is above 'logprod'."""
    failed = [
        f"{result.name}: {message}"
        for result in results
        for message in result.errors(*result.records)
    ]
    whole = [result for result in results if not result.errors(*result.records)]
    lines = [
        f"$ {command}",
        "mean score over tasks (R2, AUC of two classes, accuracy of more); others: difference to "
        "logprod ± half of the 95 % confidence interval",
        "",
    ]
    ok = True
    if whole:
        text, ok = verdict(whole)
        lines += [*table(whole), "", text]
    lines += [f"left out, as there was an error: {text}" for text in failed]
    return "\n".join(lines), ok


def measured(name: str, entry: Entry, args: argparse.Namespace) -> Result | None:
    """Measure one set, if it is a table."""
    data = cut(entry.load(), args.rows)
    if not isinstance(data.X, pd.DataFrame):
        return None
    return Result(name, entry.half, entry.tags, len(data.y), measure(name, data, args))


def command_line(args: argparse.Namespace, parser: argparse.ArgumentParser) -> str:
    """Return the command that prints the table, for any folder DIR."""
    parts = ["python examples/benchmarks/rules.py --data DIR --cache FILE"]
    for option in ("sets", "splits", "rows", "draws"):
        value = getattr(args, option)
        if value != parser.get_default(option):
            text = " ".join(value) if option == "sets" else str(value)
            parts.append(f"--{option} {text}")
    return " ".join(parts)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; return 1 if a rule is above the default."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--sets", nargs="+", metavar="NAME", help="default: all 'chosen' tables")
    parser.add_argument("--splits", type=int, default=3, metavar="N")
    parser.add_argument("--rows", type=int, default=2000, help="rows to keep, drawn at random")
    parser.add_argument("--draws", type=int, default=8, metavar="N", help="of weights; 0 for none")
    parser.add_argument("--cache", type=Path, required=True, metavar="FILE")
    parser.add_argument("--output", type=Path, metavar="FILE", help="also write the table here")
    args = parser.parse_args(argv)
    sets = {n: e for n, e in entries(args.data, args.rows).items() if e.half == "chosen"}
    if unknown := [name for name in args.sets or [] if name not in sets]:
        parser.error(f"--sets {unknown} are not among {', '.join(sets)}")
    if min(args.splits, args.rows) < 1 or args.draws < 0:
        parser.error("--splits or --rows below 1, or --draws below 0")
    torch.set_num_threads(1)
    found = [measured(name, sets[name], args) for name in args.sets or sets]
    results = [result for result in found if result is not None]
    if not results:
        parser.error("there is no table among the sets")
    text, ok = report(results, command_line(args, parser))
    publish(text, args.output)
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
