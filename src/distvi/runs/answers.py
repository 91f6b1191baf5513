"""What a study says of a claim that it was made to test."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class ClaimAnswer:
    """A claim, what the records say of it, and how sure that is.

    Attributes:
        name: Of the claim in the spec.
        text: The claim in a sentence.
        verdict: What the records say.
        estimate: Of the effect, in `unit`.
        low: Lower end of the estimate's confidence interval.
        high: Upper end.
        unit: Of `estimate`, `low` and `high`: ``"s"``, ``"%"``, ``"x"``, ...
        p_value: Of the claim's test by itself.
        p_adjusted: After the correction for all claims of the study.
        cells: Identifiers of the cells that the answer rests on.
        note: What a reader should know besides.
    """

    name: str
    text: str
    verdict: Literal["holds", "does not hold", "not decided"]
    estimate: float
    low: float
    high: float
    unit: str
    p_value: float
    p_adjusted: float
    cells: tuple[str, ...]
    note: str = ""
