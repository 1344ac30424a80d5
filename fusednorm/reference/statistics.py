"""Statistics of one sample's features: of a plane over its positions, or at a position over the channels."""

import torch
from torch import Tensor

STATISTICS = ("mean", "std", "spatial_mean", "spatial_std")  # RBN's mu_c, sigma_c, mu_s, sigma_s


def deviation(var: Tensor) -> Tensor:
    """The root, with derivative 0 at 0: a constant plane has no direction in which its deviation grows."""
    constant = var <= 0  # not NaN, which passes
    return torch.where(constant, 0, torch.sqrt(torch.where(constant, 1, var)))


def instance_statistic(X: Tensor, name: str) -> Tensor:
    """One of STATISTICS, of X (N, C, *positions): (N, C, 1, ...) over positions, (N, 1, *positions) over channels.

    The deviation is the root of the biased variance, without eps.
    """
    dims = (1,) if name.startswith("spatial") else tuple(range(2, X.dim()))
    if not dims:  # (N, C): a plane is one value, its own mean
        return X if name == "mean" else torch.zeros_like(X)
    if name.endswith("mean"):
        return X.mean(dims, keepdim=True)
    return deviation(X.var(dims, correction=0, keepdim=True))


def plane_mean(x: Tensor) -> Tensor:
    """x (N, C, *positions): (N, C)."""
    return instance_statistic(x, "mean").flatten(1)
