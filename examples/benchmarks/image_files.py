"""Images in files: what reading them by batch costs in time, and what a long list takes in memory.

Photographs of 500 x 375 pixels are drawn, written as JPEG, and read at 224 x 224.

*Time.* Epochs of the default trunk on an array in memory, on ``ImageFiles`` that decode each image
anew (``cache=0``) with two threads, and on ``ImageFiles`` of which the cache holds all. The three
take turns, in one process with two threads of torch; shown are medians. Lazy reading has to reach
0.8 of the images per second of the array.

*Memory.* The largest memory of a process that fits a small trunk for one epoch, in batches of 32
(or, by ``--batch-size auto``, as many as the estimator takes itself), to 20,000 such files (hard
links to a few hundred; they would be 3 GB in memory, uint8), with the cache as it is by default. It
has to stay below 1 GB, of which importing the package takes some. (Linux only.)

    python examples/benchmarks/image_files.py
    python examples/benchmarks/image_files.py time
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "2")

import numpy as np
import torch
from PIL import Image
from real_data import publish

from sklearn_mtl import MultiTaskCNNEstimator
from sklearn_mtl.datasets import ImageFiles, load_images
from sklearn_mtl.networks import ConvTrunk

SIDE, LEAST_RATIO, MOST_MEMORY = 224, 0.8, 1.0  # pixels, of the array, and GB
FIT = """
import sys
from pathlib import Path
import numpy as np
from sklearn_mtl import MultiTaskCNNEstimator
from sklearn_mtl.datasets import ImageFiles
from sklearn_mtl.networks import ConvTrunk

def most():  # so far, in GB
    (line,) = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
    return int(line.split()[1]) / 2**20

imports, paths = most(), sorted(Path(sys.argv[1]).iterdir())
X, y = ImageFiles(paths, size=int(sys.argv[2])), np.arange(len(paths)) % 7.0
trunk, size = ConvTrunk(width=2, n_features=8), sys.argv[3]
size = size if size == "auto" else int(size)
MultiTaskCNNEstimator(max_epochs=1, batch_size=size, trunk=trunk).fit(X, y)
print(imports, most())
"""


def draw(folder: Path, n_files: int) -> list[Path]:
    """Write photographs, of large forms with noise on them."""
    rng, paths = np.random.default_rng(0), []
    for i in range(n_files):
        forms = rng.integers(256, size=(12, 16, 3), dtype=np.uint8)
        image = Image.fromarray(forms).resize((500, 375), Image.Resampling.BICUBIC)
        noisy = np.asarray(image) + rng.normal(0, 8, (375, 500, 1))
        paths.append(folder / f"{i}.jpg")
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(paths[-1], quality=88)
    return paths


def images_per_second(X: np.ndarray | ImageFiles, y: np.ndarray, n_epochs: int) -> list[float]:
    """Images per second of each epoch of a fit."""
    est = MultiTaskCNNEstimator(max_epochs=n_epochs, trunk=ConvTrunk(), random_state=0).fit(X, y)
    return [len(y) / row["dur"] for row in est.net_.history]


def measure_time(paths: list[Path], n_turns: int, n_epochs: int) -> dict[str, np.ndarray]:
    """Images per second, by the way they are held, (n_turns,)."""
    torch.set_num_threads(2)
    y = np.random.default_rng(0).normal(size=(len(paths), 2))
    ways = {
        "array in memory": load_images(paths, SIDE, n_jobs=2),
        "ImageFiles, decoded anew": ImageFiles(paths, SIDE, cache=0, n_jobs=2),
        "ImageFiles, all in the cache": ImageFiles(paths, SIDE, cache=2**32, n_jobs=2),
    }
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(n_turns):
        for name, X in ways.items():
            found[name].append(float(np.median(images_per_second(X, y, n_epochs))))
    return {name: np.array(speeds) for name, speeds in found.items()}


def measure_memory(
    paths: list[Path], n_files: int, folder: Path, batch_size: str = "32"
) -> tuple[float, float, float]:
    """GB after the imports, and the most of the fit to links to the files; and its seconds."""
    for i in range(n_files):
        os.link(paths[i % len(paths)], folder / f"{i:06d}.jpg")
    start = time.perf_counter()
    command = [sys.executable, "-c", FIT, str(folder), str(SIDE), batch_size]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    imports, most = map(float, done.stdout.split())
    return imports, most, time.perf_counter() - start


def table_of_time(speeds: dict[str, np.ndarray]) -> tuple[list[str], str | None]:
    """Lines of the table, and what was missed."""
    base = speeds["array in memory"]
    lines = [f"{'X':32s}{'images per s':>14s}{'of the array':>14s}"]
    lines.append("-" * len(lines[-1]))
    for way, speed in speeds.items():
        lines.append(f"{way:32s}{np.median(speed):14.1f}{np.median(speed / base):14.2f}")
    ratio = np.median(speeds["ImageFiles, decoded anew"] / base)
    missed = f"{ratio:.2f} of the images per second of the array, not {LEAST_RATIO}"
    return [*lines, ""], missed if ratio < LEAST_RATIO else None


def table_of_memory(
    n_files: int, batch_size: str, imports: float, most: float, seconds: float
) -> tuple[list[str], str | None]:
    """Lines of the table, and what was missed."""
    lines = [
        f"fit to {n_files:,} files, one epoch, ConvTrunk(width=2), batch_size={batch_size}: "
        f"{seconds:.0f} s",
        f"at most {most:.2f} GB, of which the imports {imports:.2f}; all images would be "
        f"{n_files * 3 * SIDE**2 / 2**30:.2f} GB",
        "",
    ]
    return lines, f"{most:.2f} GB, not below {MOST_MEMORY}" if most >= MOST_MEMORY else None


def main() -> int:
    """Print the tables, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", choices=["time", "memory", []], help="default: both")
    parser.add_argument("--images", type=int, default=320, metavar="N", help="that are drawn")
    parser.add_argument("--turns", type=int, default=3, metavar="N")
    parser.add_argument("--epochs", type=int, default=2, metavar="N", help="of a turn")
    parser.add_argument("--files", type=int, default=20_000, metavar="N", help="of the long list")
    parser.add_argument("--batch-size", default="32", metavar="N", help="of the long fit, or auto")
    parser.add_argument("--output", type=Path, metavar="FILE", help="also write the table here")
    args = parser.parse_args()
    parts = args.parts or ["time", "memory"]
    lines = [
        f"JPEG of 500 x 375 at {SIDE} px",
        " ".join(["$ python examples/benchmarks/image_files.py", *sys.argv[1:]]),
        "",
    ]
    found = []
    with tempfile.TemporaryDirectory() as name:
        drawn, linked = Path(name, "drawn"), Path(name, "linked")
        drawn.mkdir()
        linked.mkdir()
        paths = draw(drawn, args.images)
        if "time" in parts:
            lines.append(
                f"ConvTrunk(), two threads, {args.images} images, {args.turns} turns of "
                f"{args.epochs} epochs"
            )
            found.append(table_of_time(measure_time(paths, args.turns, args.epochs)))
        if "memory" in parts:
            memory = measure_memory(paths, args.files, linked, args.batch_size)
            found.append(table_of_memory(args.files, args.batch_size, *memory))
    for table, _ in found:
        lines += table
    missed = [text for _, text in found if text is not None]
    promise = {"time": f"at least {LEAST_RATIO} of the array", "memory": f"below {MOST_MEMORY} GB"}
    passed = f"passed: {', '.join(promise[part] for part in parts)}"
    lines.append(f"FAILED: {'; '.join(missed)}" if missed else passed)
    publish("\n".join(lines), args.output)
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
