"""Threads: as many as torch is told to use, and so one in a DataLoader's workers, which are many already."""

import os
import sys

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

import fusednorm

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="counts threads in /proc")


def layer_threads() -> int:
    """How many threads a training step of a large map leaves in this process, above those before."""
    before = len(os.listdir("/proc/self/task"))
    layer = fusednorm.AttentiveBatchNorm2d(64, act="relu")
    x = torch.randn(8, 64, 32, 32, requires_grad=True)
    layer(x, x.detach()).sum().backward()
    return len(os.listdir("/proc/self/task")) - before


class Counts(Dataset):
    """One item: torch's number of threads, and the threads that a layer started, counted where it is loaded.

    Not two: with the first item the worker starts a thread that sends it.
    """

    def __init__(self, threads: int | None = None) -> None:
        self.threads = threads

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> tuple[int, int]:
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        return torch.get_num_threads(), layer_threads()


def loaded(dataset: Counts, start: str) -> tuple[int, int]:
    ((threads, started),) = DataLoader(dataset, num_workers=1, multiprocessing_context=start, timeout=120)
    return int(threads), int(started)


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_a_worker_gets_no_further_threads(start: str) -> None:
    """A forked one has no use for the pool that its parent had."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        layer_threads()
        assert loaded(Counts(), start) == (1, 0)
    finally:
        torch.set_num_threads(before)


@pytest.mark.skipif(not fusednorm.backends()["cpu"].available, reason="counts the threads of native code")
def test_threads_would_be_seen() -> None:
    assert loaded(Counts(threads=2), "spawn") == (2, 1)
