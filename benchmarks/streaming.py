"""Training from a folder larger than memory: ``python -m benchmarks.streaming --data-dir DIR``.

Makes 8,100,000 deformed MNIST images in ``--big`` (once; 6.4 GB) as ``distvi data augment`` does,
then trains the same model for the same updates on them and on MNIST in memory, in turn, each run
in a process of its own, and prints the ratio of the times per update and the peak of the resident
memory. The goals: at most 1.15, and below 2 GiB.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.step import machine

ROWS = 8_100_000
CHILD = """
import json, resource, sys
import distvi
dataset, data_dir, updates, batch_size, out = sys.argv[1:]
run = distvi.train(
    dataset, data_dir=data_dir, updates=int(updates), batch_size=int(batch_size), out=out,
    engine="mesh",
    evaluate_every=int(updates), checkpoint_every=0, model={"test_samples": 1},
)
peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
json.dump({"s": run.summary["training_time_s"], "peak_bytes": peak_bytes}, sys.stdout)
"""


def train(dataset: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Train in a new process; its training time and its peak of resident memory."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", CHILD, dataset, str(arguments.data_dir)]
        sizes = [str(arguments.updates), str(arguments.batch_size)]
        done = subprocess.run(
            [*command, *sizes, f"{folder}/run"], capture_output=True, text=True, check=True
        )
    return json.loads(done.stdout)


def main() -> None:
    """Run the comparison and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True, help="holds mnist/")
    parser.add_argument("--big", type=Path, required=True, help="holds, or receives, the images")
    parser.add_argument("--updates", type=int, default=1000)
    parser.add_argument("--batch-size", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    if not arguments.big.exists():
        make = [sys.executable, "-m", "distvi", "data", "augment", "mnist", "--rows", str(ROWS)]
        paths = ["--data-dir", str(arguments.data_dir), "--out", str(arguments.big)]
        subprocess.run([*make, *paths], check=True)
    print("{cpu}, {cores} cores, Python {python}".format(**machine()))
    ratios, peaks = [], []
    for _ in range(arguments.rounds):
        small = train("mnist", arguments)
        big = train(str(arguments.big), arguments)
        ratios.append(big["s"] / small["s"])
        peaks.append(big["peak_bytes"])
        print(
            f"in memory {1e3 * small['s'] / arguments.updates:6.2f} ms an update   "
            f"mapped {1e3 * big['s'] / arguments.updates:6.2f} ms   "
            f"ratio {ratios[-1]:.3f}   peak {peaks[-1] / 2**30:.2f} GiB",
            flush=True,
        )
    peak = max(peaks) / 2**30
    print(f"median ratio {median(ratios):.3f} (goal 1.15)   peak {peak:.2f} GiB (goal 2)")


if __name__ == "__main__":
    main()
