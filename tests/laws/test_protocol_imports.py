"""The control plane needs nothing but the standard library, and touches nothing outside itself."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import distvi

ROOMS = [Path(distvi.__file__).parent / room for room in ("protocol", "aggregation")]
FILES = [file for room in ROOMS for file in sorted(room.glob("*.py"))]
OUTSIDE_WORLD = {"asyncio", "multiprocessing", "os", "pathlib", "pickle", "random", "secrets"} | {
    "io",
    "signal",
    "socket",
    "subprocess",
    "tempfile",
    "threading",
    "time",
    "datetime",
}


def imported(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            yield node.module or ""


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.name}")
def test_a_file_imports_only_what_a_pure_room_may(file: Path) -> None:
    allowed = {"protocol"} | ({"aggregation"} if file.parent.name == "aggregation" else set())
    for module in imported(file):
        top, *rest = module.split(".")
        if top == "distvi":
            assert rest[0] in {"errors"} | allowed, module
        else:
            assert top in sys.stdlib_module_names - OUTSIDE_WORLD, module
