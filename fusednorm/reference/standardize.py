"""Block-wise standardization (Attentive Normalization, section 3.1, eq. 1).

x is (N, C, *positions) with 0 to 3 position dimensions. The functions differ only in the block B_j that a
value is standardized with; each returns the block's mean and BIASED variance, shaped to broadcast against x.
"""

import torch
from torch import Tensor

Moments = tuple[Tensor, Tensor]


def batch_moments(x: Tensor) -> Moments:
    """One block a channel, over samples and positions: mu, var of shape (1, C, 1, ...)."""
    var, mu = torch.var_mean(x, dim=(0, *range(2, x.dim())), correction=0, keepdim=True)
    return mu, var


def group_moments(x: Tensor, num_groups: int) -> Moments:
    """One block a sample and group of adjacent channels: mu, var of shape (N, C, 1, ...)."""
    channels_per_group = x.shape[1] // num_groups
    groups = x.unflatten(1, (num_groups, channels_per_group))
    var, mu = torch.var_mean(groups, dim=tuple(range(2, groups.dim())), correction=0, keepdim=True)
    mu, var = mu.squeeze(2), var.squeeze(2)
    return mu.repeat_interleave(channels_per_group, 1), var.repeat_interleave(channels_per_group, 1)


def instance_moments(x: Tensor) -> Moments:
    """One block a plane, x[n, c]: mu, var of shape (N, C, 1, ...)."""
    return group_moments(x, num_groups=x.shape[1])


def layer_moments(x: Tensor) -> Moments:
    """One block a sample, over channels and positions: mu, var of shape (N, C, 1, ...)."""
    return group_moments(x, num_groups=1)


def standardize(x: Tensor, mu: Tensor, var: Tensor, eps: float) -> Tensor:
    """x_hat = (x - mu) / sigma with sigma = sqrt(var + eps), eq. 1; x's shape."""
    return (x - mu) / torch.sqrt(var + eps)


def in_compute_type(x: Tensor) -> Tensor:
    """x in the type the layers calculate in: float64 stays, everything narrower becomes float32."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
