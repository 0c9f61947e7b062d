"""What buyers look for."""

import hashlib
from collections.abc import Sequence
from functools import partial
from typing import Any

import msgspec
from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.database.retry import retry, retrying
from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.parameters import Parameters
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import FieldError, Invalid
from aitbc.modules.trading.models.trades.life import REQUEST_LASTS, REQUEST_LASTS_MAX, UNDECIDED, TradeState
from aitbc.modules.trading.models.trades.shapes import request_view
from aitbc.modules.trading.models.trades.tables import TradeNegotiationRow, TradeRequestRow
from aitbc.modules.trading.models.trades.values import WORK_TYPE
from aitbc.modules.trading.models.trades.views import TradeRequest
from aitbc.modules.trading.models.trades.work import BYTES_MAX, without_inputs
from aitbc.modules.trading.service.trades.commands import (
    PlaceTradeRequest,
    TooManyTrades,
    TradeFilter,
    TradeIdTaken,
    TradeRequestNotFound,
    TradeRequestNotOpen,
)
from aitbc.modules.trading.service.trades.offers import check_window
from aitbc.modules.trading.service.trades.rows import close_matches, lock_request, newest, set_state

OPEN_MAX = 1_000
PER_ROUND = 200


def drafted(who: Principal, command: PlaceTradeRequest) -> dict[str, Any]:
    """The columns of a new request. Raises `Invalid` for a time or a budget that cannot be."""
    at = now()
    until = command.expires_at or at + REQUEST_LASTS
    check_window(command.starts_at, command.ends_at)
    if not at < until <= at + REQUEST_LASTS_MAX:
        raise Invalid(fields=(FieldError("/expires_at", "Expected a time from now to 90 days from now"),))
    if command.budget_max_units is not None and command.budget_max_units < command.budget_min_units:
        raise Invalid(fields=(FieldError("/budget_max", "Expected at least `budget_min`"),))
    work = None if command.work is None else msgspec.json.encode(command.work).decode()
    if work is not None:
        if command.trade_type != WORK_TYPE:
            raise Invalid(fields=(FieldError("/work", f"Expected for trade_type {WORK_TYPE} only"),))
        if len(work.encode()) > BYTES_MAX:
            raise Invalid(fields=(FieldError("/work", f"Expected inputs of {BYTES_MAX} bytes together at most"),))
    return {name: getattr(command, name) for name in command.__struct_fields__} | {
        "work": work,
        "id": command.id or ids.new_id("treq"),
        "buyer": who.account,
        "specifications": msgspec.json.encode(command.specifications).decode(),
        "state": TradeState.OPEN,
        "created_at": at,
        "expires_at": until,
    }


class TradeRequests:
    """Makes, cancels, expires and shows requests."""

    def __init__(self, database: Database, parameters: Parameters) -> None:
        self._database = database
        self._parameters = parameters

    @retrying
    async def place(self, who: Principal, command: PlaceTradeRequest, once: IdempotencyKey) -> TradeRequest:
        """Ask for something. The same again under its id is harmless; raises `TradeIdTaken` for another one."""
        values = drafted(who, command)
        content = hashlib.sha256(msgspec.json.encode((who.account, _told(command)))).digest()
        async with self._database.unit_of_work() as uow:
            if (earlier := await uow.replay(once, TradeRequest)) is not None:
                return earlier
            self._parameters.require_open("trading")
            adding = (
                upsert(TradeRequestRow)
                .values(content=content, **values)
                .on_conflict_do_nothing()
                .returning(TradeRequestRow.id)
            )
            fresh = (await uow.session.execute(adding)).scalar_one_or_none() is not None
            row = await uow.find(TradeRequestRow, values["id"], missing=TradeRequestNotFound)
            if not fresh and row.content != content:
                raise TradeIdTaken
            if fresh:
                await _check_open(uow, who.account)
            else:
                once.replayed = True
            return await uow.answer(once, request_view(row))

    @retrying
    async def cancel(self, who: Principal, request: str, once: IdempotencyKey) -> TradeRequest:
        """Look no longer. Raises `TradeRequestNotFound`, and `TradeRequestNotOpen` once something is agreed on."""
        async with self._database.unit_of_work() as uow:
            if (earlier := await uow.replay(once, TradeRequest)) is not None:
                return earlier
            row = await mine(uow, who, request)
            if row.state != TradeState.CANCELLED:
                if row.state not in UNDECIDED:
                    raise TradeRequestNotOpen
                await end_request(uow, row, TradeState.CANCELLED)
                await uow.session.refresh(row)
            return await uow.answer(once, request_view(row))

    async def expire(self) -> None:
        """Fail the requests whose time ran out without an agreement."""
        due = (TradeRequestRow.expires_at <= now(), TradeRequestRow.state.in_(UNDECIDED))
        wanted = select(TradeRequestRow.id).where(*due).order_by(TradeRequestRow.expires_at).limit(PER_ROUND)
        async with self._database.reading() as session:
            found = (await session.scalars(wanted)).all()
        for request in found:
            await retry(partial(self._expire, request))

    async def _expire(self, request: str) -> None:
        async with self._database.unit_of_work() as uow:
            row = await lock_request(uow, request)
            if row.state in UNDECIDED and row.expires_at <= now():
                await end_request(uow, row, TradeState.FAILED)

    async def one(self, who: Principal, request: str) -> TradeRequest:
        """A request of the caller's. Raises `TradeRequestNotFound`."""
        async with self._database.reading() as session:
            row = await session.get(TradeRequestRow, request)
        if row is None or not who.owns(row.buyer):
            raise TradeRequestNotFound
        return request_view(row)

    async def page(self, who: Principal, filters: TradeFilter) -> Sequence[TradeRequest]:
        """The caller's requests, everybody's for an admin, from the newest on."""
        where = () if who.is_admin else (TradeRequestRow.buyer == who.account,)
        async with self._database.reading() as session:
            return [request_view(row) for row in await newest(session, TradeRequestRow, filters, *where)]


async def mine(uow: UnitOfWork, who: Principal, request: str) -> TradeRequestRow:
    """A request of the caller's, locked. Raises `TradeRequestNotFound`."""
    row = await uow.find(TradeRequestRow, request, missing=TradeRequestNotFound)
    if row.buyer != who.account:
        raise TradeRequestNotFound
    return await lock_request(uow, request)


async def end_request(uow: UnitOfWork, row: TradeRequestRow, state: TradeState) -> None:
    """End a locked request about which nothing is agreed, with its matches and negotiations."""
    await close_negotiations(uow, row.id)
    await close_matches(uow, row.id)
    await set_state(uow, TradeRequestRow, row.id, row.state, state, ended_at=now(), work=without_inputs(row.work))


async def close_negotiations(uow: UnitOfWork, request: str) -> None:
    """End the negotiations about a request that go on."""
    where = (TradeNegotiationRow.request == request, TradeNegotiationRow.state == "active")
    closing = update(TradeNegotiationRow).where(*where).values(state="rejected", ended_at=now())
    await uow.session.execute(closing, execution_options={"synchronize_session": False})


def _told(command: PlaceTradeRequest) -> dict[str, Any]:
    """What the digest of a request is of: of those without work as it was before there was any."""
    told: dict[str, Any] = msgspec.to_builtins(command, order="deterministic")
    return {name: value for name, value in told.items() if name != "work" or value is not None}


async def _check_open(uow: UnitOfWork, account: str) -> None:
    wanted = (TradeRequestRow.buyer == account, TradeRequestRow.state.in_(UNDECIDED))
    counting = select(func.count()).select_from(TradeRequestRow).where(*wanted)
    if (await uow.session.scalar(counting) or 0) > OPEN_MAX:
        raise TooManyTrades
