"""One training of one norm at one number of samples per batch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

import fusednorm
from examples.training.randomness import AUGMENTATION, ORDER, generator
from examples.training.schedule import learning_rate
from fusednorm.demo.data import CONTRAST, TextureTask, load_task, random_crop
from fusednorm.demo.network import TextureNet
from fusednorm.demo.training import accuracy

from .norms import build


class Trial(NamedTuple):
    norm: str
    batch: int
    seed: int


@dataclass(frozen=True)
class Budget:
    """The same for all trials."""

    samples: int = 9600
    """Crops that a training sees, at every batch size."""
    crop: int = 32
    test_crops_per_class: int = 100
    rate: float = 0.01
    """Peak learning rate at 32 samples per batch; scaled linearly (Goyal et al., 2017)."""
    warmup: float = 0.05
    """Of the steps."""
    momentum: float = 0.9
    weight_decay: float = 1e-4
    averaged: int = 320
    """Crops for SN's batch average, at the end; of a larger batch one."""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


RATE_FOR = 32
QUICK = Budget(samples=960, test_crops_per_class=20, averaged=64)


def run(trial: Trial, budget: Budget) -> float:
    """The accuracy on the test crops. A function of its arguments: one thread, so that sums have one order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        task = load_task()
        network = build(trial.norm, len(task.classes), trial.seed)
        train(network, task, trial, budget)
        crops, labels = task.test_set(budget.test_crops_per_class, budget.crop)
        return accuracy(network, crops * CONTRAST, labels)
    finally:
        torch.set_num_threads(threads)


def train(network: TextureNet, task: TextureTask, trial: Trial, budget: Budget) -> None:
    steps = budget.samples // trial.batch
    peak = budget.rate * trial.batch / RATE_FOR
    optimizer = torch.optim.SGD(
        network.parameters(), peak, momentum=budget.momentum, weight_decay=budget.weight_decay, nesterov=True
    )
    crops, labels = training_crops(task, trial.seed, steps * trial.batch, budget.crop)
    for step, (x, y) in enumerate(zip(crops.split(trial.batch), labels.split(trial.batch), strict=True)):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, round(budget.warmup * steps), peak)
        functional.cross_entropy(network(x), y).backward()
        optimizer.step()
        optimizer.zero_grad()
    if trial.norm == "SN":
        # Batch averages, as the paper's section 3 has them, over batches of the size that it was trained with.
        count = max(budget.averaged // trial.batch, 1) * trial.batch
        fusednorm.average_statistics(network, crops[-count:].split(trial.batch))


def training_crops(task: TextureTask, seed: int, count: int, size: int) -> tuple[Tensor, Tensor]:
    """Those of a seed, in one order whatever the batch size: (count, 1, size, size), (count)."""
    labels = generator(ORDER, seed).integers(len(task.classes), size=count)
    crops = [random_crop(task.train[y], size, generator(AUGMENTATION, seed, i)) for i, y in enumerate(labels)]
    return torch.from_numpy(np.stack(crops)[:, None]) * CONTRAST, torch.from_numpy(labels)
