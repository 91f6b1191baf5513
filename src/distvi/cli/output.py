"""What commands print."""

import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any

from cyclopts import Parameter

from distvi.errors import InputWarning
from distvi.system.files import json_text

Json = Annotated[bool, Parameter(name="--json")]


def print_json(content: Mapping[str, Any]) -> None:
    """One JSON object, as in a run's files."""
    print(json_text(content))


def say(line: str) -> None:
    """A line that is no result: on standard error."""
    print(line, file=sys.stderr)


@contextmanager
def warnings_as_lines() -> Iterator[None]:
    """What is doubtful about the input is said in one line each, without a place in the code."""

    def show(message: Warning | str, category: type[Warning], *place: Any) -> None:
        if issubclass(category, InputWarning):
            say(f"distvi: warning: {message}")
        else:
            otherwise(message, category, *place)

    with warnings.catch_warnings():
        otherwise = warnings.showwarning
        warnings.simplefilter("always", InputWarning)
        warnings.showwarning = show
        yield
