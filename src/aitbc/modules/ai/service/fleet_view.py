"""The read model of the fleet: every miner as the events of gpu describe it."""

from collections.abc import Sequence
from datetime import datetime

import msgspec
from sqlalchemy import select

from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.primitives.clock import now
from aitbc.modules.ai.api import ModelFacts
from aitbc.modules.ai.batched.device_room import read_rooms
from aitbc.modules.ai.models.asks import Ask, ask_for
from aitbc.modules.ai.models.devices import devices_of, devices_text
from aitbc.modules.ai.models.fleet import ONLINE, FleetMiner
from aitbc.modules.ai.models.prospects import ModelInfo, model_info
from aitbc.modules.ai.models.queue import Needs, matches
from aitbc.modules.ai.models.tables import AskRow, MinerRow
from aitbc.modules.ai.service.kind_health import KindHealth
from aitbc.modules.ai.service.market_asks import MarketAsks
from aitbc.modules.ai.service.waiters import WaitingMiners
from aitbc.modules.gpu.events import MinerChanged

MODELS = """
SELECT k.key AS kind, m.name, count(*) FILTER (WHERE status = 'online') AS miners,
    coalesce(sum(slots) FILTER (WHERE status = 'online'), 0)::int AS slots,
    array_agg(DISTINCT coalesce(model_facts::json ->> m.name, '{}')) FILTER (WHERE status = 'online') AS facts
FROM ai.miners, json_each(models::json) AS k, json_array_elements_text(k.value) AS m(name)
WHERE k.key = ANY(kinds) AND (status IN ('online', 'draining') OR status = 'offline' AND changed_at >= $1)
GROUP BY 1, 2 ORDER BY k.key COLLATE "C", m.name COLLATE "C"
"""

OFFERED = (
    *("kinds", "models", "model_facts", "programs", "device", "gpu_models", "vram_mib", "region", "cuda", "devices"),
    *("booking", "booker"),
)
"""What a claim that waits was matched by when it came."""
_decoder = msgspec.json.Decoder(dict[str, ModelFacts])


class FleetView:
    """Kept by events, read for quotes and explanations."""

    def __init__(self, db: Database, waiting: WaitingMiners, health: KindHealth, asks: MarketAsks) -> None:
        self._db = db
        self._asks = asks
        self._health = health
        self._waiting = waiting

    async def apply(self, uow: UnitOfWork, events: Sequence[MinerChanged]) -> None:
        """Keep the newest version of each miner; one whose offer or booking changed asks anew for what it may take."""
        newest: dict[str, MinerChanged] = {}
        for event in sorted(events, key=lambda event: event.version):
            newest[event.miner] = event
        for miner in sorted(newest):
            event = newest[miner]
            row = await uow.session.get(MinerRow, miner, with_for_update=True)
            if row is None:
                uow.add(MinerRow(id=miner, **_columns(event)))
                await uow.session.flush()
            elif row.version < event.version:
                columns = _columns(event)
                if any(getattr(row, name) != columns[name] for name in OFFERED):
                    self._waiting.recall(miner)
                for name, value in columns.items():
                    setattr(row, name, value)

    async def models(self, *, alive_since: datetime) -> list[ModelInfo]:
        """The models of the miners that are alive, or went away since then; sorted by kind and name."""
        async with self._db.raw() as connection:
            rows = await connection.fetch(MODELS, alive_since)
        return [model_info(**row) for row in rows]

    async def offered(self, needs: Needs, fleet: Sequence[FleetMiner]) -> list[tuple[FleetMiner, Ask | None]]:
        """The miners that fit and are online, each with what it asks: the cheapest first, then those that ask nothing
        of their own.
        """
        fitting = [miner for miner in fleet if miner.status == ONLINE and matches(needs, miner)]
        asks, at = await self._asks.of([miner.id for miner in fitting]), now()
        found = [(miner, ask_for(needs, asks.get(miner.id, ()), at)) for miner in fitting]
        return sorted(found, key=lambda one: (one[1] is None, 0 if one[1] is None else one[1].units, one[0].id))

    async def with_room(self, needs: Needs, miners: Sequence[FleetMiner]) -> list[str]:
        """Those of these miners whose GPUs would be enough for a job with these needs now."""
        rooms = await read_rooms(self._db, [miner.id for miner in miners])
        return [miner for miner, room in rooms.items() if room.choose(needs)]

    async def miners(self) -> list[FleetMiner]:
        """Every miner that has not been removed."""
        async with self._db.reading() as session:
            known = select(MinerRow, AskRow.unproven).outerjoin(AskRow, AskRow.miner == MinerRow.id)
            rows = (await session.execute(known.where(MinerRow.status != "removed"))).all()
        return [
            FleetMiner(
                row.id,
                row.status,
                row.status_reason,
                tuple(row.kinds),
                msgspec.json.decode(row.models, type=dict[str, tuple[str, ...]]),
                tuple(row.programs),
                row.device,
                tuple(row.gpu_models),
                row.vram_mib,
                row.region,
                row.slots,
                row.cuda,
                devices_of(row.devices),
                row.booking,
                row.booker,
                (*self._health.resting(row.id), *(unproven or "").split()),
                row.account,
                {} if row.model_facts is None else _decoder.decode(row.model_facts),
            )
            for row, unproven in rows
        ]


def _columns(event: MinerChanged) -> dict[str, object]:
    return {
        "version": event.version,
        "status": event.status,
        "status_reason": event.status_reason,
        "kinds": list(event.kinds),
        "models": msgspec.json.encode(event.models).decode(),
        "model_facts": msgspec.json.encode(event.model_facts).decode() if event.model_facts else None,
        "programs": list(event.programs),
        "device": event.device,
        "gpu_models": list(event.gpu_models),
        "vram_mib": event.vram_mib,
        "region": event.region,
        "slots": event.slots,
        "cuda": event.cuda,
        "devices": devices_text(event.devices),
        "booking": event.booking,
        "booker": event.booker,
        "changed_at": event.changed_at,
        "account": event.account,
    }
