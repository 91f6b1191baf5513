"""The files for clusters, as far as they can be judged without one."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from distvi.config.run import flat_names

EXAMPLES = Path(__file__).parents[2] / "examples"
OTHERS = {"--out"}


def options_of(command: str) -> set[str]:
    """What a command gives distvi."""
    return set(re.findall(r"--[a-z-]+", command[command.index("distvi train") :]))


def known_options() -> set[str]:
    return {"--" + name.replace("_", "-") for name in flat_names()} | OTHERS


def test_the_script_for_slurm_is_one() -> None:
    script = EXAMPLES / "slurm.sh"
    subprocess.run(["bash", "-n", script], check=True)
    assert options_of(script.read_text()) <= known_options()


def test_the_manifest_for_kubernetes_is_one() -> None:
    yaml: Any = pytest.importorskip("yaml", reason="it comes with the extra distvi[ray]")
    manifest = yaml.safe_load((EXAMPLES / "kuberay.yaml").read_text())
    assert (manifest["apiVersion"], manifest["kind"]) == ("ray.io/v1", "RayJob")
    spec = manifest["spec"]
    assert options_of(spec["entrypoint"]) <= known_options()
    cluster = spec["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    for group in groups:
        (container,) = group["template"]["spec"]["containers"]
        assert container["image"] == f"rayproject/ray:{cluster['rayVersion']}-py311"
        assert container["resources"]["limits"] == container["resources"]["requests"]
    cores = sum(
        int(group["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"])
        * group["replicas"]
        for group in cluster["workerGroupSpecs"]
    )
    workers = re.search(r"--workers (\d+)", spec["entrypoint"])
    assert workers is not None
    assert int(workers[1]) <= cores
