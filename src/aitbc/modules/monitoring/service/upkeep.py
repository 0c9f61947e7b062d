"""Upkeep: clean-up, reindexing and backups that were asked for, done, and written down."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Struct

from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.ids import new_id
from aitbc.kernel.primitives.json_schema import one_of
from aitbc.modules.monitoring.models.tables import UpkeepRow
from aitbc.modules.monitoring.service.probes import Probes

ACTIONS = ("cleanup", "reindex", "backup")


class UpkeepDone(Struct, frozen=True, kw_only=True):
    """A piece of upkeep that was done."""

    id: str
    """The run. For example `upk_01k0000000000000000000000a`."""
    action: Annotated[str, one_of(ACTIONS)]
    """What was done. For example `cleanup`."""
    started_at: datetime
    """When it began."""
    ended_at: datetime
    """When it was done."""
    result: dict[str, Any]
    """What came of it: `removed` rows, `indexes` rebuilt, or `file` and `bytes` of the backup."""


class UpkeepRuns:
    """Has upkeep done, and writes it down."""

    def __init__(self, db: Database, probes: Probes) -> None:
        self._db = db
        self._probes = probes

    async def run(self, who: Principal, action: str) -> UpkeepDone:
        """Do it now, and answer when it is done. Raises `NotDone` where this process cannot, and what it fails of."""
        started_at = now()
        result: Mapping[str, Any] = await self._probes.installation.upkeep(action)
        done = UpkeepDone(id=new_id("upk"), action=action, started_at=started_at, ended_at=now(), result=dict(result))
        async with self._db.unit_of_work() as uow:
            uow.add(
                UpkeepRow(
                    id=done.id,
                    action=action,
                    account=who.account,
                    started_at=started_at,
                    ended_at=done.ended_at,
                    result=msgspec.json.encode(done.result).decode(),
                )
            )
            await uow.audit(who.account, who.key, f"upkeep.{action}", done.id, after=done.result)
        return done
