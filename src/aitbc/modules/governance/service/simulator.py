"""The simulator: what settled work would have cost and paid under the parameters of a proposal."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from msgspec import Struct

from aitbc.kernel.parameters import Parameters
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.money import render, share
from aitbc.modules.governance.models.actions import settings_of
from aitbc.modules.governance.service.execution import ACTIONS
from aitbc.modules.governance.service.proposals import Proposals
from aitbc.modules.trading.api import TradingApi, WorkPaid

FEE = "trading.fee_basis_points"
PRICE = "ai.unit_price."
PAGE = 1_000
RECEIPTS_MAX = 100_000
UNKNOWN = (
    "Whether other prices bring more or less work: the same jobs are asked for.",
    "Jobs that were never settled, and what they would have paid.",
    "The most that a job can cost is not in its receipt: who would have been priced out is known by what was metered.",
)


class GovernanceFigures(Struct, frozen=True, kw_only=True):
    """What work cost and paid."""

    paid: str
    """What buyers paid, in AITBC. For example `100`."""
    fees: str
    """The platform's share of it. For example `2.5`."""
    miners: str
    """What miners earned. For example `97.5`."""


class GovernanceSimulation(Struct, frozen=True, kw_only=True):
    """What a proposal would have meant for work that was settled, had it held all the time."""

    proposal: str
    """The proposal. For example `prop_01k0000000000000000000000a`."""
    since: datetime
    """Receipts from this time on are counted."""
    until: datetime
    """Up to this time."""
    receipts: int
    """How many there were. For example `1200`."""
    is_complete: bool
    """Whether that is all of them: the first 100 000 are counted."""
    changes: dict[str, list[int]]
    """What it changes: by parameter the value now and the one proposed. For example `{"trading.fee_basis_points":
    [250, 200]}`."""
    before: GovernanceFigures
    """As it was settled."""
    after: GovernanceFigures
    """As it would have been."""
    priced_out_jobs: int
    """Jobs whose price would have been more than their buyer set aside. For example `0`."""
    priced_out_payers: int
    """How many buyers those are of. For example `0`."""
    fill_basis_points: int
    """How many of these jobs would still have been done, rounded down; 10000 is all of them. For example `10000`."""
    unknown: tuple[str, ...]
    """What these figures cannot know. For example `["Jobs that were never settled."]`."""


class Replay:
    """Adds receipts up as they are and as they would be. Pure."""

    def __init__(self, wanted: Mapping[str, int]) -> None:
        self._fee = wanted.get(FEE)
        self._prices = {name.removeprefix(PRICE): value for name, value in wanted.items() if name.startswith(PRICE)}
        self.receipts = self.priced_out = 0
        self.before, self.after = [0, 0], [0, 0]
        self.payers: set[str] = set()

    @property
    def fill_basis_points(self) -> int:
        """The share of jobs that would still have been done, in basis points; all where there were none."""
        return 10_000 * (self.receipts - self.priced_out) // self.receipts if self.receipts else 10_000

    def add(self, work: WorkPaid) -> None:
        """Count one receipt."""
        self.receipts += 1
        self.before[0] += work.price_units
        self.before[1] += work.fee_units
        price = work.price_units
        if not work.at_offer and work.kind in self._prices and work.price_units:
            price = max(work.units * self._prices[work.kind], 1)
        if price > work.held_units:
            self.priced_out += 1
            self.payers.add(work.payer)
            return
        self.after[0] += price
        rate = work.fee_basis_points if self._fee is None else self._fee
        is_free = work.payer == work.miner_account and work.fee_units == 0
        self.after[1] += 0 if is_free else share(price, rate)


class Simulator:
    """Replays settled work under what a proposal sets."""

    def __init__(self, proposals: Proposals, trading: TradingApi, parameters: Parameters) -> None:
        self._proposals = proposals
        self._trading = trading
        self._parameters = parameters

    async def simulate(self, proposal: str, days: int) -> GovernanceSimulation:
        """What a proposal would have meant for the last days. Raises `ProposalNotFound`."""
        row = await self._proposals.row(proposal)
        until = now()
        since = until - timedelta(days=days)
        wanted = {name: self._effective(name, value) for name, value in settings_of(ACTIONS.decode(row.actions))}
        replay = Replay(wanted)
        after, complete = 0, True
        while page := await self._trading.work_paid(since, after, PAGE):
            for work in page:
                replay.add(work)
            after = page[-1].sequence
            if replay.receipts >= RECEIPTS_MAX:
                complete = False
                break
        return GovernanceSimulation(
            proposal=row.id,
            since=since,
            until=until,
            receipts=replay.receipts,
            is_complete=complete,
            changes={name: [self._parameters.of(name), value] for name, value in wanted.items()},
            before=_figures(replay.before),
            after=_figures(replay.after),
            priced_out_jobs=replay.priced_out,
            priced_out_payers=len(replay.payers),
            fill_basis_points=replay.fill_basis_points,
            unknown=UNKNOWN,
        )

    def _effective(self, name: str, value: int | None) -> int:
        return self._parameters.operator_value(name) if value is None else value


def _figures(sums: list[int]) -> GovernanceFigures:
    paid, fees = sums
    return GovernanceFigures(paid=render(paid), fees=render(fees), miners=render(paid - fees))
