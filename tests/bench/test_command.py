"""The command as a user runs it: in its own process, since it restarts itself."""

import csv
import json
import subprocess
import sys
from pathlib import Path

from bench.names import Layer
from bench.store import read_json

ROOT = Path(__file__).parents[2]


def bench(*arguments: str, module: str = "bench") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


EAGER = ("--contenders", "fused,reference,official,BatchNorm2d,GroupNorm,copy", "--threads", "1", "--rounds", "2")


def test_smoke(tmp_path: Path) -> None:
    path, lines, pictures = tmp_path / "run.json", tmp_path / "run.csv", tmp_path / "pictures"
    done = bench(
        *("layers", "--layers", "an", "--shapes", "8x8x8x8,8x16x4x4", "--layouts", "channels_last", *EAGER),
        *("--json", str(path), "--csv", str(lines), "--plot", str(pictures), "--verbose"),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for text in ("8x16x4x4", "residual+relu, train, float32, channels_last", "allocator", "geometric mean"):
        assert text in done.stdout

    (run,) = read_json(path)
    assert run.stamp["threads"] == "1"
    assert run.stamp["commit"]
    assert run.plan["layers"] == ["an"]
    assert {record.shape for record in run.records} == {(8, 8, 8, 8), (8, 16, 4, 4)}
    assert {record.form for record in run.records} == {"bare", "residual+relu"}
    assert all(record.rounds == 2 and record.threads == 1 for record in run.records)
    assert json.loads(path.read_text())[0]["records"][0]["section"] == "layers"

    with lines.open() as file:
        rows = list(csv.DictReader(file))
    batch_norm = [row for row in rows if row["contender"] == "BatchNorm2d" and row["to"] == "an torch"]
    assert len(batch_norm) == 4
    assert all(float(row["ratio_low"]) <= float(row["ratio"]) <= float(row["ratio_high"]) for row in batch_norm)
    assert (pictures / "layers.png").stat().st_size > 10_000

    same = bench(str(path), str(path), module="bench.compare")
    assert same.returncode == 0, same.stdout + same.stderr
    assert "0 worse, 0 better, 0 missing" in same.stdout
    rows_of_targets = bench(str(path), module="bench.targets").stdout
    assert "time over the floor" in rows_of_targets
    assert bench(str(path), str(tmp_path / "again"), module="bench.plot").returncode == 0
    assert (tmp_path / "again" / "layers.png").exists()


def test_every_layer_agrees_with_its_reference() -> None:
    """The command checks it before it measures."""
    done = bench("layers", "--layers", "all", "--shapes", "8x32x6x6", "--contenders", "fused", *EAGER[2:])
    assert done.returncode == 0, done.stdout + done.stderr
    for layer in Layer:
        assert f"layers: {layer.value} " in done.stdout
    assert "floor 14 units" in done.stdout  # NA's 5 and 7, and a residual's 2


def test_bad_arguments_end_with_a_message() -> None:
    for arguments, message in (
        (("--shapes", "2x4x8"), "'2x4x8' has 3 dimensions, 4 are needed"),
        (("--layers", "lrn"), "'lrn' is not a layer"),
        (("--contenders", "fast"), "'fast' is not a contender"),
        (("--device", "tpu"), "expected cpu or cuda, got 'tpu'"),
        (("--backends", "abacus"), "'abacus' is not a backend"),
        (("--json", "no/such/folder/run.json"), "there is no folder"),
    ):
        done = bench("layers", *arguments)
        assert done.returncode == 2
        assert message in " ".join(done.stderr.replace("│", " ").split())
        assert "Traceback" not in done.stderr
