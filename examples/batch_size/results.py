"""What trials found out: a file that always holds all finished ones, and a table of it."""

from __future__ import annotations

import copy
import json
import statistics
from pathlib import Path

from examples.training.checkpoint import replacing

from .trial import Budget, Trial

BEGIN, END = "<!-- table: begin, written by examples/small_batch.py -->", "<!-- table: end -->"


class Results:
    """Accuracies by trial, in `path`.

    Raises:
        ValueError: the file is of another budget.
    """

    def __init__(self, path: Path, budget: Budget) -> None:
        self.path, self.budget = path, budget
        self.accuracies: dict[Trial, float] = {}
        if not path.exists():
            return
        stored = json.loads(path.read_text())
        for name, value in budget.as_dict().items():
            if stored["budget"].get(name) != value:
                raise ValueError(f"{name}: expected {stored['budget'].get(name)!r}, as in {path}, got {value!r}")
        self.accuracies = {Trial(t["norm"], t["batch"], t["seed"]): t["accuracy"] for t in stored["trials"]}

    def add(self, trial: Trial, accuracy: float) -> None:
        """It is on the disk afterwards."""
        self.accuracies[trial] = accuracy
        trials = [{**t._asdict(), "accuracy": a} for t, a in sorted(self.accuracies.items())]
        with replacing(self.path) as file:
            file.write(json.dumps({"budget": self.budget.as_dict(), "trials": trials}, indent=1).encode())

    def among(self, trials: list[Trial]) -> Results:
        """Of those alone, to look at: the file may hold more."""
        some = copy.copy(self)
        some.accuracies = {trial: self.accuracies[trial] for trial in trials if trial in self.accuracies}
        return some

    def of(self, norm: str, batch: int) -> list[float]:
        """In %, by seed."""
        return [100 * a for t, a in sorted(self.accuracies.items()) if (t.norm, t.batch) == (norm, batch)]


def mean_and_deviation(values: list[float]) -> tuple[float, float]:
    """The deviation over seeds, unbiased; 0 of one."""
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def table(results: Results, norms: list[str], batches: list[int]) -> str:
    """Markdown: mean ± deviation over seeds."""
    lines = ["| samples per batch | " + " | ".join(map(str, batches)) + " |", "|---" * (len(batches) + 1) + "|"]
    for norm in norms:
        cells = []
        for batch in batches:
            values = results.of(norm, batch)
            cells.append("{:.1f} ± {:.1f}".format(*mean_and_deviation(values)) if values else "")
        lines.append(f"| {norm} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def write_between_markers(page: Path, text: str) -> None:
    """Put text where the page has its table.

    Raises:
        ValueError: the page lacks the markers.
    """
    before, begin, rest = page.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"docs: expected the lines {BEGIN!r} and {END!r} in {page}")
    with replacing(page) as file:
        file.write(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}".encode())
