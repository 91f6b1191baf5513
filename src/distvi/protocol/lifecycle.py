"""The life of one gradient, as the table that the machine itself moves gradients by.

``react`` can bring a gradient from one status to another in no way that is not written here;
``life_diagram`` draws the same table for the documentation.
"""

from collections.abc import Mapping
from enum import StrEnum


class Status(StrEnum):
    """Where a gradient that was once requested stands."""

    COMPUTING = "computing"
    HELD = "held"
    COMMITTED = "committed"
    REFUSED = "refused"
    CANCELLED = "cancelled"
    LOST = "lost"


class Cause(StrEnum):
    """What takes a gradient from one status to the next."""

    ARRIVES = "gradient arrives"
    NON_FINITE = "gradient is unusable"
    WORKER_GONE = "its worker has gone"
    OVERTAKEN = "an update is made without it"
    PASSED = "the stages pass it"
    NOT_TAKEN = "a stage refuses it"
    STOP = "the run has stopped"


LIFE: Mapping[Status, Mapping[Cause, Status]] = {
    Status.COMPUTING: {
        Cause.ARRIVES: Status.HELD,
        Cause.NON_FINITE: Status.REFUSED,
        Cause.WORKER_GONE: Status.LOST,
        Cause.OVERTAKEN: Status.CANCELLED,
        Cause.STOP: Status.REFUSED,
    },
    Status.HELD: {
        Cause.PASSED: Status.COMMITTED,
        Cause.NOT_TAKEN: Status.REFUSED,
        Cause.STOP: Status.REFUSED,
    },
    Status.COMMITTED: {},
    Status.REFUSED: {},
    Status.CANCELLED: {},
    Status.LOST: {},
}


def life_diagram() -> str:
    """The table ``LIFE`` as a state diagram in Mermaid's notation.

    Example:
        >>> print(life_diagram().splitlines()[1].strip())
        [*] --> computing: parameters are sent
    """
    lines = ["stateDiagram-v2", f"    [*] --> {Status.COMPUTING}: parameters are sent"]
    for status, moves in LIFE.items():
        lines += [f"    {status} --> {after}: {cause}" for cause, after in moves.items()]
        if not moves:
            lines.append(f"    {status} --> [*]")
    return "\n".join(lines) + "\n"
