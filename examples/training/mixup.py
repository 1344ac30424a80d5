"""Mixup (Zhang, Cisse, Dauphin & Lopez-Paz, 2018) and the loss over mixed labels."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from .randomness import generator


class Mixed(NamedTuple):
    images: Tensor
    labels: Tensor
    partners: Tensor
    """The labels that each image's partner has."""
    share: float
    """Of the image itself; its partner's is 1 - share."""


def mix(images: Tensor, labels: Tensor, alpha: float, *key: int) -> Mixed:
    """share x + (1 - share) x[permuted], share ~ Beta(alpha, alpha), one a batch, as the paper's code has it.

    Share and permutation are a function of `key`. images (N, ...), labels (N); alpha 0: as they are.
    """
    if alpha == 0:
        return Mixed(images, labels, labels, 1.0)
    rng = generator(*key)
    share = float(rng.beta(alpha, alpha))
    order = torch.from_numpy(rng.permutation(len(labels))).to(labels.device)
    return Mixed(torch.lerp(images[order], images, share), labels, labels[order], share)


def mixed_loss(logits: Tensor, batch: Mixed, smoothing: float) -> Tensor:
    """share CE(labels) + (1 - share) CE(partners), with label smoothing (Szegedy et al., 2016)."""
    loss = functional.cross_entropy(logits, batch.labels, label_smoothing=smoothing)
    if batch.share == 1:
        return loss
    partners = functional.cross_entropy(logits, batch.partners, label_smoothing=smoothing)
    return batch.share * loss + (1 - batch.share) * partners
