"""Text tables: in which dialect one is written, and reading its columns with Arrow."""

import codecs
import csv
import io
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pacsv

from distvi.errors import InputError

SUFFIXES = (".csv", ".tsv")
COMPRESSED = (".gz", ".bz2", ".zst")

_BLOCK_BYTES = 16 << 20
"""Arrow's 1 MiB would refuse rows of many thousand columns and infer types from few of them."""

_HEAD_BYTES = 1 << 20
_HEAD_ROWS = 200
_SEPARATORS = (",", ";", "\t", "|")
_SPELLED = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";"}
_COMMA_NUMBER = re.compile(r"\s*[+-]?\d+,\d+([eE][+-]?\d+)?\s*")
_POINT_NUMBER = re.compile(r"\s*[+-]?\d*\.\d+([eE][+-]?\d+)?\s*")


@dataclass(frozen=True)
class Dialect:
    """How a text table is written.

    Attributes:
        separator: What stands between cells.
        decimal: The decimal mark: ``"."`` or ``","``.
        encoding: Of the text, as Python calls it.
    """

    separator: str = ","
    decimal: str = "."
    encoding: str = "utf-8"

    @property
    def words(self) -> str:
        """What about it is out of the ordinary; empty: nothing.

        Example:
            >>> Dialect(";", ",").words
            "separator ';', decimal comma"
        """
        words = [f"separator {self.separator!r}"] if self.separator != "," else []
        words += ["decimal comma"] if self.decimal == "," else []
        words += [f"encoding {self.encoding}"] if self.encoding != "utf-8" else []
        return ", ".join(words)


def dialect_of(
    path: Path, separator: str | None, decimal: str | None, encoding: str | None
) -> Dialect:
    """The dialect of a file, read off its first rows where it is not given.

    Args:
        path: The file, perhaps compressed.
        separator: What stands between cells, ``"tab"`` among others; None: whichever of comma,
            semicolon, tab and bar gives all rows as many cells as the header has.
        decimal: The decimal mark; None: a comma if the numbers have one, and no other mark.
        encoding: None: UTF-8, or UTF-16 or Windows-1252 if the bytes are no UTF-8.

    Raises:
        InputError: no text, or an unknown encoding.
    """
    with pa.input_stream(str(path), compression="detect") as stream:
        head = stream.read(_HEAD_BYTES)
    if encoding is None:
        encoding = _encoding_of(head, path)
    try:
        text = head.decode("utf-8-sig" if encoding == "utf-8" else encoding, errors="replace")
    except LookupError:
        raise InputError(
            f"unknown encoding {encoding!r}; try utf-8, utf-16, latin-1 or cp1252"
        ) from None
    if len(head) == _HEAD_BYTES:
        text = text[: text.rfind("\n") + 1]  # the last row may be cut
    if separator is None:
        separator = _separator_of(text)
    separator = _SPELLED.get(separator, separator)
    if len(separator) != 1:
        raise InputError(f"--separator {separator!r}: must be one character, such as ';' or tab")
    if decimal is None:
        decimal = _decimal_of(_rows(text, separator)[1:]) if separator != "," else "."
    return Dialect(separator, decimal, encoding)


def csv_types(path: Path, dialect: Dialect, missing: Collection[str]) -> pa.Schema:
    """The columns' names and the types that the first rows have; see `read_csv`."""
    with pacsv.open_csv(
        path,
        read_options=_read_options(dialect),
        parse_options=pacsv.ParseOptions(delimiter=dialect.separator),
        convert_options=pacsv.ConvertOptions(
            decimal_point=dialect.decimal, null_values=["", *missing]
        ),
    ) as reader:
        return reader.schema


def read_csv(
    path: Path, dialect: Dialect, wanted: Mapping[str, pa.DataType], missing: Collection[str]
) -> pa.Table:
    """Some columns, each as the type asked for; all as text if one cannot be had so.

    Args:
        path: The file.
        dialect: Of it.
        wanted: Types by the names that the file has.
        missing: What stands for a missing number; text stays as it is.
    """
    try:
        return _read_as(path, dialect, wanted, missing)
    except pa.ArrowInvalid as error:
        if "conversion error" not in str(error):
            raise
    # Arrow says what it could not convert but not in which row: as text that can be found out.
    return _read_as(path, dialect, dict.fromkeys(wanted, pa.string()), missing)


def _read_as(
    path: Path, dialect: Dialect, types: Mapping[str, pa.DataType], missing: Collection[str]
) -> pa.Table:
    return pacsv.read_csv(
        path,
        read_options=_read_options(dialect),
        parse_options=pacsv.ParseOptions(delimiter=dialect.separator),
        convert_options=pacsv.ConvertOptions(
            column_types=dict(types),
            include_columns=list(types),
            decimal_point=dialect.decimal,
            null_values=["", *missing],
        ),
    )


def _read_options(dialect: Dialect) -> pacsv.ReadOptions:
    return pacsv.ReadOptions(block_size=_BLOCK_BYTES, encoding=dialect.encoding)


def _encoding_of(head: bytes, path: Path) -> str:
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if b"\0" in head:
        # Every other byte of UTF-16 is zero, but for letters from outside of Latin-1.
        for start, name in ((1, "utf-16-le"), (0, "utf-16-be")):
            if head[start::2].count(0) > len(head) // 4 > head[1 - start :: 2].count(0):
                return name
        raise InputError(f"{path}: no text: it holds zero bytes")
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head, final=len(head) < _HEAD_BYTES)
    except UnicodeDecodeError:
        try:
            head.decode("cp1252")
        except UnicodeDecodeError:
            return "latin-1"
        return "cp1252"
    return "utf-8"


def _separator_of(text: str) -> str:
    """That which gives all rows as many cells, or else the one that the header has most of."""
    widths = {each: [len(row) for row in _rows(text, each)] for each in _SEPARATORS}
    headers = {each: found[0] if found else 0 for each, found in widths.items()}
    even = {each: headers[each] for each, found in widths.items() if len(set(found)) == 1}
    best = max(even, key=even.__getitem__, default=",")
    return best if even.get(best, 0) > 1 else max(headers, key=headers.__getitem__)


def _rows(text: str, separator: str) -> list[list[str]]:
    """The first rows; none if they cannot be taken apart so."""
    rows: list[list[str]] = []
    try:
        for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator):
            if row:
                rows.append(row)
            if len(rows) == _HEAD_ROWS:
                break
    except csv.Error:
        return []
    return rows


def _decimal_of(rows: Sequence[Sequence[str]]) -> str:
    cells = [cell for row in rows for cell in row]
    has_commas = any(map(_COMMA_NUMBER.fullmatch, cells))
    return "," if has_commas and not any(map(_POINT_NUMBER.fullmatch, cells)) else "."
