"""How sure a mean, a difference or a ratio over a few seeds is.

What three to five seeds can give. The bootstrap resamples what was seen, so none of its intervals
of a mean leaves the range of the values; that range covers the median with probability
1 - 2 ** (1 - n): 75 % with three seeds, 94 % with five, whatever is resampled how. Percentile and
BCa intervals hence promise 95 % and give far less. Neither do ranks help: of three against three
the smallest p-value is 1 in 20. What does cover is Student's interval, at the price of a model:
seeds are independent, and their values (of times and ratios the logarithms) about normal. With
three seeds it is wide, 2.5 standard deviations to each side, and rightly so. Everything here is
made of it; `bootstrap` takes only the standard error from resampling, not the quantiles.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import sha256
from itertools import product
from typing import NamedTuple, TypeVar

import numpy as np
from scipy.special import stdtr, stdtrit

LEVEL = 0.95
"""Of intervals, where no other is asked for."""

_RESAMPLES = 4_000
Item = TypeVar("Item")


class Interval(NamedTuple):
    """An estimate and the confidence interval around it."""

    estimate: float
    low: float
    high: float


class Student(NamedTuple):
    """An estimate whose error follows Student's distribution.

    Attributes:
        value: The estimate.
        error: Its standard error; 0 where all seeds agree, and then the value counts as certain.
        freedom: Degrees of freedom; 0 where there is one seed and nothing can be said.
    """

    value: float
    error: float
    freedom: float

    def interval(self, level: float = LEVEL) -> Interval:
        """Two-sided; without end where there is one seed."""
        if self.freedom <= 0:
            return Interval(self.value, -math.inf, math.inf)
        half = float(stdtrit(self.freedom, (1 + level) / 2)) * self.error
        return Interval(self.value, self.value - half, self.value + half)

    def p_above(self, bound: float = 0.0) -> float:
        """One-sided p-value: how easily the truth is at most ``bound``; small: it is above."""
        if self.freedom <= 0:
            return 1.0
        if self.error == 0:
            return 0.0 if self.value > bound else 1.0
        return float(stdtr(self.freedom, (bound - self.value) / self.error))

    def p_below(self, bound: float = 0.0) -> float:
        """One-sided p-value of the opposite: small where the truth is below ``bound``."""
        return Student(-self.value, self.error, self.freedom).p_above(-bound)


def student(values: Sequence[float]) -> Student:
    """The mean of independent values.

    Raises:
        ValueError: there is none.

    Example:
        >>> student([1.0, 2.0, 3.0]).freedom
        2.0

    References:
        Student, "The Probable Error of a Mean", Biometrika 1908.
    """
    if not len(values):
        raise ValueError("no value was given, so there is no mean")
    array = np.asarray(values, np.float64)
    if len(array) == 1 or np.ptp(array) == 0:  # exactly 0, which rounding need not give
        return Student(float(array[0]), 0.0, len(array) - 1.0)
    error = array.std(ddof=1) / math.sqrt(len(array))
    return Student(float(array.mean()), float(error), len(array) - 1.0)


def combine(parts: Iterable[tuple[float, Student]]) -> Student:
    """The weighted sum of independent estimates.

    References:
        Welch, "The Generalization of Student's Problem when Several Different Population Variances
        are Involved", Biometrika 1947; the degrees of freedom are Satterthwaite's (1946).
    """
    parts = list(parts)
    value = sum(weight * part.value for weight, part in parts)
    if any(part.freedom <= 0 for _, part in parts):
        return Student(value, 0.0, 0.0)
    variances = [(weight * part.error) ** 2 for weight, part in parts]
    total = sum(variances)
    if total == 0:
        return Student(value, 0.0, sum(part.freedom for _, part in parts))
    shares = [variance / total for variance in variances]
    spread = sum(s**2 / part.freedom for s, (_, part) in zip(shares, parts, strict=True))
    return Student(value, math.sqrt(total), 1 / spread)


def mean(values: Sequence[float], level: float = LEVEL) -> Interval:
    """The mean and its t interval.

    Example:
        >>> [round(end, 2) for end in mean([1.0, 2.0, 3.0])]
        [2.0, -0.48, 4.48]
    """
    return student(values).interval(level)


def difference(first: Mapping[int, float], second: Mapping[int, float]) -> Student:
    """Mean of ``first`` less that of ``second``; both by the seed's number.

    Paired where both have the same numbers: where the two sides draw apart, as cells of a study do,
    that costs degrees of freedom and nothing else. Otherwise as of independent samples of unequal
    variance (Welch 1947).
    """
    if first.keys() == second.keys():
        return student([first[seed] - second[seed] for seed in sorted(first)])
    one, two = student(list(first.values())), student(list(second.values()))
    return combine([(1.0, one), (-1.0, two)])


def ratio(
    first: Mapping[int, float], second: Mapping[int, float], level: float = LEVEL
) -> Interval:
    """Geometric mean of ``first`` over that of ``second``; a `difference` of logarithms.

    Raises:
        ValueError: a value is not positive.
    """
    if min(*first.values(), *second.values()) <= 0:
        raise ValueError("a ratio needs positive values")
    logs = ({seed: math.log(v) for seed, v in side.items()} for side in (first, second))
    return exponential(difference(*logs).interval(level))


def exponential(interval: Interval) -> Interval:
    """Of a logarithm, back on the scale of its argument."""
    return Interval(*(math.exp(end) if end < 700 else math.inf for end in interval))


def bootstrap(
    statistic: Callable[..., float], *groups: Sequence[Item], level: float = LEVEL
) -> Interval:
    """Interval of any statistic of seeds.

    Its standard error is that over resampled seeds, all resamples where they are few, else 4,000
    that the content alone determines. The error is enlarged by sqrt(n / (n - 1)), because
    resampling divides by n, and multiplied by Student's quantile with n - 1 degrees of freedom,
    where n is of the smallest group. For a mean that is the t interval.

    Args:
        statistic: Of one sequence for each group.
        groups: What is independent of one another; an item is a seed with all that belongs to it,
            so that pairs stay pairs. One item alone gives an interval without end.
        level: Of the interval.

    References:
        Hesterberg, "What Teachers Should Know About the Bootstrap", The American Statistician
        2015, sections 3.2 and 4.5.
    """
    fewest = min(len(group) for group in groups)
    value = float(statistic(*groups))
    if fewest < 2:
        return Interval(value, -math.inf, math.inf)
    seen = [
        statistic(*([group[i] for i in rows] for group, rows in zip(groups, chosen, strict=True)))
        for chosen in _resamples(groups)
    ]
    error = float(np.std(np.asarray(seen, np.float64))) * math.sqrt(fewest / (fewest - 1))
    return Student(value, error, fewest - 1.0).interval(level)


def _resamples(groups: Sequence[Sequence[object]]) -> Iterable[Sequence[Sequence[int]]]:
    """Row numbers for each group: all that there are, or some."""
    sizes = [len(group) for group in groups]
    if math.prod(size**size for size in sizes) <= _RESAMPLES:
        return product(*(list(product(range(size), repeat=size)) for size in sizes))
    digest = sha256(repr(groups).encode()).digest()
    random = np.random.default_rng(int.from_bytes(digest[:8], "big"))
    return [
        [random.integers(size, size=size).tolist() for size in sizes] for _ in range(_RESAMPLES)
    ]


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """P-values corrected so that all rejections at a level are right with that confidence.

    Whatever depends on what; uniformly sharper than Bonferroni's.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        (0.03, 0.06, 0.06)

    References:
        Holm, "A Simple Sequentially Rejective Multiple Test Procedure", Scand. J. Statist. 1979.
    """
    adjusted, largest = [1.0] * len(p_values), 0.0
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p_values[index]))
        adjusted[index] = largest
    return tuple(adjusted)
