import pytest

from bench.floor import floor_seconds, floor_units


@pytest.mark.parametrize(
    ("residual", "backward", "units"),
    [
        (False, False, 3),  # read x; read x, write y
        (True, False, 4),  # + read residual
        (False, True, 3 + 5),  # + read dy, x; read dy, x, write dx
        (True, True, 4 + 6),  # + write dresidual
    ],
)
def test_units(residual: bool, backward: bool, units: int) -> None:
    assert floor_units(residual=residual, backward=backward) == units


def test_the_copies_are_six_units() -> None:
    assert floor_seconds(6, copy_seconds=0.25) == 0.25
    assert floor_seconds(15, copy_seconds=0.25) == 0.625
