"""Networks are built within the room that their weights in the file allow."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

__all__ = ["Within"]

# What all tensors of a module are made by.
MAKERS = {torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn, torch.eye}

# Elements that a tensor takes at least, as making it takes time; and elements for all networks.
EACH, FREE = 1000, 2**22


# What fills weights at first; those of the file take their place.
DRAWS = {Tensor.uniform_, Tensor.normal_, nn.init.kaiming_uniform_, nn.init.uniform_}


class Within(TorchFunctionMode):
    """In this context, no more tensors are made than for a network of these weights, and some more.

    A file may ask for a network of any size; it is compared with the weights only once it is built.
    Its first weights are 0.

    Parameters
    ----------
    weights : iterable of Tensor
        Of the file.
    """

    def __init__(self, weights: Iterable[Tensor]) -> None:
        super().__init__()
        self.left = FREE + 4 * sum(EACH + tensor.numel() for tensor in weights)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count what is made, before it is."""
        kwargs = kwargs or {}
        if func in MAKERS:
            sizes = [n for arg in (*args, *kwargs.values()) for n in _sizes(arg)]
            self.left -= EACH + math.prod(sizes) * (sizes[0] if func is torch.eye else 1)
            if self.left < 0:
                raise ValueError("its parameters describe a larger network than its weights do")
        if func in DRAWS:
            with torch.no_grad():
                return (args[0] if args else kwargs["tensor"]).zero_()
        return func(*args, **kwargs)


def _sizes(argument: Any) -> list[int]:
    """Return the sizes in one of the arguments of a maker."""
    if isinstance(argument, (tuple, list)):
        return [n for part in argument for n in _sizes(part)]
    return [argument] if type(argument) is int else []
