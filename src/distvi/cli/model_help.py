"""``distvi train --help-model``."""

from collections.abc import Mapping
from typing import Any, get_args


def print_model_settings() -> None:
    """A table of settings for every kind of model: names, defaults, what they mean."""
    from rich.console import Console
    from rich.table import Table

    from distvi.models.registry import MODELS  # imports JAX

    console = Console(markup=False, highlight=False)
    for name_of_kind, (kind, _) in MODELS.items():
        table = Table("--set model.", "default", "", box=None, padding=(0, 2, 0, 0))
        table.columns[0].no_wrap = True
        for name, field in kind.model_fields.items():
            if name != "kind":
                table.add_row(name, _default(field.default), _meaning(kind, name))
        console.print(f"model.kind={name_of_kind}: {kind.__doc__}\n")
        console.print(table, "")


def _default(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return format(value, ".4g") if isinstance(value, float) else str(value)


def _meaning(kind: Any, name: str) -> str:
    """What a setting is, in its own words or those of the class that it was refined from."""
    tables: list[Mapping[str, Any]] = [getattr(each, "model_fields", {}) for each in kind.__mro__]
    described = [table[name].description for table in tables if name in table]
    text = " ".join(next(filter(None, described), "").replace("``", "").split())
    options = get_args(kind.model_fields[name].annotation)
    choices = ", ".join(str(each) for each in options if not isinstance(each, type))
    return f"{text} [{choices}]" if choices else text
