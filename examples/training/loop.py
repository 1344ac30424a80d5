"""The training itself, which can be interrupted anywhere and goes on as if nothing had been."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor, nn
from torch.nn import functional

from . import checkpoint, data, network, randomness
from .display import Display
from .distributed import Group, without_sync
from .ema import Ema
from .mixup import mix, mixed_loss
from .schedule import learning_rate
from .settings import Run, Settings
from .stopping import Stop

NOTE_EVERY = 10
"""Steps between looks at the loss, for which the host waits for the device."""
AUXILIARY = 0.3
"""Share of the losses of GoogLeNet's and Inception's auxiliary classifiers (Szegedy et al., 2015)."""


@dataclass
class Position:
    """How far a training is, and what it has found. All processes have the same."""

    epoch: int = 0
    done: int = 0
    """Steps of this epoch."""
    step: int = 0
    """Steps of all epochs."""
    best: float = -1.0
    history: list[dict[str, float]] = field(default_factory=list)


class Training:
    """One process's part of it.

    Raises:
        ValueError: the checkpoint to go on with has other settings; too few images for a step; and of `fit`: weights to
            be stored are not finite, an image can't be read.
    """

    def __init__(self, settings: Settings, run: Run, group: Group, console: Console) -> None:
        self.settings, self.run, self.group = settings, run, group
        if settings.deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # for matrix products; read at the first one
            torch.use_deterministic_algorithms(True, warn_only=True)
        self.data = data.load(settings)
        self.batches = data.batches_per_epoch(len(self.data.train), settings)
        self.steps = self.batches // settings.accumulate
        self.model, self.report = network.build(settings, len(self.data.train.classes))
        self.model.to(group.device)
        self.optimizer = network.optimizer(self.model, settings)
        self.ema = Ema(self.model, settings.ema) if settings.ema else None
        self.scaler = torch.amp.GradScaler(group.device.type, enabled=settings.amp == "fp16")
        self.position = Position()
        self.loss = torch.zeros((), dtype=torch.float64, device=group.device)
        """Summed over this process's images in this epoch."""
        randomness.seed_process(settings.seed, group.rank)
        # Numbers drawn from here on count, and nothing may be drawn between `restore` and the first step.
        self.states = randomness.states()
        self.resumed = run.checkpoint()
        if self.resumed is not None:
            self._load(checkpoint.read(self.resumed), self.resumed)
        if settings.compile:
            self.model.compile()
        self.wrapped = group.wrap(self.model)
        self.display = Display(run, console, group.first, self.position.step)

    def fit(self) -> bool:
        """False where SIGTERM ended it before the end."""
        position, display = self.position, self.display
        if self.group.first:
            for path in (self.run.last, self.run.best, self.run.metrics):
                checkpoint.remove_unfinished(path)
        with Stop() as stop, display:
            display.say(f"{self.settings.model}: {self.report}")
            if self.resumed is not None:
                self._write_metrics()  # a kill may have come between the checkpoint and them
                finished = position.epoch == self.settings.epochs
                where = "finished, nothing is left" if finished else f"epoch {position.epoch + 1}, step {position.done}"
                display.say(f"Going on from {self.resumed}: {where}")
            randomness.restore(self.states)
            while position.epoch < self.settings.epochs:
                if not self._epoch(stop):
                    self.save(self.run.last)
                    display.say(f"SIGTERM: stopped after step {position.step}, which {self.run.last} holds")
                    return False
                self._end_epoch()
        return True

    def _epoch(self, stop: Stop) -> bool:
        """What is left of it. False: to be stopped."""
        settings, position, group = self.settings, self.position, self.group
        self.wrapped.train()
        batches = data.TrainingBatches(
            len(self.data.train), settings, group.rank, position.epoch, position.done * settings.accumulate
        )
        self.display.epoch(f"epoch {position.epoch + 1}/{settings.epochs}", self.steps, position.done)
        loaded = iter(data.loader(self.data.train, batches, self.run.workers, group.device))
        for _ in range(position.done, self.steps):
            self._step([next(loaded) for _ in range(settings.accumulate)])
            self.after_step()
            if group.any(stop.asked):
                return False
            every = self.run.checkpoint_every
            if every and position.step % every == 0 and position.done < self.steps:
                self.save(self.run.last)
        return True

    def _step(self, batches: list[Any]) -> None:
        settings, position = self.settings, self.position
        rate = learning_rate(
            position.step,
            self.steps * settings.epochs,
            min(round(settings.warmup * self.steps), self.steps * settings.epochs - 1),
            settings.peak_rate,
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        for number, (images, labels) in enumerate(batches):
            with without_sync(self.wrapped, last=number == len(batches) - 1):
                self._backward(images, labels, number)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        position.step, position.done = position.step + 1, position.done + 1
        if self.ema is not None:
            self.ema.update(self.model, position.step)
        self.display.advance()
        if position.step % NOTE_EVERY == 0:
            mean = self.loss.item() / (position.done * settings.accumulate * settings.batch_size)
            self.display.note(f"loss {mean:.3f}")
            self.display.curves(position.step, loss=mean, learning_rate=rate)

    def _backward(self, images: Tensor, labels: Tensor, number: int) -> None:
        settings, group = self.settings, self.group
        labels = labels.to(group.device, non_blocking=True)
        key = (randomness.MIXUP, settings.seed, self.position.step, number, group.rank)
        mixed = mix(self._on_device(images), labels, settings.mixup, *key)
        with self._autocast():
            found = self.wrapped(mixed.images)
            logits, *auxiliary = found if isinstance(found, tuple) else (found,)
            loss = mixed_loss(logits, mixed, settings.label_smoothing)
            for others in auxiliary:
                loss = loss + AUXILIARY * mixed_loss(others, mixed, settings.label_smoothing)
        self.loss += loss.detach() * len(labels)
        self.scaler.scale(loss / settings.accumulate).backward()

    def after_step(self) -> None:
        """For tests: it is called when a step is done, before anything is written."""

    def _end_epoch(self) -> None:
        settings, position = self.settings, self.position
        images = self.batches * settings.batch_size * settings.processes
        metrics = {"epoch": position.epoch + 1, "train_loss": self.group.sum(self.loss).item() / images}
        metrics |= self._evaluate(self.model, "")
        if self.ema is not None:
            metrics |= self._evaluate(self.ema.model, "ema_")
        self.display.curves(position.step, **{name: value for name, value in metrics.items() if name != "epoch"})
        self.display.say("  ".join(f"{name} {value:.4g}" for name, value in metrics.items()))
        position.history.append(metrics)
        position.epoch, position.done = position.epoch + 1, 0
        self.loss.zero_()
        score = metrics["ema_accuracy" if self.ema is not None else "accuracy"]
        better = score > position.best
        position.best = max(score, position.best)
        # In this order: killed in between, the run repeats the epoch's end, and `best` comes out as it is.
        if better:
            self.save(self.run.best)
        self.save(self.run.last)
        self._write_metrics()

    def _write_metrics(self) -> None:
        if self.group.first:
            with checkpoint.replacing(self.run.metrics) as file:
                file.write(json.dumps(self.position.history, indent=1).encode())

    @torch.no_grad()
    def _evaluate(self, model: nn.Module, prefix: str) -> dict[str, float]:
        """Loss without smoothing, and the share of images that are put in their class."""
        self.group.share_buffers(model)
        model.eval()
        length = len(self.data.validation)
        batches = data.ValidationBatches(length, self.settings, self.group.rank)
        sums = torch.zeros(2, dtype=torch.float64, device=self.group.device)
        for images, labels in data.loader(self.data.validation, batches, self.run.workers, self.group.device):
            labels = labels.to(self.group.device, non_blocking=True)
            with self._autocast():
                logits = model(self._on_device(images)).float()
            sums[0] += functional.cross_entropy(logits, labels, reduction="sum")
            sums[1] += (logits.argmax(1) == labels).sum()
        loss, right = (self.group.sum(sums) / length).tolist()
        return {f"{prefix}loss": loss, f"{prefix}accuracy": right}

    def _on_device(self, images: Tensor) -> Tensor:
        layout = torch.channels_last if self.settings.channels_last else torch.contiguous_format
        return images.to(self.group.device, non_blocking=True, memory_format=layout)

    def _autocast(self) -> torch.autocast:
        dtype = torch.float16 if self.settings.amp == "fp16" else torch.bfloat16
        return torch.autocast(self.group.device.type, dtype, enabled=self.settings.amp != "none")

    def save(self, path: Path) -> None:
        """All processes call it; the first writes.

        Raises:
            ValueError: weights or statistics are not finite. The checkpoint from before stays.
        """
        broken = self.group.first and not all(t.isfinite().all() for t in self.model.state_dict().values())
        if self.group.any(broken):
            raise ValueError(
                f"learning_rate: weights or statistics are not finite after step {self.position.step}, at a peak rate "
                f"of {self.settings.peak_rate:.3g}; checkpoints in {self.run.out}, if any, are from before"
            )
        own = {"random": randomness.states(), "loss": self.loss.cpu()}
        everyone = self.group.gather_all(own)
        if not self.group.first:
            return
        position = self.position
        contents = {
            "settings": self.settings.as_dict(),
            "classes": self.data.train.classes,
            "position": dict(vars(position)),
            "model": self.model.state_dict(),
            "ema": None if self.ema is None else self.ema.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "processes": everyone,
        }
        checkpoint.write(path, contents)

    def _load(self, stored: dict[str, Any], path: Path) -> None:
        self.settings.check_same(stored["settings"], path)
        if stored["classes"] != self.data.train.classes:
            raise ValueError(f"data: expected the classes of {path}, got others: {self.data.train.classes}")
        self.model.load_state_dict(stored["model"])
        if self.ema is not None:
            self.ema.model.load_state_dict(stored["ema"])
        self.optimizer.load_state_dict(stored["optimizer"])
        self.scaler.load_state_dict(stored["scaler"])
        self.position = Position(**stored["position"])
        if path.parent.resolve() != self.run.out.resolve():
            self.position.best = Position.best  # the best checkpoint stays there; the next is the best here
        own = stored["processes"][self.group.rank]
        self.loss.copy_(own["loss"])
        self.states = own["random"]
