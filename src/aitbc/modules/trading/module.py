"""The trading module, as the app mounts it."""

from aitbc.kernel.module import Module, PeriodicTask
from aitbc.modules.ai.events import AnswerSucceeded, HoldsFreed, JobClosed, JobSucceeded
from aitbc.modules.marketplace.events import AgreedBookingChanged, AgreedWorkChanged, OfferChanged
from aitbc.modules.trading.api import TradingApi
from aitbc.modules.trading.legacy.coordinator import CoordinatorChain, CoordinatorExplorer
from aitbc.modules.trading.legacy.exchange import (
    BitcoinRefused,
    CoordinatorBitcoin,
    CoordinatorExchange,
    CoordinatorMarketMakers,
    CoordinatorRegistrationRefused,
    LegacyExchange,
    RegistrationRefused,
)
from aitbc.modules.trading.legacy.explorer import LegacyExplorer
from aitbc.modules.trading.legacy.health import LegacyHealth
from aitbc.modules.trading.legacy.lookups import CoordinatorLookups, LegacyLookups
from aitbc.modules.trading.legacy.trades import AgentSummaries, LegacyTrades, LegacyTradeTransactions, StateDump
from aitbc.modules.trading.models.tables import Base
from aitbc.modules.trading.routes.assets import AssetController
from aitbc.modules.trading.routes.budgets import BudgetController
from aitbc.modules.trading.routes.exchange import ExchangeOrderController, ExchangePairController
from aitbc.modules.trading.routes.explorer import ChainController, RecordController
from aitbc.modules.trading.routes.ledger import LedgerController
from aitbc.modules.trading.routes.makers import ExchangeMakerController
from aitbc.modules.trading.routes.settlements import AgreementController, SettlementController
from aitbc.modules.trading.routes.trades import (
    MatchController,
    NegotiationController,
    OfferController,
    RequestController,
)
from aitbc.modules.trading.routes.watches import WatchController
from aitbc.modules.trading.service import TradingService, TradingSettings
from aitbc.modules.trading.service.assets import Assets
from aitbc.modules.trading.service.budgets import SpendingBudgets
from aitbc.modules.trading.service.deposits import Deposits
from aitbc.modules.trading.service.exchange.makers import MarketMakers
from aitbc.modules.trading.service.exchange.market_data import MarketData
from aitbc.modules.trading.service.exchange.orders import ExchangeOrders
from aitbc.modules.trading.service.exchange.pairs import ExchangePairs
from aitbc.modules.trading.service.explorer import Explorer
from aitbc.modules.trading.service.fees import Fees
from aitbc.modules.trading.service.ledger import Ledger
from aitbc.modules.trading.service.settings import TRADING_PARAMETERS
from aitbc.modules.trading.service.trades.agreements import TradeAgreements
from aitbc.modules.trading.service.trades.analytics import TradeFigures
from aitbc.modules.trading.service.trades.disputes import TradeDisputes
from aitbc.modules.trading.service.trades.feedback import TradeFeedbacks
from aitbc.modules.trading.service.trades.matches import TradeMatcher
from aitbc.modules.trading.service.trades.negotiations import TradeNegotiations
from aitbc.modules.trading.service.trades.offers import TradeOffers
from aitbc.modules.trading.service.trades.requests import TradeRequests
from aitbc.modules.trading.service.trades.settlements import TradeSettlements
from aitbc.modules.trading.service.watches import Watches

module = Module(
    name="trading",
    api=TradingApi,
    service=TradingService,
    metadata=Base.metadata,
    routes=(
        LedgerController,
        AssetController,
        ExchangePairController,
        ExchangeOrderController,
        ExchangeMakerController,
        BudgetController,
        WatchController,
        RecordController,
        ChainController,
        OfferController,
        RequestController,
        MatchController,
        NegotiationController,
        AgreementController,
        SettlementController,
    ),
    handles={
        JobSucceeded: TradingService.on_jobs_succeeded,
        JobClosed: TradingService.on_jobs_closed,
        AnswerSucceeded: TradingService.on_answers_succeeded,
        HoldsFreed: TradingService.on_holds_freed,
        OfferChanged: TradingService.on_offers_changed,
        AgreedBookingChanged: TradingService.on_agreed_bookings_changed,
        AgreedWorkChanged: TradingService.on_agreed_work_changed,
    },
    parts={
        "ledger": Ledger,
        "assets": Assets,
        "exchange_pairs": ExchangePairs,
        "exchange_orders": ExchangeOrders,
        "market_data": MarketData,
        "market_makers": MarketMakers,
        "deposits": Deposits,
        "spending_budgets": SpendingBudgets,
        "address_watches": Watches,
        "fees": Fees,
        "explorer": Explorer,
        "trade_offers": TradeOffers,
        "trade_requests": TradeRequests,
        "trade_matches": TradeMatcher,
        "trade_negotiations": TradeNegotiations,
        "trade_agreements": TradeAgreements,
        "trade_settlements": TradeSettlements,
        "trade_disputes": TradeDisputes,
        "trade_feedback": TradeFeedbacks,
        "trade_figures": TradeFigures,
    },
    scopes={
        "live": (
            *(
                "ledger:read",
                "budgets:write",
                "watches:write",
                "chain:read",
                "faucet:use",
                "trades:read",
                "trades:write",
            ),
            *("exchange:read", "exchange:write"),
        ),
        "miner": ("chain:read",),
    },
    settings=TradingSettings,
    parameters=TRADING_PARAMETERS,
    legacy=(
        *(LegacyHealth, LegacyExplorer, LegacyLookups, LegacyTrades, LegacyTradeTransactions, AgentSummaries),
        *(LegacyExchange, RegistrationRefused, BitcoinRefused),
    ),
    legacy_coordinator=(
        CoordinatorExplorer,
        CoordinatorChain,
        CoordinatorLookups,
        LegacyTrades,
        AgentSummaries,
        StateDump,
        *(CoordinatorExchange, CoordinatorMarketMakers, CoordinatorRegistrationRefused, CoordinatorBitcoin),
    ),
    periodic_tasks=(
        PeriodicTask(run=TradingService.seal, every_seconds=1.0),
        PeriodicTask(run=TradingService.anchor, every_seconds=30.0),
        PeriodicTask(run=TradingService.expire_holds, every_seconds=5.0),
        PeriodicTask(run=TradingService.end_trades, every_seconds=5.0),
        PeriodicTask(run=TradingService.look_at_watches, every_seconds=5.0),
        PeriodicTask(run=TradingService.quote, every_seconds=5.0),
    ),
)
