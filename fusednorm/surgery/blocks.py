"""A network's blocks: which modules they are, and what stands where in them.

A block is the smallest module with a forward of its own that joins at least two convolutions and a normalization:
torchvision's and timm's Bottleneck, InvertedResidual, DenseLayer. Where no module of its class adds anything up but a
module around it and a few more does, that is the block (GhostBottleneck, not its two GhostModules).
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import fx, nn

from .norms import CONVOLUTIONS, LAYERS, layers
from .tracing import trace

ADDITIONS = (operator.add, operator.iadd, torch.add)
ADDITION_METHODS = ("add", "add_")
# Units that one block is made of: XceptionModule has three separable convolutions. More are a graph of blocks (AOGNet).
_FEW = 4
_CONTAINERS = (nn.Sequential.forward, nn.Module.forward)


@dataclass(frozen=True)
class Block:
    """A block by name, and of its normalizations, by their names in it: those of the main path in the order of calls,
    which of them goes with the last convolution of more than one position, and those of the shortcut. `why` is there
    where the block could not be traced, and the order is that of the module tree."""

    name: str
    stage: int
    main: tuple[str, ...]
    spatial: str | None
    shortcut: tuple[str, ...]
    why: str | None = None


def joined(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix and name else prefix or name


def find(model: nn.Module) -> list[Block]:
    """The blocks in the order of the module tree, each with its stage, counted from 1."""
    names = [name for name in _names(model) if name]
    read = {name: _read(model.get_submodule(name)) for name in names}
    stages = _stages(model, names)
    return [Block(name, stages[name], *read[name]) for name in names]


def is_addition(node: fx.Node) -> bool:
    called = node.op == "call_function" and node.target in ADDITIONS
    return called or (node.op == "call_method" and node.target in ADDITION_METHODS)


def _names(model: nn.Module) -> list[str]:
    own = {name: m for name, m in model.named_modules() if _is_unit(m)}
    smallest = [name for name in own if not any(other != name and within(other, name) for other in own)]
    adds: dict[type, bool] = {}
    for name in smallest:
        kind = type(own[name])
        adds[kind] = adds.get(kind, False) or _adds(own[name])
    blocks: dict[str, None] = {}
    for name in smallest:
        around = name
        if not adds[type(own[name])]:
            above = (other for other in reversed(own) if other and other != name and within(name, other))
            few = (other for other in above if sum(within(inner, other) for inner in smallest) <= _FEW)
            around = next((other for other in few if _adds(own[other])), name)
        blocks[around] = None
    return [name for name in blocks if not any(other != name and within(name, other) for other in blocks)]


def within(name: str, other: str) -> bool:
    return not other or name.startswith(f"{other}.")


def _is_unit(module: nn.Module) -> bool:
    if type(module).forward in _CONTAINERS or isinstance(module, (*LAYERS, *CONVOLUTIONS)):
        return False
    return sum(isinstance(m, CONVOLUTIONS) for m in module.modules()) >= 2 and next(layers(module), None) is not None


def _adds(module: nn.Module) -> bool:
    try:
        graph = trace(module)
    except Exception:  # whatever a network's own code raises for a stand-in of a tensor
        return False
    return any(is_addition(node) and len(node.all_input_nodes) == 2 for node in graph.nodes)


def _stages(model: nn.Module, names: list[str]) -> dict[str, int]:
    """By the container that blocks are in, or, where all are in one, by their number of channels."""
    keys: list[object] = [name.rpartition(".")[0] for name in names]
    if len(set(keys)) == 1:
        keys = [_channels(model.get_submodule(name)) for name in names]
    stages, stage = {}, 0
    for i, name in enumerate(names):
        stage += i == 0 or keys[i] != keys[i - 1]
        stages[name] = stage
    return stages


def _channels(block: nn.Module) -> int:
    return [m.out_channels for m in block.modules() if isinstance(m, CONVOLUTIONS)][-1]


def _read(block: nn.Module) -> tuple[tuple[str, ...], str | None, tuple[str, ...], str | None]:
    """main, spatial, shortcut and why of a Block."""
    try:
        graph = trace(block)
    except Exception as error:  # as above
        own = dict(layers(block))
        steps = [(name, m) for name, m in block.named_modules() if name in own or isinstance(m, CONVOLUTIONS)]
        main = tuple(name for name, m in steps if isinstance(m, LAYERS))
        return main, _spatial(steps), (), f"its forward can't be traced: {_first_line(error)}"
    shortcut = _shortcut(graph)
    steps = [
        (str(node.target), module)
        for node, module in _calls(block, graph)
        if node not in shortcut and isinstance(module, (*LAYERS, *CONVOLUTIONS))
    ]
    main = tuple(dict.fromkeys(name for name, m in steps if isinstance(m, LAYERS)))
    aside = tuple(str(node.target) for node, m in _calls(block, graph) if node in shortcut and isinstance(m, LAYERS))
    return main, _spatial(steps), tuple(name for name in aside if name not in main), None


def _calls(block: nn.Module, graph: fx.Graph) -> Iterator[tuple[fx.Node, nn.Module]]:
    for node in graph.nodes:
        if node.op == "call_module":
            yield node, _convolution(block.get_submodule(str(node.target)))


def _convolution(module: nn.Module) -> nn.Module:
    """The one inside of a wrapper, or the module itself."""
    inside = [m for m in module.modules() if isinstance(m, CONVOLUTIONS)]
    return inside[0] if len(inside) == 1 else module


def _shortcut(graph: fx.Graph) -> set[fx.Node]:
    """What is added to the main path: of two summands' ancestors those of the one with fewer calls alone."""
    found: set[fx.Node] = set()
    for node in graph.nodes:
        if is_addition(node) and len(node.all_input_nodes) == 2:
            one, other = (ancestors(n) for n in node.all_input_nodes)
            main, aside = (one, other) if len(one) >= len(other) else (other, one)
            found |= aside - main
    return found


def ancestors(node: fx.Node) -> set[fx.Node]:
    seen, waiting = {node}, [node]
    while waiting:
        new = [n for n in waiting.pop().all_input_nodes if n not in seen]
        seen.update(new)
        waiting += new
    return seen


def _spatial(steps: list[tuple[str, nn.Module]]) -> str | None:
    """The normalization after the last convolution of more than one position; where another convolution comes before
    it (pre-activation), the one before."""
    last = -1
    for i, (_, module) in enumerate(steps):
        if isinstance(module, CONVOLUTIONS) and max(module.kernel_size) > 1:
            last = i
    if last < 0:
        return None
    following = steps[last + 1 : last + 2]
    for name, module in (*following, *reversed(steps[:last])):
        if isinstance(module, LAYERS):
            return name
    return None


def _first_line(error: Exception) -> str:
    text = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
