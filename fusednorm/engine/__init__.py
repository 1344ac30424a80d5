"""The engine: streaming passes, the autograd around a head, and the choice of backend. docs/engine.md."""

from .backends import Backend, backends, use_backend
from .entry import normalize, normalize_inplace
from .synchronized import Peers, group_of

__all__ = ["Backend", "Peers", "backends", "group_of", "normalize", "normalize_inplace", "use_backend"]
