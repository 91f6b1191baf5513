"""The parameter server's control plane: ``react``, a pure function from events to commands.

House rules. No clock, randomness, input, output or threads: time is an argument. An event that is
repeated, late, out of order or about a stranger is answered with ``Ignored`` and changes nothing.
What may become of a gradient is the table in ``life.py``; what each event does is the table
``HANDLERS`` below; who may start and when updates are made is the scheme's business. Read this
file from the top: event, update, start, limits.
"""

from collections.abc import Callable, Mapping

from distvi.protocol.commands import Command, Dismiss, Reason, SetAlarm
from distvi.protocol.events import (
    Alarm,
    Event,
    GradientArrived,
    GradientUnusable,
    Joined,
    Left,
    Outcome,
    StopRequested,
)
from distvi.protocol.life import Cause, Status
from distvi.protocol.rules import Order, Rules, Stragglers, Worker
from distvi.protocol.state import State
from distvi.protocol.tickets import Lot, Part, Ticket
from distvi.protocol.turn import Turn


def react(
    rules: Rules, state: State, event: Event, now_s: float
) -> tuple[State, tuple[Command, ...]]:
    """What an event leads to.

    Pure: the same arguments give the same answer, and ``state`` is as good as before. It costs
    O(members) only where that many workers are spoken to, apart from small copies.

    Args:
        rules: The scheme and the limits; the same in all calls of a run.
        state: From ``initial_state``, then from the call before.
        event: What happened.
        now_s: When, in seconds on any clock; a time before the last event's counts as that one.

    Returns:
        The state after the event, and what the engine has to do, in this order.

    Raises:
        RunFailed: A stage passed or refused a gradient that it did not hold.

    Example:
        >>> from distvi.aggregation import asynchronous
        >>> from distvi.protocol import initial_state
        >>> rules = Rules(asynchronous())
        >>> state, commands = react(rules, initial_state(rules), Joined(worker=7), now_s=0.0)
        >>> commands
        (SendParameters(worker=7, incarnation=0, sequence=0, version=0),)
        >>> ticket = Ticket(worker=7, incarnation=0, sequence=0, base=0, size=200)
        >>> state, commands = react(rules, state, GradientArrived(ticket), now_s=0.1)
        >>> [type(command).__name__ for command in commands]
        ['Commit', 'SendParameters']
    """
    turn = Turn(rules, state, now_s)
    if turn.outcome is None:
        lot = HANDLERS[type(event)](turn, event)
        if turn.outcome is None:
            _update(turn, lot)
        if turn.outcome is None:
            _start_workers(turn)
            _watch(turn)
    else:
        _after_the_end(turn, event)
    return turn.freeze(), tuple(turn.commands)


# What each event does. A handler returns the gradients that go to the stages.


def _joined(turn: Turn, event: Joined) -> Lot:
    if event.incarnation <= turn.incarnations.get(event.worker, -1):
        turn.ignore(event, Reason.KNOWN)
        return ()
    if before := turn.members.get(event.worker):
        turn.remove_member(before)
    turn.add_member(event.worker, event.incarnation)
    return ()


def _left(turn: Turn, event: Left) -> Lot:
    record = turn.members.get(event.worker)
    if record is None or record.incarnation != event.incarnation:
        turn.hear_of(event.worker, event.incarnation)
        known = record is not None
        turn.ignore(event, Reason.OTHER_INCARNATION if known else Reason.UNKNOWN_WORKER)
    else:
        turn.remove_member(record)
    return ()


def _arrived(turn: Turn, event: GradientArrived) -> Lot:
    ticket = event.ticket
    record, order = _answered(turn, event, ticket)
    if record is None or order is None:
        return ()
    if ticket.base != order.base:
        return _discard(turn, record, order, ticket, Reason.WRONG_BASE)
    if ticket.size < 1:
        return _discard(turn, record, order, ticket, Reason.UNUSABLE)
    turn.unusable_in_a_row = 0
    turn.deliver(record, order)
    turn.hold(ticket)
    return (Part(ticket),)


def _unusable(turn: Turn, event: GradientUnusable) -> Lot:
    record, order = _answered(turn, event, event.ticket)
    if record is None or order is None:
        return ()
    return _discard(turn, record, order, event.ticket, f"{Reason.UNUSABLE}: {event.why}")


def _discard(turn: Turn, record: Worker, order: Order, ticket: Ticket, reason: str) -> Lot:
    turn.deliver(record, order)
    turn.discard(ticket, order.base, reason, Cause.UNUSABLE)
    turn.unusable_in_a_row += 1
    limit = turn.rules.unusable_limit
    if limit is not None and turn.unusable_in_a_row >= limit:
        turn.stop(
            Outcome.FAILED,
            f"{limit} unusable gradients in a row, the last from worker {ticket.worker} at "
            f"version {turn.version} ({reason}); a lower learning rate may help",
        )
    return ()


def _answered(
    turn: Turn, event: GradientArrived | GradientUnusable, ticket: Ticket
) -> tuple[Worker | None, Order | None]:
    """The order that a ticket answers; without one the event is ignored, with the reason."""
    record = turn.members.get(ticket.worker)
    if record is None:
        turn.ignore(event, Reason.UNKNOWN_WORKER)
    elif record.incarnation != ticket.incarnation:
        turn.ignore(event, Reason.OTHER_INCARNATION)
    else:
        for order in record.orders:
            if order.sequence == ticket.sequence:
                return record, order
        decided = 0 <= ticket.sequence < record.sequence
        turn.ignore(event, Reason.DECIDED if decided else Reason.NEVER_ORDERED)
    return record, None


def _alarm(turn: Turn, event: Alarm) -> Lot:
    if turn.alarm_s is None or turn.now_s < turn.alarm_s:
        turn.ignore(event, Reason.EARLY)
        return ()
    turn.alarm_s = None
    patience_s, limit_s = turn.rules.patience_s, turn.rules.idle_limit_s
    if patience_s is not None:
        for record in list(turn.members.values()):
            if record.orders and record.orders[0].since_s + patience_s <= turn.now_s:
                turn.remove_member(record)
                reason = f"silent for {turn.now_s - record.orders[0].since_s:g} s"
                turn.commands.append(Dismiss(record.worker, record.incarnation, reason))
    since_s = turn.idle_since_s
    if limit_s is not None and since_s is not None and since_s + limit_s <= turn.now_s:
        _fail_idle(turn, since_s)
    return ()


def _stop(turn: Turn, event: StopRequested) -> Lot:
    turn.stop(event.outcome, event.reason)
    return ()


HANDLERS: Mapping[type, Callable[..., Lot]] = {
    Joined: _joined,
    Left: _left,
    GradientArrived: _arrived,
    GradientUnusable: _unusable,
    Alarm: _alarm,
    StopRequested: _stop,
}


def _after_the_end(turn: Turn, event: Event) -> None:
    """What is still on its way when the run stops is let in, freed and not answered with work."""
    if isinstance(event, GradientArrived | GradientUnusable):
        record, order = _answered(turn, event, event.ticket)
        if record is not None and order is not None:
            turn.deliver(record, order)
            turn.discard(event.ticket, order.base, Reason.STOPPED, Cause.STOP)
    elif isinstance(event, Left):
        _left(turn, event)
    else:
        turn.ignore(event, Reason.STOPPED)


# The update, when the stages pass one


def _update(turn: Turn, lot: Lot) -> None:
    if not lot and not turn.membership_changed:
        return
    rules = turn.rules
    decision = rules.scheme.stage.step(turn.memory, lot, turn)
    turn.memory = decision.memory
    for refusal in decision.refused:
        turn.refuse(refusal)
    if not decision.passed:
        return
    turn.commit(decision.passed)
    if rules.scheme.stragglers is Stragglers.CANCEL:
        for record in list(turn.members.values()):
            if record.orders:
                turn.cancel_orders(record)
    if rules.updates is not None and turn.version >= rules.updates:
        turn.stop(Outcome.DONE, f"{turn.version} updates")
    elif rules.examples is not None and turn.examples >= rules.examples:
        turn.stop(Outcome.DONE, f"{turn.examples} examples")


# Work for those who may start


def _start_workers(turn: Turn) -> None:
    """Ask those whose own affairs changed; all who wait only when the gate has moved.

    Those that have delivered least are asked first.
    """
    pacing = turn.rules.scheme.pacing
    asked = turn.touched if pacing.gate(turn) == turn.gate else turn.waiting
    for worker in sorted(asked, key=lambda worker: (turn.members[worker].clock, worker)):
        record = turn.members[worker]
        while len(record.orders) < pacing.orders and pacing.may_start(record, turn):
            record = turn.send(record)
        if len(record.orders) >= pacing.orders:
            turn.has_no_room(worker)
    turn.gate = pacing.gate(turn)  # those who started may have closed it for the rest


# Limits in time


def _watch(turn: Turn) -> None:
    """Keep the alarm no later than the first limit that can be reached."""
    patience_s, limit_s = turn.rules.patience_s, turn.rules.idle_limit_s
    if turn.tally[Status.COMPUTING]:
        turn.idle_since_s = None
        if patience_s is not None:
            # An alarm that is set covers the earlier orders; those of this event fall due later.
            since_s = _oldest_order_s(turn) if turn.alarm_s is None else turn.now_s
            _set_alarm(turn, since_s + patience_s)
    else:
        if turn.idle_since_s is None:
            turn.idle_since_s = turn.now_s
        if limit_s == 0:
            _fail_idle(turn, turn.idle_since_s)
        elif limit_s is not None:
            _set_alarm(turn, turn.idle_since_s + limit_s)


def _oldest_order_s(turn: Turn) -> float:
    return min(record.orders[0].since_s for record in turn.members.values() if record.orders)


def _set_alarm(turn: Turn, at_s: float) -> None:
    if turn.alarm_s is None or at_s < turn.alarm_s:
        turn.alarm_s = at_s
        turn.commands.append(SetAlarm(at_s))


def _fail_idle(turn: Turn, since_s: float) -> None:
    who = f"none of {len(turn.members)} workers may start" if turn.members else "no worker is left"
    turn.stop(
        Outcome.FAILED,
        f"no gradient in the making for {turn.now_s - since_s:g} s at version {turn.version}: "
        f"{who}, {turn.tally[Status.HELD]} gradients are held by scheme {turn.rules.scheme.name}",
    )
