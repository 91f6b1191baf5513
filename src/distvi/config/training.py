"""The table ``[training]``."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from distvi.system.settings import Settings, toml_value

LENGTHS = ("epochs", "updates")
"""The two units of a run's length."""


class TrainingSettings(Settings):
    """How the parameters are optimized, and what is recorded on the way."""

    epochs: float | None = Field(default=None, gt=0, description="Passes over the training set.")
    updates: int | None = Field(
        default=None,
        gt=0,
        description="Updates, instead of epochs; by default those of 4,000 gradients.",
    )
    batch_size: int | None = Field(
        default=None,
        gt=0,
        description="Examples per gradient; mesh: per update (default: 200, or all of fewer).",
    )
    learning_rate: float = Field(default=0.01, gt=0, description="Peak rate.")
    optimizer: str = Field(
        default="auto",
        description="Any optimizer of optax, by name; auto: adam, without momentum and with a "
        "shorter memory where gradients are stale; or module:function, called with the rates.",
    )
    optimizer_options: dict[str, int | float | bool | str | None] = Field(
        default={}, description="Further arguments of the optimizer: --optimizer-options.b1 0.8"
    )
    schedule: Literal["constant", "cosine"] = Field(
        default="cosine", description="The learning rate after the warm-up."
    )
    warmup_updates: int = Field(
        default=0, ge=0, description="Updates of linear rise to the peak rate."
    )
    final_rate: float = Field(
        default=0.0, ge=0, le=1, description="Where the cosine ends, as a share of the peak rate."
    )
    seed: int = Field(default=0, ge=0, lt=2**31, description="Seed of every draw of the run.")
    shuffle_block: int | None = Field(
        default=None,
        gt=0,
        lt=2**63,
        description="Neighbouring rows that are shuffled as one (default: 1; of inputs above "
        "1 GiB as many as fill 64 KiB).",
    )
    evaluate_every: int | None = Field(
        default=None,
        ge=0,
        description="Updates between tests (0: at the end only; default: 10 tests at most).",
    )
    evaluate_samples: int | None = Field(
        default=None,
        gt=0,
        description="Monte Carlo samples of tests but the last (default: 10 at most).",
    )
    evaluation_share: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Of wall-clock time, what tests but the last may take, or they are left out "
        "(1: none is; default: 0.1, or 1 where evaluate-every is given).",
    )
    report_every: int | None = Field(
        default=None,
        gt=0,
        description="Updates between rows of the metrics table (default: 200 rows).",
    )
    checkpoint_every: int | None = Field(
        default=None,
        ge=0,
        description="Updates between checkpoints (0: first and last; default: 10).",
    )
    keep_checkpoints: int = Field(default=2, gt=0, description="Newest checkpoints that are kept.")

    @field_validator("optimizer_options", mode="before")
    @classmethod
    def _of_the_command_line(cls, options: Any) -> Any:
        """It spells names with dashes, and has texts alone: it does not know an option's type."""
        if not isinstance(options, Mapping):
            return options
        return {
            str(name).replace("-", "_"): toml_value(value) if isinstance(value, str) else value
            for name, value in options.items()
        }

    @model_validator(mode="after")
    def _one_length(self) -> "TrainingSettings":
        if self.epochs is not None and self.updates is not None:
            raise ValueError("epochs and updates are both given; choose one")
        return self
