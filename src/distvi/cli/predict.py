"""``distvi predict``."""

import sys
from pathlib import Path


def predict(run: Path, inputs: Path, /, *, out: Path) -> None:
    """Write predictions with their uncertainty for a table of inputs.

    Args:
        run: The run folder.
        inputs: A table with the input columns that the run was trained on.
        out: The file to write: .parquet or .csv.
    """
    from distvi import api  # imports JAX

    rows = api.predict(run, inputs, out)
    print(f"{rows} predictions written to {out}", file=sys.stderr)
