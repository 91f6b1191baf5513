"""What commands print on standard output."""

import json
from collections.abc import Mapping
from typing import Annotated, Any

from cyclopts import Parameter

Json = Annotated[bool, Parameter(name="--json")]


def print_json(content: Mapping[str, Any]) -> None:
    """One JSON object."""
    print(json.dumps(content, indent=2))
