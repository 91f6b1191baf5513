"""``distvi train``."""

from pathlib import Path
from typing import Annotated

from cyclopts import Group, Parameter

from distvi.cli.callbacks import DashboardAddress, audience
from distvi.cli.model_help import print_model_settings
from distvi.cli.output import Json, print_json
from distvi.config.run import DataSettings, EngineSettings, TrainingSettings, resolve


class DataOptions(DataSettings):
    """The data settings as options; the data set is the command's argument instead."""

    dataset: Annotated[str, Parameter(show=False, parse=False)] = ""


def flat(group: str, order: int) -> Parameter:
    """A table of settings whose keys are options by themselves."""
    return Parameter(name="*", group=Group(group, sort_key=order))


# Which options were given is read off these: pydantic remembers the fields that were set.
DATA, TRAINING, ENGINE = DataOptions(), TrainingSettings(), EngineSettings()


def train(
    dataset: str | None = None,
    /,
    *,
    out: Path | None = None,
    config: Path | None = None,
    set_: Annotated[tuple[str, ...], Parameter(name="--set")] = (),
    json: Json = False,
    dashboard: DashboardAddress = False,
    help_model: bool = False,
    data: Annotated[DataOptions, flat("Data", 2)] = DATA,
    training: Annotated[TrainingSettings, flat("Training", 1)] = TRAINING,
    engine: Annotated[EngineSettings, flat("Engine", 3)] = ENGINE,
) -> None:
    """Train a model on a data set and write a run folder.

    Args:
        dataset: A name (see `distvi data list`), or a CSV, Parquet or NPZ table with `--target`.
        out: The run folder to make; by default the next free runs/NAME-0001.
        config: A TOML file of settings; options take precedence over it.
        set_: A setting of the file, such as `--set model.width=50`; may be repeated.
        json: Print summary.json on standard output, and nothing else there.
        dashboard: Show the run as a web page while it goes on, at PORT or HOST:PORT; by default at
            a free port, for this machine only.
        help_model: List the settings of the models, for `--set`, and exit.
        data: Which examples.
        training: How the parameters are optimized.
        engine: Where the updates are computed.
    """
    if help_model:
        print_model_settings()
        return
    settings = {}
    for table in (data, training, engine):
        settings |= table.model_dump(exclude_unset=True)
    resolved = resolve(dataset, file=config, settings=settings, assignments=set_)

    from distvi import training as course  # imports JAX

    try:
        run = course.train(resolved, out, audience(dashboard))
    except course.Interrupted as stop:
        if json:
            print_json(stop.run.summary)
        raise
    if json:
        print_json(run.summary)
