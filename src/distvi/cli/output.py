"""What commands print on standard output."""

from collections.abc import Mapping
from typing import Annotated, Any

from cyclopts import Parameter

from distvi.system.files import json_text

Json = Annotated[bool, Parameter(name="--json")]


def print_json(content: Mapping[str, Any]) -> None:
    """One JSON object, as in a run's files."""
    print(json_text(content))
