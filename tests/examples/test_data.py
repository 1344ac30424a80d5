"""Images by (epoch, index), and which of them a process takes."""

from pathlib import Path

import numpy as np
import pytest
import torch

from examples.training import data
from examples.training.settings import Settings
from fusednorm.demo.data import load_task
from tests.examples.runs import settings


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of pictures that come in wheels: three parts to train on and two to validate on."""
    from PIL import Image

    root, task = tmp_path_factory.mktemp("pictures"), load_task()
    for number in (1, 4):
        for split, regions in (("train", task.train), ("val", task.test)):
            place = root / split / task.classes[number]
            place.mkdir(parents=True)
            for part, strip in enumerate(np.array_split(regions[number], 3 if split == "train" else 2)):
                Image.fromarray((strip * 255).astype(np.uint8)).save(place / f"{part}.png")
    return root


def whole_epoch(chosen: Settings, workers: int, epoch: int = 1) -> list[torch.Tensor]:
    images = data.load(chosen).train
    batches = data.TrainingBatches(len(images), chosen, 0, epoch)
    return [batch for batch, _ in data.loader(images, batches, workers, torch.device("cpu"))]


def test_workers_change_nothing() -> None:
    for a, b in zip(whole_epoch(settings(), 0), whole_epoch(settings(), 2), strict=True):
        assert torch.equal(a, b)


def test_epochs_and_seeds_do() -> None:
    first = whole_epoch(settings(), 0)[0]
    assert not torch.equal(first, whole_epoch(settings(), 0, epoch=2)[0])
    assert not torch.equal(first, whole_epoch(settings(seed=1), 0)[0])


def test_a_loader_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    whole_epoch(settings(), 0)
    assert torch.equal(before, torch.get_rng_state())


def test_processes_share_an_epoch() -> None:
    chosen = settings(processes=3, batch_size=2, accumulate=2)
    everyone = [list(data.TrainingBatches(26, chosen, rank, epoch=4)) for rank in range(3)]
    assert [len(batches) for batches in everyone] == [4, 4, 4]  # 24 of the 26 images
    keys = [key for batches in everyone for batch in batches for key in batch]
    assert len(set(keys)) == 24
    assert {epoch for epoch, _ in keys} == {4}
    assert everyone[1][2:] == list(data.TrainingBatches(26, chosen, 1, epoch=4, start=2))


def test_every_image_is_validated_once() -> None:
    keys = [
        key
        for rank in range(3)
        for batch in data.ValidationBatches(26, settings(processes=3, batch_size=4), rank)
        for key in batch
    ]
    assert sorted(keys) == [(0, index) for index in range(26)]


def test_too_few_images_for_a_step() -> None:
    with pytest.raises(ValueError, match=r"batch_size: expected a step of at most 15 images, .* got 2 x 1 x 8"):
        data.TrainingBatches(15, settings(processes=2), 0, 0)


def test_textures() -> None:
    train, validation = data.load(settings(crops_per_class=10))
    assert (len(train), len(validation)) == (100, 20)
    image, label = train[(0, 13)]
    assert image.shape == (3, 32, 32)
    assert label == 3
    assert torch.equal(image[0], image[2])
    assert torch.equal(validation[(0, 7)][0], validation[(5, 7)][0])


def test_textures_have_a_size() -> None:
    data.load(settings(size=154)).validation[(0, 3)]  # the smallest
    with pytest.raises(ValueError, match="size: expected at most 154 pixels, what the smallest picture has, got 155"):
        data.load(settings(size=155))
    with pytest.raises(ValueError, match="size: expected at most 154 pixels"):
        load_task().test_set(1, 224)


def test_folder(folder: Path) -> None:
    train, validation = data.load(settings(data=str(folder)))
    assert train.classes == ["brick", "grass"]
    assert (len(train), len(validation)) == (6, 4)
    image, label = train[(0, 4)]
    assert image.shape == (3, 32, 32)
    assert image.dtype == torch.float32
    assert label == 1
    assert torch.equal(image, train[(0, 4)][0])
    assert not torch.equal(image, train[(1, 4)][0])
    assert torch.equal(validation[(0, 1)][0], validation[(9, 1)][0])


def test_folder_s_values(folder: Path) -> None:
    """The validation image is the middle 7/8 of the short side; its mean is that of these pixels."""
    from PIL import Image

    image, _ = data.load(settings(data=str(folder), size=8)).validation[(0, 0)]
    pixels = np.asarray(Image.open(folder / "val" / "brick" / "0.png"), np.float64) / 255
    side = round(min(pixels.shape) * 7 / 8)
    top, left = ((length - side) // 2 for length in pixels.shape)
    for channel in range(3):
        expected = (pixels[top : top + side, left : left + side].mean() - data.MEAN[channel]) / data.STD[channel]
        assert image[channel].mean().item() == pytest.approx(expected, abs=0.02)


def test_random_boxes_lie_inside_and_have_their_areas() -> None:
    rng = np.random.default_rng(0)
    boxes = np.array([data.random_box(200, 160, rng) for _ in range(500)])
    widths, heights = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    assert boxes.min() >= 0
    assert (boxes.max(0) <= [200, 160, 200, 160]).all()
    areas = widths * heights / (200 * 160)
    assert 0.07 < areas.min() < 0.12
    assert areas.max() > 0.9
    assert 0.7 < (widths / heights).min() < 0.8
    assert 1.25 < (widths / heights).max() < 1.4


def test_a_box_where_none_fits() -> None:
    assert data.random_box(1000, 10, np.random.default_rng(0)) == (495, 0, 505, 10)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="data: expected a folder with train/ and val/"):
        data.load(settings(data=str(tmp_path)))


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("kept", [None, 0.5], ids=["text", "cut short"])
def test_an_image_that_can_not_be_read_is_named(tmp_path: Path, workers: int, kept: float | None) -> None:
    from PIL import Image

    path = tmp_path / "train" / "a" / "0.jpg"
    for split in ("train", "val"):
        (tmp_path / split / "a").mkdir(parents=True)
        noise = np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / split / "a" / "0.jpg")
    whole = path.read_bytes()
    path.write_bytes(b"text" if kept is None else whole[: int(len(whole) * kept)])
    chosen = settings(data=str(tmp_path), batch_size=1)
    with pytest.raises(ValueError, match=f"data: {path}: "):
        whole_epoch(chosen, workers)


@pytest.mark.parametrize("classes", [[], ["a"]])
def test_a_folder_without_images(tmp_path: Path, classes: list[str]) -> None:
    for name in ("train", *(f"train/{name}" for name in classes)):
        (tmp_path / name).mkdir()
    with pytest.raises(ValueError, match=f"data: {tmp_path / 'train'}: "):
        data.load(settings(data=str(tmp_path)))


def test_other_classes_to_validate_on(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "train").symlink_to(folder / "train")
    (tmp_path / "val").mkdir()
    (tmp_path / "val" / "brick").symlink_to(folder / "val" / "brick")
    with pytest.raises(ValueError, match="data: expected the same classes"):
        data.load(settings(data=str(tmp_path)))
