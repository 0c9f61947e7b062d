"""The pages of one server: their routes, and the layers that they stand between.

A module's pages are a controller in `pages` and a folder of that name in `templates`; a new one is named in `PAGES`,
and its place in the menu in `navigation`.
"""

import asyncio
from typing import Any

from litestar import Request, Router
from litestar.di import Provide
from litestar.types import ASGIApp, Receive, Scope, Send

from aitbc.kernel.identity.sessions import Sessions
from aitbc.web.api_client import ApiClient
from aitbc.web.assets import AssetController
from aitbc.web.error_pages import ErrorPages
from aitbc.web.feed import Feed
from aitbc.web.pages.ai import JobPages
from aitbc.web.pages.edges import DeploymentPages, EdgePages
from aitbc.web.pages.exchange import ExchangePages, MarketBookPages
from aitbc.web.pages.governance import ProposalPages, StakePages, TreasuryPages
from aitbc.web.pages.gpu import MinerPages
from aitbc.web.pages.hermes import AgentPages, RunPages
from aitbc.web.pages.identity import AccountPages, KeyPages, SessionPages
from aitbc.web.pages.inspection import InspectionPages
from aitbc.web.pages.limits import LimitPages
from aitbc.web.pages.long_work import GraphPages, StudyPages
from aitbc.web.pages.marketplace import BookingPages, MarketPages
from aitbc.web.pages.monitoring import MonitorPages, StatusPages, UsagePages
from aitbc.web.pages.operations import OperatorPages
from aitbc.web.pages.overview import OverviewPages
from aitbc.web.pages.plugins import InstalledPages, PluginPages
from aitbc.web.pages.service_classes import ServiceClassPages
from aitbc.web.pages.sign_in import SignInPages
from aitbc.web.pages.trades import TradePages
from aitbc.web.pages.trading import ExplorerPages, StatementPages
from aitbc.web.pages.webhooks import WebhookPages
from aitbc.web.visit import Guest, Visit, guest_of, visit_of

PAGES = (
    AssetController,
    SignInPages,
    OverviewPages,
    JobPages,
    GraphPages,
    StudyPages,
    MinerPages,
    MarketPages,
    BookingPages,
    ExchangePages,
    MarketBookPages,
    TradePages,
    AgentPages,
    RunPages,
    EdgePages,
    DeploymentPages,
    PluginPages,
    InstalledPages,
    ProposalPages,
    StakePages,
    TreasuryPages,
    ExplorerPages,
    AccountPages,
    StatementPages,
    KeyPages,
    SessionPages,
    LimitPages,
    UsagePages,
    ServiceClassPages,
    WebhookPages,
    StatusPages,
    MonitorPages,
    OperatorPages,
    InspectionPages,
)


class Site:
    """The pages, as the server mounts them."""

    def __init__(self, sessions: Sessions, draining: asyncio.Event) -> None:
        """`draining` is set when the process is stopping."""
        self._api: ASGIApp | None = None
        self.sessions = sessions
        self.client = ApiClient(self._call_api)
        self.feed = Feed(draining)
        self.router = Router(
            "/",
            route_handlers=list(PAGES),
            dependencies=_dependencies(self.client, self.feed, sessions),
            include_in_schema=False,
        )

    def connect(self, api: ASGIApp) -> None:
        """Call this application for what the API answers."""
        self._api = api

    def around(self, app: ASGIApp) -> ASGIApp:
        """The layer that shows errors as pages."""
        return ErrorPages(app)

    async def _call_api(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert self._api is not None, "a page was asked for before the server was built"
        await self._api(scope, receive, send)


def _dependencies(client: ApiClient, feed: Feed, sessions: Sessions) -> dict[str, Provide]:
    """What pages ask for by name. Closures, since the framework would copy the object of a bound method."""

    async def visit(request: Request[Any, Any, Any]) -> Visit:
        return await visit_of(request, client, sessions)

    async def guest(request: Request[Any, Any, Any]) -> Guest:
        return await guest_of(request, client, sessions)

    async def the_feed() -> Feed:
        return feed

    async def browser_sessions() -> Sessions:
        return sessions

    return {
        "visit": Provide(visit),
        "guest": Provide(guest),
        "feed": Provide(the_feed),
        "browser_sessions": Provide(browser_sessions),
    }
