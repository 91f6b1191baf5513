"""Schemes by name, as the command line and configuration files spell them."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from distvi.aggregation.liveness import check_liveness
from distvi.aggregation.options import REQUIRED, ByWorkers, Option, options_of
from distvi.aggregation.schemes import (
    asynchronous,
    backup_gradients,
    backup_workers,
    drop_stale_async,
    dynamic_backup,
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

COMBINES: Mapping[str, Stage] = {
    "average": average,
    "average-by-size": average_by_size,
    "add": add,
}

RATES: Mapping[str, Callable[[int], float]] = {"1/tau": one_over_tau}

RATE = Option(
    "rate",
    RATES,
    "Factor of the learning rate by a gradient's staleness tau (Zhang et al. 2016).",
    default=None,
)
"""The option that every scheme has, see ``staleness_aware``."""


@dataclass(frozen=True, slots=True)
class SchemeEntry:
    """A scheme that has a name.

    Attributes:
        make: Makes it from its options.
        options: What a run can give; `RATE` comes on top.
        paper: Who published it, or where it is in use.
    """

    make: Callable[..., Scheme]
    options: tuple[Option, ...] = ()
    paper: str = ""

    @property
    def summary(self) -> str:
        """What it does: the first line of its function's docstring."""
        return (inspect.getdoc(self.make) or "").partition("\n")[0]


_COMBINE = Option("combine", COMBINES, "How the gradients of an update combine.", average)
_IN_FLIGHT = Option(
    "in_flight",
    int,
    "Requests a worker has at a time; with 2 it need not wait for its next parameters.",
    default=1,  # as published
    least=1,
)


def _number(name: str, help: str, words: str, of: Callable[[int], int]) -> Option:
    return Option(name, int, help, ByWorkers(words, lambda workers: max(1, of(workers))), least=1)


# One backup worker of twenty: Chen et al. were fastest with 96 of 100. Few workers have one, too.
_N_WORDS = "all but 1 in 20"
_DUTTA = 'Dutta et al. (2018), "Slow and Stale Gradients Can Win the Race".'


def _all_but_the_backup(workers: int) -> int:
    return workers - max(1, round(workers * 0.05))


def _most_of(what: str) -> Option:
    # The gradients of a quarter of the workers are abandoned, which buys the end of the tail.
    return _number("k", what, "3/4 of workers", lambda workers: workers * 3 // 4)


def _half_of(what: str) -> Option:
    # Nothing is abandoned; where nobody waits, mean staleness is (workers - 1) / k, at most 2.
    return _number("k", what, "1/2 of workers", lambda workers: workers // 2)


_KNOWN: dict[str, SchemeEntry] = {
    "sync": SchemeEntry(sync, (_COMBINE,), "As in TensorFlow, Horovod and PyTorch."),
    "async": SchemeEntry(
        asynchronous,
        # Where it is given by no one, the engine `local` gives 2, see engines/local/settings.py.
        (replace(_IN_FLIGHT, help=f"{_IN_FLIGHT.help} Engine local: 2 of several workers."),),
        'Dean et al. (2012), "Large Scale Distributed Deep Networks".',
    ),
    "backup": SchemeEntry(
        backup_workers,
        (
            _number(
                "n",
                "Workers that make an update; one at least is to spare. The paper took 96 of 100.",
                _N_WORDS,
                _all_but_the_backup,
            ),
            _COMBINE,
        ),
        'Chen et al. (2016), "Revisiting Distributed Synchronous SGD".',
    ),
    "dynamic-backup": SchemeEntry(
        dynamic_backup,
        (
            Option("least", int, "Workers that make an update at least.", default=1, least=1),
            # With so much noise all workers together make half the progress that is to be made:
            # more would hardly be worth having, and fewer were too few to begin with.
            Option(
                "noise",
                float,
                "Noise of a gradient: how many must be averaged for half the progress of an exact "
                "one. The larger, the more workers are worth waiting for.",
                ByWorkers("workers", float),
                least=0,
            ),
            _COMBINE,
        ),
        'Xu et al. (2020), "Dynamic Backup Workers for Parallel Machine Learning".',
    ),
    "backup-gradients": SchemeEntry(
        backup_gradients,
        (
            _number(
                "n",
                "Gradients that make an update; may exceed the workers.",
                _N_WORDS,
                _all_but_the_backup,
            ),
            _COMBINE,
        ),
        "TensorFlow's SyncReplicasOptimizer; Chen et al. (2016).",
    ),
    "ssp": SchemeEntry(
        ssp,
        # A pause of three gradients holds up nobody; staleness is at most 7 (workers - 1).
        (Option("bound", int, "Clocks that a worker may be ahead; 0 is lockstep.", 3, least=0),),
        'Ho et al. (2013), "More Effective Distributed ML via a Stale Synchronous Parallel '
        'Parameter Server".',
    ),
    "softsync": SchemeEntry(
        softsync,
        (
            # The only n with which mean staleness is below 1 for any number of workers; with
            # n = workers it would be async.
            Option(
                "n",
                int,
                "Updates for as many gradients as there are workers; mean staleness is about n.",
                default=1,
                least=1,
            ),
            _COMBINE,
            Option(
                "max_staleness",
                int,
                "Refuse older gradients; the paper measured 2 n.",
                default=None,  # the published rule refuses nothing
                least=0,
            ),
        ),
        'Zhang et al. (2016), "Staleness-aware Async-SGD for Distributed Deep Learning".',
    ),
    "k-sync": SchemeEntry(k_sync, (_most_of("Workers that make an update."), _COMBINE), _DUTTA),
    "k-batch-sync": SchemeEntry(
        k_batch_sync, (_most_of("Gradients that make an update."), _COMBINE), _DUTTA
    ),
    "k-async": SchemeEntry(k_async, (_half_of("Workers that make an update."), _COMBINE), _DUTTA),
    "k-batch-async": SchemeEntry(
        k_batch_async, (_half_of("Gradients that make an update."), _COMBINE), _DUTTA
    ),
    "drop-stale": SchemeEntry(
        drop_stale_async,
        (
            Option(
                "bound",
                int,
                "Versions that a gradient may be old; workers - 1 is the mean.",
                # Twice the mean: only gradients of workers that fell behind are refused.
                ByWorkers("2 * workers", lambda workers: 2 * workers),
                least=0,
            ),
            _IN_FLIGHT,
        ),
        "TensorFlow's DropStaleGradientOptimizer.",
    ),
}

SCHEMES: Mapping[str, SchemeEntry] = MappingProxyType(_KNOWN)
"""Schemes by name; `register` adds one's own."""

NO_OPTIONS: Mapping[str, object] = MappingProxyType({})


def register(
    name: str, make: Callable[..., Scheme], options: Sequence[Option] | None = None
) -> None:
    """Give a scheme of one's own a name, by which runs and simulations in this process know it.

    A run folder has the name alone: register it again before such a run is resumed.

    Args:
        name: As in ``distvi.train(..., scheme=name)``.
        make: Makes the scheme from its options (``scheme_options``).
        options: What they are; read off the function's signature if left out (see ``options_of``):
            ``int``, ``float``, ``str``, and ``combine`` by its name in ``COMBINES``.

    Raises:
        InputError: the name is taken by another scheme, or a parameter of the function has neither
            a type that a run can give nor a default.
    """
    if name in SCHEMES and SCHEMES[name].make is not make:
        raise InputError(f"scheme {name!r} exists already; choose another name")
    if options is None and name in SCHEMES:
        return
    found = options_of(make, {"combine": COMBINES}) if options is None else tuple(options)
    if any(option.name == RATE.name for option in found):
        raise InputError(f"scheme {name!r}: every scheme has the option 'rate'; rename its own")
    _KNOWN[name] = SchemeEntry(make, found)


def scheme_named(name: str, workers: int, options: Mapping[str, object] = NO_OPTIONS) -> Scheme:
    """The scheme of a name, checked against the number of workers.

    Args:
        name: A key of ``SCHEMES``.
        workers: Workers that the run begins with; defaults may depend on it.
        options: Those of the scheme that are not to be as by default, perhaps as text, and for
            any scheme ``rate``, a name in ``RATES``.

    Raises:
        InputError: The name or an option is unknown, a value is not what the option takes, one
            that has no default is missing, or the scheme can make no progress with so many
            workers.

    Example:
        >>> scheme_named("backup", workers=20).name
        'backup(n=19)'
        >>> scheme_named("backup", workers=100, options={"n": 96}).name
        'backup(n=96)'
    """
    given = typed_options(name, options)
    arguments = {}
    for option in options_named(name):
        if option.name in given:
            arguments[option.name] = option.argument(given[option.name])
        elif option.default is REQUIRED:
            raise InputError(
                f"scheme {name} needs the option {option.name!r}, {option.expected}: "
                f"--scheme-options.{option.name}"
            )
        else:
            arguments[option.name] = option.default_argument(workers)
    rate = arguments.pop(RATE.name)
    scheme = SCHEMES[name].make(**arguments)
    if rate is not None:
        scheme = staleness_aware(scheme, rate)
    check_liveness(scheme, workers)
    return scheme


def options_named(name: str) -> tuple[Option, ...]:
    """The options of the scheme of a name, `RATE` included.

    Args:
        name: A key of ``SCHEMES``.

    Raises:
        InputError: There is no such scheme.
    """
    if name not in SCHEMES:
        raise InputError(f"scheme {name!r} is unknown{nearest(name, SCHEMES)}")
    return (*SCHEMES[name].options, RATE)


def typed_options(name: str, given: Mapping[str, object]) -> dict[str, int | float | str]:
    """Options that were given, under their own names and of their own types; no defaults.

    Args:
        name: A key of ``SCHEMES``.
        given: Values by name, perhaps as the command line has them: text, and ``in-flight``.

    Raises:
        InputError: The scheme is unknown, has no such option or not with such a value, or an option
            is given twice.

    Example:
        >>> typed_options("async", {"in-flight": "2", "rate": "1/tau"})
        {'in_flight': 2, 'rate': '1/tau'}
    """
    known = {option.name: option for option in options_named(name)}
    typed: dict[str, int | float | str] = {}
    for spelled, value in given.items():
        key = spelled if spelled in known else spelled.replace("-", "_")
        if key not in known:
            raise InputError(f"scheme {name} has no option {spelled!r}{nearest(spelled, known)}")
        if key in typed:
            raise InputError(f"scheme {name}: option {key!r} is given twice; leave one out")
        typed[key] = known[key].typed(name, value)
    return typed
