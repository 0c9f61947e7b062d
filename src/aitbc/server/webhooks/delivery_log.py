"""The delivery log: deliveries and their outcomes, test messages and replays."""

from collections.abc import Callable

from sqlalchemy import func, select

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import NotFound, TooMany
from aitbc.kernel.primitives.ids import is_id, new_id
from aitbc.kernel.primitives.request_id import current_request_id
from aitbc.kernel.primitives.trace_context import trace_id_of
from aitbc.server.webhooks.endpoints import EndpointDisabled, EndpointNotFound, own_endpoint
from aitbc.server.webhooks.fan_out import message
from aitbc.server.webhooks.tables import Delivery, DeliveryRow, EndpointRow, State

TEST = "webhook.test"
"""The type of a test message."""
TESTS_MAX = 20
"""Test messages of an endpoint that may wait at one time."""


class DeliveryNotFound(NotFound):
    """There is no such webhook delivery."""

    code = "webhook_delivery_not_found"


class TooManyTests(TooMany):
    """As many test messages wait for this endpoint as may; see what becomes of them."""

    code = "too_many_webhook_tests"


class DeliveryLog:
    """Reads and replays deliveries, and sends test messages."""

    def __init__(self, db: Database, *, wake: Callable[[], None]) -> None:
        """`wake` is called when there is something to send."""
        self._db = db
        self._wake = wake

    async def send_test(self, who: Principal, endpoint: str, once: IdempotencyKey = IdempotencyKey.NONE) -> Delivery:
        """Send a test message. Raises `EndpointNotFound`, `EndpointDisabled`, `TooManyTests`."""
        async with self._db.unit_of_work() as uow:
            if earlier := await uow.replay(once, Delivery):
                return earlier
            row = await own_endpoint(uow, who, endpoint, lock=True)
            if row.disabled_at is not None:
                raise EndpointDisabled
            waiting = select(func.count()).where(
                DeliveryRow.endpoint == row.id, DeliveryRow.state == State.PENDING, DeliveryRow.type == TEST
            )
            if (await uow.session.execute(waiting)).scalar_one() >= TESTS_MAX:
                raise TooManyTests
            delivery = _test_delivery(row)
            uow.add(delivery)
            answer = await uow.answer(once, delivery.view())
        self._wake()
        return answer

    async def list_page(
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

    async def get(self, who: Principal, delivery: str) -> Delivery:
        """One delivery. Raises `DeliveryNotFound`."""
        async with self._db.unit_of_work() as uow:
            return (await _own_delivery(uow, who, delivery)).view()

    async def replay(self, who: Principal, delivery: str, once: IdempotencyKey = IdempotencyKey.NONE) -> Delivery:
        """Send a message again, under the same id, from its first attempt on; one that still waits is sent now.

        Raises `DeliveryNotFound`, `EndpointDisabled`.
        """
        async with self._db.unit_of_work() as uow:
            if earlier := await uow.replay(once, Delivery):
                return earlier
            row = await _own_delivery(uow, who, delivery, lock=True)
            endpoint = await uow.find(EndpointRow, row.endpoint, missing=EndpointNotFound)
            if endpoint.disabled_at is not None:
                raise EndpointDisabled
            row.state, row.attempts, row.ended_at, row.due_at = State.PENDING.value, 0, None, now()
            await uow.audit(who.account, who.key, "webhook.replay", row.id)
            answer = await uow.answer(once, row.view())
        self._wake()
        return answer


def _test_delivery(endpoint: EndpointRow) -> DeliveryRow:
    at = now()
    return DeliveryRow(
        id=new_id("dlv"),
        endpoint=endpoint.id,
        account=endpoint.account,
        type=TEST,
        body=message(TEST, at, {"endpoint": endpoint.id}),
        state=State.PENDING.value,
        attempts=0,
        created_at=at,
        due_at=at,
        trace_id=trace_id_of(request) if (request := current_request_id()) is not None else None,
    )


async def _own_delivery(uow: UnitOfWork, who: Principal, delivery: str, *, lock: bool = False) -> DeliveryRow:
    row = await uow.find(DeliveryRow, delivery, lock=lock, missing=DeliveryNotFound)
    if not who.owns(row.account):
        raise DeliveryNotFound
    return row
