"""How a net is pickled and copied."""

from __future__ import annotations

from typing import Any

from skorch import NeuralNet

__all__ = ["PlainNet"]


class PlainNet(NeuralNet):
    """skorch's net, whose state on the CPU is its attributes.

    On other devices it is skorch's own, a pickle in the state that loads on the CPU where there is
    no such device. On the CPU it is not needed, and would keep other picklers, and copies, from
    what they can do: cloudpickle writes losses that are lambdas.
    """

    def __getstate__(self) -> dict[str, Any]:
        """Return the attributes."""
        return dict(self.__dict__) if self.device == "cpu" else super().__getstate__()

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take the attributes."""
        if "__cuda_dependent_attributes__" in state:
            super().__setstate__(state)
        else:
            self.__dict__.update(state)
