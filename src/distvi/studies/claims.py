"""Claims of a spec: sentences that the records of the study answer.

The grammar, with METRIC one of the records' numbers, SIDE a setting's value (``async``, or
``workers=16`` where a value alone could be of several settings), and AT a list of settings::

    METRIC of SIDE exceeds that of SIDE [by NUMBER] [at AT]
    METRIC of SIDE is below that of SIDE [by NUMBER] [at AT]
    METRIC of SIDE is within NUMBER of that of SIDE [at AT]
    METRIC rises with SETTING [at AT]          (or: falls)
    speed-up of SETTING FROM to TO over NUMBER [at AT]      (or: under)

METRIC is a test metric (``error_rate``, ``mnll``), ``time_s``, ``idle_fraction``, ``bytes``,
``staleness`` (the mean), or ``time to NUMBER``: until a test's error was so low. A NUMBER may be a
percentage; a speed-up ``under 5 %`` is one of less than 1.05. ``on cluster NAME`` is short for
``at cluster=NAME``.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from distvi.errors import InputError, nearest
from distvi.runs.records import Value

Relation = Literal["exceeds", "is below", "is within", "rises", "falls", "over", "under"]

METRICS = (
    "error_rate", "mnll", "ece", "brier", "rmse", "coverage_50", "coverage_90", "coverage_95",
    "time_s", "idle_fraction", "bytes", "staleness",
)  # fmt: skip

Axes = Mapping[str, Sequence[Value]]
"""Settings and the values that cells have."""


@dataclass(frozen=True)
class Claim:
    """A statement about a study's records.

    Attributes:
        name: Of the claim.
        says: The sentence.
        metric: What is compared; of a speed-up ``time_s`` or ``time to``.
        target: The error that ``time to`` is about.
        relation: How.
        one: The settings of one side; of a trend the setting's name alone counts.
        other: Those of the other side.
        number: A margin, or the bound of a speed-up.
        at: Settings of both sides.
        note: For the reader.
    """

    name: str
    says: str
    metric: str
    relation: Relation
    one: Mapping[str, Value]
    other: Mapping[str, Value]
    number: float = 0.0
    target: float | None = None
    at: Mapping[str, Value] = field(default_factory=dict)
    note: str = ""


_NUMBER = r"(?P<number>[\d.eE+-]+ ?%?)"
_METRIC = r"(?P<metric>time to [\d.]+ ?%?|[\w-]+)"
_AT = r"(?: (?:at (?P<at>.+)|on cluster (?P<cluster>\S+)))?$"
_SIDES = rf"{_METRIC} of (?P<one>\S+) RELATION that of (?P<other>\S+)"
_SPEED_UP = r"speed-up of (?P<setting>[\w.]+) (?P<one>\S+) to (?P<other>\S+)"
_FORMS = {
    "exceeds": _SIDES.replace("RELATION", "exceeds") + rf"(?: by {_NUMBER})?{_AT}",
    "is below": _SIDES.replace("RELATION", "is below") + rf"(?: by {_NUMBER})?{_AT}",
    "is within": _SIDES.replace("RELATION", rf"is within {_NUMBER} of") + _AT,
    "rises": rf"{_METRIC} rises with (?P<setting>[\w.]+){_AT}",
    "falls": rf"{_METRIC} falls with (?P<setting>[\w.]+){_AT}",
    "over": rf"{_SPEED_UP} over {_NUMBER}{_AT}",
    "under": rf"{_SPEED_UP} under {_NUMBER}{_AT}",
}


def parse(name: str, says: str, axes: Axes, note: str = "") -> Claim:
    """The claim of a sentence.

    Args:
        name: Of the claim.
        says: The sentence, see the module.
        axes: Settings that cells differ in, and their values.
        note: For the reader.

    Raises:
        InputError: it is no such sentence, or names what no cell has.
    """
    for relation, form in _FORMS.items():
        if found := re.match(form, " ".join(says.split())):
            return _claim(name, says, relation, found.groupdict(), axes, note)
    raise InputError(
        f"claim '{name}' cannot be read: {says!r}; say for instance 'error_rate of async exceeds "
        "that of sync at workers=16', or 'speed-up of servers 1 to 4 under 5 % on cluster "
        "compute-bound'"
    )


def _claim(
    name: str, says: str, relation: str, found: dict[str, str | None], axes: Axes, note: str
) -> Claim:
    where = f"in claim '{name}'"
    metric, target = _metric(found.get("metric") or "time_s", where)
    at = _at(found, axes, where)
    number = _number(found.get("number") or "0", where)
    setting = found.get("setting")
    if setting is not None:
        _known(setting, axes, where)
    if relation in ("rises", "falls"):
        one, other = {str(setting): 0}, {}
    elif relation in ("over", "under"):
        one, other = (_side(f"{setting}={found[side]}", axes, where) for side in ("one", "other"))
        if "%" in str(found.get("number")):
            number += 1.0
    else:
        one, other = (_side(str(found[side]), axes, where) for side in ("one", "other"))
    if both := at.keys() & {*one, *other}:
        raise InputError(f"{where}, {min(both)} is compared and held at a value as well")
    return Claim(name, says, metric, relation, one, other, number, target, at, note)  # type: ignore[arg-type]


def _metric(text: str, where: str) -> tuple[str, float | None]:
    if text.startswith("time to "):
        return "time to", _number(text.removeprefix("time to "), where)
    if text not in METRICS:
        raise InputError(f"{where}, unknown metric '{text}'{nearest(text, METRICS)}")
    return text, None


def _number(text: str, where: str) -> float:
    try:
        value = float(text.rstrip(" %"))
    except ValueError:
        raise InputError(f"{where}, {text!r} is no number") from None
    return value / 100 if "%" in text else value


def _at(found: Mapping[str, str | None], axes: Axes, where: str) -> dict[str, Value]:
    if cluster := found.get("cluster"):
        return _side(f"cluster={cluster}", axes, where)
    at: dict[str, Value] = {}
    for text in (found.get("at") or "").split(","):
        if text.strip():
            at |= _side(text.strip(), axes, where)
    return at


def _side(text: str, axes: Axes, where: str) -> dict[str, Value]:
    """The setting that ``name=value`` or a value alone stands for."""
    name, separator, value = text.partition("=")
    if separator:
        _known(name, axes, where)
        for each in axes[name]:
            if _is_called(each, value):
                return {name: each}
        known = ", ".join(str(each) for each in axes[name])
        raise InputError(f"{where}, no cell has {name}={value} (there are {known})")
    owners = [name for name, values in axes.items() if any(_is_called(v, text) for v in values)]
    if len(owners) == 1:
        return _side(f"{owners[0]}={text}", axes, where)
    if owners:
        raise InputError(
            f"{where}, '{text}' may be {' or '.join(owners)}; write {owners[0]}={text}"
        )
    texts = [str(v) for values in axes.values() for v in values if isinstance(v, str)]
    raise InputError(f"{where}, no cell has a setting of value '{text}'{nearest(text, texts)}")


def _known(name: str, axes: Axes, where: str) -> None:
    if name not in axes:
        raise InputError(f"{where}, '{name}' is not varied{nearest(name, axes)}")


def _is_called(value: Value, text: str) -> bool:
    if isinstance(value, str | bool):
        return str(value).lower() == text.lower()
    try:
        return float(text) == value
    except ValueError:
        return False


def axes_of(settings: Iterable[Mapping[str, Value]]) -> dict[str, list[Value]]:
    """Settings of cells, and which values they have."""
    axes: dict[str, dict[Value, None]] = {}
    for table in settings:
        for name, value in table.items():
            axes.setdefault(name, {})[value] = None
    return {name: list(values) for name, values in axes.items()}
