"""The progress of a run as a web page."""

import json
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from distvi.dashboard.curve import Curve, Point
from distvi.dashboard.server import PageServer, check_free, parse_address
from distvi.dashboard.state import measurements, processes
from distvi.engines.base import Engine
from distvi.progress import Silent, Watchable
from distvi.runs.folder import Run, metrics_of_test

MOST_MESSAGES = 100

FRESH_S = 0.5
"""A document is handed out for so long: many browsers make no more work than one."""

LAST_LOOK_S = 1.5
"""An open page, which asks every second, learns within this time how the run ended."""

_NEVER_S = -float("inf")


class Dashboard(Silent):
    """A web page with curves, staleness and what every process does, while the run goes on.

    Args:
        address: ``PORT`` or ``HOST:PORT``. By default any free port, for browsers of this machine
            only. Whoever can reach the address can see the run.
        clock: Seconds of real time.

    Attributes:
        url: Where the page is, inside the ``with`` block.

    Raises:
        InputError: the address is none, or is taken.

    Example:
        >>> from distvi.progress import Callbacks, Lines
        >>> progress = Callbacks(Lines(), Dashboard())
        >>> run = distvi.train("digits", progress=progress)  # doctest: +SKIP
    """

    def __init__(
        self, address: str | int = "0", clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._address = parse_address(str(address))
        check_free(self._address)
        self._clock = clock
        self._engine: Engine | None = None
        self._run: dict[str, Any] = {}
        self._status = "starting"
        self._update = self._first = self._updates = 0
        self._training, self._tests = Curve(), Curve()
        self._messages: deque[dict[str, Any]] = deque(maxlen=MOST_MESSAGES)
        self._started_s: float | None = None
        self._pace: tuple[float, int] | None = None  # when it was at which update, early on
        self._changing = threading.Lock()
        self._document, self._document_s = b"", _NEVER_S
        self._asked_s = _NEVER_S
        self._asking = threading.Lock()

    # The run tells

    def __enter__(self) -> "Dashboard":
        self._server = PageServer(self._address, self.state_json)
        self._server.start()
        self.url = self._server.address.url
        print(f"distvi: dashboard at {self.url}", file=sys.stderr, flush=True)
        return self

    def __exit__(self, kind: object = None, error: object = None, *exception: object) -> None:
        try:
            self._end(kind)
            if kind is not None and str(error):
                self.warned(str(error))
            is_open = self._clock() - self._asked_s < 2 * LAST_LOOK_S
            if is_open and kind is not KeyboardInterrupt:
                time.sleep(LAST_LOOK_S)
        finally:
            self._server.stop()
            self._engine = None  # may hold much memory

    def _end(self, kind: object) -> None:
        update = self._update if self._engine is None else self._engine.update
        with self._changing:
            self._update = update
            if kind is None:
                self._status = "done" if update == self._updates else "interrupted"
            else:
                self._status = "interrupted" if kind is KeyboardInterrupt else "failed"
            self._document_s = _NEVER_S

    def attached(self, engine: Engine) -> None:
        """Look at it whenever a browser asks."""
        self._engine = engine

    def started(self, run: Path, update: int, updates: int) -> None:
        """Show the run, with its curves so far."""
        folder = Run(run)
        with self._changing:
            self._run = _describe(folder)
            self._status, self._started_s = "running", self._clock()
            self._update = self._first = update
            self._updates = updates
            if update:
                self._recall(folder.metrics.to_pylist())

    def _recall(self, rows: list[Point]) -> None:
        """The curves of a run that goes on."""
        for row in rows:
            if row["update"] > self._first:
                return
            if row.get("neg_elbo") is not None:
                names = ("update", "training_time_s", "neg_elbo")
                self._training.append({name: row[name] for name in names})
            if metrics := metrics_of_test(row):
                self._tests.append({"update": row["update"], **metrics})

    def reported(self, update: int, neg_elbo: float, training_time_s: float) -> None:
        """Add to the curve."""
        point = {"update": update, "training_time_s": training_time_s, "neg_elbo": neg_elbo}
        with self._changing:
            self._training.append(point)
            self._update = update

    def tested(self, update: int, metrics: Mapping[str, float]) -> None:
        """Add to the curves."""
        with self._changing:
            self._tests.append({"update": update, **metrics})

    def warned(self, message: str) -> None:
        """Show it."""
        with self._changing:
            self._messages.append({"update": self._update, "message": message})

    # Browsers ask, in threads of their own

    def state_json(self) -> bytes:
        """The document behind the page; a new one every half second."""
        with self._asking:
            self._asked_s = now_s = self._clock()
            if now_s - self._document_s >= FRESH_S:
                self._document_s = now_s
                self._document = json.dumps(self._state(now_s), allow_nan=False).encode()
            return self._document

    def _state(self, now_s: float) -> dict[str, Any]:
        engine = self._engine
        update = self._update if engine is None else engine.update
        measured = {} if engine is None else measurements(engine)
        watched = processes(engine) if isinstance(engine, Watchable) else None
        with self._changing:
            return {
                "run": self._run,
                "status": self._status,
                "update": update,
                "updates": self._updates,
                "elapsed_s": None if self._started_s is None else now_s - self._started_s,
                "left_s": self._left_s(update, now_s),
                "training": self._training.points(),
                "tests": self._tests.points(),
                "messages": list(self._messages),
                "measured": measured,
                "processes": watched,
            }

    def _left_s(self, update: int, now_s: float) -> float | None:
        """At the pace since the first look at which there was an update: compilers take a while."""
        if self._pace is None and update > self._first:
            self._pace = now_s, update
        if self._pace is None or self._pace[1] == update:
            return None
        since_s, since = self._pace
        return (self._updates - update) * (now_s - since_s) / (update - since)


def _describe(run: Run) -> dict[str, str]:
    config = run.config
    return {
        "name": run.path.resolve().name,
        "dataset": Path(config.data.dataset).name,
        "model": config.model.kind,
        "engine": config.engine.kind,
    }
