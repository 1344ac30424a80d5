"""A pytest plugin: every outcome on disk at once, an end when time is up or the CUDA context is lost, no test twice."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from .records import Log, read
from .setting import context_is_lost

PATH = Path(os.environ["FUSEDNORM_OUTCOMES"])
UNTIL = time.monotonic() + float(os.environ["FUSEDNORM_SECONDS"])
write = Log(PATH, "tests")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what an earlier process has run."""
    before = {record["name"] for record in read(PATH) if record["kind"] == "test"}
    if not before:
        write(kind="collected", count=len(items))
    done = [item for item in items if item.nodeid in before]
    if done:
        config.hook.pytest_deselected(items=done)
        items[:] = [item for item in items if item.nodeid not in before]


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """A file that is skipped, or does not import, has no tests to tell of."""
    if report.outcome != "passed":
        write(kind="module", text=f"{report.nodeid}: {report.outcome}: {_short(report.longrepr)}")


def pytest_runtest_logstart(nodeid: str) -> None:
    write(kind="begin", name=nodeid)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """One outcome a test: the call's, or that of the set-up or tear-down that went wrong."""
    if report.when == "call" or report.outcome != "passed":
        write(kind="test", name=report.nodeid, outcome=report.outcome, text=_short(report.longrepr))


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    if time.monotonic() > UNTIL:
        item.session.shouldstop = "time is up"


def pytest_exception_interact(node: pytest.Item | pytest.Collector, call: object, report: object) -> None:
    """After a failure: is the GPU still of use to the tests that follow?"""
    import torch

    if torch.cuda.is_available() and context_is_lost():
        write(kind="lost", text=f"the CUDA context was lost in {node.nodeid}: the rest ran in another process")
        node.session.shouldstop = "the CUDA context is lost"


def _short(longrepr: object) -> str:
    """The line that says what went wrong."""
    if isinstance(longrepr, tuple):  # a skip: file, line, reason
        return str(longrepr[-1])
    crash = getattr(longrepr, "reprcrash", None)
    return str(crash.message if crash is not None else longrepr or "").strip()[:600]
