"""The `fusednorm` command."""

# No `from __future__ import annotations`: typer evaluates annotations, and here it is a local name.

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

if TYPE_CHECKING:
    import typer


def main() -> None:
    _require("typer", "rich")
    build_app()()


def _require(*modules: str, extra: str = "demo") -> None:
    """The command needs more than `import fusednorm` does: say in one line what is missing, and stop."""
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        raise SystemExit(f"fusednorm: no module {', '.join(missing)}; pip install 'fusednorm[{extra}]' brings it")


def build_app() -> "typer.Typer":
    import typer
    from rich.console import Console

    app = typer.Typer(help="Fused normalization layers for PyTorch.", no_args_is_help=True, add_completion=False)

    @app.command()
    def info() -> None:
        """Print versions, the machine, and which backends serve on it."""
        from .demo.info import print_info

        print_info(Console())

    @app.command()
    def demo(
        seeds: Annotated[int | None, typer.Option(min=1, help="Trainings of each network.")] = None,
        epochs: Annotated[int | None, typer.Option(min=1, help="Epochs of a training.")] = None,
        out: Annotated[Path, typer.Option(help="Folder for the plot.")] = Path("demo"),
        quick: Annotated[bool, typer.Option("--quick", help="One seed, few steps, small crops.")] = False,
        compile: Annotated[bool, typer.Option(help="Measure torch.compile too.")] = True,
    ) -> None:
        """Train a small residual network with BatchNorm, plain AN and fused AN; compare and time them."""
        _require("numpy", "matplotlib", "skimage", "sklearn")
        from dataclasses import replace

        from .demo.run import run
        from .demo.settings import QUICK, Settings

        size = QUICK if quick else Settings()
        size = replace(size, seeds=seeds or size.seeds, epochs=epochs or size.epochs, compile=compile)
        run(size, out, Console())

    @app.command()
    def table(
        names: Annotated[
            list[str] | None, typer.Argument(help="Of attentive, representative, ...; all, if none.")
        ] = None,
        flops: Annotated[bool, typer.Option(help="Count floating-point operations too.")] = True,
    ) -> None:
        """Print the papers' parameter counts beside those of networks built here, without weights."""
        _require("torchvision", "timm", extra="models")
        from .surgery import tables

        unknown = [name for name in names or () if name not in tables.TABLES]
        if unknown:
            raise typer.BadParameter(f"expected of {', '.join(tables.TABLES)}, got {unknown[0]}")
        console = Console()
        for name in names or tables.TABLES:
            for part in tables.rendered(name, tables.counted(tables.entries(name), flops)):
                console.print(part)
        if flops:
            console.print("GFLOPs: one picture of 224x224; a multiply-add counts as two, as torch has it.")

    @app.command()
    def plot(
        checkpoint: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="One of examples/train.py, say.")],
        out: Annotated[Path, typer.Option(help="Folder for the pictures.")] = Path("plots"),
        model: Annotated[str | None, typer.Option(help="Name in torchvision or timm, if it does not say.")] = None,
        recipe: Annotated[str | None, typer.Option(help="What it was converted by, if it does not say.")] = None,
        fold: Annotated[bool | None, typer.Option("--fold/--no-fold", help="Likewise.")] = None,
        batch: Annotated[str | None, typer.Option(help="An image, a folder of them, or 'textures'.")] = None,
        size: Annotated[int | None, typer.Option(min=1, help="Pixels of an image's side.")] = None,
        ema: Annotated[bool, typer.Option("--ema", help="The averaged weights.")] = False,
    ) -> None:
        """Draw what a checkpoint's fused layers have learned, and with images what they do."""
        _require("matplotlib")
        from .inspection.command import run

        try:
            run(checkpoint, out, Console(), model, recipe, fold, batch, size, ema)
        except (ValueError, ImportError) as error:
            raise SystemExit(f"fusednorm: {error}") from None

    return app
