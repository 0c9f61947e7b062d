"""The marketplace module, as the app mounts it."""

from aitbc.kernel.module import Module, PeriodicTask
from aitbc.modules.ai.api import AiApi
from aitbc.modules.gpu.api import GpuApi
from aitbc.modules.gpu.events import MinerChanged
from aitbc.modules.marketplace.api import MarketplaceApi
from aitbc.modules.marketplace.legacy.coordinator import CoordinatorAnalytics, CoordinatorMarketplace
from aitbc.modules.marketplace.legacy.exchange import ChainsRefused
from aitbc.modules.marketplace.legacy.health import LegacyHealth
from aitbc.modules.marketplace.legacy.offers import MarketplaceController
from aitbc.modules.marketplace.legacy.posted_orders.transactions import PostedTransactions
from aitbc.modules.marketplace.legacy.refused import CoordinatorRefused
from aitbc.modules.marketplace.legacy.resources import CoordinatorResources
from aitbc.modules.marketplace.legacy.transactions import MarketTransactions
from aitbc.modules.marketplace.models.ratings import RatingRow
from aitbc.modules.marketplace.routes.bids import MarketBidController, MarketBookController, MarketRequestController
from aitbc.modules.marketplace.routes.bonds import MarketBondController
from aitbc.modules.marketplace.routes.bookings import BookingQuoteController, MarketBookingController
from aitbc.modules.marketplace.routes.bounties import MarketBountyController
from aitbc.modules.marketplace.routes.disputes import MarketDisputeController
from aitbc.modules.marketplace.routes.offers import MarketOfferController, MarketRuleController
from aitbc.modules.marketplace.routes.ratings import MarketRatingController
from aitbc.modules.marketplace.routes.search import MarketSearchController
from aitbc.modules.marketplace.routes.terms import MarketTermsController
from aitbc.modules.marketplace.service import MarketplaceService
from aitbc.modules.marketplace.service.bids.bids import MarketBids
from aitbc.modules.marketplace.service.bonds.bonds import Bonds
from aitbc.modules.marketplace.service.bookings.bookings import MarketBookings
from aitbc.modules.marketplace.service.bookings.receipts import MarketReceipts
from aitbc.modules.marketplace.service.bounties import Bounties
from aitbc.modules.marketplace.service.disputes.disputes import MarketDisputes
from aitbc.modules.marketplace.service.offers import Offers
from aitbc.modules.marketplace.service.ratings import Ratings
from aitbc.modules.marketplace.service.rules import Rules
from aitbc.modules.marketplace.service.search import OfferSearch
from aitbc.modules.marketplace.service.settings import MARKETPLACE_PARAMETERS, MarketplaceSettings
from aitbc.modules.marketplace.service.terms import Terms
from aitbc.modules.trading.api import TradingApi
from aitbc.modules.trading.events import AgreementSigned

module = Module(
    name="marketplace",
    api=MarketplaceApi,
    service=MarketplaceService,
    metadata=RatingRow.metadata,
    routes=(
        BookingQuoteController,
        MarketBookingController,
        MarketBidController,
        MarketBookController,
        MarketBondController,
        MarketBountyController,
        MarketDisputeController,
        MarketRequestController,
        MarketOfferController,
        MarketRuleController,
        MarketSearchController,
        MarketRatingController,
        MarketTermsController,
    ),
    needs={"gpu": GpuApi, "ai": AiApi, "trading": TradingApi},
    parts={
        "market_bookings": MarketBookings,
        "market_bonds": Bonds,
        "market_bounties": Bounties,
        "market_receipts": MarketReceipts,
        "market_disputes": MarketDisputes,
        "limit_bids": MarketBids,
        "market_offers": Offers,
        "market_rules": Rules,
        "market_search": OfferSearch,
        "market_terms": Terms,
        "market_ratings": Ratings,
    },
    handles={
        MinerChanged: MarketplaceService.on_miners_changed,
        AgreementSigned: MarketplaceService.on_agreements_signed,
    },
    settings=MarketplaceSettings,
    parameters=MARKETPLACE_PARAMETERS,
    scopes={"live": ("market:read", "market:write")},
    legacy=(
        *(LegacyHealth, MarketplaceController, MarketTransactions),
        ChainsRefused,
    ),
    legacy_elsewhere={"gpu": (PostedTransactions,)},
    legacy_coordinator=(CoordinatorMarketplace, CoordinatorResources, CoordinatorAnalytics, *CoordinatorRefused),
    periodic_tasks=(
        PeriodicTask(run=MarketplaceService.expire_offers, every_seconds=30.0),
        PeriodicTask(run=MarketplaceService.keep_bookings, every_seconds=5.0),
        PeriodicTask(run=MarketplaceService.keep_agreed_work, every_seconds=2.0),
        PeriodicTask(run=MarketplaceService.keep_bids, every_seconds=5.0),
        PeriodicTask(run=MarketplaceService.keep_disputes, every_seconds=5.0),
        PeriodicTask(run=MarketplaceService.keep_bonds, every_seconds=5.0),
        PeriodicTask(run=MarketplaceService.keep_bounties, every_seconds=5.0),
        PeriodicTask(run=MarketplaceService.expire_orders, every_seconds=60.0),
        PeriodicTask(run=MarketplaceService.reprice, every_seconds=30.0),
        PeriodicTask(run=MarketplaceService.measure_offers, every_seconds=60.0),
        PeriodicTask(run=MarketplaceService.reconcile_purchases, every_seconds=30.0),
    ),
)
