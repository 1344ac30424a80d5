"""The engine: streaming passes, the autograd around a head, and the choice of backend. docs/engine.md."""

from .backends import Backend, backends, use_backend
from .entry import normalize

__all__ = ["Backend", "backends", "normalize", "use_backend"]
