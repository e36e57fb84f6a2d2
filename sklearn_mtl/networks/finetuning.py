"""Networks that know something already, and how gently they are trained further."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

import torch
from sklearn.base import BaseEstimator
from torch import Tensor, nn

from sklearn_mtl.networks.given import module_of

__all__ = ["BATCH_NORMS", "FineTune", "Pretrained", "fine_tuned", "gentleness_of"]

FINETUNE = ("full", "heads", "gradual")

# Parts of the layers that are set free one after the other.
N_STAGES = 4

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


class FineTune(BaseEstimator):
    """A trunk of your own whose weights are pretrained, and how it is trained further.

    `TimmTrunk` has the same parameters.

    Parameters
    ----------
    module : nn.Module or callable
        What is pretrained: a module, which is copied, or a callable without arguments that makes
        it. It maps samples (B, ...) to features (B, F); or images to a map (B, C, H, W) or tokens
        (B, N, C), with `n_features`.
    finetune : {'full', 'heads', 'gradual'}, default='full'
        What is trained of it, besides all that is new:

        - 'full': everything, once the first `frozen_epochs` are over.
        - 'heads': nothing. It costs no gradients, and computes as in predictions.
        - 'gradual': its layers in four parts, from the last to the first, one more after each
          `frozen_epochs`.
    relative_rate : float, default=0.3
        Learning rate of the pretrained weights, in units of the `learning_rate` of all others.
    frozen_epochs : int, default=1
        Epochs in the beginning in which nothing of the module is trained, while heads are random
        and their gradients would damage it.
    freeze_statistics : bool, default=True
        Whether its batch norms compute with the means and variances that they have come with, in
        training as in predictions. Batches of few rows are no trouble then, and rows do not see
        each other.
    n_features : int, default=None
        Size F of the representation: what the module returns is averaged over a grid of at most
        4 x 4 cells, which a new layer of so many units reads, so that features keep *where* things
        are. None takes what it returns as features.

    See Also
    --------
    Pretrained : The module that it builds, for networks that you put together yourself.

    Examples
    --------
    >>> from torch import nn
    >>> from sklearn_mtl import MultiTaskCNNEstimator
    >>> from sklearn_mtl.networks import FineTune
    >>> body = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU())
    >>> trunk = FineTune(body, finetune="gradual", n_features=16)  # weights from somewhere
    >>> estimator = MultiTaskCNNEstimator(trunk=trunk, standardize="imagenet")
    >>> estimator.set_params(trunk__finetune="heads").trunk.finetune
    'heads'
    """

    def __init__(
        self,
        module: Any,
        finetune: str = "full",
        relative_rate: float = 0.3,
        frozen_epochs: int = 1,
        freeze_statistics: bool = True,
        n_features: int | None = None,
    ) -> None:
        self.module = module
        self.finetune = finetune
        self.relative_rate = relative_rate
        self.frozen_epochs = frozen_epochs
        self.freeze_statistics = freeze_statistics
        self.n_features = n_features

    def build(self, input_shape: tuple[int, ...]) -> nn.Module:
        """Return the trunk for inputs of `input_shape`.

        Parameters
        ----------
        input_shape : tuple of int
            Shape of one sample, channels first.

        Returns
        -------
        trunk : nn.Module
            From a batch (B, ...) to features (B, F).

        Raises
        ------
        ValueError
            If `module` is no module and no callable, a parameter has a value that does not exist,
            or `n_features` is given for samples that are no images.
        """
        module: Any = self.module
        if hasattr(module, "build") and not isinstance(module, nn.Module):
            raise ValueError(
                f"module={module!r} is a spec. Pass a module whose weights are pretrained; a model "
                "of timm by TimmTrunk(..., pretrained=True), which has the same parameters."
            )
        if not callable(module):
            raise ValueError(f"module={module!r} is no nn.Module, nor a callable that makes one.")
        if self.n_features is not None and len(input_shape) != 3:
            raise ValueError(
                f"n_features={self.n_features} is for images, but samples are of shape "
                f"{input_shape}. Leave it out, and let the module return features (B, F)."
            )
        how = gentleness_of(self)
        if not (self.n_features is None or _is_whole(self.n_features, 1)):
            raise ValueError(f"n_features={self.n_features!r} must be a whole number above 0.")
        module = module_of(module, "module")
        if self.n_features is None:
            return Pretrained(module, **how)
        return fine_tuned(module, self.n_features, **how)


def gentleness_of(spec: Any) -> dict[str, Any]:
    """Return the parameters of a spec that say how it is trained, once they are checked."""
    names = "finetune", "relative_rate", "frozen_epochs", "freeze_statistics"
    how = {name: getattr(spec, name) for name in names}
    _check(**how)
    return how


def fine_tuned(model: nn.Module, n_features: int | None, **how: Any) -> nn.Module:
    """Put a new layer on a model of images, which is trained as `how` says.

    Parameters
    ----------
    model : nn.Module
        Maps images to a map (B, C, H, W), tokens (B, N, C), or features (B, F).
    n_features : int or None
        Units of the layer; None for none.
    **how
        Parameters of `Pretrained`.
    """
    if n_features is None:
        return nn.Sequential(_FeatureMap(model, **how), nn.Flatten())
    # The dry run of `build_trunk` tells the last layer the size of the map. Leaky for the reason
    # of ConvTrunk.
    last = nn.LazyLinear(n_features)
    return nn.Sequential(_FeatureMap(model, **how), _Grid(), nn.Flatten(), last, nn.LeakyReLU())


class Pretrained(nn.Module):
    """A model whose weights are pretrained, inside a trunk, and how they are trained further.

    The estimator looks for such parts in its trunk, and trains them as they say. In a loop of your
    own, give its parameters the rate ``relative_rate``, call `begin_epoch` before each epoch, and
    `release` in the end.

    Parameters
    ----------
    model : nn.Module
        Its layers are taken to be in the order of the computation.
    finetune : {'full', 'heads', 'gradual'}, default='full'
        What is trained of it. This and all others are those of `FineTune`.
    relative_rate : float, default=0.3
        Its learning rate, in units of that of all others.
    frozen_epochs : int, default=1
        Epochs in the beginning in which nothing of it is trained.
    freeze_statistics : bool, default=True
        Whether its batch norms compute with what they have come with.

    Attributes
    ----------
    n_epochs : Tensor
        Epochs that were begun.
    n_frozen : int
        Layers, from the first on, that are frozen now.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from sklearn_mtl.networks import Pretrained
    >>> Pretrained(nn.Linear(4, 8), finetune="heads")(torch.zeros(2, 4)).shape
    torch.Size([2, 8])
    """

    n_epochs: Tensor

    def __init__(
        self,
        model: nn.Module,
        finetune: str = "full",
        relative_rate: float = 0.3,
        frozen_epochs: int = 1,
        freeze_statistics: bool = True,
    ) -> None:
        super().__init__()
        _check(finetune, relative_rate, frozen_epochs, freeze_statistics)
        self.model = model
        self.finetune, self.relative_rate = finetune, float(relative_rate)
        self.frozen_epochs, self.freeze_statistics = int(frozen_epochs), bool(freeze_statistics)
        self.register_buffer("n_epochs", torch.zeros((), dtype=torch.long))
        self.n_frozen = 0
        self.held: tuple[str, ...] = ()  # parameters that are frozen by us, and by nobody else

    def extra_repr(self) -> str:
        """Say how it is trained."""
        return (
            f"finetune={self.finetune!r}, relative_rate={self.relative_rate}, frozen_epochs="
            f"{self.frozen_epochs}, freeze_statistics={self.freeze_statistics}"
        )

    def forward(self, x: Tensor) -> Any:
        """Return what the model does."""
        return self.model(x)

    def begin_epoch(self) -> None:
        """Freeze the layers that are not trained in the next epoch.

        What somebody else has frozen stays so.
        """
        n_epochs, layers = int(self.n_epochs), self.layers()
        self.n_epochs += 1
        weighted = [i for i, layer in enumerate(layers) if _has_own(layer)]
        n_free = math.ceil(self._share(n_epochs) * len(weighted))
        self.n_frozen = weighted[-n_free] if 0 < n_free < len(weighted) else 0
        if n_free == 0:
            self.n_frozen = len(layers)
        trained = {id(p) for layer in layers[self.n_frozen :] for p in layer.parameters(False)}
        self._hold({n for n, p in self.model.named_parameters() if id(p) not in trained})

    def _share(self, n_epochs: int) -> float:
        """Return the share of the layers that are trained after so many epochs."""
        if self.finetune == "heads" or n_epochs < self.frozen_epochs:
            return 0.0
        if self.finetune == "gradual":
            return min(1.0, n_epochs // self.frozen_epochs / N_STAGES)
        return 1.0

    def release(self) -> None:
        """Set free what was frozen: the training is over."""
        self.n_frozen = 0
        self._hold(set())

    def _hold(self, names: set[str]) -> None:
        held = []
        for name, p in self.model.named_parameters():
            if name in self.held:
                p.requires_grad_(name not in names)
            if name in names and (p.requires_grad or name in self.held):
                p.requires_grad_(False)
                held.append(name)
        self.held = tuple(held)

    def layers(self) -> list[nn.Module]:
        """Return modules with parameters of their own, or without parts, in their order.

        Returns
        -------
        layers : list of nn.Module
            From the input to the output.
        """
        return [m for m in self.model.modules() if _has_own(m) or next(m.children(), None) is None]

    def train(self, mode: bool = True) -> Pretrained:
        """Set the mode, but for what computes as in predictions."""
        super().train(mode)
        if mode:
            layers = self.layers()
            if self.n_frozen == len(layers):
                self.model.eval()
            for i, layer in enumerate(layers):
                still = self.freeze_statistics and isinstance(layer, BATCH_NORMS)
                layer.training &= not (still or i < self.n_frozen)
        return self

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        # Files of earlier versions do not count epochs.
        state_dict.setdefault(f"{prefix}n_epochs", self.n_epochs)
        super()._load_from_state_dict(state_dict, prefix, *args)


class _FeatureMap(Pretrained):
    """A model of images whose output is brought to the shape (B, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.model(x)
        if y.ndim == 3:  # a sequence of tokens (B, N, C), which is no ensemble
            y = y[:, getattr(self.model, "num_prefix_tokens", 0) :].transpose(1, 2)
            grid = getattr(getattr(self.model, "patch_embed", None), "grid_size", None)
            known = grid is not None and math.prod(grid) == y.shape[-1]
            return y.unflatten(2, grid if known else (1, -1))
        if y.ndim == 4 and getattr(self.model, "output_fmt", "NCHW") == "NHWC":
            return y.movedim(-1, 1)
        return y.reshape(*y.shape, *[1] * (4 - y.ndim))  # (B, C): pooled


class _Grid(nn.Module):
    """Averages of a map over at most 4 x 4 cells, and 16 where it is a line."""

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        cells = (min(4, height), min(4 if height > 1 else 16, width))
        return nn.functional.adaptive_avg_pool2d(x, cells)


def _has_own(module: nn.Module) -> bool:
    """Tell whether a module has parameters besides those of its parts."""
    return next(module.parameters(False), None) is not None


def _is_whole(value: Any, least: int) -> bool:
    return type(value) is not bool and isinstance(value, Integral) and int(value) >= least


def _check(finetune: Any, relative_rate: Any, frozen_epochs: Any, freeze_statistics: Any) -> None:
    """Refuse values that do not exist."""
    if finetune not in FINETUNE:
        raise ValueError(f"finetune={finetune!r} does not exist. Use one of {list(FINETUNE)}.")
    is_number = isinstance(relative_rate, Real) and not isinstance(relative_rate, bool)
    if not (is_number and 0 < relative_rate < math.inf):
        raise ValueError(
            f"relative_rate={relative_rate!r} must be a number above 0. For no training of the "
            "pretrained weights at all, finetune='heads'."
        )
    least = int(finetune == "gradual")
    if not _is_whole(frozen_epochs, least):
        raise ValueError(
            f"frozen_epochs={frozen_epochs!r} must be a whole number from {least} on"
            + (" with finetune='gradual'." if least else ".")
        )
    if freeze_statistics not in (True, False):
        raise ValueError(f"freeze_statistics={freeze_statistics!r} must be True or False.")
