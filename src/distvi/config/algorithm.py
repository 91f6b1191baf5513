"""The table ``[algorithm]``: how workers and updates are kept in step, and what they do."""

from typing import Any, Literal

from pydantic import Field, StrictFloat, StrictInt, field_validator, model_validator

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

    wire_dtype: Literal["float32", "bfloat16", "float16"] = Field(
        default="float32",
        exclude=True,
        description="Type in which payloads travel; one of 16 bits is short for --rules cast "
        "--rule-options.wire-dtype, and comes after all other rules.",
    )

    @field_validator("rules", mode="before")
    @classmethod
    def _one_or_several(cls, rules: Any) -> Any:
        return (rules,) if isinstance(rules, str) else rules

    @model_validator(mode="after")
    def _spell_out(self) -> "AlgorithmSettings":
        """Let what is short stand for what it is short for: `run.toml` has the rule."""
        if self.wire_dtype == "float32":
            return self
        if "cast" in self.rules:
            raise ValueError("wire_dtype is short for rule 'cast', which is named, too: give one")
        options = self.rule_options | {"wire_dtype": self.wire_dtype}
        rules = (*self.rules, "cast")
        update = {"rules": rules, "rule_options": options, "wire_dtype": "float32"}
        return self.model_copy(update=update)
