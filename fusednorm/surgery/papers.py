"""Parameter counts of the papers' tables: what is printed, and which network gives which count. Data alone.

A row reproduces where the count rounds to the printed figure. `count` is what a network of that description has with
the papers' own modules; tests build ours, and compare.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Entry:
    """A row of a paper's table.

    paper: "AN", "NA", "RBN" or "SN". printed: the figure, in millions; None where the paper has none.
    network: as fusednorm.surgery.zoo.build takes it; None where neither torchvision nor timm has it.
    recipe: None for the network as it is. options: of convert. note: the convention, or what is known of a difference.
    """

    paper: str
    table: str
    row: str
    printed: str | None
    count: int
    network: str | None
    recipe: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""

    @property
    def reproduces(self) -> bool | None:
        """Whether the count rounds to what is printed; None where nothing is."""
        if self.printed is None:
            return None
        decimals = len(self.printed.partition(".")[2])
        return f"{self.count / 1e6:.{decimals}f}" == self.printed


def _of(paper: str) -> Callable[..., Entry]:
    def entry(
        table: str,
        row: str,
        printed: str | None,
        count: int,
        network: str | None,
        recipe: str | None = None,
        note: str = "",
        **options: Any,
    ) -> Entry:
        return Entry(paper, table, row, printed, count, network, recipe, options, note)

    return entry


_NO_AOGNET = "no AOGNet in torchvision or timm, and the official one is for research only"
_an, _na, _rbn, _sn = _of("AN"), _of("NA"), _of("RBN"), _of("SN")

ENTRIES = (
    _an("2", "ResNet34-BN", "21.80", 21_797_672, "resnet34"),
    _an(
        "2",
        "ResNet34-AN",
        "21.92",
        21_996_060,
        "resnet34",
        "attentive",
        note="bn2 of each block, its last 3x3 convolution's",
    ),
    _an(
        "2",
        "ResNet34-AN",
        "21.92",
        22_194_448,
        "resnet34",
        "attentive",
        where="all",
        note="bn1 and bn2, as the official BasicBlock",
    ),
    _an(
        "2",
        "ResNet34-AN",
        "21.92",
        21_918_888,
        "resnet34",
        "attentive",
        where="all",
        num_components=6,
        note="bn1 and bn2, K = 6: a number that fits, stated nowhere",
    ),
    _an("2", "ResNet50-BN", "25.56", 25_557_032, "resnet50"),
    _an("2", "ResNet50-AN", "25.76", 25_755_420, "resnet50", "attentive", note="BN2, K = 10, 10, 20, 20"),
    _an("2", "ResNet50-SN", "25.56", 25_557_350, "resnet50", "switchable"),
    _an("2", "ResNet50-SE", "28.09", 28_088_024, "resnet50", "squeeze_excite", note="BN3, r = 16, with biases"),
    _an("2", "ResNet101-BN", "44.57", 44_549_160, "resnet101", note="7x7 stem"),
    _an("2", "ResNet101-BN", "44.57", 44_568_392, "timm/resnet101c", note="stem of three 3x3 convolutions"),
    _an("2", "ResNet101-AN", "45.00", 45_000_644, "resnet101", "attentive", note="7x7 stem"),
    _an("2", "DenseNet121-BN", "7.98", 7_978_856, "densenet121"),
    _an("2", "DenseNet121-AN", "8.34", 8_342_288, "densenet121", "attentive", note="norm2 of the 58 layers"),
    _an("2", "MobileNetV2-BN", "3.50", 3_504_872, "mobilenet_v2"),
    _an(
        "2",
        "MobileNetV2-AN",
        "3.56",
        3_672_760,
        "mobilenet_v2",
        "attentive",
        num_components=(5, 5, 5, 5, 10, 10, 10),
        note="depthwise BN, K of the official configuration",
    ),
    _an(
        "2",
        "MobileNetV2-AN",
        "3.56",
        3_563_464,
        "mobilenet_v2",
        "attentive",
        num_components=(2, 2, 2, 2, 4, 4, 4),
        note="depthwise BN, K = 2 and 4: a number that fits, stated nowhere",
    ),
    _an(
        "2",
        "AOGNet12M-BN",
        "12.26",
        12_259_099,
        None,
        note=_NO_AOGNET,
    ),
    _an(
        "2",
        "AOGNet12M-AN",
        "12.37",
        12_373_355,
        None,
        "attentive",
        note=_NO_AOGNET,
    ),
    _an(
        "2",
        "AOGNet40M-BN",
        "40.15",
        40_153_004,
        None,
        note=_NO_AOGNET,
    ),
    _an(
        "2",
        "AOGNet40M-AN",
        "40.39",
        40_388_880,
        None,
        "attentive",
        note=_NO_AOGNET,
    ),
    _an(
        "2, state of the art",
        "ResNet50-BN",
        "25.56",
        25_576_264,
        "timm/resnet50c",
        note="stem of three 3x3 convolutions; printed is the 7x7 one's",
    ),
    _an(
        "2, state of the art",
        "ResNet50-AN",
        "25.76",
        25_774_652,
        "timm/resnet50c",
        "attentive",
        note="stem of three 3x3 convolutions; printed is the 7x7 one's",
    ),
    _an(
        "2, state of the art",
        "ResNet101-BN",
        "44.57",
        44_568_392,
        "timm/resnet101c",
        note="stem of three 3x3 convolutions",
    ),
    _an(
        "2, state of the art",
        "ResNet101-AN",
        "45.00",
        45_019_876,
        "timm/resnet101c",
        "attentive",
        note="stem of three 3x3 convolutions; printed is the 7x7 one's",
    ),
    _an("1", "mean, A2, hsigmoid", "25.76", 25_755_420, "resnet50", "attentive", attention_input="mean"),
    _an("1", "mean and std, A2, hsigmoid", "25.82", 25_823_900, "resnet50", "attentive", attention_input="mean_std"),
    _an("1", "RSD, A1, hsigmoid", "25.76", 25_755_170, "resnet50", "attentive", attention_norm=False),
    _an("1", "RSD, A2, softmax", "25.76", 25_755_420, "resnet50", "attentive", attention_act="softmax"),
    _an("1", "RSD, A2, sigmoid", "25.76", 25_755_420, "resnet50", "attentive", attention_act="sigmoid"),
    _an("1", "RSD, A2, hsigmoid", "25.76", 25_755_420, "resnet50", "attentive"),
    _an(
        "1",
        "RSD, A2, relu",
        "25.96",
        25_755_420,
        "resnet50",
        "attentive",
        attention_act="relu",
        note="an activation has no parameters; 25.96 is K = 20, 20, 40, 40",
    ),
    _an(
        "1",
        "K = 5, 10",
        "25.76",
        25_652_450,
        "resnet50",
        "attentive",
        num_components=(5, 5, 10, 10),
        note="K = 5, 5, 10, 10",
    ),
    _an(
        "1",
        "K = 20, 30",
        "25.96",
        25_869_020,
        "resnet50",
        "attentive",
        num_components=(20, 20, 30, 30),
        note="K = 20, 20, 30, 30",
    ),
    _an(
        "1",
        "K = 20, 30",
        "25.96",
        25_961_360,
        "resnet50",
        "attentive",
        num_components=(20, 20, 40, 40),
        note="K = 20, 20, 40, 40: fits, but is not what the row says",
    ),
    _an("1", "all BNs", "26.96", 26_947_472, "resnet50", "attentive", where="network", note="53 layers"),
    _an(
        "1",
        "all BNs",
        "26.96",
        26_945_660,
        "resnet50",
        "attentive",
        where=("all", "shortcut"),
        note="52 layers, the stem's stays BN",
    ),
    _an(
        "1",
        "all BNs",
        "26.96",
        26_964_892,
        "timm/resnet50c",
        "attentive",
        where=("all", "shortcut"),
        note="52 layers, stem of three 3x3 convolutions, which stays BN",
    ),
    _an(
        "1",
        "all BNs",
        "26.96",
        26_968_536,
        "timm/resnet50c",
        "attentive",
        where="network",
        note="stem of three 3x3 convolutions, all layers",
    ),
    _an("3", "SE (BN3)", "28.09", 28_088_024, "resnet50", "squeeze_excite", note="r = 16, with biases"),
    _an("3", "SE (BN3)", "28.09", 28_071_976, "resnet50", "squeeze_excite", bias=False, note="r = 16, without"),
    _an(
        "3",
        "SE (BN2)",
        "26.19",
        25_718_228,
        "resnet50",
        "squeeze_excite",
        where="bn2",
        reduction=16,
        note="r = 16, with biases",
    ),
    _an("3", "SE (BN2)", "26.19", 26_190_488, "resnet50", "squeeze_excite", where="bn2", note="r = 4, with biases"),
    _an(
        "3",
        "SE (BN2)",
        "26.19",
        26_185_768,
        "resnet50",
        "squeeze_excite",
        where="bn2",
        bias=False,
        note="r = 4, without",
    ),
    _an(
        "3",
        "SE (All)",
        "29.33",
        28_410_416,
        "resnet50",
        "squeeze_excite",
        where="all",
        reduction=16,
        note="r = 16, with biases",
    ),
    _an(
        "3",
        "SE (All)",
        "29.33",
        29_354_936,
        "resnet50",
        "squeeze_excite",
        where="all",
        note="r = 4, 4, 16, with biases",
    ),
    _an(
        "3",
        "SE (All)",
        "29.33",
        29_329_448,
        "resnet50",
        "squeeze_excite",
        where="all",
        bias=False,
        note="r = 4, 4, 16, without",
    ),
    _an("3", "AN (w/ BN3)", "26.35", 26_349_084, "resnet50", "attentive", where="bn3"),
    _an("3", "AN (w/ BN2)", "25.76", 25_755_420, "resnet50", "attentive"),
    _an(
        "3",
        "AN (All)",
        "25.92",
        26_745_860,
        "resnet50",
        "attentive",
        where="all",
        note="more than the BN3 row's 26.35, as it must be",
    ),
    _an("3", "AN (All)", "25.92", 25_953_808, "resnet50", "attentive", where=("bn1", "bn2"), note="bn1 and bn2 alone"),
    _an(
        "3",
        "AN (All)",
        "25.92",
        25_920_104,
        "resnet50",
        "attentive",
        where="all",
        num_components=6,
        note="K = 6: a number that fits, stated nowhere",
    ),
    _na("1, 2", "ResNet50", "25.557", 25_557_032, "resnet50"),
    _na("1, 2", "SE-ResNet50", "28.088", 28_088_024, "resnet50", "squeeze_excite", note="r = 16"),
    _na("1, 2", "NA-ResNet50", "25.557", 25_557_064, "resnet50", "normalization_attention", note="16 layers of 2"),
    _na(
        "1, 2",
        "NA, with embedding",
        "25.558",
        25_557_704,
        "resnet50",
        "normalization_attention",
        similarity="mean_difference",
        embedding=True,
        note="16 layers of 42",
    ),
    _na("1, 2", "NA, mean", "25.557", 25_557_064, "resnet50", "normalization_attention", similarity=None),
    _na("1, 2", "MobileNetV2", "3.505", 3_504_872, "mobilenet_v2"),
    _na(
        "1, 2",
        "NA-MobileNetV2",
        "3.50",
        3_504_906,
        "mobilenet_v2",
        "normalization_attention",
        note="17 layers of 2; printed with two decimals",
    ),
    _na(
        "1, 2",
        "SE-MobileNetV2",
        "3.563",
        3_563_492,
        "mobilenet_v2",
        "squeeze_excite",
        reduction=8,
        note="after each block's last BN, r = 8, with biases",
    ),
    _na(
        "1, 2",
        "SE-MobileNetV2",
        "3.563",
        3_561_800,
        "mobilenet_v2",
        "squeeze_excite",
        reduction=8,
        bias=False,
        note="r = 8, without",
    ),
    _na(
        "1, 2",
        "SE-MobileNetV2",
        "3.563",
        3_534_885,
        "mobilenet_v2",
        "squeeze_excite",
        reduction=16,
        note="r = 16, with biases",
    ),
    _rbn("none", "RBN-ResNet50", None, 25_636_712, "resnet50", "representative", note="53 layers"),
    _rbn("none", "RBN-ResNet101", None, 44_707_176, "resnet101", "representative", note="104 layers"),
    _rbn("none", "RBN-ResNeXt50", None, 25_131_240, "resnext50_32x4d", "representative", note="32x4d, 53 layers"),
    _rbn(
        "none", "RBN-Res2Net50", None, 25_788_358, "timm/res2net50_26w_4s", "representative", note="26w 4s, 85 layers"
    ),
    _rbn("none", "RBN-MobileNetV2", None, 3_556_040, "mobilenet_v2", "representative", note="52 layers"),
    _sn("none", "SN-ResNet50", None, 25_557_350, "resnet50", "switchable", note="53 layers, 6 ratios each"),
    _sn(
        "none",
        "SN-ResNet50 (8, 1)",
        None,
        25_557_244,
        "resnet50",
        "switchable",
        scopes=("instance", "layer"),
        note="one sample a device: no batch scope",
    ),
    _sn(
        "none",
        "SN-ResNet50 v2",
        None,
        25_549_780,
        None,
        "switchable",
        note="pre-activation, with a normalization after the stem that timm's resnetv2_50 does not have",
    ),
)
