"""What `verbose` shows: a line for each epoch, and a bar of the one under way."""

from __future__ import annotations

import shutil
import sys
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skorch import NeuralNet
from skorch.callbacks import Callback, PrintLog

__all__ = ["EpochBar", "EpochLines"]

# Columns of a line; more are not used, so that lines stay readable in files.
WIDEST = 100
NARROWEST = 60

# Width of what stands before the losses of the tasks.
NUMBER = 9
TASK = 8

# By the positions of tasks: what stands above, and how wide the column is.
Columns = dict[tuple[int, ...], tuple[str, int]]


class EpochLines(PrintLog):
    """Print an aligned line per epoch, without colours: they are read in files too.

    It holds the epoch, the time that is left ("<" where it may end before), the objectives, the
    score and the loss of each task: on rows left out, on validation data, or else in training. The
    score is the share of the loss of the best constant that is explained, in the mean over tasks: 1
    is perfect, and 0 no better than a constant. An asterisk marks the best objective so far. Tasks
    for which a line has no room share a column with the mean of their losses. Of the parameters of
    skorch's `PrintLog`, `sink` alone has an effect.
    """

    def initialize(self) -> EpochLines:
        """Forget the columns of an earlier training."""
        super().initialize()
        self.columns_: Columns = {}
        return self

    def on_train_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Look at the clock."""
        self.start_, self.before_ = time.perf_counter(), len(net.history)

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        """Print the line of the epoch, and before the first one what its columns are."""
        if self.sink is print and not net.verbose:
            return
        watched = next(p for p in ("oob", "valid", "train") if net.record_.get(f"{p}_loss"))
        if not self.columns_:
            self.columns_ = _columns(net.task_names_, watched)
            for line in _head(self.columns_, watched):
                self.sink(line)
        self.sink(self._line(net, watched))
        if self.sink is print:
            sys.stdout.flush()  # files are watched too

    def _line(self, net: Any, watched: str) -> str:
        epoch, n_epochs = len(net.history), max(net.max_epochs, len(net.history))
        now = net.history[-1]
        objective = now.get(f"{watched}_loss", np.nan)
        losses = np.asarray(net.record_[f"{watched}_loss"][-1], dtype=float)
        elapsed = time.perf_counter() - self.start_
        left = elapsed / max(1, epoch - self.before_) * (n_epochs - epoch)
        may_end = any(hasattr(callback, "patience") for _, callback in net.callbacks_)
        clock = ("<" if may_end and epoch < n_epochs else "") + _clock(left)
        cells = [f"{epoch}/{n_epochs}".rjust(NUMBER), clock.rjust(7)]
        cells.append(_number(now.get("train_loss", np.nan), NUMBER + 2))
        if watched != "train":
            cells.append(_number(objective, NUMBER + 1))
        cells[-1] += "*" if now.get(f"{watched}_loss_best") else " "
        cells.append(_number(_explained(losses, net), TASK - 1))
        for tasks, (_, width) in self.columns_.items():
            cells.append(_number(_mean(losses[list(tasks)]), width))
        return " ".join(cells).rstrip()


def _columns(names: list[str], watched: str) -> Columns:
    """Columns of the tasks."""
    columns = shutil.get_terminal_size((WIDEST, 24)).columns
    room = min(max(columns, NARROWEST), WIDEST)
    room -= len(" ".join(_fixed(watched)))
    widths = [min(max(len(name), TASK), 2 * TASK) + 1 for name in names]
    shown = len(names)
    while shown > 1 and sum(widths[:shown]) + (shown < len(names)) * (TASK + 4) > room:
        shown -= 1
    found: Columns = {(k,): (_cut(names[k], widths[k] - 1), widths[k] - 1) for k in range(shown)}
    others = tuple(range(shown, len(names)))
    if others:
        found[others] = (f"{len(others)} others", max(TASK, len(f"{len(others)} others")))
    return found


def _fixed(watched: str) -> list[str]:
    """Return what stands above the first columns."""
    objective = [] if watched == "train" else [f"{watched}_loss".rjust(NUMBER + 2)]
    train = "train_loss".rjust(NUMBER + 2 + (watched == "train"))
    return ["epoch".rjust(NUMBER), "left".rjust(7), train, *objective, "score".rjust(TASK - 1)]


def _head(columns: Columns, watched: str) -> list[str]:
    """Lines above the first epoch."""
    cells = [*_fixed(watched), *(name.rjust(width) for name, width in columns.values())]
    return [" ".join(cells), " ".join("-" * len(cell) for cell in cells)]


def _explained(losses: NDArray[np.float64], net: Any) -> float:
    """Share of the losses of the best constants that is explained, in the mean over tasks."""
    constant = np.asarray(net.constant_losses_, dtype=float)
    known = np.isfinite(losses) & np.isfinite(constant) & (constant > 0)
    return float(np.mean(1 - losses[known] / constant[known])) if known.any() else np.nan


def _mean(losses: NDArray[np.float64]) -> float:
    known = losses[np.isfinite(losses)]
    return float(known.mean()) if len(known) else np.nan


def _number(value: float, width: int) -> str:
    """Write a number with four decimals, or as many as there is room for; a hole is a dash."""
    if not np.isfinite(value):
        return "-".rjust(width)
    text = f"{value:.4f}"
    return (text if len(text) <= width else f"{value:.{max(0, width - 7)}e}").rjust(width)


def _clock(seconds: float) -> str:
    """Minutes and seconds, and hours where there are any."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def _cut(name: str, width: int) -> str:
    return name if len(name) <= width else f"{name[: width - 4]}..{name[-2:]}"


class EpochBar(Callback):
    """Show a bar of the batches of the epoch under way, by tqdm where it is installed."""

    bar_: Any = None

    def on_epoch_begin(
        self, net: Any, dataset_train: Any = None, dataset_valid: Any = None, **kwargs: Any
    ) -> None:
        """Begin a bar."""
        try:
            from tqdm import tqdm
        except ImportError:
            return
        n_batches = sum(len(data) for data in (dataset_train, dataset_valid) if data is not None)
        name = f"epoch {len(net.history)}/{net.max_epochs}"
        look = {"unit": "batch", "leave": False, "dynamic_ncols": True}
        self.bar_ = tqdm(total=n_batches, desc=name, **look)

    def on_batch_end(self, net: Any, **kwargs: Any) -> None:
        """Count a batch."""
        if self.bar_ is not None:
            self.bar_.update()

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        """Remove the bar."""
        self._close()

    def on_train_end(self, net: Any, **kwargs: Any) -> None:
        """Remove the bar of an epoch that was interrupted."""
        self._close()

    def __getstate__(self) -> dict[str, Any]:
        """Keep no bar."""
        return {name: value for name, value in vars(self).items() if name != "bar_"}

    def _close(self) -> None:
        if self.bar_ is not None:
            self.bar_.close()
            self.bar_ = None
