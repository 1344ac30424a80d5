"""The Normalization-Attention module (NA): Ma, Guo, Chen, Tang, Yang, Fu, "Attention meets Normalization and Beyond".

X (N, C, *positions), x_i the C values at position i.

    C = mean_i x_i                                                                        eq. 4
    Phi_i = -||x_i - C||_1  ("l1"), or -||x_i - C||_2^2  ("squared"), or x_i . C  ("dot")  eq. 5 and below
    g = sum_i p_i x_i, p = softmax_i(Phi)                                                 eq. 6
    mu, sigma = mean and deviation of g over channels                                     eq. 7
    Y = X sigmoid(gamma (g - mu)/sigma + beta)                                            eqs. 8, 9

Where the paper and its official code differ, both are here:

- Eq. 6 as printed is a ratio of sums and constant; the text below it says that it is a softmax. So does the code.
- "mean_difference", the code's similarity: -|mean_c x_i - mean_c C|, the mean over channels first.
- `unbiased`: the code's sigma is sqrt(unbiased variance) + eps, the paper's sqrt(biased variance + eps).
- similarity None: g = C, Table 3's "mean".
- `embedding`, Table 2: query and key are the mean over channels behind two 3x3 convolutions each, as in the code;
  with "mean_difference" only.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from .gates import Gate
from .options import check_choice
from .statistics import deviation, plane_mean

SIMILARITIES = ("l1", "squared", "dot", "mean_difference")


def contextual_similarity(X: Tensor, similarity: str) -> Tensor:
    """Phi (N, S) of X (N, C, S)."""
    C = X.mean(2, keepdim=True)
    if similarity == "l1":
        return -(X - C).abs().sum(1)
    if similarity == "squared":
        return -(X - C).square().sum(1)
    if similarity == "dot":
        return (X * C).sum(1)
    if similarity == "mean_difference":
        return -(X.mean(1) - C.mean(1)).abs()
    raise ValueError(f"similarity: expected one of {', '.join(SIMILARITIES)}, got {similarity!r}")


def context_gate(g: Tensor, gamma: Tensor, beta: Tensor, unbiased: bool, eps: float) -> Tensor:
    """sigmoid(gamma (g - mu)/sigma + beta), eqs. 7-9, (N, C). The unbiased variance of one channel is 0 here."""
    mu = g.mean(1, keepdim=True)
    if unbiased:
        sigma = deviation(g.var(1, correction=min(1, g.shape[1] - 1), keepdim=True)) + eps
    else:
        sigma = torch.sqrt(g.var(1, correction=0, keepdim=True) + eps)
    return torch.sigmoid(gamma * (g - mu) / sigma + beta)


class ChannelSharedEmbedding(nn.Sequential):
    """f_theta of section 5.2: two 3x3 convolutions of one channel and a ReLU between them; (N, 1, H, W)."""

    def __init__(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> None:
        first, second = (nn.Conv2d(1, 1, 3, padding=1, device=device, dtype=dtype) for _ in range(2))
        super().__init__(first, nn.ReLU(), second)

    def forward(self, s: Tensor) -> Tensor:
        """f_theta(s), in s's type whatever that of the parameters."""
        state = {name: parameter.to(s.dtype) for name, parameter in self.named_parameters()}
        hidden = functional.relu(functional.conv2d(s, state["0.weight"], state["0.bias"], padding=1))
        return functional.conv2d(hidden, state["2.weight"], state["2.bias"], padding=1)


class NormalizationAttention(Gate):
    """Eqs. 4-9 with X = weight x_hat + bias.

    State: weight, bias (C,) if `affine`; gain = gamma, offset = beta (1,), 0 and 1 at the start, so that the gate
    starts as sigmoid(1) everywhere; with `embedding`, for which x is (N, C, H, W), query.* and key.*.
    """

    gain: nn.Parameter
    offset: nn.Parameter

    def __init__(
        self,
        num_channels: int | None,
        affine: bool = True,
        *,
        similarity: str | None = "l1",
        embedding: bool = False,
        unbiased: bool = False,
        eps: float = 1e-5,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        Gate.__init__(self, num_channels, affine, device=device, dtype=dtype)
        if similarity is not None:
            check_choice("similarity", similarity, SIMILARITIES, " or None")
        if embedding and similarity != "mean_difference":
            raise ValueError(f"embedding: expected similarity mean_difference with it, got {similarity!r}")
        self.similarity, self.unbiased, self.eps = similarity, unbiased, eps
        self.add_parameter("gain", (1,), 0.0, device, dtype)
        self.add_parameter("offset", (1,), 1.0, device, dtype)
        self.query = ChannelSharedEmbedding(device, dtype) if embedding else None
        self.key = ChannelSharedEmbedding(device, dtype) if embedding else None

    def context(self, X: Tensor) -> Tensor:
        """g (N, C), eq. 6."""
        if self.similarity is None:
            return plane_mean(X)
        planes = X.flatten(2) if X.dim() > 2 else X.unsqueeze(2)
        if self.query is not None and self.key is not None:
            Phi = self.embedded_similarity(X, self.query, self.key)
        else:
            Phi = contextual_similarity(planes, self.similarity)
        p = torch.softmax(Phi, dim=1)
        return (planes * p.unsqueeze(1)).sum(2)

    def embedded_similarity(self, X: Tensor, f_q: nn.Module, f_k: nn.Module) -> Tensor:
        """Phi (N, S) = -|f_q(s_i) - mean_i f_k(s_i)|, s the mean over channels."""
        if X.dim() != 4:
            raise ValueError(f"x: expected (N, C, H, W) with embedding, got {tuple(X.shape)}")
        s = X.mean(1, keepdim=True)
        return -(f_q(s) - f_k(s).mean((2, 3), keepdim=True)).abs().flatten(1)

    def lambda_(self, z: Tensor) -> Tensor:
        gain, offset = self.gain.to(z.dtype), self.offset.to(z.dtype)
        return context_gate(self.context(z), gain, offset, self.unbiased, self.eps)
