"""``distvi evaluate``."""

from pathlib import Path

from distvi.cli.output import Json, print_json, say, warnings_as_lines


def evaluate(
    run: Path, dataset: str | None = None, /, *, data: Path | None = None, json: Json = False
) -> None:
    """Print the test metrics of a run.

    Args:
        run: The run folder.
        dataset: Another data set with the same columns: its test part, or all rows of a table; by
            default the rows that the run held out of its own.
        data: Where the run's own data are now, if they have moved.
        json: Print one JSON object instead of lines.
    """
    from distvi import api  # imports JAX

    with warnings_as_lines():
        metrics = api.evaluate(run, dataset, moved_to=data, tell=say)
    if json:
        print_json(metrics)
        return
    for name, value in metrics.items():
        print(f"{name:20} {value:.6g}")
