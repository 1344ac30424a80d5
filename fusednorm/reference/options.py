"""Options with named values: the functions behind the names, and errors that name the option."""

from collections.abc import Callable, Collection

import torch
from torch import Tensor

Restrict = str | Callable[[Tensor], Tensor]

RESTRICTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.sigmoid,
    "tanh": lambda a: (1 + torch.tanh(a)) / 2,
    "hsigmoid": lambda a: torch.clamp(a + 3, 0, 6) / 6,
}
"""R and gates, by name: functions onto 0 to 1."""


def check_restrict(name: str, restrict: Restrict) -> None:
    """One of RESTRICTIONS or a function."""
    if not callable(restrict):
        check_choice(name, restrict, RESTRICTIONS, " or a callable")


def restricted(a: Tensor, restrict: Restrict) -> Tensor:
    """R(a), of a's shape."""
    return restrict(a) if callable(restrict) else RESTRICTIONS[restrict](a)


def check_choice(name: str, value: object, choices: Collection[str], otherwise: str = "") -> None:
    """An option with named values."""
    if value not in choices:
        raise ValueError(f"{name}: expected one of {', '.join(choices)}{otherwise}, got {value!r}")


def check_count(name: str, value: int) -> None:
    """A number of things of which there must be one."""
    if value < 1:
        raise ValueError(f"{name}: expected at least 1, got {value}")
