"""Webhooks: an account's events, sent as signed messages to the endpoints that it named.

Every module gets this for free: an event that says which account it concerns is sent. The parts are `endpoints`, the
`delivery_log`, the `fan_out` of events to deliveries, and the `delivery` worker that sends them.
"""

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta
from uuid import UUID

from msgspec import Struct
from prometheus_client import Metric

from aitbc.kernel.crypto.sealing import Sealer
from aitbc.kernel.database.outbox import Event
from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.primitives.tasks import cancel_and_wait
from aitbc.kernel.telemetry.metrics import counter
from aitbc.server.config.settings import WebhookSettings
from aitbc.server.webhooks.delivery import DeliveryWorker
from aitbc.server.webhooks.delivery_log import DeliveryLog
from aitbc.server.webhooks.egress import EgressPolicy
from aitbc.server.webhooks.endpoints import Endpoints
from aitbc.server.webhooks.fan_out import FanOut, published_types
from aitbc.server.webhooks.outbound import Outbound
from aitbc.server.webhooks.plugin_notifier import PluginNotifier
from aitbc.server.webhooks.retention import purge

PURPOSE = "secrets of webhooks"


class EventType(Struct, frozen=True, kw_only=True):
    """A type of event that endpoints can receive."""

    type: str
    """Its name. For example `ai.job_closed`."""
    description: str
    """What happened when it is sent. For example `A job of the account succeeded and is paid.`."""


class Webhooks:
    """The webhooks of this installation; one in every process."""

    name = FanOut.name

    def __init__(
        self, db: Database, secret: bytes, settings: WebhookSettings, draining: asyncio.Event | None = None
    ) -> None:
        """`secret` is the installation's; those of the endpoints are sealed under a key that is derived from it."""
        self._db = db
        seal, egress = Sealer(secret, PURPOSE), EgressPolicy(settings)
        self.outbound = Outbound(egress)
        self.worker = DeliveryWorker(db, seal, egress, in_flight_max=settings.in_flight_max, draining=draining)
        self.endpoints = Endpoints(db, seal, egress, endpoints_max=settings.endpoints_max, wake=self.worker.wake)
        self.log = DeliveryLog(db, wake=self.worker.wake)
        self.notifier: PluginNotifier | None = None
        """Tells plugins of the same events; set where there are plugins, before anything runs."""
        self._fan_out = FanOut(db, self.worker.wake, self._tell)
        self._task: asyncio.Task[None] | None = None

    async def receive(self, events: Sequence[tuple[UUID, Event]]) -> None:
        """Fan out events of the relay, as a subscriber like the handlers of modules."""
        await self._fan_out.receive(events)

    def deliver(self, event_id: UUID, event: Event, on_written: Callable[[UUID], object]) -> None:
        """Queue an event for fan-out without the relay; `on_written` gets its id once the deliveries are written."""
        self._fan_out.deliver(event_id, event, on_written)

    def _tell(self, events: Sequence[tuple[UUID, Event]]) -> None:
        if self.notifier is not None:
            self.notifier.tell(events)

    async def start(self) -> None:
        """Start the delivery worker."""
        self._task = asyncio.create_task(self.worker.run())

    async def stop(self) -> None:
        """Write what is queued, and end; what is on its way is sent again once its lease has expired."""
        await self._fan_out.close()
        if self.notifier is not None:
            await self.notifier.close()
        if self._task is not None:
            await cancel_and_wait([self._task])

    async def purge(self, kept: timedelta) -> None:
        """Delete what is older than it is kept; a periodic task."""
        await purge(self._db, kept)

    async def measure(self) -> Sequence[Metric]:
        """How attempts of this process ended."""
        attempts = counter(
            "aitbc_webhook_deliveries_total", "Attempts to deliver a webhook, by how they ended.", ("outcome",)
        )
        for outcome, count in sorted(self.worker.outcomes.items()):
            attempts.add_metric([outcome], count)
        return [attempts]


def event_types() -> list[EventType]:
    """The types of events that can be sent."""
    return [
        EventType(type=kind, description=" ".join((one.__doc__ or "").split()))
        for kind, one in published_types().items()
    ]
