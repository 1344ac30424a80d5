"""examples/train.py, which sends itself a signal when a step is done.

python -m tests.examples.interrupted SIGKILL 7 ...
SIGTERM@1: only the process of rank 1. SIGTERM@all: all processes of its process group, as a scheduler may send it.
"""

import os
import signal
import sys

from examples import train
from examples.training.loop import Training

name, step, *arguments = sys.argv[1:]
name, _, rank = name.partition("@")


def signal_itself(self: Training) -> None:
    if self.position.step == int(step) and (not rank or self.group.rank == int(rank)):
        os.kill(os.getpid(), getattr(signal, name))


def signal_all(self: Training) -> None:
    if self.position.step == int(step):
        os.killpg(os.getpgrp(), getattr(signal, name))


Training.after_step = signal_all if rank == "all" else signal_itself
train.app(arguments)
