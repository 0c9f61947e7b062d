"""What every part of the service stands on: the database, the neighbours, the gatherers, and how a change is told."""

import asyncio
from collections import Counter
from datetime import datetime

from sqlalchemy import Select, select

from aitbc.kernel.crypto.sealing import Sealer
from aitbc.kernel.database.batcher import Batcher
from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.platform import Platform
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.modules.ai.api import AiApi
from aitbc.modules.gpu.api import Miner, MinerNotFound
from aitbc.modules.gpu.batched import beat_many, read_asking
from aitbc.modules.gpu.models.life import Status, hear
from aitbc.modules.gpu.models.tables import MinerRow, ProfileRow, ReputationRow, StatusChangeRow
from aitbc.modules.gpu.models.values import Asking, Beat, Standing
from aitbc.modules.gpu.models.views import miner_changed, miner_view
from aitbc.modules.gpu.service.settings import GpuSettings
from aitbc.modules.trading.api import TradingApi


class Desk:
    """The common ground of the parts of the service."""

    def __init__(
        self, db: Database, ai: AiApi, trading: TradingApi, platform: Platform, settings: GpuSettings | None = None
    ) -> None:
        self.db = db
        self.ai = ai
        self.trading = trading
        self.identity = platform.identity
        self.loop_lag = platform.loop_lag
        self.seal = Sealer(platform.secret, "keys of older miners")
        self.settings = settings or GpuSettings()
        self.beats: Batcher[Beat, Standing] = Batcher(lambda batch: beat_many(db, batch))
        self.askings: Batcher[str, Asking] = Batcher(lambda batch: read_asking(db, batch))
        self.public_keys: dict[str, str] = {}
        """Those of miners that have delivered to this process: a miner has one for as long as it lives."""
        self.polls: Counter[str] = Counter()
        """How many polls of each miner wait in this process."""
        self.issuing = asyncio.Lock()
        """Held while a miner's old keys end and its new one is made."""

    async def miner(self, miner: str) -> Miner:
        """One miner. Raises `MinerNotFound`."""
        if not ids.is_id("mnr", miner):
            raise MinerNotFound
        async with self.db.reading() as session:
            row = (await session.execute(whole().where(MinerRow.id == miner))).one_or_none()
        if row is None:
            raise MinerNotFound
        return miner_view(*row)

    async def view(self, uow: UnitOfWork, row: MinerRow) -> Miner:
        """A miner as others see it."""
        profile = await uow.session.get_one(ProfileRow, row.id)
        return miner_view(row, profile, await uow.session.get(ReputationRow, row.id))

    async def own(self, uow: UnitOfWork, who: Principal, miner: str) -> MinerRow:
        """A miner of the caller's, locked; any for an admin. Raises `MinerNotFound`."""
        row = await uow.find(MinerRow, miner, lock=True, missing=MinerNotFound)
        if not who.owns(row.account):
            raise MinerNotFound
        return row

    async def tell(self, uow: UnitOfWork, row: MinerRow, before: str, at: datetime) -> None:
        """Keep the step from the status before, if it is one, and tell what matching must know of the miner now.

        Of a miner that was never heard of there is nothing to tell yet.
        """
        row.changed_at = at
        if row.status != before:
            uow.add(StatusChangeRow(miner=row.id, at=at, status=row.status, reason=row.status_reason))
        if row.status == Status.ENROLLED:
            return
        capabilities = await uow.session.scalar(select(ProfileRow.capabilities).where(ProfileRow.miner == row.id))
        assert capabilities is not None
        uow.publish(miner_changed(row, capabilities, at))

    async def beat(self, beat: Beat) -> Standing:
        """Hear a sign of life, one way or the other. Raises `MinerNotFound`."""
        return await (self.beats.do(beat) if self.settings.hot else self._beat_alone(beat))

    @retrying
    async def _beat_alone(self, beat: Beat) -> Standing:
        async with self.db.unit_of_work() as uow:
            row = await uow.find(MinerRow, beat.miner, lock=True, missing=MinerNotFound)
            before, at = row.status, now()
            slots = row.slots if beat.slots is None else beat.slots
            changed = hear(row, slots=slots, pause=beat.pause, leaving=beat.leaving)
            if row.status != Status.REMOVED:
                row.seen_at = at
                row.slots_busy = row.slots_busy if beat.slots_busy is None else beat.slots_busy
                row.readings = beat.readings or row.readings
            if changed:
                await self.tell(uow, row, before, at)
            return Standing(row.status, row.status_reason)


def whole() -> Select[MinerRow, ProfileRow, ReputationRow]:
    """Miners with all that is shown of them; the last is none for one without a past."""
    return (
        select(MinerRow, ProfileRow, ReputationRow)
        .join(ProfileRow, ProfileRow.miner == MinerRow.id)
        .outerjoin(ReputationRow, ReputationRow.miner == MinerRow.id)
    )


def speaking_for(who: Principal) -> str:
    """The miner that a key speaks for. Raises `MinerNotFound` for a key that speaks for none."""
    if who.subject is None or not ids.is_id("mnr", who.subject):
        raise MinerNotFound("This key does not speak for a miner: use the one that the miner got when it enrolled.")
    return who.subject
