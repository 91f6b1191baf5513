"""A process on another machine, as the coordinator knows it."""

from dataclasses import dataclass

from distvi.engines.coordinator.fleet import Process


@dataclass(eq=False, kw_only=True)
class RayProcess(Process):
    """A process on some machine.

    Attributes:
        identity: By which others know it.
        node: Ray's name of its machine; empty: not known yet.
        address: Where it listens, if it does.
        heard_s: When it last gave a sign of life.
        system_pid: Its number on its machine.
        is_compiled: Whether it has prepared everything.
        is_current: Of a backup: whether it has all that its server has.
        end: How it ended, in words.
        ended_itself: Whether nobody ended it.
    """

    identity: str
    node: str = ""
    address: str = ""
    heard_s: float = 0.0
    system_pid: int = 0
    is_compiled: bool = False
    is_current: bool = False
    end: str = "was ended"
    ended_itself: bool = False

    @property
    def pid(self) -> int:
        """On its machine."""
        return self.system_pid

    @property
    def was_killed(self) -> bool:
        """Whether it did not end by itself."""
        return not self.ended_itself

    def how_it_ended(self) -> str:
        """In words."""
        return f"{self.name} ({self.identity}) {self.end}"
