"""`fusednorm plot`: a checkpoint's layers as a table and pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor, nn

import fusednorm
from fusednorm.surgery import zoo

from .layers import Inspection
from .look import inspect
from .plots import save

TEXTURES = "textures"
WRAPPERS = ("module.", "_orig_mod.")
PER_TEXTURE = 4
"""Crops of each picture."""
SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp"}
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def run(
    checkpoint: Path,
    out: Path,
    console: Console,
    model: str | None = None,
    recipe: str | None = None,
    fold: bool | None = None,
    batch: str | None = None,
    size: int | None = None,
    ema: bool = False,
) -> None:
    """Load, look, print, draw.

    Raises:
        ValueError: the checkpoint does not say what the options leave out, or is of another network; no images.
    """
    contents = _read(checkpoint)
    settings = contents.get("settings", {}) if isinstance(contents, Mapping) else {}
    weights = _weights(contents, ema)
    name, chosen = model or settings.get("model"), recipe or settings.get("recipe")
    for option, value in (("--model", name), ("--recipe", chosen)):
        if value is None:
            raise ValueError(f"{option}: expected, as {checkpoint} does not say it")
    fold = settings.get("fold", True) if fold is None else fold
    network = _build(str(name), str(chosen), bool(fold), weights, contents)
    images = None if batch is None else _images(batch, size or settings.get("size", 224))
    inspection = inspect(network, images)
    console.print(str(inspection), markup=False, highlight=False, soft_wrap=True)
    paths = save(inspection, out)
    for path in paths:
        console.print(f"{path}", markup=False, highlight=False, soft_wrap=True)
    if not paths:
        console.print(_hint(inspection))


def _read(checkpoint: Path) -> Any:
    try:
        return torch.load(checkpoint, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises anything of a file that is none of its own
        raise ValueError(
            f"checkpoint: expected a file of tensors alone (model.state_dict(), not the model), {checkpoint} can't be "
            f"read so: {type(error).__name__}"
        ) from error


def _weights(contents: Any, ema: bool) -> Mapping[str, Tensor]:
    """The network's state, of a checkpoint of examples/train.py or one that others write, or bare."""
    if not isinstance(contents, Mapping):
        raise ValueError(f"checkpoint: expected a dict, got {type(contents).__name__}")
    if ema:
        if not isinstance(contents.get("ema"), Mapping):
            raise ValueError("--ema: expected a checkpoint with averaged weights, there are none")
        return _bare(contents["ema"])
    for key in ("model", "state_dict"):
        if isinstance(contents.get(key), Mapping):
            return _bare(contents[key])
    return _bare(contents)


def _bare(weights: Mapping[str, Any]) -> Mapping[str, Any]:
    """Without what DistributedDataParallel, torch.compile and AveragedModel put around a network's own names."""
    weights = {name: value for name, value in weights.items() if name != "n_averaged"}
    for prefix in WRAPPERS * 2:
        if weights and all(name.startswith(prefix) for name in weights):
            weights = {name.removeprefix(prefix): value for name, value in weights.items()}
    return weights


def _build(name: str, recipe: str, fold: bool, weights: Mapping[str, Tensor], contents: Mapping[str, Any]) -> nn.Module:
    classes = contents.get("classes")
    vectors = [t for t in weights.values() if isinstance(t, Tensor) and t.dim() == 1]
    if not vectors:
        raise ValueError(f"checkpoint: expected a network's state, got one of {', '.join(weights) or 'nothing'}")
    # Of a classifier the last one is the last layer's bias.
    count = len(vectors[-1]) if classes is None else len(classes)
    network = zoo.build(name, num_classes=count)
    if recipe != "none":
        network = fusednorm.convert(network, recipe, fold=fold).model
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        first = " ".join(str(error).split())
        raise ValueError(f"checkpoint: expected {name} with recipe {recipe}: {first:.300} ...") from error
    return network


def _images(batch: str, size: int) -> Tensor:
    """(N, 3, size, size): "textures", or an image, or the images of a folder."""
    if batch == TEXTURES:
        from fusednorm.demo.data import as_images, load_task

        return as_images(load_task().test_set(PER_TEXTURE, size)[0])
    path = Path(batch)
    paths = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES) if path.is_dir() else [path]
    if not paths or not all(p.is_file() for p in paths):
        raise ValueError(f"--batch: expected an image, a folder of them, or {TEXTURES!r}, got {batch!r}")
    return torch.stack([_image(p, size) for p in paths])


def _image(path: Path, size: int) -> Tensor:
    """The square in its middle, 7/8 of the shorter side, as networks for ImageNet take it."""
    import numpy as np
    from PIL import Image

    try:
        with Image.open(path) as opened:
            image = opened.convert("RGB")
    except Exception as error:  # Pillow raises many kinds, and most don't say of which file
        raise ValueError(f"--batch: {path}: {error}") from error
    side = max(round(min(image.size) * 7 / 8), 1)
    left, top = ((length - side) // 2 for length in image.size)
    small = image.resize((size, size), Image.Resampling.BILINEAR, (left, top, left + side, top + side))
    pixels = torch.from_numpy(np.array(small)).permute(2, 0, 1) / 255
    return (pixels - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def _hint(inspection: Inspection) -> str:
    attentive = bool(inspection.having("mixture_weight"))
    return "Nothing to draw" + (": attention needs images, --batch" if attentive else " of these layers.")
