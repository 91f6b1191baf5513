"""``distvi train --help-schemes``."""

from collections.abc import Iterable, Mapping
from typing import Any

from distvi.aggregation.options import REQUIRED, ByWorkers, Option
from distvi.aggregation.registry import RATE, SCHEMES

_TYPES = {int: "int", float: "float", str: "text"}


def print_schemes(*, workers: int | None = None) -> None:
    """What every scheme does, who published it, and a table of its options.

    Args:
        workers: Those for which defaults that depend on them are worked out.
    """
    from rich.console import Console

    console = Console(markup=False, highlight=False)
    for name, entry in SCHEMES.items():
        console.print(f"--scheme {name}: {entry.summary} {entry.paper}".replace("``", "").strip())
        if entry.options:
            console.print("", _table(entry.options, workers), sep="\n")
        console.print()
    console.print("Every scheme has, besides:\n")
    console.print(_table([RATE], workers))


def _table(options: Iterable[Option], workers: int | None) -> Any:
    from rich.table import Table

    table = Table("--scheme-options.", "type", "default", "", box=None, padding=(0, 2, 0, 0))
    for column in table.columns[:-1]:
        column.no_wrap = True
    for option in options:
        table.add_row(option.name, _type(option), _default(option, workers), _meaning(option))
    return table


def _type(option: Option) -> str:
    if isinstance(option.kind, Mapping):
        return "name"
    least = "" if option.least is None else f" >= {option.least}"
    return f"{_TYPES[option.kind]}{least}"


def _default(option: Option, workers: int | None) -> str:
    """The default, in words and as the number for so many workers."""
    default = option.default
    if isinstance(default, ByWorkers):
        return default.words if workers is None else f"{default.words}: {default.of(workers)}"
    if default is REQUIRED:
        return "(required)"
    if isinstance(option.kind, Mapping):
        default = next((name for name, value in option.kind.items() if value is default), default)
    return "none" if default is None else str(default)


def _meaning(option: Option) -> str:
    choices = f"[{', '.join(option.kind)}]" if isinstance(option.kind, Mapping) else ""
    return f"{option.help} {choices}".strip()
