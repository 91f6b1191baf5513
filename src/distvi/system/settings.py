"""Tables of settings: their base class, complaints about them in one line, TOML in and out."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from distvi.errors import InputError


class Settings(BaseModel):
    """A table of settings: frozen, and closed to keys it does not know."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


def describe(error: ValidationError) -> str:
    """The first complaint of pydantic, in one line."""
    first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"unknown key '{key}'"
    reason = first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error":
        return f"{key}: {reason}" if key else reason
    if first["type"] == "missing":
        return f"{key} is missing"
    return f"{key} is {first['input']!r}: {reason[0].lower()}{reason[1:]}"


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file.

    Raises:
        InputError: the file is absent, unreadable or no TOML (with the line).
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no valid TOML: {error}") from error


def write_toml(table: Mapping[str, Any]) -> str:
    """TOML of a configuration: plain values, then one level of tables and nested tables after.

    A key whose value is None is left out: TOML has no null, and absence means the same here.

    Example:
        >>> print(write_toml({"model": {"width": 50, "ard": True}}), end="")
        [model]
        width = 50
        ard = true
    """
    return "\n".join(_tables(table, ())) + "\n"


def _tables(table: Mapping[str, Any], path: tuple[str, ...]) -> list[str]:
    plain = {k: v for k, v in table.items() if not isinstance(v, Mapping) and v is not None}
    lines = [f"[{'.'.join(path)}]"] if path and (plain or not table) else []
    lines += [f"{_key(name)} = {_literal(value)}" for name, value in plain.items()]
    for name, value in table.items():
        if isinstance(value, Mapping) and value:
            lines += ([""] if lines else []) + _tables(value, (*path, _key(name)))
    return lines


def _key(name: str) -> str:
    bare = name.replace("_", "").replace("-", "")
    return name if bare.isascii() and bare.isalnum() else _literal(name)


def _literal(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)  # inf and nan read the same in TOML
    if isinstance(value, list | tuple):
        return f"[{', '.join(_literal(item) for item in value)}]"
    text = str(value).replace("\\", "\\\\").replace('"', '\\"')
    escaped = "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in text)
    return f'"{escaped}"'
