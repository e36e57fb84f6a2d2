"""Draw the pictures of the front page, the README and the guide anew, into docs/images.

A picture of a page of the guide is what the code above it draws. What no code draws, and figures of
`docs/results`, are made by functions. From the root of a checkout::

    python docs/draw_pictures.py
    python docs/draw_pictures.py docs/quickstart.rst docs/guide/targets.rst docs/guide/speed.rst
"""

from __future__ import annotations

import contextlib
import doctest
import io
import re
import runpy
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from draw_diagrams import draw_holes, draw_inputs, draw_saving
from draw_records import draw_processes, draw_scale, draw_speed
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
PICTURES = ROOT / "docs" / "images"

# Pictures that are not of the code above them.
DRAWN = {
    "inputs.png": draw_inputs,
    "processes.png": draw_processes,
    "questions.png": draw_holes,
    "saving.png": draw_saving,
    "scale.png": draw_scale,
    "speed.png": draw_speed,
}


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


def draw_page(page: Path) -> None:
    """Run the code of a page, and keep what is drawn above each of its images."""
    names: dict[str, Any] = {}
    parts = re.split(r"^ *\.\. image:: \S*images/(\S+)$", page.read_text(), flags=re.MULTILINE)
    for code, picture in zip(parts[::2], parts[1::2], strict=False):  # nothing is below the last
        for example in doctest.DocTestParser().get_examples(code, page.name):
            fails = contextlib.suppress(Exception) if example.exc_msg else contextlib.nullcontext()
            if not example.options.get(doctest.SKIP):
                with fails, contextlib.redirect_stdout(io.StringIO()):
                    exec(compile(example.source, page.name, "single"), names)
        if picture in DRAWN:
            DRAWN[picture]()
        if plt.get_fignums():
            plt.gcf().savefig(PICTURES / picture, dpi=110 if picture in DRAWN else 90)
            with Image.open(PICTURES / picture) as drawn:
                small = drawn.convert("RGB").quantize(128, Image.Quantize.MAXCOVERAGE)
            small.save(PICTURES / picture, optimize=True)
            plt.close("all")


def main(pages: list[Path]) -> None:
    """Draw the pictures of some pages, or all pictures."""
    if not pages:
        draw_question()
        draw_lesson("plot_03_missing_labels.py", "missing_labels.png")
        draw_lesson("plot_06_transfer.py", "transfer.png")
        pages = [ROOT / "docs" / "quickstart.rst", *sorted((ROOT / "docs" / "guide").glob("*.rst"))]
    pages = [page.resolve() for page in pages]
    with TemporaryDirectory() as folder, contextlib.chdir(folder):  # for what pages write
        for page in pages:
            draw_page(page)


if __name__ == "__main__":
    main([Path(page) for page in sys.argv[1:]])
