"""Standardizations, for fusednorm.RecalibratedNorm; each takes the number of channels. Errors in constructing
and calling them are those of the layers that have them, and of fusednorm.modules.layer.Standardization."""

from .modules.batch_norm import Batch
from .modules.gates import Identity
from .modules.group_norm import Group, Instance, Layer
from .modules.representative import Representative
from .modules.response import FilterResponse
from .modules.switchable import Switchable

__all__ = ["Batch", "FilterResponse", "Group", "Identity", "Instance", "Layer", "Representative", "Switchable"]
