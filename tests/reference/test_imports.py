"""The reference stands alone: it imports torch and itself, and nothing in the library imports it."""

import ast
import sys
from pathlib import Path

from fusednorm import reference

REFERENCE = Path(reference.__file__).parent
LIBRARY = REFERENCE.parent


def imported(file: Path) -> set[str]:
    """The absolute names of the modules (and of the names taken from them) that a file imports."""
    package = [LIBRARY.name, *file.relative_to(LIBRARY).parent.parts]
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            names.update(f"{module}.{alias.name}" for alias in node.names)
    return names


def test_reference_imports_only_torch_and_itself() -> None:
    for file in REFERENCE.glob("*.py"):
        for name in imported(file):
            root = name.split(".")[0]
            assert root == "torch" or root in sys.stdlib_module_names or name.startswith("fusednorm.reference."), (
                f"{file.name} imports {name}"
            )


def test_nothing_in_the_library_imports_the_reference() -> None:
    for file in set(LIBRARY.rglob("*.py")) - set(REFERENCE.glob("*.py")):
        if "demo" in file.relative_to(LIBRARY).parts:  # it times the reference as one of the contenders
            continue
        for name in imported(file):
            assert not name.startswith("fusednorm.reference"), f"{file} imports {name}"
