"""Fine-tuning with frozen parts (AN section 4.3)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from torch import nn

from fusednorm.modules import RecalibratedNorm
from fusednorm.modules.batch_norm import RunningStatistics

from . import blocks
from .layers import build
from .norms import TORCH_BATCH, UnplacedError, layers
from .undo import FROZEN, put


def freeze(model: nn.Module, *what: str) -> nn.Module:
    """Freeze parts of a network for fine-tuning; it is changed in place.

        fusednorm.freeze(model, "standardization", "stem", "stage1")  # AN section 4.3

    "standardization", the default: of every normalization the running statistics, which then serve in training too,
    and weight and bias (AN's mixture). Attention, calibration and SN's ratios go on learning.
    "stem", "stage1", "stage2", ...: everything in them, what comes before the first block and the blocks of a stage
    (fusednorm.convert says what those are).

    Layers of ours keep their kernels, and frozen statistics stay so under .train(). torch's BatchNorm can't; in what is
    frozen ours takes its place wherever it stands, with the same names and the very tensors, but not its hooks. Frozen
    parameters want no gradient: make the optimizer afterwards. A state dict does not say what is frozen.

    Raises:
        TypeError: model is no module.
        ValueError: an unknown part, one that the network does not have, a normalization over the batch that tracks no
            statistics; nothing is changed then.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: expected an nn.Module, got {type(model).__name__}")
    parts = tuple(dict.fromkeys(what or ("standardization",)))
    whole = [name for part in parts if part != "standardization" for name in _part(model, part)]
    norms = [name for name, _ in layers(model)] if "standardization" in parts else []
    if "standardization" in parts and not norms:
        raise ValueError("model: expected a normalization to freeze, there is none")
    found = {m: full for name in (*norms, *whole) for full, m in _batch_norms(model, name)}
    ours = {old: _ours(full, old) for old, full in found.items()}
    for name, old in list(model.named_modules(remove_duplicate=False)):  # one may stand in several places
        if old in ours:
            put(model, name, ours[old])
    record = model.__dict__.setdefault(FROZEN, [])
    for name in norms:
        layer = model.get_submodule(name)
        halves = (layer.standardize, layer.recalibrate) if isinstance(layer, RecalibratedNorm) else (layer,)
        for half in halves:
            record += _hold(half, ("weight", "bias"))
    for name in whole:
        for m in model.get_submodule(name).modules():
            record += _hold(m, tuple(m._parameters))
    return model


def unfreeze(model: nn.Module) -> nn.Module:
    """Undo `freeze`: the parameters and statistics that it froze learn again.

    Raises:
        ValueError: there is nothing that it froze.
    """
    record = model.__dict__.pop(FROZEN, None)
    if not record:
        raise ValueError("model: expected one that fusednorm.freeze has frozen, this one it has not")
    for module, name in record:
        if name:
            module._parameters[name].requires_grad_(True)
        else:
            module.frozen = False
    return model


def _part(model: nn.Module, part: str) -> list[str]:
    """The modules of a stem or stage, by name."""
    found = blocks.find(model)
    stages = sorted({block.stage for block in found})
    if part == "stem":
        return list(_stem(model, [block.name for block in found]))
    match = re.fullmatch(r"stage(\d+)", part)
    if match is None:
        raise ValueError(f"what: expected 'standardization', 'stem' or 'stage1', 'stage2', ..., got {part!r}")
    if int(match[1]) not in stages:
        raise ValueError(f"what: expected a stage of 1 to {len(stages)}, which the network has, got {part!r}")
    return [block.name for block in found if block.stage == int(match[1])]


def _stem(model: nn.Module, found: list[str]) -> Iterator[str]:
    if not found:
        raise ValueError("what: expected a network of blocks for 'stem', there are none")
    outermost = None
    for name, _ in model.named_modules():
        if name == found[0]:
            return
        holds_blocks = not name or any(blocks.within(block, name) for block in found)
        if not holds_blocks and (outermost is None or not blocks.within(name, outermost)):
            outermost = name
            yield name


def _batch_norms(model: nn.Module, name: str) -> Iterator[tuple[str, nn.Module]]:
    """Those over the batch in a module, torch's; of ours it is seen whether they can be frozen."""
    inner: str
    m: nn.Module
    for inner, m in model.get_submodule(name).named_modules():
        full = blocks.joined(name, inner)
        if isinstance(m, (RunningStatistics, *TORCH_BATCH)) and _untracked(m):
            raise ValueError(f"model: expected running statistics to freeze, {full!r} has none")
        if isinstance(m, TORCH_BATCH):
            if not full:
                raise ValueError("model: expected a network, got a BatchNorm of torch's alone")
            yield full, m


def _untracked(m: nn.Module) -> bool:
    """Switchable statistics without the scope "batch" have none to track."""
    return getattr(m, "running_mean", None) is None and "batch" in getattr(m, "scopes", ("batch",))


def _ours(name: str, module: nn.Module) -> nn.Module:
    try:
        new = build("batch", module, 2, {})
    except UnplacedError as error:
        raise ValueError(f"model: expected a normalization that can be frozen at {name!r}, got {error}") from None
    new._parameters, new._buffers = module._parameters, module._buffers  # they may be tied to others
    return new


def _hold(module: nn.Module, parameters: tuple[str, ...]) -> Iterator[tuple[nn.Module, str]]:
    """Freeze a module's statistics and some parameters; what was not yet frozen."""
    if isinstance(module, RunningStatistics) and not module.frozen:
        module.frozen = True
        yield module, ""
    for name in parameters:
        p = module._parameters.get(name)
        if p is not None and p.requires_grad:
            p.requires_grad_(False)
            p.grad = None
            yield module, name
