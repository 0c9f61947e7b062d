"""Legacy miners: how they register under a name, and how they and all others are found by one."""

from collections.abc import Collection, Sequence

from msgspec import Struct

from aitbc.kernel.crypto.signing import canonical, enrolment_statement
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import ids
from aitbc.modules.gpu.api import Inventory, Miner, MinerNotFound
from aitbc.modules.gpu.models.life import Status
from aitbc.modules.gpu.models.offer import Offer
from aitbc.modules.gpu.service.enrolment import Enrol, Enrolled, Enrolment
from aitbc.modules.gpu.service.heartbeats import Heartbeats
from aitbc.modules.gpu.service.legacy_keys import UNKNOWN, LegacyKeys
from aitbc.modules.gpu.service.miners import Miners

RESTARTED = "miner_restarted"
PRESENT = frozenset(Status) - {Status.REMOVED}
TOKEN_SECONDS = 60


class RegisterLegacyMiner(Struct, frozen=True, kw_only=True):
    """A miner without a key of its own registers, with what it has."""

    legacy_id: str
    offer: Offer
    slots: int
    inventory: Inventory
    price_units: int | None
    """What it says that an hour of it costs; none where it says nothing."""


class LegacyMiner(Struct, frozen=True, kw_only=True):
    """A miner with the name that legacy clients call it by."""

    legacy_id: str
    """The name it gave itself; for a miner with a key of its own its id."""
    price_units: int | None
    miner: Miner


class LegacyMiners:
    """Registering legacy miners, and finding miners by name."""

    def __init__(self, keys: LegacyKeys, enrolment: Enrolment, miners: Miners, heartbeats: Heartbeats) -> None:
        self._keys = keys
        self._enrolment = enrolment
        self._miners = miners
        self._heartbeats = heartbeats

    async def register(self, who: Principal, command: RegisterLegacyMiner, *, restarted: bool = True) -> Enrolled:
        """Enrol a miner under a key that the server keeps for it; the same name is the same miner until it is removed.

        The API key goes to the caller itself, so it ends with the caller's. One that was `restarted` has forgotten what
        it worked on: its leases are released. Raises `TooManyMiners`, `TooManyTokens`, `KeyBeingReplaced`.
        """
        keys_end = await self._enrolment.end_of_maker(who)
        key = await self._keys.kept_key(who, command.legacy_id)
        token = (await self._enrolment.create_token(who, TOKEN_SECONDS)).token
        proof = key.sign(canonical(enrolment_statement(token=token, public_key=key.public)))
        enrolled = await self._enrolment.enrol(
            Enrol(
                token=token,
                public_key=key.public,
                name=command.legacy_id,
                proof=proof,
                capabilities=command.offer,
                slots=command.slots,
                inventory=command.inventory,
            ),
            keys_end=keys_end,
        )
        before = await self._keys.assign(who, command.legacy_id, enrolled.miner, command.price_units)
        if before not in (None, enrolled.miner):
            await self._miners.remove(who, before)
        if restarted:
            await self._miners.release_leases(enrolled.miner, RESTARTED)
        await self._heartbeats.record(enrolled.miner)
        return enrolled

    async def update(self, who: Principal, command: RegisterLegacyMiner) -> None:
        """Record what a registered miner has and takes from now on; its keys and its work stay. It is a heartbeat.

        Raises `MinerNotFound`.
        """
        row, miner = await self._keys.acting_miner(who, command.legacy_id)
        assert row.miner is not None
        await self._miners.set_profile(
            miner, row.miner, offer=command.offer, slots=command.slots, inventory=command.inventory
        )
        await self._keys.assign(who, row.legacy_id, row.miner, command.price_units)
        await self._heartbeats.record(row.miner)

    async def remove(self, who: Principal, name: str) -> LegacyMiner:
        """End a miner for good. Raises `MinerNotFound`, also for one that was removed before."""
        found = await self.find(who, name)
        if found.miner.status == Status.REMOVED:
            raise MinerNotFound
        await self._miners.remove(who, found.miner.id)
        return found

    async def find(self, who: Principal, name: str) -> LegacyMiner:
        """A miner of the caller's by the name it gave itself or by its id; any for an admin. Raises `MinerNotFound`.

        A miner's own key finds this miner alone.
        """
        found = await self._find(who, name)
        if who.subject not in (None, found.miner.id):
            raise MinerNotFound(UNKNOWN)
        return found

    async def _find(self, who: Principal, name: str) -> LegacyMiner:
        row = await self._keys.find(who, name)
        if row is not None and row.miner is not None:
            miner = await self._miners.owned(who, row.miner)
            return LegacyMiner(legacy_id=row.legacy_id, price_units=row.price_units, miner=miner)
        if not ids.is_id("mnr", name):
            raise MinerNotFound(UNKNOWN)
        return LegacyMiner(legacy_id=name, price_units=None, miner=await self._miners.owned(who, name))

    async def is_known(self, who: Principal, name: str) -> bool:
        """Whether the caller has a miner of this name that was not removed."""
        row = await self._keys.find(who, name)
        if row is None or row.miner is None:
            return False
        return (await self._miners.get(row.miner)).status != Status.REMOVED

    async def page(
        self, who: Principal, limit: int, *, offset: int = 0, statuses: Collection[str] = PRESENT
    ) -> Sequence[LegacyMiner]:
        """The caller's miners in these statuses, which are those that were not removed, from the newest on.

        All of them for an admin.
        """
        found = await self._miners.slice(who, statuses=PRESENT.intersection(statuses), offset=offset, limit=limit)
        known = await self._keys.of_miners([miner.id for miner in found])
        return [
            LegacyMiner(
                legacy_id=known[miner.id].legacy_id if miner.id in known else miner.id,
                price_units=known[miner.id].price_units if miner.id in known else None,
                miner=miner,
            )
            for miner in found
        ]
