"""Draw the pictures of the front page and the README anew, into docs/images.

From the root of a checkout::

    python docs/draw_pictures.py
"""

from __future__ import annotations

import runpy
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
PICTURES = ROOT / "docs" / "images"


def draw_question() -> None:
    """Draw parts with and without a defect, and the table of their targets."""
    rng = np.random.default_rng(4)
    bright, size = np.array([0.35, 0.7, 0.5, 0.25]), np.array([5, 0, 8, 0])
    figure, axes = plt.subplots(
        2, 4, figsize=(8.4, 3.4), layout="constrained", height_ratios=[2.4, 1]
    )
    for axis, light, side in zip(axes[0], bright, size, strict=True):
        image = light + rng.normal(scale=0.04, size=(16, 16))
        image[4 : 4 + side, 4 : 4 + side] += 0.35
        axis.imshow(image, cmap="gray", vmin=0, vmax=1)
    for axis, light, side in zip(axes[1], bright, size, strict=True):
        lines = (
            ("defect", "yes" if side else "no", "#0072B2"),
            ("brightness", f"{light:.2f}", "#333333"),
            ("size", f"{side} px" if side else "does not exist", "#0072B2" if side else "#D55E00"),
        )
        for k, (name, value, color) in enumerate(lines):
            axis.text(0.02, 0.85 - 0.36 * k, name, va="center", color="#555555", fontsize=11)
            axis.text(
                0.98, 0.85 - 0.36 * k, value, va="center", ha="right", color=color, fontsize=11
            )
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.set_frame_on(False)
    figure.suptitle("One network, three targets. What should it learn where there is no size?")
    figure.savefig(PICTURES / "question.png", dpi=110)


def draw_lesson(name: str, picture: str) -> None:
    """Run a lesson and keep its last figure."""
    runpy.run_path(str(ROOT / "examples" / name))
    plt.gcf().savefig(PICTURES / picture, dpi=110)
    plt.close("all")


if __name__ == "__main__":
    draw_question()
    draw_lesson("plot_03_missing_labels.py", "missing_labels.png")
