"""What a stage finds out, one JSON object a line, on disk as soon as it is known: a run that is cut leaves the rest."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Record = dict[str, Any]


class Log:
    """Records of one stage go to the end of a file that all stages share."""

    def __init__(self, path: Path, stage: str) -> None:
        self._path, self._stage = path, stage

    def __call__(self, **values: Any) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps({"stage": self._stage, **values}) + "\n")


def read(path: Path) -> list[Record]:
    """Every whole record so far."""
    return list(_lines(path)) if path.exists() else []


def _lines(path: Path) -> Iterator[Record]:
    for line in path.read_text().splitlines():
        try:
            yield json.loads(line)
        except ValueError:  # the process was ended in the middle of it
            continue
