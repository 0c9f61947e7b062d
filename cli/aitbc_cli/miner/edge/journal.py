"""What an edge keeps on its disk: what it is to serve, and the signed receipts that the server does not have yet."""

import secrets
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

RECEIPTS_MAX = 100_000
"""So many receipts wait at most; then nothing more is served until the server can be reached."""


class Receipt(NamedTuple):
    """A receipt that waits."""

    sequence: int
    statement: str
    signature: str


class JournalFull(Exception):
    """As many receipts wait as may."""


class Journal:
    """The book of an edge: every change is on the disk when a method returns. One thread at a time uses it."""

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        path.chmod(0o600)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = FULL")
        self._database.execute("CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL)")
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS receipts (sequence INTEGER PRIMARY KEY AUTOINCREMENT,"
            " statement TEXT NOT NULL, signature TEXT NOT NULL)"
        )
        self._database.execute("INSERT OR IGNORE INTO facts VALUES ('journal', ?)", (secrets.token_hex(16),))
        self.id = self.fact("journal") or ""
        """The name of the book: another one is begun where the disk was lost."""

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def fact(self, name: str) -> str | None:
        """Something that was noted; none where nothing was."""
        row = self._database.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def note(self, name: str, value: str) -> None:
        """Note something in place of what was noted before."""
        self._database.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))

    @property
    def waiting(self) -> int:
        """How many receipts wait."""
        return int(self._database.execute("SELECT count(*) FROM receipts").fetchone()[0])

    def require_room(self) -> None:
        """Raise `JournalFull` unless one more may wait."""
        if self.waiting >= RECEIPTS_MAX:
            raise JournalFull

    def add(self, signed: Callable[[int], tuple[str, str]]) -> Receipt:
        """Keep one more receipt; `signed` answers statement and signature for its number."""
        self._database.execute("BEGIN IMMEDIATE")
        try:
            row = self._database.execute("INSERT INTO receipts (statement, signature) VALUES ('', '')")
            sequence = int(row.lastrowid or 0)
            statement, signature = signed(sequence)
            fields = (statement, signature, sequence)
            self._database.execute("UPDATE receipts SET statement = ?, signature = ? WHERE sequence = ?", fields)
        except BaseException:
            self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")
        return Receipt(sequence, statement, signature)

    def oldest(self, count: int) -> Sequence[Receipt]:
        """The receipts that have waited longest."""
        found = "SELECT sequence, statement, signature FROM receipts ORDER BY sequence LIMIT ?"
        return [Receipt(*row) for row in self._database.execute(found, (count,))]

    def forget(self, receipts: Sequence[Receipt]) -> None:
        """Remove receipts that the server has answered for; their numbers are never used again."""
        for receipt in receipts:
            self._database.execute("DELETE FROM receipts WHERE sequence = ?", (receipt.sequence,))
