"""The papers' parameter counts beside those of our networks, built without weights; and what they cost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from . import zoo
from .convert import convert
from .papers import ENTRIES, Entry
from .recipes import RECIPES

if TYPE_CHECKING:
    from rich.table import Table

_PAPERS = {"attentive": "AN", "normalization_attention": "NA", "representative": "RBN", "switchable": "SN"}
TABLES = (*_PAPERS, "squeeze_excite")


class Counted(NamedTuple):
    """A row, and its network of ours: parameters, and floating-point operations for one picture of 224x224 in
    evaluation, as torch counts them (those of convolutions and matrix products, a multiply-add as two); None where
    there is no such network, or they were not asked for."""

    entry: Entry
    parameters: int | None
    flops: int | None


def entries(name: str) -> list[Entry]:
    """The rows of a recipe: its paper's, or for squeeze-excite, which has none here, all that are made with it.

    Raises:
        ValueError: there is no table of that name.
    """
    if name not in TABLES:
        raise ValueError(f"name: expected one of {', '.join(map(repr, TABLES))}, got {name!r}")
    paper = _PAPERS.get(name)
    return [entry for entry in ENTRIES if (entry.recipe == name if paper is None else entry.paper == paper)]


def counted(rows: list[Entry], flops: bool = True) -> Iterator[Counted]:
    """The rows with what our networks have, one after the other."""
    for entry in rows:
        if entry.network is None:
            yield Counted(entry, None, None)
            continue
        model = build(entry)
        yield Counted(entry, sum(p.numel() for p in model.parameters()), count_flops(model) if flops else None)


def build(entry: Entry) -> nn.Module:
    """The network of a row, on the meta device: shapes alone.

    Raises:
        ValueError: there is none.
    """
    if entry.network is None:
        raise ValueError(f"entry: expected one with a network, {entry.row!r} has {entry.note}")
    with torch.device("meta"):
        model = zoo.build(entry.network)
        if entry.recipe is not None:
            model = convert(model, entry.recipe, **entry.options).model
    return model.eval()


def count_flops(model: nn.Module) -> int:
    """For one picture of 224x224."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.empty(1, 3, 224, 224, device=next(model.parameters()).device))
    return int(counter.get_total_flops())


def rendered(name: str, rows: Iterable[Counted]) -> Iterator[Table | str]:
    """For rich to print: each table of the paper, and below it what there is to say of its rows."""
    yield f"{name}: {RECIPES[name].source}"
    for (paper, number), group in groupby(rows, key=lambda row: (row.entry.paper, row.entry.table)):
        notes: dict[str, int] = {}
        yield _table(f"{paper}, no table" if number == "none" else f"{paper}, Table {number}", group, notes)
        yield "".join(f" {i}: {note}\n" for note, i in notes.items())


def _table(title: str, rows: Iterable[Counted], notes: dict[str, int]) -> Table:
    """Figures whole, however narrow the terminal: what is long to say goes to the notes, by number."""
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=0, pad_edge=False)
    table.add_column("row", min_width=18, overflow="fold")
    table.add_column("network", no_wrap=True)
    for heading in ("printed", "counted", "GFLOPs"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("same", no_wrap=True)
    table.add_column("note", justify="right", no_wrap=True)
    for entry, parameters, flops in rows:
        same = {True: "yes", False: "no", None: ""}[entry.reproduces if parameters is not None else None]
        table.add_row(
            entry.row,
            entry.network or "-",
            f"{entry.printed}M" if entry.printed else "-",
            "-" if parameters is None else f"{parameters:,}",
            "-" if flops is None else f"{flops / 1e9:.2f}",
            same,
            str(notes.setdefault(entry.note, len(notes) + 1)) if entry.note else "",
        )
    return table
