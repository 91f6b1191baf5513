"""Time per update of more workers than a study has, with its uncertainty."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import nnls

from distvi.aggregation import check_liveness, scheme_named
from distvi.engines.simulated.cluster import Cluster
from distvi.engines.simulated.settings import cluster_named
from distvi.engines.simulated.timing import time_rules
from distvi.errors import InputError
from distvi.evaluation.uncertainty import Interval, bootstrap, exponential, student
from distvi.parameters import place
from distvi.protocol import Rules
from distvi.runs.records import Record, Settings

_GRADIENTS_PER_WORKER = 50
_FLOAT_BYTES = 4


class Prediction(NamedTuple):
    """Of a number of workers that was not measured.

    Attributes:
        workers: That number.
        update_s: Time per update, with a 95 % interval.
        by: What predicts it, in words.
        measured: The largest number of workers that was measured.
    """

    workers: int
    update_s: Interval
    by: str
    measured: int

    def words(self) -> str:
        """One sentence."""
        estimate, low, high = (1e3 * end for end in self.update_s)
        spread = "its uncertainty is unknown"
        if math.isfinite(high):
            spread = f"95 % interval {max(0.0, low):.4g} to {high:.4g}"
        return (
            f"With {self.workers} workers, {self.workers / self.measured:g} times the largest "
            f"number measured, {self.by} extrapolates {estimate:.4g} ms per update ({spread})."
        )


def predictions(
    settings: Settings,
    records: Sequence[Record],
    predict: Callable[[Settings, int], float | None] | None = None,
) -> tuple[tuple[Prediction, ...], tuple[str, ...]]:
    """For twice and four times the largest measured number of workers, and why there are none.

    Args:
        settings: Of the family: records with the same settings, whatever their workers, are used.
        records: That are done.
        predict: See `distvi.studies.advice.UpdateTime`; None: the simulated cluster if the records
            are of one that is known, else a fit.
    """
    family = _family(settings, records)
    if not family:
        return (), ("No prediction: the settings do not say how many workers there are.",)
    model = predict or _simulation(settings, records)
    largest = max(family)
    ahead = [_by_model(model, settings, family, factor * largest) for factor in (2, 4)]
    if model is not None and all(each is not None for each in ahead):
        by = "the cost model" if predict else "the simulated cluster"
    elif len(family) >= 3:
        ahead, by = (
            [_by_fit(family, factor * largest) for factor in (2, 4)],
            "a fit of a + b/n + c n",
        )
    else:
        return (), ("No prediction: it takes three numbers of workers, or a simulated cluster.",)
    return tuple(
        Prediction(factor * largest, interval, by, largest)
        for factor, interval in zip((2, 4), ahead, strict=True)
        if interval is not None
    ), ()


Family = Mapping[int, Mapping[int, float]]
"""Seconds per update, by workers and seed."""


def _family(settings: Settings, records: Sequence[Record]) -> Family:
    rest = {name: value for name, value in settings.items() if name != "workers"}
    found: dict[int, dict[int, float]] = {}
    for record in records:
        others = {name: value for name, value in record.settings.items() if name != "workers"}
        measured = record.measured
        if "workers" in record.settings and others == rest and measured.updates and measured.time_s:
            times = found.setdefault(int(record.settings["workers"]), {})
            times[record.seed] = measured.time_s / measured.updates
    return found


def _by_model(
    model: Callable[[Settings, int], float | None] | None,
    settings: Settings,
    family: Family,
    workers: int,
) -> Interval | None:
    """A model's time times what it was wrong by, which is where the uncertainty comes from.

    The interval is for a new number of workers whose misfit is like the measured ones': of a mean
    over seeds, with Student's quantile for so many numbers of workers.
    """
    if model is None:
        return None
    ahead_s = model(settings, workers)
    if not ahead_s:
        return None
    misfits = []
    for measured, times in family.items():
        expected_s = model(settings, measured)
        if not expected_s:
            return None
        misfits.append(sum(math.log(each / expected_s) for each in times.values()) / len(times))
    found = student(misfits)
    another = found._replace(error=found.error * math.sqrt(len(misfits) + 1))
    interval = another.interval()
    return exponential(Interval(*(end + math.log(ahead_s) for end in interval)))


def _by_fit(family: Family, workers: int) -> Interval:
    """Least squares without negative terms; seeds are resampled within each number of workers.

    A constant part, one that workers share, and one that grows with them, as of a server's
    interface. The interval is of the noise over seeds alone, not of the form's own error.
    """
    counts = sorted(family)
    groups = [[family[n][seed] for seed in sorted(family[n])] for n in counts]
    terms = np.array([[1.0, 1.0 / n, float(n)] for n in counts])

    def ahead_s(*times: Sequence[float]) -> float:
        means = np.array([sum(group) / len(group) for group in times])
        # Relative errors count, for a large n has a small time.
        factors, _ = nnls(terms / means[:, None], np.ones(len(means)))
        return float(factors @ [1.0, 1.0 / workers, float(workers)])

    return bootstrap(ahead_s, *groups)


def _simulation(
    settings: Settings, records: Sequence[Record]
) -> Callable[[Settings, int], float | None] | None:
    """The engine without gradients, for records in virtual time whose every cost is known.

    How large the model is follows from what a gradient weighed.
    """
    for record in records:
        measured = record.measured
        gradients = sum(measured.gradients.get(name, 0) for name in ("used", "refused"))
        pushed = measured.bytes.get("pushed", 0)
        if record.settings == settings and measured.clock == "virtual" and gradients and pushed:
            return simulated(max(1, round(pushed / gradients / _FLOAT_BYTES)))
    return None


def simulated(parameters: int) -> Callable[[Settings, int], float | None]:
    """Seconds per update of the simulated engine without gradients, as ``distvi simulate`` has it.

    Args:
        parameters: Of the model.

    Returns:
        A function of settings that have ``cluster`` and ``batch_size``, and workers; None of it
        where the settings name an unknown cluster, or rules or an exchange without servers, which
        change what travels.
    """

    def update_s(settings: Settings, workers: int) -> float | None:
        known = {"cluster", "batch_size", "scheme"} <= settings.keys()
        if not known or settings.get("rules") or settings.get("exchange") == "all-reduce":
            return None
        prefix = "scheme_options."
        options: dict[str, Any] = {
            name.removeprefix(prefix): value
            for name, value in settings.items()
            if name.startswith(prefix)
        }
        try:
            scheme = scheme_named(str(settings["scheme"]), workers, options)
            lot = check_liveness(scheme, workers)
            cluster = cluster_named(str(settings["cluster"]))
        except InputError:
            return None
        placement = str(settings.get("placement", "ranges"))
        parts = place(placement, (parameters,), int(settings.get("servers", 1))).bytes
        rules = Rules(scheme, updates=max(1, _GRADIENTS_PER_WORKER * workers // lot))
        timing = time_rules(rules, Cluster(cluster, workers, parts, int(settings["batch_size"])))
        return timing.time_s / timing.updates if timing.updates else None

    return update_s
