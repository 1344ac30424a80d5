"""Undoing conversions: what a network's modules were before."""

from __future__ import annotations

from collections.abc import Iterable

from torch import fx, nn

from .norms import NORMS, place_of

_RECORD = "_fusednorm_before"
FROZEN = "_fusednorm_frozen"  # what freezing.py keeps


def check_not_frozen(model: nn.Module) -> None:
    """Layers that come for others would not be frozen, and nobody knew."""
    if model.__dict__.get(FROZEN):
        raise ValueError("model: expected one that is not frozen, unfreeze it first and freeze it afterwards")


class Undo:
    """Modules that were replaced, by name, in the order of replacement. The model keeps it, beside its submodules: it
    is copied and pickled with the model, but not in its state dict, nor moved with it."""

    def __init__(self, model: nn.Module) -> None:
        """Continues what earlier conversions of the model began."""
        earlier = model.__dict__.get(_RECORD)
        self.before: list[tuple[str, nn.Module]] = [] if earlier is None else list(earlier.before)
        self.folded: list[nn.Module] = [] if earlier is None else list(earlier.folded)

    def keep(self, name: str, old: nn.Module) -> None:
        self.before.append((name, old))

    def fold(self, layers: Iterable[nn.Module]) -> None:
        """Layers of ours that take over an activation."""
        self.folded += layers

    def replace(self, model: nn.Module, name: str, new: nn.Module) -> None:
        """Put new in place of a module, wherever the model holds it."""
        old = model.get_submodule(name)
        for other in [other for other, m in model.named_modules(remove_duplicate=False) if m is old]:
            self.keep(other, old)
            put(model, other, new)

    def write(self, model: nn.Module) -> None:
        model.__dict__[_RECORD] = self


def put(model: nn.Module, name: str, new: nn.Module) -> None:
    parent, _, own = name.rpartition(".")
    model.get_submodule(parent)._modules[own] = new


def revert(model: nn.Module) -> nn.Module:
    """Undo all conversions: the network has its layers and blocks from before, with the weights and statistics they had
    then. What was trained since in other layers stays.

    Returns:
        The model; another object only where it was a normalization itself.

    Raises:
        ValueError: it has not been converted, or parts are frozen by fusednorm.freeze.
    """
    undo = model.__dict__.get(_RECORD)
    if undo is None:
        raise ValueError("model: expected one that fusednorm.convert has changed, this one it has not")
    check_not_frozen(model)
    del model.__dict__[_RECORD]
    for layer in undo.folded:
        layer.act = None
    for name, old in reversed(undo.before):
        now = model.get_submodule(name)
        old.training = now.training
        if isinstance(old, NORMS):
            old.to(*place_of(now))
        if isinstance(now, fx.GraphModule):  # its own tensors may have gone elsewhere meanwhile
            old._parameters, old._buffers = now._parameters, now._buffers
        if not name:
            return old
        put(model, name, old)
    return model
