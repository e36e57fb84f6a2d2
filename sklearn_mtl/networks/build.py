"""From what a user passes as `trunk` to a module whose features are known."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sklearn_mtl._memory import naming_memory
from sklearn_mtl.networks.conv import ConvTrunk, PooledConv
from sklearn_mtl.networks.dense import DenseTrunk
from sklearn_mtl.networks.draws import DrawsFrom, Generators
from sklearn_mtl.networks.extras import TabMTrunk
from sklearn_mtl.networks.given import module_of
from sklearn_mtl.networks.members import Members
from sklearn_mtl.networks.module import in_channels_last
from sklearn_mtl.networks.sequences import SequenceTrunk

__all__ = [
    "TRUNKS",
    "build_trunk",
    "features_of",
    "folds_of",
    "named_spec",
    "pixel_statistics_of",
    "reads_mask",
    "takes_channels_last",
]

# Of a sample, channels first; of X of several parts, those of all of them.
InputShape = tuple[int, ...] | Mapping[str, tuple[int, ...]]

# Names of specs, and the specs that a file may hold: making one must not read or run anything else.
# `Fusion` and `Ensemble`, which build trunks of their parts here, put themselves into it.
TRUNKS: dict[str, Callable[[], Any]] = {
    "dense": DenseTrunk,
    "conv": ConvTrunk,
    "sequence": SequenceTrunk,
    "tabm": TabMTrunk,
}


def build_trunk(
    trunk: Any, input_shape: InputShape, two_valued: Any = (), n_rows: int | None = None
) -> tuple[nn.Module, int]:
    """Make a trunk from what a user passed, and find its number of features by a dry run.

    Parameters
    ----------
    trunk : 'auto', a name of `TRUNKS`, a spec with ``build(input_shape)``, nn.Module, callable
        ``'auto'`` is dense for rows, ensemble for sequences, fusion for several inputs, and conv
        for all else. A module is copied; a callable without arguments, such as a class of
        modules, returns a module. Lazy layers learn their sizes from the dry run.
    input_shape : tuple of int, or dict of str to tuple of int
        Shape of one sample, channels first. A dict has those of several inputs: the trunk gets flat
        rows (B, d), in which they stand side by side, and those that are missing are NaN. A spec
        that can be built for a dict says so by an attribute ``takes_parts = True``.
    two_valued : tuple of int, default=()
        Positions of features that take at most two values, for a spec whose `build` asks for them
        by a parameter of this name; a dict of them for several inputs.
    n_rows : int, optional
        Rows to train on, for a spec whose `build` asks for them by a parameter of this name. None
        where nothing is trained, as in `load`.

    Returns
    -------
    trunk : nn.Module
        From a batch (B, ...) to features (B, F), or (B, M, F) for an ensemble of M members.
    n_features : int
        F.

    Raises
    ------
    TypeError
        If a callable needs arguments, or returns something else than an nn.Module.
    ValueError
        If a module cannot be copied, the trunk fails on samples of this shape, or its features
        have another shape than (B, F) or (B, M, F).

    Examples
    --------
    >>> from sklearn_mtl.networks import build_trunk
    >>> build_trunk("auto", (1, 16, 16))[1]  # features of images
    128
    """
    if isinstance(trunk, str):
        trunk = named_spec(trunk, input_shape)
    if isinstance(trunk, type) and hasattr(trunk, "build"):
        raise ValueError(f"trunk={trunk.__name__} is a class. Pass an object: {trunk.__name__}().")
    if hasattr(trunk, "build") and not isinstance(trunk, nn.Module):
        _check_takes_parts(trunk, input_shape)
        asks = inspect.signature(trunk.build).parameters.values()
        names = {p.name for p in asks if p.kind is not p.POSITIONAL_ONLY}
        known = {"two_valued": two_valued, "n_rows": n_rows}
        try:
            module = trunk.build(input_shape, **{k: v for k, v in known.items() if k in names})
        except (TypeError, OverflowError) as error:  # of torch, about sizes
            raise ValueError(
                f"trunk={trunk!r} cannot be built for samples of the shape {input_shape}: "
                f"{str(error).splitlines()[0].removesuffix('.')}."
            ) from error
        if not isinstance(module, nn.Module):
            raise TypeError(
                f"trunk={trunk!r} returned {type(module).__name__}, expected an nn.Module."
            )
    else:
        module = module_of(trunk, "trunk")
    features = features_of(module, input_shape)
    if (
        not isinstance(features, Tensor)
        or features.ndim not in (2, 3)
        or len(features) != 2
        or 0 in features.shape
        or not features.is_floating_point()
    ):
        found, mend = (
            type(features).__name__,
            "Return the features alone, from a forward of your own",
        )
        if isinstance(features, Tensor):
            found, mend = str(tuple(features.shape)), "Flatten its output"
        flat = ", ".join(map(str, _flat(input_shape)))
        raise ValueError(
            f"trunk maps a batch of shape (2, {flat}) to {found}, "
            f"expected features of shape (2, F), or (2, M, F) for an ensemble. {mend}."
        )
    return module, features.shape[-1]


def _flat(input_shape: InputShape) -> tuple[int, ...]:
    """Return the shape of what a trunk gets."""
    if isinstance(input_shape, Mapping):
        return (sum(map(math.prod, input_shape.values())),)
    return input_shape


def _check_takes_parts(trunk: Any, input_shape: InputShape) -> None:
    """Refuse specs for one input where there are several, and the other way round."""
    takes_parts, name = getattr(trunk, "takes_parts", False), type(trunk).__name__
    if takes_parts is None:  # whatever it is made of says so
        return
    if isinstance(input_shape, Mapping) and not takes_parts:
        raise ValueError(
            f"trunk={trunk!r} is for one input, but X has the parts {list(input_shape)}. Pass "
            f"Fusion({{{next(iter(input_shape))!r}: {name}()}}) of sklearn_mtl.networks, which "
            "has a trunk for each."
        )
    if takes_parts and not isinstance(input_shape, Mapping):
        raise ValueError(
            f"trunk={trunk!r} is for several inputs, but X has samples of shape {input_shape}. "
            "Pass a MultiInput of sklearn_mtl.datasets as X, or input_shape={name: shape, ...} for "
            "parts that stand side by side in its columns."
        )


def features_of(module: nn.Module, input_shape: InputShape) -> Any:
    """Return what a trunk makes of two samples, in evaluation mode.

    Parameters
    ----------
    module : nn.Module
        The trunk; lazy layers learn their sizes.
    input_shape : tuple of int, or dict of str to tuple of int
        As in `build_trunk`.

    Returns
    -------
    features : object
        A tensor, if the trunk is one.
    """
    training, flat = module.training, _flat(input_shape)
    try:
        with torch.no_grad(), naming_memory("Make the trunk, or the samples, smaller."):
            sample = _trial_shape(module, flat)
            features = module.eval()(torch.zeros(2, *sample, dtype=_dtype_of(module)))
    except MemoryError:
        raise
    except Exception as error:  # whatever a user's module raises
        raise ValueError(
            f"trunk fails on a batch of shape (2, {', '.join(map(str, flat))}): "
            f"{str(error).removesuffix('.')}. "
            "Pass a trunk that takes samples of this shape, or another input_shape."
        ) from error
    module.train(training)
    return features


def folds_of(trunk: Any, input_shape: InputShape) -> int:
    """Tell of how many folds members of an ensemble leave out one each; 0 for none.

    Parameters
    ----------
    trunk : 'auto', a name of `TRUNKS`, spec, nn.Module or callable
        As in `build_trunk`.
    input_shape : tuple of int, or dict of str to tuple of int
        As in `build_trunk`.

    Returns
    -------
    n_folds : int
        0, or at least 2.

    Examples
    --------
    >>> from sklearn_mtl.networks import folds_of
    >>> folds_of("dense", (4,)), folds_of("conv", (1, 16, 16))
    (5, 0)
    """
    if isinstance(trunk, str):
        trunk = named_spec(trunk, input_shape)
    if isinstance(trunk, Members):
        n_folds = trunk.n_members
    else:
        n_folds = 0 if isinstance(trunk, nn.Module | type) else getattr(trunk, "n_folds", 0)
    return n_folds if n_folds > 1 else 0  # a single one would have nothing to learn from


def reads_mask(trunk: Any) -> bool:
    """Tell whether a trunk takes the last channel of sequences for a mask.

    A spec, or a module, says so by an attribute `reads_mask`.

    Parameters
    ----------
    trunk : object
        As in `build_trunk`.

    Returns
    -------
    answer : bool
        False where nothing is said of it.

    Examples
    --------
    >>> from sklearn_mtl.networks import reads_mask
    >>> reads_mask("sequence"), reads_mask("conv")
    (True, False)
    """
    of_name = TRUNKS.get(trunk) if isinstance(trunk, str) else trunk
    return bool(getattr(of_name, "reads_mask", False))


def pixel_statistics_of(
    trunks: Mapping[str | None, Any], standardize: Any
) -> dict[str | None, tuple[Any, Any]]:
    """Return mean and standard deviation of the pixels that trunks have learned from before.

    Parameters
    ----------
    trunks : mapping
        Of the parts of X, by their names, as in `build_trunk`. A spec may have a method
        `pixel_statistics`, which returns the pair, in units in which pixels are from 0 to 1; or
        None.
    standardize : object
        As the parameter of the estimator: where it is not 'auto', nobody asks.

    Returns
    -------
    statistics : dict of str to pair of tuple of float
        Of the parts whose trunks know them.
    """
    told = standardize if isinstance(standardize, Mapping) else dict.fromkeys(trunks, standardize)
    found = {}
    for name, trunk in trunks.items():
        ask = getattr(trunk, "pixel_statistics", None)
        if isinstance(trunk, nn.Module | type) or ask is None or told.get(name, "auto") != "auto":
            continue
        if (statistics := ask()) is not None:
            found[name] = statistics
    return found


def named_spec(name: str, input_shape: InputShape) -> Any:
    """Return the spec that a name stands for.

    Parameters
    ----------
    name : 'auto' or a name of `TRUNKS`
        ``'auto'`` is dense for rows, ensemble for sequences (samples of two axes), fusion for
        several inputs, and conv for all else.
    input_shape : tuple of int, or dict of str to tuple of int
        As in `build_trunk`.

    Returns
    -------
    spec : object with a method ``build(input_shape)``
        With its default parameters.

    Raises
    ------
    ValueError
        If there is no trunk of that name.

    Examples
    --------
    >>> from sklearn_mtl.networks import named_spec
    >>> named_spec("auto", (4,)), named_spec("auto", (3, 128)), named_spec("auto", (1, 16, 16))
    (DenseTrunk(), Ensemble(), ConvTrunk())
    """
    if name == "auto" and isinstance(input_shape, Mapping):
        name = "fusion"
    elif name == "auto":
        name = {1: "dense", 2: "ensemble"}.get(len(input_shape), "conv")
    if name not in TRUNKS:
        raise ValueError(
            f"trunk={name!r} is unknown. Use one of {['auto', *TRUNKS]}; for a model of timm, "
            f"TimmTrunk({name!r}) of sklearn_mtl.networks; or pass any nn.Module."
        )
    return TRUNKS[name]()


def _trial_shape(trunk: nn.Module, input_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of samples to try a trunk on: small images do where it pools any to a size.

    So it costs neither time nor memory to know the features of a `ConvTrunk` of large images.
    """
    copies = getattr(trunk, "trunks", [trunk]) if isinstance(trunk, Members) else [trunk]
    if not all(isinstance(each, PooledConv) for each in copies):
        return input_shape
    return (input_shape[0], *(min(side, 4) for side in input_shape[1:]))


def takes_channels_last(trunk: nn.Module, input_shape: InputShape) -> bool:
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
    if isinstance(input_shape, Mapping) or len(input_shape) != 3:
        return False
    if not any(isinstance(m, nn.Conv2d) for m in trunk.modules()):
        return False
    shape = _trial_shape(trunk, input_shape)
    x = torch.linspace(-1, 1, 2 * math.prod(shape), dtype=_dtype_of(trunk)).view(2, *shape)
    try:
        trial = copy.deepcopy(trunk).eval()
        with DrawsFrom(Generators(0)), torch.enable_grad():
            torch.testing.assert_close(trial(in_channels_last(x)), trial(x), rtol=1e-3, atol=1e-4)
            total = trial.train()(in_channels_last(x)).sum()
            if total.requires_grad:
                total.backward()
    except Exception:  # whatever a user's module raises
        return False
    return True


def _dtype_of(module: nn.Module) -> torch.dtype:
    """Return the floating-point type that a module computes in."""
    return next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)
