"""How a run goes: a live view on a terminal, plain lines elsewhere, or whatever is composed."""

import sys

from distvi.progress.base import Callbacks, Progress, Silent, Watchable
from distvi.progress.lines import Lines
from distvi.progress.live import Live
from distvi.progress.words import brief

__all__ = [
    "Callbacks",
    "Lines",
    "Live",
    "Progress",
    "Silent",
    "Watchable",
    "brief",
    "for_terminal",
]


def for_terminal() -> Progress:
    """`Live` where standard error is a terminal, `Lines` elsewhere."""
    return Live() if sys.stderr.isatty() else Lines()
