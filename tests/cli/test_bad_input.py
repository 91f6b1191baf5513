"""Bad input: one clear line on standard error, status 2, nothing half-written."""

import errno
import gzip
import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from tests.small_run import TINY, Distvi, write_mnist, write_table

BAD_OPTIONS = {
    "--bach-size 3": "Unknown option: --bach-size. Did you mean --batch-size?",
    "--batch-size -5": "--batch-size is '-5': input should be greater than 0",
    "--batch-size 0": "--batch-size is '0': input should be greater than 0",
    "--batch-size 5000": "the batch size is 5000, but there are 1617 training examples",
    "--epochs -1": "--epochs is '-1': input should be greater than 0",
    "--epochs many": "--epochs is 'many'",
    "--epochs 1 --updates 5": "epochs and updates are both given",
    "--learning-rate nan": "--learning-rate is 'nan'",
    "--learning-rate -0.1": "--learning-rate is '-0.1'",
    "--warmup-updates 9 --updates 9": "a warm-up of 9 updates does not fit a run of 9",
    "--epochs inf": "--epochs is 'inf': input should be a finite number",
    "--epochs 1e300": "choose fewer epochs or updates",
    "--updates 4294967294": "choose fewer epochs or updates",
    "--set model.initial_lengthscale=inf": "'model.initial_lengthscale' is inf",
    "--split 3": "add --test-indices FILE",
    "--seed -1": "--seed is '-1'",
    "--optimizer adm": "unknown optimizer 'adm' (did you mean 'adam'?)",
    "--optimizer-options.b3 1": "optimizer 'adam' has no option 'b3'",
    "--schedule cosin": "--schedule is 'cosin': input should be 'constant' or 'cosine'",
    "--engine ray --address 127.0.0.1:1": "cannot reach a Ray cluster at 127.0.0.1:1",
    "--engine ray --address nonsense": "address is 'nonsense'; it should be local, auto or HOST:",
    "--engine rai": "unknown engine 'rai' (did you mean 'ray'?)",
    "--engine mehs": "unknown engine 'mehs' (did you mean 'mesh'?)",
    "--engine mesh --scheme async": "engine 'mesh' has no scheme 'async'",
    "--engine mesh --servers 2": (
        "engine 'mesh' has no setting --servers; it belongs to engines local and simulated"
    ),
    "--engine mesh --journal": "engine 'mesh' has no setting --journal",
    "--engine local --cluster network-bound": (
        "engine 'local' has no setting --cluster; it belongs to engine simulated"
    ),
    "--engine simulated --worker-timeout-s 9": (
        "engine 'simulated' has no setting --worker-timeout-s; it belongs to engines local and ray"
    ),
    "--set engine.cluster=network-bound": "engine 'local' has no setting 'engine.cluster'",
    "--set engine.kind=3": "unknown engine '3' (known: local, simulated, ray, mesh)",
    "--set engine.scheme=async": "unknown key 'engine.scheme' (did you mean 'algorithm.scheme'?)",
    "--scheme asnc": "engine 'local' has no scheme 'asnc' (did you mean 'async'?)",
    "--patience-s 3": "Unknown option: --patience-s. Did you mean --worker-timeout-s?",
    "--replacements 3": "Unknown option: --replacements. Did you mean --max-restarts?",
    "--unusable-limit=3": "Unknown option: --unusable-limit. Did you mean --nonfinite-limit?",
    "--engine mesh --workers 4096": "workers is 4096, but JAX has",
    "--workers 4096": "workers is 4096, but this machine has",
    "--servers 4096": "servers is 4096, but this machine has",
    "--set model.widht=4": "unknown key 'model.widht' (did you mean 'width'?)",
    "--set modle.width=4": "unknown section 'modle' (did you mean 'model'?)",
    "--set training.bach_size=4": "unknown key 'training.bach_size' (did you mean 'batch_size'?)",
    "--set model.width=-4": "'model.width' is -4: input should be greater than 0",
    "--set model.kind=deep": "unknown model 'deep' (did you mean 'deep_gp'?)",
    "--set model.likelihood=gausian": "unknown likelihood 'gausian' (did you mean 'gaussian'?)",
    "--set model.orthogonal=true --set model.omega=var_resampled": (
        "in 'model': orthogonal frequencies are fixed draws"
    ),
    "--set model.likelihood=gaussian": "'gaussian' does not suit classification",
    "--set width": "expected SECTION.KEY=VALUE",
    "--out": "--out requires an argument",
    "another": "Unused Tokens: ['another']",
    "--config absent.toml": "cannot read absent.toml: No such file or directory",
    "--test-indices absent.json": "absent.json: no such file",
}


@pytest.mark.parametrize("options", BAD_OPTIONS)
def test_bad_options(distvi: Distvi, options: str) -> None:
    refused(distvi, BAD_OPTIONS[options], "train", "digits", *options.split())


BAD_FILES = {
    "[training]\nbach_size = 3": "unknown key 'training.bach_size' (did you mean 'batch_size'?)",
    "[modle]\nwidth = 3": "unknown key 'modle' (did you mean 'model'?)",
    "[model]\nwidht = 3": "unknown key 'model.widht' (did you mean 'width'?)",
    "[model]\nkind = 'bayesian_network'\nkernel = 'rbf'": (
        "model 'bayesian_network' has no setting 'model.kernel'; it belongs to model deep_gp"
    ),
    "[training]\nbatch_size = 0": "'training.batch_size' is 0: input should be greater than 0",
    "[training\n": "is no valid TOML",
    "training = 3": "'training' is 3",
    "[engine]\nkind = 'rai'": "unknown engine 'rai'",
    "[engine]\nengine = 'rai'": "unknown engine 'rai'",
    "[engine]\nkind = ['local']": "unknown engine '['local']'",
    "[engine]\ncluster = 'network-bound'": (
        "engine 'local' has no setting 'engine.cluster'; it belongs to engine simulated"
    ),
    "[algorithm]\nscheem = 'async'": "unknown key 'algorithm.scheem' (did you mean 'scheme'?)",
    "[training]\nepochs = 1\nupdates = 5": "in 'training': epochs and updates are both given",
}


@pytest.mark.parametrize("toml", BAD_FILES)
def test_bad_settings_in_a_file(distvi: Distvi, toml: str) -> None:
    file = Path("bad.toml")
    file.write_text(toml)
    line = refused(distvi, BAD_FILES[toml], "train", "digits", "--config", file)
    assert "bad.toml" in line


BAD_TABLES = {
    "": "Empty CSV file",
    "a,b,y\n": "the table is empty",
    "a,b,z\n1,2,3\n4,5,6\n": "'y'",
    "a,b,y\n1,2,3\n4,text,6\n7,8,9\n": "'b'",
    "a,b,y\n1,2,3\n4,inf,6\n7,8,9\n": "'b'",
    "a,b,y\n1,2,3\n4,5,inf\n7,8,9\n": "'y'",
    "a,b,y\n1,2,3\n4,5,\n7,8,9\n": "'y'",
    "a,y\nname one,3\nname two,6\nname three,9\n": "no column can be an input: 'a' holds text",
    "a,b,y\n1,2,only\n4,5,only\n7,8,only\n9,8,only\n": "only",
}


@pytest.mark.parametrize("csv", BAD_TABLES)
def test_bad_tables(distvi: Distvi, csv: str) -> None:
    file = Path("bad.csv")
    file.write_text(csv)
    line = refused(distvi, BAD_TABLES[csv], "train", file, "--target", "y", *TINY)
    assert "bad" in line


@pytest.mark.parametrize("name", ["digts", "absent.csv", "no/folder", "text.txt"])
def test_unknown_data(distvi: Distvi, name: str) -> None:
    Path("text.txt").write_text("hello")
    line = refused(distvi, name, "train", name, *TINY)
    assert name != "digts" or "did you mean" in line


@pytest.mark.parametrize(
    "images", [b"", b"hello", struct.pack(">4B3I", 0, 0, 8, 3, 9, 2, 2) + bytes(5)]
)
def test_foreign_and_truncated_idx_files(distvi: Distvi, images: bytes) -> None:
    folder = write_mnist(Path("mnist"))
    for part in ("train", "t10k"):
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(images))
        (folder / f"{part}-images-idx3-ubyte").unlink()
    refused(distvi, "images-idx3-ubyte.gz", "train", "mnist", "--data-dir", ".", *TINY)


@pytest.mark.parametrize(
    "options", ["--test-fraction 0.1", "--split-seed 0", "--test-indices rows.json"]
)
def test_another_split_of_data_that_have_their_own(distvi: Distvi, options: str) -> None:
    write_mnist(Path("mnist"))
    Path("rows.json").write_text("[1, 2]")
    message = "mnist: has its own test part, so leave the"
    refused(distvi, message, "train", "mnist", "--data-dir", ".", *TINY, *options.split())


def test_no_data_set(distvi: Distvi) -> None:
    refused(distvi, "no data set is named", "train")


def test_unknown_command(distvi: Distvi) -> None:
    refused(distvi, 'Unknown command "tran". Did you mean "train"?', "tran")


def test_a_folder_that_holds_a_run_is_never_overwritten(distvi: Distvi, copied: Path) -> None:
    before = contents(copied)
    refused(distvi, "already holds a run", "train", "digits", *TINY, "--out", copied)
    assert contents(copied) == before


def test_a_folder_that_holds_anything_is_not_written_to(distvi: Distvi) -> None:
    Path("mine").mkdir()
    Path("mine/notes.txt").write_text("dear diary")
    refused(distvi, "mine is not empty", "train", "digits", *TINY, "--out", "mine")


@pytest.mark.parametrize("out", ["file/run", "/proc/run"])
def test_a_folder_that_cannot_be_written(distvi: Distvi, out: str) -> None:
    Path("file").write_text("in the way")
    refused(distvi, f"cannot write the run to {out}", "train", "digits", *TINY, "--out", out)


@pytest.mark.parametrize("out", [(), ("--out", "runs/mine")])
def test_a_place_that_cannot_be_written_is_refused_before_the_data_are_read(
    distvi: Distvi, monkeypatch: pytest.MonkeyPatch, out: tuple[str, ...]
) -> None:
    def prepare(config: object) -> None:
        raise AssertionError("too late")

    monkeypatch.setattr("distvi.training.start.prepare", prepare)
    Path("runs").write_text("in the way")
    refused(distvi, "cannot write the run to runs", "train", "digits", *TINY, *out)


@pytest.mark.parametrize("out", [(), ("--out", "new/mine"), ("--out", "empty")])
def test_a_run_folder_is_begun_with_all_its_files_or_not_at_all(
    distvi: Distvi, numbers: Path, monkeypatch: pytest.MonkeyPatch, out: tuple[str, ...]
) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    Path("empty").mkdir()
    monkeypatch.setattr("distvi.runs.folder.replace_bytes", full)
    message = "No space left on device; choose another folder with --out"
    refused(distvi, message, "train", numbers, "--target", "y", *TINY, *out)


@pytest.mark.parametrize("command", ["resume", "evaluate"])
@pytest.mark.parametrize("run", ["absent", "."])
def test_no_run(distvi: Distvi, command: str, run: str) -> None:
    refused(distvi, "run folder", command, run)


@pytest.mark.parametrize("command", ["evaluate", "predict"])
def test_a_damaged_checkpoint_is_named(
    distvi: Distvi, command: str, copied: Path, numbers: Path
) -> None:
    file = newest(copied) / "params.safetensors"
    file.write_bytes(file.read_bytes()[:-9])
    more = (numbers, "--out", "p.csv") if command == "predict" else ()
    refused(distvi, f"checkpoint {file} is damaged", command, copied, *more)


def test_resume_passes_over_a_damaged_checkpoint_and_says_so(distvi: Distvi, copied: Path) -> None:
    expected = (newest(copied) / "params.safetensors").read_bytes()
    damaged = newest(copied) / "optimizer.safetensors"
    damaged.write_bytes(b"")
    answer = distvi("resume", copied)
    assert answer.status == 0
    assert f"checkpoint {damaged} is damaged" in answer.err
    assert "going on from update 6" in answer.err
    assert (newest(copied) / "params.safetensors").read_bytes() == expected


def test_resume_refuses_where_no_checkpoint_is_whole(distvi: Distvi, copied: Path) -> None:
    for file in copied.glob("checkpoints/*/state.json"):
        file.write_text("{")
    refused(distvi, "state.json is damaged", "resume", copied)


@pytest.mark.parametrize("name", ["run.toml", "data.json"])
def test_a_damaged_run_folder(distvi: Distvi, name: str, copied: Path) -> None:
    (copied / name).write_text("{]")
    refused(distvi, name, "evaluate", copied)


@pytest.mark.parametrize("command", ["resume", "evaluate"])
def test_a_run_whose_data_have_changed(distvi: Distvi, command: str, copied: Path) -> None:
    other = write_table(Path("other.csv"), rows=59)
    toml = copied / "run.toml"
    lines = toml.read_text().splitlines()
    changed = [f'dataset = "{other}"' if s.startswith("dataset") else s for s in lines]
    toml.write_text("\n".join(changed))
    refused(distvi, "is not the data set that", command, copied)


@pytest.mark.parametrize("command", ["resume", "evaluate"])
def test_a_run_whose_rows_have_been_sorted(distvi: Distvi, command: str, copied: Path) -> None:
    header, *rows = write_table(Path("table.csv")).read_text().splitlines()
    Path("sorted.csv").write_text("\n".join([header, *sorted(rows)]) + "\n")
    message = "other values, or another order of rows; which of them are held out cannot be told"
    refused(distvi, message, command, copied, "--data", "sorted.csv")


def test_other_rows_beside_where_the_run_s_own_are(distvi: Distvi, finished: Path) -> None:
    write_table(Path("other.csv"))
    message = "--data says where the run's own data are, but other.csv is to be tested on"
    refused(distvi, message, "evaluate", finished, "other.csv", "--data", "other.csv")


def test_predict_for_other_columns(distvi: Distvi, finished: Path) -> None:
    Path("new.csv").write_text("a,c\n1,2\n")
    refused(distvi, "'b'", "predict", finished, "new.csv", "--out", "p.csv")


@pytest.mark.parametrize("out", ["p.txt", "absent/p.csv"])
def test_predict_to_a_bad_file(distvi: Distvi, finished: Path, numbers: Path, out: str) -> None:
    refused(distvi, out, "predict", finished, numbers, "--out", out)


def test_predict_spares_its_inputs_and_folders(
    distvi: Distvi, finished: Path, numbers: Path
) -> None:
    Path("folder.csv").mkdir()
    refused(distvi, "is a folder", "predict", finished, numbers, "--out", "folder.csv")
    refused(distvi, "is the table of inputs", "predict", finished, numbers, "--out", numbers)


def test_in_a_process_of_its_own(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "distvi", "train", "digits", "--optimizer", "adm"]
    answer = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert answer.returncode == 2
    assert answer.stdout == ""
    assert answer.stderr == "distvi: error: unknown optimizer 'adm' (did you mean 'adam'?)\n"
    assert list(tmp_path.iterdir()) == []


def refused(distvi: Distvi, message: str, *arguments: object) -> str:
    """The one line of a command that is refused; it changes no file."""
    before = contents(Path())
    answer = distvi(*arguments)
    assert answer.status == 2, answer.err
    assert answer.out == ""
    line = answer.err.removesuffix("\n")
    assert line.startswith("distvi: error: ")
    assert "\n" not in line
    assert message in line
    assert contents(Path()) == before
    return line


def contents(folder: Path) -> str:
    files = sorted(folder.rglob("*"))
    return json.dumps([[str(f), f.read_bytes().hex() if f.is_file() else None] for f in files])


def newest(run: Path) -> Path:
    return max((run / "checkpoints").iterdir(), key=lambda path: int(path.name))
