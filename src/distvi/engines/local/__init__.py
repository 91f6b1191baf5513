"""Workers and servers as processes of one machine that share memory."""

from distvi.engines.coordinator.transport import Limits
from distvi.engines.local.engine import LocalEngine, Processes
from distvi.engines.local.environment import cores
from distvi.engines.local.recipe import Recipe
from distvi.engines.status import EngineStatus, ServerStatus, WorkerStatus

__all__ = [
    "EngineStatus",
    "Limits",
    "LocalEngine",
    "Processes",
    "Recipe",
    "ServerStatus",
    "WorkerStatus",
    "cores",
]
