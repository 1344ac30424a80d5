"""Statistics over the samples of several processes: what is exchanged, and how it is put together.

Forward gathers each process's count, mean and sum of squared differences from it of all that a layer pools, in one
collective, and every process merges them alike. Backward sums the gradients of the merged ones over the processes, in
one collective; from there each goes back to its own planes. Nothing is read by the host. docs/distributed.md
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from fusednorm.heads.samples import HERE, Pool, Pooled, Pools, over_samples


@dataclass(frozen=True)
class Peers:
    """The processes of a group, at least two, as seen from one of them."""

    name: Any  # torch's GroupName
    size: int
    rank: int


def group_of(process_group: Any) -> Peers | None:
    """None where there is nobody to exchange with. process_group: None for the default one."""
    if not dist.is_available() or not dist.is_initialized():
        return None
    size = dist.get_world_size(process_group)
    if size == 1:
        return None
    if process_group is None:
        process_group = dist.group.WORLD
    return Peers(process_group.group_name, size, dist.get_rank(process_group))


def all_gather(t: Tensor, group: Peers) -> Tensor:
    """t (L) of all processes, (size, L)."""
    if torch.compiler.is_compiling():
        import torch.distributed._functional_collectives as functional

        return functional.wait_tensor(functional.all_gather_tensor(t, 0, group.name)).view(group.size, -1)
    gathered = t.new_empty(group.size * t.numel())
    gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor  # its name before torch 2.13
    gather(gathered, t.contiguous(), group=_process_group(group))
    return gathered.view(group.size, -1)


def all_sum(t: Tensor, group: Peers) -> Tensor:
    """The sum of t over all processes."""
    if torch.compiler.is_compiling():
        import torch.distributed._functional_collectives as functional

        return functional.wait_tensor(functional.all_reduce(t, "sum", group.name))
    total = t.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total, group=_process_group(group))
    return total


def _process_group(group: Peers) -> Any:
    return dist.distributed_c10d._resolve_process_group(group.name)


class Asked(NamedTuple):
    """What a head pools: the arguments of heads.samples.Pool."""

    mean: Tensor
    var: Tensor | None
    positions: int
    standardized: bool

    @property
    def width(self) -> int:
        return 2 * self.mean.shape[1] + 2


class Session:
    """The pool of one calculation of a head: it answers from what is known already, and keeps all that is asked.

    known: of each answer mean, variance (K), count and samples, one after the other. `pending` is what is not among
    them: it is answered by the samples here, and so the results are not yet right. Nor is what is calculated from such
    an answer: that stays out, and has its turn when those before it are known.
    """

    def __init__(self, known: Tensor) -> None:
        self.known, self.end = known, 0
        self.asked: list[Asked] = []
        self.pending: list[Asked] = []

    def __call__(self, mean: Tensor, var: Tensor | None, positions: int, standardized: bool = False) -> Pooled:
        asked = Asked(mean, var, positions, standardized)
        start, end = self.end, self.end + asked.width
        if end <= self.known.numel():
            self.asked.append(asked)
            self.end = end
            return unpack(self.known[start:end], asked)
        if not (standardized and self.pending):
            self.pending.append(asked)
        return over_samples(mean, var, positions)

    def rounds(self) -> list[list[int]]:
        """Of all that is asked, what is exchanged together: the numbers of the first, of the second collective."""
        rounds: list[list[int]] = []
        for i, asked in enumerate(self.asked):
            if i == 0 or asked.standardized:
                rounds.append([])
            rounds[-1].append(i)
        return rounds


def pools_of(halves: tuple[bool, bool], pool: Pool) -> Pools:
    """The pool for those halves of a head that are synchronized."""
    first, second = (pool if own else here for own, here in zip(halves, HERE, strict=True))
    return first, second


def unpack(known: Tensor, asked: Asked) -> Pooled:
    """An answer, in the type that the samples here would have given."""
    mean, var, count, samples = _columns(known, asked.mean.shape[1])
    dtype = asked.mean.dtype
    wide = dtype if asked.var is None else torch.promote_types(dtype, asked.var.dtype)
    return Pooled(mean[None].to(dtype), var[None].to(wide), count[0], samples[0])


def pack(asked: Asked, dtype: torch.dtype) -> Tensor:
    """What one process sends: mean, sum of squares around it, count, samples."""
    mean, N = asked.mean.to(dtype), asked.mean.shape[0]
    mu = mean.sum(0) / max(N, 1)
    square = (mean - mu).square().sum(0)
    if asked.var is not None:
        square = square + asked.var.to(dtype).sum(0)
    sizes = (mean.new_full((1,), N * asked.positions), mean.new_full((1,), N))
    return torch.cat([mu, square * asked.positions, *sizes])


def merge(gathered: Tensor, asked: Sequence[Asked]) -> Tensor:
    """Of what all processes sent (size, L): what Session knows. Those without samples count for nothing."""
    merged, start = [], 0
    for one in asked:
        mean, square, count, samples = _columns(gathered[:, start : start + one.width], one.mean.shape[1])
        start += one.width
        total = count.sum(0)
        divisor = total.clamp(min=1)
        mu = (count / divisor * mean).sum(0)
        var = (square + count * (mean - mu).square()).sum(0) / divisor
        merged += [mu, var, total, samples.sum(0)]
    return torch.cat(merged)


def _columns(t: Tensor, K: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return t[..., :K], t[..., K : 2 * K], t[..., 2 * K : 2 * K + 1], t[..., 2 * K + 1 :]


def exchange(asked: Sequence[Asked], group: Peers, dtype: torch.dtype) -> Tensor:
    """One collective for all that is asked."""
    return merge(all_gather(torch.cat([pack(one, dtype) for one in asked]), group), asked)


def way_back(dknown: Tensor, known: Tensor, asked: Asked) -> tuple[Tensor, Tensor | None]:
    """From the gradient of an answer, summed over the processes, to those of the samples' mean and var:

    mu = sum w mean, var = sum w (var_n + (mean - mu)²), w = positions/count;  the term of mu in var is 0.
    """
    K = asked.mean.shape[1]
    mu, _, count, _ = _columns(known, K)
    dmu, dvar, _, _ = _columns(dknown, K)
    w = asked.positions / count.clamp(min=1)
    dmean = w * (dmu + 2 * dvar * (asked.mean.to(mu.dtype) - mu))
    if asked.var is None:
        return dmean.to(asked.mean.dtype), None
    return dmean.to(asked.mean.dtype), (w * dvar).expand_as(asked.var).to(asked.var.dtype)


class _AllSum(torch.autograd.Function):
    """all_sum, differentiable any number of times."""

    @staticmethod
    def forward(t: Tensor, group: Peers) -> Tensor:
        return all_sum(t, group)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.group = inputs[1]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _AllSum.apply(gradient, ctx.group), None


class _AllGather(torch.autograd.Function):
    """all_gather, likewise."""

    @staticmethod
    def forward(t: Tensor, group: Peers) -> Tensor:
        return all_gather(t, group)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.group = inputs[1]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _AllSum.apply(gradient, ctx.group)[ctx.group.rank], None


class Taped:
    """The pool of the layer in plain PyTorch (plain.py): each question an exchange of its own, on autograd's tape."""

    def __init__(self, group: Peers, dtype: torch.dtype) -> None:
        self.group, self.dtype = group, dtype
        self.seen: Tensor | None = None

    def __call__(self, mean: Tensor, var: Tensor | None, positions: int, standardized: bool = False) -> Pooled:
        asked = Asked(mean, var, positions, standardized)
        # An exported program loses a Function's backward; torch's own collective in its place has one.
        gather = all_gather if torch.compiler.is_exporting() else _AllGather.apply
        gathered = gather(pack(asked, self.dtype), self.group)
        pooled = unpack(merge(gathered, [asked]), asked)
        assert isinstance(pooled.samples, Tensor)
        self.seen = pooled.samples.detach()
        return pooled
