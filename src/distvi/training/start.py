"""Runs are begun here: a configuration in, a run folder out; and gone on with from a checkpoint."""

from pathlib import Path

import jax

from distvi.config.run import RunConfig
from distvi.engines.base import Start
from distvi.errors import InputError
from distvi.progress import Progress, Silent
from distvi.runs import checkpoints
from distvi.runs.folder import Run, check_new, create, load_run
from distvi.runs.own import NOTHING, Own
from distvi.runs.parts import check_same_data, own_config
from distvi.runs.wall_time import WallTime
from distvi.system.precision import in_float32
from distvi.training.prepare import prepare
from distvi.training.trainer import NEW_COUNTERS, Trainer

_ADDED = {
    "wall_time_s",
    "warnings",
}  # to the counters, since checkpoints were written that are still read


@in_float32()
def train(
    config: RunConfig,
    out: Path | None = None,
    progress: Progress | None = None,
    *,
    own: Own = NOTHING,
) -> Run:
    """Train from the first update to the last.

    Args:
        config: From `distvi.config.resolve.resolve`.
        out: The run folder to make; by default the next free ``runs/NAME-0001``.
        progress: Who is told how it goes.
        own: Objects that the configuration cannot hold.

    Raises:
        InputError: the input is wrong; nothing has been written.
        RunFailed: the ELBO was not finite, or the last files could not be written; the last good
            checkpoint is kept.
        Interrupted: a signal of `distvi.system.signals.ENDING` came; a checkpoint was written.
        SystemExit: another host leads the run, which is over.
    """
    wall = WallTime()
    _assist_if_asked(config, own)
    check_new(out)
    plan = prepare(config, own=own)
    engine = plan.engine()
    dataset = plan.dataset
    checksum, n_train = dataset.checksum(), len(dataset.train)
    run = create(out, plan.config, dataset.schema, plan.standardization, n_train, checksum)
    return Trainer(run, plan, engine, progress or Silent(), wall).go()


@in_float32()
def resume(
    path: Path,
    progress: Progress | None = None,
    *,
    own: Own = NOTHING,
    moved_to: Path | None = None,
) -> Run:
    """Go on with a run from its newest checkpoint, bit for bit as if it had never stopped.

    A newest checkpoint that is damaged is passed over with a warning, if there is one before it.

    Args:
        path: The run folder.
        progress: Who is told how it goes.
        own: Objects that the run began with and that its configuration cannot hold.
        moved_to: Where the run's data are now, if they have moved; run.toml will say so.

    Raises:
        InputError: no run folder, no checkpoint that can be read, or other data than before.
        RunFailed, Interrupted: as `train`.
    """
    wall = WallTime()
    run = load_run(path)
    config = own_config(run, moved_to)
    _assist_if_asked(config, own)
    plan = prepare(config, run.standardization, own)
    check_same_data(plan.dataset, run)
    progress = progress or Silent()
    checkpoint = _newest_good(run, progress)
    params = checkpoint.restore(checkpoints.PARAMS, plan.shapes)
    worker, server = plan.algorithm.worker, plan.algorithm.server
    counters = {n: checkpoint.counters.get(n, first) for n, first in NEW_COUNTERS.items()}
    wall.add(counters["wall_time_s"])
    start = Start(
        params=lambda: params,
        state=checkpoint.restore(checkpoints.OPTIMIZER, jax.eval_shape(server.init, plan.shapes)),
        memories=checkpoint.memories(jax.eval_shape(worker.init, plan.shapes)),
        update=checkpoint.update,
        counters=counters["engine"],
        time_s=counters["training_time_s"],
    )
    if moved_to is not None:
        run.write_config(config)
    if checkpoint.update == plan.updates and run.summary.get("status") == "done":
        progress.finished(path, run.summary)
        return run
    engine = plan.engine(start)
    rows = [row for row in run.metrics.to_pylist() if row["update"] <= checkpoint.update]
    return Trainer(run, plan, engine, progress, wall, counters, rows).go()


def _assist_if_asked(config: RunConfig, own: Own) -> None:
    """On a host that does not lead: compute for the one that does, and exit.

    Raises:
        SystemExit: that is done; whoever goes on here would look for a run that is elsewhere.
    """
    if not config.engine.leads:
        config.engine.assist(prepare(config, own=own).problem.examples)
        raise SystemExit(0)


def _newest_good(run: Run, progress: Progress) -> checkpoints.Checkpoint:
    found = checkpoints.updates(run.checkpoint_folder)
    if not found:
        raise InputError(f"{run.path} holds no checkpoint to go on from")
    problems = []
    for update in reversed(found):
        try:
            names = NEW_COUNTERS.keys() - _ADDED
            checkpoint = checkpoints.read(run.checkpoint_folder / str(update), names)
        except InputError as error:
            problems.append(error)
            continue
        for problem in problems:
            progress.warned(f"{problem}; going on from update {update}")
        return checkpoint
    raise problems[0]
