"""What the tests have the processes do. What comes back are tensors, numbers and strings."""

from __future__ import annotations

import contextlib
import copy
from collections import Counter
from typing import Any

import torch
import torch.distributed as dist
import torch.utils.checkpoint
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import fusednorm

from .layers import C, Case, Found, batches, build, found, step


def chunk(t: Tensor, case: Case) -> Tensor:
    return t.split(case.split)[dist.get_rank()]


def run_part(case: Case) -> Found:
    """This rank's part of the batch, statistics over all ranks."""
    layer = fusednorm.convert_sync(build(case))
    backend = contextlib.nullcontext() if case.backend is None else fusednorm.use_backend(case.backend)
    with backend:
        return found(layer, [step(layer, case, *(chunk(t, case) for t in batch)) for batch in batches(case)])


def run_alone(case: Case) -> Found:
    """This rank's part of the batch, statistics of this rank."""
    layer = build(case)
    return found(layer, [step(layer, case, *(chunk(t, case) for t in batch)) for batch in batches(case)])


class Watch(TorchDispatchMode):
    """Counts collectives, as they come to the dispatcher, and what has the host wait for a value."""

    def __init__(self) -> None:
        super().__init__()
        self.collectives: Counter[str] = Counter()
        self.waits: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func)
        if name.startswith(("c10d.", "_c10d_functional.")) and "wait" not in name:
            self.collectives[name.split(".")[1].strip("_")] += 1
        if any(word in name for word in ("_local_scalar_dense", "is_nonzero", "nonzero", "equal.default", "_unique")):
            self.waits.append(name)
        return func(*args, **(kwargs or {}))


def counted(case: Case, what: str) -> tuple[dict[str, int], dict[str, int], list[str]]:
    """Collectives forward, collectives backward, waits. what: "training", "no_grad", "frozen", "evaluation"."""
    layer = fusednorm.convert_sync(build(case))
    if what == "evaluation":
        layer.eval()
    if what == "frozen":
        layer.requires_grad_(False)
    x, residual, dy = (chunk(t, case) for t in batches(case)[0])
    x.requires_grad_(what != "frozen")
    with Watch() as forward, torch.set_grad_enabled(what != "no_grad"):
        y = layer(x, residual)
    with Watch() as backward:
        if y.requires_grad:
            y.backward(dy)
    return dict(forward.collectives), dict(backward.collectives), forward.waits + backward.waits


def same_twice(case: Case, how: str) -> bool:
    """Whether a copy, or what comes back from a pickle, does as the layer, statistics over all ranks too."""
    import pickle

    layer = fusednorm.convert_sync(build(case))
    twin = copy.deepcopy(layer) if how == "copy" else pickle.loads(pickle.dumps(layer))
    x, residual, _ = (chunk(t, case) for t in batches(case)[0])
    return torch.equal(layer(x, residual), twin(x, residual)) and torch.equal(layer.running_mean, twin.running_mean)


def with_own_group(case: Case) -> tuple[Found, str]:
    """Ranks 0 and 1, and 2 and 3, among themselves: statistics of a copy of the layer; and what pickle says."""
    import pickle

    groups = [dist.new_group([0, 1]), dist.new_group([2, 3])]
    rank = dist.get_rank()
    layer = fusednorm.convert_sync(build(case), groups[rank // 2])
    twin = copy.deepcopy(layer)
    assert twin.process_group is layer.process_group is groups[rank // 2]
    try:
        pickle.dumps(layer)
        said = ""
    except TypeError as error:
        said = str(error)
    return run_on(twin, case), said


def run_on(layer: nn.Module, case: Case) -> Found:
    return found(layer, [step(layer, case, *(chunk(t, case) for t in batch)) for batch in batches(case)])


def group_of_others() -> list[str]:
    """What is said of a group that only rank 0 is in, on the others."""
    group = dist.new_group([0])
    said = []
    for call in (
        lambda: fusednorm.convert_sync(nn.BatchNorm2d(C), group),
        lambda: fusednorm.BatchNorm2d(C, process_group=group),
        lambda: setattr(fusednorm.BatchNorm2d(C), "process_group", group),
    ):
        try:
            call()
        except ValueError as error:
            said.append(str(error))
    return said


def two_groups(case: Case) -> str:
    """A layer whose halves have groups of their own."""
    layer = fusednorm.convert_sync(build(case))
    layer.attention_norm.process_group = dist.new_group([0, 1])
    try:
        layer(chunk(batches(case)[0][0], case))
    except ValueError as error:
        return str(error)
    return ""


def one_half(case: Case) -> tuple[Found, Found]:
    """Of an attentive layer the channels' statistics over all ranks, the attention's here; and the other way round."""
    both = []
    for channels in (True, False):
        layer = build(case)
        layer.sync, layer.attention_norm.sync = channels, not channels
        both.append(run_on(layer, case))
    return both[0], both[1]


def switched(case: Case) -> list[Tensor]:
    """y of a layer alone, twice, so that its call has been recorded; then synchronized; then alone again."""
    layer = build(case)
    x, residual, _ = (chunk(t, case) for t in batches(case)[0])
    found = [layer(x, residual), layer(x, residual)]
    for inner in layer.modules():
        if hasattr(inner, "sync"):
            inner.sync = True
    found += [layer(x, residual), layer(x, residual)]
    for inner in layer.modules():
        if hasattr(inner, "sync"):
            inner.sync = False
    return [*found, layer(x, residual), layer(x, residual)]


def some_want_no_gradient(case: Case) -> dict[str, Tensor]:
    """Only rank 1's x wants a gradient; the gradients of the parameters, and of that x."""
    layer = fusednorm.convert_sync(build(case))
    x, residual, dy = (chunk(t, case) for t in batches(case)[0])
    x.requires_grad_(dist.get_rank() == 1)
    layer(x, residual).backward(dy)
    gradients = {name: p.grad for name, p in layer.named_parameters() if p.grad is not None}
    return gradients | ({} if x.grad is None else {"x": x.grad})


def uneven_planes(case: Case, planes: list[tuple[int, ...]]) -> Found:
    """Each rank with planes of its own size; of the first step."""
    layer = fusednorm.convert_sync(build(case))
    rank = dist.get_rank()
    batch = batches(case._replace(split=(case.split[rank],), plane=planes[rank]))[0]
    return found(layer, [step(layer, case, *batch)])


def averaged(case: Case) -> tuple[Tensor, Tensor, int]:
    """average_statistics of a synchronized layer, over this rank's parts of the batches."""
    layer = fusednorm.convert_sync(build(case))
    fusednorm.average_statistics(layer, [chunk(batch[0], case) for batch in batches(case)])
    return layer.running_mean, layer.running_var, int(layer.num_batches_tracked)


class Network(nn.Module):
    """Two convolutions with a layer after each: statistics of statistics."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.first, self.second = (nn.Conv2d(C, C, 3, padding=1, dtype=case.dtype) for _ in range(2))
        self.norm, self.plain = build(case), nn.BatchNorm2d(C, dtype=case.dtype)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.norm(self.second(self.plain(self.first(x))))
        return found


def trained(case: Case, network: nn.Module, own: Any, averaged: int) -> dict[str, Tensor]:
    """Some steps of SGD; own(t): the part of a batch; averaged: over how many ranks gradients are. The state then."""
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for x, _, dy in batches(case):
        optimizer.zero_grad()
        ((network(own(x)) * own(dy)).sum() * (averaged / len(x))).backward()
        optimizer.step()
    return dict(network.state_dict())


def trained_alone(case: Case) -> dict[str, Tensor]:
    return trained(case, Network(case), lambda t: t, 1)


def trained_in_parallel(case: Case, broadcast_buffers: bool) -> dict[str, Tensor]:
    """DistributedDataParallel."""
    network = fusednorm.convert_sync(Network(case))
    parallel = nn.parallel.DistributedDataParallel(network, broadcast_buffers=broadcast_buffers)
    state = trained(case, parallel, lambda t: chunk(t, case), dist.get_world_size())
    return {name.removeprefix("module."): t for name, t in state.items()}


def trained_in_shards(case: Case) -> dict[str, Tensor]:
    """fully_shard, parameters in shards; they come back whole."""
    from torch.distributed.fsdp import fully_shard

    network = fusednorm.convert_sync(Network(case))
    mesh = dist.device_mesh.init_device_mesh("cpu", (dist.get_world_size(),))
    fully_shard(network, mesh=mesh)
    state = trained(case, network, lambda t: chunk(t, case), dist.get_world_size())
    return {name: t.full_tensor() if hasattr(t, "full_tensor") else t for name, t in state.items()}


def compiled(case: Case, backend: str, own_group: bool = False) -> tuple[Found, Found]:
    """One graph of the layer, and as it is."""
    torch.compiler.reset()
    group = dist.new_group(list(range(dist.get_world_size()))) if own_group else None
    layer = fusednorm.convert_sync(build(case), group)
    return run_on(torch.compile(layer, fullgraph=True, backend=backend), case), run_on(copy.deepcopy(layer), case)


def exported(case: Case, strict: bool) -> tuple[Found, Found]:
    """The program of a layer exported in training, and the layer."""
    layer = fusednorm.convert_sync(build(case))
    x, residual = (chunk(t, case) for t in batches(case)[0][:2])
    program = torch.export.export(copy.deepcopy(layer), (x, residual), strict=strict)
    return run_on(program.module(), case), run_on(layer, case)


def checkpointed(case: Case, reentrant: bool) -> Found:
    """Forward is calculated again on the way back."""
    layer = fusednorm.convert_sync(build(case))

    def run(x: Tensor, residual: Tensor | None) -> Tensor:
        y: Tensor = torch.utils.checkpoint.checkpoint(layer, x, residual, use_reentrant=reentrant)
        return y

    maps = [step(run, case, *(chunk(t, case) for t in batch)) for batch in batches(case)]  # type: ignore[arg-type]
    return found(layer, maps)


def twice(case: Case) -> list[Tensor]:
    """Gradients of the square of the gradient of x, by x and the parameters."""
    layer = fusednorm.convert_sync(build(case))
    x, residual, dy = (chunk(t, case) for t in batches(case)[0])
    return gradients_twice(layer, x, residual, dy)


def gradients_twice(layer: nn.Module, x: Tensor, residual: Tensor, dy: Tensor) -> list[Tensor]:
    x.requires_grad_()
    (dx,) = torch.autograd.grad(layer(x, residual), x, dy, create_graph=True)
    wanted = [x, *layer.parameters()]
    return list(torch.autograd.grad(dx.square().sum(), wanted, materialize_grads=True))


def transformed(case: Case) -> list[str]:
    """What is said of torch.func's transforms and forward-mode differentiation."""
    layer = fusednorm.convert_sync(build(case))
    x = chunk(batches(case)[0][0], case)
    said = []
    for call in (
        lambda: torch.func.grad(lambda t: layer(t).sum())(x),
        lambda: torch.func.vmap(layer)(x[None]),
        lambda: torch.func.jvp(layer, (x,), (x,)),
    ):
        try:
            call()
        except RuntimeError as error:
            said.append(str(error))
    return said
