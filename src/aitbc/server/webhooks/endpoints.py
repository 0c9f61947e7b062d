"""Webhooks: an account's endpoints, which are told of its events by signed messages, and the log of what was sent to them.

Every module gets this for free: an event that says which account it concerns is told. Hearing and sending have files of their own.
"""

import asyncio
import difflib
from collections.abc import Callable, Sequence
from datetime import timedelta
from urllib.parse import urlsplit
from uuid import UUID

from msgspec import Struct, structs
from prometheus_client import Metric
from sqlalchemy import func, select

from aitbc.kernel.crypto.sealing import Seal
from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.database.outbox import Event
from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.identity.accounts import AccountRow
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import Conflict, FieldError, Invalid, NotFound, TooMany
from aitbc.kernel.primitives.ids import is_id, new_id
from aitbc.kernel.primitives.tasks import end
from aitbc.kernel.telemetry.metrics import counter
from aitbc.server.config.settings import WebhookSettings
from aitbc.server.webhooks.delivery import DeliveryWorker
from aitbc.server.webhooks.egress import EgressPolicy
from aitbc.server.webhooks.fan_out import FanOut, declared, message
from aitbc.server.webhooks.signing import new_secret
from aitbc.server.webhooks.tables import Delivery, DeliveryRow, Endpoint, EndpointRow, IssuedEndpoint, State

PURPOSE = "secrets of webhooks"
TEST = "webhook.test"
"""The type of the message that an owner asks for."""
TESTS_MAX = 20
"""Test messages of an endpoint that may wait at one time."""
PENDING_MAX = 100_000
"""An endpoint for which more than this waits is disabled: nobody catches up with that."""
UNSENT_KEPT = timedelta(days=7)
"""How long a message waits for an endpoint that is disabled."""
TIDIED_MAX = 10_000
TIDY_ROUNDS_MAX = 100
"""So many times so many rows are forgotten at one time."""

TIDY = """
DELETE FROM kernel.webhook_deliveries WHERE id = ANY(ARRAY(
    SELECT id FROM kernel.webhook_deliveries WHERE ended_at < $1 ORDER BY ended_at LIMIT $2))"""
FORGET_SECRETS = """
UPDATE kernel.webhook_endpoints SET previous_secret = NULL, previous_until = NULL WHERE previous_until < $1"""
GIVE_UP = """
UPDATE kernel.webhook_deliveries SET state = 'dead', ended_at = $1, error = coalesce(error, 'the endpoint is disabled')
WHERE state = 'pending' AND id = ANY(ARRAY(
    SELECT d.id FROM kernel.webhook_deliveries d JOIN kernel.webhook_endpoints w ON w.id = d.endpoint
    WHERE w.disabled_at < $2 AND d.state = 'pending' AND d.created_at < $2 LIMIT $3))"""
OVERRUN = """
UPDATE kernel.webhook_endpoints w SET disabled_at = $1, disabled_reason = 'overrun' WHERE disabled_at IS NULL AND $2::int8 < (
    SELECT count(*) FROM (
        SELECT 1 FROM kernel.webhook_deliveries WHERE endpoint = w.id AND state = 'pending' LIMIT $2::int8 + 1) waiting)"""


class EndpointNotFound(NotFound):
    """There is no such webhook endpoint."""

    code = "webhook_endpoint_not_found"


class DeliveryNotFound(NotFound):
    """There is no such webhook delivery."""

    code = "webhook_delivery_not_found"


class UnknownEventType(Invalid):
    """There is no such type of event.

    `GET /api/v1/webhooks/types` lists the types that are told; an empty list of types means all of them.
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


class TooManyTests(TooMany):
    """As many test messages wait for this endpoint as may; see what becomes of them."""

    code = "too_many_webhook_tests"


class EventType(Struct, frozen=True, kw_only=True):
    """A type of event that endpoints are told of."""

    type: str
    description: str


class Webhooks:
    """The endpoints and deliveries of this installation; one in every process."""

    name = FanOut.name

    def __init__(
        self, db: Database, secret: bytes, settings: WebhookSettings, draining: asyncio.Event | None = None
    ) -> None:
        """`secret` is the installation's; those of the endpoints are sealed under a key that is derived from it."""
        self._db = db
        self._settings = settings
        self._seal = Seal(secret, PURPOSE)
        self._destinations = EgressPolicy(settings)
        self.sending = DeliveryWorker(
            db, self._seal, self._destinations, in_flight_max=settings.in_flight_max, draining=draining
        )
        self._fan_out = FanOut(db, self.sending.wake)
        self._task: asyncio.Task[None] | None = None

    # Events

    async def receive(self, events: Sequence[tuple[UUID, Event]]) -> None:
        """Take events of the relay: webhooks are a subscriber like the handlers of modules."""
        await self._fan_out.receive(events)

    def deliver(self, event_id: UUID, event: Event, on_written: Callable[[UUID], object]) -> None:
        """Queue an event for fan-out without the relay; `on_written` is called with its id once the deliveries are written."""
        self._fan_out.deliver(event_id, event, on_written)

    async def start(self) -> None:
        """Begin to send."""
        self._task = asyncio.create_task(self.sending.run())

    async def stop(self) -> None:
        """End: what was heard is written, what is on its way is sent again by whoever comes next."""
        await self._fan_out.close()
        if self._task is not None:
            await end([self._task])

    # Endpoints

    def types(self) -> list[EventType]:
        """What can be told."""
        return [
            EventType(type=kind, description=" ".join((one.__doc__ or "").split())) for kind, one in declared().items()
        ]

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
        self._destinations.check(url)
        _check_types(events)
        async with self._db.unit_of_work() as uow:
            if earlier := await uow.replay(once, Endpoint):
                return await self._issued_again(uow, earlier)
            # Locked against a twin, so that the limit holds.
            await uow.find(AccountRow, who.account, lock=True)
            count = select(func.count()).where(EndpointRow.account == who.account)
            if (await uow.session.execute(count)).scalar_one() >= self._settings.endpoints_max:
                raise TooManyEndpoints
            secret = new_secret()
            row = EndpointRow(
                id=new_id("hook"),
                account=who.account,
                url=url,
                events=sorted(set(events)),
                description=description,
                secret=self._seal.close(secret.encode()),
                version=1,
                created_at=now(),
            )
            uow.add(row)
            await uow.audit(who.account, who.key, "webhook.create", row.id, host=_host(url))
            return _issued(await uow.answer(once, row.view()), secret)

    async def endpoints(self, who: Principal, *, limit: int, after: str | None) -> list[Endpoint]:
        """Endpoints from the newest on: the caller's, or for an admin those of everybody."""
        query = select(EndpointRow).order_by(EndpointRow.id.desc()).limit(limit)
        if not who.is_admin:
            query = query.where(EndpointRow.account == who.account)
        if after is not None:
            query = query.where(EndpointRow.id < after)
        async with self._db.reading() as session:
            return [row.view() for row in await session.scalars(query)]

    async def endpoint(self, who: Principal, endpoint: str) -> Endpoint:
        """One endpoint. Raises `EndpointNotFound`."""
        async with self._db.unit_of_work() as uow:
            return (await self._own(uow, who, endpoint)).view()

    async def change(
        self, who: Principal, endpoint: str, *, url: str, events: Sequence[str], description: str
    ) -> Endpoint:
        """Give an endpoint these. Raises `EndpointNotFound`, `DestinationRefused`, `UnknownEventType`."""
        self._destinations.check(url)
        _check_types(events)
        async with self._db.unit_of_work() as uow:
            row = await self._own(uow, who, endpoint, lock=True)
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
        """Send to it again, what waits for it too. Raises `EndpointNotFound`."""
        async with self._db.unit_of_work() as uow:
            row = await self._own(uow, who, endpoint, lock=True)
            if row.disabled_at is not None:
                row.disabled_at = row.disabled_reason = row.failing_since = None
                row.version += 1
                await uow.audit(who.account, who.key, "webhook.enable", row.id)
            view = row.view()
        self.sending.wake()
        return view

    async def disable(self, who: Principal, endpoint: str) -> Endpoint:
        """Send nothing to it and note nothing for it, until it is enabled. Raises `EndpointNotFound`."""
        async with self._db.unit_of_work() as uow:
            row = await self._own(uow, who, endpoint, lock=True)
            if row.disabled_at is None:
                row.disabled_at, row.disabled_reason = now(), "owner"
                row.version += 1
                await uow.audit(who.account, who.key, "webhook.disable", row.id)
            return row.view()

    async def delete(self, who: Principal, endpoint: str) -> Endpoint:
        """Remove an endpoint with its log. Raises `EndpointNotFound`."""
        async with self._db.unit_of_work() as uow:
            row = await self._own(uow, who, endpoint, lock=True)
            await uow.session.delete(row)
            await uow.audit(who.account, who.key, "webhook.delete", row.id, host=_host(row.url))
            return row.view()

    async def rotate(
        self, who: Principal, endpoint: str, overlap: timedelta, once: IdempotencyKey = IdempotencyKey.NONE
    ) -> IssuedEndpoint:
        """A new secret; until the overlap ends, messages carry a signature of the old one too. Raises `EndpointNotFound`."""
        async with self._db.unit_of_work() as uow:
            if earlier := await uow.replay(once, Endpoint):
                return await self._issued_again(uow, earlier)
            row = await self._own(uow, who, endpoint, lock=True)
            secret = new_secret()
            row.previous_secret, row.previous_until = row.secret, now() + overlap
            row.secret = self._seal.close(secret.encode())
            row.version += 1
            await uow.audit(who.account, who.key, "webhook.rotate", row.id)
            return _issued(await uow.answer(once, row.view()), secret)

    async def _issued_again(self, uow: UnitOfWork, earlier: Endpoint) -> IssuedEndpoint:
        row = await uow.find(EndpointRow, earlier.id, missing=EndpointNotFound)
        return _issued(earlier, self._seal.open(row.secret).decode())

    async def _own(self, uow: UnitOfWork, who: Principal, endpoint: str, *, lock: bool = False) -> EndpointRow:
        row = await uow.find(EndpointRow, endpoint, lock=lock, missing=EndpointNotFound)
        if not who.owns(row.account):
            raise EndpointNotFound
        return row

    # Deliveries

    async def test(self, who: Principal, endpoint: str, once: IdempotencyKey = IdempotencyKey.NONE) -> Delivery:
        """Send a message of no meaning. Raises `EndpointNotFound`, `EndpointDisabled`, `TooManyTests`."""
        async with self._db.unit_of_work() as uow:
            if earlier := await uow.replay(once, Delivery):
                return earlier
            row = await self._own(uow, who, endpoint, lock=True)
            if row.disabled_at is not None:
                raise EndpointDisabled
            waiting = select(func.count()).where(
                DeliveryRow.endpoint == row.id, DeliveryRow.state == State.PENDING, DeliveryRow.type == TEST
            )
            if (await uow.session.execute(waiting)).scalar_one() >= TESTS_MAX:
                raise TooManyTests
            at = now()
            delivery = DeliveryRow(
                id=new_id("dlv"),
                endpoint=row.id,
                account=row.account,
                type=TEST,
                body=message(TEST, at, {"endpoint": row.id}),
                state=State.PENDING.value,
                attempts=0,
                created_at=at,
                due_at=at,
            )
            uow.add(delivery)
            answer = await uow.answer(once, delivery.view())
        self.sending.wake()
        return answer

    async def deliveries(
        self, who: Principal, *, endpoint: str | None, state: str | None, limit: int, after: str | None
    ) -> list[Delivery]:
        """Deliveries from the newest on: the caller's, or for an admin those of everybody."""
        query = select(DeliveryRow).order_by(DeliveryRow.id.desc()).limit(limit)
        if not who.is_admin:
            query = query.where(DeliveryRow.account == who.account)
        if endpoint is not None:
            if not is_id("hook", endpoint):
                return []
            query = query.where(DeliveryRow.endpoint == endpoint)
        if state is not None:
            query = query.where(DeliveryRow.state == state)
        if after is not None:
            query = query.where(DeliveryRow.id < after)
        async with self._db.reading() as session:
            return [row.view() for row in await session.scalars(query)]

    async def delivery(self, who: Principal, delivery: str) -> Delivery:
        """One delivery. Raises `DeliveryNotFound`."""
        async with self._db.unit_of_work() as uow:
            return (await self._own_delivery(uow, who, delivery)).view()

    async def replay(self, who: Principal, delivery: str, once: IdempotencyKey = IdempotencyKey.NONE) -> Delivery:
        """Send a message again, under the same id, from its first attempt on; one that still waits is sent now.

        Raises `DeliveryNotFound`, `EndpointDisabled`.
        """
        async with self._db.unit_of_work() as uow:
            if earlier := await uow.replay(once, Delivery):
                return earlier
            row = await self._own_delivery(uow, who, delivery, lock=True)
            endpoint = await uow.find(EndpointRow, row.endpoint, missing=EndpointNotFound)
            if endpoint.disabled_at is not None:
                raise EndpointDisabled
            row.state, row.attempts, row.ended_at, row.due_at = State.PENDING.value, 0, None, now()
            await uow.audit(who.account, who.key, "webhook.replay", row.id)
            answer = await uow.answer(once, row.view())
        self.sending.wake()
        return answer

    async def _own_delivery(self, uow: UnitOfWork, who: Principal, delivery: str, *, lock: bool = False) -> DeliveryRow:
        row = await uow.find(DeliveryRow, delivery, lock=lock, missing=DeliveryNotFound)
        if not who.owns(row.account):
            raise DeliveryNotFound
        return row

    # By itself

    async def tidy(self) -> None:
        """Forget what ended long ago and secrets that count no more, and give up what waits for nobody."""
        at = now()
        before = at - timedelta(days=self._settings.kept_days)
        async with self._db.raw() as connection:
            for statement, arguments in ((TIDY, (before, TIDIED_MAX)), (GIVE_UP, (at, at - UNSENT_KEPT, TIDIED_MAX))):
                for _ in range(TIDY_ROUNDS_MAX):
                    done = await connection.execute(statement, *arguments)
                    if int(done.rpartition(" ")[2]) < TIDIED_MAX:
                        break
            await connection.execute(FORGET_SECRETS, at)
            await connection.execute(OVERRUN, at, PENDING_MAX)

    async def measure(self) -> Sequence[Metric]:
        """How attempts of this process ended."""
        told = counter(
            "aitbc_webhook_deliveries_total", "Attempts to deliver a webhook, by how they ended.", ("outcome",)
        )
        for outcome, count in sorted(self.sending.outcomes.items()):
            told.add_metric([outcome], count)
        return [told]


def _issued(endpoint: Endpoint, secret: str) -> IssuedEndpoint:
    return IssuedEndpoint(**structs.asdict(endpoint), secret=secret)


def _host(url: str) -> str:
    """What the audit trail keeps of a URL: the rest may hold a token, and a trail is for ever."""
    return urlsplit(url).hostname or ""


def _check_types(events: Sequence[str]) -> None:
    known = list(declared())
    faults = []
    for number, kind in enumerate(events):
        if kind not in known:
            near = difflib.get_close_matches(kind, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
            faults.append(FieldError(f"/events/{number}", f"There is no such type of event; {hint}"))
    if faults:
        raise UnknownEventType(fields=tuple(faults))
