"""Data sets: reading them, splitting them, putting them to scale, and drawing batches."""

from distvi.data.arrays import from_arrays
from distvi.data.dataset import Dataset, Examples, Schema, Task
from distvi.data.deformation import augment
from distvi.data.described import Described, describe
from distvi.data.facts import facts, sentences
from distvi.data.loading import load, load_examples, load_inputs
from distvi.data.registry import available, data_folder, fetch, info
from distvi.data.sampling import batch_indices, default_block, share_indices
from distvi.data.splits import (
    DEFAULT_SPLIT_SEED,
    DEFAULT_TEST_FRACTION,
    read_test_indices,
)
from distvi.data.standardization import Standardization
from distvi.data.table_files import TableOptions, is_table

__all__ = [
    "DEFAULT_SPLIT_SEED",
    "DEFAULT_TEST_FRACTION",
    "Dataset",
    "Described",
    "Examples",
    "Schema",
    "Standardization",
    "TableOptions",
    "Task",
    "augment",
    "available",
    "batch_indices",
    "data_folder",
    "default_block",
    "describe",
    "facts",
    "fetch",
    "from_arrays",
    "info",
    "is_table",
    "load",
    "load_examples",
    "load_inputs",
    "read_test_indices",
    "sentences",
    "share_indices",
]
