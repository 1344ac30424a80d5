"""What the demo finds out about a contender."""

import statistics
from dataclasses import dataclass, field

from .costs import StepTime
from .training import History


@dataclass
class Result:
    title: str
    parameters: int
    note: str = ""
    """How it was built, in few words."""
    problem: str = ""
    """Why it does not run here."""
    histories: list[History] = field(default_factory=list)
    """One a seed; none where the contender was not trained."""
    times: dict[str, StepTime] = field(default_factory=dict)
    """By allocator setting; empty where the contender does not run here."""
    peak_bytes: int | None = None

    def accuracies(self) -> list[float]:
        """At the end of training, one a seed."""
        return [history.accuracies[-1] for history in self.histories]

    def mean_accuracy(self) -> float:
        return statistics.mean(self.accuracies())

    def accuracy_deviation(self) -> float:
        return statistics.stdev(self.accuracies())
