"""Webhook endpoints: the URLs to which an account's events are sent, with their types and secrets."""

import difflib
from collections.abc import Callable, Sequence
from datetime import timedelta
from urllib.parse import urlsplit

from msgspec import structs
from sqlalchemy import func, select

from aitbc.kernel.crypto.sealing import Sealer
from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.identity.tables import AccountRow
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import Conflict, FieldError, Invalid, NotFound
from aitbc.kernel.primitives.ids import new_id
from aitbc.server.webhooks.egress import EgressPolicy
from aitbc.server.webhooks.fan_out import published_types
from aitbc.server.webhooks.signing import new_secret
from aitbc.server.webhooks.tables import Endpoint, EndpointRow, IssuedEndpoint


class EndpointNotFound(NotFound):
    """There is no such webhook endpoint."""

    code = "webhook_endpoint_not_found"


class UnknownEventType(Invalid):
    """There is no such type of event.

    `GET /api/v1/webhooks/types` lists the types that can be sent; an empty list of types means all of them.
    """

    code = "unknown_event_type"


class TooManyEndpoints(Conflict):
    """This account has as many webhook endpoints as it may; delete one first.

    The setting `webhooks.endpoints_max` says how many an account may have.
    """

    code = "too_many_webhook_endpoints"


class EndpointDisabled(Conflict):
    """This webhook endpoint is disabled; enable it first."""

    code = "webhook_endpoint_disabled"


class Endpoints:
    """Manages webhook endpoints: create, read, change, enable, disable, delete, rotate the secret."""

    def __init__(
        self,
        db: Database,
        seal: Sealer,
        egress: EgressPolicy,
        *,
        endpoints_max: int,
        wake: Callable[[], None],
    ) -> None:
        """`seal` closes the secrets; `wake` is called when there may be something to send."""
        self._db = db
        self._seal = seal
        self._egress = egress
        self._endpoints_max = endpoints_max
        self._wake = wake

    async def create(
        self,
        who: Principal,
        *,
        url: str,
        events: Sequence[str],
        description: str,
        once: IdempotencyKey = IdempotencyKey.NONE,
    ) -> IssuedEndpoint:
        """A new endpoint. Raises `DestinationRefused`, `UnknownEventType`, `TooManyEndpoints`.

        The stored answer of a repeated request holds no secret: it is opened again.
        """
        self._egress.check(url)
        _check_types(events)
        async with self._db.unit_of_work() as uow:
            if earlier := await uow.replay(once, Endpoint):
                return await self._issued_again(uow, earlier)
            await self._check_limit(uow, who.account)
            secret = new_secret()
            row = EndpointRow(
                id=new_id("hook"),
                account=who.account,
                url=url,
                events=sorted(set(events)),
                description=description,
                secret=self._seal.seal(secret.encode()),
                version=1,
                created_at=now(),
            )
            uow.add(row)
            await uow.audit(who.account, who.key, "webhook.create", row.id, host=_host(url))
            return _issued(await uow.answer(once, row.view()), secret)

    async def _check_limit(self, uow: UnitOfWork, account: str) -> None:
        await uow.find(AccountRow, account, lock=True)  # locked against a twin, so that the limit holds
        count = select(func.count()).where(EndpointRow.account == account)
        if (await uow.session.execute(count)).scalar_one() >= self._endpoints_max:
            raise TooManyEndpoints

    async def list_page(self, who: Principal, *, limit: int, after: str | None) -> list[Endpoint]:
        """Endpoints from the newest on: the caller's, or for an admin those of everybody."""
        query = select(EndpointRow).order_by(EndpointRow.id.desc()).limit(limit)
        if not who.is_admin:
            query = query.where(EndpointRow.account == who.account)
        if after is not None:
            query = query.where(EndpointRow.id < after)
        async with self._db.reading() as session:
            return [row.view() for row in await session.scalars(query)]

    async def get(self, who: Principal, endpoint: str) -> Endpoint:
        """One endpoint. Raises `EndpointNotFound`."""
        async with self._db.unit_of_work() as uow:
            return (await own_endpoint(uow, who, endpoint)).view()

    async def change(
        self, who: Principal, endpoint: str, *, url: str, events: Sequence[str], description: str
    ) -> Endpoint:
        """Change URL, types and description of an endpoint.

        Raises `EndpointNotFound`, `DestinationRefused`, `UnknownEventType`.
        """
        self._egress.check(url)
        _check_types(events)
        async with self._db.unit_of_work() as uow:
            row = await own_endpoint(uow, who, endpoint, lock=True)
            wanted = (url, sorted(set(events)), description)
            if wanted == (row.url, row.events, row.description):
                return row.view()
            if url != row.url:
                row.failing_since = None
            row.url, row.events, row.description = wanted
            row.version += 1
            await uow.audit(who.account, who.key, "webhook.change", row.id, host=_host(row.url))
            return row.view()

    async def enable(self, who: Principal, endpoint: str) -> Endpoint:
        """Enable an endpoint; pending deliveries are sent. Raises `EndpointNotFound`."""
        async with self._db.unit_of_work() as uow:
            row = await own_endpoint(uow, who, endpoint, lock=True)
            if row.disabled_at is not None:
                row.disabled_at = row.disabled_reason = row.failing_since = None
                row.version += 1
                await uow.audit(who.account, who.key, "webhook.enable", row.id)
            view = row.view()
        self._wake()
        return view

    async def disable(self, who: Principal, endpoint: str) -> Endpoint:
        """Disable an endpoint: nothing is sent or written for it. Raises `EndpointNotFound`."""
        async with self._db.unit_of_work() as uow:
            row = await own_endpoint(uow, who, endpoint, lock=True)
            if row.disabled_at is None:
                row.disabled_at, row.disabled_reason = now(), "owner"
                row.version += 1
                await uow.audit(who.account, who.key, "webhook.disable", row.id)
            return row.view()

    async def delete(self, who: Principal, endpoint: str) -> Endpoint:
        """Delete an endpoint with its deliveries. Raises `EndpointNotFound`."""
        async with self._db.unit_of_work() as uow:
            row = await own_endpoint(uow, who, endpoint, lock=True)
            await uow.session.delete(row)
            await uow.audit(who.account, who.key, "webhook.delete", row.id, host=_host(row.url))
            return row.view()

    async def rotate(
        self, who: Principal, endpoint: str, overlap: timedelta, once: IdempotencyKey = IdempotencyKey.NONE
    ) -> IssuedEndpoint:
        """A new secret; until the overlap ends, messages carry a signature of the old one too.

        Raises `EndpointNotFound`.
        """
        async with self._db.unit_of_work() as uow:
            if earlier := await uow.replay(once, Endpoint):
                return await self._issued_again(uow, earlier)
            row = await own_endpoint(uow, who, endpoint, lock=True)
            secret = new_secret()
            row.previous_secret, row.previous_until = row.secret, now() + overlap
            row.secret = self._seal.seal(secret.encode())
            row.version += 1
            await uow.audit(who.account, who.key, "webhook.rotate", row.id)
            return _issued(await uow.answer(once, row.view()), secret)

    async def _issued_again(self, uow: UnitOfWork, earlier: Endpoint) -> IssuedEndpoint:
        row = await uow.find(EndpointRow, earlier.id, missing=EndpointNotFound)
        return _issued(earlier, self._seal.unseal(row.secret).decode())


async def own_endpoint(uow: UnitOfWork, who: Principal, endpoint: str, *, lock: bool = False) -> EndpointRow:
    """The caller's endpoint of this id. Raises `EndpointNotFound`."""
    row = await uow.find(EndpointRow, endpoint, lock=lock, missing=EndpointNotFound)
    if not who.owns(row.account):
        raise EndpointNotFound
    return row


def _issued(endpoint: Endpoint, secret: str) -> IssuedEndpoint:
    return IssuedEndpoint(**structs.asdict(endpoint), secret=secret)


def _host(url: str) -> str:
    """The host of a URL, for the audit trail: the rest may hold a token, and the trail is permanent."""
    return urlsplit(url).hostname or ""


def _check_types(events: Sequence[str]) -> None:
    known = list(published_types())
    faults = []
    for number, kind in enumerate(events):
        if kind not in known:
            near = difflib.get_close_matches(kind, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
            faults.append(FieldError(f"/events/{number}", f"There is no such type of event; {hint}"))
    if faults:
        raise UnknownEventType(fields=tuple(faults))
