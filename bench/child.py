"""Functions called in a process of their own: glibc reads its settings once, as the process starts."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

T = TypeVar("T")


class Child:
    """A fresh process, in which functions are called one by one; what they keep in their modules stays there.

    Functions, arguments and results are pickled.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        """environment: all of the process's variables."""
        self._pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
        with _environment(environment):
            self.call(os.getpid)  # the process starts with the first call

    def start(self, function: Callable[..., T], *arguments: object) -> Future[T]:
        return self._pool.submit(function, *arguments)

    def call(self, function: Callable[..., T], *arguments: object) -> T:
        return self.start(function, *arguments).result()

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *exception: object) -> None:
        self._pool.shutdown()


@contextlib.contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
