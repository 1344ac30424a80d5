"""`python -m bench an`, or `layers` for all: against reference, torch.compile, BatchNorm and the traffic floor."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.console import Console

from . import report
from .allocator import Malloc, describe, restart_with
from .shapes import ALL, LAYOUTS, QUICK_SHAPES, SHAPES, Dtype, Layer, Plan, parse_layers, parse_layouts, parse_shapes

T = TypeVar("T")

ROUNDS = 50
QUICK_ROUNDS = 7

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    layers: Annotated[str, typer.Argument(help=f"Layers to measure: {', '.join(Layer)}, or {ALL} for all.")],
    shapes: Annotated[str | None, typer.Option(help="As in 16x256x56x56,16x64x56x56.")] = None,
    layouts: Annotated[str, typer.Option(help="Memory layouts.")] = ",".join(LAYOUTS),
    dtype: Annotated[Dtype, typer.Option(help="Type of the feature maps.")] = Dtype.float32,
    rounds: Annotated[int | None, typer.Option(min=2, help=f"Samples per contender. [default: {ROUNDS}]")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads. [default: torch's]")] = None,
    backend: Annotated[str | None, typer.Option(help="Backend of the fused layer. [default: its own]")] = None,
    malloc: Annotated[Malloc, typer.Option(help="What glibc does with freed memory.")] = Malloc.keep,
    compiled: Annotated[bool, typer.Option("--compile/--no-compile", help="Compile the reference too.")] = True,
    everything: Annotated[bool, typer.Option("--all", help="Compile BatchNorm + add + ReLU too.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Few rounds of one shape, to see it run.")] = False,
    json_path: Annotated[Path | None, typer.Option("--json", help="Store the results here.")] = None,
) -> None:
    """Measure layers, forward + backward, every contender once a round, in one process."""
    plan = Plan(
        layers=_parsed(parse_layers, layers),
        shapes=_parsed(parse_shapes, shapes) if shapes else QUICK_SHAPES if quick else SHAPES,
        layouts=_parsed(parse_layouts, layouts),
        dtype=dtype,
        rounds=rounds or (QUICK_ROUNDS if quick else ROUNDS),
        compiled=compiled,
        compiled_batch_norm=compiled and everything,
    )
    if json_path is not None and not json_path.parent.is_dir():  # found out now, not after all the rounds
        raise typer.BadParameter(f"there is no folder {json_path.parent} to store the results in")
    if malloc is Malloc.both:
        _run_both(json_path)
    else:
        restart_with(malloc)
        _run_here(plan, malloc, threads, backend, json_path)


def _parsed(parse: Callable[[str], T], text: str) -> T:
    try:
        return parse(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _run_here(plan: Plan, malloc: Malloc, threads: int | None, backend: str | None, json_path: Path | None) -> None:
    # Torch takes seconds to import: not before the restart.
    import torch

    import fusednorm

    from . import stamp
    from .agreement import DisagreementError
    from .run import run

    if threads is not None:
        torch.set_num_threads(threads)
    # Into a file or a pipe the tables come whole, not folded to 80 columns.
    console = Console(width=None if sys.stdout.isatty() else 130)
    results = []
    with contextlib.ExitStack() as stack:
        if backend is not None:
            try:
                stack.enter_context(fusednorm.use_backend(backend))
            except ValueError as error:  # there is none of that name, or it can't run here
                raise typer.BadParameter(str(error)) from None
        about = stamp.collect(allocator=describe(malloc))
        console.print(report.stamp_table(about))
        try:
            for result in run(plan):
                console.print()
                console.print(report.result_table(result, about))
                results.append(result)
        except DisagreementError as error:
            console.print(str(error), style="red", markup=False)
            raise typer.Exit(1) from None
    if json_path is not None:
        report.write_json(json_path, [report.run_record(about, results)])


def _run_both(json_path: Path | None) -> None:
    """The same command line once for each setting: of an option given twice the last counts."""
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.json"
        for setting in (Malloc.keep, Malloc.default):
            command = [sys.executable, *sys.orig_argv[1:], "--malloc", setting.value, "--json", str(path)]
            if code := subprocess.run(command).returncode:
                raise typer.Exit(code)
            runs += report.read_json(path)
    if json_path is not None:
        report.write_json(json_path, runs)


if __name__ == "__main__":
    app(prog_name="python -m bench")
