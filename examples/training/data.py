"""Images by (epoch, index): which crop of which picture is a function of these and the seed, whoever asks for it.

So a loader's workers, their number, and where a run was interrupted change nothing.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from fusednorm.demo.data import TextureTask, as_images, load_task, random_crop
from fusednorm.surgery.zoo import import_torchvision

from .randomness import AUGMENTATION, ORDER, generator
from .settings import Settings

Key = tuple[int, int]
"""(epoch, index)"""

VALIDATION_SHARE = 5
"""There are so many times fewer crops of the pictures to validate on."""
FROM_SCALE, FROM_RATIO = (0.08, 1.0), (3 / 4, 4 / 3)
"""Area and aspect of a training crop of a folder's image (Szegedy et al., 2015)."""
CENTER_SHARE = 224 / 256
"""Side of the validation crop over the image's shorter side."""
MEAN = np.array((0.485, 0.456, 0.406), np.float32)
STD = np.array((0.229, 0.224, 0.225), np.float32)


class Images(Protocol):
    """Images (3, size, size), float32, and labels."""

    classes: list[str]

    def __len__(self) -> int: ...
    def __getitem__(self, key: Key) -> tuple[Tensor, int]: ...


class Data(NamedTuple):
    train: Images
    validation: Images


class Textures:
    """Crops of demo/data.py's pictures, all classes alike, grey in three channels: values around 0, deviation about
    1. Those to validate on are the same in every epoch and of every seed."""

    def __init__(self, task: TextureTask, size: int, crops_per_class: int, seed: int | None) -> None:
        """seed None: to validate on."""
        self.classes, self.size, self.seed = task.classes, size, seed
        self.regions = task.test if seed is None else task.train
        self.length = crops_per_class * len(task.classes)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, key: Key) -> tuple[Tensor, int]:
        epoch, index = key
        label = index % len(self.classes)
        own = (index,) if self.seed is None else (self.seed, epoch, index)
        crop = random_crop(self.regions[label], self.size, generator(AUGMENTATION, *own))
        return as_images(torch.from_numpy(crop)[None, None])[0], label


class Folder:
    """A folder of images, a folder a class in it: a random part of each, resized and mirrored, or its center."""

    def __init__(self, path: Path, size: int, seed: int | None) -> None:
        """seed None: to validate on."""
        if not path.is_dir():
            raise ValueError(f"data: expected a folder with train/ and val/, got none at {path}")
        import_torchvision()
        from torchvision.datasets import ImageFolder

        try:
            self.files: Any = ImageFolder(str(path))
        except FileNotFoundError as error:  # no folder of a class, or one without images
            raise ValueError(f"data: {path}: {error}") from error
        self.classes: list[str] = self.files.classes
        self.size, self.seed = size, seed

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, key: Key) -> tuple[Tensor, int]:
        epoch, index = key
        try:
            image, label = self.files[index]
        except Exception as error:  # Pillow raises many kinds, and most don't say of which file
            raise ValueError(f"data: {self.files.samples[index][0]}: {error}") from error
        width, height = image.size
        if self.seed is None:
            box, mirrored = center_box(width, height), False
        else:
            rng = generator(AUGMENTATION, self.seed, epoch, index)
            box, mirrored = random_box(width, height, rng), rng.random() < 0.5
        bilinear = 2  # PIL's; it averages where it makes smaller
        pixels = np.asarray(image.resize((self.size, self.size), bilinear, box), np.float32) / 255
        pixels = (pixels[:, ::-1] if mirrored else pixels) - MEAN
        return torch.from_numpy((pixels / STD).transpose(2, 0, 1).copy()), label


def random_box(width: int, height: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of 8 to 100 % of the area, of an aspect from 3/4 to 4/3; what fits after ten tries."""
    for _ in range(10):
        area = width * height * rng.uniform(*FROM_SCALE)
        ratio = np.exp(rng.uniform(*np.log(FROM_RATIO)))
        w, h = round(np.sqrt(area * ratio)), round(np.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
            return left, top, left + w, top + h
    return center_box(width, height, 1.0)


def center_box(width: int, height: int, share: float = CENTER_SHARE) -> tuple[int, int, int, int]:
    """The square in the middle, its side a share of the shorter side."""
    side = max(round(min(width, height) * share), 1)
    left, top = (width - side) // 2, (height - side) // 2
    return left, top, left + side, top + side


def load(settings: Settings) -> Data:
    if settings.data is not None:
        folder = Path(settings.data)
        data = Data(Folder(folder / "train", settings.size, settings.seed), Folder(folder / "val", settings.size, None))
        if data.train.classes != data.validation.classes:
            raise ValueError("data: expected the same classes in train/ and val/")
        return data
    task = load_task()
    task.check_size(settings.size)
    train = Textures(task, settings.size, settings.crops_per_class, settings.seed)
    fewer = max(settings.crops_per_class // VALIDATION_SHARE, 1)
    return Data(train, Textures(task, settings.size, fewer, None))


class TrainingBatches:
    """Keys of one process's batches in an epoch, from batch `start` on; every process has as many, all of one size."""

    def __init__(self, length: int, settings: Settings, rank: int, epoch: int, start: int = 0) -> None:
        order = generator(ORDER, settings.seed, epoch).permutation(length)
        own = order[rank :: settings.processes].tolist()
        size = settings.batch_size
        batches = [own[i : i + size] for i in range(0, size * batches_per_epoch(length, settings), size)]
        self.keys = [[(epoch, index) for index in batch] for batch in batches[start:]]

    def __iter__(self) -> Iterator[list[Key]]:
        return iter(self.keys)

    def __len__(self) -> int:
        return len(self.keys)


def batches_per_epoch(length: int, settings: Settings) -> int:
    """A multiple of those in a step; what is left over is left out, other images every epoch."""
    steps = length // settings.step_images
    if steps == 0:
        raise ValueError(
            f"batch_size: expected a step of at most {length} images, as there are to train on, got "
            f"{settings.processes} x {settings.accumulate} x {settings.batch_size}"
        )
    return steps * settings.accumulate


class ValidationBatches(TrainingBatches):
    """One process's share, in order; the last may be smaller, and there may be none."""

    def __init__(self, length: int, settings: Settings, rank: int) -> None:
        own = [(0, index) for index in range(rank, length, settings.processes)]
        self.keys = [own[i : i + settings.batch_size] for i in range(0, len(own), settings.batch_size)]


def _ignore_sigterm(worker: int) -> None:
    """Often it is sent to all of a job's processes: the training, which ends its workers itself, still needs them."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def loader(images: Images, batches: TrainingBatches, workers: int, device: torch.device) -> DataLoader[Any]:
    # A generator of its own: a loader draws a number from the global one whenever it starts.
    return DataLoader(
        images,  # type: ignore[arg-type]
        batch_sampler=batches,
        num_workers=workers,
        pin_memory=device.type == "cuda",
        generator=torch.Generator(),
        worker_init_fn=_ignore_sigterm,
    )
