"""``distvi simulate``: schemes on a cluster in virtual time, without gradients, at any size."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from distvi.aggregation import check_liveness, scheme_named
from distvi.aggregation.registry import typed_options
from distvi.engines.simulated.cluster import Cluster
from distvi.engines.simulated.settings import ClusterSettings, cluster_named, cluster_of
from distvi.engines.simulated.timeline import NO_TIMELINE, Timeline
from distvi.engines.simulated.timing import Timing, time_rules
from distvi.engines.trace import PerfettoFile, Span
from distvi.errors import InputError
from distvi.parameters import Placement, place
from distvi.protocol import Rules, Scheme
from distvi.system.settings import Settings, complaint, read_toml

_TIMELINE_WORKERS, _TIMELINE_GRADIENTS = 12, 6


def _several(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else (value,)


Count = Annotated[int, Field(gt=0)]
Counts = Annotated[tuple[Count, ...], BeforeValidator(_several), Field(min_length=1)]
SchemeTable = str | dict[str, Any]
Schemes = Annotated[tuple[SchemeTable, ...], BeforeValidator(_several), Field(min_length=1)]


class Spec(Settings):
    """The keys of a simulation's TOML file; where several values are given, each is run."""

    schemes: Schemes = Field(description="Names, or tables with a name and the scheme's options.")
    workers: Counts
    servers: Counts = (1,)
    cluster: str | dict[str, Any] = Field(
        default="network-bound", description="A name, a file, or the tables of one."
    )
    parameters: Count | None = Field(default=None, description="Of a model of one tensor.")
    tensors: Counts | None = Field(default=None, description="Sizes of a model's tensors.")
    placement: str = "ranges"
    batch_size: Count = 200
    gradients_per_worker: Count = 200
    seed: int = 0

    @model_validator(mode="after")
    def _one_model(self) -> "Spec":
        if (self.parameters is None) == (self.tensors is None):
            raise ValueError("give the model's size: either parameters or tensors")
        return self

    @property
    def tensor_sizes(self) -> tuple[int, ...]:
        """Entries of each tensor."""
        return self.tensors or (self.parameters or 0,)


@dataclass(frozen=True, eq=False)
class Cell:
    """One run to simulate.

    Attributes:
        scheme: How workers and updates are kept in step.
        asked: What all cells of this entry of the spec are called: the scheme's name, or, where
            its numbers follow the workers, the name and options that were given.
        workers: How many.
        placement: What each server holds.
        gradients_per_update: While all workers are equally fast.
    """

    scheme: Scheme
    asked: str
    workers: int
    placement: Placement
    gradients_per_update: int

    @property
    def servers(self) -> int:
        """How many hold the parameters."""
        return len(self.placement.shards)

    @property
    def label(self) -> str:
        """Scheme, workers and servers, as a part of a file's name."""
        scheme = re.sub(r"[^\w=-]+", "-", self.scheme.name).strip("-")
        return f"{scheme}-{self.workers}-workers-{self.servers}-servers"


class Result(NamedTuple):
    """A cell and what came of it."""

    cell: Cell
    timing: Timing

    def as_json(self) -> dict[str, Any]:
        """One flat object."""
        cell = self.cell
        return {
            "scheme": cell.scheme.name,
            "asked": cell.asked,
            "workers": cell.workers,
            "servers": cell.servers,
            "placement": cell.placement.name,
            **self.timing._asdict(),
        }


@dataclass(frozen=True, eq=False)
class Simulation:
    """A checked plan.

    Attributes:
        spec: What was asked for.
        cluster: What everything costs.
        cells: All combinations, in the order of the spec: schemes, servers, workers.
        left_out: Why a scheme is not tried with a number of workers; one line each.
    """

    spec: Spec
    cluster: ClusterSettings
    cells: tuple[Cell, ...]
    left_out: tuple[str, ...] = ()

    def results(
        self,
        timeline: Callable[[str], AbstractContextManager[Timeline]] = lambda name: nullcontext(
            NO_TIMELINE
        ),
    ) -> Iterator[Result]:
        """Simulate one cell after the other.

        Args:
            timeline: From a name, which no other cell has, to what is told of all that took time.
        """
        for number, cell in enumerate(self.cells, start=1):
            with timeline(f"{number:02}-{cell.label}") as kept:
                timing = self._time(cell, self.spec.gradients_per_worker, kept)
            yield Result(cell, timing)

    def timelines(self) -> dict[str, list[Span]]:
        """The first gradients of each scheme, with a dozen workers at most, by its name."""
        chosen: dict[str, Cell] = {}
        for cell in self.cells:
            if cell.asked not in chosen or cell.workers <= _TIMELINE_WORKERS:
                chosen[cell.asked] = cell
        found = {}
        for cell in chosen.values():
            timeline = Timeline(workers=_TIMELINE_WORKERS)
            self._time(cell, _TIMELINE_GRADIENTS, timeline)
            found[cell.scheme.name] = timeline.spans
        return found

    def _time(self, cell: Cell, gradients_per_worker: int, timeline: Timeline) -> Timing:
        gradients = gradients_per_worker * cell.workers
        rules = Rules(cell.scheme, updates=max(1, gradients // cell.gradients_per_update))
        sizes, spec = cell.placement.bytes, self.spec
        return time_rules(
            rules,
            Cluster(
                self.cluster, cell.workers, sizes, spec.batch_size, spec.seed, timeline=timeline
            ),
        )


@contextmanager
def trace_file(path: Path) -> Iterator[Timeline]:
    """A timeline that is written to a file for Perfetto as it comes, in little memory."""
    with path.open("w", encoding="utf-8") as file:
        trace = PerfettoFile(file.write)
        yield Timeline(keep=trace.write)
        trace.close()


def plan(path: Path) -> Simulation:
    """The simulation of a TOML file, with all its combinations checked.

    Raises:
        InputError: the file is absent or wrong, or no combination is possible.
    """
    try:
        spec = Spec.model_validate(read_toml(path))
    except ValidationError as error:
        raise InputError(complaint(error, f"{path}: ")) from error
    return plan_of(spec, str(path))


def plan_of(spec: Spec, where: str = "the simulation") -> Simulation:
    """The simulation of a spec, see `plan`."""
    if isinstance(spec.cluster, str):
        cluster = cluster_named(spec.cluster)
    else:
        cluster = cluster_of(spec.cluster, where)
    placements = [place(spec.placement, spec.tensor_sizes, servers) for servers in spec.servers]
    cells, left_out = [], []
    for name, options in map(_named, spec.schemes):
        typed_options(name, options)  # what is wrong with any number of workers
        schemes, reasons = _suitable(name, options, spec.workers)
        left_out += reasons
        asked = _asked(name, options, schemes.values())
        for placement in placements:
            for workers, scheme in schemes.items():
                lot = check_liveness(scheme, workers)
                cells.append(Cell(scheme, asked, workers, placement, lot))
    if not cells:
        raise InputError(f"{where}: nothing can be simulated: {'; '.join(left_out)}")
    return Simulation(spec, cluster, tuple(cells), tuple(left_out))


def _suitable(
    name: str, options: Mapping[str, Any], workers: Iterable[int]
) -> tuple[dict[int, Scheme], list[str]]:
    """The scheme for each number of workers that it suits, and why not for the others."""
    schemes, reasons = {}, []
    for number in workers:
        try:
            schemes[number] = scheme_named(name, number, options)
        except InputError as error:
            reasons.append(f"{name} with {number} workers: {error}")
    return schemes, reasons


def _named(table: SchemeTable) -> tuple[str, dict[str, Any]]:
    """The name and the options of an entry of the spec."""
    if isinstance(table, str):
        return table, {}
    if "name" not in table:
        raise InputError(f"scheme {table} has no name")
    return str(table["name"]), {key: value for key, value in table.items() if key != "name"}


def _asked(name: str, options: Mapping[str, Any], schemes: Iterable[Scheme]) -> str:
    names = {scheme.name for scheme in schemes}
    given = ", ".join(f"{key}={value}" for key, value in options.items())
    return names.pop() if len(names) == 1 else f"{name}({given})" if given else name
