"""A contender's process, spoken to by the protocol of `benchmarks.contender`."""

import json
import os
import select
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent

Commands = Mapping[str, Sequence[str | Path]]
"""What starts each contender."""

ANSWER_LIMIT_S = 300.0  # a compiler may take a minute
STOP_LIMIT_S = 20.0


class Process:
    """A contender's process; those that it starts are of its group, and end with it."""

    def __init__(
        self, name: str, command: Sequence[str | Path], environment: dict[str, str]
    ) -> None:
        self._name = name
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 (open as long as the process)
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            start_new_session=True,
        )

    def ask(self, *request: object) -> Any:
        """The answer to a request.

        Raises:
            RuntimeError: the process ended instead, or took too long; with the end of what it
                wrote.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            print(*request, file=self._process.stdin, flush=True)
        except BrokenPipeError:
            raise self._failure("ended") from None
        # One line answers one request, so that nothing lies unread in the buffer.
        readable, _, _ = select.select([self._process.stdout], [], [], ANSWER_LIMIT_S)
        if not readable:
            raise self._failure(f"gave no answer to {request} in {ANSWER_LIMIT_S:.0f} s")
        answer = self._process.stdout.readline()
        if not answer:
            raise self._failure("ended")
        return json.loads(answer)

    def _failure(self, what: str) -> RuntimeError:
        self.stop()
        return RuntimeError(f"{self._name} {what}:\n{self._written}")

    def stop(self) -> None:
        """Let the process end; make it and what it has started, where it does not."""
        if self._log.closed:
            return
        with suppress(subprocess.TimeoutExpired, BrokenPipeError):
            self._process.communicate(timeout=STOP_LIMIT_S)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._log.seek(0)
        self._written = self._log.read()[-3000:]
        self._log.close()


@contextmanager
def processes(commands: Commands, environment: dict[str, str]) -> Iterator[dict[str, Process]]:
    """Start the processes of contenders; they end with the block."""
    with ExitStack() as stack:
        started = {}
        for name, command in commands.items():
            started[name] = Process(name, command, environment)
            stack.callback(started[name].stop)
        yield started
