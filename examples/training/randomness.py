"""Chance that does not depend on what happened before: a generator for each purpose, and the global ones' states."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch

ORDER, AUGMENTATION, MIXUP, PROCESS = range(4)
"""First of a key: what the chance is for."""


def generator(*key: int) -> np.random.Generator:
    """A function of the key: (purpose, seed, epoch, index), say."""
    return np.random.default_rng((len(key), *key))  # (1, 2) and (1, 2, 0) would be one


def seed_process(seed: int, rank: int) -> None:
    """The global generators, which dropout and its like draw from: others in every process."""
    own = int(generator(PROCESS, seed, rank).integers(2**32))
    random.seed(own)
    np.random.seed(own)
    torch.manual_seed(own)


def states() -> dict[str, Any]:
    """Of the global generators, of types that torch.load takes with weights_only=True."""
    numpy: Any = np.random.get_state()
    name, keys, *rest = numpy
    return {
        "python": random.getstate(),
        "numpy": (name, keys.tolist(), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }


def restore(stored: dict[str, Any]) -> None:
    name, keys, *rest = stored["numpy"]
    version, internal, gauss = stored["python"]
    random.setstate((version, tuple(internal), gauss))
    np.random.set_state((name, np.array(keys, np.uint32), *rest))
    torch.set_rng_state(stored["torch"])
    if stored["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(stored["cuda"])
