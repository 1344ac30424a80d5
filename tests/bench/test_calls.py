import math
from dataclasses import replace

from bench.calls import contenders, training
from bench.names import Dtype, Form, Kind, Layer, Layout, Mode, Section
from bench.plan import Plan

SMALL = (2, 4, 8, 8)
PLAN = Plan(
    layers=(Layer.an, Layer.gn),
    maps=((SMALL, Dtype.float32), (SMALL, Dtype.bfloat16)),
    layouts=(Layout.channels_last, Layout.nchw),
    modes=(Mode.train,),
    forms=tuple(Form),
    kinds=tuple(Kind),
    backends=("torch",),
    device="cpu",
    threads=1,
    rounds=2,
    quick=True,
)


def test_bytes() -> None:
    assert training(PLAN, Section.memory, SMALL, Dtype.bfloat16, Form.bare).bytes_of_x == 2 * math.prod(SMALL)


def test_only_what_is_asked_for_and_fits() -> None:
    """32 groups don't divide 4 channels."""
    case = training(PLAN, Section.memory, SMALL, Dtype.float32, Form.bare)
    assert case.layout is Layout.channels_last
    names = [c.name for c in contenders(case, PLAN.layers, PLAN.backends, Kind.fused, Kind.batch_norm)]
    assert names == ["an torch", "BatchNorm2d"]
    wide = replace(case, shape=(2, 32, 4, 4))
    assert [c.name for c in contenders(wide, PLAN.layers, PLAN.backends, Kind.fused)] == ["an torch", "gn torch"]
