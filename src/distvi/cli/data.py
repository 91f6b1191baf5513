"""``distvi data``."""

from pathlib import Path

from cyclopts import App

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
def info(name: str, /) -> None:
    """Describe a data set.

    Args:
        name: Its name.
    """
    from distvi.data import info

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
