"""A network that is a graph of nodes: AOGNet's And-Or blocks (Li, Song & Wu, 2019), in small.

The input's channels are cut in slices. A terminal node takes a run of slices; an And-node joins two neighbouring runs,
an Or-node adds up the ways to make one. Every node has an operation of its own; the root's are of full width.
"""

import pytest
import torch
from torch import nn

import fusednorm


class Node(nn.Module):
    """1x1, 3x3, 1x1, each with a normalization."""

    def __init__(self, channels):
        super().__init__()
        inner = channels // 2
        self.conv1, self.bn1 = nn.Conv2d(channels, inner, 1), nn.BatchNorm2d(inner)
        self.conv2, self.bn2 = nn.Conv2d(inner, inner, 3, padding=1), nn.BatchNorm2d(inner)
        self.conv3, self.bn3 = nn.Conv2d(inner, channels, 1), nn.BatchNorm2d(channels)

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn3(self.conv3(torch.relu(self.bn2(self.conv2(x))))))


class AndOrBlock(nn.Module):
    def __init__(self, channels, slices=3):
        super().__init__()
        self.slices, self.width = slices, channels // slices
        runs = [
            (start, stop)
            for size in range(1, slices + 1)
            for start in range(slices - size + 1)
            for stop in [start + size]
        ]
        self.runs = runs
        self.terminals = nn.ModuleDict({f"{a}_{b}": Node((b - a) * self.width) for a, b in runs})
        splits = [(a, cut, b) for a, b in runs for cut in range(a + 1, b)]
        self.ands = nn.ModuleDict({f"{a}_{cut}_{b}": Node((b - a) * self.width) for a, cut, b in splits})
        self.ors = nn.ModuleDict({f"{a}_{b}": Node((b - a) * self.width) for a, b in runs if b - a > 1})

    def forward(self, x):
        parts, made = x.chunk(self.slices, 1), {}
        for a, b in self.runs:
            total = self.terminals[f"{a}_{b}"](torch.cat(parts[a:b], 1))
            for cut in range(a + 1, b):
                total = total + self.ands[f"{a}_{cut}_{b}"](torch.cat([made[a, cut], made[cut, b]], 1))
            made[a, b] = self.ors[f"{a}_{b}"](total) if b - a > 1 else total
        return made[0, self.slices]


class SmallAOGNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU())
        self.stages = nn.ModuleList([AndOrBlock(12), AndOrBlock(12)])

    def forward(self, x):
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        return x


FULL = 6  # inner channels of nodes of full width


def is_full(name, norm):
    return norm.num_features == FULL


@pytest.mark.parametrize("fold", [False, True])
def test_nodes_of_full_width(fold):
    torch.manual_seed(0)
    model, x = SmallAOGNet().double().eval(), torch.randn(2, 3, 8, 8, dtype=torch.float64)
    expected = model(x)
    _, report = fusednorm.convert(model, "attentive", only=is_full, fold=fold, preserve=True)
    # of full width: one terminal node, two And-nodes, one Or-node in each block
    assert len(report.replaced) == 8
    assert {row.name.rpartition(".")[2] for row in report.replaced} == {"bn2"}
    assert {row.note for row in report.replaced} == {"+ relu" if fold else ""}
    torch.testing.assert_close(model(x), expected)
    model.train()(x).sum().backward()


def test_every_node():
    _, report = fusednorm.convert(SmallAOGNet(), "attentive")
    assert len(report.replaced) == 2 * (6 + 4 + 3)
    _, report = fusednorm.convert(SmallAOGNet(), "representative")
    assert len(report.replaced) == 1 + 2 * 3 * (6 + 4 + 3)


def test_only_none():
    with pytest.raises(ValueError, match="expected a place for 'attentive'"):
        fusednorm.convert(SmallAOGNet(), "attentive", only=lambda name, norm: False)
