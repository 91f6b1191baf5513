"""The line protocol between a driver and a contender's process; standard library alone.

One request a line on standard input, one JSON answer a line on standard output:

    describe            -> {"library": "version", ...}
    prepare BATCH       -> null, once compiled and warm
    run STEPS BATCH     -> seconds that the training steps took
    loss FILE           -> [loss, norm of its gradient] of the case in an NPZ file
    spent BATCH         -> where the time of the steps so far went; {} where nobody knows

Spent are milliseconds, by what they went to: {"processor": {...}, "round": {...}}, the time that
processors were busy for a step, and where there are rounds of several steps, what one consists of.
"""

import json
import os
import sys
from typing import Protocol, runtime_checkable


class Contender(Protocol):
    """One implementation of the model's training step."""

    def describe(self) -> dict[str, str]:
        """Versions of what computes, and the device."""
        ...

    def prepare(self, batch: int) -> None:
        """Compile and warm up."""
        ...

    def run(self, steps: int, batch: int) -> float:
        """Train for some steps on fresh mini-batches; the seconds until the last is complete."""
        ...


@runtime_checkable
class Trainer(Protocol):
    """A contender that has a loss, to compare with those of others."""

    def loss(self, case: str) -> tuple[float, float]:
        """The negative ELBO and its gradient's norm at given parameters, batch and noise."""
        ...


@runtime_checkable
class Accountant(Protocol):
    """A contender that knows where its time goes."""

    def spent(self, batch: int) -> dict[str, dict[str, float]]:
        """In all runs so far."""
        ...


def pin(core: int) -> None:
    """Keep this process, and the threads that it starts from now on, on one of its cores."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[core % len(cores)]})


def serve(contender: Contender) -> None:
    """Answer requests until standard input ends."""
    # Libraries may print to standard output: the answers keep it, all else goes to stderr.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        match line.split():
            case ["describe"]:
                answer = contender.describe()
            case ["prepare", batch]:
                answer = contender.prepare(int(batch))
            case ["run", steps, batch]:
                answer = contender.run(int(steps), int(batch))
            case ["loss", path] if isinstance(contender, Trainer):
                answer = contender.loss(path)
            case ["spent", batch]:
                answer = contender.spent(int(batch)) if isinstance(contender, Accountant) else {}
            case _:
                raise ValueError(f"unknown request {line!r}")
        print(json.dumps(answer), file=answers, flush=True)
