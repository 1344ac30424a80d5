"""The texture task: offline, with training and test pixels apart."""

import socket

import numpy as np
import pytest
import torch

from fusednorm.demo import data


@pytest.fixture(scope="module")
def task() -> data.TextureTask:
    return data.load_task()


def test_loading_needs_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("the demo tried to open a socket")

    monkeypatch.setattr(socket, "socket", refuse)
    assert len(data.load_task().classes) == len(data.PICTURES)


def test_training_and_test_regions_share_no_pixel(task: data.TextureTask) -> None:
    for train, test in zip(task.train, task.test, strict=True):
        assert train.base is test.base
        assert not np.shares_memory(train, test)


def test_pictures_are_grey_and_large_enough_for_the_crops(task: data.TextureTask) -> None:
    for region in task.train + task.test:
        assert region.ndim == 2
        assert region.dtype == np.float32
        assert region.min() >= 0
        assert region.max() <= 1
        assert min(region.shape) >= 128


def test_training_batch(task: data.TextureTask) -> None:
    crops, labels = task.training_batch(8, 64, np.random.default_rng(3))
    again, _ = task.training_batch(8, 64, np.random.default_rng(3))
    assert crops.shape == (8, 1, 64, 64)
    assert crops.dtype == torch.float32
    assert labels.shape == (8,)
    assert torch.equal(crops, again)


def test_test_set_has_every_class_alike_and_never_changes(task: data.TextureTask) -> None:
    crops, labels = task.test_set(3, 32)
    again, _ = task.test_set(3, 32)
    assert crops.shape == (3 * len(task.classes), 1, 32, 32)
    assert labels.bincount().tolist() == [3] * len(task.classes)
    assert torch.equal(crops, again)
