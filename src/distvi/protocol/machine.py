"""The parameter server's control plane: ``react``, a pure function from events to commands.

House rules. No clock, randomness, input, output or threads: time is an argument. An event that is
repeated, late, out of order or about a stranger is answered with ``Ignored`` and changes nothing.
What may become of a gradient is the table in ``lifecycle.py``; what each event does is the table
``HANDLERS`` below; who may start and when updates are made is the scheme's business. Read this
file from the top: event, update, start, limits.
"""

from collections.abc import Callable, Mapping

from distvi.protocol.commands import Command, Dismiss, Reason, SetAlarm
from distvi.protocol.events import (
    Alarm,
    Event,
    GradientArrived,
    GradientNonFinite,
    Joined,
    Left,
    Outcome,
    StopRequested,
)
from distvi.protocol.lifecycle import Cause, Status
from distvi.protocol.rules import Member, Request, Rules, Stragglers
from distvi.protocol.state import State
from distvi.protocol.tickets import Contribution, Lot, Ticket
from distvi.protocol.transaction import Transaction


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
    txn = Transaction(rules, state, now_s)
    if txn.outcome is None:
        lot = HANDLERS[type(event)](txn, event)
        if txn.outcome is None:
            _update(txn, lot)
        if txn.outcome is None:
            _start_workers(txn)
            _keep_alarm(txn)
    else:
        _after_the_end(txn, event)
    return txn.freeze(), tuple(txn.commands)


# What each event does. A handler returns the gradients that go to the stages.


def _joined(txn: Transaction, event: Joined) -> Lot:
    if event.incarnation <= txn.incarnations.get(event.worker, -1):
        txn.ignore(event, Reason.KNOWN)
        return ()
    if before := txn.members.get(event.worker):
        txn.replace_member(before, event.incarnation)
    else:
        txn.add_member(event.worker, event.incarnation)
    return ()


def _left(txn: Transaction, event: Left) -> Lot:
    record = txn.members.get(event.worker)
    if record is None or record.incarnation != event.incarnation:
        txn.hear_of(event.worker, event.incarnation)
        known = record is not None
        txn.ignore(event, Reason.OTHER_INCARNATION if known else Reason.UNKNOWN_WORKER)
    else:
        txn.remove_member(record)
    return ()


def _arrived(txn: Transaction, event: GradientArrived) -> Lot:
    ticket = event.ticket
    record, request = _answered(txn, event, ticket)
    if record is None or request is None:
        return ()
    if ticket.base != request.base:
        return _discard(txn, record, request, ticket, Reason.WRONG_BASE)
    if ticket.size < 1:
        return _discard(txn, record, request, ticket, Reason.NON_FINITE)
    txn.nonfinite_in_a_row = 0
    txn.deliver(record, request)
    txn.judge(record.worker, 0)
    txn.hold(ticket)
    return (Contribution(ticket),)


def _non_finite(txn: Transaction, event: GradientNonFinite) -> Lot:
    record, request = _answered(txn, event, event.ticket)
    if record is None or request is None:
        return ()
    return _discard(txn, record, request, event.ticket, f"{Reason.NON_FINITE}: {event.why}")


def _discard(
    txn: Transaction, record: Member, request: Request, ticket: Ticket, reason: str
) -> Lot:
    txn.deliver(record, request)
    txn.discard(ticket, request.base, reason, Cause.NON_FINITE)
    txn.judge(record.worker, record.unusable_in_a_row + 1)
    txn.nonfinite_in_a_row += 1
    limit = txn.rules.nonfinite_limit
    if limit is not None and txn.nonfinite_in_a_row >= limit:
        txn.stop(
            Outcome.FAILED,
            f"{limit} unusable gradients in a row, the last from worker {ticket.worker} at "
            f"version {txn.version} ({reason}); a lower learning rate may help",
        )
    return ()


def _answered(
    txn: Transaction, event: GradientArrived | GradientNonFinite, ticket: Ticket
) -> tuple[Member | None, Request | None]:
    """The request that a ticket answers; without one the event is ignored, with the reason."""
    record = txn.members.get(ticket.worker)
    if record is None:
        txn.ignore(event, Reason.UNKNOWN_WORKER)
    elif record.incarnation != ticket.incarnation:
        txn.ignore(event, Reason.OTHER_INCARNATION)
    else:
        for request in record.requests:
            if request.sequence == ticket.sequence:
                return record, request
        decided = 0 <= ticket.sequence < record.sequence
        txn.ignore(event, Reason.DECIDED if decided else Reason.NEVER_REQUESTED)
    return record, None


def _alarm(txn: Transaction, event: Alarm) -> Lot:
    if txn.alarm_s is None or txn.now_s < txn.alarm_s:
        txn.ignore(event, Reason.EARLY)
        return ()
    txn.alarm_s = None
    worker_timeout_s, limit_s = txn.rules.worker_timeout_s, txn.rules.idle_limit_s
    if worker_timeout_s is not None:
        for record in list(txn.members.values()):
            if record.requests and record.requests[0].since_s + worker_timeout_s <= txn.now_s:
                txn.remove_member(record)
                reason = f"silent for {txn.now_s - record.requests[0].since_s:g} s"
                txn.commands.append(Dismiss(record.worker, record.incarnation, reason))
    since_s = txn.idle_since_s
    if limit_s is not None and since_s is not None and since_s + limit_s <= txn.now_s:
        _fail_idle(txn, since_s)
    return ()


def _stop(txn: Transaction, event: StopRequested) -> Lot:
    txn.stop(event.outcome, event.reason)
    return ()


HANDLERS: Mapping[type, Callable[..., Lot]] = {
    Joined: _joined,
    Left: _left,
    GradientArrived: _arrived,
    GradientNonFinite: _non_finite,
    Alarm: _alarm,
    StopRequested: _stop,
}


def _after_the_end(txn: Transaction, event: Event) -> None:
    """What is still on its way when the run stops is let in, freed and not answered with work."""
    if isinstance(event, GradientArrived | GradientNonFinite):
        record, request = _answered(txn, event, event.ticket)
        if record is not None and request is not None:
            txn.deliver(record, request)
            txn.discard(event.ticket, request.base, Reason.STOPPED, Cause.STOP)
    elif isinstance(event, Left):
        _left(txn, event)
    else:
        txn.ignore(event, Reason.STOPPED)


# The update, when the stages pass one


def _update(txn: Transaction, lot: Lot) -> None:
    if not lot and not txn.others_awaited:
        return
    rules = txn.rules
    decision = rules.scheme.stage.step(txn.memory, lot, txn)
    txn.memory = decision.memory
    for refusal in decision.refused:
        txn.refuse(refusal)
    if not decision.passed:
        return
    txn.commit(decision.passed)
    if rules.scheme.stragglers is Stragglers.CANCEL:
        for record in list(txn.members.values()):
            if record.requests:
                txn.cancel_requests(record)
    if rules.updates is not None and txn.version >= rules.updates:
        txn.stop(Outcome.DONE, f"{txn.version} updates")
    elif rules.examples is not None and txn.examples >= rules.examples:
        txn.stop(Outcome.DONE, f"{txn.examples} examples")


# Work for those who may start


def _start_workers(txn: Transaction) -> None:
    """Ask those whose own affairs changed; all who wait only when the gate has moved.

    Those that have delivered least are asked first.
    """
    pacing = txn.rules.scheme.pacing
    asked = txn.to_ask if pacing.gate(txn) == txn.gate else txn.waiting
    for worker in sorted(asked, key=lambda worker: (txn.members[worker].clock, worker)):
        record = txn.members[worker]
        while len(record.requests) < pacing.in_flight and pacing.may_start(record, txn):
            record = txn.send(record)
        if len(record.requests) >= pacing.in_flight:
            txn.has_no_room(worker)
    txn.gate = pacing.gate(txn)  # those who started may have closed it for the rest


# Limits in time


def _keep_alarm(txn: Transaction) -> None:
    """Keep the alarm no later than the first limit that can be reached."""
    worker_timeout_s, limit_s = txn.rules.worker_timeout_s, txn.rules.idle_limit_s
    if txn.counts[Status.COMPUTING]:
        txn.idle_since_s = None
        if worker_timeout_s is not None:
            # An alarm that is set covers the earlier requests; those of this event fall due later.
            since_s = _oldest_request_s(txn) if txn.alarm_s is None else txn.now_s
            _set_alarm(txn, since_s + worker_timeout_s)
    else:
        if txn.idle_since_s is None:
            txn.idle_since_s = txn.now_s
        if limit_s == 0:
            _fail_idle(txn, txn.idle_since_s)
        elif limit_s is not None:
            _set_alarm(txn, txn.idle_since_s + limit_s)


def _oldest_request_s(txn: Transaction) -> float:
    return min(record.requests[0].since_s for record in txn.members.values() if record.requests)


def _set_alarm(txn: Transaction, at_s: float) -> None:
    if txn.alarm_s is None or at_s < txn.alarm_s:
        txn.alarm_s = at_s
        txn.commands.append(SetAlarm(at_s))


def _fail_idle(txn: Transaction, since_s: float) -> None:
    who = f"none of {len(txn.members)} workers may start" if txn.members else "no worker is left"
    txn.stop(
        Outcome.FAILED,
        f"no gradient in the making for {txn.now_s - since_s:g} s at version {txn.version}: "
        f"{who}, {txn.counts[Status.HELD]} gradients are held by scheme {txn.rules.scheme.name}",
    )
