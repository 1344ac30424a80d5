"""What a training shows: a bar in the terminal, curves for TensorBoard. Only the first process shows anything."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from .settings import Run


class Display:
    """`step` is the number of steps done; of a run that goes on from a checkpoint, later curves are taken back."""

    def __init__(self, run: Run, console: Console, first: bool, step: int) -> None:
        self.console = console if first else Console(quiet=True)
        self.writer = _writer(run, step) if first and run.tensorboard else None
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self.bar = Progress(
            *columns, TextColumn("{task.fields[note]}"), console=self.console, disable=not (first and run.progress)
        )
        self.task = self.bar.add_task("", note="")

    def __enter__(self) -> Display:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()
        if self.writer is not None:
            self.writer.close()

    def epoch(self, name: str, steps: int, done: int) -> None:
        self.bar.reset(self.task, total=steps, completed=done, description=name)

    def advance(self) -> None:
        self.bar.advance(self.task)

    def note(self, text: str) -> None:
        self.bar.update(self.task, note=text)

    def say(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def curves(self, step: int, **values: float) -> None:
        if self.writer is not None:
            for name, value in values.items():
                self.writer.add_scalar(name, value, step)


def _writer(run: Run, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ValueError("tensorboard: it is not installed (pip install tensorboard), or take --no-tensorboard") from (
            error
        )
    return SummaryWriter(str(run.out / "curves"), purge_step=step + 1)
