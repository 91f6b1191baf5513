"""Standard input, output and error: that each is there, and that its end ends nothing."""

import os
import sys
from contextlib import suppress
from typing import Any, TextIO


def occupy_standard_descriptors() -> None:
    """Let descriptors 0 to 2 lead nowhere where they are closed, as after ``command <&-``.

    What is opened next would have one of these numbers, and be taken for a standard stream by every
    process that is started with it.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # has the lowest number that is free: this one


def open_standard_streams() -> None:
    """Do that, and give the program streams to print to.

    Where a terminal or a pipe vanishes, what is said on standard error is said to nobody: a run
    that goes on, or that is to leave a checkpoint, has no use for an error of that.
    """
    occupy_standard_descriptors()
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
    sys.stderr = Enduring(sys.stderr)  # pyright: ignore[reportAttributeAccessIssue]


class Enduring:
    """A stream whose other end may vanish.

    Args:
        stream: To write to while that is there.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, if somebody reads."""
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush, if somebody reads; else nothing is kept for the end of the program to fail at."""
        try:
            self._stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
