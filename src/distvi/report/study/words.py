"""How numbers, settings and names are written on the page."""

import math
import re
from collections.abc import Iterable, Mapping

from distvi.runs.records import Value

MINUS = "\N{MINUS SIGN}"
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
LONGEST = 30
"""Characters of a name in a figure; the rest is cut."""


def number(value: int | float | None, digits: int = 3) -> str:
    """With so many significant digits and thousands separated; a dash for what is not known."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else f"{MINUS}∞"
    if value == 0:
        return "0"
    power = math.floor(math.log10(abs(value)))
    if power < -4 or power >= 9:
        mantissa = f"{value / 10**power:.{digits - 1}f}".rstrip("0").rstrip(".")
        return f"{mantissa}×10{str(power).translate(SUPERSCRIPTS)}".replace("-", MINUS)
    return f"{value:,.{max(0, digits - 1 - power)}f}".replace("-", MINUS)


def to_two_digits_of(width: float, *values: float) -> tuple[str, ...]:
    """Numbers with as many decimals as two digits of half an interval need."""
    if not (math.isfinite(width) and width > 0) or not 1e-4 < width < 1e9:
        return tuple(number(value) for value in values)
    decimals = max(0, 1 - math.floor(math.log10(width)))
    return tuple(
        f"{value:,.{decimals}f}".replace("-", MINUS) if math.isfinite(value) else number(value)
        for value in values
    )


def tick(value: int | float, _: object = None) -> str:
    """A number on an axis: no more digits than it has."""
    text = number(value, 6)
    mantissa, *power = text.split("×")
    if "." in mantissa:
        mantissa = mantissa.rstrip("0").rstrip(".")
    return "×".join((mantissa, *power))


def setting(value: Value | None) -> str:
    """The value of a setting."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else tick(value)


def human(name: str) -> str:
    """A setting's name in running text."""
    return name.replace("_", " ")


def cut(text: str) -> str:
    """As much of a text as a figure has room for, in one line."""
    text = " ".join(text.split())
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def named(settings: Mapping[str, Value | None]) -> str:
    """Settings in running text."""
    return ", ".join(f"{human(name)} {setting(value)}" for name, value in settings.items())


def listed(texts: Iterable[str]) -> str:
    """A, b and c."""
    *most, last = texts
    return f"{', '.join(most)} and {last}" if most else last


def count(n: int, noun: str) -> str:
    """1 cell, 2,000 cells."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def slug(text: str) -> str:
    """A text as part of a file's name and of an HTML identifier."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40] or "x"
