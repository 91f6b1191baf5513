"""``distvi data``."""

from pathlib import Path

from cyclopts import App

app = App(help="List, describe, download and augment data sets.")


@app.command(name="list")
def list_() -> None:
    """List the data sets that are known by name."""
    from distvi.data import available

    for entry in available():
        print(
            f"{entry.name:10} {entry.task:15} {entry.rows:>7} x {entry.inputs:<4} {entry.summary}"
        )  # noqa: T201


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
        print(f"{fact:8} {value}")  # noqa: T201


@app.command
def fetch(name: str, /, *, data_dir: Path | None = None, base_url: str | None = None) -> None:
    """Download a data set and verify its checksums.

    Args:
        name: Its name.
        data_dir: The folder that receives the files; by default DISTVI_DATA or a cache folder.
        base_url: Where the files are; by default the known mirrors.
    """
    from distvi.data import fetch

    print(fetch(name, data_dir, base_url=base_url))  # noqa: T201
