"""What a column of text holds: numbers, flags, dates or labels; and which cells are in the way.

Decided on the different values of a column, not cell by cell: a million rows of five words are
looked at in no time.
"""

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float64, Integer

from distvi.errors import InputError

FLAGS = {"false": 0.0, "true": 1.0}
ISO = "ISO 8601"

_PATTERNS = ("%Y/%m/%d", "%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y")
_TIMES = ("", " %H:%M", " %H:%M:%S")
# A number with a currency, a percent sign, or thousands set apart.
_NEARLY_A_NUMBER = re.compile(r"[$€£¥%\s]*[+-]?[\d.,'’\s]*\d[\d.,'’\s]*[$€£¥%\s]*")
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")
_DAY_S = 86_400.0
_NAMED = 3  # bad cells of a message


class Holds(StrEnum):
    """What a column of text is a way of writing down."""

    NUMBERS = "numbers"
    FLAGS = "flags"
    DATES = "dates"
    LABELS = "labels"


@dataclass(frozen=True, eq=False)
class Distinct:
    """A column of text by its different values, without the white space around them.

    Attributes:
        values: The different values, in order of appearance; none is empty.
        codes: For each row, which of ``values``; -1 where the cell is missing.
    """

    values: tuple[str, ...]
    codes: Integer[np.ndarray, " rows"]

    @classmethod
    def of(cls, column: pa.ChunkedArray, missing: Collection[str] = ()) -> "Distinct":
        """The values of a column of text.

        Args:
            column: Strings.
            missing: What stands for a missing value, besides nothing at all.
        """
        encoded = column.dictionary_encode().unify_dictionaries().combine_chunks()
        if isinstance(encoded, pa.ChunkedArray):
            encoded = encoded.chunk(0)
        numbers: dict[str, int] = {}
        absent = {"", *missing}
        renumbered = [
            -1 if text in absent else numbers.setdefault(text, len(numbers))
            for text in ((value or "").strip() for value in encoded.dictionary.to_pylist())
        ]
        indices = encoded.indices.fill_null(len(renumbered)).to_numpy(zero_copy_only=False)
        return cls(tuple(numbers), np.array([*renumbered, -1])[indices])

    @property
    def counts(self) -> Integer[np.ndarray, " values"]:
        """How many rows hold each value."""
        return np.bincount(self.codes + 1, minlength=len(self.values) + 1)[1:]

    def first_row(self, code: int) -> int:
        """The first row that holds a value, from 0 on; of -1 the first missing cell."""
        return int(np.flatnonzero(self.codes == code)[0])

    def of_rows(self, rows: Bool[np.ndarray, " rows"]) -> "Distinct":
        """The values of some of the rows."""
        codes = self.codes[rows]
        present = np.unique(codes[codes >= 0])
        position = np.full(len(self.values) + 1, -1)
        position[present] = np.arange(len(present))
        return Distinct(tuple(self.values[code] for code in present), position[codes])

    def renamed(self, rename: Callable[[str], str]) -> "Distinct":
        """The same rows by other names of the values, some of which may become one."""
        numbers: dict[str, int] = {}
        codes = [numbers.setdefault(rename(value), len(numbers)) for value in self.values]
        return Distinct(tuple(numbers), np.array([*codes, -1])[self.codes])

    def spread(self, numbers: Sequence[float]) -> Float64[np.ndarray, " rows"]:
        """A number for each value as a number for each row; NaN where it is missing."""
        return np.array([*numbers, np.nan])[self.codes]


def what_it_holds(found: Distinct, decimal: str = ".") -> tuple[Holds, str]:
    """What the values are a way of writing down, and for dates the pattern that they follow.

    Args:
        found: The column's values.
        decimal: The decimal mark.
    """
    values = found.values
    if all(number_of(value, decimal) is not None for value in values):
        return Holds.NUMBERS, ""
    if {value.lower() for value in values} <= FLAGS.keys():
        return Holds.FLAGS, ""
    if pattern := pattern_of(values):
        return Holds.DATES, pattern
    return Holds.LABELS, ""


def number_of(text: str, decimal: str = ".") -> float | None:
    """The number that is written so; None: it is none.

    Example:
        >>> number_of("1.5"), number_of("1,5", decimal=","), number_of("€ 3"), number_of("1_0")
        (1.5, 1.5, None, None)
    """
    try:
        number = float(text if decimal == "." else text.replace(".", "x").replace(decimal, "."))
    except ValueError:
        return None
    return None if "_" in text else number


def pattern_of(values: Sequence[str]) -> str:
    """The pattern of dates that all the values follow; empty: there is none.

    Raises:
        InputError: day and month cannot be told apart.
    """
    if not values:
        return ""
    patterns = [ISO, *(day + time for day in _PATTERNS for time in _TIMES)]
    fitting = [p for p in patterns if all(day_of(value, p) is not None for value in values)]
    if len(fitting) > 1:
        raise InputError(
            f"{values[0]!r} and all other dates can be read as month/day and as day/month; write "
            "them as YYYY-MM-DD"
        )
    return fitting[0] if fitting else ""


def day_of(text: str, pattern: str) -> float | None:
    """A date as days since 1970 began, in UTC where it has a zone; None: it is none.

    Example:
        >>> day_of("1970-01-02 12:00", ISO), day_of("2.1.1970", "%d.%m.%Y"), day_of("May", ISO)
        (1.5, 1.0, None)
    """
    try:
        date = datetime.fromisoformat(text) if pattern == ISO else datetime.strptime(text, pattern)
    except ValueError:
        return None
    zoned = date if date.tzinfo else date.replace(tzinfo=UTC)
    return zoned.timestamp() / _DAY_S


def date_of(days: float) -> str:
    """Days since 1970 began as a date.

    Example:
        >>> date_of(31.5)
        '1970-02-01'
    """
    return str(np.datetime64(int(np.floor(days)), "D"))  # which knows years before 1 and after 9999


def refuse_nearly_numbers(
    found: Distinct, name: str, where: str, decimal: str, remedy: str
) -> None:
    """Refuse text that would be labels, but most of it is numbers: somebody mistyped one.

    Args:
        found: The column's values, not all of them numbers.
        name: The column.
        where: The file, for messages.
        decimal: The decimal mark.
        remedy: What to do if it is meant, for messages.

    Raises:
        InputError: names the cells that are no numbers.
    """
    is_number = np.array([number_of(value, decimal) is not None for value in found.values], bool)
    is_near = is_number | [bool(_NEARLY_A_NUMBER.fullmatch(value)) for value in found.values]
    rows = int((found.codes >= 0).sum())
    # By their rows, or by how many different ones there are: "?" may well be the commonest value.
    if 2 * found.counts[is_near].sum() >= rows or 2 * is_near.sum() >= len(is_near):
        raise no_numbers(found, ~is_number, name, where, remedy)


def no_numbers(
    found: Distinct,
    is_bad: np.ndarray,
    name: str,
    where: str,
    remedy: str,
    what: str = "no number",
) -> InputError:
    """The complaint about cells that should be something, such as numbers, and are not.

    Args:
        found: The column's values.
        is_bad: Which of the values they are.
        name: The column.
        where: The file.
        remedy: What to do, if it is not to mend the cells.
        what: What the cells are instead.
    """
    codes = np.flatnonzero(is_bad)
    cells = np.flatnonzero(np.isin(found.codes, codes))
    first, *others = [(row + 1, found.values[found.codes[row]]) for row in cells[:_NAMED]]
    also = [f"row {row} ({value!r})" for row, value in others]
    if len(cells) > _NAMED:
        also.append(f"{len(cells) - _NAMED} more")
    rows = int((found.codes >= 0).sum())
    has_point = any("." in value for value in found.values)
    if not has_point and all(_DECIMAL_COMMA.fullmatch(found.values[code]) for code in codes):
        remedy = f"for a decimal comma say --decimal ,; {remedy}"
    nor = f", nor are {' and '.join(also)}" if also else ""
    return InputError(
        f"{where}: row {first[0]}, column {name!r} holds {first[1]!r}, which is {what}{nor}; "
        f"{rows - len(cells)} of {rows} are right. Mend the cells; {remedy}"
    )
