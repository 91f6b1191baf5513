"""A reader that goes away early is no error of ours."""

import subprocess
import sys


def test_a_closed_pipe_ends_the_command_in_silence() -> None:
    command = [sys.executable, "-u", "-m", "distvi", "data", "list"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=60) == 141
