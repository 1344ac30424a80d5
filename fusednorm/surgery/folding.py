"""Folding: a layer of ours adds the residual and applies the activation that follow it.

Within a block its forward is rewritten, as a torch.fx graph; in what is between blocks the layer takes over the
activation, and an identity stands in that module's place. Each folded block is run beside the one it was, in evaluation
on random maps (on the meta device its shapes), and stays as it was where they differ.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from . import blocks
from .norms import CONVOLUTIONS, UnplacedError, activation
from .tracing import OutlineTracer, copied, has_hooks, trace_alike
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
    places = Counter(id(m) for _, m in model.named_modules(remove_duplicate=False))
    # What stands in several places is followed by several things.
    waiting = {name for name in names if takes(m := model.get_submodule(name)) and places[id(m)] == 1}
    for block in blocks.find(model):
        # The main path's last first: it takes the addition, which the shortcut's could take as well.
        inner = [name for name in (*reversed(block.main), *block.shortcut) if f"{block.name}.{name}" in waiting]
        waiting -= {f"{block.name}.{name}" for name in inner}
        if inner:
            _fold_block(model, block.name, inner, undo, result)
    if waiting:
        _fold_between(model, waiting, places, undo, result)
    return result


def takes(layer: nn.Module) -> bool:
    """Whether it is a layer of ours with nothing folded into it yet."""
    return getattr(layer, "act", "") is None and type(layer).__module__.startswith("fusednorm.")


def _fold_block(model: nn.Module, name: str, layers: list[str], undo: Undo, result: Folded) -> None:
    block = model.get_submodule(name)
    try:
        if len(inspect.signature(block.forward).parameters) != 1:  # a graph would know the others' defaults alone
            raise ValueError("its forward takes more than one argument")
        if has_hooks(block):
            raise ValueError("it has hooks")
        graph = trace_alike(block)
        if all(_following(block, graph, own) is None for own in layers):
            return
        called = _called(block, graph)
    except Exception as error:  # whatever the block's own code raises for a stand-in of a tensor
        result.left.append(f"{name}: nothing folded: {_said(error)}")
        return
    folded: dict[str, str] = {}
    for own in layers:
        steps = _following(block, graph, own)  # of what the ones before have left
        if steps is not None:
            steps.rewrite(graph)
            folded[own] = str(steps)
            block.get_submodule(own).act = steps.act  # type: ignore[assignment]
    new = _module(block, graph)
    problem = _differs(new, called)
    if problem:
        for own in folded:
            block.get_submodule(own).act = None  # type: ignore[assignment]
        result.left.append(f"{name}: nothing folded, {problem}")
        return
    undo.fold(block.get_submodule(own) for own in folded)
    undo.replace(model, name, new)
    result.notes |= {f"{name}.{own}": said for own, said in folded.items()}


def _fold_between(model: nn.Module, names: set[str], places: Counter[int], undo: Undo, result: Folded) -> None:
    """Activations that are modules of one place, called once, right after a layer, in the network's own forward."""
    try:
        graph = trace_alike(model, OutlineTracer)
    except Exception as error:  # as above
        what = f"{', '.join(sorted(names))}: nothing folded"
        result.left.append(f"{what}, in the network's own forward: {_said(error)}")
        return
    for name in sorted(names):
        node = _only_call(graph, name)
        user = None if node is None else _only_user(node)
        if user is None or user.op != "call_module" or _only_call(graph, str(user.target)) is None:
            continue
        following = model.get_submodule(str(user.target))
        if places[id(following)] != 1 or has_hooks(following):
            continue
        try:
            act = activation(following)
        except UnplacedError:
            continue
        if act is not None:
            undo.fold([model.get_submodule(name)])
            model.get_submodule(name).act = act  # type: ignore[assignment]
            undo.replace(model, str(user.target), nn.Identity())
            result.notes[name] = f"+ {act}"


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
            arguments = [self.call.args[0]]
            if self.residual:
                # Under autocast a convolution's output is of another type than what comes around it.
                arguments.append(graph.call_method("type_as", (self.residual, self.call.args[0])))
            new = graph.call_module(str(self.call.target), tuple(arguments))
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


class FoldedBlock(fx.GraphModule):
    """A block with another forward: the same submodules in the same order, and whatever else it has."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        new: Any = super().__deepcopy__(memo)  # of what the graph calls alone
        _take_over(new, copy.deepcopy({name: vars(self)[name] for name in _kept(self)}, memo))
        return new


def _module(block: nn.Module, graph: fx.Graph) -> FoldedBlock:
    graph.lint()
    new = FoldedBlock(block, graph, type(block).__name__)
    _take_over(new, {name: vars(block)[name] for name in _kept(block)})
    return new


def _kept(module: nn.Module) -> list[str]:
    own = [name for name in vars(module) if not name.startswith("_") and name not in ("graph", "meta", "code")]
    return [*own, "_modules", "_parameters", "_buffers"]


def _take_over(module: nn.Module, attributes: dict[str, Any]) -> None:
    for name, value in attributes.items():
        vars(module)[name] = dict(value) if name in ("_modules", "_parameters", "_buffers") else value


def _called(block: nn.Module, graph: fx.Graph) -> list[tuple[Any, Tensor]]:
    """What the block gives for random maps, a map and a list of one, in evaluation.

    Raises:
        ValueError: it takes neither, of the channels that its first layer has or twice as many (where it takes a part).
    """
    weight = next(m for m in block.modules() if isinstance(m, CONVOLUTIONS)).weight
    positions, generator = [8 for _ in weight.shape[2:]], torch.Generator().manual_seed(0)
    results: list[tuple[Any, Tensor]] = []
    for channels in (_channels(block, graph), 2 * _channels(block, graph)):
        x = torch.randn((2, channels, *positions), generator=generator, device="cpu").to(weight)
        for wrap in (lambda t: t, lambda t: [t]):
            with torch.no_grad(), contextlib.suppress(TypeError, RuntimeError, AttributeError):
                y = copied(block).eval()(wrap(x.clone()))
                results += [(wrap(x), y)] if isinstance(y, Tensor) else []
        if results:
            return results
    raise ValueError("it takes no map that it could be tried with")


def _differs(after: nn.Module, called: list[tuple[Any, Tensor]]) -> str | None:
    """Why the results are others, None where they are not. Of a map and a list of one either will do."""
    problem: str | None = None
    for argument, expected in called:
        own = copied(after).eval()
        try:
            with torch.no_grad():
                found = type(own).forward(own, argument)  # GraphModule's own call prints errors
        except Exception as error:  # whatever the block's own code raises
            problem = _said(error)
            continue
        if found.shape != expected.shape or found.dtype != expected.dtype:
            return f"it gives {found.dtype} {tuple(found.shape)} for {expected.dtype} {tuple(expected.shape)}"
        if expected.is_meta:
            return None
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
