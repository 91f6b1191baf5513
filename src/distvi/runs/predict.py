"""What a trained run says of new inputs: metrics where the targets are known, tables elsewhere."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from distvi import data
from distvi.config.data import MEMORY, DataSettings
from distvi.data import Dataset, Examples, Task
from distvi.data.arrays import checked, inputs_of, targets_of
from distvi.errors import InputError, InputWarning
from distvi.evaluation.metrics import QUANTILES
from distvi.evaluation.predictor import Evaluation, Predictor
from distvi.models import Model
from distvi.runs import checkpoints
from distvi.runs.folder import Run
from distvi.runs.own import NOTHING, Own, as_data, dataset_of
from distvi.runs.parts import (
    check_same_data,
    load_dataset,
    locate,
    make_predictor,
    model_of,
    own_config,
    run_key,
    table_options,
)
from distvi.system.precision import in_float32

Writer = Callable[[Any, pa.Schema], Any]
_COMPARED_BYTES = 1 << 30
_ROWS_LOOKED_AT = 1000

WRITERS: dict[str, Writer] = {".parquet": pq.ParquetWriter, ".csv": pacsv.CSVWriter}


class RowsToTest(NamedTuple):
    """Examples to test on, and which ones they are in words."""

    examples: Examples
    words: str


def rows_to_test(run: Run, dataset: Any = None, moved_to: Path | None = None) -> RowsToTest:
    """The rows that a run is evaluated on.

    Args:
        run: The run.
        dataset: Another data set, whose test part is used, or a table of the run's columns, all
            of whose rows are; None, or the run's own data: the part that the run held out. Arrays
            ``(x, y)`` are as a table, and a `Dataset` as a data set.
        moved_to: Where the run's own data are now.

    Raises:
        InputError: other columns, no targets, or the run's own data have changed since.

    Warns:
        InputWarning: some of the rows are among those that the run learnt from.
    """
    own = run.config.data
    if dataset is None or _is_own(own, dataset):
        return _held_out(run, load_dataset(own_config(run, moved_to).data))
    if moved_to is not None:
        raise InputError(
            f"--data says where the run's own data are, but {dataset} is to be tested on; leave "
            "one of them out"
        )
    if not isinstance(dataset, str):
        found = _in_memory(run, as_data(dataset))
    elif dataset in {entry.name for entry in data.available()} or Path(dataset).is_dir():
        found = _test_part(run, data.load(dataset, data_dir=own.data_dir))
    else:
        examples = data.load_examples(dataset, run.schema, table_options(own))
        found = RowsToTest(examples, f"all {len(examples):,} rows of {dataset}")
    _warn_of_known(found.examples, run)
    _warn_of_scale(found.examples.x, run)
    return found


class Tested(NamedTuple):
    """Metrics, and which rows were tested on in words."""

    metrics: dict[str, float]
    words: str


@in_float32()
def evaluate(
    run: Run, dataset: Any = None, moved_to: Path | None = None, *, own: Own = NOTHING
) -> Tested:
    """Metrics of a run's newest checkpoint.

    Args:
        run: The run.
        dataset: What to test on; see `rows_to_test`.
        moved_to: Where the run's own data are now.
        own: What the run was given as objects and cannot be made again.

    Raises:
        InputError: a damaged checkpoint, the model has to be given again or predicts nothing, or
            what `rows_to_test` says.
    """
    predictor, params = load_predictor(run, own)
    rows = rows_to_test(run, dataset, moved_to)
    found = Evaluation(predictor, params, rows.examples, run.schema.targets[0])
    return Tested(found.metrics, rows.words)


@in_float32()
def predict(run: Run, inputs: Any, out: Path, *, own: Own = NOTHING) -> int:
    """Write predictions for a table of inputs, with their uncertainty, in original units.

    For regression and counts, for each target: mean, standard deviation (noise included) and
    quantiles. For classification: the likeliest class and the probability of every class.

    Args:
        run: The run.
        inputs: A table with the run's input columns, see `distvi.data.load_inputs`; or an array.
        out: A ``.parquet`` or ``.csv`` file.
        own: What the run was given as objects and cannot be made again.

    Returns:
        The number of rows.

    Raises:
        InputError: bad inputs, a damaged checkpoint, or a file that cannot be written.

    Warns:
        InputWarning: inputs of another scale than the model learnt from.
    """
    if out.suffix not in WRITERS:
        raise InputError(f"--out {out}: the name must end in {' or '.join(WRITERS)}")
    if out.is_dir():
        raise InputError(f"--out {out} is a folder; name a file in it")
    if isinstance(inputs, str | PathLike):
        table = Path(inputs)
        if out.resolve() == table.resolve():
            raise InputError(f"--out {out} is the table of inputs; choose another file")
        x = data.load_inputs(table, run.schema, table_options(run.config.data))
    else:
        x = inputs_of(inputs, run.schema)
    _warn_of_scale(x, run)
    predictor, params = load_predictor(run, own)
    blanks = np.zeros(len(x), np.int32)
    if run.schema.task is not Task.CLASSIFICATION:
        blanks = np.zeros((len(x), len(run.schema.targets)), np.float32)
    columns = _table_schema(run)
    with _new_file(out) as part, WRITERS[out.suffix](part, columns) as writer:
        for _, chunk in predictor.chunks(params, Examples(x, blanks)):
            writer.write_table(_table(run, chunk, columns))
    return len(x)


def load_predictor(run: Run, own: Own = NOTHING) -> tuple[Predictor, Any]:
    """A run's predictions and the parameters of its newest checkpoint.

    Raises:
        InputError: there is no checkpoint, or it is damaged; or the model cannot predict.
    """
    model = model_of(run.config, run.schema, own.model)
    if not isinstance(model, Model):
        raise InputError(f"the model of {run.path} has no predict(params, x, key, samples)")
    checkpoint = run.newest_checkpoint()
    like = jax.eval_shape(model.init, run_key(run.config))
    params = checkpoint.restore(checkpoints.PARAMS, like)
    predictor = make_predictor(run.config, model, run.standardization, run.schema.task)
    return predictor, params


def _is_own(own: DataSettings, dataset: Any) -> bool:
    """Whether a name or path is that of the run's own data."""
    is_named = isinstance(dataset, str)
    return is_named and locate(own.model_copy(update={"dataset": dataset})).dataset == own.dataset


def _held_out(run: Run, found: Dataset) -> RowsToTest:
    check_same_data(found, run)
    rows = len(found.train) + len(found.test)
    return RowsToTest(found.test, f"the {len(found.test):,} of {rows:,} rows that were held out")


def _in_memory(run: Run, given: Any) -> RowsToTest:
    """What to evaluate on of data in memory: the test part of the run's own, or of a data set."""
    if isinstance(given, Dataset):
        return _test_part(run, checked(given))
    if run.config.data.dataset == MEMORY:
        with suppress(InputError):  # too few rows to be split again, say: they are others
            return _held_out(run, dataset_of(given, run.config.data))
    if len(given) != 2:
        raise InputError("give the rows to evaluate on as (x, y)")
    examples = Examples(inputs_of(given[0], run.schema), targets_of(given[1], run.schema))
    return RowsToTest(examples, f"all {len(examples):,} rows given")


def _test_part(run: Run, found: Dataset) -> RowsToTest:
    if not run.schema.has_columns_of(found.schema):
        raise InputError(
            f"{found.name} has other columns than {run.schema.name}, which the run learnt"
        )
    return RowsToTest(found.test, f"the test part of {found.name}: {len(found.test):,} rows")


def _warn_of_known(examples: Examples, run: Run) -> None:
    """Warn if a model is to be tested on what it learnt from, where that can be found out."""
    try:
        ours = load_dataset(run.config.data)
        check_same_data(ours, run)
    except InputError:
        return
    if max(ours.train.x.nbytes, examples.x.nbytes) > _COMPARED_BYTES:
        return
    known = set(_row_bytes(ours.train))
    count = sum(row in known for row in _row_bytes(examples))
    if count:
        warnings.warn(
            f"{count:,} of {len(examples):,} rows to test on are among those that {run.path} "
            "learnt from: the metrics will look better than the model is",
            InputWarning,
            stacklevel=3,
        )


def _warn_of_scale(x: np.ndarray, run: Run) -> None:
    """Warn of images in [0, 1] where the model learnt from bytes."""
    some = x[:_ROWS_LOOKED_AT]
    is_small = x.dtype != np.uint8 and np.abs(some).max() <= 1
    if run.schema.is_bytes and is_small and (some != np.floor(some)).any():
        warnings.warn(
            f"the inputs lie in [{some.min():g}, {some.max():g}], but {run.path} learnt from whole "
            "numbers, as images have them: give these as they were then, perhaps multiplied by 255",
            InputWarning,
            stacklevel=3,
        )


def _row_bytes(examples: Examples) -> Iterator[bytes]:
    """Each row, targets included, as something to compare."""
    start = 0
    for block in examples.blocks():
        targets = examples.y[start : start + len(block)].reshape(len(block), -1)
        rows = np.concatenate([block, targets], axis=1, dtype=np.float32, casting="unsafe")
        yield from (row.tobytes() for row in rows)
        start += len(block)


def _table_schema(run: Run) -> pa.Schema:
    schema = run.schema
    if schema.task is Task.CLASSIFICATION:
        fields = [("predicted", pa.string())]
        return pa.schema([*fields, *((f"p_{name}", pa.float32()) for name in schema.classes)])
    kinds = ["mean", "sd", *(f"q{100 * q:g}" for q in sorted(QUANTILES))]
    names = [f"{target}_{kind}" for target in schema.targets for kind in kinds]
    return pa.schema([(name, pa.float32()) for name in names])


def _table(run: Run, chunk: dict[str, np.ndarray], columns: pa.Schema) -> pa.Table:
    if run.schema.task is Task.CLASSIFICATION:
        probabilities = chunk["probabilities"]
        predicted = np.array(run.schema.classes, dtype=object)[probabilities.argmax(1)]
        return pa.table([pa.array(predicted, pa.string()), *probabilities.T.copy()], schema=columns)
    standardization = run.standardization
    mean = standardization.restore_y(chunk["mean"])
    sd = np.sqrt(chunk["variance"]) * standardization.y_scale
    quantiles = standardization.restore_y(chunk["quantiles"])[:, np.argsort(QUANTILES)]
    by_kind = np.concatenate([mean[:, None], sd[:, None], quantiles], axis=1)
    by_target = np.moveaxis(by_kind, 2, 1).reshape(len(mean), -1)
    return pa.table(list(by_target.astype(np.float32).T.copy()), schema=columns)


@contextmanager
def _new_file(out: Path) -> Iterator[str]:
    """A file that gets its name when it is complete."""
    part = out.with_name(f".{out.name}.part")
    try:
        part.touch()
    except OSError as error:
        raise InputError(f"cannot write {out}: {error.strerror}") from error
    try:
        yield str(part)
        part.replace(out)
    finally:
        part.unlink(missing_ok=True)
