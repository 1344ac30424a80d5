"""Whole networks: time and peak memory of a training step with each layer, against the BatchNorm network.

A step is forward, backward and SGD with momentum. Images are small on a CPU, where the whole is told by the
proportions; a GPU gets the usual ones.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import nn

import fusednorm

from .contenders import compiled
from .harness import Step, interleave
from .memory import peak_meter
from .models import MODELS, Norms
from .names import LAYOUTS, Kind, Layer, Layout, Section
from .norms import PLACES, batch_norms, fused_norms, reference_norms
from .plan import Plan
from .record import Record
from .shapes import Shape
from .timed import compared

IMAGES: Shape = (8, 3, 96, 96)
GPU_IMAGES: Shape = (32, 3, 224, 224)
QUICK_IMAGES: Shape = (4, 3, 32, 32)
CLASSES = 1000
ROUNDS, QUICK_ROUNDS = 15, 2  # at most: a step takes as long as many calls of a layer


@dataclass(frozen=True)
class Case:
    """What the networks of a round have in common."""

    network: str
    images: Shape
    layout: Layout
    device: str


@dataclass(frozen=True)
class Entrant:
    """A network, by what is in it."""

    kind: Kind
    layer: Layer | None = None
    backend: str = ""

    def norms(self) -> Norms:
        if self.layer is None:
            return batch_norms
        return fused_norms(self.layer) if self.kind is Kind.fused else reference_norms(self.layer)

    @property
    def compiled(self) -> bool:
        return self.kind in (Kind.compiled, Kind.compiled_batch_norm)


def run(plan: Plan) -> Iterator[Record]:
    """Layers that have no place in networks are left out."""
    images = QUICK_IMAGES if plan.quick else IMAGES if plan.device == "cpu" else GPU_IMAGES
    for network in ["mobilenetv2"] if plan.quick else MODELS:
        for layout in plan.layouts[: 1 if plan.quick else None]:
            yield from measure(plan, Case(network, images, layout, plan.device))


def measure(plan: Plan, case: Case) -> Iterator[Record]:
    torch._dynamo.reset()
    records = {entrant: _blank(plan, case, entrant) for entrant in entrants(plan)}
    steps = {record.name: training_step(case, entrant) for entrant, record in records.items()}
    samples = interleave(steps, min(plan.rounds, QUICK_ROUNDS if plan.quick else ROUNDS), warmup=2)
    del steps  # their memory is for the others
    found = compared(records.values(), samples)
    if plan.quick:
        yield from found
        return
    with peak_meter(plan.device, plan.threads) as peak:
        for entrant, record in zip(records, found, strict=True):
            # Compiling takes memory too, and minutes: not once more for this.
            yield record if entrant.compiled else replace(record, peak_bytes=peak(training_step, case, entrant))


def entrants(plan: Plan) -> list[Entrant]:
    """Every layer fused and as its reference, and BatchNorm; compiled ones if asked for."""
    layers = [layer for layer in plan.layers if layer in PLACES][: 1 if plan.quick else None]
    found: list[Entrant] = []
    for layer in layers:
        found += [Entrant(Kind.fused, layer, backend) for backend in plan.backends]
        found += [Entrant(kind, layer) for kind in (Kind.reference, Kind.compiled)]
    found += [Entrant(kind) for kind in (Kind.batch_norm, Kind.compiled_batch_norm)]
    return [entrant for entrant in found if plan.compile_networks or not entrant.compiled]


def training_step(case: Case, entrant: Entrant) -> Step:
    """Gradients are made anew in every step, and gone after it."""
    torch.manual_seed(0)
    memory_format = getattr(torch, LAYOUTS[case.layout.value])
    model = MODELS[case.network](entrant.norms()).to(case.device)
    model.to(memory_format=memory_format)  # type: ignore[call-overload]
    call = compiled(model, entrant.kind) if entrant.compiled else model
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    images = torch.randn(case.images, device=case.device).to(memory_format=memory_format)
    labels = torch.randint(CLASSES, case.images[:1], device=case.device)
    backend = entrant.backend

    def step() -> None:
        with fusednorm.use_backend(backend) if backend else contextlib.nullcontext():
            nn.functional.cross_entropy(call(images), labels).backward()
        optimizer.step()
        optimizer.zero_grad()
        if case.device == "cuda":
            torch.cuda.synchronize()

    return step


def _blank(plan: Plan, case: Case, entrant: Entrant) -> Record:
    return Record(
        section=Section.networks.value,
        contender=entrant.kind.value,
        layer=entrant.layer.value if entrant.layer else "",
        backend=entrant.backend,
        mode="train",
        layout=case.layout.value,
        shape=case.images,
        network=case.network,
        device=case.device,
        threads=plan.threads,
    )
