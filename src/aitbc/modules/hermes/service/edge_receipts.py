"""Receipts of edges: each is checked, and kept once however often it is brought."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert

from aitbc.kernel.crypto.signing import NotCanonical, canonical, verify
from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives.clock import now
from aitbc.modules.hermes.models.edge_shapes import EdgeReceipt, EdgeStatement
from aitbc.modules.hermes.models.edge_tables import DeploymentRow, EdgeReceiptRow, EdgeRow, PlacementRow
from aitbc.modules.hermes.service.edge_commands import (
    DeploymentNotFound,
    EdgeNotFound,
    ReceiptRefused,
    ReceiptsTaken,
    SentReceipt,
)

_statements: msgspec.json.Decoder[EdgeStatement] = msgspec.json.Decoder(EdgeStatement)


class EdgeReceipts:
    """Takes receipts of edges, and shows them."""

    def __init__(self, db: Database) -> None:
        self._db = db

    @retrying
    async def take(self, who: Principal, sent: Sequence[SentReceipt]) -> ReceiptsTaken:
        """Keep what an edge brings; what is refused is named, and keeps nothing else from being kept.

        Raises `EdgeNotFound` where the key's miner is no edge.
        """
        async with self._db.unit_of_work() as uow:
            edge = await uow.find(EdgeRow, who.subject or "", missing=EdgeNotFound)
            if edge.account != who.account:
                raise EdgeNotFound
            here = select(PlacementRow.deployment).where(PlacementRow.edge == edge.id)
            deployed = set(await uow.session.scalars(here))
            kept, known, refused = 0, 0, list[ReceiptRefused]()
            counts: dict[str, list[int]] = {}
            for number, one in enumerate(sent):
                statement = _checked(edge, deployed, one)
                if isinstance(statement, str):
                    refused.append(ReceiptRefused(number=number, reason=statement))
                elif await self._keep(uow, statement, one):
                    kept += 1
                    count = counts.setdefault(statement.deployment, [0, 0, 0])
                    count[1 if statement.problem else 0] += 1
                    count[2] += statement.cut_off
                elif await self._is_known(uow, statement, one):
                    known += 1
                else:
                    refused.append(ReceiptRefused(number=number, reason="conflicts"))
            await _count(uow, edge.id, counts)
            return ReceiptsTaken(kept=kept, known=known, refused=tuple(refused))

    async def _keep(self, uow: UnitOfWork, statement: EdgeStatement, sent: SentReceipt) -> bool:
        """Whether it is new."""
        row = insert(EdgeReceiptRow).values(
            edge=statement.edge,
            journal=statement.journal,
            sequence=statement.sequence,
            deployment=statement.deployment,
            version=statement.version,
            statement=sent.statement,
            signature=sent.signature,
            succeeded=not statement.problem,
            cut_off=statement.cut_off,
            milliseconds=statement.milliseconds,
            ended_at=statement.ended_at,
            received_at=now(),
        )
        made = row.on_conflict_do_nothing().returning(EdgeReceiptRow.sequence)
        return (await uow.session.execute(made)).first() is not None

    async def _is_known(self, uow: UnitOfWork, statement: EdgeStatement, sent: SentReceipt) -> bool:
        """Whether what is kept under its number is the same."""
        kept = await uow.session.get(EdgeReceiptRow, (statement.edge, statement.journal, statement.sequence))
        return kept is not None and kept.statement == sent.statement

    async def page(
        self, who: Principal, deployment: str, *, after: tuple[str, str, int] | None, limit: int
    ) -> Sequence[EdgeReceipt]:
        """The receipts of a deployment of the caller's, by edge, book and number. Raises `DeploymentNotFound`."""
        key = (EdgeReceiptRow.edge, EdgeReceiptRow.journal, EdgeReceiptRow.sequence)
        async with self._db.unit_of_work() as uow:
            row = await uow.find(DeploymentRow, deployment, missing=DeploymentNotFound)
            if not who.owns(row.account):
                raise DeploymentNotFound
            found = select(EdgeReceiptRow, EdgeRow.public_key).join(EdgeRow, EdgeRow.id == EdgeReceiptRow.edge)
            found = found.where(EdgeReceiptRow.deployment == deployment)
            if after is not None:
                edge, journal, sequence = after
                later = (EdgeReceiptRow.edge == edge) & (
                    (EdgeReceiptRow.journal > journal)
                    | ((EdgeReceiptRow.journal == journal) & (EdgeReceiptRow.sequence > sequence))
                )
                found = found.where((EdgeReceiptRow.edge > edge) | later)
            rows = (await uow.session.execute(found.order_by(*key).limit(limit))).all()
        return [_view(receipt, public_key) for receipt, public_key in rows]


def _checked(edge: EdgeRow, deployed: set[str], sent: SentReceipt) -> EdgeStatement | str:
    """What a receipt says, or why it is refused."""
    try:
        statement = _statements.decode(sent.statement)
        is_canonical = canonical(msgspec.json.decode(sent.statement)) == sent.statement.encode()
    except (msgspec.MsgspecError, NotCanonical, UnicodeError):
        return "unreadable"
    if not is_canonical or statement.ended_at.tzinfo is None:
        return "not_canonical"
    if statement.edge != edge.id:
        return "wrong_edge"
    if not verify(edge.public_key, sent.statement.encode(), sent.signature):
        return "wrong_signature"
    return statement if statement.deployment in deployed else "not_deployed_there"


async def _count(uow: UnitOfWork, edge: str, counts: Mapping[str, Sequence[int]]) -> None:
    for deployment, (served, broken, cut_off) in sorted(counts.items()):
        more: dict[str, Any] = {
            "served": PlacementRow.served + served,
            "broken": PlacementRow.broken + broken,
            "cut_off": PlacementRow.cut_off + cut_off,
        }
        here = (PlacementRow.deployment == deployment, PlacementRow.edge == edge)
        await uow.session.execute(update(PlacementRow).where(*here).values(**more))


def _view(row: EdgeReceiptRow, public_key: str) -> EdgeReceipt:
    return EdgeReceipt(
        edge=row.edge,
        journal=row.journal,
        sequence=row.sequence,
        statement=row.statement,
        signature=row.signature,
        public_key=public_key,
        received_at=row.received_at,
    )
