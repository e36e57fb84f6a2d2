"""Trunks that share a representation, and the multi-head module on top of them.

A trunk maps a batch ``(B, *input_shape)`` to features ``(B, F)``, or ``(B, M, F)`` for an ensemble
of M members. Trunk *specs* (`DenseTrunk`, `ConvTrunk`, and `TabMTrunk`, `TimmTrunk` over packages
that are extras) know how to build one for an input shape, and their parameters can be searched:
``trunk__width``.
"""

from __future__ import annotations

import copy
import inspect
import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from numbers import Integral, Real
from typing import Any, ClassVar

import torch
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import Interval
from torch import Tensor, nn

from sklearn_mtl._extra_trunks import TabMTrunk, TimmTrunk

__all__ = [
    "TRUNKS",
    "ConvTrunk",
    "DenseTrunk",
    "HiddenHeads",
    "MultiTaskModule",
    "TabMTrunk",
    "TimmTrunk",
    "build_trunk",
]


class DenseTrunk(BaseEstimator):
    """Fully connected trunk for tabular rows (other inputs are flattened).

    Every feature is clipped softly, and goes in as it is and as learned waves, from which a few
    layers build functions with steps and bends as trees do [1]_. The layers are those of a small
    ensemble whose members share their weight matrices and differ by scales [2]_: features have
    the shape (B, n_members, F), loss and predictions are averaged over members. There are no batch
    statistics and no dropout, so that a sample weight of 2 equals the row twice.

    This is made for noisy tables of some hundred rows and more. Predictions level off beyond three
    standard deviations of a feature, as those of trees do beyond the last split. For trends to be
    continued, for features with very long tails, or for less than about a hundred rows, a plain
    multi-layer perceptron is better: ``DenseTrunk(n_members=1, n_frequencies=0)``.

    Parameters
    ----------
    hidden_layer_sizes : sequence of int or int, default=(256, 256)
        Units per layer; an int is one layer. ``()`` has no hidden layer: every head is then a
        linear model of X, and the other parameters say nothing.
    n_members : int, default=4
        Members of the ensemble. Time grows with it, the number of weights hardly.
    n_frequencies : int, default=16
        Waves per feature; time grows with it. 0 for none, and for features that are not clipped.
    frequency_scale : float, default=0.3
        Standard deviation of the waves' initial frequencies, in periods per unit of a feature,
        which has been scaled to about one standard deviation. Higher fits steps, and noise, more.

    References
    ----------
    .. [1] D. Holzmueller, L. Grinsztajn, I. Steinwart, "Better by Default: Strong Pre-Tuned MLPs
       and Boosted Trees on Tabular Data", NeurIPS 2024, arXiv:2407.04491 (the embedding PBLD).
    .. [2] Y. Gorishniy, A. Kotelnikov, A. Babenko, "TabM: Advancing Tabular Deep Learning with
       Parameter-Efficient Ensembling", ICLR 2025, arXiv:2410.24210.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
        "n_members": [Interval(Integral, 1, None, closed="left")],
        "n_frequencies": [Interval(Integral, 0, None, closed="left")],
        "frequency_scale": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(
        self,
        hidden_layer_sizes: Sequence[int] | int = (256, 256),
        n_members: int = 4,
        n_frequencies: int = 16,
        frequency_scale: float = 0.3,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.n_members = n_members
        self.n_frequencies = n_frequencies
        self.frequency_scale = frequency_scale

    def build(self, input_shape: tuple[int, ...]) -> nn.Module:
        """Return the trunk for inputs of `input_shape`.

        Raises
        ------
        ValueError
            If a parameter is not as described.
        """
        self._validate_params()
        given: Any = self.hidden_layer_sizes
        sizes = (given,) if isinstance(given, Integral) else tuple(given)
        if any(isinstance(u, bool) or not isinstance(u, Integral) or int(u) < 1 for u in sizes):
            raise ValueError(
                f"hidden_layer_sizes={self.hidden_layer_sizes!r} of DenseTrunk must be whole "
                "numbers above 0."
            )
        width = math.prod(input_shape)
        layers: list[nn.Module] = [nn.Flatten()]
        if sizes and self.n_frequencies:
            waves = _Waves(width, self.n_frequencies, self.frequency_scale)
            layers.append(waves)
            width = waves.n_features
        for depth, units in enumerate(sizes):
            if self.n_members > 1:
                linear: nn.Module = _MemberLinear(width, units, self.n_members, depth == 0)
            else:
                linear = nn.Linear(width, units)
            layers += [linear, nn.ReLU()]
            width = units
        return nn.Sequential(*layers)


class _Waves(nn.Module):
    """Features (B, d), and for each of them a few mixtures of cosines of it: (B, 5 d).

    Features are clipped softly, x / sqrt(1 + (x / 3)^2): outliers neither pull the network, nor run
    through many periods.
    """

    n_mixtures = 4

    def __init__(self, width: int, n_frequencies: int, scale: float) -> None:
        super().__init__()
        self.n_features = width * (1 + self.n_mixtures)
        self.frequency = nn.Parameter(scale * torch.randn(width, n_frequencies))
        self.phase = nn.Parameter(torch.rand(width, n_frequencies))
        spread = n_frequencies**-0.5
        self.mixture = nn.Parameter(spread * torch.randn(width, n_frequencies, self.n_mixtures))

    def no_weight_decay(self) -> set[str]:
        return {"frequency", "phase"}

    def forward(self, x: Tensor) -> Tensor:
        near = x.clamp(-1e9, 1e9)  # squares stay finite; infinity, by 0 * x, becomes NaN: an error
        x = near * torch.rsqrt(1 + (near / 3) ** 2) + 0 * x
        waves = torch.cos(2 * math.pi * torch.addcmul(self.phase, x[:, :, None], self.frequency))
        mixtures = torch.einsum("bdf,dfm->bdm", waves, self.mixture)
        return torch.cat([x, mixtures.flatten(1)], dim=1)


class _MemberLinear(nn.Module):
    """A linear layer of M members: (B, n_in) or (B, M, n_in) to (B, M, n_out).

    All share the matrix; each has scales of inputs and outputs, and a bias. The first layer's
    scales are random signs: members see the inputs differently, and stay different.
    """

    def __init__(self, n_in: int, n_out: int, n_members: int, first: bool) -> None:
        super().__init__()
        self.shared = nn.Linear(n_in, n_out, bias=False)
        signs = torch.randint(2, (n_members, n_in)) * 2.0 - 1
        self.scale_in = nn.Parameter(signs if first else torch.ones(n_members, n_in))
        self.scale_out = nn.Parameter(torch.ones(n_members, n_out))
        bound = n_in**-0.5  # as in nn.Linear
        self.bias = nn.Parameter(torch.empty(n_members, n_out).uniform_(-bound, bound))

    def no_weight_decay(self) -> set[str]:
        return {"scale_in", "scale_out", "bias"}

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim == 2:  # scale the matrix and not the batch: it is not repeated then
            matrix = (self.shared.weight * self.scale_in[:, None]).flatten(0, 1)
            x = (x @ matrix.T).unflatten(1, self.scale_out.shape)
        else:
            x = self.shared(x * self.scale_in)
        return torch.addcmul(self.bias, x, self.scale_out)


class ConvTrunk(BaseEstimator):
    """Residual convolutional trunk for sequences (C, L), images (C, H, W), volumes (C, D, H, W).

    Stages halve the resolution until it is about 4; the features keep *where* things are, because
    the last map is flattened and not averaged.

    Parameters
    ----------
    width : int, default=16
        Channels of the first stage; they double per stage, up to four times.
    n_features : int, default=128
        Size F of the representation.
    max_shift : float, default=0.05
        Largest shift in training, about, as a share of each side: samples are moved at random by up
        to that many whole pixels (or steps) in every direction, and their edges repeated. The
        network then learns what things look like instead of single pixels by heart. With 0.05,
        sides of 10 pixels or fewer do not move. The shift is noise in X: where a target is a
        position that varies by little more than the shift, predictions shrink towards the mean.
        Choose 0 there, where a position in X has a meaning of its own, as in spectra, and for
        optimizers with a line search.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "width": [Interval(Integral, 1, None, closed="left")],
        "n_features": [Interval(Integral, 1, None, closed="left")],
        "max_shift": [Interval(Real, 0, 0.5, closed="both")],
    }

    def __init__(self, width: int = 16, n_features: int = 128, max_shift: float = 0.05) -> None:
        self.width = width
        self.n_features = n_features
        self.max_shift = max_shift

    def build(self, input_shape: tuple[int, ...]) -> nn.Module:
        """Return the trunk for inputs of `input_shape`.

        Raises
        ------
        ValueError
            If a parameter is not as described, or samples are rows.
        """
        self._validate_params()
        n_dims = len(input_shape) - 1
        if n_dims not in CONV:
            raise ValueError(
                f"ConvTrunk needs samples of shape (C, L), (C, H, W) or (C, D, H, W), got "
                f"{input_shape}. Pass input_shape= to say how to read a row as an image."
            )
        n_stages = max(1, round(math.log2(max(max(input_shape[1:]) / 4, 2))))
        layers: list[nn.Module] = [_Shift(round(self.max_shift * size) for size in input_shape[1:])]
        channels = input_shape[0]
        for stage in range(n_stages):
            width = self.width * 2 ** min(stage, 2)
            layers.append(_Stage(n_dims, channels, width))
            channels = width
        pool = ADAPTIVE_POOL[n_dims](tuple(min(4, s) for s in input_shape[1:]))
        cells = math.prod(min(4, s) for s in input_shape[1:])
        summary = nn.Linear(channels * cells, self.n_features)
        # Leaky: strong weight decay, before the first thing is learned, can leave all units off.
        return nn.Sequential(*layers, pool, nn.Flatten(), summary, nn.LeakyReLU())


CONV: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
MAX_POOL: dict[int, Any] = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}
ADAPTIVE_POOL: dict[int, Any] = {
    1: nn.AdaptiveAvgPool1d,
    2: nn.AdaptiveAvgPool2d,
    3: nn.AdaptiveAvgPool3d,
}


class _Shift(nn.Module):
    """In training, each sample moved at random by up to `reach` steps along every dimension."""

    def __init__(self, reach: Iterable[int]) -> None:
        super().__init__()
        self.reach = tuple(reach)

    def extra_repr(self) -> str:
        return f"reach={self.reach}"

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not any(self.reach):
            return x
        n, n_dims = x.shape[0], len(self.reach)
        index = [torch.arange(n, device=x.device).view(-1, *[1] * n_dims)]
        for dim, (reach, size) in enumerate(zip(self.reach, x.shape[2:], strict=True)):
            move = torch.randint(-reach, reach + 1, (n, 1)).to(x.device)  # the seed is the CPU's
            cells = (torch.arange(size, device=x.device) + move).clamp(0, size - 1)
            index.append(cells.view(-1, *[size if d == dim else 1 for d in range(n_dims)]))
        return x.movedim(1, -1)[tuple(index)].movedim(-1, 1)


class _Stage(nn.Module):
    """Convolution and pooling by 2, then a residual convolution at the lower resolution."""

    def __init__(self, n_dims: int, n_in: int, n_out: int) -> None:
        super().__init__()
        conv = CONV[n_dims]
        self.enter = nn.Sequential(
            conv(n_in, n_out, 3, padding=1, bias=False),
            MAX_POOL[n_dims](2, ceil_mode=True),  # before the norm: a quarter of its cost
            _norm(n_out),
            nn.ReLU(),
        )
        self.residual = nn.Sequential(conv(n_out, n_out, 3, padding=1, bias=False), _norm(n_out))

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        return torch.relu(x + self.residual(x))


def _norm(channels: int) -> nn.Module:
    return nn.GroupNorm(math.gcd(8, channels), channels)


class HiddenHeads(nn.Module):
    """One hidden layer of ReLU units per task, and the task's outputs on top of it.

    Parameters
    ----------
    n_features : int
        Inputs of all tasks.
    n_outputs : sequence of int
        Outputs per task; they stand side by side.
    n_hidden : int
        Hidden units per task. No other task sees them.

    Notes
    -----
    Two matrix products and no loop over tasks: the second matrix is zero where an output would meet
    the units of another task. It grows with the square of the number of tasks, which costs little
    up to about a hundred.
    """

    owner: Tensor

    def __init__(self, n_features: int, n_outputs: Sequence[int], n_hidden: int) -> None:
        super().__init__()
        n_tasks = len(n_outputs)
        self.hidden = nn.Linear(n_features, n_tasks * n_hidden)
        bound = n_hidden**-0.5  # as in nn.Linear
        self.weight = nn.Parameter(torch.empty(sum(n_outputs), n_hidden).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(sum(n_outputs)).uniform_(-bound, bound))
        owner = torch.eye(n_tasks).repeat_interleave(torch.tensor(n_outputs), dim=0)
        self.register_buffer("owner", owner.unsqueeze(2), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """Map (..., n_features) to (..., sum(n_outputs))."""
        hidden = torch.relu(self.hidden(features))
        weight = (self.owner * self.weight.unsqueeze(1)).flatten(1)
        return nn.functional.linear(hidden, weight, self.bias)


class MultiTaskModule(nn.Module):
    """A shared trunk with one head per task.

    Parameters
    ----------
    trunk : nn.Module
        Maps ``(B, *input_shape)`` to features (B, F) or (B, M, F).
    n_features : int
        F.
    n_outputs : sequence of int
        Raw outputs per task; they stand side by side in the output.
    bias : Tensor of shape (sum(n_outputs),), optional
        Start of the heads' biases: the raw outputs of the best constant predictor, from where
        training of rare classes starts best.
    head_hidden_units : int, default=0
        Hidden ReLU units of each head, which no other task shares; 0 for linear heads.
    channels_last : bool, default=False
        Whether the trunk gets images in the memory order "channels last", in which most
        convolutions are faster.

    Notes
    -----
    `heads` is one layer for all tasks, with a `weight` and a `bias` of length sum(n_outputs):
    there is no loop over tasks.
    """

    def __init__(
        self,
        trunk: nn.Module,
        n_features: int,
        n_outputs: Sequence[int],
        bias: Tensor | None = None,
        head_hidden_units: int = 0,
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        self.trunk, self.n_features, self.channels_last = trunk, n_features, channels_last
        self.heads: nn.Linear | HiddenHeads
        with warnings.catch_warnings():  # a single ordered class has no output at all
            warnings.filterwarnings("ignore", "Initializing zero-element tensors")
            if head_hidden_units:
                self.heads = HiddenHeads(n_features, n_outputs, head_hidden_units)
            else:
                self.heads = nn.Linear(n_features, sum(n_outputs))
        if bias is not None:
            with torch.no_grad():
                self.heads.bias.copy_(bias)

    def embed(self, x: Tensor) -> Tensor:
        """Shared representation (B, F), averaged over ensemble members."""
        features = self._features(x)
        return features.mean(dim=1) if features.ndim == 3 else features

    def forward(self, x: Tensor) -> Tensor:
        """Raw outputs (B, sum(n_outputs)), or (B, M, sum(n_outputs))."""
        features = self._features(x)
        if features.ndim == 2:
            return self.heads(features)
        # Members as rows: linear layers over three axes are compiled for one size of batches only.
        return self.heads(features.flatten(0, 1)).unflatten(0, (-1, features.shape[1]))

    def _features(self, x: Tensor) -> Tensor:
        return self.trunk(_channels_last(x) if self.channels_last else x)


# Names of specs, and the specs that a file may hold: making one must not read or run anything else.
TRUNKS: dict[str, Callable[[], Any]] = {
    "dense": DenseTrunk,
    "conv": ConvTrunk,
    "tabm": TabMTrunk,
}


def build_trunk(trunk: Any, input_shape: tuple[int, ...]) -> tuple[nn.Module, int]:
    """Make a trunk from what a user passed, and find its number of features by a dry run.

    Parameters
    ----------
    trunk : 'auto', a name of `TRUNKS`, a spec with ``build(input_shape)``, nn.Module, callable
        ``'auto'`` is dense for rows and conv for all else. A module is copied; a callable without
        arguments, such as a class of modules, returns a module. Lazy layers learn their sizes
        from the dry run.
    input_shape : tuple of int
        Shape of one sample, channels first.

    Returns
    -------
    trunk : nn.Module
    n_features : int

    Raises
    ------
    TypeError
        If a callable needs arguments, or returns something else than an nn.Module.
    ValueError
        If a module cannot be copied, the trunk fails on samples of this shape, or its features
        have another shape than (B, F) or (B, M, F).
    """
    if isinstance(trunk, str):
        name = ("dense" if len(input_shape) == 1 else "conv") if trunk == "auto" else trunk
        trunk = TRUNKS[name]()
    if isinstance(trunk, type) and hasattr(trunk, "build"):
        raise ValueError(f"trunk={trunk.__name__} is a class. Pass an object: {trunk.__name__}().")
    if isinstance(trunk, nn.Module):
        module = _copied(trunk)
    elif hasattr(trunk, "build"):
        module = trunk.build(input_shape)
    else:
        _check_no_arguments(trunk)
        module = trunk()
    if not isinstance(module, nn.Module):
        raise TypeError(f"trunk={trunk!r} returned {type(module).__name__}, expected an nn.Module.")
    training = module.training
    try:
        with torch.no_grad():
            features = module.eval()(torch.zeros(2, *input_shape, dtype=_dtype_of(module)))
    except Exception as error:  # whatever a user's module raises
        raise ValueError(
            f"trunk fails on a batch of shape (2, {', '.join(map(str, input_shape))}): "
            f"{str(error).removesuffix('.')}. "
            "Pass a trunk that takes samples of this shape, or another input_shape."
        ) from error
    module.train(training)
    if (
        not isinstance(features, Tensor)
        or features.ndim not in (2, 3)
        or len(features) != 2
        or 0 in features.shape
        or not features.is_floating_point()
    ):
        shape = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise ValueError(
            f"trunk maps a batch of shape (2, {', '.join(map(str, input_shape))}) to {shape}, "
            "expected features of shape (2, F), or (2, M, F) for an ensemble. Flatten its output."
        )
    return module, features.shape[-1]


def takes_channels_last(trunk: nn.Module, input_shape: tuple[int, ...]) -> bool:
    """Whether a trunk says the same of images with channels last in memory, and learns from them.

    It does not if it relies on the order, as by `Tensor.view` on what a convolution returns.

    Parameters
    ----------
    trunk : nn.Module
        As `build_trunk` returns it; a copy is tried, forwards and backwards.
    input_shape : tuple of int
        Shape of one sample, channels first.

    Returns
    -------
    takes_it : bool
        False for samples that are no images, and for trunks without convolutions over them.
    """
    if len(input_shape) != 3 or not any(isinstance(m, nn.Conv2d) for m in trunk.modules()):
        return False
    x = torch.linspace(-1, 1, 2 * math.prod(input_shape), dtype=_dtype_of(trunk))
    x = x.view(2, *input_shape)
    try:
        trial = copy.deepcopy(trunk).eval()
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.testing.assert_close(trial(_channels_last(x)), trial(x), rtol=1e-3, atol=1e-4)
            total = trial.train()(_channels_last(x)).sum()
            if total.requires_grad:
                total.backward()
    except Exception:  # whatever a user's module raises
        return False
    return True


def _channels_last(x: Tensor) -> Tensor:
    """Return images (B, C, H, W) as they are, but in the memory order of (B, H, W, C).

    Also those of one channel, for which `Tensor.contiguous` sees no difference.
    """
    moved = x.movedim(1, -1)
    return moved.flatten(1).unflatten(1, moved.shape[1:]).movedim(-1, 1)


def _copied(module: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(module)
    except Exception as error:  # lazy batch statistics, for example
        raise ValueError(
            f"trunk is a {type(module).__name__} that cannot be copied: {error}. Pass a callable "
            "that makes it, without arguments."
        ) from error


def _check_no_arguments(factory: Callable[[], Any]) -> None:
    """Refuse what cannot be called without arguments."""
    try:
        inspect.signature(factory).bind()
    except TypeError as error:
        name = getattr(factory, "__name__", repr(factory))
        raise TypeError(
            f"trunk={name} cannot be called without arguments: {error}. Pass a module, or "
            f"a callable that makes one, such as lambda: {name}(...)."
        ) from error
    except ValueError:  # no signature is known
        pass


def _dtype_of(module: nn.Module) -> torch.dtype:
    """Return the floating-point type that a module computes in."""
    return next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)
