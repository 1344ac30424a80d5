"""`python -m bench.gpu` without a GPU: that it says so, and its whole flow on the CPU."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]


def bench(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench.gpu", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu_is_said_in_one_line(tmp_path: Path) -> None:
    done = bench("--out", str(tmp_path / "results"))
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "bench.gpu: no GPU: PyTorch finds no CUDA device here (--dry-run shows the command at work without one)"
    ]
    assert done.stderr == ""
    assert not (tmp_path / "results").exists()


def test_an_unknown_stage_is_named(tmp_path: Path) -> None:
    done = bench("--only", "stamp,polish", "--out", str(tmp_path))
    assert done.returncode == 2
    assert "'polish' is not a stage: choose from stamp, build, check," in done.stderr


@pytest.mark.slow
def test_dry_run(tmp_path: Path) -> None:
    """Every stage in its process, tiny; its records, and its table."""
    done = bench("--dry-run", "--quick", "--out", str(tmp_path), "--commit", "c0ffee")
    log = (tmp_path / "log.txt").read_text()
    assert done.returncode == 0, done.stdout + done.stderr + log

    found = json.loads((tmp_path / "results.json").read_text())
    kinds = {record["kind"] for record in found}
    assert kinds >= {"stamp", "build", "check", "kernel", "layer", "host", "compiled", "tests", "end"}
    assert not [record for record in found if record["kind"] in ("problem", "note")]
    assert all(record["status"] == "done" for record in found if record["kind"] == "end")
    assert all(record["ok"] for record in found if record["kind"] == "check")
    (stamp,) = (record["values"] for record in found if record["kind"] == "stamp")
    assert stamp["commit"] == "c0ffee"
    assert "dry run" in stamp

    table = (tmp_path / "table.txt").read_text()
    for text in (
        "Against float64",
        "Streaming kernels",
        "forward + backward",
        "Tiny maps",
        "tests/gpu:",
        "no CUDA device",
    ):
        assert text in table
    assert not (tmp_path / "records.jsonl").exists()
