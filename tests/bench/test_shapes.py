import pytest

from bench.layers import LAYERS
from bench.names import LAYOUTS, Layer, Layout, Section, parse_names
from bench.sections import WHAT
from bench.shapes import layer_counts, named_shapes, parse_shapes


def test_shapes_are_parsed_in_order() -> None:
    assert parse_shapes("16x64x56x56, 2x4x8x8", batch=8) == [(16, 64, 56, 56), (2, 4, 8, 8)]


def test_names_stand_for_shapes_each_of_which_comes_once() -> None:
    shapes = parse_shapes("large,resnet50,32x128x28x28", batch=32)
    assert shapes[:2] == [(16, 256, 56, 56), (32, 128, 28, 28)]
    assert len(set(shapes)) == len(shapes) == 1 + len(named_shapes("resnet50", 32))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("16x64", "'16x64' has 2 dimensions, 4 are needed"),
        ("2x4x8x8x8", "has 5 dimensions"),
        ("2x4xax8", "'2x4xax8' is not a shape: .* or large, resnet50, mobilenetv2, densenet121"),
        ("2x4x8x8,", "'' is not a shape"),
        ("2x0x8x8", "'2x0x8x8' has a size below 1"),
    ],
)
def test_a_bad_shape_says_what_is_wrong(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_shapes(text, batch=8)


@pytest.mark.parametrize(
    ("network", "layers", "some"),
    [
        # in the first stage: the narrow norms of three blocks; of each block the wide one, and the shortcut's
        ("resnet50", 53, {(8, 64, 112, 112): 1, (8, 64, 56, 56): 6, (8, 256, 56, 56): 4, (8, 2048, 7, 7): 4}),
        ("mobilenetv2", 52, {(8, 32, 112, 112): 2, (8, 96, 112, 112): 1, (8, 96, 56, 56): 1, (8, 1280, 7, 7): 1}),
        ("densenet121", 121, {(8, 64, 112, 112): 1, (8, 64, 56, 56): 1, (8, 1024, 14, 14): 1, (8, 1024, 7, 7): 1}),
    ],
)
def test_shapes_of_networks(network: str, layers: int, some: dict[tuple[int, ...], int]) -> None:
    counts = layer_counts(network, 8)
    assert sum(counts.values()) == layers
    assert {shape: counts[shape] for shape in some} == some


def test_names_are_parsed() -> None:
    assert parse_names("channels_last, nchw", Layout, "layout") == (Layout.channels_last, Layout.nchw)
    assert parse_names("sn, an-gn", Layer, "layer") == (Layer.sn, Layer.an_gn)
    assert parse_names("all", Layer, "layer") == tuple(Layer)
    with pytest.raises(ValueError, match=r"'lrn' is not a layer: choose from an, .*grn, or all for all"):
        parse_names("an,lrn", Layer, "layer")


def test_every_name_means_something() -> None:
    assert set(LAYERS) == set(Layer)
    assert set(LAYOUTS) == {layout.value for layout in Layout}
    assert set(WHAT) == set(Section)
