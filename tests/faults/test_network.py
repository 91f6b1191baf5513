"""A link that is cut: machines in network namespaces, joined by a switch."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from distvi.testing.network import Network, RayCluster, unavailable
from tests import linear

pytest.importorskip("ray", reason="the extra distvi[ray] is not installed")
if WHY := unavailable():
    pytest.skip(WHY, allow_module_level=True)

pytestmark = pytest.mark.xdist_group("ray")

UPDATES, CUT = 60, 20


@pytest.fixture
def cluster() -> Iterator[RayCluster]:
    """A head that only drives, and three machines with a core each."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder, Network(4) as network:
        yield RayCluster(network, Path(folder), cpus=(0, 1, 1, 1), servers=(1, 2, 3))


def test_a_machine_that_is_cut_off_is_lost_and_nothing_with_it(cluster, seed: int) -> None:
    settings = {"seed": seed, "batch_size": 4, "updates": UPDATES}
    told = json.dumps(settings | {"cut": CUT})
    command = cluster.network.on(0, sys.executable, "-m", "tests.faults.network_driver", told)
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=os.environ | cluster.environment, **pipes) as driver:
        assert driver.stdout is not None
        address = json.loads(driver.stdout.readline())
        (machine,) = (each for each in range(4) if cluster.network.address(each) == address)
        cluster.network.cut(machine)
        answer, _ = driver.communicate("go on\n", timeout=120)
    found = json.loads(answer)
    with linear.mesh(settings | {"batch_size": 8}) as engine:
        engine.advance(UPDATES)
        expected = jax.tree.map(np.array, engine.state.params)
    for name, leaf in expected.items():
        scale = np.abs(leaf).max()
        np.testing.assert_allclose(found["params"][name], leaf, rtol=1e-4, atol=1e-4 * scale)
    assert any("no sign of life for" in each for each in found["incidents"])
