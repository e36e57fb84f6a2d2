"""Losses of numbers of which some are known within bounds only.

A target is a number, and its `reach`: how far from there the truth may lie. It is 0 where the
number is exact, infinite where it is the only bound, upwards or downwards, and else the way to the
other bound.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["expected_square", "interval_error", "squared_distance"]

# In standard deviations of the noise: in a narrower interval, its middle is as good as exact.
NARROW = 0.02


def interval_error(
    raw: Tensor, target: Tensor, reach: Tensor, scale: float | Tensor = 1.0
) -> Tensor:
    r"""Squared error, and of bounded targets twice their negative log-likelihood (Tobin 1958).

    With normal noise of standard deviation s, that of a target between l and u is

    .. math:: -2 s^2 \log \frac{\Phi((u - m) / s) - \Phi((l - m) / s)}{\text{the most it can be}}

    which is 0 where the mean m is in the middle, or far beyond the only bound, and is the squared
    error to the middle of an interval that is narrow.

    Parameters
    ----------
    raw : Tensor of shape (..., 1)
        Means m.
    target, reach : Tensor of shape (...)
        Numbers, and the way from there to the other bound: 0, positive, negative or infinite.
    scale : float or Tensor of shape (T,), default=1.0
        Standard deviation s, which is not differentiated.

    Returns
    -------
    loss : Tensor of shape (...)
    """
    error, z, center, half = _parts(raw, target, reach, scale)
    one_sided, wide = z.isfinite(), half.isfinite()
    beyond = _log_cdf(torch.where(one_sided, z, 0))
    center, half = torch.where(wide, center, 0), torch.where(wide, half, 1)
    within = _log_mass(center, half) - _log_mass(torch.zeros_like(half), half)
    bounded = torch.where(one_sided, beyond, within).mul(-2 * scale**2)
    return torch.where(one_sided | wide, bounded, error * error)


def squared_distance(
    raw: Tensor, target: Tensor, reach: Tensor, scale: float | Tensor = 1.0
) -> Tensor:
    """Squared distance to the interval: 0 inside, squared error of exact targets.

    Parameters
    ----------
    raw, target, reach, scale
        As `interval_error`; `scale` says nothing here.
    """
    error = raw.squeeze(-1) - target
    outside = error - error.clamp(reach.clamp_max(0), reach.clamp_min(0))
    return outside * outside


def expected_square(
    raw: Tensor, target: Tensor, reach: Tensor, scale: float | Tensor = 1.0
) -> Tensor:
    r"""Return the expected squared error over :math:`s^2`, given what is known of the target.

    That s at which its mean is 1 is the one of the largest likelihood, and to multiply
    :math:`s^2` by this mean is a step of the EM algorithm [1]_.

    Parameters
    ----------
    raw, target, reach, scale
        As `interval_error`.

    References
    ----------
    .. [1] A. P. Dempster, N. M. Laird and D. B. Rubin, "Maximum likelihood from incomplete data via
       the EM algorithm", Journal of the Royal Statistical Society B 39, 1977.
    """
    error, z, center, half = _parts(raw, target, reach, scale)
    one_sided, wide = z.isfinite(), half.isfinite()
    z = torch.where(one_sided, z, 0)
    beyond = 1 - z * _hazard(z)
    narrow = (error / scale) ** 2 + torch.where(one_sided, 0, (reach / scale) ** 2) / 12
    center, half = torch.where(wide, center, 0), torch.where(wide, half, 1)
    high, low, ratio = half - center, -half - center, _log_ratio(center, half)
    tails = high * _hazard(high) - low * _hazard(low) * ratio.exp()
    within = 1 + tails / ratio.expm1()
    return torch.where(one_sided, beyond, torch.where(wide, within, narrow))


def _parts(
    raw: Tensor, target: Tensor, reach: Tensor, scale: float | Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Tell three cases apart, in units of the scale; what is not the case is NaN.

    Returns
    -------
    error : Tensor
        Distance to the target, or the middle of an interval; in the units of the raw outputs.
    z : Tensor
        How far the mean is beyond the only bound.
    center, half : Tensor
        How far it is from the middle of an interval that is not narrow, and half of its width.
    """
    one_sided = reach.isinf()
    finite = torch.where(one_sided, 0, reach)
    error = raw.squeeze(-1) - (target + finite / 2)
    z = torch.where(one_sided, error * reach.sign(), torch.nan) / scale
    half = finite.abs() / scale / 2
    half = torch.where(half > NARROW / 2, half, torch.nan)
    return error, z, (error / scale).abs(), half


def _log_mass(center: Tensor, half: Tensor) -> Tensor:
    """Log-probability of normal noise to fall into an interval so far from its mean."""
    return _log_cdf(half - center) + torch.log(-torch.expm1(_log_ratio(center, half)))


def _log_ratio(center: Tensor, half: Tensor) -> Tensor:
    """Log of the distribution function at the far end of an interval, over that at the near one."""
    high, low = half - center, -half - center
    # Of two squares, the difference is computed as a product: nothing is lost far out.
    far = _log_scaled(low) - _log_scaled(high.clamp_max(0)) - 2 * center * half
    return torch.where(high < 0, far, _log_cdf(low) - _log_cdf(high))


def _log_cdf(z: Tensor) -> Tensor:
    """Log of the normal distribution function: gradients of torch's own are wrong far out."""
    low, high = z.clamp_max(0), z.clamp_min(0)
    upper = torch.log1p(-torch.special.erfc(high / math.sqrt(2)) / 2)
    return torch.where(z < 0, _log_scaled(low) - low * low / 2, upper)


def _log_scaled(z: Tensor) -> Tensor:
    """Log of the distribution function, without the square in it; z <= 0."""
    return torch.log(torch.special.erfcx(-z / math.sqrt(2)) / 2)


def _hazard(z: Tensor) -> Tensor:
    """Density over distribution function."""
    return math.sqrt(2 / math.pi) / torch.special.erfcx(-z / math.sqrt(2))
