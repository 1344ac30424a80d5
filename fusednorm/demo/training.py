"""Training one network, and its accuracy on the test crops."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from .data import TextureTask
from .settings import Settings


@dataclass
class History:
    losses: list[float] = field(default_factory=list)
    """One a step."""
    accuracies: list[float] = field(default_factory=list)
    """One an epoch."""


def train(network: nn.Module, task: TextureTask, settings: Settings, seed: int, on_step: Callable[[], None]) -> History:
    """AdamW with one cycle of the learning rate. The seed fixes the crops and their order."""
    rng = np.random.default_rng(seed)
    optimizer = torch.optim.AdamW(network.parameters(), settings.learning_rate, weight_decay=0.01)
    steps = settings.epochs * settings.steps_per_epoch
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.learning_rate, total_steps=steps)
    test_crops, test_labels = task.test_set(settings.test_crops_per_class, settings.crop)
    history = History()
    for step in range(1, steps + 1):
        crops, labels = task.training_batch(settings.batch_size, settings.crop, rng)
        history.losses.append(training_step(network, optimizer, crops, labels))
        schedule.step()
        if step % settings.steps_per_epoch == 0:
            history.accuracies.append(accuracy(network, test_crops, test_labels))
        on_step()
    return history


def training_step(network: nn.Module, optimizer: torch.optim.Optimizer, crops: Tensor, labels: Tensor) -> float:
    """Leaves no gradients behind, so that a step finds and leaves the same tensors in memory."""
    loss = functional.cross_entropy(network(crops), labels)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return loss.item()


@torch.no_grad()
def accuracy(network: nn.Module, crops: Tensor, labels: Tensor) -> float:
    """Share of crops that are put in their class."""
    network.eval()
    right = [(network(x).argmax(1) == y).sum() for x, y in zip(crops.split(64), labels.split(64), strict=True)]
    network.train()
    return torch.stack(right).sum().item() / len(labels)
