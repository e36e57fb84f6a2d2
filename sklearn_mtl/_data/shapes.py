"""Shapes of samples: as they were passed, and as the network sees them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["resolve_shape"]

Shape = tuple[int, ...]


def resolve_shape(shape: Shape, input_shape: Sequence[Any] | None, data_format: str) -> Shape:
    """Return the shape of a sample as the network sees it, channels first.

    Parameters
    ----------
    shape : tuple of int
        Of a sample as it was passed.
    input_shape : tuple of int or None
        What it is to be; None takes it from `shape`.
    data_format : {'channels_first', 'channels_last'}
        Where the channels stand.

    Raises
    ------
    ValueError
        If they do not go together, or nobody knows where the channels are.
    """
    if input_shape is not None:
        wanted = tuple(input_shape)
        counts = all(isinstance(s, (int, np.integer)) and s > 0 for s in wanted)
        if not (counts and math.prod(wanted) == math.prod(shape) and 1 <= len(wanted) <= 4):
            raise ValueError(
                f"input_shape={wanted} does not fit X, whose samples have shape {shape} "
                f"({math.prod(shape)} values). Pass the shape of one sample, channels first, "
                "with the same number of values: (d,), (C, L), (C, H, W) or (C, D, H, W)."
            )
        moved = (*wanted[1:], wanted[0])  # the same with channels last
        if data_format == "channels_first" and len(wanted) > 1 and shape == moved != wanted:
            raise ValueError(
                f"X has samples of shape {shape}, but input_shape={wanted} puts the channels "
                "first. Pass data_format='channels_last' too, or transpose X."
            )
        if data_format == "channels_last" and len(shape) == len(wanted) and shape != moved:
            raise ValueError(
                f"X has samples of shape {shape} with data_format='channels_last', but "
                f"input_shape={wanted}, which is channels first. Pass "
                f"input_shape={(shape[-1], *shape[:-1])}."
            )
        return tuple(int(s) for s in wanted)
    if len(shape) == 2:  # images of one channel
        if data_format == "channels_last":
            raise ValueError(
                f"X has shape (n, {shape[0]}, {shape[1]}) with data_format='channels_last'. "
                f"Pass input_shape={shape[::-1]} for sequences of {shape[1]} channels, "
                f"input_shape={(1, *shape)} for images of one channel."
            )
        return (1, *shape)
    if len(shape) > 4:
        raise ValueError(
            f"X has {len(shape) + 1} dimensions, expected 2 to 5: (n, d), (n, H, W), "
            "(n, C, H, W) or (n, C, D, H, W). Pass input_shape= to say how to read a sample."
        )
    if data_format == "channels_last" and len(shape) > 2:
        return (shape[-1], *shape[:-1])
    if len(shape) == 3 and shape[-1] in (1, 3, 4) and shape[0] not in (1, 3, 4):
        raise ValueError(
            f"X has shape (n, {', '.join(map(str, shape))}), which looks like images with "
            f"channels last, but data_format={data_format!r}. Pass "
            "data_format='channels_last', or input_shape= if the channels do come first."
        )
    return shape
