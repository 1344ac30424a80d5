"""One case: all layers and contenders on one map, checked against each other and measured in the same rounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch._dynamo.utils import counters

from . import agreement
from .contenders import Contender, Inputs, copy_step, make_inputs, make_layer, make_shared, step_of, without_act
from .count import operators
from .floor import COPY_UNITS, floor_seconds
from .gpu.timing import captured, in_turn, measure_for, sets_needed
from .harness import Sample, Step, interleave, median_ratio, quartiles
from .layers import LAYERS
from .names import Dtype, Form, Kind, Layer, Layout, Mode
from .record import Record
from .shapes import Shape
from .timed import timed

COPY = Kind.copy.value


@dataclass(frozen=True)
class Case:
    """What all of its contenders have in common."""

    section: str
    shape: Shape
    dtype: Dtype
    layout: Layout
    form: Form
    mode: Mode
    device: str

    @property
    def bytes_of_x(self) -> int:
        return torch.Size(self.shape).numel() * getattr(torch, self.dtype.value).itemsize

    def blank(self, kind: Kind, layer: str, backend: str, threads: int) -> Record:
        """A contender's record with nothing measured yet."""
        return Record(
            section=self.section,
            contender=kind.value,
            layer=layer,
            backend=backend,
            form=self.form.value,
            mode=self.mode.value,
            dtype=self.dtype.value,
            layout=self.layout.value,
            shape=self.shape,
            device=self.device,
            threads=threads,
            bytes_of_x=self.bytes_of_x,
        )


def measure(
    case: Case,
    layers: Sequence[Layer],
    kinds: Sequence[Kind],
    backends: Sequence[str],
    rounds: int,
    compiled: Sequence[Layer] | None = None,
) -> list[Record]:
    """One record of each contender; on a GPU a second one, replayed as a CUDA graph.

    compiled: the layers to compile; None for all.
    """
    # Compiled code of the cases before is of no use, and in Dynamo's way.
    torch._dynamo.reset()
    sets = make_sets(case)
    contenders = build(case, layers, kinds, backends, compiled)
    differences = check(case, contenders, sets[0])
    contenders = [contender for contender in contenders if contender.kind in kinds]
    steps = {c.name: in_turn([step_of(c, inputs, case.form, case.mode) for inputs in sets]) for c in contenders}
    steps[COPY] = in_turn([copy_step(inputs) for inputs in sets])

    time = measure_for(case.device, steps)
    with torch.compiler.set_stance("fail_on_recompile"):
        counts = {c.name: None if c.compiled else operators(steps[c.name], case.device) for c in contenders}
        samples = interleave(steps, rounds, measure=time)
    records = summed_up(case, contenders, samples, kinds, differences, counts)
    if case.device == "cuda":
        graphs = capture(steps)
        samples = interleave(graphs, rounds, measure=measure_for(case.device, graphs))
        records += [
            replace(record, setting="CUDA graph")
            for record in summed_up(case, [c for c in contenders if c.name in graphs], samples, kinds)
        ]
    return records


def make_sets(case: Case) -> list[Inputs]:
    """One set of inputs; on a GPU as many as its cache can't hold."""
    dtype = getattr(torch, case.dtype.value)
    bytes_of_x = torch.Size(case.shape).numel() * dtype.itemsize
    return [
        make_inputs(case.shape, dtype, case.layout.value, seed=seed, device=case.device)
        for seed in range(sets_needed(case.device, 3 * bytes_of_x))
    ]


def build(
    case: Case,
    layers: Sequence[Layer],
    kinds: Sequence[Kind],
    backends: Sequence[str],
    compiled: Sequence[Layer] | None = None,
) -> list[Contender]:
    """In the case's mode and on its device. References are among them whether asked for or not."""
    contenders = []
    for layer in layers:
        wanted = [kind for kind in kinds if compiled is None or layer in compiled or "compiled" not in kind.value]
        contenders += make_layer(layer, case.shape[1], case.form, case.dtype, wanted, backends)
    shared = [kind for kind in kinds if compiled is None or compiled or kind is not Kind.compiled_batch_norm]
    contenders += make_shared(case.shape[1], case.form, case.dtype, shared)
    for contender in contenders:
        contender.module.train(case.mode is not Mode.eval).to(case.device)
    return contenders


def check(case: Case, contenders: Sequence[Contender], inputs: Inputs) -> dict[str, float]:
    """Runs every contender once; returns the differences from the layer's reference by contender's name."""
    tolerance = agreement.TOLERANCE[case.dtype]
    expected: dict[str, tuple[Inputs, dict[str, torch.Tensor]]] = {}
    differences = {}
    for contender in contenders:
        if contender.kind is Kind.reference:
            smooth = _away_from_kink(case, contender, inputs, tolerance)
            expected[contender.layer] = smooth, _results(case, contender, smooth)
            continue
        smooth, wanted = expected.get(contender.layer, (inputs, {}))
        graphs = counters["stats"]["unique_graphs"]
        got = _results(case, contender, smooth)
        # Where compiling is switched off (TORCH_COMPILE_DISABLE), torch.compile silently does nothing.
        if contender.compiled and counters["stats"]["unique_graphs"] != graphs + 1:
            raise RuntimeError(f"{contender.name} was not compiled into one graph")
        if contender.same_function:
            if contender.translate is not None:
                got = contender.translate(got, wanted)
            tensor, difference = agreement.max_difference(got, wanted)
            if not difference <= tolerance:
                raise agreement.DisagreementError(
                    f"{contender.name} disagrees with the reference: {tensor} is off by {difference:.1e} "
                    f"of its largest value, {tolerance:.0e} is allowed"
                )
            differences[contender.name] = difference
    return differences


def _results(case: Case, contender: Contender, inputs: Inputs) -> dict[str, torch.Tensor]:
    return agreement.results(contender.call, contender.module, inputs, case.form, case.mode)


def _away_from_kink(case: Case, reference: Contender, inputs: Inputs, tolerance: float) -> Inputs:
    if case.form is Form.bare:
        return inputs
    plain = without_act(Layer(reference.layer), reference.module, case.shape[1]).to(case.device)
    with torch.no_grad():
        z = plain(inputs.x, inputs.residual)
    return replace(inputs, dy=agreement.away_from_kink(inputs.dy, z, tolerance))


def capture(steps: Mapping[str, Step]) -> dict[str, Step]:
    """As CUDA graphs; without those that can't be captured."""
    graphs = {}
    for name, step in steps.items():
        try:
            graphs[name] = captured(step)
        except RuntimeError:
            torch.cuda.synchronize()
    return graphs


def summed_up(
    case: Case,
    contenders: Sequence[Contender],
    samples: Mapping[str, list[Sample]],
    kinds: Sequence[Kind],
    differences: Mapping[str, float] | None = None,
    counts: Mapping[str, int | None] | None = None,
) -> list[Record]:
    """Contenders of a layer are compared with that layer fused, those of none with every layer fused."""
    copies = samples[COPY]
    speed = COPY_UNITS * case.bytes_of_x / quartiles(copies).median / 1e9
    fused = [contender for contender in contenders if contender.kind is Kind.fused]

    def record(kind: Kind, layer: str = "", backend: str = "", name: str = COPY) -> Record:
        units = COPY_UNITS if kind is Kind.copy else LAYERS[Layer(layer or "bn")].units(case.form, case.mode)
        floors = [Sample(floor_seconds(units, copy.seconds), 0) for copy in copies]
        described = replace(
            case.blank(kind, layer, backend, torch.get_num_threads()),
            over_floor=median_ratio(samples[name], floors),
            floor_units=units,
            copy_gb_per_s=speed,
            operators=(counts or {}).get(name),
            max_difference=(differences or {}).get(name),
        )
        bases = [base.name for base in fused if layer in ("", base.layer) and name != base.name]
        return timed(described, samples[name], {base: samples[base] for base in bases})

    records = [record(c.kind, c.layer, c.backend, c.name) for c in contenders]
    return records + ([record(Kind.copy)] if Kind.copy in kinds else [])
