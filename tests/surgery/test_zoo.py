"""Networks by name."""

import pytest
import torch

from fusednorm.surgery import zoo


@pytest.mark.parametrize(
    ("name", "source"),
    [("resnet18", "torchvision"), ("torchvision/mobilenet_v2", "torchvision"), ("timm/resnet18", "timm")],
)
def test_builds_by_name(name, source):
    with torch.device("meta"):
        assert type(zoo.build(name)).__module__.startswith(f"{source}.models")


def test_passes_options_on():
    with torch.device("meta"):
        assert zoo.build("resnet18", num_classes=7).fc.out_features == 7


@pytest.mark.parametrize("name", ["resnet17", "timm/resnet17", "torchvision/resnet17"])
def test_says_that_nobody_has_it(name):
    with pytest.raises(ValueError, match=f"name: expected a network of .*, got '{name}'"):
        zoo.build(name)


def test_says_whose_networks_there_are():
    with pytest.raises(ValueError, match=r"expected 'torchvision/\.\.\.' or 'timm/\.\.\.', got 'mmcls/resnet18'"):
        zoo.build("mmcls/resnet18")


def test_says_what_to_install(monkeypatch):
    def missing(name, options):
        raise ImportError("no module named timm")

    monkeypatch.setitem(zoo._FROM, "timm", missing)
    with pytest.raises(ImportError, match=r"'timm/resnet18' needs timm; pip install 'fusednorm\[models\]'"):
        zoo.build("timm/resnet18")
