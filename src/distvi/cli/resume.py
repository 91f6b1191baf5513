"""``distvi resume``."""

from pathlib import Path

from distvi.cli.output import Json, print_json


def resume(run: Path, /, *, json: Json = False) -> None:
    """Go on with a run that was stopped, bit for bit as if it had not been.

    Args:
        run: The run folder.
        json: Print summary.json on standard output, and nothing else there.
    """
    from distvi import training  # imports JAX
    from distvi.progress import for_terminal

    try:
        resumed = training.resume(run, for_terminal())
    except training.Interrupted as stop:
        if json:
            print_json(stop.run.summary)
        raise
    if json:
        print_json(resumed.summary)
