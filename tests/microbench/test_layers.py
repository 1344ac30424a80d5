"""The benchmark's cases for pytest-benchmark, whose JSON compares two commits: `make microbench`.

Times of contenders one after the other, not interleaved: for finding what a change did, not for claims.
"""

from typing import Any

import pytest

import fusednorm
from bench.case import Case, build, make_sets
from bench.contenders import step_of
from bench.names import Dtype, Form, Kind, Layer, Layout, Mode, Section
from bench.shapes import text
from fusednorm.engine.backends import choose

SHAPES = ((8, 64, 28, 28), (8, 256, 14, 14))
LAYERS = (Layer.an, Layer.rbn, Layer.sn, Layer.se_bn)
KINDS = (Kind.fused, Kind.reference, Kind.official)


def measure(benchmark: Any, case: Case, layers: list[Layer], kind: Kind) -> None:
    inputs = make_sets(case)[0]
    (contender,) = (c for c in build(case, layers, [kind], [choose(inputs.x)]) if c.kind is kind)
    step = step_of(contender, inputs, case.form, case.mode)
    step()
    benchmark.group = f"{text(case.shape)} {case.layout.value} {case.form.value}"
    benchmark.extra_info["backends"] = [name for name, b in fusednorm.backends().items() if b.available]
    benchmark(step)


@pytest.mark.parametrize("form", Form, ids=lambda form: form.value)
@pytest.mark.parametrize("layout", Layout, ids=lambda layout: layout.value)
@pytest.mark.parametrize("shape", SHAPES, ids=text)
class TestForwardBackward:
    @pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.value)
    @pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.value)
    def test_layer(
        self, benchmark: Any, shape: tuple[int, ...], layout: Layout, form: Form, layer: Layer, kind: Kind
    ) -> None:
        case = Case(Section.layers.value, shape, Dtype.float32, layout, form, Mode.train, "cpu")
        measure(benchmark, case, [layer], kind)

    @pytest.mark.parametrize("kind", [Kind.batch_norm, Kind.group_norm], ids=lambda kind: kind.value)
    def test_other(self, benchmark: Any, shape: tuple[int, ...], layout: Layout, form: Form, kind: Kind) -> None:
        case = Case(Section.layers.value, shape, Dtype.float32, layout, form, Mode.train, "cpu")
        measure(benchmark, case, [], kind)
