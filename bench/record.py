"""One measured contender of one case: what every section yields, tables print and files keep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from typing import Any

from .names import Kind

Ratio = tuple[float, float, float]  # quartiles over the rounds: low, median, high


@dataclass(frozen=True, kw_only=True)
class Record:
    """What was measured, then how it came out; None where a section does not measure it.

    `ratios`: this contender's time over a fused layer's, by that layer's name ("an cpu"), taken within each round.
    """

    section: str
    contender: str  # a Kind, or a section's own
    layer: str = ""  # "" for contenders of no layer
    backend: str = ""  # "" if not fused
    setting: str = ""  # what else tells two records apart: an allocator's setting
    form: str = ""
    mode: str = ""
    dtype: str = "float32"
    layout: str = ""
    shape: tuple[int, ...] = ()
    network: str = ""
    device: str = "cpu"
    threads: int = 1
    rounds: int = 0

    median_ms: float | None = None
    low_ms: float | None = None  # quartiles
    high_ms: float | None = None
    over_floor: float | None = None
    floor_units: int | None = None
    copy_gb_per_s: float | None = None  # read + write, of the same rounds
    bytes_of_x: int | None = None
    page_faults: float | None = None  # median, a call
    operators: int | None = None  # a call: operators that PyTorch dispatches on the CPU, kernels launched on a GPU
    host_us: float | None = None
    peak_bytes: int | None = None
    saved_bytes: int | None = None  # for backward
    max_difference: float | None = None  # from the reference
    ratios: dict[str, Ratio] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Within a case: "an cpu" for the fused layer on a backend, "an reference", "BatchNorm2d"."""
        if self.contender == Kind.fused.value:
            return fused_name(self.layer, self.backend)
        return f"{self.layer} {self.contender}".strip()

    @property
    def key(self) -> tuple[object, ...]:
        """All that says what was measured: equal in two runs of the same benchmark."""
        return tuple(getattr(self, name) for name in KEY)

    def to_json(self) -> dict[str, Any]:
        """Without what was not measured, in six digits: more than any clock gives."""
        return {name: _rounded(value) for name, value in asdict(self).items() if value != _DEFAULTS.get(name)}


_DEFAULTS = {f.name: f.default for f in fields(Record) if f.default is not MISSING} | {"ratios": {}}
KEY = tuple(f.name for f in fields(Record))[: [f.name for f in fields(Record)].index("rounds")]


def fused_name(layer: str, backend: str) -> str:
    return f"{layer} {backend}"


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {name: tuple(_rounded(one) for one in ratio) for name, ratio in value.items()}
    return value


def from_json(values: Mapping[str, Any]) -> Record:
    ratios = {name: (low, median, high) for name, (low, median, high) in values.get("ratios", {}).items()}
    return Record(**{**values, "shape": tuple(values.get("shape", ())), "ratios": ratios})
