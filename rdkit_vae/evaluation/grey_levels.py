"""The likelihood of pixels with a few grey levels, in place of the density of a continuous x.

A pixel of L levels is x = j/(L-1). Its bin reaches half a level to either side; the first and the
last bin are open, so that the L bins of a pixel sum to one. Float64 torch throughout.
"""

import math

import torch
from torch import Tensor

_NARROW = 1e-5  # width against the standard deviation; density times width is then off by 1e-11


def discretized_nll(x: Tensor, mean: Tensor, sigma2: Tensor, levels: int) -> Tensor:
    """-log of the mass that N(mean, sigma2) puts on the bin of x, pixel by pixel, nats.

    Finite wherever the log cdf is: the difference of the cdf at the two edges is taken in logs, in
    the lower tail, where it does not cancel.

    Source: Salimans et al. 2017, "PixelCNN++", section 2.1 (there with logistics).

    Args:
        x: values j/(levels-1).
        mean, sigma2: of the Gaussian; they broadcast with x.
        levels: L, grey levels of a pixel.
    """
    scale = sigma2.sqrt()
    half = 0.5 / (levels - 1)
    low = torch.where(x < half, -math.inf, (x - half - mean) / scale)
    high = torch.where(x > 1 - half, math.inf, (x + half - mean) / scale)
    mirrored = low + high > 0  # (-high, -low) has the same mass, further down
    lower, upper = torch.where(mirrored, -high, low), torch.where(mirrored, -low, high)
    log_upper = torch.special.log_ndtr(upper)
    # log(a - b) = log a + log(1 - b/a)
    gap = torch.where(lower == -math.inf, -math.inf, torch.special.log_ndtr(lower) - log_upper)
    mass = log_upper + (-gap.expm1()).log()
    # For a narrow bin the two logs differ too little; its mass is density times width.
    narrow = (2 * half / scale < _NARROW) & low.isfinite() & high.isfinite()
    density = -((x - mean) / scale).square() / 2 - (2 * math.pi * sigma2).log() / 2
    nll: Tensor = -torch.where(narrow, density + math.log(2 * half), mass)
    return nll
