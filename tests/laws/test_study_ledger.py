"""The ledger: no cell is worked on twice, and none is lost."""

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from distvi.errors import InputError
from distvi.runs.records import Measured, Record
from distvi.studies.cells import Cell, cells_of
from distvi.studies.ledger import FILE, Ledger
from distvi.studies.spec import SpecFile
from tests.small_study import write_study


@pytest.fixture
def cells(tmp_path: Path) -> tuple[Cell, ...]:
    return cells_of(SpecFile(write_study(tmp_path / "s.toml")))


@pytest.fixture
def ledger(tmp_path: Path, cells: tuple[Cell, ...]) -> Ledger:
    made = Ledger(tmp_path / "study", create=True)
    made.enter(cells)
    return made


def record(cell: Cell, **values: object) -> Record:
    measured = Measured(test={"error_rate": 0.25}, staleness={0: 3, 2: 1})
    parts = {"cell": cell.id, "block": cell.block, "settings": cell.settings, "seed": cell.number}
    return Record(**{**parts, "status": "done", "measured": measured, **values})  # type: ignore[arg-type]


def test_every_cell_is_claimed_once(ledger: Ledger, cells: tuple[Cell, ...]) -> None:
    with ledger.owners.joined() as one, ledger.owners.joined() as two:
        found = []
        while cell := ledger.claim(one if len(found) % 2 else two, virtual=True):
            found.append(cell)
        assert sorted(cell.id for cell in found) == sorted(cell.id for cell in cells)
        assert {cell.id: cell for cell in found} == {cell.id: cell for cell in cells}
        assert ledger.claim(one, virtual=False) is None


def test_cells_of_the_shape_at_hand_come_first(ledger: Ledger, cells: tuple[Cell, ...]) -> None:
    with ledger.owners.joined() as me:
        other = cells[-1].shape
        claimed = [ledger.claim(me, virtual=True, shape=other) for _ in range(4)]
        assert {cell.shape for cell in claimed if cell} == {other}
        last = ledger.claim(me, virtual=True, shape=other)
        assert last is not None
        assert last.shape != other


def test_a_shape_that_nobody_works_on_comes_first(ledger: Ledger) -> None:
    with ledger.owners.joined() as one, ledger.owners.joined() as two:
        first, second = ledger.claim(one, virtual=True), ledger.claim(two, virtual=True)
        assert first is not None
        assert second is not None
        assert first.shape != second.shape


def test_what_comes_of_a_cell_is_read_back(ledger: Ledger) -> None:
    with ledger.owners.joined() as me:
        cell = ledger.claim(me, virtual=True)
        assert cell is not None
        ledger.finish(me, record(cell))
    assert ledger.records() == [record(cell)]
    assert ledger.counts() == (7, 0, 1, 0, 0)
    assert ledger.counts().total == 8


def test_only_the_owner_finishes_a_cell_and_once(ledger: Ledger) -> None:
    with ledger.owners.joined() as me, ledger.owners.joined() as other:
        cell = ledger.claim(me, virtual=True)
        assert cell is not None
        with pytest.raises(RuntimeError, match="is not"):
            ledger.finish(other, record(cell))
        ledger.finish(me, record(cell))
        with pytest.raises(RuntimeError, match="is not"):
            ledger.finish(me, record(cell))


def test_a_dead_owners_cell_is_free_at_once_and_a_living_ones_never(ledger: Ledger) -> None:
    with ledger.owners.joined() as alive:
        kept = ledger.claim(alive, virtual=True)
        with ledger.owners.joined() as dying:
            lost = ledger.claim(dying, virtual=True)
        with ledger.owners.joined() as me:
            found = []
            while cell := ledger.claim(me, virtual=True):
                found.append(cell)
        assert lost in found
        assert kept not in found


def test_an_owner_that_is_killed_is_dead(tmp_path: Path, ledger: Ledger) -> None:
    program = (
        "import sys; from pathlib import Path; from distvi.studies.ledger import LockedOwners\n"
        "with LockedOwners(Path(sys.argv[1])).joined() as name:\n"
        "    print(name, flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(ledger.owners.folder)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        name = process.stdout.readline().strip()
        assert ledger.owners.is_alive(name)
        process.kill()
        process.wait()
        assert not ledger.owners.is_alive(name)


def test_an_edited_spec_keeps_what_is_known(tmp_path: Path, ledger: Ledger) -> None:
    with ledger.owners.joined() as me:
        cell = ledger.claim(me, virtual=True)
        assert cell is not None
        ledger.finish(me, record(cell))
    blocks = '[[blocks]]\nname = "other"\naxes = { workers = [1, 2] }'
    fewer = cells_of(SpecFile(write_study(tmp_path / "s.toml", blocks)))
    ledger.enter(fewer)
    assert ledger.counts().total == 4
    assert ledger.records() == []
    before = cells_of(SpecFile(write_study(tmp_path / "s.toml")))
    ledger.enter(before)
    assert [each.cell for each in ledger.records()] == [cell.id]


def test_failed_cells_can_be_forgotten(ledger: Ledger) -> None:
    with ledger.owners.joined() as me:
        for status in ("failed", "diverged", "done"):
            cell = ledger.claim(me, virtual=True)
            assert cell is not None
            ledger.finish(me, record(cell, status=status, reason="it rained"))
    assert ledger.forget(["failed"]) == 1
    assert [each.status for each in ledger.records()] == ["diverged", "done"]


def test_what_is_no_ledger_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no study"):
        Ledger(tmp_path)
    (tmp_path / FILE).write_text("no database, but longer than the header that one has" * 30)
    with pytest.raises(InputError, match="cannot be read"):
        Ledger(tmp_path)
    (tmp_path / FILE).unlink()
    with sqlite3.connect(tmp_path / FILE) as other:
        other.execute("CREATE TABLE t (x)")
    with pytest.raises(InputError, match="format 0"):
        Ledger(tmp_path)
