"""Exports of a chain as long as one wants, made by the ledger's own rules and signed with real keys, without a server."""

from collections.abc import Iterator
from datetime import timedelta
from typing import IO, Any
from uuid import UUID

from msgspec import Struct

from aitbc.kernel.crypto import chain_format
from aitbc.kernel.crypto.signing import Key, canonical, work_statement
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.modules.trading.api import PlaceHold, SettleHold
from aitbc.modules.trading.models.book import Book
from aitbc.modules.trading.models.rows import ESCROW, FEES, ISSUANCE, SYSTEM, Account

LIVES_A_BLOCK = 1_000
PEOPLE = 100
HOLD, PRICE, GRANT = 5_000_000, 1_234_500, 10**14
DIGEST = "sha256:" + "5a" * 32
NAMES = {ISSUANCE: "issuance", ESCROW: "escrow", FEES: "fees"}


class Person(Struct, frozen=True):
    """Somebody who pays, and somebody with a miner."""

    payer: str
    miner_account: str
    miner: str
    key: Key


class Ledger:
    """Accounts and the blocks that tell what happened to them."""

    def __init__(self) -> None:
        self.node = Key.generate()
        self.entries = 0
        self.people = [
            Person(ids.new_id("acct"), ids.new_id("acct"), ids.new_id("mnr"), Key.generate()) for _ in range(PEOPLE)
        ]
        self._accounts = {id_: _account(id_, SYSTEM, name) for id_, name in NAMES.items()}
        for person in self.people:
            for owner in (person.payer, person.miner_account):
                self._accounts[ids.decode("acct", owner)] = _account(ids.decode("acct", owner), owner, "main")

    def blocks(self) -> Iterator[list[tuple[bytes, bytes]]]:
        """Record and digest of each block, for ever: the grants first, then lives."""
        book = self._book()
        for person in self.people:
            book.grant("deposit", self._accounts[ids.decode("acct", person.payer)], GRANT, None)
        yield self._written(book)
        while True:
            book = self._book()
            for number in range(LIVES_A_BLOCK):
                _live(book, self.people[number % PEOPLE])
            yield self._written(book)

    def _book(self) -> Book:
        return Book(at=now(), key=self.node, fee_basis_points=250, accounts=self._accounts)

    def _written(self, book: Book) -> list[tuple[bytes, bytes]]:
        receipts = {issued.transaction_id: issued for issued in book.issued}
        found = []
        for posting in book.postings:
            self.entries += len(posting.entries)
            found.append((posting.body.encode(), posting.digest))
            if posting.id in receipts:
                found.append((receipts[posting.id].body.encode(), receipts[posting.id].digest))
        return found


class Export:
    """A file that grows block by block."""

    def __init__(self, out: IO[bytes], node: Key) -> None:
        self._out = out
        self._node = node
        self._previous: str | None = None
        self._height, self._records = -1, 0
        self.add([])

    def add(self, records: list[tuple[bytes, bytes]]) -> None:
        """Seal some records and write them down."""
        header: dict[str, Any] = chain_format.block_header(
            height=self._height + 1,
            previous=self._previous,
            time=f"{now().isoformat(timespec='microseconds')[:-6]}Z",
            merkle_root=chain_format.merkle_root(digest for _, digest in records),
            first_sequence=self._records + 1,
            records=len(records),
            node_key=self._node.public,
        )
        if self._previous is None:
            self._out.write(chain_format.export_start(chain_format.block_hash(header)) + b"\n")
        self._out.write(chain_format.export_block(header, self._node.sign(canonical(header))) + b"\n")
        self._out.writelines(body + b"\n" for body, _ in records)
        self._previous = chain_format.block_hash(header)
        self._height, self._records = self._height + 1, self._records + len(records)

    def ending(self) -> bytes:
        """The line that would end it here."""
        assert self._previous is not None
        keys = [self._node.public]
        end = chain_format.export_end(head=self._previous, height=self._height, records=self._records, keys=keys)
        return end + b"\n"


def write(out: IO[bytes], entries: int) -> int:
    """Write an export of at least so many entries; answers how many it has."""
    ledger = Ledger()
    export = Export(out, ledger.node)
    for records in ledger.blocks():
        export.add(records)
        if ledger.entries >= entries:
            break
    out.write(export.ending())
    return ledger.entries


def _account(id_: UUID, owner: str, purpose: str) -> Account:
    return Account(id_, owner, purpose, 0, 0, 0, 0, 0, 0)


def _live(book: Book, person: Person) -> None:
    job, attempt = ids.new_id("job"), ids.new_id("att")
    hold = f"hold_{job.removeprefix('job_')}"
    deadline = book.at + timedelta(hours=1)
    book.place(PlaceHold(hold=hold, payer=person.payer, amount_units=HOLD, expires_at=deadline, reference=job))
    statement = work_statement(
        job=job,
        attempt=attempt,
        token=1,
        miner=person.miner,
        kind="embed",
        input_digest=DIGEST,
        output_digest=DIGEST,
    )
    book.settle(
        SettleHold(
            hold=hold,
            job=job,
            attempt=attempt,
            token=1,
            payer=person.payer,
            miner=person.miner,
            miner_account=person.miner_account,
            kind="embed",
            input_digest=DIGEST,
            output_digest=DIGEST,
            unit="token",
            units=20,
            price_units=PRICE,
            started_at=book.at,
            finished_at=book.at,
            miner_key=person.key.public,
            miner_signature=person.key.sign(canonical(statement)),
        )
    )
    # What is settled is of no more use to the book, and would only fill its memory.
    del book.holds[hold], book.settled[hold]
