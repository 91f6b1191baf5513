"""From a study's ledger to its page: what it was, on which machine, and what it found."""

import os
import platform
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any

from distvi.errors import InputError
from distvi.progress.words import duration
from distvi.report.study import PageContent
from distvi.runs.records import Record, by_setting
from distvi.studies.advice import advise
from distvi.studies.claims import Claim, answer_all, axes_of, check, claims_of
from distvi.studies.ledger import Ledger
from distvi.studies.spec import Spec, parse_spec

PAGE = "report.html"


def claims_in(spec: Spec, where: str) -> tuple[Claim, ...]:
    """The claims of a spec.

    Raises:
        InputError: a sentence is not of the grammar.
    """
    return claims_of([claim.model_dump() for claim in spec.claims], where)


def content_of(folder: Path) -> PageContent:
    """What the page of a study shows.

    Args:
        folder: Of the study.

    Raises:
        InputError: the folder holds no study, or no cell of it is finished yet.
    """
    with Ledger(folder) as ledger:
        records, counts = ledger.records(), ledger.counts()
        text, machine = str(ledger.fact("spec")), ledger.fact("machine", {})
        where = str(ledger.fact("spec_path"))
    if not records:
        raise InputError(f"no cell of {folder} is finished yet; run it: distvi study run {where}")
    spec = parse_spec(text, where)
    axes = axes_of(records)
    claims = [check(claim, axes) for claim in claims_in(spec, where)]
    missing = counts.total - counts.finished
    return PageContent(
        title=spec.title,
        records=records,
        claims=answer_all(claims, records),
        advice=_advice(records, spec.target_errors),
        methods=methods_of(spec, records, missing),
        machine=machine if isinstance(machine, dict) else {},
        spec_toml=text,
        target_errors=spec.target_errors,
    )


def _advice(records: list[Record], targets: tuple[float, ...]) -> list[str]:
    if all(record.status != "done" for record in records):
        return []
    lines = [line for target in targets for line in advise(records, target_error=target).lines()]
    return list(dict.fromkeys(lines or advise(records).lines()))


def methods_of(spec: Spec, records: list[Record], missing: int) -> dict[str, str]:
    """How things were done, in paragraphs."""
    settings, status = len(by_setting(records)), Counter(record.status for record in records)
    ended = ", ".join(f"{number} {name}" for name, number in status.items())
    still = f"; {missing} cells are not finished yet" if missing else ""
    spent_s = sum(record.measured.parts_s.get("whole", 0.0) for record in records)
    methods = {
        "Cells": f"{settings} settings with {spec.seeds} seeds each; {ended}{still}. Each cell's "
        "seed is a hash of its settings and its number, so that no two cells share draws.",
        "Length": _length(spec),
        "Tests": f"{spec.tests.number} tests on the whole test set, evenly spaced, with "
        f"{spec.tests.samples} Monte Carlo samples; the last has all of the model's.",
        "Clocks": _clocks(records),
        "Intervals": "Student's t, 95 %, over seeds. A training that diverged is shown as such and "
        "counts as the worst in claims; one that never reached a target error is shown as that.",
        "Computing": f"{duration(spent_s)} of processes in all.",
    }
    if spec.tuning is not None and any(record.measured.trials for record in records):
        tuning = spec.tuning
        tried = ", ".join(f"{value:g}" for value in tuning.values)
        methods["Tuning"] = (
            f"Where {tuning.setting} is tuned, each of {tried} is tried on the training "
            f"part without "
            f"{tuning.validation_fraction:.0%} of it, for {tuning.examples_share:.0%} of the "
            "length, and the one with the lowest error on that part is taken. The test set has no "
            "say."
        )
    return methods


def _length(spec: Spec) -> str:
    given = [
        f"{getattr(spec.stop, name):g} {words}"
        for name, words in (
            ("updates", "updates"),
            ("examples", "examples"),
            ("epochs", "passes over the training set"),
            ("time_s", "s on the engine's clock"),
            ("wall_s", "s on the wall's clock"),
        )
        if getattr(spec.stop, name) is not None
    ]
    if spec.stop.target_error is not None:
        given.append(f"a test error of {spec.stop.target_error:g}")
    return f"A training ends after {', or '.join(given) or 'the updates of its base'}."


def _clocks(records: list[Record]) -> str:
    clocks = {record.measured.clock for record in records if record.status == "done"}
    virtual = (
        "Virtual time is that of a simulated cluster: every gradient is computed for real, on the "
        "parameters that its worker would have had."
    )
    wall = "Wall-clock time is of trainings that had the machine to themselves; tests not included."
    return " ".join(text for name, text in (("virtual", virtual), ("wall", wall)) if name in clocks)


def this_machine() -> dict[str, Any]:
    """What a study runs on, for its page."""
    packages = ("distvi", "jax", "jaxlib", "optax", "numpy")
    return {
        "Processor": _processor(),
        "Cores": str(os.cpu_count()),
        "System": f"{platform.system()} {platform.machine()}",
        "Python": platform.python_version(),
        "Packages": ", ".join(f"{name} {version(name)}" for name in packages),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
