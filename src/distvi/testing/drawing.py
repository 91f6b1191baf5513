"""Who says what to whom, drawn from an update that is really played."""

from typing import Any

import optax

from distvi.aggregation import sync
from distvi.algorithms.base import Algorithm
from distvi.algorithms.gradient import gradient, optimize
from distvi.engines.coordinator.messages import (
    Applied,
    Apply,
    Begin,
    Compute,
    Message,
    Save,
    Saved,
)
from distvi.protocol import Commit, Event, SendParameters, State
from distvi.testing.engine import played_engine
from distvi.testing.fleet import PlayedFleet, PlayedProcess
from distvi.testing.problems import least_squares

_SHOWN: dict[type, tuple[str, ...]] = {
    Begin: ("version", "parameters", "state"),
    Compute: ("version", "parameters", "payload"),
    Apply: ("version", "target", "payloads"),
    Save: ("version", "state"),
    Applied: ("version",),
    Saved: ("version",),
    SendParameters: ("version",),
    Commit: ("version",),
}
"""Fields that the drawing has of messages and commands; the others have none."""

_SENT = (Begin, Compute, Apply, Save)

_HEAD = """\
sequenceDiagram
    participant protocol
    participant main as coordinator
    participant worker as worker 0
    participant server as server 0
"""


def coordinator_diagram() -> str:
    """A run's first update by one worker and one server, in Mermaid's notation.

    From the moment that both are ready to the save that belongs to a checkpoint. Numbers after
    ``parameters``, ``target``, ``payload`` and ``state`` are those of slots.
    """
    known = least_squares(updates=2)
    algorithm = Algorithm(sync(), gradient(known.loss), optimize(optax.sgd(0.1)))
    engine = played_engine(known.problem, algorithm, known.start, workers=1)
    drawing = _Drawing(engine.fleet)
    engine.observers.append(drawing.react)
    with engine:
        engine.advance(1)
    return _HEAD + "".join(f"    {line}\n" for line in drawing.lines)


class _Drawing:
    """Lines of a drawing, noted while a run is played.

    Args:
        fleet: Plays it.
    """

    def __init__(self, fleet: PlayedFleet) -> None:
        self.lines: list[str] = []
        self._fleet, self._published = fleet, 0
        fleet.observe, fleet.meddle = self.message, self.look

    def look(self) -> None:
        """Between two messages: has a version been published?"""
        published = int(self._fleet.numbers.published_versions.min())
        if published > self._published:
            self._published = published
            self.lines.append(f"server-->>worker: version {published} is published (doorbell)")

    def message(self, process: PlayedProcess, message: Message | None) -> None:
        """A message was sent or has arrived."""
        self.look()
        assert message is not None, f"{process.how_it_ended()}"
        ends = ("main", process.role) if isinstance(message, _SENT) else (process.role, "main")
        self.lines.append(f"{'->>'.join(ends)}: {_words(message)}")

    def react(self, now_s: float, event: Event, state: State, commands: tuple[Any, ...]) -> None:
        """The protocol was told of an event, and has answered."""
        self.lines.append(f"main->>protocol: {_words(event)}")
        self.lines += [f"protocol->>main: {_words(command)}" for command in commands]


def _words(said: Any) -> str:
    shown = [f"{name} {_value(getattr(said, name))}" for name in _SHOWN.get(type(said), ())]
    return type(said).__name__ + (f"({', '.join(shown)})" if shown else "")


def _value(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
