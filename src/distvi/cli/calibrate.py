"""``distvi calibrate``."""

from pathlib import Path
from typing import Annotated

from distvi.cli.output import Json, print_json
from distvi.cli.train import DATA, ENGINE, TRAINING, DataOptions, Parameter, flat
from distvi.config.run import EngineSettings, TrainingSettings, resolve

_DATASET = "digits"


def calibrate(
    dataset: str | None = None,
    /,
    *,
    out: Path = Path("cluster.toml"),
    config: Path | None = None,
    set_: Annotated[tuple[str, ...], Parameter(name="--set")] = (),
    json: Json = False,
    data: Annotated[DataOptions, flat("Data", 2)] = DATA,
    training: Annotated[TrainingSettings, flat("Training", 1)] = TRAINING,
    engine: Annotated[EngineSettings, flat("Engine", 3)] = ENGINE,
) -> None:
    """Measure this machine for a minute and write what a simulated cluster like it costs.

    Engine local trains in turns with three batch sizes around the given one, with one worker alone
    and with another number of servers. The file is for `distvi train --engine simulated --cluster
    FILE` and `distvi simulate`.

    Args:
        dataset: A name or a table, as of `distvi train`; by default digits.
        out: The file to write.
        config: A TOML file of settings; options take precedence over it.
        set_: A setting of the file, such as `--set model.width=50`; may be repeated.
        json: Print costs and times as one JSON object on standard output, and nothing else there.
        data: Which examples.
        training: Of these the batch size matters.
        engine: Of these the numbers of workers and servers, the placement and pinning matter.
    """
    if dataset is None and config is None:
        dataset = _DATASET
    settings = {}
    for table in (data, training, engine):
        settings |= table.model_dump(exclude_unset=True)
    resolved = resolve(dataset, file=config, settings=settings, assignments=set_)

    from rich.console import Console

    from distvi.calibration import calibrate, check_new_file, write  # imports JAX

    check_new_file(out)
    errors = Console(stderr=True)
    with errors.status("starting processes and measuring"):
        calibration = calibrate(resolved)
    write(out, calibration)
    if json:
        print_json(calibration.as_json())
    errors.print(
        f"Costs of {calibration.what} written to [bold]{out}[/]", highlight=False, soft_wrap=True
    )
