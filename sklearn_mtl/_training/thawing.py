"""Pretrained parts of a network, of which more is trained from epoch to epoch."""

from __future__ import annotations

import warnings
from typing import Any

from skorch import NeuralNet
from torch import nn

from sklearn_mtl._training.listeners import OfOneTraining, plain_module
from sklearn_mtl.networks import Pretrained

__all__ = ["Thawing", "warn_of_frozen"]


class Thawing(OfOneTraining):
    """Tell pretrained parts of epochs, and of the end of the training.

    They know by themselves what is to be trained when, and how far they are. It stands behind the
    callbacks of the user, so that what these have frozen stays so.
    """

    @classmethod
    def of(cls, net: NeuralNet) -> list[Thawing]:
        """Return one if the net has such parts; those without have nothing to do per epoch."""
        return [cls()] if _pretrained(net) else []

    def on_epoch_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Freeze what is not trained yet."""
        for part in _pretrained(net):
            part.begin_epoch()

    def on_train_end(self, net: NeuralNet, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        """Leave nothing frozen that was not before."""
        for part in _pretrained(net):
            part.release()


def warn_of_frozen(module: nn.Module, max_epochs: int) -> None:
    """Warn of pretrained parts that a training ends before it has trained any of."""
    frozen = {
        part.frozen_epochs
        for part in _parts_of(module)
        if part.finetune != "heads" and int(part.n_epochs) + max_epochs <= part.frozen_epochs
    }
    for frozen_epochs in sorted(frozen):  # once for all members of an ensemble
        warnings.warn(
            f"frozen_epochs={frozen_epochs} of the trunk is not less than max_epochs="
            f"{max_epochs}, so that its pretrained weights are not trained. Lower it or raise "
            "max_epochs; or pass finetune='heads', if that is meant.",
            UserWarning,
            stacklevel=5,
        )


def _pretrained(net: NeuralNet) -> list[Pretrained]:
    return _parts_of(plain_module(net))


def _parts_of(module: nn.Module) -> list[Pretrained]:
    return [part for part in module.modules() if isinstance(part, Pretrained)]
