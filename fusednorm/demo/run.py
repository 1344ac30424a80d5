"""The demo from beginning to end: train, compare, measure, print, plot."""

import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from torch import nn

from fusednorm.engine.backends import choose

from . import allocator
from .agreement import Agreement, compare
from .contenders import BATCH_NORM, COMPILED, CONTENDERS, FUSED, REFERENCE, Contender, build
from .costs import Step, peak_memory, step_times
from .data import TextureTask, load_task
from .network import TextureNet
from .plot import plot
from .report import print_agreement, print_results
from .results import Result
from .settings import Settings
from .training import train, training_step

Results = dict[Contender, Result]


def run(settings: Settings, out: Path, console: Console) -> None:
    start = time.perf_counter()
    out.mkdir(parents=True, exist_ok=True)
    task = load_task()
    results = {contender: _result(contender, task) for contender in CONTENDERS}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        trained = _train(results, task, settings, progress)
        agreement = _compare(trained, task, settings)
        _measure(results, task, settings, progress)
    rows = list(results.values())
    print_results(console, rows, settings)
    print_agreement(console, agreement)
    picture = plot(rows, settings, out)
    console.print(f"Curves and bars: {picture}. All of it took {time.perf_counter() - start:.0f} s.")


def _result(contender: Contender, task: TextureTask) -> Result:
    parameters = build(contender, len(task.classes), seed=0).parameters()
    notes = {
        BATCH_NORM: "nn.BatchNorm2d + add + ReLU",
        REFERENCE: "equations in PyTorch",
        COMPILED: "torch.compile of the row above, not trained again",
        FUSED: f"on backend {choose(torch.empty(0))!r}",
    }
    return Result(contender.title, sum(p.numel() for p in parameters), notes[contender])


def _train(results: Results, task: TextureTask, settings: Settings, progress: Progress) -> TextureNet:
    """Returns the reference's network, as the last seed left it."""
    networks: dict[Contender, TextureNet] = {}
    for contender in CONTENDERS:
        if contender.compiled:
            continue
        steps = settings.seeds * settings.epochs * settings.steps_per_epoch
        bar = progress.add_task(f"train {contender.title}", total=steps)
        for seed in range(settings.seeds):
            networks[contender] = build(contender, len(task.classes), seed)
            history = train(networks[contender], task, settings, seed, partial(progress.advance, bar))
            results[contender].histories.append(history)
    return networks[REFERENCE]


def _compare(trained: TextureNet, task: TextureTask, settings: Settings) -> list[Agreement]:
    fused = build(FUSED, len(task.classes), seed=0)
    crops, labels = task.test_set(settings.batch_size // len(task.classes) + 1, settings.crop)
    return compare(trained, fused, crops, labels)


def _measure(results: Results, task: TextureTask, settings: Settings, progress: Progress) -> None:
    """Times with the allocator as it is, then with freed memory kept, if it can be told so; then memory."""
    steps: dict[Contender, Step] = {}
    bar = progress.add_task("first step of each (torch.compile takes a while)", total=len(CONTENDERS))
    for contender in CONTENDERS:
        if contender.compiled and not settings.compile:
            results[contender].note = "left out: --no-compile"
            continue
        try:
            steps[contender] = _first_step(contender, task, settings)
        except Exception as error:
            # torch.compile needs a C++ compiler, which many machines lack: its row says so, the rest goes on.
            if not contender.compiled:
                raise
            results[contender].note = "does not run here, see below"
            results[contender].problem = _first_line(error)
        progress.advance(bar)
    _measure_times(results, steps, allocator.describe(), settings, progress)
    if allocator.keep_freed_memory():
        _measure_times(results, steps, allocator.KEPT, settings, progress)
    for contender, step in steps.items():
        results[contender].peak_bytes = peak_memory(step)


def _first_step(contender: Contender, task: TextureTask, settings: Settings) -> Step:
    """A training step on a batch of its own, run once."""
    network: nn.Module = build(contender, len(task.classes), seed=0)
    if contender.compiled:
        network.compile()
    rng = np.random.default_rng(0)
    crops, labels = task.training_batch(settings.batch_size, settings.cost_crop, rng)
    optimizer = torch.optim.AdamW(network.parameters(), settings.learning_rate)
    step = partial(training_step, network, optimizer, crops, labels)
    step()
    return step


def _measure_times(
    results: Results, steps: dict[Contender, Step], setting: str, settings: Settings, progress: Progress
) -> None:
    bar = progress.add_task(f"time steps, malloc: {setting}", total=settings.cost_rounds)
    times = step_times(steps, settings.cost_rounds, on_round=partial(progress.advance, bar))
    for contender, step_time in times.items():
        results[contender].times[setting] = step_time


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
