"""Keys of legacy miners: each comes with a name instead of a key, and the server keeps a key for it (decision 0020)."""

import os
from collections.abc import Sequence

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.dialects.postgresql import insert as upsert

from aitbc.kernel.crypto.sealing import Sealer, Unsealable
from aitbc.kernel.crypto.signing import Key
from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import Conflict, Malformed
from aitbc.modules.gpu.api import MinerNotFound
from aitbc.modules.gpu.models.legacy import LegacyMinerRow
from aitbc.modules.gpu.models.life import Status
from aitbc.modules.gpu.models.tables import MinerRow
from aitbc.modules.gpu.service.enrolment import TooManyMiners

UNKNOWN = "There is no such miner of yours; register it first."
SEED_BYTES = 32


class LegacyKeyLost(Conflict):
    """The key that this server keeps for the miner cannot be opened any more; register the miner again."""

    code = "older_key_lost"


class LegacyKeys:
    """Whom a name means, and the sealed key that is kept for it."""

    def __init__(self, db: Database, seal: Sealer, names_max: int) -> None:
        """`names_max` is how many names of one account may wait for their first registration to end."""
        self._db = db
        self._seal = seal
        self._names_max = names_max

    async def acting_miner(self, who: Principal, name: str | None) -> tuple[LegacyMinerRow, Principal]:
        """A live legacy miner of the caller's, and the caller acting as it. Without a name: the only one there is.

        A miner's own key acts for this miner alone.

        Raises `MinerNotFound`, and `Malformed` where several have none of them named.
        """
        alive = MinerRow.status != Status.REMOVED.value
        query = select(LegacyMinerRow).join(MinerRow, MinerRow.id == LegacyMinerRow.miner)
        query = query.where(LegacyMinerRow.account == who.account, alive)
        if who.subject is not None:
            query = query.where(LegacyMinerRow.miner == who.subject)
        if name is not None:
            query = query.where(is_called(name))
        async with self._db.reading() as session:
            rows = list(await session.scalars(query.limit(2)))
        if not rows or rows[0].miner is None:
            raise MinerNotFound(UNKNOWN)
        if len(rows) > 1:
            raise Malformed("Which miner? Send X-Miner-ID, or miner_id in the query or in the body.")
        return rows[0], acting_as(who, rows[0].miner)

    async def find(self, who: Principal, name: str) -> LegacyMinerRow | None:
        """The row of a name or an id among the caller's; for an admin among all, where only one has it."""
        query = select(LegacyMinerRow).where(is_called(name), LegacyMinerRow.miner.is_not(None))
        async with self._db.reading() as session:
            mine = (await session.scalars(query.where(LegacyMinerRow.account == who.account))).one_or_none()
            if mine is not None or not who.is_admin:
                return mine
            rows = list(await session.scalars(query.limit(2)))
        return rows[0] if len(rows) == 1 else None

    async def of_miners(self, miners: Sequence[str]) -> dict[str | None, LegacyMinerRow]:
        """The rows of those of these miners that are legacy ones, by miner."""
        query = select(LegacyMinerRow).where(LegacyMinerRow.miner.in_(miners))
        async with self._db.reading() as session:
            return {row.miner: row for row in await session.scalars(query)}

    @retrying
    async def kept_key(self, who: Principal, legacy_id: str) -> Key:
        """The key for a name, made at its first use.

        Before the miner is, so that a request which broke off finds it again.
        """
        fresh = self._seal.seal(os.urandom(SEED_BYTES))
        named = (LegacyMinerRow.account == who.account, LegacyMinerRow.legacy_id == legacy_id)
        half_made = select(func.count()).where(
            LegacyMinerRow.account == who.account,
            LegacyMinerRow.legacy_id != legacy_id,
            LegacyMinerRow.miner.is_(None),
        )
        known = select(LegacyMinerRow.miner).where(*named)
        values = {"account": who.account, "legacy_id": legacy_id, "sealed_key": fresh, "created_at": now()}
        async with self._db.unit_of_work() as uow:
            if (await uow.session.execute(known)).one_or_none() is None:
                if (await uow.session.execute(half_made)).scalar_one() >= self._names_max:
                    raise TooManyMiners
                await uow.session.execute(upsert(LegacyMinerRow).values(**values).on_conflict_do_nothing())
            row = (await uow.session.scalars(select(LegacyMinerRow).where(*named).with_for_update())).one()
            try:
                return self.unsealed_key(row)
            except LegacyKeyLost:
                row.sealed_key = fresh
                return self.unsealed_key(row)

    def unsealed_key(self, row: LegacyMinerRow) -> Key:
        """The key that the server keeps for a miner. Raises `LegacyKeyLost`."""
        try:
            return Key(self._seal.unseal(row.sealed_key))
        except Unsealable:
            raise LegacyKeyLost from None

    @retrying
    async def assign(self, who: Principal, legacy_id: str, miner: str, price_units: int | None) -> str | None:
        """Record which miner a name means from now on, and its price; returns which it meant before."""
        named = (LegacyMinerRow.account == who.account, LegacyMinerRow.legacy_id == legacy_id)
        async with self._db.unit_of_work() as uow:
            row = (await uow.session.scalars(select(LegacyMinerRow).where(*named).with_for_update())).one()
            before, row.miner, row.price_units = row.miner, miner, price_units
        return before


def is_called(name: str) -> ColumnElement[bool]:
    """Legacy miners of this name, or the one of this id."""
    return LegacyMinerRow.miner == name if ids.is_id("mnr", name) else LegacyMinerRow.legacy_id == name


def acting_as(who: Principal, miner: str) -> Principal:
    """The caller, acting as a miner of its account."""
    return Principal(who.account, who.key, "miner", frozenset({"miners:work"}), miner)
