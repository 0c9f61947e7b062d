"""The service of gpu: the parts that it is composed of, and what it delegates to them.

    Enrolment ──► miners join                   Listings ◄── Bookings ──► BookingPayments ──► trading
    Heartbeats ─► batched, leases renewed                       BookingReconciler ──┘
    MinerWork ──► Heartbeats, ai: polls, results, failures
    Liveness ───► marks silent miners offline
    Miners ◄──── Reputations, MinerHistory, Readings, Proofs
    LegacyKeys ◄─ LegacyMiners ──► Enrolment, Miners, Heartbeats
        └◄────── LegacyWork ─────► LegacyLeases, MinerWork, Heartbeats

An arrow points from a part to what it asks. The parts change miners and bookings by way of `miner_rows` and
`booking_states`.
"""

from collections.abc import Mapping, Sequence

from msgspec import structs
from prometheus_client import Metric

from aitbc.kernel.crypto.sealing import Sealer
from aitbc.kernel.database.unit_of_work import Connection, Database
from aitbc.kernel.events.relay import set_based
from aitbc.kernel.platform import Platform
from aitbc.modules.ai.api import AiApi
from aitbc.modules.ai.events import AttemptEnded
from aitbc.modules.gpu.api import GpuForRent, GpusWanted, Miner, MinerUse, PaidBooking, Presence, SlotUse, UseMiner
from aitbc.modules.gpu.models.listing_views import for_rent
from aitbc.modules.gpu.service.booking_payments import BookingPayments
from aitbc.modules.gpu.service.booking_receipts import BookingReceipts
from aitbc.modules.gpu.service.booking_reconciler import BookingReconciler
from aitbc.modules.gpu.service.bookings import Bookings
from aitbc.modules.gpu.service.earned import Earned
from aitbc.modules.gpu.service.enrolment import Enrolment
from aitbc.modules.gpu.service.enrolment_codes import EnrolmentCodes
from aitbc.modules.gpu.service.heartbeats import Heartbeats
from aitbc.modules.gpu.service.legacy_keys import LegacyKeys
from aitbc.modules.gpu.service.legacy_leases import LegacyLeases
from aitbc.modules.gpu.service.legacy_miners import LegacyMiners
from aitbc.modules.gpu.service.legacy_work import LegacyWork
from aitbc.modules.gpu.service.listings import ListingFilter, Listings
from aitbc.modules.gpu.service.liveness import Liveness
from aitbc.modules.gpu.service.machine_relay import MachineRelay
from aitbc.modules.gpu.service.machines import Machines
from aitbc.modules.gpu.service.metrics import measure
from aitbc.modules.gpu.service.miner_history import MinerHistory
from aitbc.modules.gpu.service.miners import Miners
from aitbc.modules.gpu.service.proofs import Proofs
from aitbc.modules.gpu.service.readings import Readings
from aitbc.modules.gpu.service.reputation import Reputations
from aitbc.modules.gpu.service.retention import Retention
from aitbc.modules.gpu.service.settings import GpuSettings
from aitbc.modules.gpu.service.uses import Uses
from aitbc.modules.gpu.service.work import MinerWork
from aitbc.modules.trading.api import TradingApi


class GpuService:
    """The parts, and the face, the event handlers and the periodic tasks that are delegated to them."""

    def __init__(
        self, db: Database, ai: AiApi, trading: TradingApi, platform: Platform, settings: GpuSettings | None = None
    ) -> None:
        settings = settings or GpuSettings()
        self.db = db
        self.miners = Miners(db, ai, platform.identity)
        self.earned = Earned(db, self.miners, ai, trading)
        self.enrolment = Enrolment(db, platform.identity, settings)
        self.enrolment_codes = EnrolmentCodes(db, self.enrolment)
        self.heartbeats = Heartbeats(db, ai, settings)
        self.work = MinerWork(db, ai, self.heartbeats)
        self.liveness = Liveness(db, platform.loop_lag, settings)
        self.reputations = Reputations(db, self.miners)
        retention = Retention(platform.parameters)
        self.readings = Readings(db, self.miners, retention)
        self.proofs = Proofs(db, self.miners, settings, retention)
        self.miner_history = MinerHistory(db, ai, self.miners)
        self.listings = Listings(db)
        self.booking_payments = BookingPayments(db, trading, settings, platform.parameters)
        self.booking_reconciler = BookingReconciler(db, ai, self.booking_payments)
        self.bookings = Bookings(db, ai, self.listings, self.booking_payments)
        self.booking_receipts = BookingReceipts(self.bookings, platform.node_key)
        self.machines = Machines(db, settings)
        self.machine_relay = MachineRelay(self.machines, settings, platform.draining)
        self.miner_uses = Uses(db, ai, self.booking_payments)
        self.legacy_keys = LegacyKeys(db, Sealer(platform.secret, "keys of older miners"), settings.miners_max)
        self.legacy_miners = LegacyMiners(self.legacy_keys, self.enrolment, self.miners, self.heartbeats)
        self.legacy_leases = LegacyLeases(db, ai, settings.older_patience_seconds)
        self.legacy_work = LegacyWork(self.legacy_keys, self.legacy_leases, self.work, self.heartbeats)

    async def miner(self, miner: str) -> Miner:
        """One miner. Raises `MinerNotFound`."""
        return await self.miners.get(miner)

    async def miners_of(self, account: str) -> Sequence[Miner]:
        """The account's miners that are online."""
        return await self.miners.online_of(account)

    async def use_of(self, accounts: Sequence[str]) -> Mapping[str, SlotUse]:
        """How much of these accounts' miners is in use."""
        return await self.miners.use_of(accounts)

    async def presence(self, kind: str | None = None, region: str | None = None) -> Presence:
        """How many miners there are, of all or of a group."""
        return await self.miners.presence(kind, region)

    async def begin_use(self, command: UseMiner) -> MinerUse:
        """Give a miner to one account."""
        return await self.miner_uses.begin(command)

    async def prolong_use(self, booking: str, paid_ms: int) -> MinerUse:
        """Say how much time of a use is paid for, all in all."""
        return await self.miner_uses.prolong(booking, paid_ms)

    async def end_use(self, booking: str) -> MinerUse:
        """Take a miner back."""
        return await self.miner_uses.end(booking)

    async def uses(self, bookings: Sequence[str]) -> Sequence[MinerUse]:
        """Those of these uses that there are."""
        return await self.miner_uses.read(bookings)

    async def paid_booking(self, booking: str) -> PaidBooking | None:
        """What was paid for a booking of a listed GPU."""
        return await self.booking_payments.paid(booking)

    async def listed_gpus(self, wanted: GpusWanted) -> Sequence[GpuForRent]:
        """Listed GPUs, from the newest on."""
        return [for_rent(one) for one in await self.listings.page(ListingFilter(**structs.asdict(wanted)))]

    @set_based
    async def on_attempts_ended(self, connection: Connection, events: Sequence[AttemptEnded]) -> None:
        """Record each attempt once, and bring the reputations of their miners up to it."""
        await self.reputations.record(connection, events)

    async def watch(self) -> None:
        """Mark as offline the miners whose heartbeats stopped."""
        await self.liveness.watch()

    async def reconcile_bookings(self) -> None:
        """End, refuse and settle the bookings that are due."""
        await self.booking_reconciler.reconcile()
        await self.miner_uses.stop_unpaid()

    async def keep_readings(self) -> None:
        """Keep what GPUs read now, sum it up by the hour, and drop what is old."""
        await self.readings.keep()

    async def expire_proofs(self) -> None:
        """Call claimed again what was measured too long ago."""
        await self.proofs.expire()

    async def look_at_machines(self) -> None:
        """End the connections of this process to machines whose time is over."""
        await self.machine_relay.look()

    async def sweep_machines(self) -> None:
        """End the connections to machines that are lost, and forget old ones."""
        await self.machines.sweep()

    async def keep_legacy_leases(self) -> None:
        """Renew the leases of legacy miners, and close those that ended."""
        await self.legacy_leases.keep_alive()

    async def measure(self) -> Sequence[Metric]:
        """The figures of the fleet, for Prometheus."""
        return await measure(self.db)
