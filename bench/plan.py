"""What to measure, and how often: the command line, in types."""

from __future__ import annotations

from dataclasses import dataclass

from .names import Dtype, Form, Kind, Layer, Layout, Mode
from .shapes import Shape


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Sections take of it what applies to them."""

    layers: tuple[Layer, ...]
    maps: tuple[tuple[Shape, Dtype], ...]
    layouts: tuple[Layout, ...]
    modes: tuple[Mode, ...]
    forms: tuple[Form, ...]
    kinds: tuple[Kind, ...]
    backends: tuple[str, ...]  # of fused layers; all can run here
    device: str
    threads: int
    rounds: int  # samples per contender
    quick: bool
    compile_networks: bool = False  # takes minutes for each
