"""`python -m bench.gpu`: everything worth knowing about the library on this machine's GPU, within a budget of time."""

from __future__ import annotations

import argparse
import re
import signal
import sys
from datetime import datetime, timezone
from pathlib import Path
from types import FrameType

from .plan import STAGES
from .runner import ROOT, Options, run

BUDGET = 540.0


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.gpu",
        description="Build, check, time and test fusednorm on one GPU; stages: "
        + "; ".join(f"{stage.name}: {stage.what}" for stage in STAGES),
    )
    parser.add_argument("--out", type=Path, help="folder for the results [bench/results/gpu-NAME-DATE]")
    parser.add_argument("--only", help="stages, as in check,kernels (the stamp is always taken)")
    parser.add_argument("--budget-s", type=float, default=BUDGET, help=f"seconds for everything [{BUDGET:.0f}]")
    parser.add_argument("--quick", action="store_true", help="fewer cases and rounds")
    parser.add_argument("--dry-run", action="store_true", help="tiny cases on the CPU, to see that the command works")
    parser.add_argument("--commit", default="", help="for the stamp, where the checkout came without its .git")
    options = parser.parse_args(arguments)
    names = [stage.name for stage in STAGES]
    options.only = names if options.only is None else [name.strip() for name in options.only.split(",")]
    for name in options.only:
        if name not in names:
            parser.error(f"{name!r} is not a stage: choose from {', '.join(names)}")
    return options


def device_name(dry: bool) -> str | None:
    """The GPU's name; None where there is none."""
    if dry:
        return "dry-run"
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else None


def default_folder(name: str) -> Path:
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    return ROOT / "bench" / "results" / f"gpu-{slug}-{datetime.now(timezone.utc):%Y-%m-%d-%H%M}"


def stop(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)  # through the `finally` that ends the stage's process and writes the tables


def main() -> int:
    options = parse()
    name = device_name(options.dry_run)
    if name is None:
        print("bench.gpu: no GPU: PyTorch finds no CUDA device here (--dry-run shows the command at work without one)")
        return 1
    out: Path = (options.out or default_folder(name)).resolve()
    out.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, stop)
    chosen = [stage for stage in STAGES if stage.name in options.only or stage.name == "stamp"]
    return run(chosen, Options(out, options.budget_s, options.dry_run, options.quick, options.commit))


if __name__ == "__main__":
    sys.exit(main())
