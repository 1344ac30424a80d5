"""The figures: what is drawn is what was found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import fusednorm
from fusednorm.inspection import plot_attention, plot_calibration, plot_importance, plot_spread, save
from tests.inspection.test_inspect import Network

NAMES = {"importance", "calibration", "attention", "spread"}


@pytest.fixture(scope="module")
def inspection() -> fusednorm.inspection.Inspection:
    torch.manual_seed(0)
    model = Network()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "_weight" in name or "scale_bias" in name:
                parameter.add_(torch.randn_like(parameter))
    return fusednorm.inspect(model, torch.randn(5, 3, 8, 8))


def labels(axes) -> list[str]:
    return [text.get_text() for text in axes.get_xticklabels()]


def test_importance(inspection) -> None:
    means, variances = plot_importance(inspection).axes
    assert means.get_ylabel() == "ratios of means"
    assert variances.get_ylabel() == "ratios of variances"
    assert labels(variances) == ["sn"]
    assert [text.get_text() for text in means.get_legend().get_texts()] == ["instance", "layer", "batch"]
    for axes, what in ((means, "mean"), (variances, "var")):
        heights = [bar.get_height() for bar in axes.patches]
        assert heights == pytest.approx([r.item() for r in inspection["sn"].importance[what].values()])
        tops = [bar.get_y() + bar.get_height() for bar in axes.patches]
        assert tops[-1] == pytest.approx(1)


def test_calibration(inspection) -> None:
    rows = plot_calibration(inspection).axes
    assert [axes.get_ylabel() for axes in rows] == ["$w_m$", "$w_v$", "$w_b$"]
    assert labels(rows[-1]) == ["body.0", "pair"]
    layer = inspection["body.0"]
    for axes, weights in zip(rows, (layer.center_weight, layer.scale_weight, layer.scale_bias), strict=True):
        drawn = np.concatenate([line.get_ydata() for line in axes.lines])
        for value in (weights.mean(), weights.min(), weights.max(), np.median(weights.numpy())):
            assert np.isclose(drawn.astype(float), float(value)).any()


def test_attention(inspection) -> None:
    figure = plot_attention(inspection)
    *maps, bar = figure.axes
    assert [axes.get_title() for axes in maps] == ["twice", "pair"]
    assert bar.get_ylabel() == r"$\lambda$"
    assert (maps[0].get_xlabel(), maps[0].get_ylabel()) == ("component", "sample")
    np.testing.assert_allclose(maps[1].images[0].get_array(), inspection["pair"].attention)


def test_spread(inspection) -> None:
    (axes,) = plot_spread(inspection).axes
    assert axes.get_title() == "body.0"
    before, after = (line.get_ydata() for line in axes.lines)
    spread = inspection["body.0"].spread
    order = spread.before.argsort(descending=True)
    np.testing.assert_allclose(before, spread.before[order])
    np.testing.assert_allclose(after, spread.after[order])


def test_chosen_layers(inspection) -> None:
    assert [axes.get_title() for axes in plot_attention(inspection, ["pair"]).axes[:-1]] == ["pair"]
    with pytest.raises(ValueError, match="layers: expected some of twice, pair, got 'sn'"):
        plot_attention(inspection, ["sn"])


@pytest.mark.parametrize("plot", [plot_importance, plot_calibration, plot_attention, plot_spread])
def test_nothing_to_draw(plot) -> None:
    with pytest.raises(ValueError, match=r"inspection: expected a .* layer, there is none"):
        plot(fusednorm.inspect(fusednorm.BatchNorm2d(3)))


def test_files(inspection, tmp_path: Path) -> None:
    paths = save(inspection, tmp_path / "new")
    assert {path.stem for path in paths} == NAMES
    for path in paths:
        assert path.read_bytes().startswith(b"\x89PNG")
    assert {path.name for path in (tmp_path / "new").iterdir()} == {f"{name}.png" for name in NAMES}
    assert save(fusednorm.inspect(fusednorm.SwitchableNorm2d(4)), tmp_path / "sn") == [tmp_path / "sn/importance.png"]


def test_importing_the_library_leaves_matplotlib_alone() -> None:
    import subprocess
    import sys

    script = "import sys, fusednorm; fusednorm.inspection; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0
