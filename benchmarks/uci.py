"""Regression tables on their given splits: ``python -m benchmarks.uci --data-dir DIR``.

Trains every table with its configuration ``examples/NAME.toml`` on each of its splits, in
processes of one thread pinned to a core each, and prints mean and standard error of the
standardized test RMSE and MNLL beside published numbers. Every finished split is a line of the
ledger; a second call goes on where the first stopped, and trains again only what another
configuration would train.
"""

import argparse
import hashlib
import json
import math
import multiprocessing
import os
import signal
import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any, NamedTuple

from rich.console import Console
from rich.progress import track
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent


class Published(NamedTuple):
    """Standardized test RMSE and MNLL of a published model; None where it is not given."""

    rmse: float | None
    mnll: float | None


class Reference(NamedTuple):
    """What a table's result is held against: the authors, the best found, and our goal."""

    authors: Published
    best: Published
    goal: Published


# The authors' numbers are read off a figure (Cutajar et al. 2017); the best are GPflux's.
REFERENCES = {
    "power": Reference(Published(0.218, -0.097), Published(0.2057, -0.114), Published(0.215, -0.1)),
    "concrete": Reference(Published(None, None), Published(0.306, 0.389), Published(0.306, None)),
    "energy": Reference(Published(None, None), Published(0.0611, -1.092), Published(0.061, None)),
}


class Cell(NamedTuple):
    """One training: a table, a split, a configuration."""

    table: str
    split: int
    data_dir: Path
    configs: Path
    assignments: tuple[str, ...]

    def settings(self) -> dict[str, Any]:
        """What is the same for every table, whatever its configuration says."""
        folder = self.data_dir / "uci"
        return {
            "dataset": str(folder / f"{self.table}.csv"),
            "config": self.configs / f"{self.table}.toml",
            "target": ("y",),
            "task": "regression",
            "test_indices": str(folder / f"{self.table}.splits.json"),
            "split": self.split,
            "seed": self.split,
            "workers": 1,
            "evaluate_every": 0,
            "checkpoint_every": 0,
        }

    def key(self) -> str:
        """Names the cell in the ledger: table, split, and a digest of all settings but paths."""
        from distvi.config.resolve import resolve

        settings = self.settings()
        dataset, file = settings.pop("dataset"), settings.pop("config")
        config = resolve(dataset, file=file, settings=settings, assignments=self.assignments)
        content = config.model_dump(mode="json", exclude={"data": {"dataset", "test_indices"}})
        content["model"] = config.model.model_dump(mode="json")
        digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
        return f"{self.table}/{self.split}/{digest[:12]}"


def train(cell: Cell) -> dict[str, Any]:
    """Train a cell; a failure is a line of the ledger like any other result."""
    import distvi

    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "run"
            run = distvi.train(**cell.settings(), set=cell.assignments, out=path)
            summary = run.summary
    except distvi.DistviError as error:
        return {"error": str(error)}
    except distvi.Interrupted:
        os._exit(1)  # a pool's process would go on to the next cell
    kept = ("training_time_s", "updates")
    return {"test": summary["test"]} | {name: summary[name] for name in kept}


def finished(ledger: Path) -> dict[str, dict[str, Any]]:
    """The results in a ledger by key, without the failures: those are tried again."""
    lines = ledger.read_text().splitlines() if ledger.exists() else []
    rows = [json.loads(line) for line in lines]
    return {row["key"]: row for row in rows if "error" not in row}


def fill(ledger: Path, cells: Sequence[Cell], processes: int) -> list[dict[str, Any]]:
    """Train what the ledger does not hold; the rows of all the cells."""
    keys = {cell: cell.key() for cell in cells}
    done = finished(ledger)
    missing = [cell for cell in cells if keys[cell] not in done]
    if not missing:
        return [done[key] for key in keys.values()]
    # Spawned, as a forked JAX hangs.
    context = multiprocessing.get_context("spawn")
    cores = context.Queue()
    for core in sorted(os.sched_getaffinity(0))[:processes]:
        cores.put(core)
    ledger.parent.mkdir(parents=True, exist_ok=True)
    failed = []
    with (
        ledger.open("a") as file,
        ProcessPoolExecutor(processes, context, begin, (cores,)) as pool,
    ):
        futures = {pool.submit(train, cell): cell for cell in missing}
        progress = track(
            as_completed(futures), "training", len(missing), console=Console(stderr=True)
        )
        for future in progress:
            cell = futures[future]
            row = {"key": keys[cell], "table": cell.table, "split": cell.split, **future.result()}
            print(json.dumps(row), file=file, flush=True)
            done[row["key"]] = row
            failed += [row] if "error" in row else []
    if failed:
        raise SystemExit("\n".join(f"{row['key']} failed: {row['error']}" for row in failed))
    return [done[key] for key in keys.values()]


def begin(cores: Any) -> None:
    """Begin a process of the pool: on a core of its own, and for as long as its parent lives.

    JAX makes as many threads as it may use cores. A pool's process waits for its next cell for
    ever if its parent was killed.
    """
    os.sched_setaffinity(0, {cores.get()})
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)  # at the next update, if one is being made


def report(console: Console, rows: Sequence[dict[str, Any]]) -> None:
    """Mean and standard error over the splits, beside the references."""
    table = Table(title="standardized test RMSE and MNLL (nats)", title_justify="left")
    for column in ("table", "splits", "metric", "distvi", "goal", "authors", "best", "seconds"):
        table.add_column(column, justify="left" if column in ("table", "metric") else "right")
    for name in dict.fromkeys(row["table"] for row in rows):
        of_table = [row for row in rows if row["table"] == name]
        seconds = median(row["training_time_s"] for row in of_table)
        for metric in ("rmse", "mnll"):
            values = [row["test"][f"{metric}_standardized"] for row in of_table]
            authors, best, goal = (getattr(published, metric) for published in REFERENCES[name])
            first = [name, str(len(values))] if metric == "rmse" else ["", ""]
            last = f"{seconds:.0f}" if metric == "rmse" else ""
            table.add_row(
                *first, metric.upper(), _with_error(values), _judged(mean(values), goal),
                _number(authors), _number(best), last,
            )  # fmt: skip
    console.print(table)


def _with_error(values: Sequence[float]) -> str:
    error = f" ± {stdev(values) / math.sqrt(len(values)):.4f}" if len(values) > 1 else ""
    return f"{mean(values):.4f}{error}"


def _judged(value: float, goal: float | None) -> str:
    return "" if goal is None else f"{goal:g} {'met' if value <= goal else 'MISSED'}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


def main() -> None:
    """Train what is missing and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.uci", description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True, help="holds uci/NAME.csv")
    parser.add_argument("--tables", nargs="+", choices=REFERENCES, default=list(REFERENCES))
    parser.add_argument("--splits", type=int, default=20, help="the first so many of each table")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--configs", type=Path, default=ROOT / "examples", help="NAME.toml")
    parser.add_argument("--set", nargs="+", default=[], help="settings, as model.width=50")
    parser.add_argument("--ledger", type=Path, default=ROOT / "runs" / "uci.jsonl")
    options = parser.parse_args()
    cells = [
        Cell(table, split, options.data_dir.resolve(), options.configs, tuple(options.set))
        for table in options.tables
        for split in range(options.splits)
    ]
    report(Console(width=110), fill(options.ledger, cells, options.processes))


if __name__ == "__main__":
    main()
