"""``distvi predict``."""

from pathlib import Path

from distvi.cli.output import say, warnings_as_lines


def predict(run: Path, inputs: Path, /, *, out: Path) -> None:
    """Write predictions with their uncertainty for a table of inputs.

    Args:
        run: The run folder.
        inputs: A table with the input columns that the run was trained on.
        out: The file to write: .parquet or .csv.
    """
    from distvi import api  # imports JAX

    with warnings_as_lines():
        rows = api.predict(run, inputs, out)
    say(f"{rows} predictions written to {out}")
