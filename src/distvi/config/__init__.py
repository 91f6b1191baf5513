"""What a run is made of: settings from a TOML file, the command line or Python, checked once."""

from distvi.config.run import (
    SECTION_OF,
    DataSettings,
    EngineSettings,
    RunConfig,
    TrainingSettings,
    describe_invalid,
    resolve,
)

__all__ = [
    "SECTION_OF",
    "DataSettings",
    "EngineSettings",
    "RunConfig",
    "TrainingSettings",
    "describe_invalid",
    "resolve",
]
