"""The processes that the tests share."""

from collections.abc import Callable, Iterator

import pytest

from .processes import Processes


@pytest.fixture(scope="session")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[int], Processes]]:
    """processes(world): those of a world, started when first used."""
    folder = str(tmp_path_factory.mktemp("stores"))
    started: dict[int, Processes] = {}
    yield lambda world: started.setdefault(world, Processes(world, folder))
    for group in started.values():
        group.stop()
