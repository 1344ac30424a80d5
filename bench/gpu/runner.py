"""Runs the stages one after another, each in a process of its own, and keeps the results on disk up to date."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from . import records
from .plan import STOP_S, Stage, share
from .tables import brief, render

ROOT = Path(__file__).parents[2]
WORK = ROOT / "build" / "gpu"  # ignored by git; where stages run
SITE = WORK / "site"  # where the build stage puts the package
RENDER_EVERY_S = 10.0


@dataclass(frozen=True)
class Options:
    out: Path
    budget_s: float
    dry: bool
    quick: bool
    commit: str


def work() -> Path:
    """WORK, made if it is not there: the runner may not have been what started a stage."""
    WORK.mkdir(parents=True, exist_ok=True)
    return WORK


def environment(dry: bool) -> dict[str, str]:
    """For everything that imports fusednorm: what the build stage built comes before the checkout.

    In a dry run nothing is built, and the checkout's own installation serves.
    """
    current = dict(os.environ)
    folders = [] if dry else [str(SITE)]
    inherited = [path for path in current.get("PYTHONPATH", "").split(os.pathsep) if path]
    return current | {"PYTHONPATH": os.pathsep.join([*folders, str(ROOT), *inherited]), "PYTHONUNBUFFERED": "1"}


def run(stages: Sequence[Stage], options: Options) -> int:
    """0 if every stage ran to its end."""
    started = time.monotonic()
    path = options.out / "records.jsonl"
    path.unlink(missing_ok=True)
    complete = True
    try:
        with (options.out / "log.txt").open("w") as log:
            for number, stage in enumerate(stages):
                write = records.Log(path, stage.name)
                remaining = options.budget_s - (time.monotonic() - started)
                seconds = share(stage, stages[number + 1 :], remaining)
                if seconds is None:
                    status = f"dropped: {max(remaining, 0):.0f} s were left of {options.budget_s:.0f}"
                    write(kind="end", status=status, seconds=0.0)
                else:
                    print(f"{stage.name}: {stage.what}; at most {seconds:.0f} s", flush=True)
                    begun = time.monotonic()
                    status = _run_stage(stage, seconds, options, log.fileno())
                    write(kind="end", status=status, seconds=round(time.monotonic() - begun, 1), given_s=round(seconds))
                print(f"{stage.name}: {status}, {time.monotonic() - started:.0f} s in all", flush=True)
                complete = complete and status == "done"
                _store(options.out)
    finally:
        found = _store(options.out)
        _plot(found, options.out / "plot.png")
        path.unlink(missing_ok=True)  # results.json has all of it
    print(f"\n{brief(found)}\n\nall of it: table.txt, results.json and log.txt in {options.out}")
    return 0 if complete else 2


def _run_stage(stage: Stage, seconds: float, options: Options, log: int) -> str:
    command = [sys.executable, "-m", "bench.gpu.stage", stage.name, "--out", str(options.out)]
    command += ["--seconds", f"{max(seconds - STOP_S, 1):.1f}", "--commit", options.commit]
    command += ["--dry-run"] if options.dry else []
    command += ["--quick"] if options.quick else []
    os.write(log, f"\n==== {stage.name} ====\n".encode())
    process = subprocess.Popen(
        command, cwd=work(), env=environment(options.dry), stdout=log, stderr=log, start_new_session=True
    )
    deadline = time.monotonic() + seconds
    try:
        while (left := deadline - time.monotonic()) > 0:
            try:
                code = process.wait(min(left, RENDER_EVERY_S))
            except subprocess.TimeoutExpired:
                _store(options.out)
                continue
            return "done" if code == 0 else f"failed, exit status {code}: see log.txt"
        return f"ended at its limit of {seconds:.0f} s"
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """The stage's process and whatever it started: compilers, pytest, the sanitizer."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _store(out: Path) -> list[records.Record]:
    found = records.read(out / "records.jsonl")
    (out / "results.json").write_text(json.dumps(found, indent=1) + "\n")
    (out / "table.txt").write_text(render(found))
    return found


def _plot(found: list[records.Record], path: Path) -> None:
    """A picture is worth no failure."""
    try:
        from .plot import plot

        plot(found, path)
    except ImportError as error:
        print(f"no plot: {error}")
    except Exception as error:
        print(f"no plot: {type(error).__name__}: {error}")
