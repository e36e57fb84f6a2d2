"""Pretrained parts of a network, of which more is trained from epoch to epoch."""

from __future__ import annotations

from typing import Any

from skorch import NeuralNet

from sklearn_mtl._training.listeners import OfOneTraining, plain_module
from sklearn_mtl.networks import Pretrained

__all__ = ["Thawing"]


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


def _pretrained(net: NeuralNet) -> list[Pretrained]:
    parts = plain_module(net).modules()
    return [part for part in parts if isinstance(part, Pretrained)]
