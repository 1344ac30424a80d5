"""`python -m bench`: layers against reference, torch.compile, BatchNorm and the traffic floor; see --help."""

from __future__ import annotations

import sys
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.console import Console

from .allocator import Malloc, describe, restart_with
from .names import ALL, Dtype, Form, Kind, Layer, Layout, Mode, Section, checked_names, parse_names
from .sections import WHAT
from .shapes import LARGE, NAMED_SHAPES, batch_for, named_shapes, parse_shapes

T = TypeVar("T")
E = TypeVar("E", bound=Enum)

ROUNDS = 30
QUICK_ROUNDS = 5
QUICK_SHAPES = "8x64x56x56,8x256x14x14"
# What takes long and is looked at by few comes on request.
LAYERS = (Layer.an, Layer.rbn, Layer.sn, Layer.se_bn)
KINDS = tuple(kind for kind in Kind if kind is not Kind.inplace_abn)

_PAGE = 170  # columns of tables in a file or a pipe, which come whole, not folded

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def _of(names: type[Enum]) -> str:
    return f"Of {', '.join(name.value for name in names)}, or {ALL}."


@app.command()
def main(
    sections: Annotated[
        list[Section] | None,
        typer.Argument(help="; ".join(f"{name.value}: {what}" for name, what in WHAT.items()) + ". [default: all]"),
    ] = None,
    layers: Annotated[str, typer.Option(help=_of(Layer))] = ",".join(layer.value for layer in LAYERS),
    shapes: Annotated[
        str | None,
        typer.Option(help=f"As in 16x256x56x56,2x4x8x8; or {', '.join(NAMED_SHAPES)}. [default: large,resnet50]"),
    ] = None,
    layouts: Annotated[str, typer.Option(help=_of(Layout))] = ALL,
    dtypes: Annotated[str | None, typer.Option(help=f"{_of(Dtype)} [default: float32; large also bfloat16]")] = None,
    modes: Annotated[str, typer.Option(help=_of(Mode))] = Mode.train.value,
    forms: Annotated[str, typer.Option(help=_of(Form))] = ALL,
    contenders: Annotated[str | None, typer.Option(help=f"{_of(Kind)} [default: all but inplace-abn]")] = None,
    backends: Annotated[str | None, typer.Option(help="Of the fused layers. [default: all that can run here]")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    rounds: Annotated[int | None, typer.Option(min=2, help=f"Samples per contender. [default: {ROUNDS}]")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads. [default: torch's]")] = None,
    malloc: Annotated[Malloc, typer.Option(help="What glibc does with freed memory.")] = Malloc.keep,
    compile_networks: Annotated[bool, typer.Option("--compile-networks", help="Takes minutes for each.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Few shapes and rounds, little compiled.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Print each contender's quartiles too.")] = False,
    json_path: Annotated[Path | None, typer.Option("--json", help="Store the records here.")] = None,
    csv_path: Annotated[Path | None, typer.Option("--csv", help="The same as a table.")] = None,
    plot_folder: Annotated[Path | None, typer.Option("--plot", help="Folder for pictures.")] = None,
) -> None:
    """Measure the layers of this library against others, every contender once a round, in one process.

    A full run of the section `layers` takes an hour or two, most of it torch.compile's at the first time.
    """
    if device not in ("cpu", "cuda"):
        raise typer.BadParameter(f"--device: expected cpu or cuda, got {device!r}")
    written = shapes or (QUICK_SHAPES if quick else f"{LARGE},resnet50")
    found_shapes = _parsed(lambda text: parse_shapes(text, batch_for(device)), written)
    found_dtypes = _names(dtypes or Dtype.float32.value, Dtype)
    maps = [(shape, dtype) for shape in found_shapes for dtype in found_dtypes]
    if dtypes is None:
        large = named_shapes(LARGE, batch_for(device))
        maps += [(shape, Dtype.bfloat16) for shape in found_shapes if shape in large]
    found_layers, found_layouts = _names(layers, Layer), _names(layouts, Layout)
    found_modes, found_forms = _names(modes, Mode), _names(forms, Form)
    kinds = KINDS if contenders is None else _names(contenders, Kind, "contender")
    if device == "cpu":  # where it has nothing to choose from
        kinds = tuple(kind for kind in kinds if kind is not Kind.max_autotune)
    for path in (json_path, csv_path):
        if path is not None and not path.parent.is_dir():  # found out now, not after all the rounds
            raise typer.BadParameter(f"there is no folder {path.parent} to store the results in")
    restart_with(malloc)

    # Torch takes seconds to import: not before the restart.
    import torch

    from . import report, stamp, store
    from .agreement import DisagreementError
    from .plan import Plan
    from .record import Record
    from .sections import runner
    from .summary import where

    if device == "cuda" and not torch.cuda.is_available():
        raise typer.BadParameter("--device cuda: PyTorch finds no CUDA device here")
    if threads is not None:
        torch.set_num_threads(threads)
    plan = Plan(
        layers=found_layers,
        maps=tuple(maps),
        layouts=found_layouts,
        modes=found_modes,
        forms=found_forms,
        kinds=kinds,
        backends=_backends(backends, device, quick),
        device=device,
        threads=torch.get_num_threads(),
        rounds=rounds or (QUICK_ROUNDS if quick else ROUNDS),
        quick=quick,
        compile_networks=compile_networks,
    )
    console = Console(width=None if sys.stdout.isatty() else _PAGE)
    about = stamp.collect(allocator=describe(malloc))
    console.print(report.stamp_table(about))
    progress = Console(stderr=True)
    records: list[Record] = []

    def keep() -> None:
        if json_path is not None:
            store.write_json(json_path, [store.run_of(about, plan, records)])

    for section in sections or list(Section):
        before = len(records)
        try:
            for record in runner(section)(plan):
                if len(records) == before or where(records[-1]) != where(record):  # a run takes long, or is cut short
                    progress.print(report.described(record), style="dim", markup=False)
                    keep()
                records.append(record)
        except DisagreementError as error:
            progress.print(str(error), style="red", markup=False)
            raise typer.Exit(1) from None
        for table in report.tables(section, records[before:], about, verbose=verbose):
            console.print()
            console.print(table)
    keep()
    if csv_path is not None:
        store.write_csv(csv_path, records)
    if plot_folder is not None:
        from .plot import plot

        for picture in plot(records, about, plot_folder):
            console.print(f"picture: {picture}", markup=False)


def _parsed(parse: Callable[[str], T], text: str) -> T:
    try:
        return parse(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _names(text: str, known: type[E], what: str = "") -> tuple[E, ...]:
    return _parsed(lambda text: parse_names(text, known, what or known.__name__.lower()), text)


def _backends(text: str | None, device: str, quick: bool) -> tuple[str, ...]:
    """Those asked for, or all that can run on the device, the best first; Triton's interpreter is for tests alone."""
    import fusednorm

    here = fusednorm.backends()
    if text is None:
        sensible = ("cpu", "torch") if device == "cpu" else ("cuda", "triton", "torch")
        found = tuple(name for name in sensible if here[name].available)
        return found[:1] if quick else found
    names = _parsed(lambda text: checked_names(text, here, "backend"), text)
    for name in names:
        if not here[name].available:
            raise typer.BadParameter(f"backend {name!r} can't run here: {here[name].reason}")
    return names


if __name__ == "__main__":
    app(prog_name="python -m bench")
