"""Train a classifier of torchvision or timm with fused norms on real images, so that a kill changes nothing.

    python -m examples.train --model resnet18 --recipe attentive --out runs/attentive
    torchrun --standalone --nproc-per-node 2 -m examples.train --out runs/two --sync

Run again, the same command goes on where it was interrupted, and ends with the same bits.
"""

# No `from __future__ import annotations`: typer evaluates annotations.

from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.markup import escape

from examples.training import distributed
from examples.training.loop import Training
from examples.training.settings import Amp, Recipe, Run, Settings

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
DEFAULT = Settings()
NETWORK, DATA, TRAINING, SPEED, RUN = "Network", "Data", "Training", "Precision and speed", "Run"


def option(help: str, panel: str, *names: str, **limits: Any) -> Any:
    return typer.Option(*names, help=help, rich_help_panel=panel, **limits)


@app.command()
def main(
    model: Annotated[str, option("By its name in torchvision or timm; timm/resnet50 says whose.", NETWORK)] = (
        DEFAULT.model
    ),
    recipe: Annotated[Recipe, option("Which fused layers take the BatchNorms' places.", NETWORK)] = Recipe.attentive,
    fold: Annotated[bool, option("Fold ReLUs and residual additions into the layers.", NETWORK)] = DEFAULT.fold,
    preserve: Annotated[bool, option("Start as the network with BatchNorm would.", NETWORK)] = DEFAULT.preserve,
    sync: Annotated[bool, option("Statistics over the batches of all processes.", NETWORK)] = DEFAULT.sync,
    data: Annotated[
        Path | None,
        option("Folder with train/ and val/, a folder a class. Default: textures that come in wheels.", DATA),
    ] = None,
    size: Annotated[int, option("Pixels of an image's side.", DATA, min=1)] = DEFAULT.size,
    crops_per_class: Annotated[int, option("Of the textures, in an epoch.", DATA, min=1)] = DEFAULT.crops_per_class,
    epochs: Annotated[int, option("Times through the data.", TRAINING, min=1)] = DEFAULT.epochs,
    batch_size: Annotated[int, option("Images of one process in one pass.", TRAINING, min=1)] = DEFAULT.batch_size,
    accumulate: Annotated[int, option("Batches in a step of the optimizer.", TRAINING, min=1)] = DEFAULT.accumulate,
    learning_rate: Annotated[
        float, option("Highest, for 256 images a step; scaled linearly.", TRAINING, "--lr", min=0)
    ] = (DEFAULT.learning_rate),
    momentum: Annotated[float, option("Of SGD.", TRAINING, min=0, max=1)] = DEFAULT.momentum,
    nesterov: Annotated[bool, option("Nesterov's momentum.", TRAINING)] = DEFAULT.nesterov,
    weight_decay: Annotated[float, option("Not for biases and norms' parameters.", TRAINING, min=0)] = (
        DEFAULT.weight_decay
    ),
    warmup: Annotated[float, option("Epochs of linear warm-up, before half a cosine.", TRAINING, min=0)] = (
        DEFAULT.warmup
    ),
    label_smoothing: Annotated[float, option("Share of the other classes.", TRAINING, min=0, max=1)] = (
        DEFAULT.label_smoothing
    ),
    mixup: Annotated[float, option("Alpha of its Beta distribution; 0: none.", TRAINING, min=0)] = DEFAULT.mixup,
    ema: Annotated[float, option("Decay of averaged weights, evaluated too; 0: none.", TRAINING, min=0, max=1)] = (
        DEFAULT.ema
    ),
    seed: Annotated[int, option("Of weights, order, crops and mixing.", TRAINING, min=0)] = DEFAULT.seed,
    amp: Annotated[Amp, option("Mixed precision; fp16 with scaled gradients.", SPEED)] = Amp.none,
    channels_last: Annotated[bool, option("Memory format of maps and weights.", SPEED)] = DEFAULT.channels_last,
    compile: Annotated[bool, option("torch.compile.", SPEED)] = DEFAULT.compile,
    deterministic: Annotated[bool, option("PyTorch's deterministic kernels; a GPU needs them.", SPEED)] = (
        DEFAULT.deterministic
    ),
    device: Annotated[str, option("cpu, cuda, or auto: a GPU if there is one.", SPEED)] = "auto",
    out: Annotated[Path, option("Folder of last.pt, best.pt, metrics.json and curves/.", RUN)] = Path("runs/train"),
    resume: Annotated[str, option("auto: go on with last.pt if it is there; never; or a checkpoint.", RUN)] = "auto",
    checkpoint_every: Annotated[int, option("Steps; 0: at ends of epochs only.", RUN, min=0)] = 200,
    workers: Annotated[int, option("Processes that load images.", RUN, min=0)] = 0,
    tensorboard: Annotated[bool, option("Write curves for TensorBoard.", RUN)] = True,
    progress: Annotated[bool, option("Show a bar.", RUN)] = True,
) -> None:
    """Train a classifier of torchvision or timm with fused norms on real images.

    Killed and run again it goes on from the last checkpoint and ends with the same bits as if it had not been (on a GPU
    that takes --deterministic). SIGTERM has it write a checkpoint and end. torchrun --nproc-per-node N -m
    examples.train ... trains in N processes.
    """
    console = Console()
    try:
        settings = Settings(
            model=model,
            recipe=recipe.value,
            fold=fold,
            preserve=preserve,
            data=None if data is None else str(data.resolve()),
            size=size,
            crops_per_class=crops_per_class,
            epochs=epochs,
            batch_size=batch_size,
            accumulate=accumulate,
            learning_rate=learning_rate,
            momentum=momentum,
            nesterov=nesterov,
            weight_decay=weight_decay,
            warmup=warmup,
            label_smoothing=label_smoothing,
            mixup=mixup,
            ema=ema,
            amp=amp.value,
            channels_last=channels_last,
            compile=compile,
            sync=sync,
            deterministic=deterministic,
            seed=seed,
            device=("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device,
            processes=distributed.processes(),
        )
        run = Run(out, resume, checkpoint_every, workers, tensorboard, progress)
        with distributed.joined(settings.device) as group:
            Training(settings, run, group, console).fit()
    except (ValueError, ImportError) as error:
        console.print(f"[red]{escape(str(error))}")
        raise typer.Exit(1) from None


if __name__ == "__main__":
    app()
