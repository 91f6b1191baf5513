"""Which cells a figure shows: along one setting, a line for each value of others, the rest held.

Nothing is averaged but seeds. What a figure holds fixed and what it leaves out stands in
`Slice.words`, and so in its caption.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

from distvi.report.study import words
from distvi.runs.records import Record, Value, varied

MAX_LINES = 14
"""In one figure: so many pairs of a colour and a dash can be told apart."""

MAX_LINES_OF_TWO = 8
"""When lines stand for the values of two settings at once."""

OPTIONS = {"scheme_options.": "scheme", "rule_options.": "rules"}
"""Settings that only some values of another have; they are told with that value."""


@dataclass(frozen=True)
class Line:
    """What the cells of one line have in common.

    Attributes:
        label: In the legend.
        colour: Number of its colour.
        dash: Number of its dashes and marker.
    """

    label: str
    colour: int
    dash: int


@dataclass(frozen=True)
class Slice:
    """The cells of one figure.

    Attributes:
        axis: The setting along the axis.
        values: Of it, those that occur.
        cells: Of each line and value the cells, which differ in their seed alone.
        split: The settings that lines stand for.
        held: The value of every other varied setting.
        left_out: How many lines there was no room for.
    """

    axis: str
    values: list[Value]
    cells: dict[Line, dict[Value, list[Record]]]
    split: tuple[str, ...]
    held: dict[str, Value | None]
    left_out: int = 0

    @property
    def records(self) -> list[Record]:
        """All of them."""
        return [r for line in self.cells.values() for cells in line.values() for r in cells]

    @property
    def words(self) -> str:
        """For the caption: what lines are, what is held, how many seeds there are."""
        parts = []
        if self.split:
            parts.append(f"Lines: {words.listed(words.human(name) for name in self.split)}.")
        if self.left_out:
            parts.append(f"{words.count(self.left_out, 'more line')} without room, in the table.")
        held = {name: value for name, value in self.held.items() if value is not None}
        if held:
            parts.append(f"Held: {words.named(held)}.")
        parts.append(self.seeds)
        return " ".join(parts)

    @property
    def seeds(self) -> str:
        """How many seeds every point has that ended as they should."""
        counts = [
            sum(r.status == "done" for r in cells)
            for line in self.cells.values()
            for cells in line.values()
        ]
        low, high = min(counts, default=0), max(counts, default=0)
        return f"n = {high} seeds." if low == high else f"n = {low} to {high} seeds."

    def at(self, value: Value) -> dict[Line, list[Record]]:
        """Of each line the cells at one value of the axis."""
        return {line: cells[value] for line, cells in self.cells.items() if value in cells}


def axes_of(records: Sequence[Record]) -> dict[str, list[Value]]:
    """The settings that a study varies, with their values in the order of the axis."""
    return varied(records)


def along(records: Sequence[Record], axis: str, splits: int = 2) -> Slice:
    """The cells along a setting: of all ways to hold the others the one that shows most of it.

    That is most values along the axis, then most points; of lines for equally many, those for the
    settings that come first in `_splits`.

    Args:
        records: All of the study's, of one clock.
        axis: One of `axes_of`.
        splits: By how many other settings lines may differ.
    """
    axes = axes_of(records)
    told = [n for n in axes if _owner(n) == axis]
    found = [_held(records, axes, axis, told, split) for split in _splits(axes, axis, splits)]
    split, held, kept, _ = max(found, key=lambda each: each.shows)
    folded = [n for n in axes if n != axis and _owner(n) in split]
    lines, left_out = _lines(kept, split, folded, axes)
    cells: dict[Line, dict[Value, list[Record]]] = {line: {} for line in lines.values()}
    for record in kept:
        line = lines.get(_place(record, split, folded))
        if line is not None:
            cells[line].setdefault(_value(record, axis, told), []).append(record)
    rank = {value: i for i, value in enumerate(axes.get(axis, []))}
    kept = sorted(kept, key=lambda r: rank.get(r.settings[axis], 0))
    values = dict.fromkeys(_value(r, axis, told) for r in kept)
    shown = [v for v in values if any(v in line for line in cells.values())]
    return Slice(axis, shown, cells, split, held, left_out)


class _Held(NamedTuple):
    """A way to hold settings.

    Attributes:
        split: The settings that lines stand for.
        held: The value of every other.
        records: What is left.
        shows: How many values along the axis, how many points, and how many records that are.
    """

    split: tuple[str, ...]
    held: dict[str, Value | None]
    records: list[Record]
    shows: tuple[int, int, int]


def _held(
    records: Sequence[Record],
    axes: Mapping[str, list[Value]],
    axis: str,
    told: Sequence[str],
    split: tuple[str, ...],
) -> _Held:
    """How to hold all other settings so that there is the most to be seen."""
    folded = [n for n in axes if n != axis and _owner(n) in split]
    others = [n for n in axes if n != axis and n not in (*split, *folded, *told)]
    names = (axis, *told, *split)
    groups: dict[tuple[Value | None, ...], list[Record]] = {}
    for record in records:
        if axis in record.settings:
            groups.setdefault(tuple(record.settings.get(n) for n in others), []).append(record)

    def shows(group: Sequence[Record]) -> tuple[int, int, int]:
        values = {r.settings[axis] for r in group}
        places = {tuple(r.settings.get(n) for n in names) for r in group}
        return len(values), len(places), len(group)

    best = max(groups, key=lambda g: shows(groups[g]), default=tuple(None for _ in others))
    kept = groups.get(best, [])
    return _Held(split, dict(zip(others, best, strict=True)), kept, shows(kept))


def principal(records: Sequence[Record]) -> str | None:
    """The setting that a study is most about, along which curves and bars are set apart."""
    axes = axes_of(records)
    numbers = [n for n, values in axes.items() if _numeric(values) and not _owner(n)]
    if "workers" in numbers:
        return "workers"
    return max(numbers or axes, key=lambda n: len(axes[n]), default=None)


def thinned(values: Sequence[Value], most: int) -> list[Value]:
    """Some of the values, the first and the last among them."""
    if len(values) <= most:
        return list(values)
    return [values[round(i * (len(values) - 1) / (most - 1))] for i in range(most)]


def _owner(name: str) -> str:
    return next((owner for prefix, owner in OPTIONS.items() if name.startswith(prefix)), "")


def _numeric(values: Sequence[Value]) -> bool:
    return all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)


def _splits(axes: Mapping[str, list[Value]], axis: str, splits: int) -> Iterator[tuple[str, ...]]:
    """What lines may stand for: the scheme and another setting, or the scheme alone.

    Names come before numbers, and those with the most values first.
    """
    free = [n for n in axes if n != axis and not _owner(n)]
    rank: Callable[[str], tuple[bool, bool, int]] = lambda n: (  # noqa: E731
        n != "scheme", _numeric(axes[n]), -len(axes[n]),
    )  # fmt: skip
    first, *rest = sorted(free, key=rank) or [""]
    if not first or splits < 1:
        yield ()
        return
    for second in rest if splits > 1 else ():
        if len(axes[first]) * len(axes[second]) <= MAX_LINES_OF_TWO:
            yield first, second
    yield (first,)


def _value(record: Record, axis: str, told: Sequence[str]) -> Value:
    """Of the axis; the value of a setting with options is told with these."""
    return _label(_place(record, (axis,), told)) if told else record.settings[axis]


Place = tuple[tuple[str, Value], ...]


def _place(record: Record, split: Sequence[str], folded: Sequence[str]) -> Place:
    names = (*split, *folded)
    return tuple((n, record.settings[n]) for n in names if n in record.settings)


def _lines(
    records: Sequence[Record],
    split: Sequence[str],
    folded: Sequence[str],
    axes: Mapping[str, list[Value]],
) -> tuple[dict[Place, Line], int]:
    """Of each value, or pair of values, its line; and how many there was no room for."""
    present = dict.fromkeys(_place(record, split, folded) for record in records)
    order = {value: i for i, value in enumerate(product(*(axes[n] for n in split)))}
    places = sorted(
        present, key=lambda place: order.get(tuple(v for n, v in place if n in split), len(order))
    )
    chosen = [places[i] for i in thinned(range(len(places)), MAX_LINES) if isinstance(i, int)]
    colours = 7
    lines: dict[Place, Line] = {}
    firsts: dict[Value, int] = {}
    seconds: dict[Value, int] = {}
    for i, place in enumerate(chosen):
        if len(split) > 1 and not folded and len(place) > 1:
            colour = firsts.setdefault(place[0][1], len(firsts))
            dash = seconds.setdefault(place[1][1], len(seconds))
        else:
            colour, dash = i % colours, i // colours
        lines[place] = Line(_label(place), colour % colours, dash)
    return lines, len(places) - len(chosen)


def _label(place: Place) -> str:
    """``async``, ``backup, n 7``, ``64 workers``."""
    parts = []
    for name, value in place:
        if isinstance(value, str):
            parts.append(value)
        else:
            parts.append(f"{words.human(name.rpartition('.')[2])} {words.setting(value)}")
    return words.cut(", ".join(parts)) if parts else "all"
