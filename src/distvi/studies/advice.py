"""What to choose: a study's best setting, how sure that is, and what larger ones would cost."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from distvi.errors import InputError
from distvi.evaluation.uncertainty import Interval, difference, mean
from distvi.runs.records import Record, Settings, by_setting, varied
from distvi.studies.outcomes import time_to
from distvi.studies.scaling import Prediction, predictions

_LEVEL = 0.05
UpdateTime = Callable[[Settings, int], float | None]
"""From a setting and a number of workers to seconds per update; None where it does not know."""


@dataclass(frozen=True)
class Choice:
    """A setting and what was measured of it.

    Attributes:
        settings: All of them.
        by_seed: The number that decides: seconds to the target, or the error within the budget.
        time_s: Mean length of its trainings, or of the part within the budget.
        core_hours: ``time_s`` on all workers and servers.
    """

    settings: Settings
    by_seed: dict[int, float]
    time_s: float
    core_hours: float

    @property
    def interval(self) -> Interval:
        """Mean of what decides, with its t interval."""
        return mean(list(self.by_seed.values()))


@dataclass(frozen=True)
class Advice:
    """The answer.

    Attributes:
        metric: The error: ``error_rate`` or ``rmse``.
        goal: In words.
        is_time: Whether choices are compared by time; else by error.
        best: None where no setting reaches the goal.
        runner_up: None where no other does.
        p_value: Two-sided, of no difference between the two; 1 where a side has one seed.
        predictions: Of more workers than were measured.
        shown: Settings that differ in the study, which tell choices apart.
        notes: What else is to be known.
    """

    metric: str
    goal: str
    is_time: bool
    best: Choice | None = None
    runner_up: Choice | None = None
    p_value: float = 1.0
    predictions: tuple[Prediction, ...] = ()
    shown: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def differs(self) -> bool:
        """Whether best and runner-up differ beyond the noise over seeds, at 5 %."""
        return self.p_value <= _LEVEL

    def lines(self) -> list[str]:
        """For people."""
        if self.best is None:
            return [f"With all its seeds, no setting reaches {self.goal}.", *self.notes]
        lines = [f"Best for {self.goal}: {self._words(self.best)}."]
        if self.runner_up is None:
            lines.append("No other setting reaches it.")
        else:
            lines.append(f"Runner-up: {self._words(self.runner_up)}.")
            verdict = "differ beyond" if self.differs else "do not differ beyond"
            lines.append(f"The two {verdict} the noise over seeds (p = {self.p_value:.2g}).")
        lines += [each.words() for each in self.predictions]
        if self.predictions:
            lines.append(
                f"These extrapolate time beyond the measured sizes; the {self.metric} there is "
                "unknown and is not extrapolated: more workers may raise it."
            )
        return [*lines, *self.notes]

    def _words(self, choice: Choice) -> str:
        names = [name for name in self.shown if name in choice.settings]
        which = ", ".join(f"{name}={choice.settings[name]}" for name in names) or "the only setting"
        estimate, low, high = choice.interval
        unit = " s" if self.is_time else ""
        spread = "one seed"
        if math.isfinite(low):
            spread = f"95 % interval {low:.4g} to {high:.4g}, {len(choice.by_seed)} seeds"
        what = "" if self.is_time else f"{self.metric} "
        return f"{which}: {what}{estimate:.4g}{unit} ({spread}), {choice.core_hours:.3g} core-hours"


def machines(settings: Settings) -> int:
    """Workers and servers of a setting; 1 of each where it does not say."""
    servers = settings.get("servers", 0 if settings.get("engine") == "mesh" else 1)
    return int(settings.get("workers", 1)) + int(servers)


def advise(
    records: Sequence[Record],
    *,
    target_error: float | None = None,
    budget_s: float | None = None,
    budget_core_hours: float | None = None,
    predict: UpdateTime | None = None,
) -> Advice:
    """The best of the settings that were run.

    With a target, the setting with the least mean time to it, of those whose seeds all reach it
    within the budget; else the one with the least mean error that its tests showed last within the
    budget. A setting counts if all its seeds are done. The best of many looks better than it is, as
    its luck chose it, too.

    Args:
        records: Of a study.
        target_error: Of ``error_rate``, or of ``rmse`` where records have no error rate.
        budget_s: Time for one training, on the engine's clock.
        budget_core_hours: The same in hours times workers and servers.
        predict: Seconds per update of more workers; None: as `distvi.studies.scaling` does.

    Raises:
        InputError: no record is done, or a target or a budget is not above 0.
    """
    for limit in (target_error, budget_s, budget_core_hours):
        if limit is not None and not limit > 0:
            raise InputError(f"a target or budget of {limit:g} cannot be kept; it must be above 0")
    done = [record for record in records if record.status == "done"]
    metrics = [m for m in ("error_rate", "rmse") if any(m in r.measured.test for r in done)]
    if not metrics:
        raise InputError("no training of the study is done with an error; run it first")
    metric, is_time = metrics[0], target_error is not None
    choices = []
    for group in by_setting(records).values():
        limit_s = _limit_s(group[0].settings, budget_s, budget_core_hours)
        choice = _choice(group, metric, target_error, limit_s)
        if choice is not None:
            choices.append(choice)
    choices.sort(key=lambda choice: choice.interval.estimate)
    goal = _goal(metric, target_error, budget_s, budget_core_hours)
    advice = Advice(metric, goal, is_time, shown=tuple(varied(records)))
    if not choices:
        return replace(advice, notes=(_closest(done, metric),))
    best, runner_up = choices[0], choices[1] if len(choices) > 1 else None
    ahead, notes = predictions(best.settings, done, predict)
    return replace(
        advice,
        best=best,
        runner_up=runner_up,
        p_value=1.0 if runner_up is None else _p_value(best, runner_up, is_time),
        predictions=ahead,
        notes=notes,
    )


def _limit_s(settings: Settings, budget_s: float | None, core_hours: float | None) -> float:
    by_cores = math.inf if core_hours is None else core_hours * 3600 / machines(settings)
    return min(by_cores, math.inf if budget_s is None else budget_s)


def _choice(
    group: Sequence[Record], metric: str, target: float | None, limit_s: float
) -> Choice | None:
    """A setting, if all its seeds are done and reach the goal."""
    if any(record.status != "done" for record in group):
        return None
    if target is None:
        seen = {record.seed: _last_within(record, metric, limit_s) for record in group}
        by_seed = {seed: error for seed, (_, error) in seen.items()}
        times = [time_s for time_s, _ in seen.values()]
    else:
        by_seed = {record.seed: time_to(record, metric, target) for record in group}
        times = list(by_seed.values())
        if max(times) > limit_s:
            return None
    if not all(math.isfinite(value) for value in by_seed.values()):
        return None
    time_s, settings = sum(times) / len(times), group[0].settings
    return Choice(settings, by_seed, time_s, time_s * machines(settings) / 3600)


def _last_within(record: Record, metric: str, limit_s: float) -> tuple[float, float]:
    """Time and error of the last test within a budget; infinite where there is none."""
    measured = record.measured
    if measured.time_s <= limit_s:
        return measured.time_s, measured.test.get(metric, math.inf)
    columns = (measured.curve.get("time_s", []), measured.curve.get(f"test_{metric}", []))
    rows = [
        (time_s, error)
        for time_s, error in zip(*columns, strict=False)
        if time_s is not None and error is not None and time_s <= limit_s
    ]
    return rows[-1] if rows else (math.inf, math.inf)


def _p_value(best: Choice, other: Choice, is_time: bool) -> float:
    """Two-sided; of times by their logarithms, whose spread does not grow with them."""
    sides = [best.by_seed, other.by_seed]
    if is_time and all(value > 0 for side in sides for value in side.values()):
        sides = [{seed: math.log(value) for seed, value in side.items()} for side in sides]
    found = difference(*sides)
    return min(1.0, 2 * min(found.p_above(), found.p_below()))


def _goal(
    metric: str, target: float | None, budget_s: float | None, core_hours: float | None
) -> str:
    within = [] if budget_s is None else [f"{budget_s:g} s"]
    within += [] if core_hours is None else [f"{core_hours:g} core-hours"]
    what = f"the lowest {metric}" if target is None else f"{metric} {target:g} in the least time"
    return f"{what} within {' and '.join(within)}" if within else what


def _closest(done: Sequence[Record], metric: str) -> str:
    lowest = min(r.measured.test.get(metric, math.inf) for r in done)
    return f"The lowest {metric} of any training is {lowest:.4g}."
