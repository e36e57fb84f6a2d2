"""What one net takes over from another: copies, weights, what is frozen, and the loss's own."""

from __future__ import annotations

import pytest
import torch
from _fits import X, Y, make


@pytest.mark.parametrize("name", ["trunk", "loss"])
def test_a_part_that_cannot_be_copied_is_named(name: str) -> None:
    estimator = make().partial_fit(X, Y)
    net = estimator.net_
    part = net.module_.trunk if name == "trunk" else net.criterion_.combine
    part.last = torch.ones(1, requires_grad=True) + 1  # as of a forward pass
    with pytest.raises(ValueError, match=f"{name} cannot be copied"):
        estimator.partial_fit(X, Y)


def test_the_net_of_a_stream_is_one() -> None:
    net = make().partial_fit(X, Y).partial_fit(X, Y).net_
    assert net.module is net.module_
    assert net.criterion is net.criterion_
