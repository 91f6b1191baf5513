"""Keys of files that were written before 0.1: what they are called now.

Such files are read for one release. A ``run.toml`` of that time has the settings of all engines;
those that its engine does not have are dropped.
"""

from collections.abc import Mapping
from typing import Any

from distvi.config.unions import KIND

MOVED = {
    "engine": ("engine", KIND),
    "scheme": ("algorithm", "scheme"),
    "scheme_options": ("algorithm", "scheme_options"),
    "patience_s": ("engine", "worker_timeout_s"),
    "replacements": ("engine", "max_restarts"),
    "unusable_limit": ("engine", "nonfinite_limit"),
}
"""Of the old table ``[engine]``: old key to new table and key."""

OPTIONS = {"orders": "in_flight"}
"""Of a scheme: old option to new."""


def is_old(table: Mapping[str, Any]) -> bool:
    """Whether the tables of a file have keys of that time."""
    engine = table.get("engine")
    return isinstance(engine, Mapping) and not MOVED.keys().isdisjoint(engine)


def renew(table: Mapping[str, Any]) -> dict[str, Any]:
    """The tables of an old file with the keys of today, the settings of other engines included."""
    new = {name: dict(t) if isinstance(t, Mapping) else t for name, t in table.items()}
    engine = new.pop("engine")
    for key, value in engine.items():
        section, name = MOVED.get(key, ("engine", key))
        if key == "scheme_options" and isinstance(value, Mapping):
            value = {OPTIONS.get(option, option): number for option, number in value.items()}
        new.setdefault(section, {})[name] = value
    return new


def place_today(section: str, key: str) -> str | None:
    """Where a key of the old table ``[engine]`` stands today: ``"algorithm.scheme"``."""
    return ".".join(MOVED[key]) if section == "engine" and key in MOVED else None


def renamed(name: str) -> str | None:
    """What a setting is called today that went by this name, if it has another."""
    _, new = MOVED.get(name, ("", name))
    return new if new not in (name, KIND) else None
