"""The table ``[algorithm]``: how workers and updates are kept in step, and what they do."""

from typing import Any

from pydantic import Field, StrictFloat, StrictInt, field_validator

from distvi.aggregation.registry import SCHEMES
from distvi.algorithms.registry import RULES
from distvi.system.settings import Settings


class AlgorithmSettings(Settings):
    """What workers make of batches and servers of contributions, in any engine."""

    scheme: str = Field(
        default="sync",
        description=f"How gradients are collected: {', '.join(SCHEMES)}; or module:function.",
    )
    scheme_options: dict[str, StrictInt | StrictFloat | str] = Field(
        default={},
        description="The scheme's own options, see --help-schemes: --scheme-options.n 96.",
    )

    rules: tuple[str, ...] = Field(
        default=(),
        description=f"What else workers and servers do, in this order: {', '.join(RULES)}; or "
        "module:Settings.",
    )
    rule_options: dict[str, int | float | bool | str] = Field(
        default={},
        description="The rules' own options, see --help-rules: --rule-options.steps 20.",
    )

    @field_validator("rules", mode="before")
    @classmethod
    def _one_or_several(cls, rules: Any) -> Any:
        return (rules,) if isinstance(rules, str) else rules
