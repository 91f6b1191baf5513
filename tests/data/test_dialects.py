"""Text tables as other programs write them: the same rows, whatever stands between the cells."""

import bz2
import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from distvi.data import Dataset, TableOptions, Task, load, load_inputs
from distvi.data.csv_files import Dialect, dialect_of
from distvi.errors import InputError

PLAIN = "größe,b,y\n1.5,2,3.25\n-0.5,4,6\n5,6,1e-3\n"
EXPECTED = np.array([[1.5, 2], [-0.5, 4], [5, 6]], np.float32)


def german(separator: str) -> str:
    return PLAIN.replace(",", separator).replace(".", ",")


WRITTEN = {
    "t.csv": PLAIN.encode(),
    "bom.csv": PLAIN.encode("utf-8-sig"),
    "semicolon.csv": PLAIN.replace(",", ";").encode(),
    "decimal comma.csv": german(";").encode(),
    "tab.tsv": PLAIN.replace(",", "\t").encode(),
    "tab.csv": german("\t").encode(),
    "bar.csv": PLAIN.replace(",", "|").encode(),
    "latin-1.csv": PLAIN.encode("latin-1"),
    "utf-16.csv": german(";").encode("utf-16"),
    "utf-16 without mark.csv": PLAIN.encode("utf-16-le"),
    "windows.csv": PLAIN.replace("\n", "\r\n").encode("cp1252"),
    "t.csv.gz": gzip.compress(PLAIN.encode()),
    "t.tsv.bz2": bz2.compress(german("\t").encode("utf-16")),
    "spaces.csv": PLAIN.replace(",", ", ").encode(),
    "quoted.csv": PLAIN.replace("größe,b", '"größe","b"').encode(),
}


def read(path: Path, content: bytes, **options: Any) -> Dataset:
    path.write_bytes(content)
    return load(path, target="y", test_indices=[2], options=TableOptions(**options))


@pytest.mark.parametrize("name", WRITTEN)
def test_the_same_rows(tmp_path: Path, name: str):
    data = read(tmp_path / name, WRITTEN[name])
    assert (data.task, data.inputs) == (Task.REGRESSION, ("größe", "b"))
    assert (name in ("t.csv", "bom.csv", "t.csv.gz", "spaces.csv", "quoted.csv")) == (
        not data.notes
    )
    np.testing.assert_array_equal(data.test.x, EXPECTED[2:])
    np.testing.assert_array_equal(data.train.y[:, 0], np.array([3.25, 6], np.float32))
    np.testing.assert_array_equal(load_inputs(tmp_path / name, data.schema), EXPECTED)


def test_commas_in_quoted_cells_separate_nothing(tmp_path: Path):
    rows = "".join(f'{number},"a, b; c",{number % 2}\n' for number in range(5))
    (tmp_path / "t.csv").write_text("a,text,y\n" + rows)
    assert dialect_of(tmp_path / "t.csv", None, None, None) == Dialect()


def test_what_is_said_comes_before_what_is_found(tmp_path: Path):
    content = 'a;b:y\n"1,5";2:3\n"2,5";4:5\n"3,5";4:7\n'.replace(";", ":").encode()
    assert read(tmp_path / "t.csv", content, separator=":", decimal=",").inputs == ("a", "b")
    content = PLAIN.encode("utf-8")
    assert read(tmp_path / "t.csv", content, encoding="latin-1").inputs[0] == "grÃ¶Ã\x9fe"
    data = read(tmp_path / "t.csv", b'a,b,y\n"1,5",2,3\n"2,5",4,5\n"3,5",4,7\n', decimal=",")
    np.testing.assert_array_equal(data.train.x[:, 0], np.array([1.5, 2.5], np.float32))


@pytest.mark.parametrize(
    ("content", "options", "what"),
    [
        (
            b"a:y\n1:2\n3:4\n",
            {},
            "has a single column, 'a:y', read with the separator ','.*say --s",
        ),
        (b"a;b;y\n1;2;3\n4;5;6\n7;8;9\n", {"separator": ","}, "a single column.*such as ';'"),
        (b"a,y\n1,2\n1,2,3\n", {}, r"Expected 2 columns, got 3.*separator ','.*say --separator"),
        (b"a,y\n1,2\n3,4\n", {"separator": ",,"}, "must be one character, such as ';' or tab"),
        (b"a,y\n1,2\n3,4\n", {"encoding": "utf-9"}, "unknown encoding 'utf-9'"),
        (b"a,y\n1,2\n\x00,4\n", {}, "no text: it holds zero bytes"),
        ("ä,y\n1,2\n3,4\n".encode("latin-1"), {"encoding": "utf-8"}, "say .* --encoding latin-1"),
    ],
)
def test_what_cannot_be_read(tmp_path: Path, content: bytes, options: dict[str, str], what: str):
    with pytest.raises(InputError, match=what):
        read(tmp_path / "t.csv", content, **options)


def test_a_damaged_archive(tmp_path: Path):
    with pytest.raises(InputError, match="not a readable table"):
        read(tmp_path / "t.csv.gz", gzip.compress(PLAIN.encode())[:-12])


def test_options_of_tables_elsewhere():
    with pytest.raises(InputError, match="digits: is no CSV or Parquet table, so leave separator"):
        load("digits", options=TableOptions(separator=";"))


def test_the_index_of_a_data_frame_is_no_input(tmp_path: Path):
    data = read(tmp_path / "t.csv", b",a,y\n0,1,2\n1,3,4\n2,5,6\n")
    assert data.inputs == ("a",)
    assert data.notes == ("left out: the index column ''",)
    data = read(tmp_path / "t.csv", b"Unnamed: 0,a,y\n0,1,2\n1,3,4\n2,5,6\n")
    assert data.inputs == ("a",)
    table = pa.table({"a": [1, 2, 3], "y": [1.5, 2, 3], "__index_level_0__": [7, 8, 9]})
    pq.write_table(table, tmp_path / "t.parquet")
    data = load(tmp_path / "t.parquet", target="y", test_indices=[2])
    assert data.inputs == ("a",)
