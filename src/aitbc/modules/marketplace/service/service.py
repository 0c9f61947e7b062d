"""The service of marketplace: the parts that it is composed of, and what it delegates to them.

    Offers ─────► gpu: whose a miner is, and what it has
    MinerFacts ─► keeps what gpu tells of miners; Rules put those that come online on sale
    Repricing ──► gpu: how many slots are busy
    OfferSpeeds ─► ai: what is metered, and how fast miners are
    Ratings ────► trading, PaidBookings ─► gpu: who paid whom
    MarketBookings ─► BookingKeeper ─► gpu: gives miners to accounts; Slices ─► trading: hold and pay
    WorkKeeper ─► ai: places what was agreed on; trading: who was paid
    MarketBids ─► BidKeeper ─► trading: holds and returns; BookingKeeper: begins what was traded
    Bounties ─► ai: what waits for a model that nobody serves; trading: hold and pay
    Bonds, BondKeeper ─► trading: hold, and give to whom a dispute says
    MarketDisputes ─► PaidBookings; DisputeKeeper ─► trading: sets aside, and gives back
    OfferSearch   reads what the others have written
    PostedOrders ─► the engine of MarketBids: what older clients of the GPU service offer and bid
    Items, Bids ◄── Purchases ──► trading: what the older marketplace sells

An arrow points from a part to what it asks.
"""

from collections.abc import Sequence

from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.platform import Platform
from aitbc.modules.ai.api import AiApi
from aitbc.modules.gpu.api import GpuApi
from aitbc.modules.gpu.events import MinerChanged
from aitbc.modules.marketplace.api import MarketOffer
from aitbc.modules.marketplace.service.agreed_work import WorkKeeper, hear_agreed_work
from aitbc.modules.marketplace.service.bids.bids import MarketBids
from aitbc.modules.marketplace.service.bids.keeper import BidKeeper
from aitbc.modules.marketplace.service.bonds.bonds import Bonds
from aitbc.modules.marketplace.service.bonds.keeper import BondKeeper
from aitbc.modules.marketplace.service.bookings.agreed import place_agreed
from aitbc.modules.marketplace.service.bookings.bookings import MarketBookings
from aitbc.modules.marketplace.service.bookings.keeper import BookingKeeper
from aitbc.modules.marketplace.service.bookings.receipts import MarketReceipts
from aitbc.modules.marketplace.service.bookings.slices import Slices
from aitbc.modules.marketplace.service.bounties import Bounties, Purse
from aitbc.modules.marketplace.service.disputes.disputes import MarketDisputes
from aitbc.modules.marketplace.service.disputes.keeper import DisputeKeeper
from aitbc.modules.marketplace.service.items import Bids, Items
from aitbc.modules.marketplace.service.miner_facts import MinerFacts
from aitbc.modules.marketplace.service.offer_speeds import OfferSpeeds
from aitbc.modules.marketplace.service.offers import Offers
from aitbc.modules.marketplace.service.payments import PaidBookings
from aitbc.modules.marketplace.service.posted_orders.orders import PostedOrders
from aitbc.modules.marketplace.service.purchases import Purchases
from aitbc.modules.marketplace.service.ratings import Ratings
from aitbc.modules.marketplace.service.repricing import Repricing
from aitbc.modules.marketplace.service.rules import Rules
from aitbc.modules.marketplace.service.search import OfferSearch
from aitbc.modules.marketplace.service.settings import MarketplaceSettings
from aitbc.modules.marketplace.service.terms import Terms
from aitbc.modules.trading.api import TradingApi
from aitbc.modules.trading.events import AgreementSigned


class MarketplaceService:
    """The parts, and the face, the event handlers and the periodic tasks that are delegated to them."""

    def __init__(
        self,
        db: Database,
        gpu: GpuApi,
        ai: AiApi,
        trading: TradingApi,
        platform: Platform,
        settings: MarketplaceSettings | None = None,
    ) -> None:
        self.db = db
        self.gpu = gpu
        self.market_offers = Offers(db, gpu, platform.parameters)
        self.market_rules = Rules(db, gpu)
        self.market_search = OfferSearch(db)
        paid_bookings = PaidBookings(db, gpu)
        self.market_ratings = Ratings(db, gpu, trading, paid_bookings)
        self.miner_facts = MinerFacts(self.market_rules)
        self.repricing = Repricing(db, gpu)
        self.offer_speeds = OfferSpeeds(db, ai)
        slices = Slices(db, trading)
        self.booking_keeper = BookingKeeper(db, gpu, trading, slices)
        self.market_bookings = MarketBookings(db, trading, slices, self.booking_keeper)
        self.market_receipts = MarketReceipts(db, gpu, slices, platform.node_key)
        self.work_keeper = WorkKeeper(db, ai, trading)
        purse = Purse(settings or MarketplaceSettings(), platform.parameters)
        self.market_bounties = Bounties(db, ai, trading, purse)
        self.market_terms = Terms(db)
        self.bid_keeper = BidKeeper(db, trading, self.booking_keeper)
        self.limit_bids = MarketBids(db, trading, self.bid_keeper)
        self.bond_keeper = BondKeeper(db, trading)
        self.market_bonds = Bonds(db, self.bond_keeper)
        self.dispute_keeper = DisputeKeeper(db, trading)
        self.market_disputes = MarketDisputes(db, trading, paid_bookings, self.dispute_keeper)
        # What the older marketplace keeps beside them
        self.market_items = Items(db)
        self.market_bids = Bids(db)
        self.purchases = Purchases(db, trading)
        self.posted_orders = PostedOrders(db)

    # The face

    async def offer(self, offer: str) -> MarketOffer:
        """One offer, whoever made it."""
        return await self.market_offers.one(offer)

    # Event handlers

    async def on_miners_changed(self, uow: UnitOfWork, events: Sequence[MinerChanged]) -> None:
        """Keep what is known of miners, and bring their offers up to it."""
        await self.miner_facts.apply(uow, events)

    async def on_agreements_signed(self, uow: UnitOfWork, events: Sequence[AgreementSigned]) -> None:
        """Place the bookings and the jobs that were agreed on, or say why not."""
        await place_agreed(uow, events)
        await hear_agreed_work(uow, events)

    # Periodic tasks

    async def expire_offers(self) -> None:
        """End the offers whose time is up."""
        await self.market_offers.expire()

    async def reprice(self) -> None:
        """Bring prices up to the use of their owners' miners."""
        await self.repricing.run()

    async def reconcile_purchases(self) -> None:
        """Pay the purchases whose money is set aside, and refuse those that never came so far."""
        await self.purchases.reconcile()

    async def keep_bookings(self) -> None:
        """Begin, prolong, suspend, resume and end the bookings whose time, money or miner has it so."""
        await self.booking_keeper.keep()

    async def measure_offers(self) -> None:
        """Bring offers of work up to the speed at which their miners are measured."""
        await self.offer_speeds.refresh()

    async def keep_agreed_work(self) -> None:
        """Place the jobs of agreements, and tell how those ended that are over."""
        await self.work_keeper.keep()

    async def keep_disputes(self) -> None:
        """Set money aside for disputes, end those whose time is over, and move what was decided."""
        await self.dispute_keeper.keep()

    async def keep_bonds(self) -> None:
        """Lock bonds, take what is due of them, and give back those that leave."""
        await self.bond_keeper.keep()

    async def keep_bounties(self) -> None:
        """Make bounties for models that nobody serves, and pay those that were earned."""
        await self.market_bounties.keep()

    async def keep_bids(self) -> None:
        """Let offers meet resting bids, end those whose time is over, and return what is not needed."""
        await self.bid_keeper.keep()

    async def expire_orders(self) -> None:
        """Close the orders of older clients that nobody took for too long."""
        await self.posted_orders.expire()
