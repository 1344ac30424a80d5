"""How many things one call has done: what each costs on its own is host time, whatever the size of the map."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from .harness import Step


class _Counter(TorchDispatchMode):
    count = 0

    def __torch_dispatch__(
        self, func: Any, types: object, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


def operators(step: Step, device: str) -> int:
    """Operators that PyTorch dispatches in one call, backward and views included, those within another not.

    On a GPU the kernels, copies and fills that are launched. Not for compiled code on the CPU, whose loops are no
    operators.
    """
    if device == "cuda":
        return _launches(step)
    with _Counter() as counter:
        step()
    return counter.count


def _launches(step: Step) -> int:
    activities = [torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        step()
        torch.cuda.synchronize()
    return sum(event.device_type is torch.autograd.DeviceType.CUDA for event in profile.events() or ())
