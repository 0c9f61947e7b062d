"""The platform's share: which rate is in force, and since when."""

from datetime import datetime
from time import monotonic

from msgspec import Struct
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.parameters import Parameters
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.money import share
from aitbc.modules.trading.api import FeeQuote
from aitbc.modules.trading.models.tables import FeeRateRow
from aitbc.modules.trading.service.settings import FEE, TradingSettings

KNOWN_FOR_SECONDS = 1.0
"""How long the rates are cached."""


class FeeRate(Struct, frozen=True, kw_only=True):
    """A rate, from a moment on until the next one's."""

    basis_points: int
    """The share of a price, in 1/10 000. For example `250`."""
    effective_from: datetime
    """From when on it holds."""


class Fees:
    """Knows the fee rates, present and planned."""

    def __init__(self, database: Database, settings: TradingSettings, parameters: Parameters) -> None:
        self._database = database
        self._settings = settings
        self._parameters = parameters
        self._rates: list[FeeRate] = []
        self._known_at = float("-inf")

    async def start(self) -> None:
        """Store the configured rate when it is a new one."""
        rates = await self.rates()
        wanted = self._settings.fee_basis_points
        if rates and rates[-1].basis_points == wanted:
            return
        at = now()
        since = self._settings.fee_effective_from or at
        async with self._database.unit_of_work() as uow:
            row = {"effective_from": since, "basis_points": wanted, "created_at": at}
            await uow.session.execute(insert(FeeRateRow).values(row).on_conflict_do_nothing())
        self._known_at = float("-inf")

    async def rates(self) -> list[FeeRate]:
        """All rates, oldest first."""
        if monotonic() - self._known_at > KNOWN_FOR_SECONDS:
            columns = (FeeRateRow.basis_points, FeeRateRow.effective_from)
            async with self._database.reading() as session:
                found = (await session.execute(select(*columns).order_by(FeeRateRow.effective_from))).all()
            self._rates = [FeeRate(basis_points=points, effective_from=since) for points, since in found]
            self._known_at = monotonic()
        return self._rates

    def voted(self) -> list[FeeRate]:
        """The rates that governance set, oldest first: from the first of them on, these hold."""
        changes = self._parameters.changes(FEE)
        return [
            FeeRate(basis_points=one.value, effective_from=one.effective_from)
            for one in changes
            if one.value is not None
        ]

    async def in_force(self) -> int:
        """The basis points that a hold placed now is settled at: what governance set, else the operator's."""
        at = now()
        voted = self._parameters.given(FEE)
        if voted is not None:
            return voted
        started = [rate.basis_points for rate in await self.rates() if rate.effective_from <= at]
        return started[-1] if started else self._settings.fee_basis_points

    async def quote(self, price_units: int) -> FeeQuote:
        """The fee that a settlement at this price would take now."""
        points = await self.in_force()
        return FeeQuote(basis_points=points, fee_units=share(price_units, points))
