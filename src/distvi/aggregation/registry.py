"""Schemes by name, as the command line and configuration files spell them."""

import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

from distvi.aggregation.liveness import check_liveness
from distvi.aggregation.schemes import (
    asynchronous,
    backup_gradients,
    backup_workers,
    drop_stale_async,
    k_async,
    k_batch_async,
    k_batch_sync,
    k_sync,
    softsync,
    ssp,
    staleness_aware,
    sync,
)
from distvi.aggregation.stages import add, average, average_by_size, one_over_tau
from distvi.errors import InputError, nearest
from distvi.protocol import Scheme, Stage

T = TypeVar("T")

_KNOWN: dict[str, Callable[..., Scheme]] = {
    "sync": sync,
    "async": asynchronous,
    "backup": backup_workers,
    "backup-gradients": backup_gradients,
    "ssp": ssp,
    "softsync": softsync,
    "k-sync": k_sync,
    "k-batch-sync": k_batch_sync,
    "k-async": k_async,
    "k-batch-async": k_batch_async,
    "drop-stale": drop_stale_async,
}

SCHEMES: Mapping[str, Callable[..., Scheme]] = MappingProxyType(_KNOWN)
"""Functions that make schemes, by name; `register` adds one's own."""

COMBINES: Mapping[str, Stage] = {
    "average": average,
    "average-by-size": average_by_size,
    "add": add,
}

RATES: Mapping[str, Callable[[int], float]] = {"1/tau": one_over_tau}

NO_SETTINGS: Mapping[str, object] = MappingProxyType({})


def register(name: str, make: Callable[..., Scheme]) -> None:
    """Give a scheme of one's own a name, by which runs and simulations in this process know it.

    A run folder has the name alone: register it again before such a run is resumed.

    Args:
        name: As in ``distvi.train(..., scheme=name)``.
        make: Makes the scheme from its settings (``scheme_options``), which are whole numbers, or
            ``combine``.

    Raises:
        InputError: the name is taken by another scheme.
    """
    if SCHEMES.get(name, make) is not make:
        raise InputError(f"scheme {name!r} exists already; choose another name")
    _KNOWN[name] = make


def scheme_named(name: str, workers: int, settings: Mapping[str, object] = NO_SETTINGS) -> Scheme:
    """The scheme of a name, checked against the number of workers.

    Args:
        name: A key of ``SCHEMES``.
        workers: Workers that the run begins with.
        settings: The scheme's own arguments (whole numbers; ``combine`` by its name in
            ``COMBINES``), and for any scheme ``rate``, a name in ``RATES``.

    Raises:
        InputError: The name or a setting is unknown, a setting is missing or has a wrong value, or
            the scheme can make no progress with so many workers.

    Example:
        >>> scheme_named("backup", workers=100, settings={"n": 96}).name
        'backup(n=96)'
    """
    if name not in SCHEMES:
        raise InputError(f"scheme {name!r} is unknown{nearest(name, SCHEMES)}")
    own = {setting: value for setting, value in settings.items() if setting != "rate"}
    scheme = SCHEMES[name](**_arguments(name, own))
    if "rate" in settings:
        scheme = staleness_aware(scheme, _choice(name, "rate", settings["rate"], RATES))
    check_liveness(scheme, workers)
    return scheme


def _arguments(name: str, settings: Mapping[str, object]) -> dict[str, Any]:
    known = inspect.signature(SCHEMES[name]).parameters
    for setting in settings:
        if setting not in known:
            raise InputError(
                f"scheme {name} has no setting {setting!r}{nearest(setting, [*known, 'rate'])}"
            )
    for setting, parameter in known.items():
        if parameter.default is parameter.empty and setting not in settings:
            raise InputError(f"scheme {name} needs the setting {setting!r}, a whole number")
    return {setting: _value(name, setting, value) for setting, value in settings.items()}


def _value(name: str, setting: str, value: object) -> Any:
    if setting == "combine":
        return _choice(name, setting, value, COMBINES)
    if not isinstance(value, int) or isinstance(value, bool):
        raise InputError(f"scheme {name}: {setting} = {value!r} is not a whole number")
    return value


def _choice(name: str, setting: str, value: object, choices: Mapping[str, T]) -> T:
    if not isinstance(value, str) or value not in choices:
        known = nearest(str(value), choices)
        raise InputError(f"scheme {name}: {setting} = {value!r} is unknown{known}")
    return choices[value]
