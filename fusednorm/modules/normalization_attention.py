"""The Normalization-Attention module (NA): a gate for each channel from a context that weights positions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fusednorm import checks, parts
from fusednorm.heads import SIMILARITIES
from fusednorm.parts import Part

from . import gates
from .layer import new_parameter


def embedding_network(device: torch.device | str | None, dtype: torch.dtype | None) -> nn.Sequential:
    """Two 3x3 convolutions of one channel and a ReLU between them (NA section 5.2)."""
    first, second = (nn.Conv2d(1, 1, 3, padding=1, device=device, dtype=dtype) for _ in range(2))
    return nn.Sequential(first, nn.ReLU(), second)


class NormalizationAttention(gates.Gate):
    """y = z sigmoid(gain (g - mean_c g)/sigma_c + offset) after a standardization, z = weight*x_hat + bias (NA eqs.
    4-9).

    fusednorm.NormalizationAttention, the same on a bare map, has equations and arguments. Parameters: weight, bias (C)
    with `affine`; gain (1), which starts as 0, offset (1), as 1; query.*, key.* with `embedding`.
    """

    def __init__(
        self,
        num_channels: int,
        affine: bool = True,
        *,
        similarity: str | None = "l1",
        embedding: bool = False,
        unbiased: bool = False,
        eps: float = 1e-5,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        nn.Module.__init__(self)
        self._build_affine(num_channels, affine, device, dtype)
        self._build_context(similarity, embedding, unbiased, eps, device, dtype)
        self.reset_parameters()

    def _build_context(
        self,
        similarity: str | None,
        embedding: bool,
        unbiased: bool,
        eps: float,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        if similarity is not None:
            checks.check_choice("similarity", similarity, tuple(SIMILARITIES), " or None")
        if embedding and similarity != "mean_difference":
            raise ValueError(f"embedding: expected similarity 'mean_difference' with it, got {similarity!r}")
        checks.check_eps("eps", eps)
        self.similarity, self.unbiased, self.context_eps = similarity, unbiased, eps
        self.gain = new_parameter((1,), device, dtype)
        self.offset = new_parameter((1,), device, dtype)
        self.query = embedding_network(device, dtype) if embedding else None
        self.key = embedding_network(device, dtype) if embedding else None

    def reset_parameters(self) -> None:
        """weight 1, bias 0; gain 0, offset 1: a gate of sigmoid(1) = 0.73 everywhere; embeddings as nn.Conv2d's."""
        super().reset_parameters()
        nn.init.zeros_(self.gain)
        nn.init.ones_(self.offset)
        for network in (self.query, self.key):
            for layer in network or ():
                if isinstance(layer, nn.Conv2d):
                    layer.reset_parameters()

    def recalibration(self, x: Tensor) -> Part:
        embedding = tuple(p for network in (self.query, self.key) if network is not None for p in network.parameters())
        return parts.normalization_attention(
            x,
            self.weight,
            self.bias,
            self.gain,
            self.offset,
            self.similarity,
            embedding,
            self.unbiased,
            self.context_eps,
        )

    def extra_repr(self) -> str:
        own = f"similarity={self.similarity}, embedding={self.query is not None}, unbiased={self.unbiased}"
        return ", ".join(filter(None, [super().extra_repr(), own]))
