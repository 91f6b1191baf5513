"""Which server holds which part of the parameters. Standard library only."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from distvi.errors import InputError, nearest

_PARAMETER_BYTES = 4  # of a float32
_LINE = 64 // _PARAMETER_BYTES


class Slice(NamedTuple):
    """Neighbouring entries of one tensor.

    Attributes:
        tensor: Which tensor of the layout.
        start: First entry, counted from the beginning of that tensor.
        stop: The entry after the last.
    """

    tensor: int
    start: int
    stop: int


@dataclass(frozen=True)
class Placement:
    """The parts that servers hold; every parameter is in exactly one.

    Attributes:
        name: A key of ``PLACEMENTS``.
        shards: For each server its slices, in the layout's order.
    """

    name: str
    shards: tuple[tuple[Slice, ...], ...]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Parameters on each server."""
        return tuple(sum(slice_.stop - slice_.start for slice_ in part) for part in self.shards)

    @property
    def bytes(self) -> tuple[int, ...]:
        """Bytes of parameters on each server."""
        return tuple(_PARAMETER_BYTES * size for size in self.sizes)

    @property
    def largest_share(self) -> float:
        """Share of all parameters that the fullest server holds."""
        return max(self.sizes) / sum(self.sizes)


def ranges(tensor_sizes: Sequence[int], servers: int) -> Placement:
    """Equal ranges of the flat vector.

    Where they are long enough for it not to matter (1 in 64), they begin at lines of the cache, so
    that XLA reads them where they lie; others are equal, give or take one entry.
    """
    total = sum(tensor_sizes)
    line = _LINE if total >= 64 * _LINE * servers else 1
    cuts = [total * server // servers // line * line for server in range(servers)] + [total]
    parts = []
    for first, last in pairwise(cuts):
        slices, start = [], 0
        for tensor, size in enumerate(tensor_sizes):
            begin, end = max(first - start, 0), min(last - start, size)
            if begin < end:
                slices.append(Slice(tensor, begin, end))
            start += size
        parts.append(tuple(slices))
    return Placement("ranges", tuple(parts))


def round_robin(tensor_sizes: Sequence[int], servers: int) -> Placement:
    """Whole tensors in turn: TensorFlow's ``replica_device_setter`` by default."""
    owners = [tensor % servers for tensor in range(len(tensor_sizes))]
    return _whole_tensors("round-robin", tensor_sizes, servers, owners)


def greedy(tensor_sizes: Sequence[int], servers: int) -> Placement:
    """Whole tensors in their order, each to the server that holds least so far.

    TensorFlow's ``GreedyLoadBalancingStrategy`` with bytes as the load.
    """
    loads, owners = [0] * servers, []
    for size in tensor_sizes:
        owner = loads.index(min(loads))
        loads[owner] += size
        owners.append(owner)
    return _whole_tensors("greedy", tensor_sizes, servers, owners)


PLACEMENTS: Mapping[str, Callable[[Sequence[int], int], Placement]] = {
    "ranges": ranges,
    "round-robin": round_robin,
    "greedy": greedy,
}


def place(name: str, tensor_sizes: Sequence[int], servers: int) -> Placement:
    """A placement by its name, with something on every server.

    Args:
        name: A key of ``PLACEMENTS``.
        tensor_sizes: Entries of each tensor, in the layout's order.
        servers: How many share them.

    Raises:
        InputError: the name is unknown, or a server would hold nothing.

    Example:
        >>> place("greedy", [4, 3, 2], servers=2).sizes
        (4, 5)
    """
    if name not in PLACEMENTS:
        raise InputError(f"placement '{name}' is unknown{nearest(name, PLACEMENTS)}")
    if servers < 1:
        raise InputError(f"servers is {servers}; parameters need at least 1")
    placement = PLACEMENTS[name](tensor_sizes, servers)
    if not all(placement.sizes):
        held = sum(size > 0 for size in placement.sizes)
        what = "parameters" if name == "ranges" else "tensors"
        raise InputError(
            f"servers is {servers}, but there are {what} for {held} with placement '{name}'; "
            f"choose at most {held}" + ("" if name == "ranges" else ", or placement 'ranges'")
        )
    return placement


def _whole_tensors(
    name: str, tensor_sizes: Sequence[int], servers: int, owners: Sequence[int]
) -> Placement:
    slices = [Slice(tensor, 0, size) for tensor, size in enumerate(tensor_sizes)]
    parts = [
        tuple(slice_ for slice_, owner in zip(slices, owners, strict=True) if owner == server)
        for server in range(servers)
    ]
    return Placement(name, tuple(parts))
