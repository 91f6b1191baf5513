"""What a server does with the gradients that arrive, and who may start: schemes and their parts.

Aggregation is to gradients what ``optax.chain`` is to updates: small stages, closed under
``chain``.
"""

from distvi.aggregation.dynamic import worth_waiting_for
from distvi.aggregation.liveness import check_liveness
from distvi.aggregation.options import ByWorkers, Option
from distvi.aggregation.pacing import after_own_update, at_once, bounded_lead, tokens
from distvi.aggregation.registry import (
    COMBINES,
    RATES,
    SCHEMES,
    SchemeEntry,
    register,
    scheme_named,
    typed_options,
)
from distvi.aggregation.schemes import (
    asynchronous,
    backup_gradients,
    backup_workers,
    drop_stale_async,
    dynamic_backup,
    k_async,
    k_batch_async,
    k_batch_sync,
    k_sync,
    softsync,
    ssp,
    staleness_aware,
    sync,
)
from distvi.aggregation.stages import (
    add,
    average,
    average_by_size,
    chain,
    collect,
    drop_stale,
    one_from_each,
    one_over_tau,
    scale_by_staleness,
    stage_of,
    staleness,
)
from distvi.protocol import Pacing, Scheme, Stage, Stragglers

__all__ = [
    "COMBINES",
    "RATES",
    "SCHEMES",
    "ByWorkers",
    "Option",
    "Pacing",
    "Scheme",
    "SchemeEntry",
    "Stage",
    "Stragglers",
    "add",
    "after_own_update",
    "asynchronous",
    "at_once",
    "average",
    "average_by_size",
    "backup_gradients",
    "backup_workers",
    "bounded_lead",
    "chain",
    "check_liveness",
    "collect",
    "drop_stale",
    "drop_stale_async",
    "dynamic_backup",
    "k_async",
    "k_batch_async",
    "k_batch_sync",
    "k_sync",
    "one_from_each",
    "one_over_tau",
    "register",
    "scale_by_staleness",
    "scheme_named",
    "softsync",
    "ssp",
    "stage_of",
    "staleness",
    "staleness_aware",
    "sync",
    "tokens",
    "typed_options",
    "worth_waiting_for",
]
