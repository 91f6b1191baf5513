"""The TOML file of a study: what is trained, what is varied, how it is measured."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from distvi.errors import InputError
from distvi.runs.records import Value
from distvi.system.settings import Settings, complaint, complaint_path, read_toml

TUNED = "tuned"
"""The value of a setting that is chosen for each cell by itself, see `Tuning`."""


def _several(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else (value,)


Count = Annotated[int, Field(gt=0)]
Given = Value | tuple[str, ...]
"""A value in the file: rules may be several."""
Values = Annotated[tuple[Given, ...], BeforeValidator(_several), Field(min_length=1)]


class Block(Settings):
    """Some cells: a design over settings that are called by their flat names."""

    name: str = Field(description="Of the block, in the report.")
    design: Literal["grid", "one-at-a-time", "list"] = Field(
        default="grid",
        description="All combinations of the axes; each axis by itself, the others as in the base; "
        "or the cells as they are listed.",
    )
    fixed: dict[str, Given] = Field(default={}, description="Settings of all its cells.")
    axes: dict[str, Values] = Field(default={}, description="Settings and their values.")
    cells: tuple[dict[str, Given], ...] = Field(default=(), description="Of a list.")

    @model_validator(mode="after")
    def _has_what_its_design_needs(self) -> "Block":
        if self.design == "list" and (self.axes or not self.cells):
            raise ValueError("a list has cells, and no axes")
        if self.design != "list" and self.cells:
            raise ValueError(f"cells are given, but the design is {self.design!r}, not 'list'")
        if self.design != "list" and not self.axes:
            raise ValueError("there are no axes")
        if twice := self.axes.keys() & self.fixed.keys():
            raise ValueError(f"{min(twice)} is both fixed and an axis")
        return self


class Tuning(Settings):
    """How a setting whose value is "tuned" is chosen: on a part of the training examples."""

    setting: Literal["learning_rate"] = "learning_rate"
    values: Annotated[tuple[float, ...], Field(min_length=2)] = Field(
        description="What is tried: the value with the best metric on the validation part is taken."
    )
    validation_fraction: float = Field(
        default=0.1, gt=0, lt=1, description="Of the training examples, held out for the choice."
    )
    examples_share: float = Field(
        default=1.0, gt=0, le=1, description="How long a trial is, as a share of the cell."
    )
    metric: str | None = Field(
        default=None, description="The lowest is best; by default error_rate, or rmse."
    )


class Stop(Settings):
    """When a training ends; whichever comes first."""

    updates: Count | None = None
    examples: Count | None = None
    epochs: float | None = Field(default=None, gt=0)
    time_s: float | None = Field(default=None, gt=0, description="On the engine's clock.")
    wall_s: float | None = Field(default=None, gt=0, description="On the wall's clock.")
    target_error: float | None = Field(
        default=None, gt=0, description="Of a test during the run: error rate, or RMSE."
    )

    @model_validator(mode="after")
    def _one_length(self) -> "Stop":
        given = [n for n in ("updates", "examples", "epochs") if getattr(self, n) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} are given; choose one")
        return self


class Tests(Settings):
    """Tests while a cell is trained."""

    number: Count = Field(default=10, description="How many, evenly spaced; the last at the end.")
    samples: Count = Field(
        default=10, description="Monte Carlo samples of all but the last, which has the model's."
    )


class Measuring(Settings):
    """How all cells of a study are measured."""

    stop: Stop = Stop()
    tests: Tests = Tests()
    tuning: Tuning | None = None


class ClaimTable(Settings):
    """A statement that the report answers; see `distvi.studies.claims`."""

    name: str
    says: str
    note: str = ""


class Spec(Measuring):
    """A study."""

    title: str
    seeds: Count = Field(default=3, description="Trainings of each setting.")
    base: dict[str, dict[str, Any]] = Field(
        description="The tables of a run: data, model, training, algorithm, engine."
    )
    blocks: tuple[Block, ...] = Field(min_length=1)
    target_errors: tuple[float, ...] = Field(
        default=(), description="The report tells the time to each."
    )
    claims: tuple[ClaimTable, ...] = ()

    @property
    def measuring(self) -> Measuring:
        """What of it says how cells are measured."""
        return Measuring(stop=self.stop, tests=self.tests, tuning=self.tuning)

    @model_validator(mode="after")
    def _names_are_unique(self) -> "Spec":
        for what, names in (
            ("block", [block.name for block in self.blocks]),
            ("claim", [claim.name for claim in self.claims]),
        ):
            if twice := {name for name in names if names.count(name) > 1}:
                raise ValueError(f"there are two {what}s of the name {min(twice)!r}")
        return self

    @model_validator(mode="after")
    def _one_length(self) -> "Spec":
        training, stop = self.base.get("training", {}), self.stop
        lengths = [n for n in ("updates", "examples", "epochs") if getattr(stop, n) is not None]
        if lengths and training.keys() & {"updates", "epochs"}:
            raise ValueError(f"both base.training and stop.{lengths[0]} say how long trainings are")
        return self


def parse_spec(text: str, where: str) -> Spec:
    """The spec of a text that was read from a file before.

    Raises:
        InputError: this version cannot read it.
    """
    try:
        return Spec.model_validate(tomllib.loads(text))
    except (tomllib.TOMLDecodeError, ValidationError) as error:
        reason = complaint(error) if isinstance(error, ValidationError) else str(error)
        raise InputError(f"the spec of {where} as it is in the ledger: {reason}") from error


class SpecFile:
    """A spec and where its parts stand in their file.

    Args:
        path: The file.

    Raises:
        InputError: it is absent, no TOML, or has a wrong key or value (with the line).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        table = read_toml(path, "study ")
        self.text = path.read_text(encoding="utf-8")
        try:
            self.spec = Spec.model_validate(table)
        except ValidationError as error:
            raise self.wrong(complaint_path(error), complaint(error)) from error

    def wrong(self, keys: Sequence[str], reason: str) -> InputError:
        """A complaint about a part of the file.

        Args:
            keys: That lead to the part, numbers of a list's entries among them.
            reason: What is wrong.
        """
        return InputError(f"{self.path}, line {line_of(self.text, keys)}: {reason}")


def line_of(text: str, keys: Sequence[str]) -> int:
    r"""The line of a TOML file, from 1 on, where keys lead to, as far as it can be told.

    Example:
        >>> line_of("[a]\nx = 1\n[[b]]\ny = 2\n[[b]]\ny = 3\n", ["b", "1", "y"])
        6
    """
    names, numbers = [], []
    for key in keys:
        if key.isdigit() and names:
            numbers.append(int(key))
        else:
            names.append(key)
    best, deepest, table, seen = 1, 0, [], dict[str, int]()
    for number, line in enumerate(text.splitlines(), start=1):
        if header := re.match(r"\s*(\[\[?)\s*([\w.\-\"' ]+?)\s*\]", line):
            table = _parts(header[2])
            if header[1] == "[[":
                seen[header[2]] = seen.get(header[2], -1) + 1
            path = table
        elif entry := re.match(r"\s*([\w.\-\"']+)\s*=", line):
            path = table + _parts(entry[1])
        else:
            continue
        of_another = numbers and table and _number(seen, table) not in (None, numbers[0])
        depth = _common(path, names)
        # A key within an inline table stands in the line of that table.
        if not of_another and depth == len(path) and depth > deepest:
            best, deepest = number, depth
    return best


def _parts(dotted: str) -> list[str]:
    return [part.strip().strip("\"'") for part in dotted.split(".")]


def _number(seen: Mapping[str, int], table: Sequence[str]) -> int | None:
    """Which entry of a list of tables a table is, or lies in."""
    return next(
        (seen[name] for name in seen if _parts(name) == list(table[: len(_parts(name))])), None
    )


def _common(path: Sequence[str], names: Sequence[str]) -> int:
    count = 0
    for a, b in zip(path, names, strict=False):
        if a != b:
            break
        count += 1
    return count
