"""A process that works through the cells of a study: ``python -m distvi.studies.worker FOLDER``.

It imports JAX only once it keeps to its cores, because XLA starts a thread for each core it sees.
"""

import os
import sys
from pathlib import Path

from distvi.system.compilation_cache import keep_compiled
from distvi.system.signals import Interruption


def main(arguments: list[str]) -> int:
    """Work until no cell is left, or until the runner has gone.

    Args:
        arguments: The study's folder; ``virtual`` or ``wall``; cores, as ``0,1``.
    """
    folder, clock, cores = arguments
    if cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(core) for core in cores.split(",")})
    keep_compiled()

    from distvi.studies.ledger import Ledger
    from distvi.studies.measure import Workbench
    from distvi.studies.spec import Measuring

    parent = os.getppid()
    with (
        Interruption() as interruption,
        Ledger(Path(folder)) as ledger,
        ledger.owners.joined() as me,
    ):

        def is_over() -> bool:
            return interruption() or os.getppid() != parent

        bench = Workbench(Measuring.model_validate(ledger.fact("measuring")), is_over)
        shape = ""
        while not is_over() and (cell := ledger.claim(me, virtual=clock == "virtual", shape=shape)):
            shape = cell.shape
            record = bench.record(cell)
            if record is None:
                ledger.give_back(me)
            else:
                ledger.finish(me, record)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
