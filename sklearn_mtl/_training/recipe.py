"""How to train: every 'auto' resolved, by the size of the data."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch

from sklearn_mtl.networks import DenseTrunk, Ensemble, is_data, named_spec

__all__ = [
    "DTYPES",
    "Patience",
    "Recipe",
    "auto_batch_size",
    "auto_max_epochs",
    "auto_patience",
    "auto_precision",
    "auto_weight_decay",
    "device_or_cpu",
    "resolve",
    "resolve_device",
    "resolve_optimizer",
]

# Kinds of devices besides the CPU, and how many of each torch finds here.
N_DEVICES: dict[str, Callable[[], int]] = {
    "cuda": torch.cuda.device_count,
    "mps": lambda: int(torch.backends.mps.is_available()),
    "xpu": torch.xpu.device_count,
}

DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.float32}


# Steps that the data may ask for, and epochs.
MOST_STEPS, MOST_EPOCHS = 20_000, 400
PRIOR_ROWS = 2_000  # from so many rows on, weight decay is in proportion to one over their number


class Patience(NamedTuple):
    """When to end: after so many epochs in which nothing has got better.

    Attributes
    ----------
    least : int
        Epochs to wait.
    share : float
        Or, where that is more, the share of the epochs up to the best one.
    tol : float
        What counts as better.
    watched : {'valid_loss', 'oob_loss'}
        The loss in the history: of validation data, or of the folds left out.
    eases : bool
        Whether weight decay gives way before the end, where much is learned.
    """

    least: int
    share: float
    tol: float
    watched: str
    eases: bool = False

    def epochs(self, best: int) -> float:
        """Epochs to wait after the best one."""
        return max(self.least, self.share * best)


class Recipe(NamedTuple):
    """How to train: resolved parameters.

    With `patience`, at a constant rate, until the validation objective, or that of the folds left
    out, gets no better; without, `max_epochs` epochs along a cosine. Trunks may ask for `n_rows`.
    """

    max_epochs: int
    batch_size: int
    learning_rate: float
    optimizer: Any
    weight_decay: float
    device: str
    precision: str
    verbose: int
    net_params: dict[str, Any]
    patience: Patience | None = None
    n_rows: int | None = None


def resolve(
    parameters: Any, input_shape: Any, n_rows: int, left_out: bool = False, rank: int = 0
) -> Recipe:
    """Resolve every 'auto' among the parameters of the estimator.

    Several inputs count as images if one of them does. `left_out` says whether members of an
    ensemble leave out folds of the rows: these say when to end, but for an `Ensemble` of images or
    sequences, the epochs of which are long. Of several processes on a machine, each takes the GPU
    of its number, `rank`.
    """
    max_epochs, batch_size = parameters.max_epochs, parameters.batch_size
    precision, weight_decay = parameters.precision, parameters.weight_decay
    shapes = [*input_shape.values()] if isinstance(input_shape, Mapping) else [input_shape]
    n_axes = max(map(len, shapes))
    images = n_axes > 1
    spec = parameters.trunk
    spec = named_spec(spec, input_shape) if isinstance(spec, str) else spec
    left_out = left_out and not (isinstance(spec, Ensemble) and images)
    if batch_size == "auto":
        batch_size = auto_batch_size(n_rows, shapes)
    n_batches, patience = math.ceil(n_rows / int(batch_size)), None
    if parameters.early_stopping:
        patience = Patience(parameters.n_iter_no_change, 0.0, parameters.tol, "valid_loss")
    elif max_epochs == "auto" and left_out:
        own = weight_decay != "auto" or "optimizer__weight_decay" in (parameters.net_params or {})
        patience = auto_patience(n_batches, eases=not own)
    if max_epochs == "auto" and patience is not None:
        max_epochs = min(max(math.ceil(MOST_STEPS / n_batches), 12), MOST_EPOCHS)
    elif max_epochs == "auto":
        max_epochs = auto_max_epochs(n_rows, images)
    if precision == "auto":
        precision = auto_precision(parameters.trunk, input_shape, n_rows <= int(batch_size))
    if isinstance(weight_decay, str):
        trunk, optimizer = parameters.trunk, parameters.optimizer
        weight_decay = auto_weight_decay(trunk, optimizer, n_rows, n_axes, left_out)
    return Recipe(
        max_epochs=int(max_epochs),
        batch_size=int(batch_size),
        learning_rate=parameters.learning_rate,
        optimizer=parameters.optimizer,
        weight_decay=weight_decay,
        device=_own_device(resolve_device(parameters.device), rank),
        precision=precision,
        verbose=int(parameters.verbose),
        net_params=parameters.net_params or {},
        patience=patience,
        n_rows=n_rows,
    )


def resolve_device(device: str) -> str:
    """'auto' is CUDA where there is one, else the CPU."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        asked = torch.device(device)
    except RuntimeError as error:
        raise ValueError(
            f"device={device!r} is not a torch device. Use 'auto', 'cpu' or 'cuda'."
        ) from error
    if asked.type == "cpu":
        return "cpu"  # "cpu:0" is the same, but no place for pickles
    if asked.type not in N_DEVICES:  # torch knows names of what would have to be brought
        raise ValueError(f"device={device!r} is not supported. Use 'cpu' or one of {[*N_DEVICES]}.")
    n_devices = N_DEVICES[asked.type]()
    if (asked.index or 0) >= n_devices:
        raise ValueError(
            f"device={device!r}, but torch finds {n_devices or 'none'} of this kind here. Use "
            "'auto' or 'cpu'."
        )
    return device


def _own_device(device: str, rank: int) -> str:
    """Return the device of one of several processes: 'cuda' has one for each, if it has so many."""
    n_devices = N_DEVICES["cuda"]() if device == "cuda" and rank else 0
    return f"cuda:{rank % n_devices}" if n_devices > 1 else device


def device_or_cpu(device: str) -> str:
    """Return a device that works here: the one asked for, else the CPU."""
    try:
        resolved = resolve_device(device)
        torch.empty(0, device=resolved)
    except (ValueError, RuntimeError):  # one that is there, but cannot be used
        return "cpu"
    return resolved


def resolve_optimizer(optimizer: Any) -> Any:
    """Find a name in `torch.optim`; a class is taken as it is."""
    if not isinstance(optimizer, str):
        return optimizer
    known = getattr(torch.optim, optimizer, None)
    if not (isinstance(known, type) and issubclass(known, torch.optim.Optimizer)):
        raise ValueError(
            f"optimizer={optimizer!r} is not in torch.optim. Use a name such as 'AdamW' or 'SGD', "
            "or pass a class."
        )
    if known is torch.optim.SparseAdam:
        raise ValueError(
            "optimizer='SparseAdam' takes sparse gradients only, and those of heads are dense. Use "
            "'AdamW' or another one."
        )
    return known


def auto_batch_size(n_rows: int, shapes: Sequence[tuple[int, ...]]) -> int:
    """About twice the square root of the rows, a power of two from 64 to 512; of images, half.

    Of images of 128 x 128 pixels and more, or as many voxels or steps, so many that a batch has no
    more pixels than 32 images of 224 x 224, as what lies between the layers needs memory for each
    of them; but 8 at least.
    """
    images = [shape for shape in shapes if len(shape) > 1]
    n_pixels = sum(math.prod(shape[1:]) for shape in images)
    size = (1 if images else 2) * math.sqrt(n_rows)
    size = min(max(2 ** round(math.log2(size)), 64), 256 if images else 512)
    if n_pixels < 128**2:
        return int(size)
    return int(min(size, max(2 ** math.floor(math.log2(32 * 224**2 / n_pixels)), 8)))


def auto_max_epochs(n_rows: int, images: bool) -> int:
    """800 over the square root of the rows, from 12 to 30; of images, 3700 and from 30 to 100.

    With `auto_batch_size`, that is 150 steps for 300 rows and 400 to 600 for 1,000 to 6,000; 500,
    and 1,600 to 4,500, for images. Noisy tables are learned by heart in more; images, of which a
    `ConvTrunk` sees other shifts each time, still gain.
    """
    per_root, least, most = (3700, 30, 100) if images else (800, 12, 30)
    return round(min(max(per_root / math.sqrt(n_rows), least), most))


def auto_patience(n_batches: int, eases: bool = False) -> Patience:
    """Four epochs, 30 steps, or a quarter of what it took to the best epoch, whatever is most.

    An epoch counts as better if the logarithms of the losses have fallen by 0.01 in the mean over
    tasks: in the end of a long training, less is not worth its time.
    """
    return Patience(max(4, math.ceil(30 / n_batches)), 1 / 4, 0.01, "oob_loss", eases)


def auto_weight_decay(
    trunk: Any, optimizer: Any, n_rows: int, n_axes: int, left_out: bool = False
) -> float:
    """3 for AdamW, whose decay is decoupled from the gradient; 0 for other optimizers.

    Where folds are left out, 1 up to 2,000 rows, and 2,000 over their number above, as a prior
    counts for less beside more rows: what is found there says when to stop, and no decay has to see
    to it that noise is not learned by heart. 0.3 for sequences, samples of two axes: with more,
    what is learned slowly beside other tasks, such as frequencies, may never be, and noise is
    learned as well with 3.

    Found on noisy tables and on images (see the benchmarks): without it, noise is learned by heart.
    With more than 1,111 images it is 100 over the square root of their number. It was found for the
    trunks that have a name, which begin with random weights; those of others, pretrained perhaps,
    would be forgotten with it: there it is 0.01, PyTorch's own.
    """
    if optimizer not in ("AdamW", torch.optim.AdamW):
        return 0.0
    if not is_data(trunk):
        return 0.01
    if left_out:
        return min(1.0, PRIOR_ROWS / n_rows)
    if n_axes == 2:
        return 0.3
    return min(100 / math.sqrt(n_rows), 3.0) if n_axes > 2 else 3.0


def auto_precision(trunk: Any, input_shape: Any, full_batch: bool) -> str:
    """float64 for a dense trunk that sees all rows at once, else float32.

    There float64 costs nothing, and a repeated row equals a weight of 2 to the last digits.
    """
    rows = isinstance(input_shape, tuple) and len(input_shape) == 1
    dense = isinstance(trunk, DenseTrunk) or (
        isinstance(trunk, str) and (trunk == "dense" or (trunk == "auto" and rows))
    )
    return "float64" if dense and full_batch else "float32"
