"""Section `layers`: every shape, type, layout, form and mode asked for, with all layers and contenders together."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from .case import Case, measure
from .contenders import fits
from .names import Form, Kind, Layout, Section
from .plan import Plan
from .record import Record


def run(plan: Plan) -> Iterator[Record]:
    """Case by case; without layers whose groups don't divide the channels."""
    only = plan.maps[0], Layout.nchw, Form.residual_relu
    for (shape, dtype), layout, form, mode in product(plan.maps, plan.layouts, plan.forms, plan.modes):
        case = Case(Section.layers.value, shape, dtype, layout, form, mode, plan.device)
        # Compiling takes longer than all the rest: a quick run does it for one layer, once.
        compiled = None
        if plan.quick:
            compiled = plan.layers[:1] if ((shape, dtype), layout, form) == only else ()
        kinds = [kind for kind in plan.kinds if not plan.quick or kind is not Kind.compiled_batch_norm]
        layers = [layer for layer in plan.layers if fits(layer, shape[1])]
        yield from measure(case, layers, kinds, plan.backends, plan.rounds, compiled)
