"""Random faults in real processes, for as long as one likes: ``python -m benchmarks.soak``.

An engine trains in rounds. In each, workers and servers are killed and stopped, gradients are not
finite, training is interrupted, or goes on in another engine; then everything that the engine
promises is checked. The problem's parameters count the gradients that were applied, one by one
(see `benchmarks.counting`). What strikes, whom, and at which event is drawn from the seed. Ends
with status 1 if a promise was broken.
"""

import argparse
import gc
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks import counting
from benchmarks.faults import FAULTS, Strikes, draw_faults
from distvi.aggregation import SCHEMES, check_liveness, scheme_named
from distvi.algorithms.base import Algorithm
from distvi.engines import Halted, Start, TrainState
from distvi.engines.coordinator.engine import FleetEngine
from distvi.engines.coordinator.transport import Limits
from distvi.engines.local.engine import local_engine
from distvi.engines.local.fleet import Topology
from distvi.protocol import (
    Commit,
    Rules,
    State,
    read_line,
    replay,
    story,
    violations,
    write_line,
)

ROUNDS_OF_AN_ENGINE = 5
ROUND_LIMIT_S = 300.0
PATIENCE_S = 2.0
MANY = 1000
MEMORY_MIB = 64  # that the main process may grow by, from the second fifth of a soak to its last


def options_of(name: str, workers: int) -> dict[str, Any]:
    """Settings with which a scheme adds gradients up, and works with so many workers."""
    own: dict[str, dict[str, Any]] = {
        "async": {"in_flight": 1 + workers % 2},
        "backup": {"n": max(1, workers - 1)},
        "dynamic-backup": {"least": max(1, workers // 2)},
        "backup-gradients": {"n": workers + 1},
        "ssp": {"bound": 2},
        "softsync": {"n": 1},
        "k-sync": {"k": max(1, workers - 1)},
        "k-batch-sync": {"k": workers},
        "k-async": {"k": max(1, workers - 1)},
        "k-batch-async": {"k": workers},
        "drop-stale": {"bound": 1, "in_flight": 2},
    }
    adds = {} if name in ("async", "ssp", "drop-stale") else {"combine": "add"}
    return own.get(name, {}) | adds


class Ended(NamedTuple):
    """What another engine needs to go on."""

    state: TrainState
    update: int
    counters: dict[str, Any]


class Course(NamedTuple):
    """What an engine is made of, and where it began."""

    rules: Rules
    workers: int
    servers: int
    may_halt: bool
    counts: np.ndarray
    """Gradients applied before, by example."""


def make_engine(
    number: int, seed: int, cache: Path, before: Ended | None
) -> tuple[FleetEngine, Course]:
    """The engine of some number, perhaps one that goes on where another has ended."""
    rng = random.Random(f"engine {seed} {number}")
    workers, servers = rng.randint(1, 3), rng.randint(1, 2)
    name = list(SCHEMES)[number % len(SCHEMES)]
    may_halt = rng.random() < 0.15
    scheme = scheme_named(name, workers, options_of(name, workers))
    rules = Rules(scheme, worker_timeout_s=PATIENCE_S, nonfinite_limit=MANY)
    limits = Limits(ROUND_LIMIT_S, PATIENCE_S, max_restarts=1 if may_halt else MANY)
    lot = check_liveness(scheme, workers)
    topology = Topology(workers, servers, contributions=lot, pin=False, cache=cache)
    rows = counting.examples()
    built = counting.build({"poison": 17, "batch_s": 0.004}, rows.x, rows.y)
    start, params = Start(counting.initial_params), counting.initial_params()
    if before is not None:
        params, opt_state, memories = before.state
        start = Start(lambda: params, opt_state, memories, before.update, before.counters)
    algorithm = Algorithm(scheme, built.worker, built.server)
    engine = local_engine(topology, built.problem, algorithm, rules, limits, start)
    counts = np.array(params["one"])
    return engine, Course(rules, workers, servers, may_halt, counts)


class Broken(Exception):
    """A promise was not kept."""


def check(is_kept: bool, promise: str) -> None:
    """Complain unless a promise is kept."""
    if not is_kept:
        raise Broken(promise)


def check_round(engine: FleetEngine, course: Course, strikes: Strikes, start: State) -> None:
    """That a round's decisions can be repeated."""
    lines = [write_line(entry) for entry, _, _ in strikes.journal]
    again = replay(course.rules, start, map(read_line, lines))
    told = ((state, commands) for _, state, commands in strikes.journal)
    check(all(one == other for one, other in zip(again, told, strict=True)), "the journal replays")
    check(not violations(course.rules, engine._state), "the protocol's state is sound")


def check_numbers(engine: FleetEngine, course: Course, commits: list[Commit]) -> None:
    """That every committed gradient has been applied, once, on every server."""
    params, opt_state, _ = engine.state
    one, other = (np.array(params[name]) for name in ("one", "other"))
    applied = [commit for commit in commits if commit.version <= engine.update]
    tickets = [part.ticket for commit in applied for part in commit.contributions]
    check(np.array_equal(one, other), "all servers have applied the same gradients")
    new = one - course.counts
    check(bool(np.isin(new, (0, 1)).all()), "no gradient is applied twice or in part")
    for worker in range(course.workers):
        mine = sum(ticket.worker == worker for ticket in tickets)
        there = int(new[worker :: course.workers].sum())
        check(there == mine, f"{there} gradients of worker {worker} applied, {mine} committed")
    check(int(new.sum()) == len(tickets), f"{new.sum()} applied, {len(tickets)} committed")
    check(not new[1::17].any(), "no gradient that is not finite is applied")
    (count,) = jax.tree.leaves(opt_state)
    check(int(count) == engine.update, f"the optimizer counts {count} of {engine.update} updates")


def check_slots(engine: FleetEngine) -> None:
    """That no slot is lost."""
    transport = engine._transport
    if transport._events:
        return
    held = sum(map(len, engine._state.held.values()))
    workers, versions = range(len(transport.members)), transport.versions
    touched = [request for n in workers for request in transport.requests.unanswered(n)]
    used, known = transport.requests.used, held + len(touched)
    check(used == known, f"{used} slots of gradients in use, {known} known of")
    saved, _ = transport.recovery
    read = {request.parameters for request in touched} | {versions.slot, saved.parameters}
    check(versions.used == len(read), f"{versions.used} slots of parameters in use, {read} read")


@contextmanager
def time_limit(engine: FleetEngine) -> Iterator[None]:
    """No round may take longer; says who is waited for."""

    def too_late(signum: int, frame: Any) -> None:
        transport = engine._transport
        servers = transport._servers
        waiting = [type(command).__name__ for command in transport._waiting]
        raise Broken(
            f"a round ends within {ROUND_LIMIT_S:g} s: {story(engine._state)}; "
            f"update {servers.update}; save {servers.saving}; commands {waiting}; "
            f"{engine.status()}"
        )

    signal.signal(signal.SIGALRM, too_late)
    signal.setitimer(signal.ITIMER_REAL, ROUND_LIMIT_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def one_round(engine: FleetEngine, strikes: Strikes, rng: random.Random, *, is_last: bool) -> None:
    """Train while faults strike, and in the last round until all processes are there again."""

    def all_are_there() -> bool:
        now = engine.status()
        working = all(worker.state in ("waiting", "computing") for worker in now.workers)
        return working and all(server.state == "ready" for server in now.servers)

    strikes.faults += draw_faults(rng)
    while not strikes.is_over or (is_last and not all_are_there()):
        before, strikes.is_interrupted = engine.update, False
        values = engine.advance(before + rng.randint(1, 30), lambda: strikes.is_interrupted)
        check(len(values) == engine.update - before, "every update has its ELBO")
        check(bool(np.isfinite(values).all()), "every ELBO is finite")


@dataclass(eq=False)
class Tally:
    """What a soak has seen of each scheme."""

    rows: dict[str, Counter[str]] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    memory_mib: list[float] = field(default_factory=list)

    def of(self, scheme: str) -> Counter[str]:
        """The counts of one."""
        return self.rows.setdefault(scheme, Counter())

    def complain(self, what: str) -> None:
        """A promise was broken."""
        self.broken.append(what)
        print(f"broken: {what}", file=sys.stderr, flush=True)

    def check_memory(self) -> None:
        """That the main process has not grown and grown."""
        fifth = len(self.memory_mib) // 5
        if fifth:
            early, late = self.memory_mib[fifth : 2 * fifth], self.memory_mib[-fifth:]
            grown_mib = median(late) - median(early)
            if grown_mib > MEMORY_MIB:
                self.complain(f"the main process has grown by {grown_mib:.0f} MiB")

    def print(self, console: Console) -> None:
        """A table, and what was broken."""
        columns = ["rounds", "updates", "gradients", *FAULTS]
        columns += ["replaced", "dismissals", "halted", "resumed"]
        table = Table(title="faults and what became of them", title_justify="left")
        table.add_column("scheme", no_wrap=True)
        for column in columns:
            table.add_column(column, justify="right", overflow="fold")
        for name, row in self.rows.items():
            table.add_row(name, *(f"{row[column]:,}" for column in columns))
        total = sum(self.rows.values(), Counter())
        table.add_row("all", *(f"{total[column]:,}" for column in columns), style="bold")
        console.print(table)
        memory = ", ".join(f"{mib:.0f}" for mib in self.memory_mib)
        console.print(f"memory of the main process after each engine, in MiB: {memory}")
        for line in self.broken:
            console.print(f"[red]broken: {line}[/red]")


def left_over() -> dict[str, int]:
    """What an engine could leave behind in this process or its children."""
    gc.collect()
    tasks = Path("/proc/self/task").iterdir()
    children = [child for task in tasks for child in (task / "children").read_text().split()]
    maps = Path("/proc/self/maps").read_text()
    return {
        "child processes": len(children),
        "descriptors": len(list(Path("/proc/self/fd").iterdir())),
        "mapped shared memory": maps.count("memfd:distvi"),
        "files in /dev/shm": len(list(Path("/dev/shm").glob("*distvi*"))),
    }


def resident_mib() -> float:
    """Memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def soak_engine(
    engine: FleetEngine, course: Course, row: Counter[str], where: str, rng: random.Random
) -> int:
    """Rounds of one engine; how many, which is fewer where it halts as it may."""
    strikes = Strikes(engine)
    engine.observers.append(strikes)
    commits: list[Commit] = []
    rounds, first, used = 0, engine.update, engine._record.used
    with engine, ExitStack() as stack:
        stack.callback(strikes.end_round)
        while rounds < ROUNDS_OF_AN_ENGINE:
            rounds, start, began_s = rounds + 1, engine._state, time.perf_counter()
            halted = ""
            with time_limit(engine):
                try:
                    is_last = rounds == ROUNDS_OF_AN_ENGINE and not course.may_halt
                    one_round(engine, strikes, rng, is_last=is_last)
                except Halted as error:
                    halted = str(error)
            for *_, commands in strikes.journal:
                commits += [each for each in commands if isinstance(each, Commit)]
            if halted:
                check(course.may_halt and "restarts have been used" in halted, halted)
                check_numbers(engine, course, commits)
                row["halted"] += 1
                break
            check_round(engine, course, strikes, start)
            check_numbers(engine, course, commits)
            check_slots(engine)
            strikes.end_round()
            took_s = time.perf_counter() - began_s
            print(f"{where}, round {rounds}: {took_s:.1f} s", file=sys.stderr, flush=True)
    row.update(strikes.done, rounds=rounds, updates=engine.update - first)
    row.update(gradients=engine._record.used - used, replaced=engine._transport.restarts)
    return rounds


def soak(rounds: int, seed: int, cache: Path, tally: Tally) -> None:
    """Engine after engine, until so many rounds have been made."""
    done, number = 0, 0
    before: Ended | None = None
    clean: dict[str, int] = {}
    while done < rounds:
        rng = random.Random(f"soak {seed} {number}")
        goes_on = before is not None and rng.random() < 0.5
        engine, course = make_engine(number, seed, cache, before if goes_on else None)
        scheme = list(SCHEMES)[number % len(SCHEMES)]
        where = f"engine {number} ({scheme}, {course.workers} workers, {course.servers} servers)"
        tally.of(scheme)["resumed"] += goes_on
        try:
            done += soak_engine(engine, course, tally.of(scheme), where, rng)
            before = Ended(engine.state, engine.update, engine.counters)
        except (Broken, Halted) as error:
            tally.complain(f"{where}: {error}")
            done, before = done + ROUNDS_OF_AN_ENGINE, None
        del engine
        left = left_over()
        clean = clean or left
        for what, count in left.items():
            if count > clean[what]:
                tally.complain(f"{where}: {count} {what} are left, {clean[what]} before")
        tally.memory_mib.append(resident_mib())
        number += 1
    tally.check_memory()


def main() -> None:
    """Soak and report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    tally, console = Tally(), Console(width=160)
    with tempfile.TemporaryDirectory() as folder:
        try:
            soak(options.rounds, options.seed, Path(folder), tally)
        finally:
            tally.print(console)
    raise SystemExit(1 if tally.broken else 0)


if __name__ == "__main__":
    main()
