"""Whether a module's batch statistics are those of several processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

import torch.distributed as dist
from torch import nn

from fusednorm.engine import Peers, group_of

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


class Synchronizable(nn.Module):
    """A module with statistics over samples.

    sync: whether in training they are taken over all processes of `process_group`, None for the default one. Where
    there is but one process, or torch.distributed has not been initialized, they are those of the samples here; so they
    are in evaluation without running statistics, as torch.nn.SyncBatchNorm has it: one process may evaluate alone.
    """

    sync: bool = False  # also that of modules pickled before there was this
    _process_group: _Held | None = None

    @property
    def process_group(self) -> ProcessGroup | None:
        return None if self._process_group is None else self._process_group.group

    @process_group.setter
    def process_group(self, group: ProcessGroup | None) -> None:
        check_process_group(group)
        self._process_group = None if group is None else _Held(group)

    def peers(self) -> Peers | None:
        """That of the coming call; None for the samples here alone."""
        return group_of(self.process_group) if self.sync and self.training else None


class _Held:
    """A process group, which copies of a module share."""

    def __init__(self, group: ProcessGroup) -> None:
        self.group = group

    def __deepcopy__(self, memo: dict[int, Any]) -> _Held:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "process_group: expected the default group (None) of a module to pickle, for groups belong to running "
            "processes, got one of its own; save the state_dict, or set process_group = None"
        )


def synchronize(module: nn.Module, sync: bool, process_group: ProcessGroup | None) -> None:
    """For all statistics over samples in a module. A process group implies sync."""
    check_process_group(process_group)
    for inner in module.modules():
        if isinstance(inner, Synchronizable):
            inner.sync, inner.process_group = sync or process_group is not None, process_group


def check_process_group(group: object) -> None:
    """None, or a group that this process is in."""
    if group is None:
        return
    words = "process_group: expected a torch.distributed process group or None, got"
    if not dist.is_available():
        raise ValueError(f"{words} {type(group).__name__}, and torch.distributed is not available")
    if group is dist.GroupMember.NON_GROUP_MEMBER or (
        isinstance(group, dist.ProcessGroup) and dist.is_initialized() and dist.get_rank(group) < 0
    ):
        raise ValueError(
            f"process_group: expected a group that this process (rank {dist.get_rank()}) is a member of, got another's"
        )
    if not isinstance(group, dist.ProcessGroup):
        raise TypeError(f"{words} {type(group).__name__}")
