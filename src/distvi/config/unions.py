"""Tables that are of one kind among several, such as ``[engine]``: their key ``kind`` tells which.

The kinds come from a registry, so that one more kind is one more entry there.
"""

from collections.abc import Mapping
from typing import Any

from pydantic_core import PydanticCustomError

from distvi.errors import nearest
from distvi.system.settings import Settings, misplaced, unknown_kind

KIND = "kind"


def settings_of_kind(
    what: str, table: Any, kinds: Mapping[str, type[Settings]], default: str
) -> Settings:
    """The settings of a table, of the class of its kind.

    Args:
        what: What there are kinds of: ``"engine"``.
        table: What pydantic was given: a table, or settings already.
        kinds: The class of each kind's settings.
        default: The kind of a table without one.

    Raises:
        PydanticCustomError: an unknown kind, or a key that other kinds have.
        ValidationError: see the class.
    """
    if isinstance(table, tuple(kinds.values())):
        return table
    if not isinstance(table, Mapping):
        return kinds[default].model_validate(table)  # which says what is expected
    kind = table.get(KIND, default)
    if not isinstance(kind, str) or kind not in kinds:
        raise unknown_kind(f"unknown {what} '{kind}'{nearest(str(kind), kinds)}")
    for key in table:
        if key not in kinds[kind].model_fields and (owners := _owners(key, kinds)):
            raise _of_another(what, kind, key, owners)
    return kinds[kind].model_validate({KIND: kind, **table})


def _owners(key: str, kinds: Mapping[str, type[Settings]]) -> list[str]:
    return [kind for kind, settings in kinds.items() if key in settings.model_fields]


def _of_another(what: str, kind: str, key: str, owners: list[str]) -> PydanticCustomError:
    hint = f"it belongs to {what}{'s' * (len(owners) > 1)} {' and '.join(owners)}"
    return misplaced(f"{what} '{kind}' has no setting {{key}}; {{hint}}", key, hint)
