"""Trainings of seconds, and how their ends compare."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from examples.training import checkpoint
from examples.training.distributed import joined
from examples.training.loop import Training
from examples.training.settings import Run, Settings

SMALL: dict[str, Any] = {"size": 32, "crops_per_class": 8, "batch_size": 8, "epochs": 2}
"""Two epochs of ten steps."""


def settings(**others: Any) -> Settings:
    return Settings(**(SMALL | {"model": "timm/test_resnet"} | others))


def training(settings: Settings, out: Path, **others: Any) -> Training:
    run = Run(out, **({"tensorboard": False, "progress": False, "checkpoint_every": 3} | others))
    with joined("cpu") as group:
        return Training(settings, run, group, Console(quiet=True))


def train(settings: Settings, out: Path, **others: Any) -> dict[str, Any]:
    """The last checkpoint."""
    assert training(settings, out, **others).fit()
    return checkpoint.read(out / "last.pt")


class CutShortError(Exception):
    pass


def interrupt(settings: Settings, out: Path, step: int) -> None:
    """Train until a step is done."""
    stopped = training(settings, out)

    def raises() -> None:
        if stopped.position.step == step:
            raise CutShortError

    stopped.after_step = raises
    try:
        stopped.fit()
    except CutShortError:
        return
    raise AssertionError("it came to its end")


def command(*arguments: str, processes: int = 1) -> subprocess.CompletedProcess[str]:
    """python -m arguments, or torchrun -m arguments."""
    start = [sys.executable]
    if processes > 1:
        start += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    root = Path(__file__).parents[2]
    return subprocess.run(
        [*start, "-m", *arguments],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        start_new_session=True,  # a process group of its own, which can be sent signals
    )


def flags(settings: Settings, out: Path, **others: Any) -> list[str]:
    """The command line's."""
    values = settings.as_dict() | {"out": out, "checkpoint_every": 3, "tensorboard": False, "progress": False} | others
    del values["processes"]
    values["lr"] = values.pop("learning_rate")
    result = []
    for name, value in values.items():
        word = name.replace("_", "-")
        if isinstance(value, bool):
            result.append(f"--{word}" if value else f"--no-{word}")
        elif value is not None:
            result += [f"--{word}", str(value)]
    return result


def differences(a: Any, b: Any, where: str = "") -> list[str]:
    """Where two checkpoints are not the same, bit by bit."""
    if type(a) is not type(b):
        return [f"{where}: {type(a)}, {type(b)}"]
    if isinstance(a, Tensor):
        same = a.dtype == b.dtype and a.shape == b.shape and torch.equal(_bits(a), _bits(b))
        return [] if same else [where]
    if isinstance(a, dict):
        if list(a) != list(b):
            return [f"{where}: {list(a)}, {list(b)}"]
        return [line for key in a for line in differences(a[key], b[key], f"{where}.{key}")]
    if isinstance(a, (list, tuple)):
        if len(a) != len(b):
            return [f"{where}: lengths {len(a)}, {len(b)}"]
        return [line for i in range(len(a)) for line in differences(a[i], b[i], f"{where}[{i}]")]
    return [] if a == b else [f"{where}: {a}, {b}"]


def _bits(t: Tensor) -> Tensor:
    return t.detach().contiguous().flatten().view(torch.uint8) if t.numel() else t
