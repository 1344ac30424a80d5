"""The standardizations x -> x_hat, by name: modules called as part(x), x in the type to calculate in."""

from .batch_norm import Batch
from .filter_response import FilterResponse
from .group_norm import Group, Instance, Layer
from .parts import Identity
from .representative import Representative
from .switchable import Switchable

__all__ = ["Batch", "FilterResponse", "Group", "Identity", "Instance", "Layer", "Representative", "Switchable"]
