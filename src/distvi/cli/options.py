"""The tables of settings as options of a command."""

from collections.abc import Mapping
from copy import copy
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Group, Parameter
from pydantic import Field, create_model
from pydantic.fields import FieldInfo

from distvi.config.algorithm import AlgorithmSettings
from distvi.config.data import DataSettings
from distvi.config.run import engine_settings
from distvi.config.training import TrainingSettings
from distvi.config.unions import KIND
from distvi.engines.registry import DEFAULT_ENGINE
from distvi.system.settings import Settings


def flat(group: str, order: int) -> Parameter:
    """A table of settings whose keys are options by themselves."""
    return Parameter(name="*", group=Group(group, sort_key=order))


def option(name: str) -> str:
    """A setting's name as it is typed.

    Example:
        >>> option("batch_size")
        '--batch-size'
    """
    return "--" + name.replace("_", "-")


class _DataOptions(DataSettings):
    """The data settings as options; the data set is the command's argument instead."""

    dataset: Annotated[str, Parameter(show=False, parse=False)] = ""


def _engine_options() -> type[Settings]:
    """The settings of all engines side by side; which of them go together is checked later."""
    engines = engine_settings()
    fields: dict[str, Any] = {"engine": (str, _kind_field(engines))}
    having: dict[str, dict[str, FieldInfo]] = {}
    for kind, settings in engines.items():
        for name, field in settings.model_fields.items():
            having.setdefault(name, {})[kind] = field
    del having[KIND]
    for name, of_kind in having.items():
        fields[name] = _common_field(of_kind, everywhere=len(of_kind) == len(engines))
    return create_model("EngineOptions", __base__=Settings, **fields)


def _kind_field(engines: Mapping[str, type[Settings]]) -> Any:
    kinds = [f"{kind}: {_as_phrase(settings.__doc__)}" for kind, settings in engines.items()]
    return Field(default=DEFAULT_ENGINE, description="; ".join(kinds) + ".")


def _common_field(having: Mapping[str, FieldInfo], everywhere: bool) -> tuple[Any, FieldInfo]:
    """A setting of several engines, and which ones those are if not all have it."""
    field = copy(next(iter(having.values())))
    words = {each.description for each in having.values()}
    if len(words) > 1:
        said = [f"{kind}: {_as_phrase(each.description)}" for kind, each in having.items()]
        field.description = "; ".join(said) + "."
    elif not everywhere:
        field.description = f"{', '.join(having)}: {_as_phrase(field.description)}."
    return field.annotation, field


def _as_phrase(sentence: str | None) -> str:
    """A sentence as part of another; names such as JAX keep their capitals."""
    text = (sentence or "").strip().removesuffix(".")
    return text[:1].lower() + text[1:]


# Which options were given is read off these: pydantic remembers the fields that were set.
DATA, TRAINING, ALGORITHM = _DataOptions(), TrainingSettings(), AlgorithmSettings()

if TYPE_CHECKING:
    _EngineOptions = Settings
else:
    _EngineOptions = _engine_options()

ENGINE = _EngineOptions()

Training = Annotated[TrainingSettings, flat("Training", 1)]
Data = Annotated[_DataOptions, flat("Data", 2)]
Algorithm = Annotated[AlgorithmSettings, flat("Algorithm", 3)]
Engine = Annotated[_EngineOptions, flat("Engine", 4)]


def given(*tables: Settings) -> dict[str, Any]:
    """The settings that were given, by their flat names."""
    settings: dict[str, Any] = {}
    for table in tables:
        settings |= table.model_dump(exclude_unset=True)
    return settings
