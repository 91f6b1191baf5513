"""What workers and servers do, as a few lines of a terminal."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from distvi.engines.status import EngineStatus, ServerStatus, WorkerStatus

MOST_WORKERS, MOST_SERVERS = 7, 4
"""Lines for each; of more processes, the rest share the last line."""

_LOOKS = {
    "computing": ("●", "cyan"),
    "ready": ("●", "green"),
    "waiting": ("○", "dim"),
    "starting": ("◌", "yellow"),
    "dismissed": ("✕", "red"),
    "gone": ("✕", "red"),
    "ended": ("■", "dim"),
}

Row = tuple[str | Text, ...]


def process_table(status: EngineStatus, lines: int = MOST_WORKERS + MOST_SERVERS) -> Table:
    """A line per process, within 80 columns: its state, what it has done, how often replaced.

    Args:
        status: Of all of them.
        lines: That the table may have; there are two at least.
    """
    most_servers = min(MOST_SERVERS, len(status.servers), max(1, lines // 3))
    most_workers = min(MOST_WORKERS, max(1, lines - most_servers))
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, min_width=10)  # widths at which nothing moves sideways
    table.add_column(no_wrap=True, min_width=12)
    table.add_column(no_wrap=True, min_width=7, justify="right")
    table.add_column(no_wrap=True, min_width=9)
    table.add_column(no_wrap=True, min_width=14)
    table.add_column(no_wrap=True)
    for row in _rows("worker", status.workers, most_workers, _of_workers):
        table.add_row(*row)
    for row in _rows("server", status.servers, most_servers, _of_servers):
        table.add_row(*row)
    return table


def _rows(
    what: str, processes: Sequence[Any], most: int, numbers: Callable[[Sequence[Any]], Row]
) -> Iterator[Row]:
    alone = len(processes) if len(processes) <= most else most - 1
    for process in processes[:alone]:
        sign, style = _LOOKS[process.state]
        name = Text.assemble((sign, style), f" {what} {process.number}")
        yield name, Text(process.state, style), *numbers([process]), _replaced([process])
    if rest := processes[alone:]:
        (state, number), *_ = Counter(process.state for process in rest).most_common()
        states = Text(f"{number} {state}", _LOOKS[state][1])
        yield (
            f"  {len(rest)} {'more' if alone else 'in all'}",
            states,
            *numbers(rest),
            _replaced(rest),
        )


def _of_workers(workers: Sequence[WorkerStatus]) -> Row:
    gradients = sum(worker.gradients for worker in workers)
    values = [worker.staleness for worker in workers if worker.staleness is not None]
    staleness = "–" if not values else str(values[0]) if len(workers) == 1 else f"≤ {max(values)}"
    return f"{gradients:,}", Text("gradients", "dim"), Text(f"staleness {staleness}")


def _of_servers(servers: Sequence[ServerStatus]) -> Row:
    moved = decimal(sum(server.moved_bytes for server in servers))
    updates = max(server.updates for server in servers)
    return f"{updates:,}", Text("updates", "dim"), Text(f"moved {moved}")


def _replaced(processes: Sequence[WorkerStatus | ServerStatus]) -> Text:
    times = sum(process.replaced for process in processes)
    return Text(f"replaced {times}×" if times else "", "yellow")
