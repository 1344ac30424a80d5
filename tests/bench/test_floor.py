import pytest

from bench.floor import floor_seconds, floor_units
from bench.layers import LAYERS
from bench.names import Form, Layer, Mode


@pytest.mark.parametrize(
    ("residual", "mode", "units"),
    [
        (False, Mode.forward, 3),  # read x; read x, write y
        (True, Mode.forward, 4),  # + read residual
        (False, Mode.train, 3 + 5),  # + read dy, x; read dy, x, write dx
        (True, Mode.train, 4 + 6),  # + write dresidual
        (False, Mode.eval, 3),
        (True, Mode.eval, 4),
    ],
)
def test_units(residual: bool, mode: Mode, units: int) -> None:
    assert floor_units(residual=residual, mode=mode) == units


def test_batch_norm_needs_no_statistics_in_evaluation_but_attention_does() -> None:
    assert LAYERS[Layer.bn].units(Form.bare, Mode.eval) == 2
    assert LAYERS[Layer.bn].units(Form.residual_relu, Mode.eval) == 3
    assert LAYERS[Layer.bn].units(Form.bare, Mode.forward) == 3
    assert LAYERS[Layer.an].units(Form.bare, Mode.eval) == 3
    assert LAYERS[Layer.na].units(Form.residual_relu, Mode.train) == 5 + 7 + 2


def test_the_copies_are_six_units() -> None:
    assert floor_seconds(6, copy_seconds=0.25) == 0.25
    assert floor_seconds(15, copy_seconds=0.25) == 0.625
