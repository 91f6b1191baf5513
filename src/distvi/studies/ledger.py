"""The ledger of a study: which cells there are, who works on which, and what came of them.

A SQLite file in WAL mode, so that whoever is killed at whatever moment leaves it whole. A cell is
claimed in a transaction; its owner holds a lock on a file of its own while it lives, which the
operating system releases with the process. So a cell of a dead owner is free at once, and one of a
living owner never is, however long it is stopped.
"""

import fcntl
import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO, NamedTuple, Protocol, runtime_checkable
from uuid import uuid4

from distvi.config.run import RunConfig
from distvi.errors import InputError
from distvi.runs.records import Measured, Record
from distvi.studies.cells import Cell

FILE = "ledger.sqlite"
_FORMAT = 1
_WAIT_S = 60.0  # for another process's transaction, which takes milliseconds

_TABLES = """
CREATE TABLE IF NOT EXISTS cells (
    id TEXT PRIMARY KEY, position INTEGER, active INTEGER, block TEXT, settings TEXT,
    number INTEGER, config TEXT, is_tuned INTEGER, shape TEXT, is_virtual INTEGER,
    status TEXT NOT NULL DEFAULT 'waiting', owner TEXT, reason TEXT, measured TEXT
);
CREATE INDEX IF NOT EXISTS by_status ON cells (active, status, shape, position);
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT);
"""


@runtime_checkable
class Owners(Protocol):
    """Who works on cells, and who of them is alive. On one machine: `LockedOwners`."""

    def is_alive(self, owner: str) -> bool:
        """Whether an owner may still finish what it claimed."""
        ...


class LockedOwners:
    """Owners that are processes of this machine, or of one that shares its files.

    Args:
        folder: Holds a file for each, locked while it lives.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def joined(self) -> Iterator[str]:
        """Be an owner meanwhile; its name."""
        name = uuid4().hex
        path = self.folder / name
        with path.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            try:
                yield name
            finally:
                path.unlink(missing_ok=True)

    def is_alive(self, owner: str) -> bool:
        """See `Owners`."""
        try:
            with (self.folder / owner).open() as file:
                return not _locks(file)
        except FileNotFoundError:
            return False


def _locks(file: IO[str]) -> bool:
    """Whether nobody else has a lock on the file."""
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class Counts(NamedTuple):
    """How far a study has come, in cells."""

    waiting: int
    running: int
    done: int
    diverged: int
    failed: int

    @property
    def total(self) -> int:
        """All cells of the spec."""
        return sum(self)

    @property
    def finished(self) -> int:
        """Those that will not be run again."""
        return self.done + self.diverged + self.failed


class Ledger:
    """The cells of a study and what came of them.

    Args:
        folder: Of the study; with a ledger in it, unless ``create``.
        create: Make what is not there.

    Raises:
        InputError: there is no ledger, or it is none that this version can read.
    """

    def __init__(self, folder: Path, *, create: bool = False) -> None:
        self.folder, self._path = folder, folder / FILE
        if not create and not self._path.exists():
            raise InputError(f"{folder} holds no study; make one with: distvi study run SPEC")
        folder.mkdir(parents=True, exist_ok=True)
        self.owners = LockedOwners(folder / "owners")
        try:
            self._open(create)
        except sqlite3.DatabaseError as error:
            raise InputError(f"{self._path} cannot be read as a study's ledger: {error}") from error

    def _open(self, create: bool) -> None:
        self._db = sqlite3.connect(self._path, timeout=_WAIT_S, isolation_level=None)
        if create:
            self._db.execute("PRAGMA journal_mode = WAL")
            with (
                self._transaction() as db
            ):  # whoever opens it meanwhile finds all of it, or nothing
                if self._is_empty():
                    for statement in _TABLES.split(";"):
                        db.execute(statement)
                    db.execute(f"PRAGMA user_version = {_FORMAT}")
        elif self._is_empty():
            raise InputError(f"the study in {self.folder} has not begun yet")
        self._db.execute("PRAGMA synchronous = FULL")
        (found,) = self._db.execute("PRAGMA user_version").fetchone()
        if found != _FORMAT:
            raise InputError(f"{self._path} is a ledger of format {found}; this reads {_FORMAT}")

    def _is_empty(self) -> bool:
        (tables,) = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        return not tables

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield self._db
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    # --- what the study is ------------------------------------------------------------------------

    def put_fact(self, name: str, value: object) -> None:
        """Keep something about the study, such as its spec."""
        text = json.dumps(value)
        self._db.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, text))

    def fact(self, name: str, default: object = None) -> object:
        """What is kept under a name."""
        row = self._db.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return default if row is None else json.loads(row[0])

    def enter(self, cells: Iterable[Cell]) -> None:
        """Let the study be these cells; what is known of them, or of others, stays known."""
        with self._transaction() as db:
            db.execute("UPDATE cells SET active = 0")
            for position, cell in enumerate(cells):
                db.execute(
                    "INSERT INTO cells (id, position, active, block, settings, number, config, "
                    "is_tuned, shape, is_virtual) VALUES (?, ?, 1, ?, ?, ?, ?, ?, ?, ?) "
                    "ON CONFLICT (id) DO UPDATE SET active = 1, position = excluded.position, "
                    "block = excluded.block, settings = excluded.settings",
                    (
                        cell.id,
                        position,
                        cell.block,
                        json.dumps(cell.settings),
                        cell.number,
                        cell.config.model_dump_json(),
                        cell.is_tuned,
                        cell.shape,
                        cell.is_virtual,
                    ),
                )

    def forget(self, statuses: Iterable[str]) -> int:
        """Let cells that ended so be run again; how many there are."""
        marks = list(statuses)
        places = ", ".join("?" * len(marks))
        return self._db.execute(
            "UPDATE cells SET status = 'waiting', owner = NULL, reason = NULL, measured = NULL "
            f"WHERE active AND status IN ({places})",
            marks,
        ).rowcount

    # --- who works on what ------------------------------------------------------------------------

    def claim(self, owner: str, *, virtual: bool, shape: str = "") -> Cell | None:
        """A cell that nobody works on, now the owner's; None: there is none left.

        Args:
            owner: Who will work on it; see `owners`.
            virtual: Whether of those whose time is virtual, or of the others.
            shape: Preferred, because its programs are at hand.
        """
        with self._transaction() as db:
            self._free_those_of_the_dead(db)
            # Of another shape: rather one that nobody else has programs of.
            row = db.execute(
                "SELECT id, block, settings, number, config, is_tuned, shape FROM cells "
                "WHERE active AND status = 'waiting' AND is_virtual = ? ORDER BY shape = ? DESC, "
                "shape IN (SELECT shape FROM cells WHERE status = 'running'), position LIMIT 1",
                (virtual, shape),
            ).fetchone()
            if row is None:
                return None
            db.execute(
                "UPDATE cells SET status = 'running', owner = ? WHERE id = ?", (owner, row[0])
            )
        identifier, block, settings, number, config, is_tuned, shape = row
        run = RunConfig.model_validate_json(config)
        return Cell(identifier, block, json.loads(settings), number, run, bool(is_tuned), shape)

    def _free_those_of_the_dead(self, db: sqlite3.Connection) -> None:
        owners = db.execute("SELECT DISTINCT owner FROM cells WHERE status = 'running'").fetchall()
        for (owner,) in owners:
            if not self.owners.is_alive(owner):
                db.execute(
                    "UPDATE cells SET status = 'waiting', owner = NULL "
                    "WHERE status = 'running' AND owner = ?",
                    (owner,),
                )

    def finish(self, owner: str, record: Record) -> None:
        """Enter what came of a cell that the owner has claimed.

        Raises:
            RuntimeError: it is not the owner's.
        """
        changed = self._db.execute(
            "UPDATE cells SET status = ?, reason = ?, measured = ? "
            "WHERE id = ? AND owner = ? AND status = 'running'",
            (
                record.status,
                record.reason,
                json.dumps(record.measured.as_json()),
                record.cell,
                owner,
            ),
        ).rowcount
        if changed != 1:
            raise RuntimeError(f"cell {record.cell} is not {owner}'s")

    def give_back(self, owner: str) -> None:
        """Let others have what the owner has claimed and not finished."""
        self._db.execute(
            "UPDATE cells SET status = 'waiting', owner = NULL "
            "WHERE status = 'running' AND owner = ?",
            (owner,),
        )

    # --- what is known ----------------------------------------------------------------------------

    def counts(self) -> Counts:
        """How many cells of the spec are in which state."""
        rows = self._db.execute(
            "SELECT status, count(*) FROM cells WHERE active GROUP BY status"
        ).fetchall()
        return Counts(*(dict(rows).get(status, 0) for status in Counts._fields))

    def waiting(self, *, virtual: bool) -> int:
        """How many cells there are that have not been finished."""
        (number,) = self._db.execute(
            "SELECT count(*) FROM cells WHERE active AND is_virtual = ? "
            "AND status IN ('waiting', 'running')",
            (virtual,),
        ).fetchone()
        return number

    def finished(self) -> list[str]:
        """Which cells are."""
        rows = self._db.execute(
            "SELECT id FROM cells WHERE active AND status NOT IN ('waiting', 'running')"
        )
        return [identifier for (identifier,) in rows]

    def records(self) -> list[Record]:
        """What came of the cells of the spec that are finished, in its order."""
        with closing(
            self._db.execute(
                "SELECT id, block, settings, number, status, reason, measured FROM cells "
                "WHERE active AND status NOT IN ('waiting', 'running') ORDER BY position"
            )
        ) as rows:
            return [
                Record(
                    identifier,
                    block,
                    json.loads(settings),
                    number,
                    status,
                    reason or "",
                    Measured.from_json(json.loads(measured)),
                )
                for identifier, block, settings, number, status, reason, measured in rows
            ]
