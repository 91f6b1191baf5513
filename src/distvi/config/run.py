"""What a run is made of: settings from a TOML file, the command line or Python, checked once.

The settings have one definition, below: the command line's options, the keys of a TOML file and
the keyword arguments of ``distvi.train`` are all read off these classes. A resolved configuration
is written to ``run.toml``; training from that file repeats the run.
"""

import tomllib
from collections.abc import Callable, Collection, Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, Literal

from pydantic import (
    BaseModel,
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from distvi.aggregation.registry import SCHEMES
from distvi.errors import InputError, nearest
from distvi.system.settings import Settings, read_toml


class DataSettings(Settings):
    """Which examples to learn from, and which of them to test on."""

    dataset: str = Field(description="Name of a data set, or path of a CSV, Parquet or NPZ table.")
    data_dir: str | None = Field(
        default=None, description="Folder that holds, or receives, data files."
    )
    target: tuple[str, ...] | None = Field(
        default=None, description="Target column of a table; may be repeated."
    )
    task: Literal["regression", "classification", "count"] | None = Field(
        default=None, description="What the target is; by default read off its values."
    )
    test_fraction: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="Share of the rows held out to test, of data without a test part of their own "
        "(default: 0.1).",
    )
    split_seed: int | None = Field(
        default=None, ge=0, description="Seed of that choice of rows (default: 0)."
    )
    test_indices: str | tuple[int, ...] | None = Field(
        default=None, description="Rows held out to test: a JSON file with lists of row numbers."
    )
    split: int | None = Field(
        default=None, ge=0, description="Which list, where that file has several."
    )
    inputs: Literal["auto", "standardize", "unit", "none"] = Field(
        default="auto",
        description="How inputs are scaled; auto: unit for images, standardize for tables.",
    )

    @field_validator("target", mode="before")
    @classmethod
    def _one_or_several(cls, target: Any) -> Any:
        return (target,) if isinstance(target, str) else target


class TrainingSettings(Settings):
    """How the parameters are optimized, and what is recorded on the way."""

    epochs: float | None = Field(default=None, gt=0, description="Passes over the training set.")
    updates: int | None = Field(
        default=None,
        gt=0,
        description="Updates, instead of epochs; by default those of 4,000 gradients.",
    )
    batch_size: int | None = Field(
        default=None,
        gt=0,
        description="Examples per gradient; mesh: per update (default: 200, or all of fewer).",
    )
    learning_rate: float = Field(default=0.01, gt=0, description="Peak rate.")
    optimizer: str = Field(default="adam", description="Any optimizer of optax, by name.")
    optimizer_options: dict[str, float | bool | str | None] = Field(
        default={}, description="Further arguments of the optimizer: --optimizer-options.b1 0.8"
    )
    schedule: Literal["constant", "cosine"] = Field(
        default="constant", description="The learning rate after the warm-up."
    )
    warmup_updates: int = Field(
        default=0, ge=0, description="Updates of linear rise to the peak rate."
    )
    final_rate: float = Field(
        default=0.0, ge=0, le=1, description="Where the cosine ends, as a share of the peak rate."
    )
    seed: int = Field(default=0, ge=0, lt=2**31, description="Seed of every draw of the run.")
    shuffle_block: int | None = Field(
        default=None,
        gt=0,
        lt=2**63,
        description="Neighbouring rows that are shuffled as one (default: 1; of inputs above "
        "1 GiB as many as fill 64 KiB).",
    )
    evaluate_every: int | None = Field(
        default=None,
        ge=0,
        description="Updates between tests (0: at the end only; default: 10 tests).",
    )
    report_every: int | None = Field(
        default=None,
        gt=0,
        description="Updates between rows of the metrics table (default: 200 rows).",
    )
    checkpoint_every: int | None = Field(
        default=None,
        ge=0,
        description="Updates between checkpoints (0: first and last; default: 10).",
    )
    keep_checkpoints: int = Field(default=2, gt=0, description="Newest checkpoints that are kept.")

    @model_validator(mode="after")
    def _one_length(self) -> "TrainingSettings":
        if self.epochs is not None and self.updates is not None:
            raise ValueError("epochs and updates are both given; choose one")
        return self


ENGINES = {"local": SCHEMES, "mesh": ("sync",), "simulated": SCHEMES}
PLANNED_ENGINES = ("ray",)


class EngineSettings(Settings):
    """Where the updates are computed."""

    engine: str = Field(
        default="local",
        description="local: worker and server processes; mesh: the JAX devices of this process; "
        "simulated: a cluster in virtual time.",
    )
    workers: int | None = Field(
        default=None,
        gt=0,
        description="local: default 2; simulated: 4; mesh: devices that share a batch (all).",
    )
    servers: int | None = Field(
        default=None, ge=0, description="Parameter servers (default: 1); mesh has none."
    )
    scheme: str = Field(
        default="sync",
        description=f"How gradients are collected: {', '.join(SCHEMES)}; mesh: sync alone.",
    )
    scheme_options: dict[str, int | str] = Field(
        default={},
        description="The scheme's own numbers: --scheme-options.n 96 (local: 2 orders for async).",
    )
    placement: str = Field(
        default="ranges",
        description="What each server holds: ranges, round-robin or greedy (whole tensors).",
    )
    nonfinite_limit: int | None = Field(
        default=None,
        gt=0,
        description="Gradients in a row that are not finite, that end the run (20 per worker).",
    )
    pin: bool = Field(
        default=True, description="local: a core for each worker, where there are enough."
    )
    worker_timeout_s: float = Field(
        default=60.0,
        gt=0,
        description="local: a worker that is silent for longer is given up until it wakes.",
    )
    max_restarts: int = Field(
        default=16, ge=0, description="local: processes that died and are replaced, in all."
    )
    cluster: str = Field(
        default="compute-bound",
        description="simulated: what it costs: compute-bound, network-bound, or a file.",
    )
    journal: bool = Field(default=False, description="Write the protocol's events: journal.jsonl.")
    trace: bool = Field(default=False, description="Write a timeline for Perfetto: trace.json.")
    data_on_device: Literal["auto", "always", "never"] = Field(
        default="auto",
        description="mesh: keep the training set in the device's memory; auto: on GPU and TPU.",
    )

    @field_validator("scheme_options")
    @classmethod
    def _numbers(cls, options: dict[str, int | str]) -> dict[str, int | str]:
        """Numbers as such: the command line hands all values over as text."""
        return {
            name: int(value) if str(value).lstrip("-").isdecimal() else value
            for name, value in options.items()
        }

    @model_validator(mode="after")
    def _known(self) -> "EngineSettings":
        if self.engine in PLANNED_ENGINES:
            raise ValueError(f"engine '{self.engine}' is not built yet; use --engine local")
        if self.engine not in ENGINES:
            raise ValueError(f"unknown engine '{self.engine}'{nearest(self.engine, ENGINES)}")
        if self.scheme not in ENGINES[self.engine]:
            known = nearest(self.scheme, ENGINES[self.engine])
            raise ValueError(f"engine '{self.engine}' has no scheme '{self.scheme}'{known}")
        if self.engine == "mesh" and self.servers:
            raise ValueError(
                f"engine 'mesh' has no parameter servers, but servers is {self.servers}"
            )
        if self.engine == "mesh" and (self.journal or self.trace):
            raise ValueError("engine 'mesh' has neither journal nor trace; use --engine local")
        return self


class RunConfig(Settings):
    """Everything that determines a run.

    ``model`` becomes the ``distvi.models.ModelSettings`` of its key ``kind`` (``deep_gp``).
    """

    data: DataSettings
    model: Any = Field(default={}, validate_default=True)
    training: TrainingSettings = TrainingSettings()
    engine: EngineSettings = EngineSettings()

    @field_validator("model", mode="plain")
    @classmethod
    def _model_settings(cls, table: Any) -> Any:
        from distvi.models.settings import ModelSettings  # imports JAX: too slow for --help

        if isinstance(table, Mapping):
            table = {"kind": "deep_gp", **table}
        return TypeAdapter(ModelSettings).validate_python(table)


SECTIONS: dict[str, type[Settings]] = {
    "data": DataSettings,
    "training": TrainingSettings,
    "engine": EngineSettings,
}
_LENGTHS = ("epochs", "updates")
# The flat names of the command line and of distvi.train: {"batch_size": "training", ...}
SECTION_OF = {name: section for section, table in SECTIONS.items() for name in table.model_fields}


def resolve(
    dataset: str | None = None,
    *,
    file: str | PathLike[str] | None = None,
    settings: Mapping[str, Any] | None = None,
    assignments: Iterable[str] = (),
) -> RunConfig:
    """The configuration from a file, then flat settings, then ``section.key=value`` assignments.

    Args:
        dataset: Name or path of the data set; may instead stand in the file.
        file: A TOML file with the tables of ``RunConfig``.
        settings: Flat names (``batch_size``), tables (``model={"width": 50}``), or settings
            objects (``model=DeepGPSettings(width=50)``), which replace the whole table.
        assignments: Such as ``"model.width=50"``; the value is read as TOML, else as text.

    Raises:
        InputError: a file that is absent or no TOML, an unknown key, a value out of range.
    """
    table = read_toml(Path(file)) if file is not None else {}
    if file is not None:
        _check(table, f"{file}: ")  # so that a message about the file's keys names the file
    given = set(settings or {}) & set(_LENGTHS)
    _forget_length(table, given)
    for name, value in (settings or {}).items():
        if name in RunConfig.model_fields and isinstance(value, BaseModel):
            table[name] = value.model_dump()
        elif name in RunConfig.model_fields and isinstance(value, Mapping):
            table.setdefault(name, {}).update(value)
        elif name in SECTION_OF:
            table.setdefault(SECTION_OF[name], {})[name] = value
        else:
            raise InputError(f"unknown setting '{name}'{nearest(name, [*SECTION_OF, 'model'])}")
    for assignment in assignments:
        _assign(table, assignment)
    if dataset is not None:
        table.setdefault("data", {})["dataset"] = str(dataset)
    if "dataset" not in table.get("data", {}):
        raise InputError("no data set is named; give one, for instance: distvi train digits")
    return _check(table)


def describe_invalid(
    error: ValidationError, where: str = "", spell: Callable[[str], str] = repr
) -> str:
    """The first complaint of pydantic as one line: where, which key, the value, what is wrong.

    Args:
        error: From validating a configuration or one of its tables.
        where: Comes first, such as ``"run.toml: "``.
        spell: How the person who gave the setting wrote its name.
    """
    first = error.errors(include_url=False)[0]
    location = first["loc"]
    path = [str(part) for part in location if not _is_type_tag(part)]
    reason = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        known = nearest(path[-1], _known_keys(location))
        return f"{where}unknown key {spell('.'.join(path))}{known}"
    if first["type"] == "value_error":
        return f"{where}{reason}"
    if first["type"] == "union_tag_invalid":
        tags = first.get("ctx", {})
        return f"{where}unknown model.kind '{tags['tag']}' (known: {tags['expected_tags']})"
    name = spell(".".join(path))
    return f"{where}{name} is {first['input']!r}: {reason[0].lower()}{reason[1:]}"


def _check(table: Mapping[str, Any], where: str = "") -> RunConfig:
    if where and isinstance(data := table.get("data", {}), dict) and "dataset" not in data:
        table = {**table, "data": {**data, "dataset": ""}}  # may be named elsewhere
    try:
        return RunConfig.model_validate(table)
    except ValidationError as error:
        raise InputError(describe_invalid(error, where)) from error


def _assign(table: dict[str, Any], assignment: str) -> None:
    path, separator, text = assignment.partition("=")
    *parents, key = path.strip().split(".")
    if not separator or not parents or not all((*parents, key)):
        raise InputError(f"--set {assignment}: expected SECTION.KEY=VALUE, such as model.width=50")
    if parents[0] not in RunConfig.model_fields:
        known = nearest(parents[0], RunConfig.model_fields)
        raise InputError(f"--set {assignment}: unknown section '{parents[0]}'{known}")
    _forget_length(table, {key} & set(_LENGTHS))
    for parent in parents:
        table = table.setdefault(parent, {})
        if not isinstance(table, dict):
            raise InputError(f"--set {assignment}: '{parent}' is a value, not a table")
    table[key] = _toml_value(text.strip())


def _forget_length(table: dict[str, Any], given: Collection[str]) -> None:
    """Drop the run's length from the table if it is given anew, perhaps in the other unit."""
    if given and isinstance(training := table.get("training"), dict):
        for name in _LENGTHS:
            training.pop(name, None)


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _is_type_tag(part: int | str) -> bool:
    """Whether an entry of pydantic's location names a member of a union, not a key."""
    tags = ("str", "int", "float", "bool", "deep_gp", "bayesian_network")
    return isinstance(part, int) or part.startswith("tuple[") or part in tags


def _known_keys(location: tuple[int | str, ...]) -> Iterable[str]:
    """The keys of the table in which pydantic met one that is not there."""
    if len(location) == 1:
        return RunConfig.model_fields
    section, kind, *_ = location
    if section == "model":
        from distvi.models.settings import BayesianNetworkSettings, DeepGPSettings

        kinds = {"deep_gp": DeepGPSettings, "bayesian_network": BayesianNetworkSettings}
        return kinds[str(kind)].model_fields
    return SECTIONS[str(section)].model_fields
