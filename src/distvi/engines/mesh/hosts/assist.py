"""What the command does on hosts other than the first: it runs their processes."""

import time

from distvi.engines.base import Examples
from distvi.engines.mesh.address import Hosts
from distvi.engines.mesh.hosts.children import Child, Children
from distvi.engines.mesh.hosts.group import JOIN_S
from distvi.engines.mesh.hosts.messages import ENDED, REFUSED, UNREACHABLE
from distvi.errors import RunFailed
from distvi.system.compilation_cache import compilation_cache
from distvi.system.signals import Interruption

_LOOK_S = 0.5
"""Between two looks at whether it was interrupted."""

_GRACE_PERIOD_S = 10.0
"""Where all hosts are interrupted, the first one ends the run in good order."""


class AssistanceInterrupted(KeyboardInterrupt):
    """A signal came to a host that does not lead.

    Attributes:
        signum: The signal.
    """

    def __init__(self, signum: int) -> None:
        super().__init__("interrupted; the run does not go on without this host")
        self.signum = signum


def assist(hosts: Hosts, silence_s: float, examples: Examples) -> None:
    """Run the processes of this machine until the run is over.

    Args:
        hosts: All of them, and which are of this machine.
        silence_s: After which a process is lost.
        examples: The training set.

    Raises:
        RunFailed: the first host cannot be reached, or has ended the run for a reason.
        AssistanceInterrupted: a signal came, and the run has ended or will do so.
    """
    starting = Children(hosts, examples, silence_s, compilation_cache(), quiet=False)
    with Interruption() as interruption, starting as children:
        for number in hosts.own:
            children.start(number, hosts.first, JOIN_S)
        until_s = None
        while children.each and (until_s is None or time.monotonic() < until_s):
            if interruption() and until_s is None:
                until_s = time.monotonic() + _GRACE_PERIOD_S
            for child in children.heard(_LOOK_S):
                if not child.listen():
                    _ended(child, children, hosts, silence_s)
            for child in children.each.values():
                if time.monotonic() - child.heard_s > silence_s:
                    child.process.kill()  # of which it is heard next
    if interruption.signum is not None:
        raise AssistanceInterrupted(interruption.signum)


def _ended(child: Child, children: Children, hosts: Hosts, join_s: float) -> None:
    """A process has ended: with the run, for a reason, or to begin anew with the others."""
    status = child.process.wait()
    del children.each[child.number]
    child.end()
    if status in (REFUSED, UNREACHABLE):
        raise RunFailed(child.said)
    if status != ENDED:
        children.start(child.number, hosts.first, join_s)
