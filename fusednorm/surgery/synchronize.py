"""A network with statistics over the samples of several processes."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from fusednorm.modules.batch_norm import BatchNorm, BatchNorm1d, BatchNorm2d, BatchNorm3d, BatchNormLayer
from fusednorm.modules.synchronized import check_process_group, synchronize

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

REPLACED: dict[type[nn.Module], type[BatchNormLayer]] = {
    nn.BatchNorm1d: BatchNorm1d,
    nn.BatchNorm2d: BatchNorm2d,
    nn.BatchNorm3d: BatchNorm3d,
    nn.SyncBatchNorm: BatchNorm,
}


def convert_sync(
    model: nn.Module, process_group: ProcessGroup | None = None, *, torch_layers: bool = True
) -> nn.Module:
    """The model with batch statistics over all processes of a group, as torch.nn.SyncBatchNorm takes them.

    Fused layers are switched in place and remain what they are; BNs inside an attention too. torch.nn.BatchNorm1d/2d/3d
    and SyncBatchNorm are replaced by fusednorm.BatchNorm of as many dimensions, with the same parameters and buffers
    (the very tensors, so that optimizers keep them, and of the same names), options and training mode; their hooks are
    not carried over. Converting once more changes nothing but the process group. Call it before
    DistributedDataParallel or fully_shard. docs/distributed.md

    Args:
        model: a network, or a layer.
        process_group: whose samples are taken together; None for the default group.
        torch_layers: whether torch's layers are replaced; otherwise they stay as they are.

    Returns:
        model; what replaces it where it is itself one of torch's layers.

    Warns:
        UserWarning: of torch BatchNorm subclasses, which may calculate something else, and of BatchNorms whose weight
            is calculated (parametrized or pruned) or that no longer track their running statistics: they stay as they
            are. fusednorm.convert(model, "batch") before it takes timm's, which have the activation inside.

    Raises:
        TypeError, ValueError: process_group is none, or one that this process is no member of.
    """
    check_process_group(process_group)
    if torch_layers:
        left: set[str] = set()
        model = _replaced(model, {}, left)
        if left:
            warnings.warn(
                f"convert_sync: left as they are, for they may calculate something else than torch's own: "
                f"{', '.join(sorted(left))}; fusednorm.convert(model, 'batch') before it takes timm's, and "
                "says why others stay",
                stacklevel=2,
            )
    synchronize(model, True, process_group)
    return model


def _replaced(module: nn.Module, done: dict[nn.Module, nn.Module], left: set[str]) -> nn.Module:
    """The module, or what stands for it: one for all places where it is."""
    if module in done:
        return done[module]
    kind = REPLACED.get(type(module))
    if kind is not None and _is_plain(module):
        assert isinstance(module, _BatchNorm)
        done[module] = _fused(module, kind)
        return done[module]
    done[module] = module
    if isinstance(module, _BatchNorm):
        left.add(type(module).__name__)
    for name, child in module._modules.items():  # named_children leaves out a second place of the same module
        if child is not None:
            module._modules[name] = _replaced(child, done, left)
    return module


def _is_plain(module: nn.Module) -> bool:
    """Whether its weights are its own, and its statistics, if there are any, follow the batches."""
    own: Any = module
    return {"weight", "bias"} <= own._parameters.keys() and (own.running_mean is None or own.track_running_stats)


def _fused(old: _BatchNorm, kind: type[BatchNormLayer]) -> BatchNormLayer:
    device = next((t.device for t in (old.weight, old.running_mean) if t is not None), None)
    new = kind(old.num_features, old.eps, old.momentum, old.affine, old.track_running_stats, device=device)
    new.weight, new.bias = old.weight, old.bias
    new.running_mean, new.running_var = old.running_mean, old.running_var
    new.num_batches_tracked = old.num_batches_tracked
    return new.train(old.training)
