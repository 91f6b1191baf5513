"""Where a machine is reached by the others of a run."""

from ray.util import get_node_ip_address

LOOPBACK = "127.0.0.1"


def host(*, is_alone: bool) -> str:
    """Address of this machine for the others."""
    return LOOPBACK if is_alone else get_node_ip_address()
