"""The JAX devices that a batch is cut among."""

from contextlib import suppress

import jax

from distvi.engines.base import Devices
from distvi.errors import InputError


def devices(workers: int | None) -> Devices:
    """The devices to train on.

    Asked for more than one device on a machine that has CPUs alone, JAX is told to show the CPU
    as that many devices; this is possible only before its first computation.

    Raises:
        InputError: there are not that many.
    """
    if workers is not None and workers > 1:
        # Refused where JAX has begun to compute: then the devices are settled.
        with suppress(RuntimeError):
            jax.config.update("jax_num_cpu_devices", workers)
    found = jax.devices()
    if workers is not None and workers > len(found):
        raise InputError(
            f"workers is {workers}, but JAX has {len(found)} device(s) of kind "
            f"{found[0].platform}; ask for at most {len(found)}"
        )
    return found[:workers]
