"""``distvi evaluate``."""

from pathlib import Path

from distvi.cli.output import Json, print_json


def evaluate(run: Path, dataset: str | None = None, /, *, json: Json = False) -> None:
    """Print the test metrics of a run.

    Args:
        run: The run folder.
        dataset: Another data set with the same columns; by default the run's own test part.
        json: Print one JSON object instead of lines.
    """
    from distvi import api  # imports JAX

    metrics = api.evaluate(run, dataset)
    if json:
        print_json(metrics)
        return
    for name, value in metrics.items():
        print(f"{name:20} {value:.6g}")
