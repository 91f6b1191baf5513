"""``distvi calibrate``."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

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
from distvi.config.resolve import resolve

if TYPE_CHECKING:
    from distvi.calibration import Probe

_DATASET = "digits"


def calibrate(
    dataset: str | None = None,
    /,
    *,
    out: Path = Path("cluster.toml"),
    config: Path | None = None,
    set_: Annotated[tuple[str, ...], Parameter(name="--set")] = (),
    json: Json = False,
    data: Data = DATA,
    training: Training = TRAINING,
    algorithm: Algorithm = ALGORITHM,
    engine: Engine = ENGINE,
) -> None:
    """Measure this machine for a minute and write what a simulated cluster like it costs.

    Args:
        dataset: A name or a table, as of `distvi train`; by default digits.
        out: The file to write.
        config: A TOML file of settings; options take precedence over it.
        set_: A setting of the file, such as `--set model.width=50`; may be repeated.
        json: Print costs and times as one JSON object on standard output, and nothing else there.
        data: Which examples.
        training: Of these the batch size matters.
        algorithm: None of these matters.
        engine: Of these the numbers of workers and servers, the placement and pinning matter.
    """
    if dataset is None and config is None:
        dataset = _DATASET
    settings = given(data, training, algorithm, engine)
    resolved = resolve(dataset, file=config, settings=settings, assignments=set_, spell=option)

    from rich.console import Console
    from rich.progress import track

    from distvi.calibration import calibrate, check_new_file, write  # imports JAX

    check_new_file(out)
    errors = Console(stderr=True)
    with errors.status("starting processes") as starting:

        def watched(turns: "Sequence[Probe]") -> "Iterator[Probe]":
            starting.stop()
            yield from track(turns, "measuring", console=errors, transient=True)

        calibration = calibrate(resolved, watched)
    write(out, calibration)
    if json:
        print_json(calibration.as_json())
    errors.print(
        f"Costs of {calibration.what} written to [bold]{out}[/]", highlight=False, soft_wrap=True
    )
