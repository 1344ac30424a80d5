"""The processes that torchrun starts: who one is, and what they do together. Without torchrun there is one."""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


@dataclass(frozen=True)
class Group:
    rank: int
    size: int
    device: torch.device
    control: Any = None
    """A gloo group for small things that the host decides on, beside NCCL's."""

    @property
    def first(self) -> bool:
        return self.rank == 0

    def any(self, flag: bool) -> bool:
        """Whether it is set in any process."""
        if self.size == 1:
            return flag
        flags = torch.tensor(int(flag))
        dist.all_reduce(flags, dist.ReduceOp.MAX, group=self.control)
        return bool(flags)

    def sum(self, values: Tensor) -> Tensor:
        """Of all processes, in float64, added in the order of ranks."""
        return torch.stack([t.to(torch.float64) for t in self.gather_all(values.cpu())]).sum(0)

    def gather_all(self, value: Any) -> list[Any]:
        """Everyone's, by rank, on every process."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value, group=self.control)
        return values

    def share_buffers(self, module: nn.Module) -> None:
        """The first process's: running statistics are those of its batches, as DistributedDataParallel has it."""
        for buffer in module.buffers() if self.size > 1 else ():
            dist.broadcast(buffer, 0)

    def wrap(self, model: nn.Module) -> nn.Module:
        if self.size == 1:
            return model
        devices = [self.device] if self.device.type == "cuda" else None
        # With this, buckets of gradients stay as they are first made. Made anew after the first step, as they are
        # without, they would be added in another order in a run's first part than in its second. Where no parameter is
        # unused, PyTorch's native code warns of it once.
        return nn.parallel.DistributedDataParallel(model, device_ids=devices, find_unused_parameters=True)


@contextlib.contextmanager
def joined(device: str) -> Iterator[Group]:
    """device: "cpu" or "cuda"; with several processes the GPU of this one's LOCAL_RANK.

    Raises:
        ValueError: another device, or fewer GPUs than processes.
    """
    size, local = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("LOCAL_RANK", 0))
    if device not in ("cpu", "cuda"):
        raise ValueError(f"device: expected 'cpu' or 'cuda', got {device!r}")
    if device == "cuda" and local >= torch.cuda.device_count():
        raise ValueError(f"device: expected a GPU for each process, PyTorch sees {torch.cuda.device_count()}")
    place = torch.device(device, local) if device == "cuda" else torch.device(device)
    if place.type == "cuda":
        torch.cuda.set_device(place)
    if size == 1:
        yield Group(0, 1, place)
        return
    # Gloo's threads must have ended when the interpreter does: one that lets go of a tensor then ends the process with
    # "terminate called without an active exception". They end with their group. What keeps it: torch.distributed.nn,
    # whose functions have the group that is there at import as a default, and which DistributedDataParallel imports, so
    # it is imported before (an import statement would make `torch` a local name here); and models in reference cycles.
    importlib.import_module("torch.distributed.nn")
    dist.init_process_group("nccl" if place.type == "cuda" else "gloo")
    try:
        control = dist.new_group(backend="gloo")
        yield Group(dist.get_rank(), size, place, control)
    finally:
        gc.collect()
        dist.destroy_process_group()


def processes() -> int:
    return int(os.environ.get("WORLD_SIZE", 1))


def without_sync(model: nn.Module, last: bool) -> contextlib.AbstractContextManager[Any]:
    """Gradients are exchanged in the last of a step's batches only."""
    if last or not isinstance(model, nn.parallel.DistributedDataParallel):
        return contextlib.nullcontext()
    return model.no_sync()
