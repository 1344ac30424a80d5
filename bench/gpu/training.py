"""One layer's forward + backward through autograd, against its contenders, a copy and the floor."""

from __future__ import annotations

import torch
from torch import nn

import fusednorm
from bench.contenders import AddReLU, BatchNormAddReLU, Inputs, copy_step, make_inputs, training_step
from bench.floor import COPY_UNITS, floor_seconds, floor_units
from bench.harness import Sample, Step, interleave, median_ratio, quartiles

from .cases import Case, entry, groups
from .setting import Setting
from .timing import in_turn, measure_for, sets_needed

COPY = "copy"
BATCH_NORM = "BatchNorm + add + ReLU"
GROUP_NORM = "GroupNorm + add + ReLU"


def modules(setting: Setting, case: Case) -> dict[str, tuple[nn.Module, str | None]]:
    """Name -> module, and the backend it has to run on: ours, and what networks have in our place."""
    channels = case.shape[1]
    torch.manual_seed(0)
    fused = entry(case.layer).make(fusednorm, channels, "relu")
    found: dict[str, tuple[nn.Module, str | None]] = {backend: (fused, backend) for backend in setting.backends()}
    found[BATCH_NORM] = (BatchNormAddReLU(channels), None)
    if "Group" in case.layer:
        norm = nn.GroupNorm(groups(channels), channels, dtype=getattr(torch, case.dtype))  # as torch's kernels want it
        found[GROUP_NORM] = (AddReLU(norm), None)
    return {name: (module.to(setting.device), backend) for name, (module, backend) in found.items()}


def step_of(module: nn.Module, backend: str | None, inputs: Inputs) -> Step:
    step = training_step(module, inputs)
    if backend is None:
        return step

    def on_backend() -> object:
        with fusednorm.use_backend(backend):
            return step()

    return on_backend


def measure(
    setting: Setting, case: Case, contenders: dict[str, tuple[nn.Module, str | None]], rounds: int, kind: str
) -> None:
    """Interleaved rounds; writes one record."""
    dtype = getattr(torch, case.dtype)
    bytes_of_x = torch.Size(case.shape).numel() * dtype.itemsize
    sets = [
        make_inputs(case.shape, dtype, case.layout, seed=seed, device=setting.device)
        for seed in range(sets_needed(setting.device, 3 * bytes_of_x))
    ]
    steps: dict[str, Step] = {COPY: in_turn([copy_step(inputs) for inputs in sets])}
    for name, (module, backend) in contenders.items():
        steps[name] = in_turn([step_of(module, backend, inputs) for inputs in sets])
    samples = interleave(steps, rounds, warmup=3, measure=measure_for(setting.device, steps))

    kind_of = entry(case.layer)
    units = floor_units(residual=True, forward_units=kind_of.forward, backward_units=kind_of.backward)
    floors = [Sample(floor_seconds(units, copy.seconds), 0) for copy in samples[COPY]]
    rows = {}
    for name, taken in samples.items():
        low, median, high = quartiles(taken)
        rows[name] = {
            "us": median * 1e6,
            "low_us": low * 1e6,
            "high_us": high * 1e6,
            "over_floor": median_ratio(taken, floors),
            "batch_norm_over": median_ratio(samples[BATCH_NORM], taken),
        }
    setting.write(
        kind=kind,
        **vars(case),
        mib=bytes_of_x / 2**20,
        rounds=rounds,
        copy_gb_per_s=COPY_UNITS * bytes_of_x / quartiles(samples[COPY]).median / 1e9,
        floor_us=quartiles(floors).median * 1e6,
        rows=rows,
    )
