"""A cluster whose workers add their gradients up among themselves: what most people would use.

There are no servers. Every worker holds all parameters and makes every update itself; the gradients
meet in a ring all-reduce, which takes as long as the slowest worker's interface and cannot begin
before the slowest worker has computed. It is the baseline beside the parameter server.
"""

import math
from collections.abc import Sequence

from distvi.engines.simulated.cluster import Cluster
from distvi.engines.simulated.machines import InFlight, WorkerMachine
from distvi.engines.statistics import Traffic
from distvi.protocol import Commit


def ring_bytes(workers: int, size_bytes: int) -> int:
    """What each worker sends, and receives, in one all-reduce.

    References:
        Patarasuk and Yuan (2009), Bandwidth optimal all-reduce algorithms for clusters of
        workstations, section 3.

    Example:
        >>> ring_bytes(4, 1000)
        1500
    """
    return math.ceil(2 * (workers - 1) / workers * size_bytes)


def ring_traffic(workers: int, size_bytes: int) -> Traffic:
    """The same as bytes of a push and of a pull."""
    each = ring_bytes(workers, size_bytes)
    return Traffic(pushed=(each,), pulled=(each,))


class AllReduceCluster(Cluster):
    """A cluster without servers, for schemes in lockstep; arguments as of `Cluster`.

    Its one entry of ``servers`` stands for what all workers do at once: the all-reduce and the
    update.
    """

    def _pull(self, worker: WorkerMachine) -> float:
        """Parameters are here as soon as the worker's own update is made."""
        (everywhere,) = self.servers
        return max(self.now_s, everywhere.ready_s)

    def _push(self, request: InFlight) -> None:
        """The gradient waits for the others where it is."""
        request.arrives_s = request.computed_s
        self._at(request.computed_s, self._arrive, request)

    def _commit(self, command: Commit) -> None:
        """The ring turns ``2 (workers - 1)`` times, then each worker makes the update."""
        self._events_left = self._patience
        (everywhere,), costs = self.servers, self.settings.servers
        ring_s = self._ring_s(everywhere.pushed_bytes)
        s_per_byte = costs.apply_s_per_byte + costs.combine_s_per_byte * 2
        update_s = costs.overhead_s + s_per_byte * everywhere.part_bytes
        begins_s = max(self.now_s, everywhere.ready_s)
        everywhere.ready_s = begins_s + ring_s + update_s
        everywhere.applying_s += ring_s + update_s
        everywhere.receives.busy_s += ring_s
        everywhere.sends.busy_s += ring_s
        self.timeline.update(everywhere.number, command.version, begins_s, everywhere.ready_s)

    def _ring_s(self, size_bytes: int) -> float:
        count = len(self.workers)
        if count == 1:
            return 0.0
        bandwidth = _slowest(self.settings.workers.bandwidth_bytes_per_s, count)
        steps = 2 * (count - 1)
        # A hop is from one worker's interface to another's.
        return (
            ring_bytes(count, size_bytes) / bandwidth + steps * 2 * self.settings.workers.latency_s
        )


def _slowest(bandwidths: Sequence[float], workers: int) -> float:
    return min(bandwidths[number % len(bandwidths)] for number in range(workers))
