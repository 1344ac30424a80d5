"""mmcv's registry. mmcv itself is not installed for tests; a stand-in of its registry and its builder are."""

import importlib.util
import inspect
import subprocess
import sys
import textwrap

import pytest
import torch

import fusednorm
from fusednorm import mmcv_registry

STAND_IN = """
class Registry:
    def __init__(self):
        self.modules = {}
    def __contains__(self, name):
        return name in self.modules
    def register_module(self, name=None, force=False, module=None):
        if name in self.modules and not force:
            raise KeyError(f"{name} is already registered")
        self.modules[name] = module
MODELS = Registry()
"""


@pytest.fixture(scope="module")
def registry():
    own = {}
    exec(STAND_IN, own)
    mmcv_registry.register(own["MODELS"])
    return own["MODELS"]


def built(registry, cfg, num_features):
    """As mmcv.cnn.build_norm_layer does: eps has a default, requires_grad is popped."""
    cfg = dict(cfg)
    layer = registry.modules[cfg.pop("type")]
    assert inspect.isclass(layer)
    cfg.pop("requires_grad", True)
    cfg.setdefault("eps", 1e-5)
    return layer._abbr_, layer(num_features, **cfg)


@pytest.mark.parametrize(
    ("cfg", "kind", "abbreviation"),
    [
        ({"type": "AN", "num_components": 4}, fusednorm.AttentiveBatchNorm2d, "an"),
        ({"type": "AN1d", "requires_grad": True}, fusednorm.AttentiveBatchNorm1d, "an"),
        ({"type": "ANGN", "num_groups": 4}, fusednorm.AttentiveGroupNorm, "an"),
        ({"type": "RBN", "momentum": 0.01}, fusednorm.RepresentativeBatchNorm2d, "rbn"),
        ({"type": "SN3d"}, fusednorm.SwitchableNorm3d, "sn"),
        ({"type": "IEBN"}, fusednorm.InstanceEnhancementBatchNorm2d, "iebn"),
        ({"type": "FusedBN"}, fusednorm.BatchNorm2d, "bn"),
        ({"type": "FusedGN", "num_groups": 4}, fusednorm.GroupNorm, "gn"),
    ],
)
def test_builds(registry, cfg, kind, abbreviation):
    abbr, layer = built(registry, cfg, 16)
    assert isinstance(layer, kind)
    assert abbr == abbreviation
    shape = (2, 16, *([3] * (layer.dims[-1] - 2)))
    assert layer(torch.randn(shape)).shape == shape


def test_registers_once(registry):
    before = dict(registry.modules)
    mmcv_registry.register(registry)
    assert registry.modules == before


@pytest.mark.skipif(importlib.util.find_spec("mmcv") is not None, reason="for where it is not installed")
@pytest.mark.parametrize("broken", [False, True])
def test_import_registers_where_mmcv_is_installed(tmp_path, broken):
    (tmp_path / "mmcv").mkdir()
    (tmp_path / "mmcv/__init__.py").touch()
    (tmp_path / "mmengine/registry").mkdir(parents=True)
    (tmp_path / "mmengine/__init__.py").touch()
    (tmp_path / "mmengine/registry/__init__.py").write_text("raise RuntimeError('broken')" if broken else STAND_IN)
    script = """
        import sys; sys.path.insert(0, sys.argv[1])
        import fusednorm
        if sys.argv[2] == "False":
            from mmengine.registry import MODELS
            assert MODELS.modules["AN"] is fusednorm.AttentiveBatchNorm2d
        print("imported")
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(tmp_path), str(broken)], capture_output=True, text=True
    )
    assert result.stdout.strip() == "imported", result.stderr
