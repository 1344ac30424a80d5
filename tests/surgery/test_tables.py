"""The papers' parameter counts."""

import pytest
import torch
from typer.testing import CliRunner

from fusednorm.cli import build_app
from fusednorm.surgery import tables
from fusednorm.surgery.papers import ENTRIES

BUILT = [entry for entry in ENTRIES if entry.network is not None]


@pytest.mark.parametrize("entry", BUILT, ids=lambda e: f"{e.paper}-{e.table}-{e.row}-{e.count}")
def test_counts(entry):
    """Exactly what the papers' official networks have, whether it rounds to what is printed or not."""
    (row,) = tables.counted([entry], flops=False)
    assert row.parameters == entry.count


def test_what_is_reproduced():
    """Of the printed figures, those that no convention gives; of all, those that no network here has."""
    printed = {}
    for entry in ENTRIES:
        if entry.printed is not None:
            printed.setdefault((entry.paper, entry.table, entry.row), []).append(entry)
    stated = {
        row: any(e.reproduces and "stated nowhere" not in e.note and "not what" not in e.note for e in found)
        for row, found in printed.items()
    }
    assert [row for row, found in stated.items() if not found] == [
        ("AN", "2", "ResNet34-AN"),
        ("AN", "2", "MobileNetV2-AN"),
        ("AN", "2, state of the art", "ResNet50-BN"),
        ("AN", "2, state of the art", "ResNet50-AN"),
        ("AN", "2, state of the art", "ResNet101-AN"),
        ("AN", "1", "RSD, A2, relu"),
        ("AN", "1", "K = 5, 10"),
        ("AN", "1", "K = 20, 30"),
        ("AN", "3", "AN (All)"),
    ]
    assert len(stated) == 44
    assert [entry.row for entry in ENTRIES if entry.network is None] == [
        "AOGNet12M-BN",
        "AOGNet12M-AN",
        "AOGNet40M-BN",
        "AOGNet40M-AN",
        "SN-ResNet50 v2",
    ]
    assert all(entry.note for entry in ENTRIES if entry.network is None or entry.reproduces is False)


def test_flops():
    """ResNet-50 has 4.09e9 multiply-adds; attention adds K C of them a layer."""
    plain, attentive = (
        next(e for e in ENTRIES if e.table == "2" and e.row == f"ResNet50-{kind}") for kind in ("BN", "AN")
    )
    base, more = (tables.count_flops(tables.build(entry)) for entry in (plain, attentive))
    assert base == 2 * 4_089_184_256
    products = sum(10 * C * n for C, n in ((64, 3), (128, 4))) + sum(20 * C * n for C, n in ((256, 6), (512, 3)))
    assert more - base == 2 * 3 * products  # lambda, and lambda times weight and bias


def test_builds_without_memory():
    model = tables.build(BUILT[0])
    assert all(p.device == torch.device("meta") for p in model.parameters())


@pytest.mark.parametrize("name", tables.TABLES)
def test_command_prints(name):
    result = CliRunner().invoke(build_app(), ["table", name, "--no-flops"], env={"COLUMNS": "80"})
    assert result.exit_code == 0
    lines = result.output.splitlines()
    for entry in tables.entries(name):
        figures = [entry.network or "-", f"{entry.count:,}" if entry.network else "-"]
        assert any(entry.row[:18] in line and all(text in line for text in figures) for line in lines)
        assert entry.note in " ".join(result.output.split())


def test_command_refuses():
    result = CliRunner().invoke(build_app(), ["table", "attentiv"])
    assert result.exit_code == 2
    assert "attentiv" in result.output
    with pytest.raises(ValueError, match=r"name: expected one of 'attentive', .*, got 'batch'"):
        tables.entries("batch")


def test_rows_without_a_network_cannot_be_built():
    with pytest.raises(ValueError, match=r"'AOGNet12M-BN' has no AOGNet in torchvision or timm"):
        tables.build(next(entry for entry in ENTRIES if entry.network is None))
