"""Workers and servers as processes of one machine that share memory."""

from distvi.engines.local.crew import cores
from distvi.engines.local.engine import LocalEngine, Processes
from distvi.engines.local.recipe import Recipe
from distvi.engines.local.transport import Limits
from distvi.engines.local.watch import ServerNow, Snapshot, WorkerNow

__all__ = [
    "Limits",
    "LocalEngine",
    "Processes",
    "Recipe",
    "ServerNow",
    "Snapshot",
    "WorkerNow",
    "cores",
]
