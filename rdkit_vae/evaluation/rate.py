"""Where the rate goes: information about x, mismatch with the prior, and which units carry it."""

import math

import torch
from torch import Tensor

from rdkit_vae.scoring.statistics import RateTerms, standard_error

_MOST_DENSITIES = 2**18  # in memory, so that they fit into a cache
_MOST_DRAWS = 2000  # at which log q(z) is computed; the cost is this times n


def rate_terms_of(mean: Tensor, log_var: Tensor, z: Tensor) -> RateTerms:
    """Splits the rate of n images: R = I_q(x; z) + KL(q(z) || p(z)).

    q(z) = (1/n) sum_j q(z|x_j) is summed exactly over all n posteriors; the expectation over images
    and q(z|x) uses one draw per image, and 2,000 evenly spaced images if there are more.
    If the posteriors do not overlap, I_q is at its upper limit log n.

    Source: Hoffman and Johnson 2016, "ELBO surgery", Eq. 4-7.

    Args:
        mean, log_var: (n, L) of the posteriors.
        z: (n, L) a draw from each.
    """
    mean, log_var, z = mean.double(), log_var.double(), z.double()
    n, centre = len(z), mean.mean(dim=0)
    taken = torch.linspace(0, n - 1, min(n, _MOST_DRAWS), dtype=torch.float64).round().long()
    taken = taken.to(z.device)
    z, own = z[taken], _log_density(z[taken], mean[taken], log_var[taken])
    # |z - m|^2 / v as z^2/v - 2 z m/v + m^2/v takes two products of matrices. Their rounding
    # errors grow with the distance from 0, so distances are taken from the centre and clamped at 0.
    shifted, precision = mean - centre, (-log_var).exp()
    weighted = shifted * precision  # (n, L)
    square = (shifted * weighted).sum(dim=1)  # (n,)
    peak = -(log_var + math.log(2 * math.pi)).sum(dim=1) / 2  # (n,) the highest density of each
    aggregate = torch.empty_like(own)  # log q(z) at each draw
    rows = max(1, _MOST_DENSITIES // n)
    for start in range(0, len(z), rows):
        part = z[start : start + rows] - centre
        distance = part.square() @ precision.T - 2 * part @ weighted.T + square  # (rows, n)
        log_q = peak - distance.clamp_min(0) / 2
        index = torch.arange(len(part), device=z.device)
        log_q[index, taken[start : start + rows]] = own[start : start + rows]
        aggregate[start : start + rows] = log_q.logsumexp(dim=1) - math.log(n)
    information = (own - aggregate).cpu().numpy()  # (draws,)
    unit_rate = (mean.square() + log_var.expm1() - log_var).mean(dim=0) / 2
    return RateTerms(
        unit_variance=mean.var(dim=0, correction=0).cpu().numpy(),
        unit_rate=unit_rate.cpu().numpy(),
        mutual_information=float(information.mean()),
        mutual_information_se=standard_error(information),
    )


def _log_density(z: Tensor, mean: Tensor, log_var: Tensor) -> Tensor:
    """log N(z; mean, diag exp(log_var)), (n, L) each to (n,)."""
    terms = (z - mean).square() * (-log_var).exp() + log_var + math.log(2 * math.pi)
    return -terms.sum(dim=1) / 2
