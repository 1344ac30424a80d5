from dataclasses import replace

from bench.record import Record
from bench.shapes import named_shapes
from bench.targets import TARGETS, rows

LARGE = (16, 256, 56, 56)
RESNET = (8, 64, 56, 56)
FUSED = Record(
    section="layers",
    contender="fused",
    layer="an",
    backend="cpu",
    form="residual+relu",
    mode="train",
    layout="nchw",
    shape=LARGE,
    floor_units=10,
    over_floor=1.1,
)
SMALL = replace(FUSED, shape=RESNET, over_floor=9.0)


def rival(contender: str, ratio: float, base: Record = SMALL, **other: object) -> Record:
    record = replace(base, contender=contender, backend="", ratios={"an cpu": (ratio, ratio, ratio)})
    return replace(record, **other)  # type: ignore[arg-type]


def everywhere(contender: str, ratio: float, layout: str) -> list[Record]:
    """On all shapes of ResNet-50."""
    bases = [replace(SMALL, shape=shape, layout=layout) for shape in named_shapes("resnet50", 8)]
    return [record for base in bases for record in (base, rival(contender, ratio, base))]


def row(records: list[Record], start: str) -> str:
    (line,) = (line for line in rows(records) if line.startswith(f"| {start}"))
    return line


def test_what_was_not_measured_is_said() -> None:
    lines = list(rows([]))
    assert len(lines) == 2 + len(TARGETS)
    assert all("not measured" in line for line in lines[2:])


def test_over_the_floor_the_worst_of_the_large_shapes_counts() -> None:
    start = "time over the floor, large shapes, float32"
    assert row([FUSED, SMALL], start).endswith("| 1.10 (an cpu, residual+relu, nchw, 16x256x56x56) | met |")
    worse = replace(FUSED, layout="channels_last", over_floor=1.3)
    assert "1.30 (an cpu, residual+relu, channels_last, 16x256x56x56) | **missed**" in row([FUSED, worse], start)
    spatial = replace(FUSED, layer="na", floor_units=14, over_floor=3.0)
    assert "met" in row([FUSED, spatial], start), "it has no plane-affine passes"
    assert "not measured" in row([replace(FUSED, dtype="bfloat16")], start)


def test_means_are_geometric_over_the_networks_shapes_and_layouts() -> None:
    records = [*everywhere("compiled", 4.0, "nchw"), *everywhere("compiled", 9.0, "channels_last")]
    records += [FUSED, rival("compiled", 100.0, FUSED)]
    assert "6.00 (an cpu, 24 cases) | met" in row(records, "torch.compile, with residual")
    assert "not measured" in row(records, "torch.compile, layer alone")
    assert "not measured" in row(records[2:], "torch.compile, with residual"), "a shape is missing"


def test_channels_last_has_a_bound_of_its_own() -> None:
    records = [*everywhere("BatchNorm2d", 1.5, "nchw"), *everywhere("BatchNorm2d", 1.5, "channels_last")]
    assert "missed" in row(records, "nn.BatchNorm2d + add")
    assert "1.50 (an cpu, 12 cases) | met" in row(records, "the same in channels_last")


def test_a_single_shape_on_which_fused_loses_is_told() -> None:
    alone = replace(FUSED, form="bare")
    records = [alone, rival("BatchNorm2d", 0.5, alone, layer="")]
    assert "not measured" in row(records, "any of these"), "alone it does less"
    records += [FUSED, rival("official", 0.9, FUSED)]
    assert "0.90 (an official / an cpu" in row(records, "any of these")
    assert "missed" in row(records, "any of these")


def test_host_time_is_over_batch_norms() -> None:
    host = replace(FUSED, section="host", mode="forward")
    records = [host, rival("BatchNorm2d", 0.8, host, layer="")]
    assert "1.25 (an cpu, residual+relu) | met" in row(records, "host time over nn.BatchNorm2d's, forward:")
    assert "not measured" in row(records, "host time over nn.BatchNorm2d's, forward + backward")


def test_memory_threads_and_networks() -> None:
    memory = replace(FUSED, section="memory", form="bare", saved_bytes=10_000 + 2 * 4 * 16 * 256, bytes_of_x=10_000)
    assert "2.00 (an cpu) | met" in row([memory], "saved for backward")
    network = replace(FUSED, section="networks", network="resnet50", peak_bytes=90)
    plain = rival("BatchNorm2d", 1, network, layer="", peak_bytes=100)
    assert "0.90 (an cpu, nchw) | met" in row([network, plain], "peak memory")
    threads = replace(FUSED, section="threads", threads=1, ratios={"an cpu": (1.5, 1.6, 1.7)})
    assert "1.60" in row([threads], "speed-up")
    assert "missed" in row([threads], "speed-up")
