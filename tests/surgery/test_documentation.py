"""docs/networks.md: its code runs, one piece after the other, and gives what it says."""

import re
from pathlib import Path

import torch

from fusednorm.surgery import RECIPES, zoo

PAGE = Path(__file__).parents[2] / "docs/networks.md"


def test_code_and_its_output(capsys):
    zoo.import_torchvision()
    text, own = PAGE.read_text(), {"torch": torch}
    pieces = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(pieces) == 3
    for piece in pieces:
        with torch.device("meta"):
            exec(piece, own)
    printed = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    shown = [line[4:].rstrip() for line in re.search(r"\n((?:    .*\n)+)", text)[1].splitlines()]
    assert "  ..." in shown
    assert [line for line in shown if line != "  ..." and line not in printed] == []


def test_every_recipe_is_listed():
    assert re.findall(r'^\| `"(\w+)"` \|', PAGE.read_text(), re.MULTILINE) == list(RECIPES)
