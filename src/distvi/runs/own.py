"""Parts of a run that are given as objects: a model, data, an optimizer, a scheme, rules.

What can be written down goes into the configuration, so that worker processes and later commands
make it again (see `distvi.system.travel`); the rest stays here, and has to be given again.
"""

import functools
from collections.abc import Mapping
from os import PathLike
from typing import Any, NamedTuple

import numpy as np
import optax
from pydantic import BaseModel

from distvi.config.data import MEMORY, OF_TABLES, DataSettings
from distvi.data import Dataset, Task, from_arrays
from distvi.data.arrays import checked
from distvi.errors import InputError
from distvi.models import OwnModelSettings
from distvi.protocol import Scheme
from distvi.system.names import OWN, ByName, CannotTravel, is_name, name_of
from distvi.system.settings import Settings

_OF_FILES = ("target", "data_dir", *OF_TABLES)
_OF_SPLITS = ("test_fraction", "split_seed", "test_indices", "split", "task")
_OF_RATES = ("learning_rate", "schedule", "warmup_updates", "final_rate")


class Own(NamedTuple):
    """Objects of a run that its configuration cannot hold.

    Attributes:
        model: See `distvi.models.own`.
        data: A `Dataset`, or arrays: ``(x, y)`` or ``(x, y, x_test, y_test)``.
        optimizer: An optax transformation, or a function of the learning rates that makes one.
        scheme: How workers and updates are kept in step.
        stuck: Why another process cannot make one of them; empty: it can.
    """

    model: Any = None
    data: Any = None
    optimizer: Any = None
    scheme: Scheme | None = None
    stuck: str = ""


NOTHING = Own()
"""Everything is in the configuration."""


def separate(dataset: Any, targets: Any, settings: Mapping[str, Any]) -> tuple[dict[str, Any], Own]:
    """Objects apart from settings.

    Args:
        dataset: A name or path, arrays, or a `Dataset`.
        targets: Those that go with ``dataset``, if that is an array of inputs.
        settings: The keyword arguments of ``distvi.train``, objects among them.

    Returns:
        The settings that `distvi.config.resolve.resolve` takes, and the objects.

    Raises:
        InputError: an object is none that can be used, or contradicts a setting.
    """
    table, own = dict(settings), NOTHING
    own = _data(dataset, targets, table, own)
    for name, take in {"model": _model, "optimizer": _optimizer, "scheme": _scheme}.items():
        if name in table:
            own = take(table[name], table, own)
    if "rules" in table:
        own = _rules(table["rules"], table, own)
    return table, own


def again(data: Any = None, model: Any = None, optimizer: Any = None, scheme: Any = None) -> Own:
    """Objects that a run began with, for going on with it.

    Raises:
        InputError: one of them is none that can be used.
    """
    given = {"data": data, "model": model, "optimizer": optimizer, "scheme": scheme}
    _, own = separate(None, None, {n: each for n, each in given.items() if each is not None})
    own = own._replace(model=model)
    if callable(optimizer) or isinstance(optimizer, optax.GradientTransformation):
        own = own._replace(optimizer=optimizer)
    return own


def dataset_of(data: Any, settings: DataSettings) -> Dataset:
    """The data set that was given as an object.

    Args:
        data: Arrays or a `Dataset`.
        settings: How arrays are split.

    Raises:
        InputError: wrong shapes, types or values.
    """
    if isinstance(data, Dataset):
        return checked(data)
    drawn = len(data) == 2
    return from_arrays(
        *data,
        task=None if settings.task is None else Task(settings.task),
        test_fraction=settings.test_fraction if drawn else None,
        split_seed=settings.split_seed if drawn else None,
        test_indices=None if settings.test_indices is None else np.asarray(settings.test_indices),
    )


def as_data(data: Any, targets: Any = None) -> Any:
    """What was given as data, if it is such a thing: a `Dataset`, or arrays.

    Raises:
        InputError: it is not.
    """
    if targets is not None:
        data = (data, targets)
    if isinstance(data, Dataset):
        return data
    if isinstance(data, tuple | list) and len(data) in (2, 4):
        return tuple(data)
    raise InputError(
        f"the data are {type(data).__name__}; give the name of a data set, the path of a table, "
        "arrays as data=(x, y) or data=(x, y, x_test, y_test), or a distvi.Dataset"
    )


def _data(dataset: Any, targets: Any, table: dict[str, Any], own: Own) -> Own:
    given = table.get("data")
    if given is None or isinstance(given, Mapping | BaseModel):
        if dataset is None or isinstance(dataset, str | PathLike):
            if targets is not None:
                raise InputError(
                    "targets were given beside the name of a data set; a table's target is a "
                    "column: target='...'"
                )
            return own
        given = dataset
    elif dataset is not None:
        raise InputError("the data are given twice: leave out either the first argument or data=")
    else:
        del table["data"]
    data = as_data(given, targets)
    unused = _OF_FILES + (_OF_SPLITS if isinstance(data, Dataset) else ())
    for name in unused:
        if table.get(name) is not None:
            raise InputError(f"{name} is given, which data in memory have no use for; leave it out")
    table["dataset"] = MEMORY
    return own._replace(data=data)


def _model(model: Any, table: dict[str, Any], own: Own) -> Own:
    if isinstance(model, Mapping | Settings):
        return own
    if isinstance(model, str):
        model = ByName(model) if is_name(model) else model
        if not isinstance(model, ByName):
            table["model"] = {"kind": model}
            return own
    settings = table["model"] = OwnModelSettings.of(model)
    return _stuck(own._replace(model=model), settings.not_written or "")


def _optimizer(optimizer: Any, table: dict[str, Any], own: Own) -> Own:
    if isinstance(optimizer, str):
        return own
    if isinstance(optimizer, optax.GradientTransformation):
        for name in (*_OF_RATES, "optimizer_options"):
            if name in table:
                raise InputError(
                    f"{name} is given beside an optimizer that has its rates already; leave it "
                    "out, or give a function of the learning rates that makes the optimizer"
                )
        table["optimizer"] = OWN
        reason = (
            "the optimizer is made of closures; give the function of a module that makes it of the "
            "learning rates: optimizer=make_optimizer, or distvi.by_name('module:make_optimizer')"
        )
        return _stuck(own._replace(optimizer=optimizer), reason)
    if not callable(optimizer):
        raise InputError(
            f"the optimizer is {type(optimizer).__name__}; give a name of optax, a transformation, "
            "or a function of the learning rates that makes one"
        )
    try:
        _write(optimizer, "optimizer", table)
    except CannotTravel as error:
        table["optimizer"] = OWN
        return _stuck(own._replace(optimizer=optimizer), str(error))
    return own


def _scheme(scheme: Any, table: dict[str, Any], own: Own) -> Own:
    if isinstance(scheme, str):
        return own
    if not isinstance(scheme, Scheme):
        if not callable(scheme):
            raise InputError(
                f"the scheme is {type(scheme).__name__}; give a name, a distvi.protocol.Scheme, or "
                "a function that makes one"
            )
        try:
            _write(scheme, "scheme", table)
        except CannotTravel:
            scheme = scheme(**table.pop("scheme_options", {}))
        else:
            return own
    if table.get("scheme_options"):
        raise InputError("scheme_options are given beside a scheme that is made; leave them out")
    table["scheme"] = OWN  # processes have no use for it: they need not make it
    return own._replace(scheme=scheme)


def _rules(rules: Any, table: dict[str, Any], own: Own) -> Own:
    """Rules by names, with their settings among all rules' options."""
    names, options = [], dict(table.get("rule_options", {}))
    for rule in (rules,) if isinstance(rules, str | Settings) else rules:
        if not isinstance(rule, Settings):
            names.append(rule)
            continue
        kind = type(rule)
        try:
            names.append(name_of(kind, f"the rule {kind.__name__}"))
        except CannotTravel as error:
            names.append(f"{kind.__module__}:{kind.__qualname__}")  # this process finds it
            own = _stuck(own, str(error))
        for name, value in rule.model_dump().items():
            if options.get(name, value) != value:
                raise InputError(f"two rules have an option {name!r} of different values")
            options[name] = value
    table |= {"rules": tuple(names), "rule_options": options}
    return own


def _write(call: Any, what: str, table: dict[str, Any]) -> None:
    """A call that makes a part, as its name and options.

    Raises:
        CannotTravel: it has no name.
    """
    arguments: Mapping[str, Any] = {}
    if isinstance(call, ByName):
        name, arguments = call.name, call.arguments
    elif isinstance(call, functools.partial):
        if call.args:
            raise CannotTravel(
                f"the {what} has arguments without names; name them: partial(f, n=1)"
            )
        name, arguments = name_of(call.func, f"the {what}"), call.keywords
    else:
        name = name_of(call, f"the {what}")
    table[what] = name
    if arguments:
        table[f"{what}_options"] = {**arguments, **table.get(f"{what}_options", {})}


def _stuck(own: Own, reason: str) -> Own:
    return own._replace(stuck=own.stuck or reason)
