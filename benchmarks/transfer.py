"""What a push and a pull cost against plain copies: ``python -m benchmarks.transfer``.

A worker of the ``local`` engine is pointed to parameters that lie in shared memory (the pull) and
copies its gradient's tensors to a slot there, looking whether all is finite (the push). Both are
read off the engine's timeline. They are set against the time in which a process on the same core
copies as many bytes from its own memory to shared memory, and as many back, after the same
gradient, so that the caches hold the same. Both take turns.
"""

import argparse
import sys
import time
from statistics import median

from rich.console import Console

from benchmarks.child import processes
from benchmarks.distvi_local import Local
from benchmarks.step import machine, print_goal, thread_environment

GOAL = 2.5
GRADIENTS = 50  # of a turn
PARTS = ("pull", "push")


class Transfers(Local):
    """The pulls and pushes of the engine with one worker."""

    def __init__(self) -> None:
        super().__init__("sync", workers=1, servers=1)

    def turn(self, batch: int) -> dict[str, float]:
        """Milliseconds of a pull and of a push, each the median of a turn."""
        engine = self._engine(batch)
        first = engine.update
        engine.advance(first + GRADIENTS)
        spans = [span for span in engine.spans if span.version >= first]
        return {
            what: 1e3 * median(s.end_s - s.start_s for s in spans if s.what == what)
            for what in PARTS
        }


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.transfer", description=__doc__)
    parser.add_argument("--batch-size", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    batch = options.batch_size
    console = Console(width=100)
    console.print("{cpu}, {cores} cores, Python {python}".format(**machine()))
    command = {"copies": [sys.executable, "-m", "benchmarks.memcpy", "0"]}
    environment = thread_environment(1) | {"JAX_PLATFORMS": "cpu"}
    rounds: list[dict[str, float]] = []
    transfers = Transfers()
    with transfers, processes(command, environment) as contenders:
        transfers.prepare(batch)
        contenders["copies"].ask("prepare", batch)
        for _ in range(options.rounds):
            times_ms = transfers.turn(batch)
            time.sleep(0.1)
            copying_s = contenders["copies"].ask("run", GRADIENTS, batch)
            rounds.append({**times_ms, "copies": 1e3 * copying_s / GRADIENTS})
    for name in (*PARTS, "copies"):
        values = [each[name] for each in rounds]
        console.print(f"{name}: {median(values):.3f} ms ({min(values):.3f} to {max(values):.3f})")
    value = median(sum(each[part] for part in PARTS) / each["copies"] for each in rounds)
    print_goal(console, "a pull and a push / a copy there and one back", value, GOAL, "at most")


if __name__ == "__main__":
    main()
