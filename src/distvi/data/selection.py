"""Which columns of a table are to be inputs."""

from collections.abc import Sequence
from typing import NamedTuple

from distvi.data.columns import near
from distvi.data.table_files import TableFile, TableOptions
from distvi.errors import InputError


class Selection(NamedTuple):
    """Columns of a table that are to be inputs.

    Attributes:
        inputs: Their names.
        categorical: Those of them that were said to hold categories.
    """

    inputs: tuple[str, ...]
    categorical: frozenset[str]


def selected(file: TableFile, targets: Sequence[str], options: TableOptions) -> Selection:
    """All columns or those said, without targets and those dropped.

    Raises:
        InputError: a name is of no column or of a target, or nothing is left.
    """
    said = _named("columns", options.columns, file)
    dropped = _named("drop", options.drop, file)
    categorical = _named("categorical", options.categorical, file)
    for option, names in {"columns": said, "drop": dropped, "categorical": categorical}.items():
        if both := [name for name in names if name in targets]:
            raise InputError(f"{file.path}: --{option} {both[0]}: that column is the target")
    names = said or tuple(name for name in file.names if name not in targets)
    inputs = tuple(name for name in names if name not in dropped)
    if not inputs:
        raise InputError(f"{file.path}: no input columns: all are targets or dropped")
    if strange := [name for name in categorical if name not in inputs]:
        raise InputError(f"{file.path}: --categorical {strange[0]}: that column is no input")
    return Selection(inputs, frozenset(categorical))


def _named(option: str, given: Sequence[str] | None, file: TableFile) -> tuple[str, ...]:
    """Columns that an option names, one by one or several with commas between them."""
    found: list[str] = []
    for each in given or ():
        for name in [each] if each in file.names else [part.strip() for part in each.split(",")]:
            if name not in file.names:
                hint = near(name, file.names)
                raise InputError(f"{file.path}: --{option}: no column named {name!r}{hint}")
            found.append(name)
    return tuple(dict.fromkeys(found))
