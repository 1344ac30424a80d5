from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench.compare import changes, main, missing
from bench.record import Ratio, Record
from bench.store import Run, read_json, write_json

CASE = Record(section="layers", contender="BatchNorm2d", shape=(2, 3, 4, 5), median_ms=7.0)


def records(*ratio: float, contender: str = "BatchNorm2d") -> list[Record]:
    low, median, high = ratio
    return [replace(CASE, contender=contender, ratios={"an cpu": (low, median, high)})]


@pytest.mark.parametrize(
    ("old", "new", "worse", "better"),
    [
        ((2.0, 2.0, 2.0), (2.0, 2.0, 2.0), False, False),
        ((2.0, 2.0, 2.0), (1.8, 1.8, 1.8), True, False),  # no noise: 5 % are let through
        ((2.0, 2.0, 2.0), (1.95, 1.95, 1.95), False, False),
        ((2.0, 2.0, 2.0), (2.2, 2.2, 2.2), False, True),
        ((1.8, 2.0, 2.2), (1.8, 1.8, 1.8), False, False),  # the old run's quartiles: 2 * 10 %
        ((2.0, 2.0, 2.0), (1.6, 1.8, 2.0), False, False),  # the new one's
        ((1.8, 2.0, 2.2), (1.4, 1.4, 1.4), True, False),
    ],
)
def test_worse_and_better_than_noise(old: Ratio, new: Ratio, worse: bool, better: bool) -> None:
    (change,) = changes(records(*old), records(*new))
    assert (change.worse, change.better) == (worse, better)


def test_margin_and_tolerance() -> None:
    old, new = records(1.8, 2.0, 2.2), records(1.4, 1.4, 1.4)
    assert next(changes(old, new)).worse
    assert not next(changes(old, new, margin=3)).worse
    assert not next(changes(old, new, tolerance=0.5)).worse
    assert next(changes(old, records(1.95, 1.95, 1.95), margin=0, tolerance=0)).worse


def test_noise_of_both_runs_is_joined_as_roots_of_squares() -> None:
    (change,) = changes(records(1.94, 2.0, 2.06), records(1.92, 2.0, 2.08), tolerance=0)
    assert change.allowed == pytest.approx(2 * 0.05)


def test_times_are_not_compared() -> None:
    slower = [replace(record, median_ms=700.0) for record in records(2, 2, 2)]
    (change,) = changes(records(2, 2, 2), slower)
    assert not change.worse


def test_other_cases_are_missing_not_compared() -> None:
    old = records(2, 2, 2) + records(2, 2, 2, contender="copy")
    assert len(list(changes(old, records(1, 1, 1)))) == 1
    (line,) = missing(old, records(1, 1, 1))
    assert line == "copy (layers, float32, 2x3x4x5, 1 threads) / an cpu"
    assert missing(records(1, 1, 1), old) == []


def status(folder: Path, old: list[Record], new: list[Record]) -> tuple[int, str]:
    import typer

    app = typer.Typer()
    app.command()(main)
    for name, found in (("old", old), ("new", new)):
        write_json(folder / f"{name}.json", [Run({"CPU": "some"}, found)])
    result = CliRunner().invoke(app, [str(folder / "old.json"), str(folder / "new.json")])
    return result.exit_code, result.output


def test_exit_status(tmp_path: Path) -> None:
    assert status(tmp_path, records(2, 2, 2), records(2, 2, 2))[0] == 0
    assert status(tmp_path, records(2, 2, 2), records(3, 3, 3))[0] == 0
    code, said = status(tmp_path, records(2, 2, 2), records(1, 1, 1))
    assert code == 1
    assert "worse" in said
    code, said = status(tmp_path, records(2, 2, 2), records(2, 2, 2, contender="copy"))
    assert code == 1, "nothing was compared"
    assert "not in the new run: 1" in said


def test_a_file_gives_back_what_was_written(tmp_path: Path) -> None:
    written = [Run({"CPU": "some"}, records(1, 2, 3), {"layers": ["an"]})]
    write_json(tmp_path / "run.json", written)
    assert read_json(tmp_path / "run.json") == written
