"""Networks of others: converting them to layers of ours and back."""

from .convert import Conversion, convert, fold
from .freezing import freeze, unfreeze
from .groups import parameter_groups
from .places import Place, places
from .recipes import RECIPES, WHERE, Recipe
from .report import Report, Row
from .undo import revert

__all__ = [
    "RECIPES",
    "WHERE",
    "Conversion",
    "Place",
    "Recipe",
    "Report",
    "Row",
    "convert",
    "fold",
    "freeze",
    "parameter_groups",
    "places",
    "revert",
    "unfreeze",
]
