"""What becomes of a table's columns: numbers for a model, by what their training rows taught.

An encoding is learnt on training rows alone, kept in the run folder as plain JSON, and applied to
rows of any file. [docs/tables.md](../../../docs/tables.md) is the same for users.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, Float64

from distvi.data.numbers import store
from distvi.data.text import Distinct, date_of

MOST_CATEGORIES = 30
"""Inputs that a column of labels may become; what is rarer shares the last."""

LEAST_ROWS = 2
"""Rows that hold a category which gets an input of its own."""

_PERIODS_DAYS = {"year": 365.2425, "week": 7.0, "day": 1.0}
_NAMED = 3
_MISSING, _OTHER = "", "(other)"


class Encoded(NamedTuple):
    """A column as inputs, and what about that a person may not expect."""

    x: Float32[np.ndarray, "rows inputs"]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Number:
    """A column of numbers, which stay what they are, or of true and false, as 1 and 0.

    Attributes:
        name: Of the column.
        median: Of the training rows, which takes the place of missing values; None: none may be.
        has_missing: Whether training rows lack values: another input then says which rows do.
        is_flag: Whether they are true and false.
    """

    name: str
    median: float | None = None
    has_missing: bool = False
    is_flag: bool = False

    @classmethod
    def learn(cls, name: str, values: Float64[np.ndarray, " rows"], is_flag: bool) -> "Number":
        """From the training rows, of which some have a value; NaN is a missing one."""
        return cls(name, float(np.nanmedian(values)), bool(np.isnan(values).any()), is_flag)

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs that it becomes."""
        return (self.name, f"{self.name} is missing") if self.has_missing else (self.name,)

    @property
    def words(self) -> str:
        """What becomes of the column."""
        what = "true 1, false 0" if self.is_flag else "as it is"
        return f"{what}; {self.median:g} where missing, and a flag" if self.has_missing else what

    def encode(self, values: Float64[np.ndarray, " rows"], where: str) -> Encoded:
        """Rows of any file.

        Raises:
            InputError: an infinite number, or one that 32 bits cannot hold.
        """
        is_missing = np.isnan(values)
        notes = ()
        if self.median is not None and is_missing.any():
            values = np.where(is_missing, self.median, values)
            if not self.has_missing:
                notes = (_filled_in(self.name, is_missing, f"{self.median:g}"),)
        x = store([values[:, None]], len(values), (self.name,), where)
        if self.has_missing:
            x = np.concatenate([x, is_missing[:, None].astype(np.float32)], axis=1)
        return Encoded(x, notes)


@dataclass(frozen=True)
class Date:
    """A column of dates: days since the first one, and sine and cosine of the periods they go by.

    Attributes:
        name: Of the column.
        pattern: Of dates as text, see `distvi.data.text.pattern_of`.
        first: Of the training rows, in whole days since 1970 began.
        median: Of the training rows, in those days, for missing values.
        has_missing: Whether training rows lack values: another input then says which rows do.
        periods: ``"year"`` if the training rows span one, ``"week"`` and ``"day"`` if weekdays and
            times of the day differ.
    """

    name: str
    pattern: str
    first: float
    median: float
    has_missing: bool
    periods: tuple[str, ...]

    @classmethod
    def learn(cls, name: str, values: Float64[np.ndarray, " rows"], pattern: str) -> "Date":
        """From the training rows, of which some have a value, in days; NaN is a missing one."""
        days = values[~np.isnan(values)]
        first, median = float(np.floor(days.min())), float(np.median(days))
        differs = {
            "year": days.max() - days.min() >= _PERIODS_DAYS["year"],
            "week": len(np.unique(np.floor(days) % 7)) > 1,
            "day": len(np.unique(days % 1)) > 1,
        }
        periods = tuple(period for period, does in differs.items() if does)
        return cls(name, pattern, first, median, len(days) < len(values), periods)

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs that it becomes."""
        waves = [f"{self.name} ({period}, {f})" for period in self.periods for f in ("sin", "cos")]
        missing = [f"{self.name} is missing"] if self.has_missing else []
        return (f"{self.name} (days)", *waves, *missing)

    @property
    def words(self) -> str:
        """What becomes of the column."""
        words = [f"days since {date_of(self.first)}", *(f"the {period}" for period in self.periods)]
        return "; ".join([*words, "a flag where missing"] if self.has_missing else words)

    def encode(self, values: Float64[np.ndarray, " rows"], where: str) -> Encoded:
        """Rows of any file."""
        is_missing = np.isnan(values)
        days = np.where(is_missing, self.median, values)
        columns = [days - self.first]
        for period in self.periods:
            phase = 2 * np.pi * (days / _PERIODS_DAYS[period] % 1)
            columns += [np.sin(phase), np.cos(phase)]
        if self.has_missing:
            columns.append(is_missing)
        notes = ()
        if is_missing.any() and not self.has_missing:
            notes = (_filled_in(self.name, is_missing, date_of(self.median)),)
        return Encoded(np.stack(columns, axis=1).astype(np.float32), notes)


@dataclass(frozen=True)
class Category:
    """A column of labels: an input for each frequent one, and one for all others if there are any.

    Attributes:
        name: Of the column.
        kept: Labels with an input of their own; the empty one stands for missing values.
        rare: Labels of the training rows that share the last input.
    """

    name: str
    kept: tuple[str, ...]
    rare: tuple[str, ...] = ()

    @classmethod
    def learn(cls, name: str, found: Distinct) -> "Category | None":
        """From the training rows; None: no label is frequent, or there is but one."""
        from sklearn.preprocessing import OneHotEncoder  # slow to import

        labels = np.array([*found.values, _MISSING], object)[found.codes]
        encoder = OneHotEncoder(min_frequency=LEAST_ROWS, max_categories=MOST_CATEGORIES)
        encoder.fit(labels[:, None])
        (every,), (rare,) = encoder.categories_, encoder.infrequent_categories_
        rare = [] if rare is None else list(rare)
        kept = [label for label in every if label not in set(rare)]
        return cls(name, tuple(kept), tuple(rare)) if kept and len(every) > 1 else None

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs that it becomes."""
        labels = [*self.kept, *([_OTHER] if self.rare else [])]
        return tuple(
            f"{self.name}={label}" if label else f"{self.name} is missing" for label in labels
        )

    @property
    def words(self) -> str:
        """What becomes of the column."""
        others = f" and one for {len(self.rare)} rare ones" if self.rare else ""
        return f"one-hot: {len(self.kept)} categories{others}"

    def encode(self, found: Distinct, where: str) -> Encoded:
        """Rows of any file; a label that the training rows do not have is as a rare one.

        Where they have no rare ones, all of its inputs are 0.
        """
        position = {label: number for number, label in enumerate(self.kept)}
        width, other = len(self.inputs), len(self.kept)
        places = [position.get(label, other) for label in (*found.values, _MISSING)]
        one_hot = np.eye(other + 1, width, dtype=np.float32)[np.array(places)[found.codes]]
        new = set(found.values) - {*self.kept, *self.rare}
        unseen = [code for code, label in enumerate(found.values) if label in new]
        if (found.codes < 0).any() and _MISSING not in {*self.kept, *self.rare}:
            unseen.append(-1)
        return Encoded(one_hot, self._unseen(found, unseen) if unseen else ())

    def _unseen(self, found: Distinct, codes: Sequence[int]) -> tuple[str, ...]:
        shown = [repr(found.values[code]) if code >= 0 else "nothing" for code in codes[:_NAMED]]
        more = f" and {len(codes) - _NAMED} more" if len(codes) > _NAMED else ""
        rows = int(np.isin(found.codes, codes).sum())
        becomes = "as its rare categories" if self.rare else "as none of its categories"
        return (
            f"column {self.name!r}: {rows:,} of {len(found.codes):,} rows hold what the training "
            f"rows do not, {', '.join(shown)}{more}: taken {becomes}",
        )


Column = Number | Date | Category
"""What becomes of one column of a table."""

_KINDS: Mapping[str, type[Column]] = {"number": Number, "date": Date, "category": Category}


def column_to_json(column: Column) -> dict[str, Any]:
    """As a dictionary of plain values, with its kind."""
    kind = next(kind for kind, of in _KINDS.items() if type(column) is of)
    return {"kind": kind, **asdict(column)}


def column_from_json(record: Mapping[str, Any]) -> Column:
    """The inverse of `column_to_json`.

    Raises:
        KeyError, TypeError: an unknown kind, or an entry is missing.
    """
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in record.items()
    }
    return _KINDS[fields.pop("kind")](**fields)


def _filled_in(name: str, is_missing: np.ndarray, value: str) -> str:
    return (
        f"column {name!r}: {int(is_missing.sum()):,} of {len(is_missing):,} values are missing, as "
        f"none was in the training rows: taken as their median, {value}"
    )
