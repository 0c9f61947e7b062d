"""Push configurations: where the client of a task wants to be told of it."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert

from aitbc.kernel.crypto.sealing import Sealer
from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.platform import Egress
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import NotDone, NotFound, TooMany
from aitbc.modules.hermes.models.tables import PushRow, RunRow
from aitbc.modules.hermes.service.commands import AgentRunNotFound

CONFIGS_MAX = 10


class PushConfigNotFound(NotFound):
    """This task has no such push configuration."""

    code = "push_config_not_found"


class TooManyPushConfigs(TooMany):
    """A task may have ten push configurations."""

    code = "too_many_push_configs"


class PushConfig(Struct, frozen=True, kw_only=True):
    """Where to push, and what is shown there."""

    id: str
    url: str
    token: str = ""
    scheme: str = ""
    credentials: str = ""

    def headers(self) -> Mapping[str, str]:
        """What is sent with each message."""
        found = {"content-type": "application/json"}
        if self.token:
            found["x-a2a-notification-token"] = self.token
        if self.scheme and self.credentials:
            found["authorization"] = f"{self.scheme} {self.credentials}"
        return found


class PushConfigs:
    """Keeps push configurations; whose a task is was checked before."""

    def __init__(self, db: Database, egress: Egress | None, sealer: Sealer) -> None:
        self._db = db
        self._egress = egress
        self._sealer = sealer

    def check(self, config: PushConfig) -> None:
        """Check where to push. Raises `DestinationRefused`, and `NotDone` where nothing is sent outside."""
        if self._egress is None:
            raise NotDone("This process sends nothing outside.")
        self._egress.check(config.url)

    @retrying
    async def put(self, run: str, config: PushConfig) -> PushConfig:
        """Set a configuration in place of one of the same id. Raises `DestinationRefused`, `TooManyPushConfigs`."""
        self.check(config)
        values: dict[str, Any] = {
            "url": config.url,
            "secrets": self._sealer.seal(msgspec.json.encode(config)),
            "headers": self._sealer.seal(msgspec.json.encode(config.headers())),
        }
        async with self._db.unit_of_work() as uow:
            await uow.find(RunRow, run, lock=True, missing=AgentRunNotFound)
            others = select(func.count()).select_from(PushRow).where(PushRow.run == run, PushRow.id != config.id)
            if (await uow.session.scalar(others) or 0) >= CONFIGS_MAX:
                raise TooManyPushConfigs
            wanted = insert(PushRow).values(run=run, id=config.id, created_at=now(), **values)
            await uow.session.execute(
                wanted.on_conflict_do_update(index_elements=[PushRow.run, PushRow.id], set_=values)
            )
        return config

    async def all(self, run: str) -> Sequence[PushConfig]:
        """The configurations of a task, by id."""
        async with self._db.reading() as session:
            rows = (await session.scalars(select(PushRow).where(PushRow.run == run).order_by(PushRow.id))).all()
        return [msgspec.json.decode(self._sealer.unseal(row.secrets), type=PushConfig) for row in rows]

    async def one(self, run: str, config: str) -> PushConfig:
        """A configuration of a task. Raises `PushConfigNotFound`."""
        found = next((one for one in await self.all(run) if one.id == config), None)
        if found is None:
            raise PushConfigNotFound
        return found

    @retrying
    async def remove(self, run: str, config: str) -> None:
        """Remove a configuration; one that is not there is gone already."""
        async with self._db.unit_of_work() as uow:
            await uow.session.execute(delete(PushRow).where(PushRow.run == run, PushRow.id == config))
