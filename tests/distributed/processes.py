"""Processes that stay, each a rank of a gloo group over loopback: tests send them a function's name and arguments."""

from __future__ import annotations

import datetime
import importlib
import io
import multiprocessing
import os
import sys
import traceback
from typing import Any

import torch

TIMEOUT = 180.0  # of a whole call, and so of a process that waits for another in vain


class Processes:
    """`world` processes: run("cases", "train", ...) calls tests.distributed.cases.train(...) in each, for the list of
    what they return. Where one raises, so does run, and the next run starts new ones."""

    def __init__(self, world: int, folder: str) -> None:
        self.world, self.folder, self.starts = world, folder, 0
        self.members: list[Any] = []
        self.pipes: list[Any] = []

    def start(self) -> None:
        context = multiprocessing.get_context("forkserver")  # imports once, has no threads yet
        context.set_forkserver_preload(["tests.distributed.members"])
        self.starts += 1
        store = os.path.join(self.folder, f"store-{self.world}-{self.starts}")
        for rank in range(self.world):
            ours, theirs = context.Pipe()
            member = context.Process(target=_serve, args=(theirs, store, rank, self.world), daemon=True)
            member.start()
            theirs.close()
            self.members.append(member)
            self.pipes.append(ours)

    def stop(self) -> None:
        for member in self.members:
            member.kill()
            member.join()
        self.members, self.pipes = [], []

    def run(self, module: str, name: str, *arguments: Any) -> list[Any]:
        if not self.members:
            self.start()
        for pipe in self.pipes:
            pipe.send_bytes(_packed((module, name, arguments)))
        said: list[Any] = []
        for rank, pipe in enumerate(self.pipes):
            if not pipe.poll(TIMEOUT):
                good, found = False, f"rank {rank}: no answer in {TIMEOUT:.0f} s"
            else:
                good, found = _unpacked(pipe.recv_bytes())
            if not good:
                self.stop()
                raise AssertionError(found)
            said.append(found)
        return said


def _packed(found: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(found, buffer)
    return buffer.getvalue()


def _unpacked(found: bytes) -> Any:
    return torch.load(io.BytesIO(found), weights_only=False)


def _serve(pipe: Any, store: str, rank: int, world: int) -> None:
    torch.set_num_threads(1)
    if sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    wait = datetime.timedelta(seconds=TIMEOUT)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=world, timeout=wait
    )
    while True:
        try:
            module, name, arguments = _unpacked(pipe.recv_bytes())
        except EOFError:
            return
        try:
            function = getattr(importlib.import_module(f"tests.distributed.{module}"), name)
            answer = (True, function(*arguments))
        except Exception:
            answer = (False, f"rank {rank}:\n{traceback.format_exc()}")
        pipe.send_bytes(_packed(answer))
