"""`python -m bench.targets RUN.json`: this project's speed targets, measured from a stored run, as rows of Markdown.

Of several layers, shapes or layouts the worst is told, and which it is. A target that the run has no records for is
"not measured".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from .names import Dtype, Form, Kind, Layout, Mode, Section
from .record import Record
from .shapes import LARGE, batch_for, layer_counts, named_shapes, text
from .store import read_json
from .summary import Group, geometric_mean, main_groups

Figure = tuple[float, str]  # a value, and of what it is


@dataclass(frozen=True)
class Target:
    """`figures` yields what is to be at most (or, `at_least`, at least) the bound."""

    what: str
    bound: float
    figures: Callable[[Sequence[Record]], Iterable[Figure]]
    at_least: bool = False

    def worst(self, records: Sequence[Record]) -> Figure | None:
        return (min if self.at_least else max)(self.figures(records), default=None)

    def row(self, records: Sequence[Record]) -> str:
        bound = f"at {'least' if self.at_least else 'most'} {self.bound:g}"
        worst = self.worst(records)
        if worst is None:
            return f"| {self.what}: {bound} | - | not measured |"
        value, of = worst
        met = value >= self.bound if self.at_least else value <= self.bound
        return f"| {self.what}: {bound} | {value:.2f} ({of}) | {'met' if met else '**missed**'} |"


def over_floor(dtype: Dtype) -> Callable[[Sequence[Record]], Iterator[Figure]]:
    """On the large shapes, for layers with the plane-affine passes: 3 units forward, 5 backward, without a residual."""

    def figures(records: Sequence[Record]) -> Iterator[Figure]:
        for own in (own for group in _training(records, dtype) for own in group.own):
            large = own.shape in named_shapes(LARGE, batch_for(own.device))
            units = 8 if own.form == Form.bare.value else 10
            if large and own.floor_units == units and own.over_floor is not None:
                yield own.over_floor, f"{own.name}, {own.form}, {own.layout}, {text(own.shape)}"

    return figures


def mean_ratio(
    kind: Kind, forms: Sequence[Form] = tuple(Form), layouts: Sequence[Layout] = tuple(Layout)
) -> Callable[[Sequence[Record]], Iterator[Figure]]:
    """Geometric mean over ResNet-50's shapes and these layouts, of each layer; of fewer it would be another figure."""

    def figures(records: Sequence[Record]) -> Iterator[Figure]:
        found: dict[str, list[float]] = {}
        for group, rival in _rivals(records, (kind,)):
            wanted = rival.form in [form.value for form in forms] and rival.layout in [one.value for one in layouts]
            if wanted and rival.shape in named_shapes("resnet50", batch_for(rival.device)):
                found.setdefault(group.fused, []).append(rival.ratios[group.fused][1])
        for fused, ratios in found.items():
            if len(ratios) == len(layer_counts("resnet50", 1)) * len(layouts) * len(forms):
                yield geometric_mean(ratios) or math.nan, f"{fused}, {len(ratios)} cases"

    return figures


def single_ratio(records: Sequence[Record]) -> Iterator[Figure]:
    """On each shape; nn.BatchNorm2d counts with what follows it, since alone it does less than any of these layers."""
    for group, rival in _rivals(records, (Kind.compiled, Kind.official, Kind.batch_norm, Kind.compiled_batch_norm)):
        if rival.layer or rival.form == Form.residual_relu.value:
            of = f"{rival.name} / {group.fused}, {rival.form}, {rival.layout}, {text(rival.shape)}"
            yield rival.ratios[group.fused][1], of


def host_time(mode: Mode) -> Callable[[Sequence[Record]], Iterator[Figure]]:
    """Of each layer over nn.BatchNorm2d's, on maps of one value a plane."""

    def figures(records: Sequence[Record]) -> Iterator[Figure]:
        for group in main_groups([r for r in _section(records, Section.host) if r.mode == mode.value]):
            for ratio in group.ratios(Kind.batch_norm.value):
                yield 1 / ratio, f"{group.fused}, {group.own[0].form}"

    return figures


def saved_beyond_x(records: Sequence[Record]) -> Iterator[Figure]:
    """What layers alone save beside x, in float32 tensors of N×C values."""
    for own in _fused(records, Section.memory):
        if own.form == Form.bare.value and own.saved_bytes is not None and own.bytes_of_x is not None:
            planes = 4 * own.shape[0] * own.shape[1]
            yield (own.saved_bytes - own.bytes_of_x) / planes, own.name


def network_peak(records: Sequence[Record]) -> Iterator[Figure]:
    """Of a ResNet-50 step, over the nn.BatchNorm2d network's."""
    found = [r for r in _section(records, Section.networks) if r.network == "resnet50" and r.peak_bytes]
    for group in main_groups(found):
        for own in group.own:
            plain = group.rival(Kind.batch_norm.value, own)
            if plain is not None:
                yield (own.peak_bytes or 0) / (plain.peak_bytes or 1), f"{own.name}, {own.layout}"


def thread_scaling(records: Sequence[Record]) -> Iterator[Figure]:
    """One thread's time over that of all."""
    for own in _fused(records, Section.threads):
        if own.threads == 1 and own.name in own.ratios:
            yield own.ratios[own.name][1], f"{own.name}, {own.layout}, {text(own.shape)}"


_RESNET = "geometric mean over ResNet-50's shapes, float32, forward + backward"
_ALONE, _WITH = (Form.bare,), (Form.residual_relu,)

TARGETS = (
    Target("time over the floor, large shapes, float32", 1.2, over_floor(Dtype.float32)),
    Target("time over the floor, large shapes, bfloat16", 1.5, over_floor(Dtype.bfloat16)),
    Target(f"torch.compile, layer alone, {_RESNET}", 1.7, mean_ratio(Kind.compiled, _ALONE), True),
    Target(f"torch.compile, with residual and ReLU, {_RESNET}", 5, mean_ratio(Kind.compiled, _WITH), True),
    Target(f"nn.BatchNorm2d + add + ReLU, {_RESNET}", 2, mean_ratio(Kind.batch_norm, _WITH), True),
    Target(
        f"the same in channels_last, {_RESNET}",
        1.4,
        mean_ratio(Kind.batch_norm, _WITH, (Layout.channels_last,)),
        True,
    ),
    Target(f"official formulation, {_RESNET}", 8, mean_ratio(Kind.official), True),
    Target("any of these on any single shape", 1, single_ratio, True),
    Target("host time over nn.BatchNorm2d's, forward", 1.3, host_time(Mode.forward)),
    Target("host time over nn.BatchNorm2d's, forward + backward", 1.3, host_time(Mode.train)),
    Target("saved for backward beside x, in N×C values", 16, saved_beyond_x),
    Target("peak memory of a ResNet-50 step over nn.BatchNorm2d's", 1, network_peak),
    Target("speed-up by all threads, large shapes", 1.7, thread_scaling, True),
)


def _section(records: Sequence[Record], section: Section) -> list[Record]:
    return [record for record in records if record.section == section.value]


def _fused(records: Sequence[Record], section: Section) -> Iterator[Record]:
    found = [r for r in _section(records, section) if r.contender == Kind.fused.value]
    return (record for record in found if record.backend == found[0].backend)


def _training(records: Sequence[Record], dtype: Dtype) -> Iterator[Group]:
    found = [
        record
        for record in _section(records, Section.layers)
        if record.dtype == dtype.value and record.mode == Mode.train.value and not record.setting
    ]
    return main_groups(found)


def _rivals(records: Sequence[Record], kinds: Sequence[Kind]) -> Iterator[tuple[Group, Record]]:
    for group in _training(records, Dtype.float32):
        for record in group.records:
            if record.name != group.fused and record.contender in [kind.value for kind in kinds]:
                yield group, record


def rows(records: Sequence[Record]) -> Iterator[str]:
    yield "| target | measured | |"
    yield "|---|---|---|"
    for target in TARGETS:
        yield target.row(records)


def main(path: Annotated[Path, typer.Argument(help="A file that --json wrote.")]) -> None:
    """Print the targets, what was measured, and whether they are met."""
    print("\n".join(rows([record for run in read_json(path) for record in run.records])))


if __name__ == "__main__":
    typer.run(main)
