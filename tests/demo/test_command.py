"""The `fusednorm` command, run as a user would."""

from dataclasses import replace
from pathlib import Path

import pytest
from torch import nn
from typer.testing import CliRunner

import fusednorm
from fusednorm import cli
from fusednorm.demo import allocator, info, run, settings

TINY = replace(
    settings.QUICK,
    epochs=1,
    steps_per_epoch=2,
    batch_size=8,
    crop=32,
    test_crops_per_class=2,
    cost_crop=32,
    cost_rounds=1,
)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "QUICK", TINY)
    # The demo may set the allocator for the rest of the process: not for the rest of the tests.
    monkeypatch.setattr(allocator, "keep_freed_memory", lambda: False)


def test_info_names_every_backend() -> None:
    result = CliRunner().invoke(cli.build_app(), ["info"])
    assert result.exit_code == 0, result.output
    for word in (fusednorm.__version__, "vector units", *fusednorm.backends()):
        assert word in result.output


def test_info_survives_what_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise RuntimeError("no [such] thing")

    monkeypatch.setattr(fusednorm, "backends", broken)
    monkeypatch.setitem(info.FACTS, "system", broken)
    result = CliRunner().invoke(cli.build_app(), ["info"])
    assert result.exit_code == 0, result.output
    assert result.output.count("no [such] thing") == 3  # the extension's row asks for the backends too


@pytest.mark.usefixtures("tiny")
def test_demo_from_end_to_end(tmp_path: Path) -> None:
    arguments = ["demo", "--quick", "--seeds", "2", "--no-compile", "--out", str(tmp_path / "new")]
    result = CliRunner().invoke(cli.build_app(), arguments)
    assert result.exit_code == 0, result.output
    assert "±" in result.output
    assert "--no-compile" in result.output
    assert (tmp_path / "new" / "demo.png").stat().st_size > 10_000


@pytest.mark.usefixtures("tiny")
def test_demo_goes_on_where_torch_compile_cannot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_compiler(network: nn.Module) -> None:
        raise RuntimeError("no C++ compiler\nand a long story")

    monkeypatch.setattr(nn.Module, "compile", no_compiler)
    result = CliRunner().invoke(cli.build_app(), ["demo", "--quick", "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert "does not run here: no C++ compiler" in result.output
    assert "long story" not in result.output


def test_first_line_of_an_error_without_words() -> None:
    assert run._first_line(ValueError()) == "ValueError"


def test_missing_extra_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda module: None)
    with pytest.raises(SystemExit, match=r"no module typer, rich; pip install 'fusednorm\[demo\]'"):
        cli.main()
