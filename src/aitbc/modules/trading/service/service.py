"""The service object of trading: delegates the face to its parts, and names event handlers and periodic tasks."""

from collections.abc import Sequence
from datetime import datetime

from prometheus_client import Metric

from aitbc.kernel.database.unit_of_work import Connection, Database, UnitOfWork
from aitbc.kernel.events.relay import set_based
from aitbc.kernel.platform import Platform
from aitbc.modules.ai.events import AnswerSucceeded, HoldsFreed, JobClosed, JobSucceeded
from aitbc.modules.marketplace.events import AgreedBookingChanged, AgreedWorkChanged, OfferChanged
from aitbc.modules.trading.api import (
    Balance,
    DeviceEarnings,
    Earnings,
    FeeQuote,
    Hold,
    KindPaid,
    LedgerAccount,
    PayRefund,
    PayRent,
    PlaceHold,
    RaiseHold,
    ReceiptParties,
    Refunded,
    Rent,
    SealedReceipt,
    SettleHold,
    Settlement,
    TransferMoney,
    WorkPaid,
)
from aitbc.modules.trading.models.views import LedgerReport
from aitbc.modules.trading.service.anchors import Anchors
from aitbc.modules.trading.service.assets import Assets
from aitbc.modules.trading.service.blocks import Blocks
from aitbc.modules.trading.service.budgets import SpendingBudgets
from aitbc.modules.trading.service.deposits import Deposits
from aitbc.modules.trading.service.earnings import earned_by_devices, paid_by_kind
from aitbc.modules.trading.service.exchange.makers import MarketMakers
from aitbc.modules.trading.service.exchange.market_data import MarketData
from aitbc.modules.trading.service.exchange.orders import ExchangeOrders
from aitbc.modules.trading.service.exchange.pairs import ExchangePairs
from aitbc.modules.trading.service.explorer import Explorer
from aitbc.modules.trading.service.fees import Fees
from aitbc.modules.trading.service.ledger import Ledger
from aitbc.modules.trading.service.metrics import measure
from aitbc.modules.trading.service.receipt_feed import sealed_receipts, work_paid
from aitbc.modules.trading.service.refunds import Refunds
from aitbc.modules.trading.service.rents import Rents
from aitbc.modules.trading.service.settings import TradingSettings
from aitbc.modules.trading.service.trades.agents import TradeAgents
from aitbc.modules.trading.service.trades.agreements import TradeAgreements
from aitbc.modules.trading.service.trades.analytics import TradeFigures
from aitbc.modules.trading.service.trades.disputes import TradeDisputes
from aitbc.modules.trading.service.trades.feedback import TradeFeedbacks
from aitbc.modules.trading.service.trades.market import follow_market, take_offers
from aitbc.modules.trading.service.trades.matches import TradeMatcher
from aitbc.modules.trading.service.trades.negotiations import TradeNegotiations
from aitbc.modules.trading.service.trades.offers import TradeOffers
from aitbc.modules.trading.service.trades.requests import TradeRequests
from aitbc.modules.trading.service.trades.settlements import TradeSettlements
from aitbc.modules.trading.service.transfers import Transfers
from aitbc.modules.trading.service.watches import Watches


class TradingService:
    """Keeps the ledger, the chain and the trades."""

    def __init__(self, db: Database, platform: Platform, settings: TradingSettings | None = None) -> None:
        self.db = db
        self.settings = settings or TradingSettings()
        self.fees = Fees(db, self.settings, platform.parameters)
        self.ledger = Ledger(db, platform.node_key, self.fees, self.settings.hold_grace_seconds)
        self.rents = Rents(db)
        self.refunds = Refunds(db)
        self.spending_budgets = SpendingBudgets(db)
        self.transfers = Transfers(db)
        self.assets = Assets(db)
        self.exchange_pairs = ExchangePairs(db)
        self.exchange_orders = ExchangeOrders(db, self.settings, platform.parameters)
        self.market_data = MarketData(db)
        self.market_makers = MarketMakers(db, self.exchange_orders)
        self.deposits = Deposits(db, platform.identity, self.settings, platform.parameters)
        self.blocks = Blocks(db, platform.node_key)
        self.address_watches = Watches(db)
        self.anchors = Anchors(db, self.settings, platform)
        self.explorer = Explorer(db, self.blocks)
        self.trade_offers = TradeOffers(db, platform.parameters)
        self.trade_requests = TradeRequests(db, platform.parameters)
        self.trade_matches = TradeMatcher(db)
        self.trade_agents = TradeAgents(db)
        self.trade_negotiations = TradeNegotiations(db)
        self.trade_agreements = TradeAgreements(db)
        self.trade_settlements = TradeSettlements(db)
        self.trade_disputes = TradeDisputes(db)
        self.trade_feedback = TradeFeedbacks(db)
        self.trade_figures = TradeFigures(db)

    async def start(self) -> None:
        """Make what the first start needs: the first block and the fee rate."""
        await self.blocks.start()
        await self.fees.start()

    # The face

    async def hold(self, command: PlaceHold) -> Hold:
        """Set money aside."""
        return await self.ledger.hold(command)

    async def settle(self, command: SettleHold) -> Settlement:
        """Pay out of an open hold and issue the receipt."""
        return await self.ledger.settle(command)

    async def pay_rent(self, command: PayRent) -> Rent:
        """Pay a rent out of an open hold."""
        return await self.rents.pay(command)

    async def refund(self, command: PayRefund) -> Refunded:
        """Give a payment back out of an open hold."""
        return await self.refunds.pay(command)

    async def void(self, hold: str, reason: str) -> Hold:
        """Return all of an open hold."""
        return await self.ledger.void(hold, reason)

    async def open_holds(
        self, before: datetime, limit: int, after: tuple[datetime, str] | None = None
    ) -> Sequence[Hold]:
        """Open holds placed before a time, oldest first."""
        return await self.ledger.open_holds(before, limit, after)

    async def still_held(self, holds: Sequence[str]) -> Sequence[Hold]:
        """Those of these holds that are open."""
        return await self.ledger.still_held(holds)

    async def raise_hold(self, command: RaiseHold) -> Hold:
        """Set more money aside in an open hold."""
        return await self.ledger.raise_hold(command)

    async def prolong(self, holds: Sequence[str], until: datetime) -> Sequence[str]:
        """Hold this money at least until then; returns those of the holds that are open."""
        return await self.ledger.prolong(holds, until)

    async def receipted(self, jobs: Sequence[str]) -> Sequence[str]:
        """Those of these jobs that were settled with a receipt."""
        return await self.ledger.receipted(jobs)

    async def parties(self, receipts: Sequence[str]) -> Sequence[ReceiptParties]:
        """Who paid whom by these receipts."""
        return await self.ledger.parties(receipts)

    async def balance(self, account: str) -> Balance:
        """What an account owns now."""
        return await self.ledger.balance(account)

    async def sealed_receipts(self, after: int, limit: int) -> Sequence[SealedReceipt]:
        """Receipts that are in a block, by their number in the chain."""
        return await sealed_receipts(self.db, after, limit)

    async def quote_fee(self, price_units: int) -> FeeQuote:
        """The fee that a settlement at this price would take now."""
        return await self.fees.quote(price_units)

    async def transfer(self, command: TransferMoney) -> None:
        """Move money between two accounts."""
        await self.transfers.move(command)

    async def ledger_account(self, name: str) -> LedgerAccount:
        """An account by its name in records."""
        return await self.transfers.account(name)

    async def work_paid(self, since: datetime, after: int, limit: int) -> Sequence[WorkPaid]:
        """Sealed receipts issued from a time on, with what was held for them."""
        return await work_paid(self.db, since, after, limit)

    async def earnings(self, miners: Sequence[str], since: datetime | None) -> Sequence[Earnings]:
        """What each of these miners was paid."""
        return await self.ledger.earnings(miners, since)

    async def earned_by_devices(
        self, miner: str, since: datetime | None, until: datetime | None
    ) -> Sequence[DeviceEarnings]:
        """What a miner was paid, by the GPUs that were reserved for the work."""
        return await earned_by_devices(self.db, miner, since, until)

    async def paid_by_kind(self, since: datetime, without: Sequence[str]) -> Sequence[KindPaid]:
        """What was paid since a time for work of each kind."""
        return await paid_by_kind(self.db, since, without)

    # Event handlers

    @set_based
    async def on_jobs_succeeded(self, connection: Connection, events: Sequence[JobSucceeded]) -> None:
        """Settle what was not settled directly; one that is refused stays with the relay, for an operator to see."""
        await self.ledger.settle_rest(connection, events)

    @set_based
    async def on_jobs_closed(self, connection: Connection, events: Sequence[JobClosed]) -> None:
        """Return what was not returned directly."""
        await self.ledger.void_rest(connection, events)

    @set_based
    async def on_answers_succeeded(self, connection: Connection, events: Sequence[AnswerSucceeded]) -> None:
        """Settle the further answers to verified jobs, as the first ones."""
        await self.ledger.settle_rest(connection, events)

    @set_based
    async def on_holds_freed(self, connection: Connection, events: Sequence[HoldsFreed]) -> None:
        """Return the holds that verification did not use."""
        await self.ledger.free_rest(connection, events)

    async def on_offers_changed(self, uow: UnitOfWork, events: Sequence[OfferChanged]) -> None:
        """Let requests be matched with what is on the market."""
        await take_offers(uow, events)

    async def on_agreed_bookings_changed(self, uow: UnitOfWork, events: Sequence[AgreedBookingChanged]) -> None:
        """Move agreements on with their bookings."""
        await follow_market(uow, events)

    async def on_agreed_work_changed(self, uow: UnitOfWork, events: Sequence[AgreedWorkChanged]) -> None:
        """Move agreements on with their jobs."""
        await follow_market(uow, events)

    # Periodic tasks

    async def seal(self) -> None:
        """Close a block over everything that waits."""
        await self.blocks.seal()

    async def anchor(self) -> None:
        """Write the newest head of the chain to where it is kept for others."""
        await self.anchors.anchor()

    async def expire_holds(self) -> None:
        """Return the holds whose deadline has passed."""
        await self.ledger.expire_holds()

    async def look_at_watches(self) -> None:
        """Tell what moved at addresses that somebody watches."""
        await self.address_watches.look()

    async def quote(self) -> None:
        """Let the market makers that run bring their quotes up to date."""
        await self.market_makers.quote()

    async def end_trades(self) -> None:
        """Do what time decides about trades: first what is owed, then what nobody agreed on."""
        await self.trade_settlements.end_due()
        await self.trade_agreements.expire()
        await self.trade_negotiations.expire()
        await self.trade_matches.expire()
        await self.trade_requests.expire()

    # For the operator

    async def verify(self) -> LedgerReport:
        """Recompute everything from the first record on."""
        return await self.ledger.verify()

    async def measure(self) -> Sequence[Metric]:
        """The metrics of the ledger."""
        return await measure(self.db)
