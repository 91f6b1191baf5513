"""``distvi train --help-rules``."""

import inspect
import sys
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

_BOUNDS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}


def print_rules() -> None:
    """What every rule does, who published it, and a table of its options."""
    from rich.console import Console
    from rich.table import Table

    from distvi.algorithms.registry import RULES

    console = Console(markup=False, highlight=False)
    for name, rule in RULES.items():
        kind = rule.settings_class  # imports JAX
        table = Table("--rule-options.", "type", "default", "", box=None, padding=(0, 2, 0, 0))
        for column in table.columns[:-1]:
            column.no_wrap = True
        for option, field in kind.model_fields.items():
            table.add_row(option, _type(field), _default(field), field.description)
        console.print(f"--rules {name}: {inspect.getdoc(kind)} {_papers(kind)}".strip())
        if kind.model_fields:
            console.print("", table, sep="\n")
        console.print()
    console.print("Several rules: --rules NAME for each. Each wraps those before it.")


def _default(field: Any) -> str:
    """What holds where nothing is given; - where that depends on the run."""
    if field.is_required():
        return "(required)"
    return "-" if field.default is None else str(field.default)


def _type(field: Any) -> str:
    """A type and its bounds."""
    bounds = [
        f" {sign} {getattr(limit, key)}"
        for limit in field.metadata
        for key, sign in _BOUNDS.items()
        if hasattr(limit, key)
    ]
    return _name(field.annotation) + ",".join(bounds)


def _name(annotation: Any) -> str:
    origin = get_origin(annotation)
    if origin is Literal:
        return "text"  # the description says which
    if origin in (Union, UnionType):
        return " | ".join(_name(kind) for kind in get_args(annotation) if kind is not NoneType)
    return getattr(annotation, "__name__", str(annotation))


def _papers(kind: type) -> str:
    """The references of the rule's module."""
    _, _, references = (sys.modules[kind.__module__].__doc__ or "").partition("References:")
    return " ".join(references.split())
