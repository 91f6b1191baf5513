"""The pacing rules: which worker may start on the newest version, and which has to wait."""

from distvi.errors import InputError
from distvi.protocol import Member, Pacing, View


def at_once(in_flight: int = 1) -> Pacing:
    """Nobody waits: a worker that delivered a gradient starts on whatever is newest.

    Args:
        in_flight: Requests a worker may have at a time; 2 sends it its next parameters while
            it still computes.

    Raises:
        InputError: ``in_flight`` is below 1.
    """
    if in_flight < 1:
        raise InputError(f"at_once: in_flight is {in_flight}; a worker needs at least 1")
    return Pacing(may_start=lambda worker, view: True, in_flight=in_flight)


def after_own_update() -> Pacing:
    """A worker waits until the gradient it delivered is in an update, or refused.

    With a stage that waits for everybody this is lockstep.
    """
    return Pacing(may_start=lambda worker, view: worker.worker not in view.held)


def bounded_lead(bound: int) -> Pacing:
    """A worker at clock c may start once the slowest member has reached clock c - bound.

    The clock counts the gradients that a worker has delivered. With bound 0 all start together.

    Args:
        bound: The lead in clocks, s in Ho et al. (2013).

    Raises:
        InputError: The bound is below 0.
    """
    if bound < 0:
        raise InputError(
            f"ssp: bound is {bound}; below 0 every worker would have to be behind itself, "
            "0 is lockstep"
        )
    return Pacing(
        may_start=lambda worker, view: worker.clock - bound <= view.slowest,
        gate=lambda view: view.slowest,
    )


def tokens(number: int) -> Pacing:
    """Each version may be started on as often as there are members, or ``number`` if that is more.

    The token queue of TensorFlow's ``SyncReplicasOptimizer``: a fast worker that finds a token left
    starts on the same version once more. Two things differ: tokens of an old version expire (there
    they stay in the queue, and the gradient that takes one is dropped as stale), and the token of
    a gradient that was lost or refused can be taken again (there the run stands still).

    Args:
        number: Gradients that make an update.
    """

    def left(view: View) -> bool:
        return view.at_newest < max(len(view.members), number)

    def may_start(worker: Member, view: View) -> bool:
        return left(view)

    return Pacing(may_start, gate=lambda view: (view.version, left(view)))
