"""fusednorm: normalization layers that also pay attention, fused."""

from ._version import __version__

__all__ = ["__version__"]
