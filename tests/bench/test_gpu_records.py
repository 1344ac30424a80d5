"""What is on disk when a run is cut, and what the tables make of failures."""

from pathlib import Path

from bench.gpu.records import Log, read
from bench.gpu.tables import render
from bench.gpu.text import grid


def test_a_line_cut_short_costs_no_other(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    assert read(path) == []
    Log(path, "a")(kind="note", text="one")
    Log(path, "b")(kind="note", text="two")
    with path.open("a") as file:
        file.write('{"stage": "b", "ki')
    assert read(path) == [
        {"stage": "a", "kind": "note", "text": "one"},
        {"stage": "b", "kind": "note", "text": "two"},
    ]


def test_what_went_wrong_stands_first() -> None:
    case = {"shape": [2, 3], "dtype": "float32", "layout": "nchw", "layer": "batch", "training": True}
    errors = {"tensor": "y", "max": float("nan"), "rms": 0.1, "plain_max": 0.0, "plain_rms": 0.0}
    found = [
        {"stage": "stamp", "kind": "stamp", "values": {"GPU": "some GPU"}},
        {
            "stage": "build",
            "kind": "build",
            "ok": True,
            "seconds": 1.0,
            "arch": "9.0",
            "extensions": [],
            "backends": {"cuda": [False, "it was not built"], "torch": [True, "always"]},
            "said": [],
            "problem": [],
        },
        {"stage": "check", "kind": "check", "backend": "triton", **case, "ok": False, "problem": "y: error", **errors},
        {"stage": "check", "kind": "problem", "case": "triton batch", "text": "RuntimeError: no"},
        {"stage": "layers", "kind": "end", "status": "dropped: 3 s were left of 540", "seconds": 0.0},
    ]
    text = render(found)
    head = text[: text.index("some GPU")]
    assert "NO cuda BACKEND: it was not built" in head
    assert "triton IS WRONG in 2 cases" in head
    assert "stage layers: dropped: 3 s were left of 540" in head
    assert "check: triton batch: RuntimeError: no" in head
    assert "WRONG: triton batch 2x3 float32 nchw training: y: error" in text


def test_no_records_make_a_table_too() -> None:
    assert render([]).strip() == ""


def test_figures_stand_to_the_right() -> None:
    assert grid(["name", "ms"], [["a", "1.5"], ["long name", "10.25"]]).splitlines() == [
        "name          ms",
        "a            1.5",
        "long name  10.25",
    ]
