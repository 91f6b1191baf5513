"""From a spec to its cells: which settings each has, checked, with a seed of its own."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from itertools import product
from typing import Any

from distvi.aggregation import scheme_named
from distvi.aggregation.registry import SCHEMES
from distvi.config.resolve import resolve
from distvi.config.run import RunConfig, engine_settings, flat_names
from distvi.config.unions import KIND
from distvi.engines.simulated.settings import CLUSTERS, cluster_named
from distvi.errors import InputError, nearest
from distvi.runs.records import Value
from distvi.studies.spec import TUNED, Block, Given, Spec, SpecFile

_TABLES = ("scheme_options", "rule_options", "optimizer_options")
_OF_A_CELL = ("seed", "learning_rate")
"""Training settings that cells of one shape may differ in."""


@dataclass(frozen=True)
class Cell:
    """One training of a study.

    Attributes:
        id: A hash of all that determines it.
        block: That asked for it first.
        settings: What is varied in the study, as this cell has it.
        number: Of the seed: 0, 1, 2, ...
        config: Of the run, with the seed.
        is_tuned: Whether the learning rate is chosen.
        shape: What all cells have in common that share programs.
    """

    id: str
    block: str
    settings: dict[str, Value]
    number: int
    config: RunConfig
    is_tuned: bool
    shape: str

    @property
    def is_virtual(self) -> bool:
        """Whether its time is virtual, so that it does not matter what runs beside it."""
        return self.config.engine.kind == "simulated"

    @property
    def label(self) -> str:
        """For the person who waits."""
        settings = ", ".join(f"{name}={value}" for name, value in self.settings.items())
        return f"{settings}, seed {self.number}" if settings else f"seed {self.number}"


def cells_of(file: SpecFile) -> tuple[Cell, ...]:
    """All cells, in the order of the file; what two blocks ask for is there once.

    Raises:
        InputError: an unknown or contradictory setting, with file and line.
    """
    spec = file.spec
    base = _checked_base(file).model_dump(mode="json")
    drafts: list[tuple[int, str, dict[str, Given]]] = []
    for number, block in enumerate(spec.blocks):
        for name in _names(block):
            _check_name(file, number, name)
        drafts += [(number, block.name, settings) for settings in _designed(block)]
    names = list(dict.fromkeys(name for _, _, settings in drafts for name in settings))
    found: dict[str, Cell] = {}
    for number, block_name, settings in drafts:
        config = _config(file, number, settings)
        shown = _shown(config, names, settings)
        own = {n: _plain(v) for n, v in settings.items() if _plain(v) != _value(base, n)}
        for seed in range(spec.seeds):
            cell = _cell(spec, block_name, config, own, shown, seed)
            found.setdefault(cell.id, cell)
    return tuple(found.values())


def _names(block: Block) -> list[str]:
    return list(dict.fromkeys([*block.fixed, *block.axes, *(n for c in block.cells for n in c)]))


def _designed(block: Block) -> Iterator[dict[str, Given]]:
    """The settings of each cell of a block, without seeds."""
    if block.design == "list":
        yield from ({**block.fixed, **cell} for cell in block.cells)
    elif block.design == "grid":
        for values in product(*block.axes.values()):
            yield {**block.fixed, **dict(zip(block.axes, values, strict=True))}
    else:
        yield dict(block.fixed)
        for name, values in block.axes.items():
            yield from ({**block.fixed, name: value} for value in values)


def seed_of(settings: Mapping[str, Value], number: int) -> int:
    """A cell's seed: a hash of its named settings, so that a new cell never changes another.

    Args:
        settings: In which the cell is not as the base.
        number: Which of its seeds.

    Example:
        >>> seed_of({"workers": 4, "servers": 2}, 0) == seed_of({"servers": 2, "workers": 4}, 0)
        True
    """
    text = json.dumps([sorted(settings.items()), number])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") % 2**31


def _plain(value: Given) -> Value:
    return ("+".join(value) or "none") if isinstance(value, tuple) else value


# --- settings by name ----------------------------------------------------------------------------


def place_of(name: str) -> tuple[str, ...] | None:
    """The keys that lead to a setting in the tables of a run; None: there is none of that name.

    Example:
        >>> place_of("batch_size"), place_of("scheme_options.n"), place_of("model.width")
        (('training', 'batch_size'), ('algorithm', 'scheme_options', 'n'), ('model', 'width'))
    """
    flat, (first, _, rest) = flat_names(), name.partition(".")
    if not rest:
        return flat.get(name)
    if first in _TABLES:
        return (*flat[first], rest)
    return (first, *rest.split(".")) if first in RunConfig.model_fields else None


def _check_name(file: SpecFile, block: int, name: str) -> None:
    if name == "seed":
        reason = "seeds are drawn: say how many there are, seeds = 3"
    elif place_of(name) is None:
        known = [*flat_names(), *(f"{table}." for table in _TABLES), "model."]
        reason = f"unknown setting '{name}'{nearest(name, known)}"
    else:
        return
    part = file.spec.blocks[block]
    where = "fixed" if name in part.fixed else "axes" if name in part.axes else "cells"
    raise file.wrong(["blocks", str(block), where, name], reason)


def _checked_base(file: SpecFile) -> RunConfig:
    if unknown := file.spec.base.keys() - RunConfig.model_fields.keys():
        name = min(unknown)
        hint = nearest(name, RunConfig.model_fields)
        raise file.wrong(["base", name], f"unknown table 'base.{name}'{hint}")
    if "seed" in file.spec.base.get("training", {}):
        reason = "seeds are drawn: say how many there are, seeds = 3"
        raise file.wrong(["base", "training", "seed"], reason)
    try:
        tables = _lengthened(file.spec, deepcopy(file.spec.base))
        _locate_cluster(file, tables)
        return _checked(resolve(settings=tables))
    except InputError as error:
        keys = next((p for p in _paths(file.spec.base) if ".".join(p) in str(error)), ())
        raise file.wrong(["base", *keys], f"in the base: {error}") from error


def _paths(tables: Mapping[str, Any]) -> Iterable[tuple[str, ...]]:
    return ((section, key) for section, table in tables.items() for key in table)


def _lengthened(spec: Spec, tables: dict[str, Any]) -> dict[str, Any]:
    """With the length that the spec says; a number of examples is settled with the data at hand."""
    for name in ("updates", "epochs"):
        if (length := getattr(spec.stop, name)) is not None:
            tables.setdefault("training", {})[name] = length
    return tables


def _config(file: SpecFile, block: int, settings: Mapping[str, Given]) -> RunConfig:
    """The configuration of a cell, checked as far as it can be without its data."""
    spec, tables = file.spec, deepcopy(file.spec.base)
    kind = settings.get("engine")
    if isinstance(kind, str) and kind in engine_settings():
        fields = engine_settings()[kind].model_fields
        engine = tables.get("engine", {})
        tables["engine"] = {key: v for key, v in engine.items() if key in fields and key != KIND}
    for name, value in settings.items():
        path = place_of(name)
        assert path is not None, "names are checked before"
        table: dict[str, Any] = tables
        for part in path[:-1]:
            table = table.setdefault(part, {})
        if value == TUNED and name == "learning_rate":
            if spec.tuning is None:
                raise file.wrong(
                    ["blocks", str(block)], "learning_rate is 'tuned', but there is no [tuning]"
                )
            value = spec.tuning.values[0]
        table[path[-1]] = list(value) if isinstance(value, tuple) else value
    _locate_cluster(file, tables)
    try:
        config = resolve(settings=_lengthened(spec, tables))
        return _checked(config)
    except InputError as error:
        given = ", ".join(f"{name}={_plain(value)}" for name, value in settings.items())
        raise file.wrong(
            _culprit(spec.blocks[block], block, str(error)), f"{given}: {error}"
        ) from error


def _locate_cluster(file: SpecFile, tables: Mapping[str, Any]) -> None:
    """A cluster's file is named from where the spec is."""
    engine = tables.get("engine", {})
    cluster = engine.get("cluster")
    if isinstance(cluster, str) and cluster not in CLUSTERS:
        engine["cluster"] = str(file.path.parent / cluster)


def _checked(config: RunConfig) -> RunConfig:
    engine = config.engine.written_out()
    algorithm = config.algorithm
    if algorithm.scheme in SCHEMES and engine.schemes is None:
        options = {**engine.scheme_defaults(algorithm.scheme), **algorithm.scheme_options}
        scheme = scheme_named(algorithm.scheme, engine.workers or 1, options)
        engine.contributions_per_update(scheme)
    return config.model_copy(update={"engine": engine})


def _culprit(block: Block, number: int, error: str) -> list[str]:
    """Where in the file the setting stands that an error names, else the block."""
    for where in ("fixed", "axes"):
        for name in getattr(block, where):
            if name.rpartition(".")[2] in error:
                return ["blocks", str(number), where, name]
    return ["blocks", str(number)]


def _shown(config: RunConfig, names: list[str], own: Mapping[str, Given]) -> dict[str, Value]:
    """What is varied in the study, as a cell has it: what it does not name is the base's."""
    tables = config.model_dump(mode="json")
    shown: dict[str, Value] = {}
    for name in names:
        value = _plain(own[name]) if name in own else _value(tables, name)
        if value is not None:
            shown[name] = value
    return shown


def _value(tables: Mapping[str, Any], name: str) -> Value | None:
    """What a configuration has for a setting."""
    value: Any = tables
    for key in place_of(name) or ():
        value = value.get(key) if isinstance(value, dict) else None
    return _plain(tuple(value)) if isinstance(value, list | tuple) else value


def _cell(
    spec: Spec,
    block: str,
    config: RunConfig,
    own: Mapping[str, Value],
    shown: dict[str, Value],
    number: int,
) -> Cell:
    training = config.training.model_copy(update={"seed": seed_of(own, number)})
    config = config.model_copy(update={"training": training})
    tables = config.model_dump(mode="json")
    if (cluster := tables["engine"].get("cluster")) not in (None, *CLUSTERS):
        tables["engine"]["cluster"] = cluster_named(cluster).model_dump(mode="json")
    is_tuned = own.get("learning_rate") == TUNED
    measured: dict[str, Any] = {"stop": spec.stop.model_dump(), "tests": spec.tests.model_dump()}
    if is_tuned and spec.tuning is not None:
        measured["tuning"] = spec.tuning.model_dump()
    whole = _hash([tables, measured, shown if is_tuned else None])
    for name in _OF_A_CELL:
        del tables["training"][name]
    return Cell(whole, block, shown, number, config, is_tuned, _hash([tables, spec.stop.examples]))


def _hash(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


__all__ = ["Cell", "cells_of", "place_of", "seed_of"]
