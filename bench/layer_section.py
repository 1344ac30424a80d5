"""Section `layers`: every shape, type, layout, form and mode asked for, with all layers and contenders together."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from .case import Case, measure
from .names import Form, Layout, Section
from .plan import Plan
from .record import Record


def run(plan: Plan) -> Iterator[Record]:
    """Case by case."""
    for (shape, dtype), layout, form, mode in product(plan.maps, plan.layouts, plan.forms, plan.modes):
        case = Case(Section.layers.value, shape, dtype, layout, form, mode, plan.device)
        # Compiling takes longer than all the rest: a quick run does it for one layer, once.
        compiled = None
        if plan.quick:
            compiled = plan.layers[:1] if (layout, form) == (Layout.nchw, Form.residual_relu) else ()
        yield from measure(case, plan.layers, plan.kinds, plan.backends, plan.rounds, compiled)
