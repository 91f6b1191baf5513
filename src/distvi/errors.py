"""The few kinds of error that distvi raises on purpose.

Each message is for the person who meets it: what was wrong, where, the value seen, what to do.
The command line prints it on one line and exits with the class's ``exit_status``.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class DistviError(Exception):
    """Base of all errors that distvi raises on purpose."""

    exit_status = 1


class InputError(DistviError):
    """The user's input was wrong: a file, a setting, a value. Nothing has been written."""

    exit_status = 2


class InputWarning(UserWarning):
    """The input can be used, but is perhaps not what was meant."""


class RunFailed(DistviError):
    """A run that began properly could not go on; its last good checkpoint is kept."""


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the near miss, or what is known.

    Example:
        >>> nearest("adm", ["adam", "sgd"])
        " (did you mean 'adam'?)"
        >>> nearest("adma", ["adamax", "adam"])  # the same letters in another order
        " (did you mean 'adam'?)"
        >>> nearest("zzz", ["adam", "sgd"])
        ' (known: adam, sgd)'
    """
    known = list(known)
    close = get_close_matches(name, known)
    close.sort(key=lambda other: sorted(other) != sorted(name))
    return f" (did you mean '{close[0]}'?)" if close else f" (known: {', '.join(known)})"
