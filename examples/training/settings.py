"""What decides a training's result, and how it is run, which does not."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from enum import Enum
from pathlib import Path
from typing import Any


class Recipe(str, Enum):
    none = "none"
    batch = "batch"
    attentive = "attentive"
    representative = "representative"
    switchable = "switchable"
    normalization_attention = "normalization_attention"
    squeeze_excite = "squeeze_excite"


class Amp(str, Enum):
    none = "none"
    bf16 = "bf16"
    fp16 = "fp16"


@dataclass(frozen=True)
class Settings:
    """Two runs of the same settings end with the same weights, whatever happened on the way. Checkpoints hold them."""

    model: str = "resnet18"
    recipe: str = "attentive"
    fold: bool = True
    preserve: bool = False
    """Start as the network with BatchNorm would. Without, AN multiplies by about K/2 at first, as in its paper."""

    data: str | None = None
    """A folder with train/ and val/, a folder a class in each; None: the pictures of demo/data.py."""
    size: int = 64
    crops_per_class: int = 200
    """Of a training epoch on those pictures; there are a fifth as many to validate on."""

    epochs: int = 10
    batch_size: int = 32
    """Of one process, in one pass through the network."""
    accumulate: int = 1
    """Batches in a step of the optimizer."""
    learning_rate: float = 0.1
    """At the top of the schedule, for steps of 256 images; scaled linearly (AN has 0.4 for 1024)."""
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 1e-4
    warmup: float = 0.5
    """Epochs of linear warm-up."""
    label_smoothing: float = 0.1
    mixup: float = 0.2
    """Alpha of the Beta distribution; 0: none."""
    ema: float = 0.0
    """Decay of the averaged weights; 0: none."""

    amp: str = "none"
    channels_last: bool = False
    compile: bool = False
    sync: bool = False
    """Statistics over the batches of all processes."""
    deterministic: bool = False
    """On a GPU: PyTorch's deterministic kernels, without which no two runs are alike there."""
    seed: int = 0

    device: str = "cpu"
    processes: int = 1

    def __post_init__(self) -> None:
        _check_choice("recipe", self.recipe, Recipe)
        _check_choice("amp", self.amp, Amp)
        for name in ("size", "crops_per_class", "epochs", "batch_size", "accumulate", "processes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        for name in ("learning_rate", "weight_decay", "warmup", "mixup"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}: expected at least 0, got {getattr(self, name)}")
        for name in ("momentum", "label_smoothing", "ema"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 0 and below 1, got {getattr(self, name)}")
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov: expected a momentum above 0 with it, got 0")

    @property
    def step_images(self) -> int:
        """Of all processes and accumulated batches."""
        return self.processes * self.accumulate * self.batch_size

    @property
    def peak_rate(self) -> float:
        return self.learning_rate * self.step_images / 256

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def check_same(self, stored: dict[str, Any], where: Path) -> None:
        """Raises ValueError where a checkpoint's settings are others."""
        for field in fields(self):
            theirs, ours = stored.get(field.name, field.default), getattr(self, field.name)
            if theirs != ours:
                raise ValueError(
                    f"{field.name}: expected {theirs!r}, as in {where} (--resume never starts anew), got {ours!r}"
                )


@dataclass(frozen=True)
class Run:
    """May differ between the parts of an interrupted run."""

    out: Path
    resume: str = "auto"
    """"auto" goes on with out/last.pt if it is there, "never" starts anew; else the file to go on with."""
    checkpoint_every: int = 200
    """Steps of the optimizer; 0: at the ends of epochs only."""
    workers: int = 0
    tensorboard: bool = True
    progress: bool = True

    @property
    def last(self) -> Path:
        return self.out / "last.pt"

    @property
    def best(self) -> Path:
        return self.out / "best.pt"

    @property
    def metrics(self) -> Path:
        return self.out / "metrics.json"

    def checkpoint(self) -> Path | None:
        """The one to go on with."""
        if self.resume == "never":
            return None
        if self.resume == "auto":
            return self.last if self.last.exists() else None
        path = Path(self.resume)
        if not path.exists():
            raise ValueError(f"resume: expected 'auto', 'never' or a checkpoint, got {self.resume!r}")
        return path


def _check_choice(name: str, value: str, choices: type[Enum]) -> None:
    names = [choice.value for choice in choices]
    if value not in names:
        raise ValueError(f"{name}: expected one of {', '.join(names)}, got {value!r}")
