"""The layers in the papers' own way: chains of PyTorch's operators, as the official repositories calculate them.

Own words, the same operations; what each computes is in ../fusednorm/reference. Parameters have the shapes that let
them multiply a map without a view, as theirs do. Two things differ: RBN's two additions to its input are not in
place, since autograd refuses that on a leaf, and SN flattens by `flatten`, which other than `view` takes
channels_last, by a copy.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from .names import Layer


class Official(nn.Module):
    """One layer; `ours`: the reference's name of each entry of the state whose name differs."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.ours: dict[str, str] = {}

    def add_running(self, shape: tuple[int, ...]) -> None:
        self.register_buffer("running_mean", torch.zeros(shape))
        self.register_buffer("running_var", torch.ones(shape))
        self.register_buffer("num_batches_tracked", torch.tensor(0))

    def load(self, state: dict[str, Tensor]) -> None:
        """The reference's state; shapes differ by dimensions of size 1."""
        own = self.state_dict()
        self.load_state_dict({name: state[self.ours.get(name, name)].view_as(value) for name, value in own.items()})

    def translated(self, found: dict[str, Tensor], expected: dict[str, Tensor]) -> dict[str, Tensor]:
        """Results (agreement.py) with the names and shapes that the reference's have."""
        names = {name: "d" + self.ours.get(name.removeprefix("d"), name.removeprefix("d")) for name in found}
        names |= {name: name for name in ("y", "dx", "dresidual")}
        return {names[name]: t.view(expected[names[name]].shape) for name, t in found.items()}


class AttentiveNorm(Official):
    """AN over BN, mode 2: RSD, 1x1 convolution, BN, hsigmoid."""

    def __init__(self, C: int, K: int = 10) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(K, C))
        self.bias = nn.Parameter(torch.zeros(K, C))
        self.attention = nn.Conv2d(C, K, 1, bias=False)
        self.attention_norm = nn.BatchNorm2d(K)
        self.add_running((C,))

    def forward(self, x: Tensor) -> Tensor:
        N, C = x.shape[:2]
        rsd = functional.adaptive_avg_pool2d(x, 1) * (torch.var(x, dim=(2, 3)).view(N, C, 1, 1) + 1e-3).rsqrt()
        a = self.attention_norm(self.attention(rsd))
        lambda_ = (functional.relu6(a + 3) / 6).view(N, -1)
        x_hat = functional.batch_norm(x, self.running_mean, self.running_var, training=self.training)
        gamma = (lambda_ @ self.weight).unsqueeze(-1).unsqueeze(-1).expand_as(x)
        beta = (lambda_ @ self.bias).unsqueeze(-1).unsqueeze(-1).expand_as(x)
        return gamma * x_hat + beta


class RepresentativeNorm(Official):
    """RBN: both calibrations by plane means, restricted by the sigmoid."""

    def __init__(self, C: int) -> None:
        super().__init__()
        self.weight, self.scale_bias = (nn.Parameter(torch.ones(1, C, 1, 1)) for _ in range(2))
        self.bias, self.center_weight, self.scale_weight = (nn.Parameter(torch.zeros(1, C, 1, 1)) for _ in range(3))
        self.add_running((C,))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.center_weight * functional.adaptive_avg_pool2d(x, 1)
        x_s = functional.batch_norm(x, self.running_mean, self.running_var, training=self.training)
        gate = torch.sigmoid(self.scale_weight * functional.adaptive_avg_pool2d(x_s, 1) + self.scale_bias)
        return self.weight * (x_s * gate) + self.bias


class SwitchNorm(Official):
    """SN of instance, layer and batch; the latter two from the first's moments.

    unbiased: the variance of a plane, as the repository has it; our layer's default is the paper's, biased.
    """

    def __init__(self, C: int, *, unbiased: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, C, 1, 1))
        self.bias = nn.Parameter(torch.zeros(1, C, 1, 1))
        self.mean_weight = nn.Parameter(torch.ones(3))
        self.var_weight = nn.Parameter(torch.ones(3))
        self.unbiased = unbiased
        self.add_running((1, C, 1))

    def forward(self, x: Tensor) -> Tensor:
        planes = x.flatten(2)
        mean_in, var_in = planes.mean(-1, keepdim=True), planes.var(-1, keepdim=True, correction=int(self.unbiased))
        square = var_in + mean_in**2
        mean_ln = mean_in.mean(1, keepdim=True)
        var_ln = square.mean(1, keepdim=True) - mean_ln**2
        if self.training:
            mean_bn = mean_in.mean(0, keepdim=True)
            var_bn = square.mean(0, keepdim=True) - mean_bn**2
            self.running_mean.mul_(0.9).add_(0.1 * mean_bn.detach())
            self.running_var.mul_(0.9).add_(0.1 * var_bn.detach())
        else:
            mean_bn, var_bn = self.running_mean, self.running_var
        w, v = torch.softmax(self.mean_weight, 0), torch.softmax(self.var_weight, 0)
        mean = w[0] * mean_in + w[1] * mean_ln + w[2] * mean_bn
        var = v[0] * var_in + v[1] * var_ln + v[2] * var_bn
        x_hat = ((planes - mean) / (var + 1e-5).sqrt()).view(x.shape)
        return x_hat * self.weight + self.bias


class BatchNormSqueezeExcite(Official):
    """SE after BN."""

    def __init__(self, C: int, reduction: int = 16) -> None:
        super().__init__()
        hidden = max(C // reduction, 1)
        self.norm = nn.BatchNorm2d(C)
        self.reduce, self.expand = nn.Linear(C, hidden), nn.Linear(hidden, C)
        self.ours = {name: f"recalibrate.{name}".replace("norm.", "") for name, _ in self.named_parameters()}
        self.ours |= {name: name.replace("norm.", "standardize.") for name, _ in self.named_buffers()}

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        N, C = y.shape[:2]
        hidden = functional.relu(self.reduce(functional.adaptive_avg_pool2d(y, 1).view(N, C)))
        return y * torch.sigmoid(self.expand(hidden)).view(N, C, 1, 1).expand_as(y)


_RUNNING = ("running_mean", "running_var", "num_batches_tracked")

# Configured as the layers of layers.py are.
OFFICIAL: dict[Layer, Callable[[int], Official]] = {
    Layer.an: AttentiveNorm,
    Layer.rbn: RepresentativeNorm,
    Layer.sn: lambda C: SwitchNorm(C, unbiased=False),
    Layer.se_bn: BatchNormSqueezeExcite,
}
