"""A texture task from pictures that come inside the scikit-image and scikit-learn wheels.

Which of ten pictures was this grey crop cut from? Training crops come from the left of each picture, test
crops from the right, so no test pixel is ever seen in training. Nothing is downloaded: files are opened where
pip put them (`skimage.data.brick()` and its like would ask the network for a file that the wheel lacks).
"""

from dataclasses import dataclass
from importlib.resources import files

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

PICTURES = (
    ("skimage", "data/astronaut.png"),
    ("skimage", "data/brick.png"),
    ("skimage", "data/chelsea.png"),
    ("skimage", "data/coins.png"),
    ("skimage", "data/grass.png"),
    ("skimage", "data/gravel.png"),
    ("skimage", "data/hubble_deep_field.jpg"),
    ("skimage", "data/ihc.png"),
    ("skimage", "data/motorcycle_left.png"),
    ("sklearn", "datasets/images/china.jpg"),
)
TRAIN_SHARE = 0.6
CONTRAST = 4.0

Picture = NDArray[np.float32]


@dataclass(frozen=True)
class TextureTask:
    """The training and the test region of every class: grey pictures with values in [0, 1]."""

    classes: list[str]
    train: list[Picture]
    test: list[Picture]

    def training_batch(self, batch_size: int, size: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        labels = rng.integers(len(self.classes), size=batch_size)
        return _crops(self.train, labels, size, rng), torch.from_numpy(labels)

    def test_set(self, crops_per_class: int, size: int) -> tuple[Tensor, Tensor]:
        """The same crops at every call: all contenders and seeds are judged alike."""
        self.check_size(size)
        labels = np.repeat(np.arange(len(self.classes)), crops_per_class)
        return _crops(self.test, labels, size, np.random.default_rng(0)), torch.from_numpy(labels)

    def check_size(self, size: int) -> None:
        """Raises ValueError where crops of that size don't fit all regions."""
        largest = min(min(region.shape) for region in (*self.train, *self.test))
        if size > largest:
            raise ValueError(f"size: expected at most {largest} pixels, what the smallest picture has, got {size}")


def as_images(crops: Tensor) -> Tensor:
    """Grey crops (N, 1, H, W) for networks of colour: (N, 3, H, W), values around 0, deviation about 1."""
    return (crops * CONTRAST).expand(-1, 3, -1, -1)


def load_task() -> TextureTask:
    paths = [files(package) / path for package, path in PICTURES]
    regions = [_split(_read_grey(str(path))) for path in paths]
    return TextureTask(
        classes=[path.name.partition(".")[0] for path in paths],
        train=[left for left, _ in regions],
        test=[right for _, right in regions],
    )


def _read_grey(path: str) -> Picture:
    from skimage.io import imread

    picture = np.asarray(imread(path))
    if picture.ndim == 3:
        # Colour would give most pictures away at a glance.
        picture = picture[..., :3].mean(axis=2)
    return (picture / 255).astype(np.float32)


def _split(picture: Picture) -> tuple[Picture, Picture]:
    border = round(picture.shape[1] * TRAIN_SHARE)
    return picture[:, :border], picture[:, border:]


def random_crop(region: Picture, size: int, rng: np.random.Generator) -> Picture:
    """size x size from anywhere in the region, mirrored and relit at random."""
    return _relight(_mirror(_crop(region, size, rng), rng), rng)


def _crops(regions: list[Picture], labels: NDArray[np.int64], size: int, rng: np.random.Generator) -> Tensor:
    """One random crop for each label: (N, 1, size, size)."""
    crops = [random_crop(regions[label], size, rng) for label in labels]
    return torch.from_numpy(np.stack(crops)[:, None])


def _crop(region: Picture, size: int, rng: np.random.Generator) -> Picture:
    top, left = (rng.integers(length - size + 1) for length in region.shape)
    return region[top : top + size, left : left + size]


def _mirror(crop: Picture, rng: np.random.Generator) -> Picture:
    return crop[:, ::-1] if rng.random() < 0.5 else crop


def _relight(crop: Picture, rng: np.random.Generator) -> Picture:
    """A little other brightness and contrast, so that the mean of a crop does not tell its class."""
    contrast, brightness = rng.uniform(0.9, 1.1), rng.uniform(-0.1, 0.1)
    return ((crop - 0.5) * contrast + brightness).astype(np.float32)
