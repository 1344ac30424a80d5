"""Networks of others: converting, freezing, grouping their parameters."""

from .synchronize import convert_sync

__all__ = ["convert_sync"]
