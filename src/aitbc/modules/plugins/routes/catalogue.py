"""The HTTP of those who look for plugins, review them and see how theirs do; and the kill switch."""

from typing import Annotated, Literal

from litestar import Controller, get, post, put
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter
from msgspec import Meta

from aitbc.kernel.http.positions import after_id
from aitbc.kernel.primitives.money import InvalidAmount
from aitbc.kernel.primitives.pagination import Cursor, InvalidCursor, Limit, Page
from aitbc.modules.plugins.api import Plugin, PluginNotFound
from aitbc.modules.plugins.models.relevance import Relevance
from aitbc.modules.plugins.routes.bodies import PluginsRevoked, RevokePlugin, SetPluginTerms, WritePluginReview
from aitbc.modules.plugins.routes.publishing import OPERATE, READ, WRITE, Who
from aitbc.modules.plugins.service.catalogue import Catalogue, PluginSearch
from aitbc.modules.plugins.service.figures import Figures, PluginFigures
from aitbc.modules.plugins.service.releases import PluginVersionNotFound, Releases
from aitbc.modules.plugins.service.reviews import PluginNotUsed, PluginReview, Reviews

Query = Annotated[str, Meta(max_length=81)]
Days = Annotated[int, Meta(ge=1, le=366)]
Category = Literal["pricing", "policy", "quality", "other"]
Sort = Literal["relevance", "newest", "name"]
OfKind = Annotated[Literal["sandboxed", "remote"] | None, QueryParameter(name="plugin_kind")]


class PluginCatalogueController(Controller):
    """What is listed."""

    path = "/catalogue"
    tags = ("plugins",)

    @get(
        "/",
        operation_id="search_plugins",
        summary="Find plugins",
        opt={"permission": READ, "errors": (InvalidCursor,)},
    )
    async def find(
        self,
        plugin_catalogue: NamedDependency[Catalogue],
        search: FromQuery[Query] = "",
        category: FromQuery[Category | None] = None,
        plugin_kind: OfKind = None,
        sort: FromQuery[Sort] = "relevance",
        limit: FromQuery[Limit] = 50,
        cursor: FromQuery[Cursor] = None,
    ) -> Page[Plugin]:
        """Find plugins that passed, the most relevant ones first; `relevance` says why one stands where it does."""
        bound = (search, category or "", plugin_kind or "", sort)
        after = Page.position("plugins", cursor, bound_to=bound)
        wanted = PluginSearch(query=search, category=category, kind=plugin_kind, sort=sort)
        found = await plugin_catalogue.search(wanted, after, limit + 1)
        return Page.of("plugins", found, limit, lambda one: one.id, bound_to=bound)

    @get(
        "/{plugin:str}",
        operation_id="get_plugin",
        summary="Get a plugin",
        opt={"permission": READ, "errors": (PluginNotFound,)},
    )
    async def one(self, plugin_catalogue: NamedDependency[Catalogue], plugin: FromPath[str]) -> Plugin:
        """Read a plugin, as its latest version describes it."""
        return await plugin_catalogue.one(plugin)

    @get(
        "/{plugin:str}/relevance",
        operation_id="explain_plugin",
        summary="Explain a plugin's place",
        opt={"permission": READ, "errors": (PluginNotFound,)},
    )
    async def explain(
        self, plugin_catalogue: NamedDependency[Catalogue], plugin: FromPath[str], search: FromQuery[Query] = ""
    ) -> Relevance:
        """Read why a plugin stands where it does in a search: every part of the formula."""
        return await plugin_catalogue.explain(plugin, search)

    @put(
        "/{plugin:str}/terms",
        operation_id="set_plugin_terms",
        summary="Set what a plugin costs",
        opt={"permission": WRITE, "idempotency": "natural", "errors": (PluginNotFound, InvalidAmount)},
    )
    async def set_terms(
        self,
        plugin_catalogue: NamedDependency[Catalogue],
        who: Who,
        plugin: FromPath[str],
        data: JSONBody[SetPluginTerms],
    ) -> Plugin:
        """Set what a licence of a plugin of the caller's costs from now on, and for how long it can be tried."""
        return await plugin_catalogue.set_terms(who, plugin, data.command())

    @put(
        "/{plugin:str}/review",
        operation_id="review_plugin",
        summary="Review a plugin",
        opt={"permission": WRITE, "idempotency": "natural", "errors": (PluginNotFound, PluginNotUsed)},
    )
    async def review(
        self,
        plugin_reviews: NamedDependency[Reviews],
        who: Who,
        plugin: FromPath[str],
        data: JSONBody[WritePluginReview],
    ) -> PluginReview:
        """Review a plugin that the caller's account fetched, bought or installed; in place of its earlier review."""
        return await plugin_reviews.write(who, plugin, data.rating, data.text)

    @get(
        "/{plugin:str}/reviews",
        operation_id="list_plugin_reviews",
        summary="List the reviews of a plugin",
        opt={"permission": READ, "errors": (PluginNotFound, InvalidCursor)},
    )
    async def reviews(
        self,
        plugin_reviews: NamedDependency[Reviews],
        plugin: FromPath[str],
        limit: FromQuery[Limit] = 50,
        cursor: FromQuery[Cursor] = None,
    ) -> Page[PluginReview]:
        """List what accounts think of a plugin."""
        after = after_id("plugin_reviews", cursor, "acct", bound_to=(plugin,))
        found = await plugin_reviews.page(plugin, after, limit + 1)
        return Page.of("plugin_reviews", found, limit, lambda one: one.account, bound_to=(plugin,))

    @get(
        "/{plugin:str}/figures",
        operation_id="get_plugin_figures",
        summary="Read how your plugin does",
        opt={"permission": READ, "errors": (PluginNotFound,)},
    )
    async def figures(
        self,
        plugin_figures: NamedDependency[Figures],
        who: Who,
        plugin: FromPath[str],
        days: FromQuery[Days] = 30,
    ) -> PluginFigures:
        """Read downloads, installs, sales, calls and failures of a plugin of the caller's, by version and day."""
        return await plugin_figures.of(who, plugin, days)

    @post(
        "/{plugin:str}/revoke",
        status_code=200,
        operation_id="revoke_plugin",
        summary="Revoke a plugin",
        opt={"permission": OPERATE, "idempotency": "natural", "errors": (PluginNotFound, PluginVersionNotFound)},
    )
    async def revoke(
        self,
        plugin_releases: NamedDependency[Releases],
        who: Who,
        plugin: FromPath[str],
        data: JSONBody[RevokePlugin],
    ) -> PluginsRevoked:
        """Have no process ask a plugin, or one version of it, any more, as an operator; nobody can install it again."""
        changed = await plugin_releases.revoke(who, plugin, data.version, data.reason)
        return PluginsRevoked(plugin=plugin, installs=changed, within_seconds=plugin_releases.poll_seconds)
