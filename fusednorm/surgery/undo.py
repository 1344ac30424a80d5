"""Undoing conversions: what a network's modules were before."""

from __future__ import annotations

from torch import nn

from .norms import NORMS, place_of

_RECORD = "_fusednorm_before"


class Undo:
    """Modules that were replaced, by name, in the order of replacement. The model keeps it, beside its submodules: it
    is copied and pickled with the model, but not in its state dict, nor moved with it."""

    def __init__(self, model: nn.Module) -> None:
        """Continues what earlier conversions of the model began."""
        earlier = model.__dict__.get(_RECORD)
        self.before: list[tuple[str, nn.Module]] = [] if earlier is None else list(earlier.before)

    def keep(self, name: str, old: nn.Module) -> None:
        self.before.append((name, old))

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
        ValueError: it has not been converted.
    """
    undo = model.__dict__.pop(_RECORD, None)
    if undo is None:
        raise ValueError("model: expected one that fusednorm.convert has changed, this one it has not")
    for name, old in reversed(undo.before):
        now = model.get_submodule(name)
        old.training = now.training
        if isinstance(old, NORMS):
            old.to(*place_of(now))
        if not name:
            return old
        put(model, name, old)
    return model
