"""Some of a case's contenders, for the sections that ask for more than the time of all of them."""

from __future__ import annotations

from collections.abc import Sequence

from .case import Case, build, make_sets
from .contenders import Contender, step_of
from .harness import Step
from .names import Dtype, Form, Kind, Layer, Mode, Section
from .plan import Plan
from .record import Record
from .shapes import Shape


def training(plan: Plan, section: Section, shape: Shape, dtype: Dtype, form: Form) -> Case:
    """Forward + backward, in the plan's first layout."""
    return Case(section.value, shape, dtype, plan.layouts[0], form, Mode.train, plan.device)


def contenders(case: Case, layers: Sequence[Layer], backends: Sequence[str], *kinds: Kind) -> list[Contender]:
    """In the case's mode and on its device; without layers whose groups don't divide the case's channels."""
    return [
        c for c in build(case, [layer for layer in layers if _fits(layer, case)], kinds, backends) if c.kind in kinds
    ]


def _fits(layer: Layer, case: Case) -> bool:
    try:
        build(case, [layer], [], [])
    except ValueError:
        return False
    return True


def blank(case: Case, contender: Contender, threads: int) -> Record:
    """Nothing measured yet."""
    return case.blank(contender.kind, contender.layer, contender.backend, threads)


def steps(case: Case, found: Sequence[Contender]) -> dict[str, Step]:
    """By the contenders' names, all on the same inputs."""
    inputs = make_sets(case)[0]
    return {contender.name: step_of(contender, inputs, case.form, case.mode) for contender in found}
