"""CSV and Parquet tables: what is read, and one clear line for all that cannot be."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from distvi.data import Schema, Task, load, load_examples, load_inputs
from distvi.errors import InputError


def csv(folder: Path, text: str) -> Path:
    path = folder / "table.csv"
    path.write_text(text)
    return path


def parquet(folder: Path, **columns: object) -> Path:
    path = folder / "table.parquet"
    pq.write_table(pa.table(columns), path)
    return path


def refusal(path: Path, **options: object) -> str:
    with pytest.raises(InputError) as caught:
        load(path, **{"target": "y", "test_indices": [0], **options})
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def test_regression(tmp_path: Path):
    path = csv(tmp_path, "a,y,b\n1,2,0.5\n3,4,0.25\n5,6,1e-3\n")
    data = load(path, target="y", test_indices=[1])
    assert (data.task, data.inputs, data.targets) == (Task.REGRESSION, ("a", "b"), ("y",))
    np.testing.assert_array_equal(data.train.x, np.array([[1, 0.5], [5, 1e-3]], np.float32))
    np.testing.assert_array_equal(data.train.y, np.array([[2], [6]], np.float32))
    np.testing.assert_array_equal(data.test.x, np.array([[3, 0.25]], np.float32))


def test_several_targets_in_the_order_asked_for(tmp_path: Path):
    path = csv(tmp_path, "a,y,b\n1,2,7\n3,4,8\n")
    data = load(path, target=["b", "y"], test_indices=[0])
    np.testing.assert_array_equal(data.train.y, np.array([[8, 4]], np.float32))
    assert data.targets == ("b", "y")


def test_text_targets_are_classes(tmp_path: Path):
    data = load(csv(tmp_path, "a,y\n1,no\n2,yes\n3,no\n4,yes\n"), target="y", test_indices=[3])
    assert (data.task, data.classes) == (Task.CLASSIFICATION, ("no", "yes"))
    np.testing.assert_array_equal(data.train.y, [0, 1, 0])


@pytest.mark.parametrize("cell", ["?", "€ 3", '"3,14"', '"1,234"', "1 000.5"])
@pytest.mark.parametrize("task", [None, Task.REGRESSION])
def test_a_target_that_is_nearly_all_numbers_names_the_cells(
    tmp_path: Path, cell: str, task: Task | None
):
    rows = [f"{number},{number}.5" for number in range(40)]
    rows[7] = rows[11] = f"1,{cell}"
    message = refusal(csv(tmp_path, "a,y\n" + "\n".join(rows) + "\n"), task=task)
    text = cell.strip('"')
    assert f"row 8, column 'y' holds {text!r}, which is no number, nor are row 12" in message
    assert "38 of 40 are right" in message


def test_a_target_of_amounts_is_no_class(tmp_path: Path):
    rows = "".join(f"{number},€ {number}\n" for number in range(40))
    message = refusal(csv(tmp_path, "a,y\n" + rows))
    assert "holds '€ 0', which is no number, nor are row 2 ('€ 1') and row 3" in message
    assert "say --task classification" in message


def test_mixed_labels_are_classes_if_that_is_said(tmp_path: Path):
    path = csv(tmp_path, "a,y\n1,3\n2,5+\n3,4\n4,3\n")
    assert "row 2, column 'y' holds '5+'" in refusal(path)
    data = load(path, target="y", task=Task.CLASSIFICATION, test_indices=[3])
    assert data.classes == ("3", "4", "5+")


def test_text_that_differs_in_every_row_is_no_class(tmp_path: Path):
    rows = "".join(f"{number},name {chr(65 + number)}\n" for number in range(26))
    assert "26 different labels in 26 rows" in refusal(csv(tmp_path, "a,y\n" + rows))


def test_dates_are_no_target(tmp_path: Path):
    assert "holds dates" in refusal(csv(tmp_path, "a,y\n1,2020-01-01\n2,2020-02-01\n"))


def test_labels_without_the_white_space_around_them(tmp_path: Path):
    path = csv(tmp_path, "a,y\n1, yes\n2,yes\n3,no \n4,no\n")
    data = load(path, target="y", test_indices=[3])
    assert data.classes == ("no", "yes")
    np.testing.assert_array_equal(data.train.y, [1, 1, 0])
    y = load_examples(csv(tmp_path, "a,y\n1,  yes \n"), data.schema).y
    np.testing.assert_array_equal(y, [1])


def test_true_and_false_are_classes_in_any_file(tmp_path: Path):
    text = csv(tmp_path, "a,y\n1,true\n2,False\n3,TRUE\n4,false\n")
    binary = parquet(tmp_path, a=[1, 2, 3, 4], y=[True, False, True, False])
    for path in (text, binary):
        data = load(path, target="y", test_indices=[3])
        assert (data.task, data.classes) == (Task.CLASSIFICATION, ("false", "true"))
        np.testing.assert_array_equal(data.train.y, [1, 0, 1])
        y = load_examples(binary, data.schema).y
        np.testing.assert_array_equal(y, [1, 0, 1, 0])


def test_numbers_as_classes_are_ordered_by_value(tmp_path: Path):
    path = csv(tmp_path, "a,y\n1,10\n2,9\n3,9\n4,-1\n")
    data = load(path, target="y", task=Task.CLASSIFICATION, test_indices=[2])
    assert data.classes == ("-1", "9", "10")
    np.testing.assert_array_equal(data.train.y, [2, 1, 0])


def test_whole_decimals_are_classes_as_parquet_has_them(tmp_path: Path):
    path = csv(tmp_path, "a,y\n1,1.0\n2,2.0\n3,1\n")
    data = load(path, target="y", task=Task.CLASSIFICATION, test_indices=[2])
    assert data.classes == ("1", "2")
    y = load_examples(csv(tmp_path, "a,y\n1,2.0\n2,1.0\n"), data.schema).y
    np.testing.assert_array_equal(y, [1, 0])


def test_leading_zeros_are_kept(tmp_path: Path):
    path = csv(tmp_path, "a,y\n1,007\n2,7\n3,007\n")
    data = load(path, target="y", task=Task.CLASSIFICATION, test_indices=[2])
    assert set(data.classes) == {"007", "7"}


def test_real_numbers_are_no_classes(tmp_path: Path):
    path = csv(tmp_path, "a,y\n1,0.25\n2,1.5\n3,2\n")
    assert "not whole" in refusal(path, task=Task.CLASSIFICATION)


def test_counts(tmp_path: Path):
    path = csv(tmp_path, "a,y\n1,0\n2,9\n3,4\n")
    data = load(path, target="y", task=Task.COUNT, test_indices=[2])
    np.testing.assert_array_equal(data.train.y, np.array([[0], [9]], np.float32))


def test_parquet_of_many_types(tmp_path: Path):
    path = parquet(
        tmp_path,
        a=pa.array([1, 2, 3], pa.int8()),
        b=[True, False, True],
        c=pa.array([0.5, 1.5, 2.5], pa.float32()),
        y=pa.array(["u", "v", "u"]).dictionary_encode(),
    )
    data = load(path, target="y", test_indices=[2])
    np.testing.assert_array_equal(data.train.x, np.array([[1, 1, 0.5], [2, 0, 1.5]], np.float32))
    assert data.classes == ("u", "v")


@pytest.mark.parametrize("kind", [pa.bool_(), pa.int64(), pa.float64()])
def test_parquet_labels_of_any_type(tmp_path: Path, kind: pa.DataType):
    path = parquet(tmp_path, a=[1.0, 2.0, 3.0], y=pa.array([0, 1, 0]).cast(kind))
    data = load(path, target="y", task=Task.CLASSIFICATION, test_indices=[2])
    np.testing.assert_array_equal(data.train.y, [0, 1])


@pytest.fixture
def short_blocks(monkeypatch: pytest.MonkeyPatch):
    """Files of some kilobytes are read in several blocks, as large ones are."""
    monkeypatch.setattr("distvi.data.csv_files._BLOCK_BYTES", 1 << 12)
    monkeypatch.setattr("distvi.data.targets._BLOCK_CELLS", 1 << 10)


@pytest.mark.usefixtures("short_blocks")
def test_decimals_after_many_whole_numbers(tmp_path: Path):
    text = "a,y\n" + "1,2\n" * 5_000 + "0.5,2.5\n"
    data = load(csv(tmp_path, text), target="y", test_indices=[0])
    assert data.train.x[-1, 0] == 0.5
    assert data.train.y[-1, 0] == 2.5


def test_thousands_of_columns(tmp_path: Path, seed: int):
    values = np.random.default_rng(seed).normal(size=(300, 4000)).astype(np.float32)
    names = [f"c{number}" for number in range(4000)]
    path = tmp_path / "table.csv"
    np.savetxt(path, values, "%.9g", ",", header=",".join(names), comments="")
    data = load(path, target="c7", test_indices=[299])
    np.testing.assert_array_equal(data.train.x, np.delete(values, 7, axis=1)[:-1])
    np.testing.assert_array_equal(data.train.y[:, 0], values[:-1, 7])


def test_missing_target_column_names_the_near_miss(tmp_path: Path):
    message = refusal(csv(tmp_path, "a,price\n1,2\n"), target="prise")
    assert "no column named 'prise' (did you mean 'price'?)" in message


def test_no_target(tmp_path: Path):
    assert "which column is the target?" in refusal(csv(tmp_path, "a,y\n1,2\n"), target=None)


def test_long_lists_of_columns_are_cut(tmp_path: Path):
    names = ",".join(f"column{number}" for number in range(1000))
    assert len(refusal(csv(tmp_path, names + "\n"), target="zzz")) < 500


@pytest.mark.usefixtures("short_blocks")
@pytest.mark.parametrize("line", [1, 2, 9000])
def test_text_in_a_numeric_column(tmp_path: Path, line: int):
    lines = ["1.5,2,3"] * 9000
    lines[line - 1] = "1.5,oops,3"
    message = refusal(csv(tmp_path, "a,b,y\n" + "\n".join(lines)))
    assert f"row {line}, column 'b' holds 'oops', which is no number" in message


def test_text_in_a_numeric_target(tmp_path: Path):
    message = refusal(csv(tmp_path, "a,y\n1,2\n2,x\n"), task=Task.REGRESSION)
    assert "row 2, column 'y' holds 'x'" in message


def test_text_column_in_parquet(tmp_path: Path):
    message = refusal(parquet(tmp_path, a=["1", "u"], y=[1.0, 2.0]))
    assert "row 2, column 'a' holds 'u'" in message


def test_a_column_of_pairs(tmp_path: Path):
    message = refusal(parquet(tmp_path, a=[[1, 2], [3, 4]], y=[1.0, 2.0]))
    assert "column 'a' holds no numbers but list" in message


@pytest.mark.usefixtures("short_blocks")
@pytest.mark.parametrize(
    ("cell", "what"),
    [("inf", "infinite"), ("-inf", "infinite"), ("1e39", "large")],
)
def test_no_number_in_a_cell(tmp_path: Path, cell: str, what: str):
    message = refusal(csv(tmp_path, "a,b,y\n" + "1,2,3\n" * 2000 + f"1,{cell},3\n"))
    assert "row 2001, column 'b'" in message
    assert what in message


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_and_infinity_in_the_target(tmp_path: Path, value: float):
    message = refusal(parquet(tmp_path, a=[1.0, 2.0], y=[1.0, value]))
    assert "row 2, column 'y'" in message


def test_null_label(tmp_path: Path):
    message = refusal(parquet(tmp_path, a=[1.0, 2.0, 3.0], y=["u", None, "v"]))
    assert "row 2, column 'y' holds no label" in message


def test_empty_label(tmp_path: Path):
    message = refusal(csv(tmp_path, "a,y\n1,u\n2,v\n3,\n"))
    assert "row 3, column 'y' holds no label" in message


def test_fractions_are_no_classes(tmp_path: Path):
    message = refusal(parquet(tmp_path, a=[1.0, 2.0], y=[0.5, 1.0]), task=Task.CLASSIFICATION)
    assert "use task 'regression'" in message


@pytest.mark.parametrize("text", ["", "a,y\n"])
def test_empty_table(tmp_path: Path, text: str):
    assert "mpty" in refusal(csv(tmp_path, text))


def test_empty_parquet(tmp_path: Path):
    assert "empty" in refusal(parquet(tmp_path, a=pa.array([], pa.float64()), y=pa.array([], "f8")))


def test_one_class_only(tmp_path: Path):
    message = refusal(csv(tmp_path, "a,y\n1,u\n2,u\n"))
    assert "only one class, 'u'" in message


def test_one_class_only_in_the_training_part(tmp_path: Path):
    with pytest.raises(InputError, match="training part holds only one class, 'u'"):
        load(csv(tmp_path, "a,y\n1,u\n2,u\n3,v\n"), target="y", test_indices=[2])


@pytest.mark.parametrize("value", ["-1", "0.5"])
def test_no_counts(tmp_path: Path, value: str):
    message = refusal(csv(tmp_path, f"a,y\n1,2\n2,{value}\n"), task=Task.COUNT)
    assert f"row 2, column 'y' holds {value}, which is no count" in message


def test_two_targets_of_a_classification(tmp_path: Path):
    message = refusal(csv(tmp_path, "a,b,y\n1,u,v\n"), target=["b", "y"])
    assert "takes one target, not 2" in message


def test_a_target_named_twice(tmp_path: Path):
    assert "named twice" in refusal(csv(tmp_path, "a,y\n1,2\n"), target=["y", "y"])


def test_nothing_but_targets(tmp_path: Path):
    assert "no input columns" in refusal(csv(tmp_path, "y\n1\n"))


def test_two_columns_of_one_name(tmp_path: Path):
    assert "two columns are named 'a'" in refusal(csv(tmp_path, "a,a,y\n1,2,3\n"))


def test_ragged_rows(tmp_path: Path):
    assert "Expected 2 columns, got 3" in refusal(csv(tmp_path, "a,y\n1,2\n1,2,3\n"))


def test_not_a_parquet_file(tmp_path: Path):
    path = tmp_path / "table.parquet"
    path.write_bytes(b"PAR1 and then something else")
    assert "not a readable table" in refusal(path)


def test_not_text(tmp_path: Path):
    path = tmp_path / "table.csv"
    path.write_bytes(b"a,y\n\xff\xfe,1\n\x00\x80,2\n")
    refusal(path)


def test_a_column_that_float32_would_flatten(tmp_path: Path):
    rows = "".join(f"{1_700_000_000 + second},{second}\n" for second in range(100))
    message = refusal(csv(tmp_path, "time,y\n" + rows))
    assert "column 'time' varies by only 99 around 1.7e+09" in message


def test_large_constants_are_no_loss_of_precision(tmp_path: Path):
    path = csv(tmp_path, "a,b,y\n1700000001,1,2\n1700000001,2,3\n1700000001,3,4\n")
    assert len(load(path, target="y", test_indices=[0]).train) == 2


@pytest.mark.parametrize(
    "name", ["missing.csv", "missing.parquet", "missing.npz", "no/such/folder"]
)
def test_missing_file(tmp_path: Path, name: str):
    with pytest.raises(InputError, match="no such file"):
        load(tmp_path / name, target="y")


def test_unknown_kind_of_file(tmp_path: Path):
    path = tmp_path / "table.xlsx"
    path.write_text("")
    assert "save it as CSV, Parquet or NPZ" in refusal(path)


def test_unknown_name():
    with pytest.raises(InputError, match=r"unknown data set 'mnits'.*did you mean 'mnist'"):
        load("mnits")


def schema_of(path: Path, **options: object) -> Schema:
    return load(path, **{"target": "y", "test_indices": [0], **options}).schema


def test_inputs_for_prediction_in_another_order(tmp_path: Path):
    schema = schema_of(csv(tmp_path, "a,b,y\n1,2,3\n1,2,3\n"))
    x = load_inputs(csv(tmp_path, "extra,b,a\nu,20,10\n"), Schema.from_json(schema.to_json()))
    np.testing.assert_array_equal(x, np.array([[10, 20]], np.float32))


@pytest.mark.parametrize("cell", ["", "?", "unknown"])
def test_a_target_is_not_read_for_prediction(tmp_path: Path, cell: str):
    schema = schema_of(csv(tmp_path, "a,y\n1,2\n3,4\n"))
    x = load_inputs(csv(tmp_path, f"a,y\n5,{cell}\n6,7\n"), schema)
    np.testing.assert_array_equal(x, np.array([[5], [6]], np.float32))


def test_without_its_target_a_table_cannot_be_evaluated_on(tmp_path: Path):
    schema = schema_of(csv(tmp_path, "a,price,y\n1,2,3\n3,4,5\n"), target="price")
    with pytest.raises(InputError, match=r"no column named 'price', the target .*did you mean"):
        load_examples(csv(tmp_path, "a,y,prices\n1,2,3\n"), schema)
    with pytest.raises(InputError, match="holds no targets"):
        load_examples(tmp_path / "x.npy", schema)


def test_inputs_with_targets_use_the_trained_classes(tmp_path: Path):
    schema = schema_of(csv(tmp_path, "a,y\n1,u\n2,v\n3,w\n"))
    path = csv(tmp_path, "a,y\n1,w\n")
    np.testing.assert_array_equal(load_examples(path, schema).y, [2])
    path = csv(tmp_path, "a,y\n1,w\n1,x\n")
    with pytest.raises(InputError, match="row 2, column 'y' holds 'x', which is no class"):
        load_examples(path, schema)


@pytest.mark.parametrize(
    ("array", "what"),
    [
        (np.array([[0.0, 1.0], [np.nan, 2.0]]), "row 2, column 'a' holds a missing value or NaN"),
        (np.array([[0.0, 1e300]]), "row 1, column 'b' holds an infinite"),
        (np.array([["1", "2"]]), "holds no numbers but <U1"),
        (np.array([[1j, 2]]), "holds no numbers but complex128"),
        (np.zeros((0, 2)), "the array is empty"),
        (np.zeros((2, 3)), "rows of 2"),
        (np.zeros(2), "rows of 2"),
    ],
)
def test_arrays_that_cannot_be_predicted_for(tmp_path: Path, array: np.ndarray, what: str):
    schema = Schema("t", Task.REGRESSION, ("a", "b"), ("y",))
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(InputError, match=r"x\.npy: ") as caught:
        load_inputs(tmp_path / "x.npy", schema)
    assert what in str(caught.value)


def test_arrays_of_any_number_type_are_predicted_for(tmp_path: Path):
    schema = Schema("t", Task.REGRESSION, ("a", "b"), ("y",))
    for kind in (np.float64, np.int16, np.bool_):
        np.save(tmp_path / "x.npy", np.array([[0, 1], [1, 0]], kind))
        x = load_inputs(tmp_path / "x.npy", schema)
        np.testing.assert_array_equal(x, np.array([[0, 1], [1, 0]], np.float32))


def test_a_missing_input(tmp_path: Path):
    schema = schema_of(csv(tmp_path, "alpha,b,y\n1,2,3\n1,2,3\n"))
    with pytest.raises(InputError, match=r"'alpha', an input of this model \(did you mean 'alph'"):
        load_inputs(csv(tmp_path, "alph,b\n1,2\n"), schema)


def test_the_given_tables(data_dir: Path):
    rows = {"power": (9568, 4), "concrete": (1030, 8), "energy": (768, 8)}
    for name, (count, inputs) in rows.items():
        split = data_dir / "uci" / f"{name}.splits.json"
        if not split.exists():
            pytest.skip(f"{split} is absent")
        data = load(name, data_dir=data_dir, test_fraction=0.1)
        assert len(data.train) + len(data.test) == count
        assert data.train.x.shape[1] == inputs
        assert data.name == name
