"""Engines by kind: the settings of each, and what builds it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from types import MappingProxyType
from typing import Any

from distvi.engines.local.settings import LocalSettings
from distvi.engines.mesh.settings import MeshSettings
from distvi.engines.ray.settings import RaySettings
from distvi.engines.settings import EngineSettings
from distvi.engines.simulated.settings import SimulatedSettings
from distvi.errors import InputError

Build = Callable[..., Any]


@dataclass(frozen=True)
class EngineKind:
    """An engine, before it is built.

    Attributes:
        settings: The class of its settings.
        builder: What makes an engine of them: a function, or ``"module:function"``.
    """

    settings: type[EngineSettings]
    builder: Build | str

    @property
    def build(self) -> Build:
        """What makes an engine; imported now, for the settings are needed without JAX."""
        if not isinstance(self.builder, str):
            return self.builder
        module, _, function = self.builder.partition(":")
        return getattr(import_module(module), function)


_KNOWN = {
    "local": EngineKind(LocalSettings, "distvi.engines.local.engine:build"),
    "simulated": EngineKind(SimulatedSettings, "distvi.engines.simulated.engine:build"),
    "ray": EngineKind(RaySettings, "distvi.engines.ray.engine:build"),
    "mesh": EngineKind(MeshSettings, "distvi.engines.mesh.engine:build"),
}

ENGINES: Mapping[str, EngineKind] = MappingProxyType(_KNOWN)
"""Engines by kind; `register_engine` adds one's own."""

DEFAULT_ENGINE = "local"


def register_engine(name: str, settings: type[EngineSettings], build: Build | str) -> None:
    """Give an engine of one's own a name, by which runs in this process know it.

    A run folder has the name alone: register it again before such a run is resumed.

    Args:
        name: As in ``distvi.train(..., engine=name)``.
        settings: The class of its settings, whose ``kind`` is the name.
        build: Makes the engine: a function, or ``"module:function"``, which is imported when an
            engine is first built.

    Raises:
        InputError: the name is taken by another engine, or the settings are of another kind.
    """
    kind = EngineKind(settings, build)
    if ENGINES.get(name, kind) != kind:
        raise InputError(f"engine {name!r} exists already; choose another name")
    if (own := settings.model_fields["kind"].default) != name:
        raise InputError(f"engine {name!r} has settings of kind {own!r}; the two must be the same")
    _KNOWN[name] = kind
