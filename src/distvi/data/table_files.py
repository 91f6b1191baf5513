"""CSV and Parquet files: their columns, and one clear line for all that cannot be read."""

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from distvi.data import csv_files
from distvi.data.csv_files import Dialect, csv_types, dialect_of, read_csv
from distvi.data.raw import missing_of
from distvi.errors import InputError

_PARQUET = ".parquet"
_INDEX = re.compile(r"|Unnamed: \d+|__index_level_\d+__")  # as pandas writes one without a name


@dataclass(frozen=True)
class TableOptions:
    """How a table is to be read, where it is not to be read off the file.

    Attributes:
        columns: Those that are to be inputs; None: all that are no targets.
        drop: Those that are not.
        categorical: Those that hold categories, though they may look like numbers.
        missing: What stands for a missing value, besides the usual.
        separator: What stands between the cells of a CSV.
        decimal: Its decimal mark.
        encoding: Of its text.
    """

    columns: tuple[str, ...] | None = None
    drop: tuple[str, ...] | None = None
    categorical: tuple[str, ...] | None = None
    missing: tuple[str, ...] | None = None
    separator: str | None = None
    decimal: str | None = None
    encoding: str | None = None


AS_FOUND = TableOptions()


@dataclass(frozen=True)
class TableFile:
    """A table that has been opened.

    Attributes:
        path: The file.
        columns: Types of the columns, by name, without those that are a pandas index.
        index: Names of those, as they are in the file.
        dialect: Of a text table.
        missing: What cells of a text table are taken as missing values.
        originals: The columns' names as they are in the file, with white space around them.
    """

    path: Path
    columns: Mapping[str, pa.DataType]
    index: tuple[str, ...]
    dialect: Dialect | None
    missing: Collection[str]
    originals: Mapping[str, str]

    @classmethod
    def open(cls, path: Path, options: TableOptions = AS_FOUND) -> "TableFile":
        """Look at the columns of a file.

        Raises:
            InputError: it is absent or cannot be read, or two columns have one name.
        """
        dialect, missing = None, missing_of(options.missing)
        if suffix_of(path) == _PARQUET:
            found = _guarded(lambda: _fields(pq.read_schema(path)), path)
        else:
            asked = options.separator, options.decimal, options.encoding
            dialect = _guarded(lambda: dialect_of(path, *asked), path)
            found = _guarded(lambda: _fields(csv_types(path, dialect, missing)), path, dialect)
        index = tuple(name for name, _ in found if _INDEX.fullmatch(name.strip()))
        fields = [(name, kind) for name, kind in found if name not in index]
        names = [name.strip() for name, _ in fields]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise InputError(f"{path}: two columns are named {twice!r}")
        columns = {name.strip(): kind for name, kind in fields}
        originals = {name.strip(): name for name, _ in fields}
        return cls(path, columns, index, dialect, missing, originals)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the columns."""
        return tuple(self.columns)

    @property
    def notes(self) -> tuple[str, ...]:
        """What about the file a person may not expect."""
        words = self.dialect.words if self.dialect else ""
        notes = [f"read with {words}"] if words else []
        if self.index:
            plural = "s" * (len(self.index) > 1)
            notes.append(f"left out: the index column{plural} {', '.join(map(repr, self.index))}")
        return tuple(notes)

    def refuse_unseparated(self, wanted: Iterable[str]) -> None:
        """Refuse a text table that its separator leaves in one column, if others are wanted.

        Raises:
            InputError: says so.
        """
        if self.dialect is None or len(self.columns) != 1 or set(wanted) <= self.columns.keys():
            return
        raise InputError(
            f"{self.path}: has a single column, {self.names[0]!r}, read with the separator "
            f"{self.dialect.separator!r}; if it is another, such as ';', say --separator ';'"
        )

    def read(self, wanted: Mapping[str, pa.DataType]) -> pa.Table:
        """Columns of the file; of a text table as the types asked for, or all as text.

        Raises:
            InputError: the file cannot be read, or has no rows.
        """
        path, dialect = self.path, self.dialect
        types = {self.originals[name]: kind for name, kind in wanted.items()}
        if dialect is None:
            table = _guarded(lambda: pq.read_table(path, columns=list(types)), path)
        else:
            table = _guarded(lambda: read_csv(path, dialect, types, self.missing), path, dialect)
        table = table.select(list(types)).rename_columns(list(wanted))
        if table.num_rows == 0:
            raise InputError(f"{path}: the table is empty: it has columns but no rows")
        return table


def suffix_of(path: Path) -> str:
    """A file's kind: the end of its name, without that of a compressed file.

    Example:
        >>> suffix_of(Path("t.csv.gz")), suffix_of(Path("t.Parquet"))
        ('.csv', '.parquet')
    """
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    if len(suffixes) == 2 and suffixes[1] in csv_files.COMPRESSED:
        return suffixes[0] if suffixes[0] in csv_files.SUFFIXES else suffixes[1]
    return suffixes[-1] if suffixes else ""


def is_table(path: Path) -> bool:
    """Whether a file's name says that it is a CSV or Parquet table."""
    return suffix_of(path) in (*csv_files.SUFFIXES, _PARQUET)


def _fields(schema: pa.Schema) -> list[tuple[str, pa.DataType]]:
    """Names and types; the names are decoded here, and may be in another encoding."""
    return list(zip(schema.names, schema.types, strict=True))


def _guarded(read: Callable, path: Path, dialect: Dialect | None = None):
    """The result of ``read``, with Arrow's and the system's errors as one clear line."""
    try:
        return read()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())[:300]
        hint = ""
        if dialect is not None and "Expected" in reason:
            hint = (
                f" (read with the separator {dialect.separator!r}; if it is another, such as ';', "
                "say --separator ';')"
            )
        elif isinstance(error, UnicodeDecodeError) or "UTF8" in reason:
            hint = "; say what its text is encoded in, such as --encoding latin-1"
        raise InputError(f"{path}: not a readable table: {reason}{hint}") from None
