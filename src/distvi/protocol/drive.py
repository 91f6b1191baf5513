"""The one loop that runs the machine for every engine."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from distvi.protocol.commands import Command
from distvi.protocol.events import Event, Outcome, StopRequested
from distvi.protocol.lifecycle import Status
from distvi.protocol.machine import react
from distvi.protocol.rules import Rules
from distvi.protocol.state import State, initial_state

Observer = Callable[[float, Event, State, tuple[Command, ...]], None]
"""Told of every event after it was worked on and before its commands are carried out."""


@runtime_checkable
class Transport(Protocol):
    """What an engine has to offer: its clock, its events, and hands for the commands."""

    def receive(self) -> tuple[float, Event] | None:
        """Wait for the next event; ``None`` when none can ever come.

        Returns:
            The time in seconds and the event.
        """
        ...

    def execute(self, command: Command) -> None:
        """Carry a command out, or see to it that it will be, after those before it."""
        ...


def drive(
    rules: Rules,
    transport: Transport,
    *,
    state: State | None = None,
    observers: tuple[Observer, ...] = (),
    pause: Callable[[State], bool] = lambda state: False,
) -> State:
    """Run the machine until it stops, or pauses.

    When the transport has nothing more to offer although the run is not over, the run is ended as
    failed, by a ``StopRequested`` that says who was waited for: no engine can hang here.

    Args:
        rules: The scheme and the limits.
        transport: The engine.
        state: Where to begin; a new run without it.
        observers: A journal, metrics, a live view.
        pause: Asked before each event whether to return now; calling again with the state that is
            returned goes on.

    Returns:
        The last state; its ``outcome`` says how it ended, None if it has only paused.
    """
    state = initial_state(rules) if state is None else state
    while state.outcome is None and not pause(state):
        received = transport.receive()
        if received is None:
            reason = f"nothing can happen any more: {story(state)}"
            received = (state.now_s, StopRequested(reason, Outcome.FAILED))
        now_s, event = received
        state, commands = react(rules, state, event, now_s)
        for observe in observers:
            observe(now_s, event, state, commands)
        for command in commands:
            transport.execute(command)
    return state


def story(state: State, most: int = 5) -> str:
    """Who is waited for, and since when, in one line: for every message about a wait.

    Args:
        state: The state in question.
        most: Workers to name, those who have been busy longest first.
    """
    busy = [record for record in state.members.values() if record.requests]
    busy.sort(key=lambda record: record.requests[0].since_s)
    named = ", ".join(
        f"worker {record.worker} (on version {record.requests[0].base} "
        f"for {state.now_s - record.requests[0].since_s:.3g} s)"
        for record in busy[:most]
    )
    more = f" and {len(busy) - most} more" if len(busy) > most else ""
    awaited = f"waiting for {named}{more}" if busy else "no worker is computing"
    return (
        f"version {state.version}, {len(state.members)} workers, "
        f"{state.counts[Status.HELD]} gradients held; {awaited}"
    )
