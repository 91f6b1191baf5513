"""The settings of the engine of a Ray cluster."""

import socket
from importlib.util import find_spec
from typing import Literal

from pydantic import Field

from distvi.engines.settings import EngineSettings, ProcessSettings
from distvi.errors import InputError

SERVERS_HERE = "distvi_server"
"""A resource of Ray's that machines are given on which servers are to be."""

_CONNECT_S = 5.0


class RaySettings(ProcessSettings):
    """Worker and server processes on the machines of a Ray cluster."""

    kind: str = "ray"
    address: str = Field(
        default="local",
        description="Of a running cluster: its head's HOST:PORT, or auto for the one on this "
        "machine; local: an instance for this run alone.",
    )
    cpus_per_worker: float = Field(
        default=1.0, gt=0, description="Cores that Ray reserves for each worker."
    )
    gpus_per_worker: float = Field(
        default=0.0, ge=0, description="GPUs that Ray gives each worker."
    )
    replicas: int = Field(
        default=1,
        ge=0,
        le=1,
        description="Backups of each server, on another machine where there is one: with 1 no "
        "update is lost with a server; with 0 such a run ends.",
    )
    encrypt: bool | None = Field(
        default=None,
        description="Encrypt what travels, and let only the run's own processes in (default: "
        "unless all of them are on this machine).",
    )
    silence_s: float = Field(
        default=10.0, gt=0, description="A process that gives no sign of life for longer is lost."
    )
    min_workers: int | None = Field(
        default=None,
        gt=0,
        description="Workers for which there has to be room at the start (default: all); others "
        "join when machines are added.",
    )
    data_from: Literal["auto", "file", "coordinator"] = Field(
        default="auto",
        description="Where machines have the training inputs from. file: each opens the one that "
        "they are mapped from; coordinator: each is sent them once, by Ray; auto: file where all "
        "machines see it.",
    )

    def written_out(self) -> EngineSettings:
        """See `distvi.engines.settings.EngineSettings.written_out`."""
        missing = [name for name in ("ray", "zmq") if find_spec(name) is None]
        if missing:
            raise InputError(
                f"engine 'ray' needs {' and '.join(missing)}: pip install 'distvi[ray]'"
            )
        _check_address(self.address)
        settled = super().written_out()
        assert settled.workers is not None
        least = settled.workers if self.min_workers is None else self.min_workers
        if least > settled.workers:
            raise InputError(
                f"min_workers is {least}, more than all workers, which are {settled.workers}"
            )
        encrypt = self.address != "local" if self.encrypt is None else self.encrypt
        return settled.model_copy(update={"min_workers": least, "encrypt": encrypt})


def _check_address(address: str) -> None:
    """Whether somebody listens there; Ray tries for half a minute, and says so in many lines.

    Raises:
        InputError: nobody does, or it is no address.
    """
    if address in ("local", "auto"):
        return
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise InputError(f"address is {address!r}; it should be local, auto or HOST:PORT")
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_S).close()
    except (OSError, OverflowError) as error:
        raise InputError(
            f"cannot reach a Ray cluster at {address}: {error}; is it there (ray start --head), "
            "and is that the address of its head?"
        ) from error
