"""Rate limits as they are set, listed and removed; the gate holds requests against them."""

from collections.abc import Sequence
from typing import Annotated

from msgspec import Meta, Struct
from sqlalchemy import func, select

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import FieldError, Forbidden, Invalid, NotFound, TooMany
from aitbc.kernel.primitives.text import Name
from aitbc.modules.ai.models.tables import RateLimitRow
from aitbc.modules.ai.models.views import RateLimitView
from aitbc.modules.ai.service.rate_gate import RateGate

LIMITS_MAX = 100
Account = Annotated[str, Meta(max_length=31, pattern=r"^acct_[0-7][0-9a-hjkmnp-tv-z]{25}\Z")]
Key = Annotated[str, Meta(max_length=30, pattern=r"^key_[0-7][0-9a-hjkmnp-tv-z]{25}\Z")]


class RateLimitNotFound(NotFound):
    """There is no such rate limit, or it is another account's."""

    code = "rate_limit_not_found"


class SetByOperator(Forbidden):
    """An operator set this limit; only operators change what they set, and limits of other accounts."""

    code = "set_by_operator"


class TooManyRateLimits(TooMany):
    """An account has at most 100 rate limits."""

    code = "too_many_rate_limits"


class SetRateLimit(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A limit on how much is asked at a time; at least one of its three numbers."""

    requests_per_minute: Annotated[int, Meta(ge=1, le=10**9)] | None = None
    """The most requests in a minute of the clock. For example `600`."""
    tokens_per_minute: Annotated[int, Meta(ge=1, le=10**12)] | None = None
    """The most tokens in a minute, for requests of `/v1`: prompt and the longest answer until it has ended, then what
    was used. For example `100000`."""
    concurrency: Annotated[int, Meta(ge=1, le=10**6)] | None = None
    """The most requests of `/v1` at once. For example `16`."""
    key: Key | None = None
    """Only requests of this API key count. For example `key_01k0000000000000000000000a`."""
    model: Name | None = None
    """Only requests for this model count. For example `llama-3-8b`."""
    account: Account | None = None
    """For operators: whom it limits. For example `acct_01k0000000000000000000000a`."""


class RateLimits:
    """What accounts and operators limit requests to."""

    def __init__(self, db: Database, gate: RateGate) -> None:
        self._db = db
        self._gate = gate

    async def set(self, who: Principal, command: SetRateLimit, once: IdempotencyKey) -> RateLimitView:
        """Limit requests from now on, in other processes from a second later on.

        Raises `Invalid` for a limit of nothing, `SetByOperator` for another account, `TooManyRateLimits`.
        """
        if command.account not in (None, who.account) and not who.is_admin:
            raise SetByOperator("Only operators limit other accounts.")
        if command.requests_per_minute is command.tokens_per_minute is command.concurrency is None:
            raise Invalid(fields=(FieldError("/requests_per_minute", "Give at least one number"),))
        view = await self._set(who, command, once)
        await self._gate.refresh()
        return view

    @retrying
    async def _set(self, who: Principal, command: SetRateLimit, once: IdempotencyKey) -> RateLimitView:
        account = command.account or who.account
        async with self._db.unit_of_work() as uow:
            if (earlier := await uow.replay(once, RateLimitView)) is not None:
                return earlier
            holding = (RateLimitRow.account == account, RateLimitRow.ended_at.is_(None))
            count = await uow.session.scalar(select(func.count()).select_from(RateLimitRow).where(*holding)) or 0
            if count >= LIMITS_MAX:
                raise TooManyRateLimits
            row = RateLimitRow(
                id=ids.new_id("rlim"),
                account=account,
                key=command.key,
                model=command.model,
                requests_per_minute=command.requests_per_minute,
                tokens_per_minute=command.tokens_per_minute,
                concurrency=command.concurrency,
                by_operator=who.is_admin,
                created_at=now(),
                changed_at=now(),
            )
            uow.add(row)
            await uow.audit(who.account, who.key, "rate_limit.set", row.id)
            return await uow.answer(once, _view(row))

    async def remove(self, who: Principal, rate_limit: str) -> RateLimitView:
        """Limit nothing by it any more; again changes nothing. Raises `RateLimitNotFound`, `SetByOperator`."""
        view = await self._remove(who, rate_limit)
        await self._gate.refresh()
        return view

    @retrying
    async def _remove(self, who: Principal, rate_limit: str) -> RateLimitView:
        async with self._db.unit_of_work() as uow:
            row = await uow.find(RateLimitRow, rate_limit, lock=True, missing=RateLimitNotFound)
            if not who.owns(row.account):
                raise RateLimitNotFound
            if row.by_operator and not who.is_admin:
                raise SetByOperator
            if row.ended_at is None:
                row.ended_at = row.changed_at = now()
                await uow.audit(who.account, who.key, "rate_limit.remove", row.id)
            return _view(row)

    async def page(self, who: Principal, *, limit: int, after: str | None) -> Sequence[RateLimitView]:
        """The limits on the caller's account, for operators on all, in the order in which they were set."""
        wanted = select(RateLimitRow).where(RateLimitRow.ended_at.is_(None))
        if not who.is_admin:
            wanted = wanted.where(RateLimitRow.account == who.account)
        if after is not None:
            wanted = wanted.where(RateLimitRow.id > after)
        async with self._db.reading() as session:
            return [_view(row) for row in await session.scalars(wanted.order_by(RateLimitRow.id).limit(limit))]


def _view(row: RateLimitRow) -> RateLimitView:
    return RateLimitView(**{name: getattr(row, name) for name in RateLimitView.__struct_fields__})
