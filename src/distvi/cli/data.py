"""``distvi data``."""

from pathlib import Path

from cyclopts import App

from distvi.cli.options import DATA, Data, given

app = App(name="data", help="List, describe, download and augment data sets.")


@app.command(name="list")
def list_() -> None:
    """List the data sets that are known by name."""
    from distvi.data import available

    for entry in available():
        size = f"{entry.rows:>7} x {entry.inputs:<4}"
        line = f"{entry.name:10} {entry.task:15} {size} {entry.summary}"
        print(line)


@app.command
def info(name: str, /, *, data: Data = DATA) -> None:
    """Describe a data set; of a table, what would be made of each column, and why.

    Args:
        name: Its name, or a CSV or Parquet table; with `--target` as in `distvi train`.
        data: How a table is read.
    """
    from distvi.data import info, is_table

    if is_table(Path(name)):
        _print_table(name, data)
        return
    entry = info(name)
    facts = {
        "name": entry.name,
        "summary": entry.summary,
        "task": entry.task,
        "rows": entry.rows,
        "inputs": entry.inputs,
        "source": entry.source,
        "files": ", ".join(file for file, _ in entry.files) or entry.table or "none",
    }
    for fact, value in facts.items():
        print(f"{fact:8} {value}")


def _print_table(path: str, options: Data) -> None:
    """A row for each column of a table; it fits 80 columns."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from distvi.config.data import DataSettings
    from distvi.data import describe
    from distvi.runs.parts import reading  # imports JAX

    settings = DataSettings.model_validate({**given(options), "dataset": path})
    described = describe(path, **reading(settings))
    for line in described.lines:
        print(line)
    table = Table("column", "becomes", "holds", box=None, padding=(0, 2, 0, 0), header_style="bold")
    for row in described.columns:
        table.add_row(*(Text(cell, overflow="fold") for cell in row))
    console = Console()
    console.print(table, width=min(console.width, 80))


@app.command
def fetch(name: str, /, *, data_dir: Path | None = None, base_url: str | None = None) -> None:
    """Download a data set and verify its checksums.

    Args:
        name: Its name.
        data_dir: The folder that receives the files; by default DISTVI_DATA or a cache folder.
        base_url: Where the files are; by default the known mirrors.
    """
    from distvi.data import fetch

    print(fetch(name, data_dir, base_url=base_url))


@app.command
def augment(
    dataset: str,
    /,
    *,
    rows: int,
    out: Path,
    data_dir: Path | None = None,
    seed: int = 0,
) -> None:
    """Write any number of shifted and deformed images, as a folder that `distvi train` takes.

    Args:
        dataset: A data set of small images, such as mnist.
        rows: Training images in all, the originals included.
        out: The folder to make.
        data_dir: Folder of the data set's files.
        seed: Seed of the deformations.
    """
    from rich.console import Console
    from rich.progress import Progress

    from distvi.data import augment, load

    source = load(dataset, data_dir=data_dir)
    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("images", total=rows)
        made = augment(source, rows, out, seed, lambda done: bar.update(task, completed=done))
    print(made)
