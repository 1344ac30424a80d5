"""Folding: a layer of ours adds the residual and applies the activation that follow it.

Within a block its forward is rewritten, as a torch.fx graph; in what is between blocks the layer takes over the
activation, and an identity stands in that module's place. Each folded block is run beside the one it was, in evaluation
on random maps, and stays as it was where they differ.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from . import blocks
from .norms import CONVOLUTIONS, UnplacedError, activation
from .undo import Undo

_FUNCTIONS: dict[Any, str] = {
    F.relu: "relu",
    F.relu_: "relu",
    torch.relu: "relu",
    torch.relu_: "relu",
    F.relu6: "relu6",
    F.silu: "silu",
    F.hardswish: "hardswish",
}
_METHODS = {"relu": "relu", "relu_": "relu"}


@dataclass
class Folded:
    """What was folded into which layer, by its name, and what could not be."""

    notes: dict[str, str] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)


def fold_into(model: nn.Module, names: list[str], undo: Undo) -> Folded:
    """Fold what follows the layers `names` into them, where it gives the same."""
    result = Folded()
    waiting = {name for name in names if takes(model.get_submodule(name))}
    for block in blocks.find(model):
        # The main path's last first: it takes the addition, which the shortcut's could take as well.
        inner = [name for name in (*reversed(block.main), *block.shortcut) if f"{block.name}.{name}" in waiting]
        waiting -= {f"{block.name}.{name}" for name in inner}
        if inner:
            _fold_block(model, block.name, inner, undo, result)
    if waiting:
        _fold_between(model, waiting, undo, result)
    return result


def takes(layer: nn.Module) -> bool:
    """Whether it is a layer of ours with nothing folded into it yet."""
    return getattr(layer, "act", "") is None and type(layer).__module__.startswith("fusednorm.")


def _fold_block(model: nn.Module, name: str, layers: list[str], undo: Undo, result: Folded) -> None:
    block = model.get_submodule(name)
    try:
        graph = _trace(block)
        steps = {own: found for own in layers if (found := _following(block, graph, own)) is not None}
        if not steps:
            return
        called = _called(block, graph)
    except Exception as error:  # whatever the block's own code raises for a stand-in of a tensor
        result.left.append(f"{name}: nothing folded: {_said(error)}")
        return
    folded: dict[str, str] = {}
    for own in steps:
        now = _following(block, graph, own)  # what is there after the ones before
        if now is not None:
            now.rewrite(graph)
            folded[own] = str(now)
            block.get_submodule(own).act = now.act  # type: ignore[assignment]
    new = _module(block, graph)
    problem = _differs(new, called)
    if problem:
        for own in folded:
            block.get_submodule(own).act = None  # type: ignore[assignment]
        result.left.append(f"{name}: nothing folded, {problem}")
        return
    undo.replace(model, name, new)
    result.notes |= {f"{name}.{own}": said for own, said in folded.items()}


def _fold_between(model: nn.Module, names: set[str], undo: Undo, result: Folded) -> None:
    """Activations that are modules called once, right after a layer, anywhere in the network's own forward."""
    try:
        graph = _Outline().trace(model)
    except Exception as error:  # as above
        what = f"{', '.join(sorted(names))}: nothing folded"
        result.left.append(f"{what}, the network's forward can't be traced: {_said(error)}")
        return
    calls: dict[str, int] = {}
    for node in graph.nodes:
        if node.op == "call_module":
            calls[str(node.target)] = calls.get(str(node.target), 0) + 1
    for name in sorted(names):
        node = _only_call(graph, name)
        user = None if node is None else _only_user(node)
        if user is None or user.op != "call_module" or calls[str(user.target)] != 1 or calls[name] != 1:
            continue
        try:
            act = activation(model.get_submodule(str(user.target)))
        except UnplacedError:
            continue
        if act is not None:
            model.get_submodule(name).act = act  # type: ignore[assignment]
            undo.replace(model, str(user.target), nn.Identity())
            result.notes[name] = f"+ {act}"


class _Outline(blocks.BlockTracer):
    """Sees a block as one call."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return super().is_leaf_module(m, module_qualified_name) or isinstance(m, fx.GraphModule)


def _trace(block: nn.Module) -> fx.Graph:
    """The graph, the same in training and evaluation.

    Raises:
        ValueError: it is not, or the block takes more than one argument, of which a graph would know the default alone.
    """
    if len(inspect.signature(block.forward).parameters) != 1:
        raise ValueError("its forward takes more than one argument")
    graphs = []
    for mode in (True, False):
        with _mode(block, mode):
            graphs.append(blocks.BlockTracer().trace(block))
    if graphs[0].python_code("self").src != graphs[1].python_code("self").src:
        raise ValueError("its forward is another in training than in evaluation")
    return graphs[0]


@contextlib.contextmanager
def _mode(module: nn.Module, training: bool) -> Iterator[None]:
    modes = {m: m.training for m in module.modules()}
    module.train(training)
    try:
        yield
    finally:
        for m, before in modes.items():
            m.training = before


@dataclass
class _Steps:
    """A layer's call, and what follows it: the addition and the other summand, the activation."""

    call: fx.Node
    addition: fx.Node | None
    residual: fx.Node | None
    act: str | None
    rest: tuple[fx.Node, ...]  # from what follows the call to the last that is folded

    def __str__(self) -> str:
        return "".join([" + residual" if self.residual else "", f" + {self.act}" if self.act else ""])[1:]

    def rewrite(self, graph: fx.Graph) -> None:
        with graph.inserting_before(self.addition or self.rest[-1]):  # there the residual is known
            arguments = (self.call.args[0], *([self.residual] if self.residual else []))
            new = graph.call_module(str(self.call.target), arguments)
        self.rest[-1].replace_all_uses_with(new)
        for node in (*reversed(self.rest), self.call):
            graph.erase_node(node)


def _following(block: nn.Module, graph: fx.Graph, name: str) -> _Steps | None:
    """None where nothing can be folded."""
    call = _only_call(graph, name)
    if call is None or len(call.args) != 1 or call.kwargs:
        return None
    chain, user = _past_identities(block, call)
    addition = residual = act = None
    if user is not None and blocks.is_addition(user) and not user.kwargs and len(user.args) == 2:
        here = chain[-1] if chain else call
        other = user.args[1] if user.args[0] is here else user.args[0]
        if isinstance(other, fx.Node) and other is not here and _may_move(call, other):
            addition, residual = user, other
            more, user = _past_identities(block, addition)
            chain += [addition, *more]
    if user is not None and (act := _act(block, user)) is not None:
        chain.append(user)
    return _Steps(call, addition, residual, act, tuple(chain)) if addition or act else None


def _may_move(call: fx.Node, residual: fx.Node) -> bool:
    """Whether the layer can be called once the residual is there: this does not depend on it, nor what the layer reads
    change meanwhile."""
    source = call.args[0]
    return isinstance(source, fx.Node) and set(source.users) == {call} and call not in blocks.ancestors(residual)


def _past_identities(block: nn.Module, node: fx.Node) -> tuple[list[fx.Node], fx.Node | None]:
    """The identities that follow a node, and what alone uses the last of them."""
    chain, user = [], _only_user(node)
    while user is not None and user.op == "call_module" and type(block.get_submodule(str(user.target))) is nn.Identity:
        chain.append(user)
        user = _only_user(user)
    return chain, user


def _only_user(node: fx.Node) -> fx.Node | None:
    users = list(node.users)
    return users[0] if len(users) == 1 else None


def _only_call(graph: fx.Graph, name: str) -> fx.Node | None:
    calls = [node for node in graph.nodes if node.op == "call_module" and node.target == name]
    return calls[0] if len(calls) == 1 else None


def _act(block: nn.Module, node: fx.Node) -> str | None:
    if node.op == "call_module":
        try:
            return activation(block.get_submodule(str(node.target)))
        except UnplacedError:
            return None
    if node.op == "call_method":
        return _METHODS.get(str(node.target)) if len(node.args) == 1 else None
    return _FUNCTIONS.get(node.target) if node.op == "call_function" and len(node.args) == 1 else None


def _module(block: nn.Module, graph: fx.Graph) -> fx.GraphModule:
    """The block with another forward: the same submodules in the same order, and whatever else it has."""
    graph.lint()
    new = fx.GraphModule(block, graph, type(block).__name__)
    for name in ("_modules", "_parameters", "_buffers"):
        new.__dict__[name] = dict(block.__dict__[name])
    new.__dict__ |= {name: value for name, value in block.__dict__.items() if name not in new.__dict__}
    new.training = block.training
    return new


def _called(block: nn.Module, graph: fx.Graph) -> list[tuple[Any, Tensor]] | None:
    """What the block gives for random maps, a map and a list of one, in evaluation; None on the meta device.

    Raises:
        ValueError: it takes neither, of the channels that its first layer has or twice as many (where it takes a part).
    """
    weight = next(m for m in block.modules() if isinstance(m, CONVOLUTIONS)).weight
    if weight.is_meta:
        return None
    positions, generator = [8 for _ in weight.shape[2:]], torch.Generator().manual_seed(0)
    results: list[tuple[Any, Tensor]] = []
    for channels in (_channels(block, graph), 2 * _channels(block, graph)):
        x = torch.randn((2, channels, *positions), generator=generator).to(weight)
        for wrap in (lambda t: t, lambda t: [t]):
            with _mode(block, False), torch.no_grad(), contextlib.suppress(TypeError, RuntimeError, AttributeError):
                y = block(wrap(x.clone()))
                results += [(wrap(x), y)] if isinstance(y, Tensor) else []
        if results:
            return results
    raise ValueError("it takes no map that it could be tried with")


def _differs(after: nn.Module, called: list[tuple[Any, Tensor]] | None) -> str | None:
    """Why the results are others, None where they are not. Of a map and a list of one either will do."""
    problem: str | None = None
    for argument, expected in called or ():
        try:
            with _mode(after, False), torch.no_grad():
                found = type(after).forward(after, argument)  # GraphModule's own call prints errors
        except Exception as error:  # whatever the block's own code raises
            problem = _said(error)
            continue
        largest, off = expected.abs().max().item(), (found - expected).abs().max().item()
        if not off <= 32 * torch.finfo(expected.dtype).eps * max(largest, 1.0):
            return f"results differ by {off:.2g} of {largest:.2g}"
        return None
    return problem


def _channels(block: nn.Module, graph: fx.Graph) -> int:
    """What the first layer that is called takes."""
    for node in graph.nodes:
        module = block.get_submodule(str(node.target)) if node.op == "call_module" else None
        for name in ("in_channels", "num_features", "num_channels", "channels"):
            if isinstance(getattr(module, name, None), int):
                return int(getattr(module, name))
    raise ValueError("no layer takes channels")


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
