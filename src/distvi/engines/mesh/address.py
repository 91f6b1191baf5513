"""Which processes a run has, where its first host is, and which of them are this command's."""

import socket
from typing import NamedTuple

from distvi.errors import InputError

DEFAULT_PORT = 7373
AUTO = "auto"


class Hosts(NamedTuple):
    """The processes of a run, as one of its commands sees them.

    Attributes:
        first: Host and port at which the others find the command that leads the run.
        processes: How many there are.
        own: Numbers of those that this command starts; the one that has number 0 leads.
    """

    first: tuple[str, int]
    processes: int
    own: tuple[int, ...]

    @property
    def leads(self) -> bool:
        """Whether this command is the one with the run folder."""
        return 0 in self.own


def hosts_of(named: str, host: int | None) -> Hosts:
    """Read the setting ``hosts``.

    Args:
        named: A host for every process, with commas between; or ``auto``.
        host: Which of them this is; None: those whose names are this machine's.

    Raises:
        InputError: it cannot be read, a name cannot be resolved, or none is this machine's.
    """
    found = _detected() if named.strip() == AUTO else _named(named, host)
    _check_first(found)
    return found


def _named(named: str, host: int | None) -> Hosts:
    names = [name.strip() for name in named.split(",")]
    first, separator, port = names[0].partition(":")
    names[0] = first
    if not all(names) or any(":" in name for name in names):
        raise InputError(
            f"hosts is {named!r}; it should be names or IPv4 addresses with commas between, and "
            "the first may have a port: HOST:PORT,HOST"
        )
    if separator and not (port.isdecimal() and 0 < int(port) < 1 << 16):
        raise InputError(f"hosts has the port {port!r}; it should be a number from 1 to 65535")
    if host is not None and host >= len(names):
        raise InputError(f"host is {host}, but there are {len(names)} hosts, counted from 0")
    are_own = {name: _is_own(name) for name in names} if host is None else {}
    own = tuple(n for n, name in enumerate(names) if (are_own[name] if are_own else n == host))
    if not own:
        raise InputError(
            f"none of the hosts {named} has an address of this machine; say which of them it is, "
            "counted from 0: --host 1"
        )
    is_alone = len(own) == len(names)  # nobody else has to know the port
    number = int(port) if port else 0 if is_alone else DEFAULT_PORT
    return Hosts((first, number), len(names), own)


def _is_own(name: str) -> bool:
    """Whether a name is this machine's: then its address can be bound."""
    try:
        found = socket.getaddrinfo(name, None, socket.AF_INET, socket.SOCK_STREAM)
    except OSError as error:
        raise InputError(f"cannot resolve the host {name!r}: {error}") from error
    for *_, address in found:
        with socket.socket() as trial:
            try:
                trial.bind((str(address[0]), 0))
            except OSError:
                continue
            return True
    return False


def _check_first(hosts: Hosts) -> None:
    """Many machines know their own name as an address that is loopback, where no other finds them.

    Raises:
        InputError: so does this one, and others have to find it.
    """
    name, _ = hosts.first
    if not hosts.leads or len(hosts.own) == hosts.processes:
        return
    address = socket.gethostbyname(name)
    if address != name and address.startswith("127."):
        raise InputError(
            f"the first host, {name}, has the address {address} on this machine, where no other "
            f"machine finds it; name its address instead: --hosts ADDRESS,..."
        )


def _detected() -> Hosts:
    """What SLURM, Open MPI or another launcher that JAX knows says of this process."""
    from jax._src.clusters import ClusterEnv  # only `jax.distributed` itself asks them otherwise

    try:
        address, count, number, _ = ClusterEnv.auto_detect_unset_distributed_params(
            None, None, None, None, None, None
        )
    except Exception as error:  # whatever its detectors meet
        raise InputError(f"cannot read the cluster that this process is in: {error}") from error
    if address is None or count is None or number is None:
        raise InputError(
            "hosts is auto, but no SLURM or MPI has started this process; start it with srun or "
            "mpirun, or name the hosts: --hosts HOST,HOST"
        )
    host, _, port = address.rpartition(":")
    return Hosts((host, int(port)), int(count), (int(number),))


def free_port(host: str) -> int:
    """A port of this machine that nobody listens at."""
    with socket.socket() as trial:
        trial.bind((host, 0))
        return trial.getsockname()[1]
