"""``distvi resume``."""

from pathlib import Path

from distvi.cli.callbacks import DashboardAddress, audience
from distvi.cli.output import Json, print_json


def resume(
    run: Path,
    /,
    *,
    data: Path | None = None,
    json: Json = False,
    dashboard: DashboardAddress = False,
) -> None:
    """Go on with a run that was stopped, bit for bit as if it had not been.

    Args:
        run: The run folder.
        data: Where the run's data are now, if they have moved.
        json: Print summary.json on standard output, and nothing else there.
        dashboard: Show the run as a web page while it goes on, at PORT or HOST:PORT; by default at
            a free port, for this machine only.
    """
    from distvi import training  # imports JAX

    try:
        resumed = training.resume(run, audience(dashboard), moved_to=data)
    except training.Interrupted as stop:
        if json:
            print_json(stop.run.summary)
        raise
    if json:
        print_json(resumed.summary)
