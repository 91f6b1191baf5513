"""The settings of the engine, and what a cluster costs: ``cluster.toml``, two clusters by name."""

import math
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from distvi.engines.settings import EngineSettings, ParameterServerSettings
from distvi.errors import InputError, nearest
from distvi.protocol import Scheme
from distvi.system.settings import Settings, complaint, read_toml


class SimulatedSettings(ParameterServerSettings):
    """A cluster in virtual time."""

    default_workers: ClassVar[int] = 4

    kind: str = "simulated"
    workers: int | None = Field(default=None, gt=0, description="Workers (default: 4).")
    cluster: str = Field(
        default="compute-bound",
        description="What it costs: compute-bound, network-bound, or a file.",
    )
    exchange: Literal["servers", "all-reduce"] = Field(
        default="servers",
        description="How gradients meet: at parameter servers, or in a ring all-reduce.",
    )

    def written_out(self) -> EngineSettings:
        """See `distvi.engines.settings.EngineSettings.written_out`."""
        cluster_named(self.cluster)  # or it is refused before anything runs
        cluster = self.cluster if self.cluster in CLUSTERS else str(Path(self.cluster).resolve())
        if self.exchange == "all-reduce" and (self.servers or 1) > 1:
            raise InputError(
                f"there are no servers in an all-reduce, but {self.servers} are asked for; leave "
                "servers out, or choose exchange 'servers'"
            )
        return super().written_out().model_copy(update={"cluster": cluster})

    def contributions_per_update(self, scheme: Scheme) -> int:
        """See `EngineSettings.contributions_per_update`."""
        if self.exchange == "all-reduce" and scheme.name != "sync":
            raise InputError(
                f"an all-reduce takes all workers in lockstep, not scheme '{scheme.name}'; use "
                "scheme 'sync', or exchange 'servers'"
            )
        return super().contributions_per_update(scheme)


def _several(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else (value,)


Rate = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Time = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[
    float, Field(gt=0, allow_inf_nan=True)
]  # infinite bandwidth is one way to have no network
Speed = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Speeds = Annotated[tuple[Speed, ...], BeforeValidator(_several), Field(min_length=1)]
OneOrMore = Annotated[tuple[Positive, ...], BeforeValidator(_several), Field(min_length=1)]
"""Values for the first machines; repeated when there are more machines than values."""


class NoJitter(Settings):
    """Every gradient takes its mean time."""

    kind: Literal["none"] = "none"

    def draw(self, random: Random) -> float:
        """A factor of the mean time."""
        return 1.0


class LogNormal(Settings):
    """A factor whose logarithm is normal."""

    kind: Literal["lognormal"]
    sigma: float = Field(gt=0, allow_inf_nan=False, description="Deviation of the logarithm.")

    def draw(self, random: Random) -> float:
        """A factor of mean one."""
        return math.exp(self.sigma * random.gauss(0.0, 1.0) - self.sigma**2 / 2)


class ShiftedExponential(Settings):
    """A least time, and an exponential one on top (Dutta et al. 2018)."""

    kind: Literal["shifted-exponential"]
    random_share: float = Field(gt=0, le=1, description="Share of the mean that is exponential.")

    def draw(self, random: Random) -> float:
        """A factor of mean one."""
        return 1.0 - self.random_share + self.random_share * random.expovariate(1.0)


class Pareto(Settings):
    """A heavy tail: a few gradients take very long."""

    kind: Literal["pareto"]
    shape: float = Field(gt=1, allow_inf_nan=False, description="Exponent of the tail.")

    def draw(self, random: Random) -> float:
        """A factor of mean one."""
        return (self.shape - 1) / self.shape * random.paretovariate(self.shape)


class GradientTime(Settings):
    """Time of one gradient on a worker of speed one: affine in the batch."""

    overhead_s: Time = 0.0
    per_example_s: Time = 0.0
    jitter: NoJitter | LogNormal | ShiftedExponential | Pareto = Field(
        default=NoJitter(), discriminator="kind"
    )

    @model_validator(mode="after")
    def _takes_time(self) -> "GradientTime":
        if self.overhead_s + self.per_example_s == 0:
            raise ValueError(
                "overhead_s and per_example_s are both 0: gradients would take no time"
            )
        return self

    def mean_s(self, batch_size: int) -> float:
        """Mean time of a gradient of ``batch_size`` examples."""
        return self.overhead_s + self.per_example_s * batch_size


class SlowSpells(Settings):
    """Times in which a worker is slow, as when its machine has other work to do."""

    rate_per_s: Rate = Field(description="Spells that begin in a second without one.")
    mean_s: Positive = Field(description="Mean length of a spell.")
    slowdown: float = Field(gt=1, allow_inf_nan=False, description="Factor of the gradient time.")


class WorkerSettings(Settings):
    """The workers; what is given for several is repeated when there are more."""

    speeds: Speeds = (1.0,)
    latency_s: Time = 0.0
    bandwidth_bytes_per_s: OneOrMore
    slow_spells: SlowSpells | None = None
    crash_rate_per_s: Rate = 0.0
    rejoin_rate_per_s: Rate = Field(default=0.0, description="Of a crashed worker; 0: it is gone.")


class ServerSettings(Settings):
    """The parameter servers; each interface sends and receives at its bandwidth at once."""

    latency_s: Time = 0.0
    bandwidth_bytes_per_s: OneOrMore
    overhead_s: Time = Field(default=0.0, description="Of an update, whatever its bytes.")
    apply_s_per_byte: Time = Field(default=0.0, description="Of one update, by its parameters.")
    combine_s_per_byte: Time = Field(default=0.0, description="Of each gradient in an update.")


class MachineSettings(Settings):
    """One machine of which all workers and servers are processes, as `distvi.engines.local` has it.

    Workers have a core each and the servers share the rest. Where there is no rest, all of them
    share all cores, as well as the operating system manages.
    """

    cores: int = Field(gt=0)
    crowding: Rate = Field(
        default=0.0,
        description="Of a gradient's time: what each other worker at work adds to it, as a share.",
    )
    server_crowding: Rate = Field(
        default=0.0,
        description="Of an update's time: what each other server at work adds to it, as a share.",
    )
    interference: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Of an update's time: the share that a worker loses which computes meanwhile, "
        "at least, where servers have no cores of their own.",
    )

    def slowdown(self, workers: int) -> float:
        """Factor of a gradient's time."""
        at_work = min(workers, self.cores)
        return workers / at_work * (1 + self.crowding * (at_work - 1))

    def server_speed(self, workers: int, computing: int, servers: int) -> float:
        """Share of its full speed at which each server makes an update.

        Args:
            workers: How many there are.
            computing: How many of them compute meanwhile.
            servers: How many make the update at once.
        """
        crowd = min(servers, self.cores) - 1
        return self._share(workers, computing, servers) / (1 + self.server_crowding * crowd)

    def _share(self, workers: int, computing: int, servers: int) -> float:
        """Of a core, that each server has."""
        if workers < self.cores:
            return min(1.0, (self.cores - workers) / servers)
        return min(1.0, self.cores / (computing + servers))

    def loss(self, workers: int, computing: int, servers: int) -> float:
        """Share of that time that each worker loses which computes meanwhile."""
        if workers < self.cores:
            return 0.0
        return max(self.interference, 1 - self._share(workers, computing, servers))


class ClusterSettings(Settings):
    """A cluster: the contents of ``cluster.toml``."""

    gradient: GradientTime
    workers: WorkerSettings
    servers: ServerSettings
    machine: MachineSettings | None = Field(
        default=None, description="Where they all are; none: each is a machine of its own."
    )


_GIGABIT_BYTES_PER_S = 1.25e8
_MACHINES = {
    "latency_s": 5e-5,
    "bandwidth_bytes_per_s": 25 * _GIGABIT_BYTES_PER_S,
}
_JITTER = {"kind": "lognormal", "sigma": 0.1}
_SERVER_WORK = {"apply_s_per_byte": 3e-10, "combine_s_per_byte": 1e-10}

CLUSTERS: Mapping[str, ClusterSettings] = {
    "compute-bound": ClusterSettings.model_validate(
        {
            "gradient": {"overhead_s": 2e-3, "per_example_s": 5e-4, "jitter": _JITTER},
            "workers": _MACHINES,
            "servers": _MACHINES | _SERVER_WORK,
        }
    ),
    "network-bound": ClusterSettings.model_validate(
        {
            "gradient": {"overhead_s": 2e-3, "per_example_s": 3e-5, "jitter": _JITTER},
            "workers": _MACHINES | {"bandwidth_bytes_per_s": _GIGABIT_BYTES_PER_S},
            "servers": _MACHINES | _SERVER_WORK | {"bandwidth_bytes_per_s": _GIGABIT_BYTES_PER_S},
        }
    ),
}
"""``compute-bound``: slow gradients, 25 Gbit/s. ``network-bound``: fast gradients, 1 Gbit/s."""


def cluster_named(name: str) -> ClusterSettings:
    """A cluster of ``CLUSTERS``, or of a TOML file.

    Raises:
        InputError: neither, or the file has a wrong key or value.
    """
    if name in CLUSTERS:
        return CLUSTERS[name]
    path = Path(name)
    if not path.suffix and not path.exists():
        raise InputError(f"cluster '{name}' is unknown{nearest(name, CLUSTERS)}; or give a file")
    return cluster_of(read_toml(path, "cluster "), str(path))


def cluster_of(table: Mapping[str, Any], where: str) -> ClusterSettings:
    """The cluster of a table.

    Raises:
        InputError: it has a wrong key or value.
    """
    try:
        return ClusterSettings.model_validate(table)
    except ValidationError as error:
        raise InputError(complaint(error, f"{where}: ")) from error
