"""The demo's tables, made to fit a terminal of 80 columns."""

import torch
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from .agreement import Agreement
from .results import Result
from .settings import Settings

NOTHING = "-"
RESTLESS = 1.4
"""Medians this many times the fastest round are not worth much."""


def print_results(console: Console, results: list[Result], settings: Settings) -> None:
    allocators = list(results[0].times)
    table = _table("Four ways to train one residual network", _caption(allocators, settings))
    table.add_column("network")
    table.add_column("accuracy\n%", justify="right", no_wrap=True)
    for number in range(1, len(allocators) + 1):
        table.add_column(f"ms a step\nmalloc {number}", justify="right", no_wrap=True)
    table.add_column("peak MB\nof a step", justify="right", no_wrap=True)
    table.add_column("parameters", justify="right", no_wrap=True)
    for result in results:
        times = [_with_ratio(_median(result, name), _median(results[0], name)) for name in allocators]
        memory = _with_ratio(_megabytes(result), _megabytes(results[0]))
        title = f"{result.title}\n[dim]{escape(result.note)}[/dim]"
        table.add_row(title, _accuracy(result), *times, memory, f"{result.parameters:,}")
    console.print(table)
    for result in results:
        if result.problem:
            console.print(f"[yellow]{result.title} does not run here: {escape(result.problem)}")
    unrest = max(time.median / time.fastest for result in results for time in result.times.values())
    if unrest > RESTLESS:
        console.print(
            f"[yellow]Other work shared the machine: medians up to {unrest:.1f} times the fastest round. "
            "Trust no times of this run."
        )


def _table(title: str, caption: str) -> Table:
    return Table(title=title, caption=caption, caption_justify="left", box=box.SIMPLE_HEAD)


def _caption(allocators: list[str], settings: Settings) -> str:
    mallocs = ", ".join(f"({number}) {name}" for number, name in enumerate(allocators, 1))
    return escape(
        f"Accuracy on test crops of {settings.crop}x{settings.crop}: mean ± deviation over seeds "
        f"({settings.seeds}). A step: forward, loss, backward, AdamW, on {settings.batch_size} crops of "
        f"{settings.cost_crop}x{settings.cost_crop}, float32, {torch.get_num_threads()} threads; median of "
        f"{settings.cost_rounds} rounds in which the networks take turns. malloc: {mallocs}. Peak: the most "
        "bytes that tensors born in a step held at once, from the profiler's record of PyTorch's allocator. "
        "x: times the first row. Plain and fused AN train alike until differences of rounding have grown."
    )


def _accuracy(result: Result) -> str:
    accuracies = result.accuracies()
    if not accuracies:
        return NOTHING
    mean = f"{100 * result.mean_accuracy():.1f}"
    return mean if len(accuracies) == 1 else f"{mean} ± {100 * result.accuracy_deviation():.1f}"


def _with_ratio(value: float | None, base: float | None) -> str:
    if value is None or base is None:
        return NOTHING
    return f"{value:.0f}\n[dim]x {value / base:.2f}[/dim]"


def _median(result: Result, allocator: str) -> float | None:
    return result.times[allocator].median if result.times else None


def _megabytes(result: Result) -> float | None:
    return None if result.peak_bytes is None else result.peak_bytes / 1e6


def print_agreement(console: Console, agreements: list[Agreement]) -> None:
    table = _table(
        "Fused against plain AN, on the trained network",
        "The largest difference; relative: to the largest entry of the tensor it is in. Exact: the plain "
        "network in float64, so that the last column is what rounding alone does.",
    )
    table.add_column("")
    for heading in ("fused - plain", "relative", "fused - exact\nrelative", "plain - exact\nrelative"):
        table.add_column(heading, justify="right")
    for row in agreements:
        numbers = (row.absolute, row.relative, row.fused_error, row.reference_error)
        table.add_row(row.what, *(f"{number:.1e}" for number in numbers))
    console.print(table)
