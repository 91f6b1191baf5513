"""What stale gradients cost, and what is done about it: every rule beside synchronous training.

    DISTVI_DATA=DIR python -m benchmarks.asynchrony [--figure FILE]

Runs the studies `studies/asynchrony.toml` and `studies/rules.toml`, as far as they have not been
run (they can be interrupted), and prints a table of each; equal numbers of examples everywhere,
time is virtual. Of synchronous training the best learning rate is taken, by its error on the test
set, which favours it. `--figure` draws test error against staleness.
"""

import argparse
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

from distvi.runs.records import Record, by_setting
from distvi.studies.ledger import Ledger

STUDIES = Path(__file__).parents[1] / "studies"
WORKERS = (8, 16, 32)
TOP_K = 0.01  # what top-k sends unless it is told otherwise
SLOW = "network-bound"
CONTENDERS = ("async, plain", "async, turned inputs", "async", "async, rate tuned")


class Result(NamedTuple):
    """What cells that differ in their seed alone came to: medians over the seeds.

    Attributes:
        error: Test error, in percent.
        mnll: Test MNLL, in nats.
        time_s: Virtual training time.
        megabytes: Pushed, by all workers together.
        seeds: How many.
        settings: Of the cells.
        block: Of the spec.
    """

    error: float
    mnll: float
    time_s: float
    megabytes: float
    seeds: int
    settings: dict[str, object]
    block: str

    def __str__(self) -> str:
        return f"{self.error:5.2f} /{self.mnll:6.4f}"


def results_of(records: Iterable[Record]) -> list[Result]:
    """A result for each setting; what diverged counts as chance."""
    found = []
    for several in by_setting(records).values():
        measured = [r.measured for r in several]
        found.append(
            Result(
                median(100 * m.test.get("error_rate", 0.9) for m in measured),
                median(m.test.get("mnll", float("inf")) for m in measured),
                median(m.time_s for m in measured),
                median(m.bytes.get("pushed", 0) / 1e6 for m in measured),
                len(several),
                dict(several[0].settings),
                several[0].block,
            )
        )
    return found


def run(name: str) -> list[Result]:
    """Run a study, as far as it has not been, and read its ledger."""
    spec = STUDIES / f"{name}.toml"
    subprocess.run([sys.executable, "-m", "distvi", "study", "run", str(spec)], check=True)
    with Ledger(spec.with_suffix("")) as ledger:
        return results_of(ledger.records())


def only(results: Sequence[Result], **settings: object) -> list[Result]:
    """Those with these settings."""
    return [r for r in results if all(r.settings.get(n) == v for n, v in settings.items())]


def best_sync(results: Sequence[Result], workers: int, hidden_layers: int) -> Result:
    """Synchronous training with the best of the learning rates."""
    layers = {"model.hidden_layers": hidden_layers}
    return min(only(results, scheme="sync", workers=workers, inputs="pca", **layers))


def print_contest(results: Sequence[Result]) -> None:
    """Asynchronous beside synchronous training."""
    for layers in (1, 2):
        one = only(results, workers=1, inputs="pca", **{"model.hidden_layers": layers})[0]
        print(f"\n{layers} hidden layers, test error % / MNLL, medians of {one.seeds} seeds")
        print(f"one worker: {one}")
        for workers in WORKERS:
            sync = best_sync(results, workers, layers)
            print(f"{workers} workers")
            print(f"  sync, rate {sync.settings['learning_rate']:<10} {sync} {sync.time_s:7.1f} s")
            blocks = CONTENDERS if layers == 1 else ("two hidden layers",)
            for block in blocks:
                own = only(results, scheme="async", workers=workers)
                if block == CONTENDERS[-1]:  # those with the rate of one worker, too
                    own = [r for r in own if r.block in CONTENDERS[-2:]]
                else:
                    own = [r for r in own if r.block == block]
                found = min(own, key=lambda r: (r.error, r.mnll))
                error, mnll = found.error - sync.error, found.mnll - sync.mnll
                print(
                    f"  {block:<21} {found} {found.time_s:7.1f} s  against sync: error {error:+.2f}"
                    f", MNLL {mnll:+.4f}, {sync.time_s / found.time_s:.1f} x as fast"
                    f" (rate {found.settings['learning_rate']})"
                )


def name_of(result: Result) -> str:
    """What sets a cell of the rules apart, but for its workers."""
    settings = result.settings
    rules = settings["rules"]
    words = [str(settings["scheme"])]
    if rules != "none":
        words.append(f"{rules}")
    words += [
        f"{name.rpartition('.')[2]}={value}"
        for name, value in settings.items()
        if name.startswith(("rule_options.curvature", "scheme_options.rate"))
        or (name == "rule_options.fraction" and value != TOP_K)
        if value not in (None, "", "default")
    ]
    if settings.get("optimizer") == "muon":
        words.append("muon")
    return ", ".join(words) + (" (plain)" if settings["inputs"] == "unit" else "")


def print_rules(results: Sequence[Result]) -> None:
    """Every rule, by workers."""
    print("\nThe rules, test error % / MNLL, pushed MB with 8 workers; one seed")
    print(f"{'':<42}" + "".join(f"{workers:>17}" for workers in WORKERS))
    rows: dict[str, dict[int, Result]] = {}
    for result in (r for r in results if r.settings["cluster"] != SLOW):
        rows.setdefault(name_of(result), {})[int(str(result.settings["workers"]))] = result
    for name, found in rows.items():
        cells = "".join(f"{found[w]!s:>17}" if w in found else " " * 17 for w in WORKERS)
        first = next(iter(found.values()))
        print(f"{name:<42}{cells}{first.megabytes:10.0f} MB")
    print("\nwith 8 workers where the network is slow")
    for result in only(results, cluster=SLOW):
        print(f"{name_of(result):<42}{result!s:>17}{result.time_s:9.1f} s")


def draw(contest: Sequence[Result], rules: Sequence[Result], path: Path) -> None:
    """Test error against staleness."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7.5, 4.5), layout="constrained")
    lines = {
        "async, nothing done": [r for r in contest if r.block == "async, plain"],
        "async, inputs turned": [r for r in contest if r.block == "async, turned inputs"],
        "async, inputs turned, auto optimizer": [r for r in contest if r.block == "async"],
        "  and delay compensation": only(
            [r for r in rules if r.block == "gradients"], rules="delay-compensation"
        ),
        "  and gap-aware": only([r for r in rules if r.block == "gradients"], rules="gap-aware"),
        "local steps, 10": only(rules, rules="local-steps", scheme="async"),
        "DiLoCo, 10 steps": only(rules, rules="diloco", scheme="async"),
        "EASGD, 10 steps": only(rules, rules="easgd", scheme="async"),
    }
    for label, found in lines.items():
        ordered = sorted(found, key=lambda r: int(str(r.settings["workers"])))
        staleness = [int(str(r.settings["workers"])) - 1 for r in ordered]
        style = "--" if label.startswith(("  ", "local", "DiLoCo", "EASGD")) else "-"
        axes.plot(staleness, [r.error for r in ordered], style, marker="o", ms=4, label=label)
    sync = [best_sync(contest, workers, 1) for workers in WORKERS]
    axes.plot([w - 1 for w in WORKERS], [r.error for r in sync], "k:", label="best sync")
    axes.set(
        xlabel="staleness of a gradient in updates (workers - 1)",
        ylabel="test error, %",
        yscale="log",
    )
    axes.set_yticks([2, 3, 5, 10, 20, 50, 90], ["2", "3", "5", "10", "20", "50", "90"])
    axes.minorticks_off()
    axes.set_xticks([w - 1 for w in WORKERS])
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", frameon=False, fontsize=8)
    figure.savefig(path, dpi=150)


def main() -> None:
    """Run, print, draw."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--figure", type=Path, help="where to draw test error against staleness")
    arguments = parser.parse_args()
    contest, rules = run("asynchrony"), run("rules")
    print_contest(contest)
    print_rules(rules)
    if arguments.figure is not None:
        draw(contest, rules, arguments.figure)


if __name__ == "__main__":
    main()
