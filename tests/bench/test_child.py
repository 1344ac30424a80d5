import os

import pytest

from bench.child import Child


def test_the_child_has_the_environment_and_this_process_keeps_its_own() -> None:
    before = dict(os.environ)
    with Child({**before, "FUSEDNORM_TEST": "1"}) as child:
        assert child.call(os.getenv, "FUSEDNORM_TEST") == "1"
        assert child.call(os.getpid) == child.call(os.getpid) != os.getpid()
    assert dict(os.environ) == before


def test_an_error_comes_back() -> None:
    with Child(dict(os.environ)) as child, pytest.raises(ValueError, match="invalid literal"):
        child.call(int, "one")
