"""Tables of settings: their base class, complaints about them in one line, TOML in and out."""

import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator, model_validator
from pydantic_core import PydanticCustomError

from distvi.errors import InputError, nearest

_MEMBERS = ("str", "int", "float", "bool")  # as pydantic names the member of a union it was at


class Settings(BaseModel):
    """A table of settings: frozen, and closed to keys it does not know."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    @model_validator(mode="before")
    @classmethod
    def _keys_are_known(cls, table: Any) -> Any:
        """Name the near miss of an unknown key: only here are the known ones at hand."""
        if isinstance(table, Mapping):
            for key in table:
                if key not in cls.model_fields:
                    raise misplaced("unknown key {key}{hint}", key, nearest(key, cls.model_fields))
        return table


class KindSettings(Settings):
    """Settings of one kind among several; ``kind`` tells a table of theirs from the others'."""

    kind: str

    @field_validator("kind")
    @classmethod
    def _of_this_class(cls, kind: str) -> str:
        own = cls.model_fields["kind"].default
        if kind != own:
            raise ValueError(f"these are settings of kind '{own}', not '{kind}'")
        return kind


def misplaced(template: str, key: str, hint: str) -> PydanticCustomError:
    """A complaint about a key of the table that is being validated, for `complaint` to spell.

    Args:
        template: The message, with ``{key}`` and ``{hint}`` in it.
        key: The key.
        hint: What would be right.
    """
    context = {"template": template, "key": key, "hint": hint}
    return PydanticCustomError("misplaced", "{template}", context)


def unknown_kind(message: str) -> PydanticCustomError:
    """A complaint about a table as a whole, which says all by itself."""
    return PydanticCustomError("unknown_kind", "{message}", {"message": message})


def complaint_path(error: ValidationError) -> tuple[str, ...]:
    """The keys that lead to pydantic's first complaint, from the outermost table on."""
    first = error.errors(include_url=False)[0]
    path = tuple(str(part) for part in first["loc"] if not _is_member(part))
    return (*path, first.get("ctx", {})["key"]) if first["type"] == "misplaced" else path


def complaint(error: ValidationError, where: str = "", spell: Callable[[str], str] = repr) -> str:
    """The first complaint of pydantic as one line: where, which key, the value, what is wrong.

    Args:
        error: From validating a table of settings.
        where: Comes first, such as ``"run.toml: "``.
        spell: How the person who gave a setting wrote its name (``"training.batch_size"``).
    """
    first = error.errors(include_url=False)[0]
    path = ".".join(complaint_path(error))
    reason = first["msg"].removeprefix("Value error, ")
    match first["type"]:
        case "misplaced":
            context = first.get("ctx", {})
            return where + context["template"].format(key=spell(path), hint=context["hint"])
        case "unknown_kind":
            return f"{where}{reason}"
        case "value_error":
            return f"{where}in {spell(path)}: {reason}" if path else f"{where}{reason}"
        case "missing":
            return f"{where}{spell(path)} is missing"
    return f"{where}{spell(path)} is {first['input']!r}: {reason[0].lower()}{reason[1:]}"


def _is_member(part: int | str) -> bool:
    """Whether an entry of pydantic's location names a member of a union, and no key."""
    return isinstance(part, str) and (part.startswith("tuple[") or part in _MEMBERS)


def read_toml(path: Path, what: str = "") -> dict[str, Any]:
    """The tables of a TOML file.

    Args:
        path: The file.
        what: What it is to the person who named it, for the message: ``"cluster "``.

    Raises:
        InputError: the file is absent, unreadable or no TOML (with the line).
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {what}{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{what}{path} is no valid TOML: {error}") from error


def toml_value(text: str) -> Any:
    """A value as it is written in TOML; text that is none stays text.

    Example:
        >>> toml_value("0.8"), toml_value("adam")
        (0.8, 'adam')
    """
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def write_toml(table: Mapping[str, Any]) -> str:
    """TOML of a configuration.

    A key whose value is None is left out: TOML has no null, and absence means the same here.

    Example:
        >>> print(write_toml({"model": {"width": 50, "ard": True, "seed": None}}), end="")
        [model]
        width = 50
        ard = true
    """
    return tomli_w.dumps(_without_none(table))


def _without_none(table: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: _without_none(value) if isinstance(value, Mapping) else value
        for name, value in table.items()
        if value is not None
    }
