"""A network of machines on one machine: namespaces of Linux, with links that are slow or cut.

It needs root, iproute2 and a kernel that allows both; `unavailable` says what is missing. Nothing
outside the namespaces is touched, and all of them end with the context.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from secrets import token_hex

from distvi.engines.ray.settings import SERVERS_HERE

_BURST = "64kb"  # the token bucket's: 100 Mbit/s then carry 96


def unavailable() -> str:
    """Why there can be no such network here; empty: there can."""
    if shutil.which("ip") is None or shutil.which("tc") is None:
        return "iproute2 is not installed (ip, tc)"
    probe = f"distvi-probe-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True)
    if made.returncode:
        return f"no network namespaces: {made.stderr.strip()}"
    subprocess.run(["ip", "netns", "del", probe], check=True)
    return ""


class Network:
    """Machines that are joined by a switch; a context.

    Args:
        machines: How many.
        rate: Of each one's link, in each direction, as ``tc`` spells it, such as ``100mbit``;
            empty: as fast as the kernel.

    Raises:
        RuntimeError: the kernel does not let us.
    """

    def __init__(self, machines: int, rate: str = "") -> None:
        self._machines, self._rate = machines, rate
        self._prefix = f"distvi-{os.getpid()}"
        self._switch = f"{self._prefix}-switch"

    def __enter__(self) -> "Network":
        with ExitStack() as stack:
            self._add(self._switch, stack)
            self._ip("-n", self._switch, "link", "add", "switch", "type", "bridge")
            self._ip("-n", self._switch, "link", "set", "switch", "up")
            for machine in range(self._machines):
                self._join(machine, stack)
            self._open = stack.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._open.close()

    def name(self, machine: int) -> str:
        """Of a machine's namespace."""
        return f"{self._prefix}-{machine}"

    def address(self, machine: int) -> str:
        """Of a machine, for the others."""
        return f"10.77.0.{machine + 1}"

    def on(self, machine: int, *command: str) -> list[str]:
        """A command as it runs on a machine."""
        return ["ip", "netns", "exec", self.name(machine), *command]

    def cut(self, machine: int) -> None:
        """Cut a machine off from all others; its processes go on."""
        self._ip("-n", self._switch, "link", "set", f"port{machine}", "down")

    def mend(self, machine: int) -> None:
        """Join a machine that was cut off."""
        self._ip("-n", self._switch, "link", "set", f"port{machine}", "up")

    def _join(self, machine: int, stack: ExitStack) -> None:
        name, port = self.name(machine), f"port{machine}"
        self._add(name, stack)
        peer = ("type", "veth", "peer", "name", "eth0", "netns", name)
        self._ip("-n", self._switch, "link", "add", port, *peer)
        self._ip("-n", self._switch, "link", "set", port, "master", "switch", "up")
        self._ip("-n", name, "address", "add", f"{self.address(machine)}/24", "dev", "eth0")
        for link in ("lo", "eth0"):
            self._ip("-n", name, "link", "set", link, "up")
        if self._rate:
            for where, link in ((self._switch, port), (name, "eth0")):
                bucket = ("tbf", "rate", self._rate, "burst", _BURST, "latency", "400ms")
                _run("tc", "-n", where, "qdisc", "add", "dev", link, "root", *bucket)

    def _add(self, name: str, stack: ExitStack) -> None:
        self._ip("netns", "add", name)
        stack.callback(self._remove, name)

    def _remove(self, name: str) -> None:
        """End a namespace, with all that still runs in it."""
        found = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True)
        for pid in map(int, found.stdout.split()):
            if pid != os.getpid():
                os.kill(pid, signal.SIGKILL)
        self._ip("netns", "del", name)

    def _ip(self, *arguments: str) -> None:
        _run("ip", *arguments)


def _run(*command: str, environment: Mapping[str, str] | None = None) -> None:
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")


class RayCluster:
    """A Ray cluster on such a network, with a token; it ends with the network.

    Args:
        network: Whose machines it has; the head is the first.
        folder: For Ray's files; a short path, for there are sockets among them.
        cpus: Of each machine.
        servers: Machines on which parameter servers are to be.

    Attributes:
        network: As given.
        environment: Variables with which a program on one of the machines joins it.

    Raises:
        RuntimeError: Ray does not start.
    """

    def __init__(
        self, network: Network, folder: Path, cpus: Sequence[int], servers: Sequence[int] = ()
    ) -> None:
        self.network = network
        token = folder / "token"
        token.write_text(token_hex(32))
        head = f"{network.address(0)}:6379"
        self.environment = {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_ADDRESS": head,
            "RAY_worker_niceness": "0",
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1",  # this process may want but loopback
        }
        environment = os.environ | self.environment
        del environment["RAY_ADDRESS"]
        ray = str(Path(sys.executable).with_name("ray"))
        for machine, cores in enumerate(cpus):
            own = [
                *("--node-ip-address", network.address(machine), "--num-cpus", str(cores)),
                *(("--resources", f'{{"{SERVERS_HERE}": 1}}') if machine in servers else ()),
            ]
            place = ("--address", head)
            if machine == 0:
                quiet = ("--include-dashboard=false", "--disable-usage-stats")
                place = ("--head", "--port", "6379", "--temp-dir", str(folder), *quiet)
            _run(*network.on(machine, ray, "start", *place, *own), environment=environment)
