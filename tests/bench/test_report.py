from dataclasses import replace

from rich.console import Console

from bench.names import Section
from bench.plot import cache_sizes
from bench.record import Record
from bench.report import tables
from bench.summary import groups, main_groups

STAMP = {"allocator": "some malloc"}
FUSED = Record(
    section="layers",
    contender="fused",
    layer="an",
    backend="cpu",
    form="bare",
    mode="train",
    layout="nchw",
    shape=(8, 64, 4, 4),
    median_ms=2.0,
    over_floor=1.5,
    floor_units=8,
    bytes_of_x=1 << 20,
)
TORCH = replace(FUSED, backend="torch", ratios={"an cpu": (7.0, 8.0, 9.0)})
NORM = Record(**{**FUSED.to_json(), "contender": "BatchNorm2d", "layer": "", "backend": ""})
FASTER = replace(NORM, ratios={"an cpu": (0.7, 0.8, 0.9), "an torch": (0.1, 0.1, 0.1)})
OTHER = [
    replace(FUSED, shape=(8, 64, 2, 2)),
    replace(FASTER, shape=(8, 64, 2, 2), ratios={"an cpu": (5.0, 5.0, 5.0)}),
]


def printed(section: Section, records: list[Record], *, verbose: bool = False) -> str:
    console = Console(width=200, record=True, file=None, quiet=False)
    with console.capture() as capture:
        for table in tables(section, records, STAMP, verbose=verbose):
            console.print(table)
    return capture.get()


def test_a_table_has_the_shapes_as_rows_and_the_rivals_as_columns() -> None:
    text = printed(Section.layers, [FUSED, TORCH, FASTER, *OTHER])
    assert text.count("geometric mean") == 1, "of the first backend alone"
    first = next(line for line in text.splitlines() if "8x64x4x4" in line)
    assert "8.00" in first
    assert "!0.80" in first, "a loss is marked"
    second = next(line for line in text.splitlines() if "8x64x2x2" in line)
    assert " - " in second, "TORCH was not measured there"
    assert "5.00" in second
    assert "2.00" in text.split("geometric mean")[1], "of 0.8 and 5"
    assert "some malloc" in text
    assert "networks at batch 8, usually 32 a GPU" in text


def test_verbose_has_every_record() -> None:
    text = printed(Section.layers, [FUSED, TORCH, FASTER], verbose=True)
    assert text.count("geometric mean") == 2
    assert "(0.70 - 0.90)" in text


def test_other_sections_show_what_they_measured() -> None:
    record = Record(section="memory", contender="BatchNorm2d", saved_bytes=1234)
    text = printed(Section.memory, [record])
    assert "saved bytes" in text
    assert "1234" in text
    assert "host us" not in text


def test_groups_are_of_one_setting() -> None:
    last = [replace(record, layout="channels_last") for record in (FUSED, FASTER)]
    found = list(groups([FUSED, TORCH, FASTER, *last]))
    assert [(group.fused, group.own[0].layout, len(group.records)) for group in found] == [
        ("an cpu", "nchw", 3),
        ("an torch", "nchw", 2),
        ("an cpu", "channels_last", 2),
    ]
    assert [group.fused for group in main_groups([FUSED, TORCH])] == ["an cpu"]


def test_cache_sizes_are_read_from_the_stamp() -> None:
    text = "L1d 32K for CPUs 0, L2 1024K for CPUs 0, L3 32M for CPUs 0-1"
    assert cache_sizes(text) == {"L1d": 32 << 10, "L2": 1 << 20, "L3": 32 << 20}
    assert cache_sizes("") == {}
