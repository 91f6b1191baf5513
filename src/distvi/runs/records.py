"""What a study keeps of each of its cells: one training, its settings, and what came of it.

A **cell** is one training: named settings and a seed. Cells that differ in their seed alone are
one **setting**. A `Record` is a cell after it was run; the ledger holds them, and pages, claims and
advice read nothing else.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Value = str | int | float | bool
Settings = Mapping[str, Value]
"""By flat name (``batch_size``, ``scheme``, ``scheme_options.n``, ``model.width``)."""

Status = Literal["done", "diverged", "failed"]

CURVE_COLUMNS = ("update", "examples", "time_s", "wall_s", "bytes")
"""Of every row of a curve: counted from the beginning of the training. ``time_s`` is on the
engine's clock, ``wall_s`` on the wall's; ``bytes`` were pushed and pulled together."""


@dataclass(frozen=True)
class Measured:
    """What came of a training, up to where it ended.

    Attributes:
        test: Metrics of the last test, on the test set.
        curve: Columns of equal length: `CURVE_COLUMNS`, ``neg_elbo`` (per example, nats), and
            ``test_error_rate``, ``test_mnll``, ... ; None where a row has no value.
        updates: Made in all.
        examples: In those updates.
        time_s: Training time on the engine's clock.
        clock: ``"virtual"`` or ``"wall"``.
        parts_s: Wall-clock time by part: ``training``, ``evaluation``, ``compile``, ``whole``.
        staleness: Histogram: how many gradients in updates were so many versions old.
        gradients: ``used``, ``refused`` and ``cancelled``.
        bytes: ``pushed`` and ``pulled``.
        idle_fraction: Of the workers' time, that in which they did not compute.
        stopped_by: ``"updates"``, ``"examples"``, ``"time_s"``, ``"wall_s"``, ``"target"``.
        tuned: Settings that were chosen for this cell on a validation part, and the trials behind
            the choice: ``{"learning_rate": 0.003}``.
        trials: Of each trial: the settings tried and the validation metric.
    """

    test: dict[str, float] = field(default_factory=dict)
    curve: dict[str, list[int | float | None]] = field(default_factory=dict)
    updates: int = 0
    examples: int = 0
    time_s: float = 0.0
    clock: str = "wall"
    parts_s: dict[str, float] = field(default_factory=dict)
    staleness: dict[int, int] = field(default_factory=dict)
    gradients: dict[str, int] = field(default_factory=dict)
    bytes: dict[str, int] = field(default_factory=dict)
    idle_fraction: float | None = None
    stopped_by: str = "updates"
    tuned: dict[str, Value] = field(default_factory=dict)
    trials: list[dict[str, Any]] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """For a JSON document."""
        return asdict(self)

    @classmethod
    def from_json(cls, table: Mapping[str, Any]) -> "Measured":
        """The inverse of `as_json`."""
        staleness = {int(age): count for age, count in table["staleness"].items()}
        return cls(**{**table, "staleness": staleness})


@dataclass(frozen=True)
class Record:
    """A cell that has been run.

    Attributes:
        cell: Its identifier, a hash of its settings and seed.
        block: Of the spec: which of its designs asked for it.
        settings: What is varied in the study, without the seed; those of the base included.
        seed: The seed's number in the study: 0, 1, 2, ...
        status: How it ended.
        reason: Why, if it is not done: one line.
        measured: What came of it; of a training that diverged or failed as far as it got.
    """

    cell: str
    block: str
    settings: dict[str, Value]
    seed: int
    status: Status
    reason: str = ""
    measured: Measured = field(default_factory=Measured)

    @property
    def key(self) -> tuple[tuple[str, Value], ...]:
        """What cells that differ in their seed alone have in common."""
        return tuple(sorted(self.settings.items()))


def repeatable(record: Record) -> dict[str, Any]:
    """What of a record does not depend on how fast the machine was, if its time is virtual."""
    table = asdict(record)
    del table["measured"]["parts_s"], table["measured"]["curve"]["wall_s"]
    return table


def by_setting(records: Iterable[Record]) -> dict[tuple[tuple[str, Value], ...], list[Record]]:
    """Records that differ in their seed alone, together, in the order of their first one."""
    found: dict[tuple[tuple[str, Value], ...], list[Record]] = {}
    for record in records:
        found.setdefault(record.key, []).append(record)
    return found


def varied(records: Sequence[Record]) -> dict[str, list[Value]]:
    """Settings with more than one value, and these: numbers ascending, texts as they come."""
    names = dict.fromkeys(name for record in records for name in record.settings)
    found: dict[str, list[Value]] = {}
    for name in names:
        seen = dict.fromkeys(r.settings[name] for r in records if name in r.settings)
        if len(seen) > 1:
            numbers = all(isinstance(v, int | float) for v in seen)
            found[name] = sorted(seen, key=float) if numbers else list(seen)  # type: ignore[arg-type]
    return found
