"""The run folder: where it is made, what is written into it, and how it is read back."""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from distvi.config.resolve import resolve
from distvi.config.run import RunConfig
from distvi.data import Schema, Standardization
from distvi.errors import InputError
from distvi.runs import checkpoints
from distvi.system.files import read_json, replace_bytes, write_json
from distvi.system.settings import write_toml

CONFIG, SUMMARY, METRICS, DATA, FIGURE = (
    "run.toml",
    "summary.json",
    "metrics.parquet",
    "data.json",
    "figure.png",
)
RUNS = Path("runs")  # where runs without a folder of their own go
TEST_SAMPLES = "test_samples"
"""A column of the metrics table: Monte Carlo samples of the test whose metrics the row has."""

_COLUMNS = ("update", "epoch", "examples", "training_time_s", "neg_elbo", "learning_rate")


@dataclass(frozen=True)
class Run:
    """A run folder.

    Attributes:
        path: The folder.
    """

    path: Path

    @cached_property
    def config(self) -> RunConfig:
        """The resolved configuration."""
        return resolve(file=self.path / CONFIG)

    @property
    def summary(self) -> dict[str, Any]:
        """What summary.json holds at present."""
        return read_json(self.path / SUMMARY)

    @property
    def metrics(self) -> pa.Table:
        """One row per reporting interval and per evaluation."""
        try:
            return pq.read_table(self.path / METRICS)
        except (OSError, pa.ArrowInvalid) as error:
            raise InputError(f"cannot read {self.path / METRICS}: {error}") from error

    @cached_property
    def schema(self) -> Schema:
        """The columns of the data that the run learnt from."""
        return _parsed(self.path / DATA, "schema", Schema.from_json)

    @cached_property
    def standardization(self) -> Standardization:
        """The scales learnt on the training part."""
        return _parsed(self.path / DATA, "standardization", Standardization.from_json)

    @property
    def n_train(self) -> int:
        """Number of training examples."""
        return _parsed(self.path / DATA, "n_train", int)

    @cached_property
    def checksum(self) -> str:
        """Of the data, see `Dataset.checksum`; empty in folders of before it was kept."""
        return _parsed(self.path / DATA, "checksum", str, "")

    @property
    def checkpoint_folder(self) -> Path:
        """The folder of checkpoints."""
        return self.path / "checkpoints"

    @property
    def figure(self) -> Path:
        """The picture of learning curves and calibration."""
        return self.path / FIGURE

    def newest_checkpoint(self) -> checkpoints.Checkpoint:
        """The last checkpoint.

        Raises:
            InputError: there is none, or it is damaged.
        """
        updates = checkpoints.updates(self.checkpoint_folder)
        if not updates:
            raise InputError(f"{self.path} holds no checkpoint")
        return checkpoints.read(self.checkpoint_folder / str(updates[-1]))

    def write_config(self, config: RunConfig) -> None:
        """Replace run.toml.

        Raises:
            InputError: it cannot be written.
        """
        try:
            replace_bytes(self.path / CONFIG, write_toml(config.model_dump()).encode())
        except OSError as error:
            raise InputError(f"cannot write {self.path / CONFIG}: {error.strerror}") from error

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Replace summary.json."""
        write_json(self.path / SUMMARY, summary)

    def write_metrics(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Replace metrics.parquet; a column that a row lacks is null there."""
        names = list(dict.fromkeys([*_COLUMNS, *(name for row in rows for name in row)]))
        integers = ("update", "examples", TEST_SAMPLES)
        columns = {
            name: pa.array(
                [row.get(name) for row in rows], pa.int64() if name in integers else pa.float64()
            )
            for name in names
        }
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table(columns), sink)
        replace_bytes(self.path / METRICS, sink.getvalue().to_pybytes())


def metrics_of_test(row: Mapping[str, Any]) -> dict[str, Any]:
    """Of a row of the metrics table; empty if nothing was tested at its update.

    Example:
        >>> metrics_of_test({"update": 3, "test_mnll": 0.5, "test_samples": 10})
        {'mnll': 0.5}
    """
    tested = {k: v for k, v in row.items() if k.startswith("test_") and k != TEST_SAMPLES}
    metrics = {name.removeprefix("test_"): value for name, value in tested.items()}
    return metrics if any(value is not None for value in metrics.values()) else {}


def load_run(path: str | Path) -> Run:
    """Open a run folder.

    Raises:
        InputError: it is no run folder, or its configuration or data description is damaged.
    """
    run = Run(Path(path))
    if not run.path.is_dir():
        raise InputError(f"there is no run folder {run.path}")
    if not (run.path / CONFIG).is_file():
        raise InputError(f"{run.path} is no run folder: it holds no {CONFIG}")
    _ = run.config, run.schema, run.standardization
    return run


def check_new(out: Path | None) -> None:
    """Refuse a folder that could not become a run's; None: ``runs/``, if it could not hold one.

    Raises:
        InputError: it holds something already, or cannot be made.
    """
    try:
        if out is not None:
            _check_empty(out)
        _remove(_make(out or RUNS))  # an attempt tells more than permission bits
    except OSError as error:
        raise _unwritable(out or RUNS, error) from error


def create(
    out: Path | None,
    config: RunConfig,
    schema: Schema,
    standardization: Standardization,
    n_train: int,
    checksum: str,
) -> Run:
    """Make a run folder with its configuration and what predictions need to be undone.

    Args:
        out: The folder; by default ``runs/NAME-0001`` or the first number that is free.
        config: The resolved configuration.
        schema: The columns of the data.
        standardization: Learnt on the training part.
        n_train: Number of training examples.
        checksum: Of the data, by which they are known again.

    Raises:
        InputError: the folder holds a run already, or cannot be written.
    """
    data = {
        "schema": schema.to_json(),
        "standardization": standardization.to_json(),
        "n_train": n_train,
        "checksum": checksum,
    }
    check_new(out)
    made: list[Path] = []
    try:
        made = _make(out or RUNS)
        if out is None:
            out = _next_free(RUNS, Path(schema.name).stem)
            made = [out, *made]
        write_json(out / DATA, data)
        replace_bytes(out / CONFIG, write_toml(config.model_dump()).encode())
    except OSError as error:
        where = out or RUNS
        for name in (DATA, CONFIG):
            (where / name).unlink(missing_ok=True)
        _remove(made)
        raise _unwritable(where, error) from error
    return Run(out)


def _check_empty(out: Path) -> None:
    if (out / CONFIG).exists():
        raise InputError(
            f"{out} already holds a run; choose another --out, or go on with it: "
            f"distvi resume {out}"
        )
    if out.is_dir() and any(out.iterdir()):
        raise InputError(f"{out} is not empty; choose another --out")


def _unwritable(where: Path, error: OSError) -> InputError:
    return InputError(
        f"cannot write the run to {where}: {error.strerror}; choose another folder with --out"
    )


def _next_free(parent: Path, name: str) -> Path:
    name = re.sub(r"[^\w.-]+", "-", name) or "run"
    taken = [path.name.removeprefix(f"{name}-") for path in parent.glob(f"{name}-*")]
    number = max((int(text) for text in taken if text.isdecimal()), default=0)
    while True:
        number += 1
        out = parent / f"{name}-{number:04d}"
        try:
            out.mkdir()
        except FileExistsError:
            continue  # another run took this number just now
        return out


def _make(folder: Path) -> list[Path]:
    """Make a folder that can be written to, and its parents; those made, innermost first."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    made: list[Path] = []
    try:
        for each in reversed(missing):
            each.mkdir()
            made.insert(0, each)
        probe = folder / ".distvi-probe"
        probe.touch()
        probe.unlink()
    except OSError:
        _remove(made)
        raise
    return made


def _remove(folders: Sequence[Path]) -> None:
    """Remove those that are empty: another run may have found its place there just now."""
    with suppress(OSError):
        for folder in folders:
            folder.rmdir()


def _parsed(path: Path, name: str, parse: Any, default: Any = None) -> Any:
    record = read_json(path)
    if default is not None and name not in record:
        return default
    try:
        return parse(record[name])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is damaged: its entry '{name}' cannot be read") from error
