"""What a run is made of: its tables of settings.

The settings have one definition: the command line's options, the keys of a TOML file and the
keyword arguments of ``distvi.train`` are all read off the classes of the tables. A resolved
configuration is written to ``run.toml``; training from that file repeats the run.
"""

from typing import Any

from pydantic import Field, SerializeAsAny, field_validator, model_validator

from distvi.aggregation.registry import SCHEMES
from distvi.config.algorithm import AlgorithmSettings
from distvi.config.data import DataSettings
from distvi.config.training import TrainingSettings
from distvi.config.unions import KIND, settings_of_kind
from distvi.engines.registry import DEFAULT_ENGINE, ENGINES
from distvi.engines.settings import EngineSettings
from distvi.errors import nearest
from distvi.system.names import OWN, is_name
from distvi.system.settings import Settings


class RunConfig(Settings):
    """Everything that determines a run.

    ``model`` and ``engine`` become the settings that the registries have for their key ``kind``.
    """

    data: DataSettings
    model: Any = Field(default={}, validate_default=True)
    training: TrainingSettings = TrainingSettings()
    algorithm: AlgorithmSettings = AlgorithmSettings()
    engine: SerializeAsAny[EngineSettings] = Field(default={}, validate_default=True)  # type: ignore[assignment]

    @field_validator("model", mode="plain")
    @classmethod
    def _model_settings(cls, table: Any) -> Any:
        from distvi.models.registry import DEFAULT_MODEL, MODELS  # imports JAX: slow for --help

        kinds = {kind: family.settings for kind, family in MODELS.items()}
        return settings_of_kind("model", table, kinds, DEFAULT_MODEL)

    @field_validator("engine", mode="plain")
    @classmethod
    def _engine_settings(cls, table: Any) -> Any:
        return settings_of_kind("engine", table, engine_settings(), DEFAULT_ENGINE)

    @model_validator(mode="after")
    def _engine_has_scheme(self) -> "RunConfig":
        name, schemes = self.algorithm.scheme, self.engine.schemes
        if schemes is None and (name == OWN or is_name(name)):
            return self
        known = SCHEMES if schemes is None else schemes
        if name not in known:
            raise ValueError(
                f"engine '{self.engine.kind}' has no scheme '{name}'{nearest(name, known)}"
            )
        return self


def engine_settings() -> dict[str, type[EngineSettings]]:
    """The class of each engine's settings, by kind."""
    return {kind: engine.settings for kind, engine in ENGINES.items()}


def flat_names() -> dict[str, tuple[str, str]]:
    """Where each setting stands that goes by its own name alone: table and key.

    The command line and the keyword arguments of ``distvi.train`` call them so; ``engine`` is the
    kind of engine. The settings of models have no such names.
    """
    names = {"engine": ("engine", KIND)}
    tables: dict[str, list[type[Settings]]] = {
        "data": [DataSettings],
        "training": [TrainingSettings],
        "algorithm": [AlgorithmSettings],
        "engine": [*engine_settings().values()],
    }
    for section, classes in tables.items():
        for settings in classes:
            for key in settings.model_fields:
                if key != KIND:
                    names[key] = (section, key)
    return names
