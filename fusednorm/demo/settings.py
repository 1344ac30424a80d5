"""How large the demo is."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    seeds: int = 3
    epochs: int = 4
    steps_per_epoch: int = 20
    batch_size: int = 32
    crop: int = 64
    test_crops_per_class: int = 40
    learning_rate: float = 3e-3

    # Costs are measured on larger crops, whose feature maps no longer fit a core's cache.
    cost_crop: int = 128
    cost_rounds: int = 7
    compile: bool = True


QUICK = Settings(
    seeds=1,
    epochs=2,
    steps_per_epoch=10,
    batch_size=16,
    test_crops_per_class=10,
    cost_crop=64,
    cost_rounds=5,
)
