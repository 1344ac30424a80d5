"""The Normalization-Attention module's head (NA eqs. 4-9), in the steps between its passes:
fusednorm/engine/context.py.

z = scale*(x - center) + shift is the standardized map with its affine (or x itself), C its plane means:
    Phi_s = -sum_c |z - C|, -sum_c (z - C)^2, sum_c z C, or -|mean_c z - mean_c C|;  p = softmax_s(Phi)
    g = sum_s p_s z;  y = z sigmoid(gain (g - mean_c g)/sigma_c + offset)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .gates import context_gate
from .planes import Planes, inverse
from .samples import HERE, Pools

Tensors = tuple[Tensor | None, ...]
Maps = tuple[Tensor, Tensor, Tensor, Tensor]

# What is summed over channels at each position, sum_c w f(x - center); around the plane mean but for "sum".
SIMILARITIES = {"l1": "abs", "squared": "square", "dot": "sum", "mean_difference": "sum"}
EMBEDDING_TENSORS = 8  # weights and biases of the two convolutions of query and of key


@dataclass(frozen=True)
class Context:
    """lambda = sigmoid(gain (g - mean_c g)/sigma_c + offset). `embedding`: the position shape (H, W) where the
    similarity is of two embeddings of mean_c z, query and mean of key (section 5.2 of the paper)."""

    similarity: str = "l1"
    unbiased: bool = False
    eps: float = 1e-5
    embedding: tuple[int, ...] | None = None

    @property
    def tensors(self) -> int:
        return 4 + (EMBEDDING_TENSORS if self.embedding is not None else 0)

    @property
    def kind(self) -> str:
        return SIMILARITIES[self.similarity]

    @property
    def needs_moments(self) -> bool:
        return self.similarity != "mean_difference"

    def inner(
        self, planes: Planes, center: Tensor, weight: Tensor | None, bias: Tensor | None, *rest: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """scale and shift of z, w of the position sums, and the mean over channels of shift (N, 1)."""
        scale, shift = planes.affine(center, weight, bias)
        if self.similarity == "l1":
            w = scale.abs()
        elif self.similarity == "squared":
            w = scale.square()
        elif self.similarity == "dot":
            w = scale * (shift + scale * (planes.m - center).to(scale.dtype))
        else:
            w = scale / scale.shape[1]
        return scale, shift, w, shift.mean(1, keepdim=True)

    def positions(self, t: Tensor, offset: Tensor, *rest: Tensor | None) -> Tensor:
        """p (N, S) of the position sums t; `rest` the head's tensors."""
        if self.similarity == "dot":
            return torch.softmax(t, 1)
        if self.similarity != "mean_difference":
            return torch.softmax(-t, 1)
        if self.embedding is None:
            return torch.softmax(-(t - t.mean(1, keepdim=True)).abs(), 1)
        s = (t + offset).reshape(-1, 1, *self.embedding)
        query, key = (_embedded(s, *rest[i : i + 4]) for i in (4, 8))  # type: ignore[arg-type]
        return torch.softmax(-(query - key.mean((2, 3), keepdim=True)).abs().flatten(1), 1)

    def outer(self, pooled: Tensor, scale: Tensor, shift: Tensor, *rest: Tensor | None) -> tuple[Tensor, Tensor]:
        """scale and shift of y, from pooled = sum_s p (x - center)."""
        gain, offset = rest[2:4]
        assert gain is not None
        assert offset is not None
        gate = context_gate(scale * pooled + shift, gain, offset, self.unbiased, self.eps)
        return gate * scale, gate * shift


def _embedded(s: Tensor, weight: Tensor, bias: Tensor, weight2: Tensor, bias2: Tensor) -> Tensor:
    """Two 3x3 convolutions of one channel and a ReLU between them."""
    return F.conv2d(torch.relu(F.conv2d(s, weight, bias, padding=1)), weight2, bias2, padding=1)


def context_of(head: Any) -> Context:
    assert isinstance(head.recalibrate, Context)
    return head.recalibrate


def inner_map(
    head: Any, center: Tensor, m: Tensor, v: Tensor, S: int, tensors: Tensors, pools: Pools = HERE
) -> tuple[Maps, Tensors]:
    """scale and shift of z, the weights of the position sums, mean_c shift; and the statistics."""
    dtype = center.dtype
    cast = [None if t is None else t.to(dtype) for t in tensors]
    own = head.standardize.tensors
    mu, var, statistics = head.standardize(m, v, S, *cast[:own], pool=pools[0])
    planes = Planes(m, v, mu, inverse(var, head.standardize.eps, dtype), S)
    return context_of(head).inner(planes, center, *cast[own:]), statistics


def own_tensors(head: Any, tensors: Tensors, dtype: torch.dtype) -> Tensors:
    """The recalibration's, in the compute type."""
    return tuple(None if t is None else t.to(dtype) for t in tensors[head.standardize.tensors :])
