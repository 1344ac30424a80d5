"""Runs as files: JSON with everything, CSV for spreadsheets."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .plan import Plan
from .record import Record, from_json


@dataclass(frozen=True)
class Run:
    """What one process measured, on what, and what it was asked for."""

    stamp: Mapping[str, str]
    records: Sequence[Record]
    plan: Mapping[str, Any] = field(default_factory=dict)


def run_of(stamp: Mapping[str, str], plan: Plan, records: Sequence[Record]) -> Run:
    return Run(stamp, records, json.loads(json.dumps(asdict(plan))))


def write_json(path: Path, runs: Sequence[Run]) -> None:
    """A file holds a list of runs; a line of it one record."""
    texts = []
    for run in runs:
        records = ",\n".join(json.dumps(record.to_json()) for record in run.records)
        head = json.dumps({"stamp": dict(run.stamp), "plan": dict(run.plan)})
        texts.append(f'{head[:-1]}, "records": [\n{records}\n]}}')
    path.write_text("[" + ",\n".join(texts) + "]\n")


def read_json(path: Path) -> list[Run]:
    return [
        Run(run["stamp"], [from_json(record) for record in run["records"]], run["plan"])
        for run in json.loads(path.read_text())
    ]


def write_csv(path: Path, records: Sequence[Record]) -> None:
    """A line for each record and each of its ratios; one without any has a line too."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        names = [name for name in Record.__dataclass_fields__ if name != "ratios"]
        writer.writerow([*names, "to", "ratio_low", "ratio", "ratio_high"])
        for record in records:
            values = ["x".join(map(str, v)) if name == "shape" else v for name, v in asdict(record).items()][:-1]
            for to, ratio in record.ratios.items() or [("", ("", "", ""))]:
                writer.writerow([*values, to, *ratio])
