"""``distvi train``."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from distvi.cli.callbacks import DashboardAddress, audience
from distvi.cli.model_help import print_model_settings
from distvi.cli.options import (
    ALGORITHM,
    DATA,
    ENGINE,
    TRAINING,
    Algorithm,
    Data,
    Engine,
    Training,
    given,
    option,
)
from distvi.cli.output import Json, print_json
from distvi.cli.rule_help import print_rules
from distvi.cli.scheme_help import print_schemes
from distvi.config.resolve import resolve


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
    help_schemes: bool = False,
    help_rules: bool = False,
    data: Data = DATA,
    training: Training = TRAINING,
    algorithm: Algorithm = ALGORITHM,
    engine: Engine = ENGINE,
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
        help_schemes: List the schemes and their options, with the numbers for `--workers` if it is
            given, and exit.
        help_rules: List the rules and their options, and exit.
        data: Which examples.
        training: How the parameters are optimized.
        algorithm: How workers and updates are kept in step.
        engine: Where the updates are computed.
    """
    if help_model:
        print_model_settings()
        return
    if help_schemes:
        print_schemes(workers=given(engine).get("workers"))
        return
    if help_rules:
        print_rules()
        return
    settings = given(data, training, algorithm, engine)
    resolved = resolve(dataset, file=config, settings=settings, assignments=set_, spell=option)

    from distvi import training as course  # imports JAX

    try:
        run = course.train(resolved, out, audience(dashboard))
    except course.Interrupted as stop:
        if json:
            print_json(stop.run.summary)
        raise
    if json:
        print_json(run.summary)
