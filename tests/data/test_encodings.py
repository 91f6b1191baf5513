"""What becomes of a table's columns: learnt on training rows, kept as JSON, the same everywhere."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import OneHotEncoder

from distvi.data import Dataset, Schema, TableOptions, describe, load, load_examples, load_inputs
from distvi.data.encodings import MOST_CATEGORIES, Date
from distvi.errors import InputError, InputWarning

COLOURS = ("red", "green", "blue", "green", "", "red", "blue", "red", "pink", "green")


def write(folder: Path, file: str = "t.csv", /, **columns: Any) -> Path:
    rows = zip(*columns.values(), strict=True)
    lines = [",".join(columns), *(",".join(map(str, row)) for row in rows)]
    path = folder / file
    path.write_text("\n".join(lines) + "\n")
    return path


def read(path: Path, test: tuple[int, ...] = (9,), **options: Any) -> Dataset:
    return load(path, target="y", test_indices=list(test), options=TableOptions(**options))


def numbers(count: int) -> list[float]:
    return [number + 0.5 for number in range(count)]


def inputs(data: Dataset) -> dict[str, list[float]]:
    """The training inputs by name."""
    return {name: data.train.x[:, at].tolist() for at, name in enumerate(data.inputs)}


def test_categories_are_those_of_scikit_learn(tmp_path: Path, seed: int):
    rng = np.random.default_rng(seed)
    labels = [f"k{number}" for number in rng.geometric(0.04, size=400)]
    data = read(write(tmp_path, k=labels, y=numbers(400)), test=tuple(range(300, 400)))
    encoder = OneHotEncoder(
        min_frequency=2, max_categories=MOST_CATEGORIES, handle_unknown="infrequent_if_exist"
    ).fit(np.array(labels[:300])[:, None])
    for part, rows in ((data.train, labels[:300]), (data.test, labels[300:])):
        expected = encoder.transform(np.array(rows)[:, None])
        np.testing.assert_array_equal(part.x, expected.toarray())
    assert data.train.x.shape[1] == MOST_CATEGORIES
    assert any("hold what the training rows do not" in note for note in data.notes)


def test_missing_numbers_are_filled_in_as_scikit_learn_does(tmp_path: Path):
    a = [1.5, "", "NA", 4, 8, "nan", 16, 32, 64, ""]
    data = read(write(tmp_path, a=a, y=numbers(10)), test=(8, 9))
    rows = np.array([[float(each) if each not in ("", "NA") else np.nan] for each in a])
    imputer = SimpleImputer(strategy="median", add_indicator=True).fit(rows[:8])
    expected = np.asarray(imputer.transform(rows), np.float32)
    np.testing.assert_array_equal(data.train.x, expected[:8])
    np.testing.assert_array_equal(data.test.x, expected[8:])
    assert data.inputs == ("a", "a is missing")
    assert data.notes == (
        "'a': as it is; 8 where missing, and a flag (numbers, 1.5 to 64, 4 of 10 missing)",
    )


def test_nothing_is_learnt_from_the_test_rows(tmp_path: Path):
    colours = [*"abab", "z"]
    path = write(tmp_path, c=colours, a=[1, 2, 3, 4, 1000], y=numbers(5))
    moved = write(tmp_path, "other.csv", c=[*"abab", "y"], a=[1, 2, 3, 4, -7], y=numbers(5))
    ours, others = (read(each, test=(4,)) for each in (path, moved))
    assert ours.columns == others.columns
    assert ours.inputs == ("c=a", "c=b", "a")


def test_missing_labels_and_rare_ones(tmp_path: Path):
    data = read(write(tmp_path, colour=COLOURS, b=["", *"xy", *"xxyyxy", ""], y=numbers(10)))
    found = inputs(data)
    assert list(found) == [
        *("colour=blue", "colour=green", "colour=red", "colour=(other)"),
        *("b=x", "b=y", "b=(other)"),
    ]
    assert found["colour=red"] == [1, 0, 0, 0, 0, 1, 0, 1, 0]
    assert found["colour=(other)"] == [0, 0, 0, 0, 1, 0, 0, 0, 1]  # missing once, and pink once
    assert data.test.x[0].tolist() == [0, 1, 0, 0, 0, 0, 1]


def test_dates_are_days_and_what_comes_round(tmp_path: Path):
    days = ["2020-01-01", "2020-01-08 06:00", "2022-07-01 18:00", "", "2021-03-05", "2020-06-01"]
    data = read(write(tmp_path, when=days, y=numbers(6)), test=(5,))
    found = inputs(data)
    periods = [f"when ({p}, {f})" for p in ("year", "week", "day") for f in ("sin", "cos")]
    assert list(found) == ["when (days)", *periods, "when is missing"]
    np.testing.assert_allclose(found["when (days)"][:3], [0, 7.25, 912.75])
    assert found["when is missing"] == [0, 0, 0, 1, 0]
    np.testing.assert_allclose(found["when (day, sin)"][:3], [0, 1, -1], atol=1e-6)
    # The same day of the week, but for the time of the day.
    week = np.array([found["when (week, sin)"], found["when (week, cos)"]])
    assert week[:, 0] @ week[:, 1] == pytest.approx(np.cos(2 * np.pi * 0.25 / 7))


def test_dates_that_do_not_come_round(tmp_path: Path):
    days = [f"{day}.03.2020" for day in (2, 9, 16, 23, 30)]  # Mondays
    data = read(write(tmp_path, when=days, y=numbers(5)), test=(4,))
    assert inputs(data) == {"when (days)": [0, 7, 14, 21]}
    (column,) = data.columns
    assert isinstance(column, Date)
    assert column.pattern == "%d.%m.%Y"


def test_dates_of_which_day_and_month_cannot_be_told_apart(tmp_path: Path):
    with pytest.raises(InputError, match="month/day and as day/month; write them as YYYY-MM-DD"):
        read(write(tmp_path, when=["1/2/2020", "3/4/2020", "5/5/2020"], y=numbers(3)), test=(2,))


def test_any_file_of_the_same_rows_gives_the_same_inputs(tmp_path: Path):
    stamps = np.array(["2020-01-01T00", "2020-05-01T12", "2021-09-09T00"], "M8[us]")
    columns = {"flag": [True, False, None], "n": [1, None, 3], "when": stamps}
    columns |= {"kind": pa.array(["u", "v", "u"]).dictionary_encode(), "code": [7, 7, 8]}
    table = pa.table({**columns, "y": [0.5, 1.5, 2.5]})
    doubled = pa.concat_tables([table, table]).combine_chunks()
    pq.write_table(doubled, tmp_path / "t.parquet")
    data = read(tmp_path / "t.parquet", test=(5,), categorical=("code",))
    assert {"flag", "flag is missing", "n is missing", "kind=u", "kind=v", "code=7"} <= {
        *data.inputs
    }
    text = write(
        tmp_path,
        flag=["True", "FALSE", ""],
        n=["1.0", "", "3"],
        when=[str(stamp) for stamp in stamps],
        kind=["u", " v", "u"],
        code=["7.0", "7", "8"],
    )
    x = load_inputs(tmp_path / "t.parquet", data.schema)
    np.testing.assert_array_equal(x[:3], load_inputs(text, data.schema))
    np.testing.assert_array_equal(x[:5], data.train.x)


def test_a_schema_is_plain_json(tmp_path: Path):
    days = [f"2020-0{month}-01" for month in (1, 2, 3, 4, 5, 6, 7, 8, 9, 1)]
    path = write(tmp_path, colour=COLOURS, when=days, a=["", *range(9)], y=numbers(10))
    data = read(path)
    schema = Schema.from_json(json.loads(json.dumps(data.schema.to_json())))
    assert schema == data.schema
    np.testing.assert_array_equal(load_inputs(path, schema)[:9], data.train.x)
    np.testing.assert_array_equal(load_examples(path, schema).x[9:], data.test.x)


def test_what_was_not_there_in_training_is_told(tmp_path: Path):
    path = write(tmp_path, k=[*"uvuvuv"], a=range(6), y=numbers(6))
    schema = read(path, test=(5,)).schema
    new = write(tmp_path, "new.csv", k=["u", "w", ""], a=[1, 2, 3])
    with pytest.warns(InputWarning, match="2 of 3 rows hold what the .*, 'w', nothing: taken as"):
        x = load_inputs(new, schema)
    np.testing.assert_array_equal(x, np.array([[1, 0, 1], [0, 0, 2], [0, 0, 3]], np.float32))
    new = write(tmp_path, "new.csv", k=["u", "v", "u"], a=[1, "", 3])
    with pytest.warns(InputWarning, match="column 'a': 1 of 3 values are missing.*median, 2"):
        assert load_inputs(new, schema)[1, 2] == 2


@pytest.mark.parametrize(
    ("column", "cell", "what"),
    [
        ("a", "x", "row 1, column 'a' holds 'x', which is no number"),
        ("when", "x", "row 1, column 'when' holds 'x', which is no date written ISO 8601"),
        ("flag", "x", "row 1, column 'flag' holds 'x', which is neither true nor false"),
    ],
)
def test_other_content_than_in_training(tmp_path: Path, column: str, cell: str, what: str):
    row = {"a": 1, "when": "2020-01-01", "flag": "true"}
    columns = {name: [value] * 3 for name, value in row.items()}
    schema = read(write(tmp_path, **columns, y=numbers(3)), test=(2,)).schema
    new = write(tmp_path, "new.csv", **{name: [v] for name, v in (row | {column: cell}).items()})
    with pytest.raises(InputError, match=what):
        load_inputs(new, schema)


def test_arrays_for_a_model_of_encoded_columns(tmp_path: Path):
    schema = read(write(tmp_path, k=[*"uvuvuv"], y=numbers(6)), test=(5,)).schema
    np.save(tmp_path / "x.npy", np.zeros((2, 2)))
    with pytest.raises(InputError, match="give a CSV or Parquet table with the columns k"):
        load_inputs(tmp_path / "x.npy", schema)


def test_columns_chosen_and_dropped(tmp_path: Path):
    columns = {name: numbers(5) for name in ("a", "b", "c", "y", "d,e")}
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table(columns), path)
    assert read(path, test=(0,), columns=("c,a",)).inputs == ("c", "a")
    assert read(path, test=(0,), columns=("d,e", "b")).inputs == ("d,e", "b")
    assert read(path, test=(0,), drop=("a", "d,e")).inputs == ("b", "c")


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"columns": ("a,x",)}, r"--columns: no column named 'x'"),
        ({"drop": ("y",)}, "--drop y: that column is the target"),
        ({"drop": ("a", "b")}, "no input columns"),
        ({"drop": ("a",), "categorical": ("a",)}, "--categorical a: that column is no input"),
    ],
)
def test_columns_that_cannot_be_chosen(tmp_path: Path, options: dict[str, Any], what: str):
    with pytest.raises(InputError, match=what):
        read(write(tmp_path, a=numbers(5), b=numbers(5), y=numbers(5)), test=(0,), **options)


def test_numbers_said_to_be_categories(tmp_path: Path):
    path = write(tmp_path, zip=["01", "02", "01", "02", "1"], a=["A1", *"2345"], y=numbers(5))
    data = read(path, test=(4,), categorical=("zip",), drop=("a",))
    assert data.inputs == ("zip=01", "zip=02")


@pytest.mark.parametrize("cell", ["?", "oops", "€ 3"])
def test_a_column_that_is_nearly_all_numbers(tmp_path: Path, cell: str):
    path = write(tmp_path, a=[1, 2, cell, 4, 5], y=numbers(5))
    with pytest.raises(InputError, match=r"row 3, column 'a' holds .*--missing TEXT.*--drop a"):
        read(path, test=(4,))
    assert read(path, test=(4,), missing=(cell,)).inputs == ("a", "a is missing")


def test_columns_that_say_nothing_are_left_out_with_a_word(tmp_path: Path):
    names = [f"name {letter}" for letter in "abcdefgh"]
    path = write(tmp_path, a=numbers(8), name=names, same=["x"] * 8, none=[""] * 8, y=numbers(8))
    data = read(path, test=(7,))
    assert data.inputs == ("a",)
    left = [note.split("'")[1] for note in data.notes if note.startswith("left out")]
    assert left == ["name", "same", "none"]
    with pytest.raises(InputError, match="no column can be an input: 'name' holds text: 8 values"):
        read(path, test=(7,), columns=("name",))


def test_few_whole_numbers_may_be_classes(tmp_path: Path):
    path = write(tmp_path, a=numbers(40), y=[0, 1, 2, 1] * 10)
    assert "the target holds 3 different whole numbers; if they are" in read(path).notes[0]
    assert not load(path, target="a", test_indices=[0]).notes


def test_described(tmp_path: Path):
    path = write(tmp_path, colour=COLOURS, a=range(10), name=range(10), y=numbers(10))
    options = TableOptions(categorical=("name",))
    found = describe(path, target=["y"], test_indices=[9], options=options)
    assert found.lines[0] == "t.csv: 10 rows, 9 of them to train on; 5 inputs"
    assert found.columns == (
        (
            "colour",
            "one-hot: 3 categories and one for 2 rare ones",
            "text: 4 values, 1 of 10 missing",
        ),
        ("a", "as it is", "numbers, 0 to 9"),
        (
            "name",
            "left out",
            "said to be categories: 10 values; hardly two training rows share a value: names or "
            "numbers of rows?",
        ),
        ("y", "the target of a regression", "numbers"),
    )
    assert [column[0] for column in describe(path, test_indices=[9]).columns] == [
        *("colour", "a", "name", "y")
    ]
