"""Pairs: made and halted by whoever runs the platform."""

from collections.abc import Sequence
from typing import Literal

from msgspec import Struct
from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert

from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import Conflict, FieldError, Invalid, NotFound
from aitbc.kernel.primitives.money import LARGEST, UNIT
from aitbc.modules.trading.models.exchange.row_views import pair_view
from aitbc.modules.trading.models.exchange.tables import PairRow
from aitbc.modules.trading.models.exchange.views import ExchangePair
from aitbc.modules.trading.service.assets import require_asset

PAIRS_MAX = 200
"""How many pairs there may be: all of them are listed at once."""


class PairNotFound(NotFound):
    """There is no such pair; `GET /api/v1/trading/exchange/pairs` lists them."""

    code = "pair_not_found"


class PairDiffers(Conflict):
    """There is this pair with other steps or quantities, or as many pairs as there may be."""

    code = "pair_differs"


class PairHalted(Conflict):
    """The operator takes no new orders for this pair now; open ones can be canceled."""

    code = "pair_halted"


class MakePair(Struct, frozen=True, kw_only=True):
    """Let two assets be exchanged for each other."""

    base: str
    quote: str
    price_step_units: int
    quantity_step_units: int
    min_quantity_units: int
    max_quantity_units: int

    @property
    def id(self) -> str:
        """The pair's name."""
        return f"{self.base}-{self.quote}"

    def check(self) -> None:
        """Raises `Invalid` for what does not go together."""
        if self.base == self.quote:
            raise Invalid(fields=(FieldError("/quote", "Expected another asset than the base"),))
        if self.price_step_units * self.quantity_step_units % UNIT:
            said = "Expected steps whose product is a whole number of minor units, such as 0.0001 and 0.0001"
            raise Invalid(fields=(FieldError("/quantity_step", said),))
        least, most, step = self.min_quantity_units, self.max_quantity_units, self.quantity_step_units
        if not 0 < least <= most <= LARGEST or least % step or most % step:
            raise Invalid(fields=(FieldError("/max_quantity", "Expected multiples of the step, the least first"),))


class ExchangePairs:
    """Makes, halts and lists pairs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @retrying
    async def make(self, who: Principal, command: MakePair) -> ExchangePair:
        """Let two assets be exchanged; the same again changes nothing. Raises `AssetNotFound`, `PairDiffers`."""
        command.check()
        async with self._database.unit_of_work() as uow:
            for asset in (command.base, command.quote):
                await require_asset(uow, asset)
            columns = {name: getattr(command, name) for name in MakePair.__struct_fields__}
            count = await uow.session.scalar(select(func.count()).select_from(PairRow)) or 0
            if count < PAIRS_MAX:
                made = insert(PairRow).values(
                    id=command.id, state="open", events=0, trades=0, created_at=now(), **columns
                )
                made = made.on_conflict_do_nothing()
                if await uow.session.scalar(made.returning(PairRow.id)) is not None:
                    await uow.audit(who.account, who.key, "pair.make", command.id)
            row = await uow.session.get(PairRow, command.id)
            if row is None or any(getattr(row, name) != value for name, value in columns.items()):
                raise PairDiffers
            return pair_view(row)

    @retrying
    async def change(self, who: Principal, pair: str, state: Literal["open", "halted"]) -> ExchangePair:
        """Halt a pair, or open it again. Raises `PairNotFound`."""
        async with self._database.unit_of_work() as uow:
            row = await locked_pair(uow, pair)
            if row.state != state:
                row.state = state
                await uow.audit(who.account, who.key, "pair.change", row.id, state=state)
            return pair_view(row)

    async def all(self) -> Sequence[ExchangePair]:
        """Every pair, in the order of names."""
        async with self._database.reading() as session:
            rows = (await session.scalars(select(PairRow).order_by(PairRow.id))).all()
        return [pair_view(row) for row in rows]

    async def one(self, pair: str) -> ExchangePair:
        """A pair. Raises `PairNotFound`."""
        async with self._database.reading() as session:
            row = await session.get(PairRow, pair)
        if row is None:
            raise PairNotFound
        return pair_view(row)


async def locked_pair(uow: UnitOfWork, pair: str) -> PairRow:
    """A pair, locked: its book changes by nobody else until this unit of work ends. Raises `PairNotFound`."""
    wanted = select(PairRow).where(PairRow.id == pair).with_for_update(key_share=True)
    row = await uow.session.scalar(wanted, execution_options={"populate_existing": True})
    if row is None:
        raise PairNotFound
    return row
