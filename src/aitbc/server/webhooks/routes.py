"""The HTTP of webhooks: endpoints, their secrets, and the log of deliveries."""

from datetime import timedelta
from typing import Annotated, Literal

from litestar import Controller, delete, get, post, put
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter
from msgspec import Meta, Struct

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.http.positions import after_id
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives.pagination import Cursor, InvalidCursor, Limit, Page
from aitbc.kernel.primitives.text import Text
from aitbc.server.webhooks.delivery_log import DeliveryLog, DeliveryNotFound, TooManyTests
from aitbc.server.webhooks.egress import DestinationRefused
from aitbc.server.webhooks.endpoints import (
    EndpointDisabled,
    EndpointNotFound,
    Endpoints,
    TooManyEndpoints,
    UnknownEventType,
)
from aitbc.server.webhooks.service import EventType, event_types
from aitbc.server.webhooks.tables import Delivery, Endpoint, IssuedEndpoint

DAY = 86_400
Url = Annotated[
    str,
    Meta(
        min_length=8,
        max_length=2048,
        pattern=r"^https?://[!-~]+\Z",
        extra_json_schema={"pattern": "^https?://[!-~]+$", "examples": ["https://hooks.example/aitbc"]},
    ),
]
Type = Annotated[
    str,
    Meta(
        max_length=64,
        pattern=r"^[a-z]+\.[a-z_]+\Z",
        extra_json_schema={"pattern": r"^[a-z]+\.[a-z_]+$", "examples": ["ai.job_succeeded"]},
    ),
]
StateName = Literal["pending", "delivered", "dead"]
InState = Annotated[StateName | None, QueryParameter(name="state")]
READ = {"permission": "webhooks:read", "errors": (EndpointNotFound,)}
SWITCH = {"permission": "webhooks:write", "idempotency": "natural", "errors": (EndpointNotFound,)}


class WantedEndpoint(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A URL to which the account's events are to be sent, and which types."""

    url: Url
    """Where events are sent, with POST. For example `https://hooks.example.org/aitbc`."""
    events: Annotated[tuple[Type, ...], Meta(max_length=50)] = ()
    """The types that are sent to it; leave it out for all of them, those of the future too."""
    description: Text = ""
    """What it is for, in your words. For example `billing`."""


class RotateSecret(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A new secret; the old one signs too for the overlap."""

    overlap_seconds: Annotated[int, Meta(ge=0, le=30 * DAY)] = DAY
    """How long the old secret signs too, in seconds. For example `86400`."""


class EndpointController(Controller):
    """Endpoints, as their owners make and steer them."""

    path = "/endpoints"
    tags = ("webhooks",)

    @post(
        "/",
        operation_id="create_webhook_endpoint",
        summary="Create a webhook endpoint",
        opt={
            "permission": "webhooks:write",
            "errors": (DestinationRefused, UnknownEventType, TooManyEndpoints),
        },
    )
    async def create(
        self,
        webhook_endpoints: NamedDependency[Endpoints],
        who: NamedDependency[Principal],
        once: NamedDependency[IdempotencyKey],
        data: JSONBody[WantedEndpoint],
    ) -> IssuedEndpoint:
        """Send the account's events to a URL, as messages in the form of Standard Webhooks.

        The secret that signs them is in this answer and is never shown again.
        """
        return await webhook_endpoints.create(
            who, url=data.url, events=data.events, description=data.description, once=once
        )

    @get(
        "/",
        operation_id="list_webhook_endpoints",
        summary="List webhook endpoints",
        opt={"permission": "webhooks:read", "errors": (InvalidCursor,)},
    )
    async def list_endpoints(
        self,
        webhook_endpoints: NamedDependency[Endpoints],
        who: NamedDependency[Principal],
        limit: FromQuery[Limit] = 50,
        cursor: FromQuery[Cursor] = None,
    ) -> Page[Endpoint]:
        """List the caller's endpoints from the newest on, those of everybody for an admin."""
        after = after_id("webhook endpoints", cursor, "hook")
        found = await webhook_endpoints.list_page(who, limit=limit + 1, after=after)
        return Page.of("webhook endpoints", found, limit, lambda endpoint: endpoint.id)

    @get("/{endpoint:str}", operation_id="get_webhook_endpoint", summary="Get a webhook endpoint", opt=READ)
    async def get_endpoint(
        self, webhook_endpoints: NamedDependency[Endpoints], who: NamedDependency[Principal], endpoint: FromPath[str]
    ) -> Endpoint:
        """Get one endpoint: what is sent to it, whether it is enabled, and why not if it is disabled."""
        return await webhook_endpoints.get(who, endpoint)

    @put(
        "/{endpoint:str}",
        operation_id="change_webhook_endpoint",
        summary="Change a webhook endpoint",
        opt={
            "permission": "webhooks:write",
            "idempotency": "natural",
            "errors": (EndpointNotFound, DestinationRefused, UnknownEventType),
        },
    )
    async def change(
        self,
        webhook_endpoints: NamedDependency[Endpoints],
        who: NamedDependency[Principal],
        endpoint: FromPath[str],
        data: JSONBody[WantedEndpoint],
    ) -> Endpoint:
        """Change an endpoint: its URL, its types and its description become these. Its secret and its log stay."""
        return await webhook_endpoints.change(
            who, endpoint, url=data.url, events=data.events, description=data.description
        )

    @delete(
        "/{endpoint:str}",
        operation_id="delete_webhook_endpoint",
        summary="Delete a webhook endpoint",
        status_code=200,
        opt=SWITCH,
    )
    async def remove(
        self, webhook_endpoints: NamedDependency[Endpoints], who: NamedDependency[Principal], endpoint: FromPath[str]
    ) -> Endpoint:
        """Delete an endpoint with its log; what waits for it is not sent."""
        return await webhook_endpoints.delete(who, endpoint)

    @post(
        "/{endpoint:str}/enable",
        operation_id="enable_webhook_endpoint",
        summary="Enable a webhook endpoint",
        status_code=200,
        opt=SWITCH,
    )
    async def enable(
        self, webhook_endpoints: NamedDependency[Endpoints], who: NamedDependency[Principal], endpoint: FromPath[str]
    ) -> Endpoint:
        """Send to an endpoint again; what waited for it is sent now."""
        return await webhook_endpoints.enable(who, endpoint)

    @post(
        "/{endpoint:str}/disable",
        operation_id="disable_webhook_endpoint",
        summary="Disable a webhook endpoint",
        status_code=200,
        opt=SWITCH,
    )
    async def disable(
        self, webhook_endpoints: NamedDependency[Endpoints], who: NamedDependency[Principal], endpoint: FromPath[str]
    ) -> Endpoint:
        """Send nothing more to an endpoint, and keep nothing for it, until it is enabled."""
        return await webhook_endpoints.disable(who, endpoint)

    @post(
        "/{endpoint:str}/rotate",
        operation_id="rotate_webhook_secret",
        summary="Rotate the secret of a webhook endpoint",
        opt={"permission": "webhooks:write", "errors": (EndpointNotFound,)},
    )
    async def rotate(
        self,
        webhook_endpoints: NamedDependency[Endpoints],
        who: NamedDependency[Principal],
        once: NamedDependency[IdempotencyKey],
        endpoint: FromPath[str],
        data: JSONBody[RotateSecret],
    ) -> IssuedEndpoint:
        """Make a new secret. Until the overlap ends, messages carry a signature of the old one too."""
        return await webhook_endpoints.rotate(who, endpoint, timedelta(seconds=data.overlap_seconds), once)

    @post(
        "/{endpoint:str}/test",
        operation_id="test_webhook_endpoint",
        summary="Send a test message to a webhook endpoint",
        opt={"permission": "webhooks:write", "errors": (EndpointNotFound, EndpointDisabled, TooManyTests)},
    )
    async def test(
        self,
        webhook_log: NamedDependency[DeliveryLog],
        who: NamedDependency[Principal],
        once: NamedDependency[IdempotencyKey],
        endpoint: FromPath[str],
    ) -> Delivery:
        """Send a message of the type `webhook.test`, whatever the endpoint receives; its delivery shows the outcome."""
        return await webhook_log.send_test(who, endpoint, once)


class DeliveryController(Controller):
    """What was sent, and what can be."""

    path = "/"
    tags = ("webhooks",)

    @get(
        "/types",
        operation_id="list_webhook_types",
        summary="List the types of events",
        opt={"permission": "webhooks:read"},
    )
    async def types(self) -> Page[EventType]:
        """List the types of events that endpoints can receive; one page has them all."""
        return Page(data=event_types())

    @get(
        "/deliveries",
        operation_id="list_webhook_deliveries",
        summary="List webhook deliveries",
        opt={"permission": "webhooks:read", "errors": (InvalidCursor,)},
    )
    async def list_deliveries(
        self,
        webhook_log: NamedDependency[DeliveryLog],
        who: NamedDependency[Principal],
        endpoint: FromQuery[str | None] = None,
        in_state: InState = None,
        status: FromQuery[StateName | None] = None,
        limit: FromQuery[Limit] = 50,
        cursor: FromQuery[Cursor] = None,
    ) -> Page[Delivery]:
        """List the messages to the caller's endpoints from the newest on, with what became of them.

        `status` is the older name of `state`.
        """
        state = in_state or status
        after = after_id("webhook deliveries", cursor, "dlv", bound_to=(endpoint or "", state or ""))
        found = await webhook_log.list_page(who, endpoint=endpoint, state=state, limit=limit + 1, after=after)
        bound = (endpoint or "", state or "")
        return Page.of("webhook deliveries", found, limit, lambda delivery: delivery.id, bound_to=bound)

    @get(
        "/deliveries/{delivery:str}",
        operation_id="get_webhook_delivery",
        summary="Get a webhook delivery",
        opt={"permission": "webhooks:read", "errors": (DeliveryNotFound,)},
    )
    async def get_delivery(
        self, webhook_log: NamedDependency[DeliveryLog], who: NamedDependency[Principal], delivery: FromPath[str]
    ) -> Delivery:
        """Get one message: what is sent, how often it was tried, and what came of it."""
        return await webhook_log.get(who, delivery)

    @post(
        "/deliveries/{delivery:str}/replay",
        operation_id="replay_webhook_delivery",
        summary="Replay a webhook delivery",
        status_code=200,
        opt={"permission": "webhooks:write", "errors": (DeliveryNotFound, EndpointNotFound, EndpointDisabled)},
    )
    async def replay(
        self,
        webhook_log: NamedDependency[DeliveryLog],
        who: NamedDependency[Principal],
        once: NamedDependency[IdempotencyKey],
        delivery: FromPath[str],
    ) -> Delivery:
        """Send a message again, under the same `webhook-id`, whatever its outcome; a pending one is sent now."""
        return await webhook_log.replay(who, delivery, once)
