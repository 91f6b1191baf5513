"""The model under TensorFlow's ParameterServerStrategy.

``python -m benchmarks.peers.parameter_server WORKERS SERVERS``: a coordinator that schedules
asynchronous steps, and a process for each worker and each parameter server. Their servers listen
on every interface and obey whoever calls, so run this in a network of its own
(`benchmarks.local` does).
"""

# Installed in an environment of their own, where type checkers do not look.
# pyright: reportMissingModuleSource=false, reportMissingImports=false

import json
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from typing import Any

import tensorflow as tf

from benchmarks import problem
from benchmarks.contender import pin, serve
from benchmarks.peers.tensorflow import Adam, DeepGP, TensorFlow

STEPS_PER_CALL = 5
"""Scheduled together, as TensorFlow's guide advises: scheduling takes time."""

Addresses = dict[str, list[str]]
"""Of the tasks of each job."""


def free_addresses(**tasks: int) -> Addresses:
    """Loopback addresses for so many tasks of each job."""
    with ExitStack() as stack:  # held until all are known, so that they differ
        return {job: [_free_address(stack) for _ in range(n)] for job, n in tasks.items()}


def _free_address(stack: ExitStack) -> str:
    bound = stack.enter_context(socket.socket())
    bound.bind(("127.0.0.1", 0))
    return f"127.0.0.1:{bound.getsockname()[1]}"


def start_task(addresses: Addresses, job: str, task: int) -> None:
    """Start a worker or a parameter server, which ends with this process, and this with it."""
    config = {"cluster": addresses, "task": {"type": job, "index": task}}
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.peers.parameter_server", "task"],
        env=os.environ | {"TF_CONFIG": json.dumps(config)},
        stdin=subprocess.PIPE,
    )

    def end_with_it() -> None:
        status = process.wait()
        print(f"{job} {task} ended with status {status}", file=sys.stderr, flush=True)
        os._exit(1)  # the coordinator would wait for it to come back

    threading.Thread(target=end_with_it, daemon=True).start()


def run_task() -> None:
    """Be the worker or the parameter server that TF_CONFIG names, until standard input ends."""
    resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    config = tf.compat.v1.ConfigProto(intra_op_parallelism_threads=1)
    if resolver.task_type == "worker":
        pin(resolver.task_id)
        # Operations that wait for a parameter server hold a thread each.
        config.inter_op_parallelism_threads = 4
    tf.distribute.Server(
        resolver.cluster_spec(),
        job_name=resolver.task_type,
        task_index=resolver.task_id,
        protocol="grpc",
        config=config,
    )
    sys.stdin.read()
    os._exit(0)  # there is no call that shuts a server down


class Coordinator(TensorFlow):
    """Keeps all workers busy; variables and Adam's moments lie on the parameter servers."""

    def __init__(self, workers: int, servers: int) -> None:
        addresses = free_addresses(worker=workers, ps=servers)
        for job, hosts in addresses.items():
            for task in range(len(hosts)):
                start_task(addresses, job, task)
        self._tasks = {job: str(len(hosts)) for job, hosts in addresses.items()}
        resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
            tf.train.ClusterSpec(addresses), rpc_layer="grpc"
        )
        self._strategy = tf.distribute.ParameterServerStrategy(resolver)
        self._coordinator = tf.distribute.coordinator.ClusterCoordinator(self._strategy)
        tf.random.set_seed(0)
        with self._strategy.scope():
            self._model = DeepGP()
            self._variables = self._model.trainable_variables
            self._adam = Adam(self._variables)
        self._batches: dict[int, Any] = {}
        self._steps = tf.function(self._scheduled_steps)

    def _scheduled_steps(self, batches: Any) -> None:
        for _ in tf.range(STEPS_PER_CALL):
            self._strategy.run(self._step_on, next(batches))

    def _step_on(self, x: tf.Tensor, y: tf.Tensor) -> None:
        noise = [tf.random.normal([len(x), outputs]) for _, outputs in problem.LAYERS]
        with tf.GradientTape() as tape:
            loss = self._model(x, y, noise)
        self._adam.apply(tape.gradient(loss, self._variables))

    def describe(self) -> dict[str, str]:
        return {"tensorflow": tf.__version__} | self._tasks

    def prepare(self, batch: int) -> None:
        def dataset() -> tf.data.Dataset:
            x, y = map(tf.constant, problem.synthetic_images())

            def pick(_: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
                index = tf.random.uniform([batch], maxval=problem.EXAMPLES, dtype=tf.int32)
                return tf.cast(tf.gather(x, index), tf.float32) / 255, tf.gather(y, index)

            return tf.data.Dataset.from_tensors(0).repeat().map(pick).prefetch(1)

        self._batches[batch] = iter(self._coordinator.create_per_worker_dataset(dataset))
        self.run(20 * STEPS_PER_CALL, batch)

    def run(self, steps: int, batch: int) -> float:
        before = time.perf_counter()
        for _ in range(steps // STEPS_PER_CALL):
            self._coordinator.schedule(self._steps, args=(self._batches[batch],))
        self._coordinator.join()
        return time.perf_counter() - before


if __name__ == "__main__":
    if sys.argv[1] == "task":
        run_task()
    else:
        serve(Coordinator(int(sys.argv[1]), int(sys.argv[2])))
        os._exit(0)  # its threads wait for workers that end with it
