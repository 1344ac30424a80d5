"""The command as a user runs it: in its own process, since it restarts itself."""

import json
import subprocess
import sys
from pathlib import Path

from bench.shapes import Layer

ROOT = Path(__file__).parents[2]


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_smoke(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    done = bench(*("an", "--shapes", "2x4x8x8", "--rounds", "2", "--no-compile", "--threads", "1", "--json", str(path)))
    assert done.returncode == 0, done.stdout + done.stderr
    for text in (
        "2x4x8x8 float32 nchw",
        "2x4x8x8 float32 channels_last",
        "allocator",
        "BatchNorm + add + ReLU",
    ):
        assert text in done.stdout

    (run,) = json.loads(path.read_text())
    assert run["stamp"]["threads"] == "1"
    assert run["stamp"]["commit"]
    assert [result["layout"] for result in run["results"]] == ["nchw", "channels_last"]
    for result in run["results"]:
        rows = {row["name"]: row for row in result["rows"]}
        assert list(rows) == ["fused", "reference", "BatchNorm + add + ReLU", "floor (10 units)"]
        assert rows["fused"]["over_fused"] == 1
        assert rows["floor (10 units)"]["over_floor"] == 1
        assert rows["fused"]["max_difference"] < 1e-3
        assert rows["reference"]["max_difference"] is None
        assert all(row["low_ms"] <= row["median_ms"] <= row["high_ms"] for row in result["rows"])


def test_every_layer_agrees_with_its_reference() -> None:
    """The command checks it before it measures."""
    done = bench("layers", "--shapes", "2x32x6x6", "--rounds", "2", "--no-compile", "--threads", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    for layer in Layer:
        assert f"{layer.value} with residual and ReLU" in done.stdout
    assert "floor (14 units)" in done.stdout  # NA's 5 and 7, and a residual's 2


def test_bad_arguments_end_with_a_message() -> None:
    done = bench("an", "--shapes", "2x4x8")
    assert done.returncode == 2
    assert "'2x4x8' has 3 dimensions, 4 are needed" in done.stderr
    assert "Traceback" not in done.stderr
