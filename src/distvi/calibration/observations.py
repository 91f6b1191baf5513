"""Times of real processes, read off the spans that the local engine records."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from distvi.engines.trace import Span

Turns = list[list[float]]
"""Values of each turn that something was observed for."""


class Arrangement(NamedTuple):
    """What is run to be timed.

    Attributes:
        workers: How many compute gradients.
        servers: How many share the parameters.
        batch_size: Examples of a gradient.
        scheme: How they are kept in step: sync or async.
        in_flight: That an asynchronous worker has at a time.
    """

    workers: int
    servers: int
    batch_size: int
    scheme: str = "sync"
    in_flight: int = 1


@dataclass(frozen=True, eq=False)
class Observation:
    """Times of an arrangement in lockstep, in seconds.

    In lockstep no gradient is computed while servers make updates, so each cost is seen by itself.
    (Now and then they save while gradients are computed; that is a part of what those cost.)

    Attributes:
        arrangement: What was run.
        gradients_s: Of each gradient, by worker, in their order.
        transfers_s: Of each pull and push, together.
        messages_s: Of each update: from its last gradient to the servers' start, and from the end
            of the one before to the workers' start.
        updates_s: Of each update: from the first server's start to the last one's end.
    """

    arrangement: Arrangement
    gradients_s: dict[int, Turns] = field(default_factory=lambda: defaultdict(list))
    transfers_s: Turns = field(default_factory=list)
    messages_s: Turns = field(default_factory=list)
    updates_s: Turns = field(default_factory=list)

    def add(self, spans: Iterable[Span], first: int, last: int) -> None:
        """What the spans of one turn say of gradients on the versions ``first`` to ``last - 1``.

        An update of which a span is missing is left out.
        """
        own_gradients = [self.gradients_s[number] for number in range(self.arrangement.workers)]
        for turns in (*own_gradients, self.transfers_s, self.messages_s, self.updates_s):
            turns.append([])
        workers, servers, *_ = self.arrangement
        of_workers: dict[int, dict[tuple[str, int], Span]] = defaultdict(dict)
        of_servers: dict[int, list[Span]] = defaultdict(list)
        for span in spans:
            if span.where == "worker":
                of_workers[span.version][span.what, span.number] = span
            elif span.what == "apply":
                of_servers[span.version].append(span)
        for base in range(first, last):
            own, before, after = of_workers[base], of_servers[base], of_servers[base + 1]
            if len(before) == len(after) == servers and len(own) == 4 * workers:
                self._add(own, before, after)

    def _add(self, own: dict[tuple[str, int], Span], before: list[Span], after: list[Span]) -> None:
        numbers = range(self.arrangement.workers)
        for number in numbers:
            pull, compute, push = (own[what, number] for what in ("pull", "compute", "push"))
            self.gradients_s[number][-1].append(compute.end_s - compute.start_s)
            self.transfers_s[-1].append(pull.end_s - pull.start_s + push.end_s - push.start_s)
        heard_s = float(np.mean([own["wait", number].end_s for number in numbers]))
        pushed_s = max(own["push", number].end_s for number in numbers)
        begun_s, ended_s = min(s.start_s for s in after), max(s.end_s for s in after)
        self.updates_s[-1].append(ended_s - begun_s)
        before_s = max(span.end_s for span in before)
        self.messages_s[-1].append(heard_s - before_s + begun_s - pushed_s)

    @property
    def gradient_s(self) -> float:
        """Mean time of a gradient."""
        turns = zip(*self.gradients_s.values(), strict=True)
        return typical([[*chain.from_iterable(turn)] for turn in turns])

    def as_json(self) -> dict[str, Any]:
        """One flat object."""
        return {
            **self.arrangement._asdict(),
            "gradients": sum(len(turn) for own in self.gradients_s.values() for turn in own),
            "gradient_s": self.gradient_s,
            "transfer_s": typical(self.transfers_s),
            "message_s": typical(self.messages_s),
            "update_s": typical(self.updates_s),
        }


@dataclass(frozen=True, eq=False)
class Interplay:
    """Times of gradients while servers work, in seconds: of an asynchronous arrangement.

    Attributes:
        arrangement: What was run.
        gradients_s: Of each gradient.
        overlaps_s: Of each gradient: the time for which servers worked meanwhile.
    """

    arrangement: Arrangement
    gradients_s: Turns = field(default_factory=list)
    overlaps_s: Turns = field(default_factory=list)

    def add(self, spans: Iterable[Span], first: int, last: int) -> None:
        """What the spans of one turn say of gradients on the versions ``first`` to ``last - 1``."""
        spans = list(spans)
        self.gradients_s.append([])
        self.overlaps_s.append([])
        by_version: dict[tuple[str, int], list[Span]] = defaultdict(list)
        for span in spans:
            if span.where == "server":
                by_version[span.what, span.version].append(span)
        updates = np.array(
            [
                (min(span.start_s for span in own), max(span.end_s for span in own))
                for own in by_version.values()
            ]
        )
        for span in spans:
            if span.what == "compute" and first <= span.version < last and len(updates):
                begins_s = np.maximum(updates[:, 0], span.start_s)
                ends_s = np.minimum(updates[:, 1], span.end_s)
                self.gradients_s[-1].append(span.end_s - span.start_s)
                self.overlaps_s[-1].append(float(np.maximum(ends_s - begins_s, 0).sum()))

    def as_json(self) -> dict[str, Any]:
        """One flat object."""
        return {
            **self.arrangement._asdict(),
            "gradients": sum(map(len, self.gradients_s)),
            "gradient_s": typical(self.gradients_s),
            "overlap_s": typical(self.overlaps_s),
        }


def typical(turns: Sequence[Sequence[float]]) -> float:
    """The median over turns of a turn's mean.

    A mean, because what happens now and then makes training slower, too; the median, because in
    some turns the machine has other work to do.

    Raises:
        ValueError: there is no value.
    """
    means = [float(np.mean(turn)) for turn in turns if len(turn)]
    if not means:
        raise ValueError("no times to take the mean of")
    return float(np.median(means))
