"""From a file, options and assignments to one checked configuration."""

from collections.abc import Callable, Collection, Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from distvi.config import old_keys
from distvi.config.run import RunConfig, engine_settings, flat_names
from distvi.config.training import LENGTHS
from distvi.config.unions import KIND
from distvi.engines.registry import DEFAULT_ENGINE
from distvi.errors import InputError, nearest
from distvi.system.settings import complaint, complaint_path, read_toml, toml_value

Spell = Callable[[str], str]


def resolve(
    dataset: str | None = None,
    *,
    file: str | PathLike[str] | None = None,
    settings: Mapping[str, Any] | None = None,
    assignments: Iterable[str] = (),
    spell: Spell = repr,
) -> RunConfig:
    """The configuration from a file, then flat settings, then ``section.key=value`` assignments.

    Args:
        dataset: Name or path of the data set; may instead stand in the file.
        file: A TOML file with the tables of ``RunConfig``.
        settings: Flat names (``batch_size``), tables (``model={"width": 50}``), or settings
            objects (``model=DeepGPSettings(width=50)``), which replace the whole table.
        assignments: Such as ``"model.width=50"``; the value is read as TOML, else as text.
        spell: How the person who gave the flat settings wrote a name, for messages.

    Raises:
        InputError: a file that is absent or no TOML, an unknown key, a value out of range.
    """
    draft = _Draft(file)
    given = set(settings or {}) & set(LENGTHS)
    draft.forget_length(given)
    for name, value in (settings or {}).items():
        draft.set(name, value)
    for assignment in assignments:
        draft.assign(assignment)
    if dataset is not None:
        draft.put("data", "dataset", str(dataset))
    if "dataset" not in draft.tables.get("data", {}):
        raise InputError("no data set is named; give one, for instance: distvi train digits")
    return draft.checked(spell)


class _Draft:
    """Tables that are being put together, and who gave what in them.

    Args:
        file: A TOML file that comes first.
    """

    def __init__(self, file: str | PathLike[str] | None) -> None:
        self.file = file
        self.tables: dict[str, Any] = {} if file is None else read_toml(Path(file))
        self._from_file_alone: set[str] = set()  # keys of an old file's engine, whichever it is
        self._flat: dict[tuple[str, ...], str] = {}  # by which name a setting was given
        self._given: set[tuple[str, ...]] = set()  # outside of the file
        for name, table in self.tables.items():
            if name in RunConfig.model_fields and not isinstance(table, dict):
                raise InputError(f"{file}: '{name}' is {table!r}: it should be a table")
        if old_keys.is_old(self.tables):
            self.tables = old_keys.renew(self.tables)
            self._from_file_alone = set(self.tables.get("engine", {}))

    def put(self, section: str, key: str, value: Any, name: str | None = None) -> None:
        """Set a key, which was given by that name if it has one."""
        self.tables.setdefault(section, {})[key] = value
        self._note((section, key), name)

    def set(self, name: str, value: Any) -> None:
        """Set what a flat name or the name of a table stands for."""
        is_table = name in RunConfig.model_fields
        if is_table and isinstance(value, BaseModel):
            self.tables[name] = value.model_dump()
            self._note((name,))
        elif is_table and isinstance(value, Mapping):
            for key, each in value.items():
                self.put(name, key, each)
        elif place := flat_names().get(name):
            self.put(*place, value, name)
        else:
            known = [*flat_names(), "model"]
            new = old_keys.renamed(name)
            hint = f" (did you mean '{new}'?)" if new else nearest(name, known)
            raise InputError(f"unknown setting '{name}'{hint}")

    def assign(self, assignment: str) -> None:
        """Set what ``section.key=value`` says."""
        path, separator, text = assignment.partition("=")
        keys = path.strip().split(".")
        if not separator or len(keys) < 2 or not all(keys):
            raise InputError(
                f"--set {assignment}: expected SECTION.KEY=VALUE, such as model.width=50"
            )
        if keys[0] not in RunConfig.model_fields:
            known = nearest(keys[0], RunConfig.model_fields)
            raise InputError(f"--set {assignment}: unknown section '{keys[0]}'{known}")
        if new := old_keys.place_today(*keys[:2]):
            raise InputError(
                f"--set {assignment}: unknown key '{'.'.join(keys)}' (did you mean '{new}'?)"
            )
        self.forget_length({keys[-1]} & set(LENGTHS))
        table = self.tables
        for parent in keys[:-1]:
            table = table.setdefault(parent, {})
            if not isinstance(table, dict):
                raise InputError(f"--set {assignment}: '{parent}' is a value, not a table")
        table[keys[-1]] = toml_value(text.strip())
        self._note(tuple(keys))

    def forget_length(self, given: Collection[str]) -> None:
        """Drop the run's length if it is given anew, perhaps in the other unit."""
        if given:
            for name in LENGTHS:
                self.tables.get("training", {}).pop(name, None)

    def checked(self, spell: Spell) -> RunConfig:
        """The configuration.

        Raises:
            InputError: an unknown key or a wrong value, spelled as it was given.
        """
        self._drop_other_engines()
        try:
            return RunConfig.model_validate(self.tables)
        except ValidationError as error:
            where = f"{self.file}: " if self._is_file_s(complaint_path(error)) else ""
            raise InputError(complaint(error, where, self._speller(spell))) from error

    def _note(self, path: tuple[str, ...], name: str | None = None) -> None:
        self._given.add(path)
        self._from_file_alone -= {path[-1]}
        if name is not None:
            self._flat[path] = name

    def _drop_other_engines(self) -> None:
        """Drop what an old run.toml has of all engines and the run's engine has not."""
        engine, kinds = self.tables.get("engine", {}), engine_settings()
        others = {key for settings in kinds.values() for key in settings.model_fields}
        if own := kinds.get(str(engine.get(KIND, DEFAULT_ENGINE))):
            for key in (self._from_file_alone & others) - own.model_fields.keys():
                engine.pop(key, None)

    def _is_file_s(self, path: tuple[str, ...]) -> bool:
        """Whether what is wrong at the end of a path was in the file, and nowhere else."""
        return self.file is not None and not any(
            path[: len(given)] == given or given[: len(path)] == path for given in self._given
        )

    def _speller(self, spell: Spell) -> Spell:
        """How a dotted path was written: by its flat name, or as it is."""

        def spelled(path: str) -> str:
            keys = tuple(path.split("."))
            flat = self._flat.get(keys[:2])
            return repr(path) if flat is None else spell(".".join([flat, *keys[2:]]))

        return spelled
