"""fusednorm: normalization layers that also pay attention, fused.

Layers are nn.Modules called as `layer(x, residual=None)`; `fusednorm.functional` has a function for each. Every
layer reads x twice and writes the result once, forward, with statistics, attention, residual and activation in those
passes. `backends()` says what runs them here.
"""

from . import functional
from ._version import __version__
from .engine import Backend, backends, use_backend
from .modules import (
    AttentiveBatchNorm1d,
    AttentiveBatchNorm2d,
    AttentiveBatchNorm3d,
    AttentiveGroupNorm,
    BatchNorm1d,
    BatchNorm2d,
    BatchNorm3d,
    GroupNorm,
)

__all__ = [
    "AttentiveBatchNorm1d",
    "AttentiveBatchNorm2d",
    "AttentiveBatchNorm3d",
    "AttentiveGroupNorm",
    "Backend",
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "GroupNorm",
    "__version__",
    "backends",
    "functional",
    "use_backend",
]
