"""pytest tests/gpu, in a process that is started again without the test that killed it or its CUDA context."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path

from . import records
from .runner import ROOT, environment, work
from .setting import Setting

STARTS = 6
MARGIN_S = 8.0  # no test is begun with less
LAST = ("test_compile.py", "test_large.py")  # slow ones, and the least likely to find what others don't


def run(setting: Setting, folder: Path = ROOT / "tests" / "gpu") -> None:
    if importlib.util.find_spec("pytest") is None:
        setting.write(kind="note", text="pytest is not installed: no tests were run")
        return
    with tempfile.TemporaryDirectory() as outcomes:
        path = Path(outcomes) / "outcomes.jsonl"
        for _ in range(STARTS):
            ended = start(setting, folder, path)
            found = records.read(path)
            died = unfinished(found)
            if died:
                records.Log(path, "tests")(kind="test", name=died, outcome="crashed", text=ended)
            setting.write(kind="tests", **summary(records.read(path)))
            lost = any(record["kind"] == "lost" for record in found[-2:])
            if not (died or lost) or setting.seconds_left() < MARGIN_S:
                return


def start(setting: Setting, folder: Path, outcomes: Path) -> str:
    """One run of what has not been run yet; how it ended."""
    files = sorted(folder.glob("test_*.py"), key=lambda path: (path.name in LAST, path.name))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "bench.gpu.recorder"]
    # With importlib the checkout does not come before what was built.
    command += ["--import-mode=importlib", "-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT)]
    command += ["--tb=short", "-rfE", "--durations=10", *map(str, files)]
    # Of the plugins none is needed, and any may be there in any version.
    own = {
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "FUSEDNORM_OUTCOMES": str(outcomes),
        "FUSEDNORM_SECONDS": str(setting.seconds_left() - MARGIN_S),
    }
    try:
        limit = max(setting.seconds_left(), 1)
        done = subprocess.run(command, cwd=work(), env=environment(setting.dry) | own, check=False, timeout=limit)
    except subprocess.TimeoutExpired:
        return "ended for lack of time"
    return f"exit status {done.returncode}"


def unfinished(found: list[records.Record]) -> str | None:
    """The test that was begun and has no outcome."""
    ended = {record["name"] for record in found if record["kind"] == "test"}
    begun = [record["name"] for record in found if record["kind"] == "begin"]
    return next((name for name in reversed(begun) if name not in ended), None)


def summary(found: list[records.Record]) -> records.Record:
    counts: dict[str, int] = {}
    failed = []
    for record in found:
        if record["kind"] == "test":
            counts[record["outcome"]] = counts.get(record["outcome"], 0) + 1
            if record["outcome"] in ("failed", "crashed"):
                failed.append({"test": record["name"], "text": record["text"]})
    collected = max((record["count"] for record in found if record["kind"] == "collected"), default=0)
    notes = [record["text"] for record in found if record["kind"] in ("lost", "module")]
    return {"counts": counts, "not_run": collected - sum(counts.values()), "failed": failed, "notes": notes}
