"""Draw figures of the records in `docs/results`, for pages of the guide.

`draw_pictures.py` calls these functions. Each reads what a benchmark has printed, and returns
a figure that can be read at 360 pixels.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

RESULTS = Path(__file__).resolve().parent / "results"
OURS, OTHERS = "#0072B2", "#BBBBBB"


def bars(axes: Axes, values: Mapping[str, float], ours: Collection[str], unit: str = "") -> None:
    """Draw a bar for each value, the first one at the top, and `ours` in blue."""
    colors = [OURS if name in ours else OTHERS for name in values]
    drawn = axes.barh(list(values), list(values.values()), color=colors)
    axes.bar_label(drawn, fmt=lambda value: f"{value:.3g}{unit}", padding=3, fontsize=9)
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.18)


def seconds_of(record: str, table: str) -> dict[str, float]:
    """Return the seconds per epoch of each row of a table of `speed.txt`."""
    lines = record[record.index(f"\n{table}") :].split("\n\n")[0].splitlines()
    return {line[:36].strip(): float(line[36:].split()[0]) for line in lines if "." in line[36:]}


def draw_speed() -> Figure:
    """Draw seconds per epoch beside other libraries."""
    record = (RESULTS / "speed.txt").read_text()
    figure, axes = plt.subplots(2, figsize=(5.6, 5.6), layout="constrained", height_ratios=[7, 10])
    for axis, table in zip(axes, ("dense 20-64-64-3", "conv 16-32 on 28x28"), strict=True):
        title = next(line for line in record.splitlines() if line.startswith(table))
        seconds = seconds_of(record, table)
        bars(axis, seconds, [name for name in seconds if "sklearn_mtl" in name], " s")
        axis.set_title(title.partition("  ")[0], fontsize=10)
    axes[1].set_xlabel("seconds per epoch")
    return figure


def draw_scale() -> Figure:
    """Draw the memory of a fit, and the speed of ways to keep X."""
    record = (RESULTS / "scale.txt").read_text()
    fit, predict = (
        float(re.search(rf"^{what} of a memmap of 20 GB.*?([\d.]+) MB", record, re.M)[1])
        for what in ("fit", "predict")
    )
    figure, axes = plt.subplots(2, figsize=(5.6, 4.4), layout="constrained", height_ratios=[3, 7])
    bars(axes[0], {"X": 20.0, "fit": fit / 1e3, "predict": predict / 1e3}, ["fit", "predict"])
    axes[0].set_xlabel("GB: X in its file, and what is added to the memory")
    shares = {}
    for name, share in re.findall(
        r"^(.*): rows a second, of those in memory\s+([\d.]+)", record, re.M
    ):
        shares[name] = float(share)
    bars(axes[1], {"in memory": 1.0} | shares, shares)
    axes[1].set_xlabel("rows a second, of those in memory")
    return figure


def draw_processes() -> Figure:
    """Draw the time that each of two processes computes."""
    record = (RESULTS / "processes.txt").read_text()
    found = re.findall(r"^(\w+)\s+2 processes:\s+([\d.]+) of the CPU time", record, re.M)
    figure, axes = plt.subplots(figsize=(5.6, 1.9), layout="constrained")
    shares = {f"each of two: {what}": float(share) for what, share in found}
    bars(axes, {"one process": 1.0} | shares, shares)
    axes.set_xlabel("CPU time of an epoch, of that of one process")
    return figure
