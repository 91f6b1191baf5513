"""The model in PyTorch's DistributedDataParallel: ``python -m benchmarks.peers.ddp MODE RANKS``.

As ``torchrun`` would start it: a process per rank, over gloo. MODE is eager or compiled; a step
is a mini-batch of one rank, so that RANKS of them make an update.
"""

# Installed in an environment of its own, where type checkers do not look.
# pyright: reportMissingImports=false

import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from benchmarks.contender import pin, serve
from benchmarks.peers.pytorch import DeepGP, PyTorch

LIMIT_S = 240.0  # of any wait among the ranks


class Rank(PyTorch):
    """One process, on a core of its own; the gradients are averaged as they are computed."""

    def _compiled(self, model: DeepGP) -> Callable[..., Tensor]:
        return super()._compiled(DistributedDataParallel(model, gradient_as_bucket_view=True))


def _work(mode: str, rank: int, ranks: int, store: str, requests: Connection) -> None:
    """Answer requests, each a method and its arguments, until the launcher has gone."""
    pin(rank)
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group(
        "gloo", f"file://{store}", timedelta(seconds=LIMIT_S), world_size=ranks, rank=rank
    )
    contender = Rank(mode)
    torch.manual_seed(1 + rank)  # the same first parameters, mini-batches of one's own
    while True:
        try:
            method, arguments = requests.recv()
        except EOFError:
            return
        requests.send(getattr(contender, method)(*arguments))


class Launcher:
    """Hands every request to all ranks, and waits without computing."""

    def __init__(self, mode: str, ranks: int, store: Path) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._ranks: list[Connection] = []
        for rank in range(ranks):
            ours, theirs = spawn.Pipe()
            arguments = (mode, rank, ranks, str(store), theirs)
            spawn.Process(target=_work, args=arguments, daemon=True).start()
            theirs.close()
            self._ranks.append(ours)

    def describe(self) -> dict[str, str]:
        return self._ask("describe")[0] | {"ranks": str(len(self._ranks))}

    def prepare(self, batch: int) -> None:
        self._ask("prepare", batch)

    def run(self, steps: int, batch: int) -> float:
        before = time.perf_counter()
        self._ask("run", steps // len(self._ranks), batch)
        return time.perf_counter() - before

    def loss(self, case: str) -> tuple[float, float]:
        return self._ask("loss", case)[0]

    def _ask(self, method: str, *arguments: object) -> list[Any]:
        for rank in self._ranks:
            rank.send((method, arguments))
        answers: dict[Any, Any] = {}
        while len(answers) < len(self._ranks):
            ready: list[Any] = wait([rank for rank in self._ranks if rank not in answers], LIMIT_S)
            if not ready:
                raise TimeoutError(f"a rank gave no answer in {LIMIT_S:.0f} s")
            answers |= {rank: rank.recv() for rank in ready}
        return [answers[rank] for rank in self._ranks]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        serve(Launcher(sys.argv[1], int(sys.argv[2]), Path(folder) / "store"))
