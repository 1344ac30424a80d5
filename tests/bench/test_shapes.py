import pytest

from bench.layers import LAYERS
from bench.shapes import LAYOUTS, Layer, parse_layers, parse_layouts, parse_shapes


def test_shapes_are_parsed_in_order() -> None:
    assert parse_shapes("16x64x56x56, 2x4x8x8") == [(16, 64, 56, 56), (2, 4, 8, 8)]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("16x64", "'16x64' has 2 dimensions, 4 are needed"),
        ("2x4x8x8x8", "has 5 dimensions"),
        ("2x4xax8", "'2x4xax8' is not a shape"),
        ("2x4x8x8,", "'' is not a shape"),
        ("2x0x8x8", "'2x0x8x8' has a size below 1"),
    ],
)
def test_a_bad_shape_says_what_is_wrong(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_shapes(text)


def test_layouts_are_parsed() -> None:
    assert parse_layouts("channels_last, nchw") == ["channels_last", "nchw"]


def test_an_unknown_layout_is_named() -> None:
    with pytest.raises(ValueError, match="'nhwc' is not a layout: choose from nchw, channels_last"):
        parse_layouts("nchw,nhwc")


def test_layers_are_parsed() -> None:
    assert parse_layers("sn, an-gn") == [Layer.sn, Layer.an_gn]
    assert parse_layers("layers") == list(Layer)
    with pytest.raises(ValueError, match=r"'lrn' is not a layer: choose from an, .*grn, or layers for all"):
        parse_layers("an,lrn")


def test_every_layer_is_built_and_every_layout_named() -> None:
    assert set(LAYERS) == set(Layer)
    assert list(LAYOUTS) == ["nchw", "channels_last"]
