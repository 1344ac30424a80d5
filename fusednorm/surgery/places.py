"""Where the normalizations of a network stand: in which block and stage, and what they are called there."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from . import blocks
from .norms import NORMS, layers


@dataclass(frozen=True)
class Place:
    """A normalization: its name, its places (names of WHERE), its stage (0: of no block) and its block's name.

    near: the stage it belongs to, or the one before it; in a stem the first.
    """

    name: str
    where: frozenset[str]
    stage: int
    near: int
    block: str | None = None


def places(model: nn.Module, found: list[blocks.Block] | None = None) -> list[Place]:
    """Every normalization of a network, in the order of the module tree. found: its blocks, where they are known."""
    own: dict[str, tuple[blocks.Block, str]] = {}
    for block in blocks.find(model) if found is None else found:
        for name in (*block.main, *block.shortcut):
            own[blocks.joined(block.name, name)] = (block, name)
    result, near = [], 0
    for name, module in layers(model):
        if not isinstance(module, NORMS):
            continue
        if name in own:
            block, inner = own[name]
            near = block.stage
            result.append(Place(name, _roles(block, inner), near, near, block.name))
        else:
            stem = near == 0 and bool(own)
            result.append(Place(name, frozenset({"network", "stem" if stem else "rest"}), 0, max(near, 1)))
    return result


def _roles(block: blocks.Block, name: str) -> frozenset[str]:
    if name in block.shortcut:
        return frozenset({"network", "shortcut"})
    roles = {"network", "all"}
    if name == block.main[0]:
        roles.add("bn1")
    if name == block.spatial:
        roles.add("bn2")
    if name == block.main[-1]:
        roles.add("bn3")
    return frozenset(roles)
