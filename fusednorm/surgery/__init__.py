from .synchronize import convert_sync

__all__ = ["convert_sync"]
