"""A page as a browser shows it; needs Debian's ``chromium`` or another of its family."""

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--dump-dom")
QUIET = ("--disable-background-networking", "--disable-component-update", "--disable-sync")


@dataclass(frozen=True)
class Shown:
    """What a browser made of a page.

    Attributes:
        page: The document after its scripts ran.
        console: Lines that it wrote to the console, errors and warnings included.
    """

    page: str
    console: list[str]


def show(url: str, profile: Path, *, virtual_time_ms: int | None = None) -> Shown:
    """Open an address, and give the page back as it is after a while; without a browser: skip.

    Args:
        url: ``file://`` or ``http://``.
        profile: A folder for what the browser wants to remember.
        virtual_time_ms: Of the page's own time that is waited; None: until it has loaded.
    """
    found = [path for name in BROWSERS if (path := shutil.which(name))]
    if not found:
        pytest.skip(f"none of {', '.join(BROWSERS)} is installed")
    wait = () if virtual_time_ms is None else (f"--virtual-time-budget={virtual_time_ms}",)
    logging = ("--enable-logging=stderr", f"--user-data-dir={profile}")
    command = [found[0], *FLAGS, *QUIET, *logging, *wait, url]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    return Shown(answer.stdout, re.findall(r"CONSOLE.*", answer.stderr))
