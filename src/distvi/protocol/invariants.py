"""What is true of every state, whatever the events were. Tests ask after each event."""

from collections import Counter
from collections.abc import Iterator

from distvi.protocol.lifecycle import Status
from distvi.protocol.rules import BROKEN_AFTER, Rules
from distvi.protocol.state import State


def violations(rules: Rules, state: State) -> tuple[str, ...]:
    """The promises that a state breaks, a sentence each; empty for every state of ``react``.

    Costs O(members): meant for tests and for debugging an engine, not for every event of a run.
    """
    checks = (_counts, _requests, _clocks, _waiting, _limits)
    return tuple(sentence for check in checks for sentence in check(rules, state))


def _counts(rules: Rules, state: State) -> Iterator[str]:
    requests = [request for record in state.members.values() for request in record.requests]
    held = [ticket for tickets in state.held.values() for ticket in tickets]
    if state.counts[Status.COMPUTING] != len(requests):
        yield f"{state.counts[Status.COMPUTING]} counted as computing, {len(requests)} requests"
    if state.counts[Status.HELD] != len(held):
        yield f"{state.counts[Status.HELD]} counted as held, {len(held)} held"
    if min(state.counts.values()) < 0:
        yield f"a negative count in {dict(state.counts)}"
    if len({ticket.key for ticket in held}) != len(held):
        yield "a gradient is held twice"
    if any(not tickets for tickets in state.held.values()):
        yield "an empty entry among the held gradients"
    newest = sum(request.base == state.version for request in requests)
    newest += sum(ticket.base == state.version for ticket in held)
    if state.at_newest != newest:
        yield f"at_newest is {state.at_newest}, there are {newest}"


def _requests(rules: Rules, state: State) -> Iterator[str]:
    if strangers := state.broken.keys() - state.members.keys():
        yield f"workers {sorted(strangers)} are noted as broken, and no members"
    for number, record in state.members.items():
        who = f"worker {number}"
        if record.worker != number:
            yield f"{who} is filed under another number"
        if state.incarnations.get(number, -1) < record.incarnation:
            yield f"{who}: its incarnation has not been noted"
        if len(record.requests) > rules.scheme.pacing.in_flight:
            yield f"{who} has {len(record.requests)} requests"
        sequences = [request.sequence for request in record.requests]
        if sequences != sorted(set(sequences)) or any(s >= record.sequence for s in sequences):
            yield f"{who}: requests {sequences} with {record.sequence} as the next"
        if (number in state.broken) != (record.unusable_in_a_row >= BROKEN_AFTER):
            yield f"{who}: {record.unusable_in_a_row} unusable answers in a row, noted as " + (
                "broken" if number in state.broken else "whole"
            )
        if any(request.base > state.version for request in record.requests):
            yield f"{who} has parameters that do not exist yet"


def _clocks(rules: Rules, state: State) -> Iterator[str]:
    clocks = Counter(record.clock for record in state.members.values())
    if dict(state.clocks) != dict(clocks):
        yield f"clocks are {dict(clocks)}, noted as {dict(state.clocks)}"
    if clocks and min(clocks) != state.slowest:
        yield f"the slowest clock is {min(clocks)}, noted as {state.slowest}"


def _waiting(rules: Rules, state: State) -> Iterator[str]:
    pacing = rules.scheme.pacing
    records = state.members.items()
    if set(state.waiting) != {
        n for n, record in records if len(record.requests) < pacing.in_flight
    }:
        yield "those who wait are not those with room for a request"
    if state.outcome is None:
        for number in state.waiting:
            if pacing.may_start(state.members[number], state):
                yield f"worker {number} may start and was not asked (does the gate tell of it?)"


def _limits(rules: Rules, state: State) -> Iterator[str]:
    if state.outcome is not None:
        if state.held:
            yield "gradients are held after the end"
        return
    if rules.updates is not None and state.version >= rules.updates:
        yield f"version {state.version} of {rules.updates}, and the run goes on"
    oldest = [record.requests[0].since_s for record in state.members.values() if record.requests]
    if oldest and rules.worker_timeout_s is not None:
        due_s = min(oldest) + rules.worker_timeout_s
        if state.alarm_s is None or state.alarm_s > due_s:
            yield f"no alarm for the worker whose time is up at {due_s} s"
    if bool(oldest) != (state.idle_since_s is None) and state.members:
        yield "idleness is not noted"
