"""A table's columns before anything is learnt from them: what each holds, and its values."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float64

from distvi.data.encodings import Category, Column, Date, Number
from distvi.data.text import (
    FLAGS,
    ISO,
    Distinct,
    Holds,
    date_of,
    day_of,
    no_numbers,
    number_of,
    refuse_nearly_numbers,
    what_it_holds,
)
from distvi.errors import InputError

MISSING = frozenset(
    ("NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "-nan", "-NaN", "NULL", "Null", "null")
)
"""Cells of text that are a missing value, besides empty ones: as pandas and Arrow have them."""

_DAY_US = 86_400_000_000


@dataclass(frozen=True)
class CellRules:
    """How the cells of a file's text are to be understood.

    Attributes:
        where: The file, for messages.
        decimal: The decimal mark.
        missing: What stands for a missing value.
    """

    where: str
    decimal: str = "."
    missing: frozenset[str] = MISSING


@dataclass(frozen=True, eq=False)
class RawColumn:
    """A column that can become inputs.

    Attributes:
        name: Of the column.
        holds: What it holds.
        pattern: Of dates as text.
        values: A number for each row, days of dates, NaN where it is missing; or labels.
        why: What was seen in it, in a few words.
    """

    name: str
    holds: Holds
    pattern: str
    values: Float64[np.ndarray, " rows"] | Distinct
    why: str

    def learn(self, train: Bool[np.ndarray, " rows"]) -> Column | str:
        """What becomes of the column by its training rows; or why it is left out."""
        if isinstance(self.values, Distinct):
            found = self.values.of_rows(train)
            if len(found.values) < 2 and (found.codes >= 0).all():
                return "one value in all training rows"
            learnt = Category.learn(self.name, found)
            return learnt or "hardly two training rows share a value: names or numbers of rows?"
        values = self.values[train]
        if np.isnan(values).all():
            return "no value in any training row"
        if self.holds is Holds.DATES:
            return Date.learn(self.name, values, self.pattern)
        return Number.learn(self.name, values, self.holds is Holds.FLAGS)


def raw_column(
    name: str, column: pa.ChunkedArray, rules: CellRules, *, categorical: bool
) -> RawColumn:
    """What a column holds.

    Args:
        name: Of the column.
        column: Of any type.
        rules: How to understand its text.
        categorical: Whether it was said that it holds categories.

    Raises:
        InputError: it is of a type that cannot be used, or nearly all numbers.
    """
    kind = column.type
    if categorical or pa.types.is_dictionary(kind):
        found = labels_in(column, rules)
        why = "said to be categories" if categorical else "stored as categories"
        return RawColumn(name, Holds.LABELS, "", found, f"{why}: {_counted(found)}")
    if not (is_text(kind) or pa.types.is_null(kind)):
        return _typed(name, column, rules)
    found = Distinct.of(column.cast(pa.string()), rules.missing)
    try:
        holds, pattern = what_it_holds(found, rules.decimal)
    except InputError as error:
        raise InputError(f"{rules.where}: column {name!r}: {error}, or --drop {name!r}") from None
    if holds is Holds.LABELS:
        remedy = f"or say --missing TEXT of what stands for a missing value, --categorical {name}"
        decimal, where = rules.decimal, rules.where
        refuse_nearly_numbers(found, name, where, decimal, f"{remedy} or --drop {name}")
        return RawColumn(name, holds, "", found, f"text: {_counted(found)}")
    values = _parsed(found, holds, pattern, rules.decimal)
    return RawColumn(name, holds, pattern, values, _seen(holds, values))


def values_of(
    column: pa.ChunkedArray, encoding: Column, rules: CellRules
) -> Float64[np.ndarray, " rows"] | Distinct:
    """The values of a column that holds what it did in training.

    Raises:
        InputError: a cell is something else.
    """
    name = encoding.name
    if isinstance(encoding, Category):
        return labels_in(column, rules)
    column = decoded(column)
    if not (is_text(column.type) or pa.types.is_null(column.type)):
        if isinstance(encoding, Date) != pa.types.is_temporal(column.type):
            expected = "dates" if isinstance(encoding, Date) else "numbers"
            raise InputError(
                f"{rules.where}: column {name!r} holds {column.type}; the model learnt from "
                f"{expected}"
            )
        return _numbers(name, column, rules)
    found = Distinct.of(column.cast(pa.string()), rules.missing)
    holds, pattern = Holds.NUMBERS, ""
    if isinstance(encoding, Date):
        holds, pattern = Holds.DATES, encoding.pattern
    elif encoding.is_flag:
        holds = Holds.FLAGS
    is_bad = np.array([_read(v, holds, pattern, rules.decimal) is None for v in found.values], bool)
    if not is_bad.any():
        return _parsed(found, holds, pattern, rules.decimal)
    remedy = "the training rows had nothing else"
    what = {Holds.FLAGS: "neither true nor false", Holds.DATES: f"no date written {pattern}"}
    raise no_numbers(found, is_bad, name, rules.where, remedy, what.get(holds, "no number"))


def labels_in(column: pa.ChunkedArray, rules: CellRules) -> Distinct:
    """Labels, however they are stored: 1.0 is 1, as a whole number among decimals is meant."""
    column = decoded(column)
    if pa.types.is_floating(column.type):
        column = pa.chunked_array([pa.array([_label(v) for v in column.to_pylist()], pa.string())])
    return Distinct.of(column.cast(pa.string()), rules.missing).renamed(_without_zeros)


def decoded(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column without Arrow's dictionary encoding."""
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def is_text(kind: pa.DataType) -> bool:
    """Whether a column's type is text."""
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def is_number(kind: pa.DataType) -> bool:
    """Whether a column's type is numbers."""
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)


def _typed(name: str, column: pa.ChunkedArray, rules: CellRules) -> RawColumn:
    holds = Holds.NUMBERS
    if pa.types.is_boolean(column.type):
        holds = Holds.FLAGS
    elif pa.types.is_temporal(column.type):
        holds = Holds.DATES
    values = _numbers(name, column, rules)
    return RawColumn(name, holds, ISO, values, _seen(holds, values))


def _numbers(name: str, column: pa.ChunkedArray, rules: CellRules) -> np.ndarray:
    """Of a column that is no text."""
    kind = column.type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        stamps = column.cast(pa.timestamp("us"), safe=False).cast(pa.int64()).cast(pa.float64())
        return _float64(stamps) / _DAY_US
    if pa.types.is_boolean(kind) or is_number(kind):
        return _float64(column.cast(pa.float64(), safe=False))
    raise InputError(
        f"{rules.where}: column {name!r} holds no numbers but {kind}; turn it into numbers, or "
        f"--drop {name}"
    )


def _float64(column: pa.ChunkedArray) -> np.ndarray:
    return np.concatenate([chunk.to_numpy(zero_copy_only=False) for chunk in column.chunks])


def _parsed(found: Distinct, holds: Holds, pattern: str, decimal: str) -> np.ndarray:
    read = [_read(value, holds, pattern, decimal) for value in found.values]
    return found.spread([np.nan if number is None else number for number in read])


def _read(text: str, holds: Holds, pattern: str, decimal: str) -> float | None:
    match holds:
        case Holds.FLAGS:
            return {"0": 0.0, "1": 1.0, **FLAGS}.get(text.lower())
        case Holds.DATES:
            return day_of(text, pattern)
    return number_of(text, decimal)


def _seen(holds: Holds, values: np.ndarray) -> str:
    missing = int(np.isnan(values).sum())
    if missing == len(values):
        return "no value in any row"
    low, high = np.nanmin(values), np.nanmax(values)
    what = f"numbers, {low:g} to {high:g}"
    if holds is Holds.FLAGS:
        what = "true and false"
    elif holds is Holds.DATES:
        what = f"dates, {date_of(low)} to {date_of(high)}"
    return f"{what}, {missing:,} of {len(values):,} missing" if missing else what


def _counted(found: Distinct) -> str:
    missing, rows = int((found.codes < 0).sum()), len(found.codes)
    values = f"{len(found.values)} value{'s' * (len(found.values) != 1)}"
    return f"{values}, {missing:,} of {rows:,} missing" if missing else values


def _label(value: float | None) -> str | None:
    return None if value is None or np.isnan(value) else f"{value:.17g}"


def _without_zeros(label: str) -> str:
    whole, _, zeros = label.partition(".")
    is_whole = bool(zeros) and not zeros.strip("0") and whole.removeprefix("-").isdecimal()
    return whole if is_whole else label


def missing_of(given: Collection[str] | None) -> frozenset[str]:
    """What stands for a missing value, with what was said of it."""
    return MISSING | frozenset(given or ())
