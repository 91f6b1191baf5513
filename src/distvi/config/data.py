"""The table ``[data]``."""

from typing import Any, Literal

from pydantic import Field, field_validator

from distvi.system.settings import Settings

MEMORY = "<memory>"
"""The name of data that were given as arrays, or as a data set that was made of them."""


OF_TABLES = (
    "columns",
    "drop",
    "categorical",
    "missing",
    "separator",
    "decimal",
    "encoding",
)
"""Settings of how a CSV or Parquet file is read."""


class DataSettings(Settings):
    """Which examples to learn from, and which of them to test on."""

    dataset: str = Field(description="Name of a data set, or path of a CSV, Parquet or NPZ table.")
    data_dir: str | None = Field(
        default=None, description="Folder that holds, or receives, data files."
    )
    target: tuple[str, ...] | None = Field(
        default=None, description="Target column of a table; may be repeated."
    )
    task: Literal["regression", "classification", "count"] | None = Field(
        default=None, description="What the target is; by default read off its values."
    )
    columns: tuple[str, ...] | None = Field(
        default=None,
        description="Columns of a table that are inputs: a,b,c (default: all but the target).",
    )
    drop: tuple[str, ...] | None = Field(
        default=None, description="Columns of a table that are not: id,name."
    )
    categorical: tuple[str, ...] | None = Field(
        default=None,
        description="Columns of a table that hold categories, though they look like numbers.",
    )
    missing: tuple[str, ...] | None = Field(
        default=None,
        description="Text that stands for a missing value, such as ?; may be repeated.",
    )
    separator: str | None = Field(
        default=None,
        description="Between the cells of a CSV: one character, or tab (default: read off the "
        "file).",
    )
    decimal: Literal[".", ","] | None = Field(
        default=None, description="Decimal mark of a CSV (default: read off the file)."
    )
    encoding: str | None = Field(
        default=None, description="Of the text of a CSV (default: read off the file)."
    )
    test_fraction: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="Share of the rows held out to test, of data without a test part of their own "
        "(default: 0.1).",
    )
    split_seed: int | None = Field(
        default=None, ge=0, description="Seed of that choice of rows (default: 0)."
    )
    test_indices: str | tuple[int, ...] | None = Field(
        default=None, description="Rows held out to test: a JSON file with lists of row numbers."
    )
    split: int | None = Field(
        default=None, ge=0, description="Which list, where that file has several."
    )
    inputs: Literal["auto", "center", "standardize", "pca", "whiten", "unit", "none"] = Field(
        default="auto",
        description="How inputs are put to scale; pca: centred and turned into their principal "
        "axes; auto: pca for images, standardize for tables.",
    )

    @field_validator("target", "columns", "drop", "categorical", "missing", mode="before")
    @classmethod
    def _one_or_several(cls, names: Any) -> Any:
        return (names,) if isinstance(names, str) else names
