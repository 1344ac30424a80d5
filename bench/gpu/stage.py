"""`python -m bench.gpu.stage NAME`: one stage, in this process."""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from pathlib import Path

from .plan import STAGES
from .records import Log
from .setting import Setting


def main() -> int:
    started = time.monotonic()
    parser = argparse.ArgumentParser(prog="python -m bench.gpu.stage")
    parser.add_argument("name", choices=[stage.name for stage in STAGES])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--commit", default="")
    options = parser.parse_args()
    setting = Setting(
        out=options.out,
        write=Log(options.out / "records.jsonl", options.name),
        until=started + options.seconds,
        dry=options.dry_run,
        quick=options.quick,
        commit=options.commit,
    )
    importlib.import_module(f"bench.gpu.stage_{options.name}").run(setting)
    return 0


if __name__ == "__main__":
    sys.exit(main())
