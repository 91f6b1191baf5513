"""MNIST from a configuration, several seeds: ``python -m benchmarks.mnist --data-dir DIR``.

Trains ``examples/mnist.toml`` (or ``--config``) once per seed, one after the other on all cores,
and prints test error, MNLL and training time with their medians beside published numbers. Nothing
is chosen by the test set: the last parameters are the ones that are judged.
"""

import argparse
import tempfile
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

import distvi
from benchmarks.step import machine

# Test error %, MNLL, training time s: see docs/decisions and the README for the sources.
PUBLISHED = {
    "DGP-RFF, the authors": ("2.21", ".0857", "68900"),
    "inducing-point DGP, 3 layers": ("2.01", ".0709", ""),
}


def main() -> None:
    """Train every seed and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True, help="holds mnist/")
    parser.add_argument("--config", type=Path, default=Path("examples/mnist.toml"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--set", nargs="+", default=[], help="settings, as model.width=50")
    arguments = parser.parse_args()
    console = Console()
    console.print("{cpu}, {cores} cores, Python {python}".format(**machine()))
    rows = []
    for seed in range(arguments.seeds):
        with tempfile.TemporaryDirectory() as folder:
            run = distvi.train(
                config=arguments.config,
                data_dir=str(arguments.data_dir),
                seed=seed,
                out=Path(folder) / "run",
                set=arguments.set,
            )
            summary = run.summary  # read while the folder is there
        test = summary["test"]
        rows.append((100 * test["error_rate"], test["mnll"], summary["training_time_s"]))
        console.print("seed {}: {:.2f} %, MNLL {:.4f}, {:.0f} s".format(seed, *rows[-1]))
    table = Table("", "error %", "MNLL", "training s", title=str(arguments.config))
    error, mnll, seconds = (median(column) for column in zip(*rows, strict=True))
    table.add_row(f"median of {len(rows)} seeds", f"{error:.2f}", f"{mnll:.4f}", f"{seconds:.0f}")
    for name, published in PUBLISHED.items():
        table.add_row(name, *published)
    console.print(table)


if __name__ == "__main__":
    main()
