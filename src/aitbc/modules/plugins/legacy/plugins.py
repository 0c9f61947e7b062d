"""The plugin service of the legacy dialect (port 8109): names are registered for real, and figures are counted."""

import re
from typing import Any

from litestar import Controller, get, post
from litestar.di import NamedDependency
from litestar.params import JSONBody
from msgspec import Struct

from aitbc.kernel.legacy.caller import Once, Who
from aitbc.kernel.legacy.errors import name_of
from aitbc.kernel.legacy.health import OPEN, HealthController
from aitbc.kernel.primitives.version import this_build
from aitbc.modules.plugins.service import PluginsService
from aitbc.modules.plugins.service.catalogue import PluginSearch

Plugins = NamedDependency[PluginsService]
"""The parameter `plugins` of a handler."""
READ = {"permission": "plugins:read"}
LISTED_MAX = 1_000
_OTHER = re.compile(r"[^a-z0-9]+")


class Root(Struct, frozen=True, kw_only=True):
    """What this is."""

    service: str
    version: str
    status: str


class Registered(Struct, frozen=True, kw_only=True):
    """A name that was registered."""

    plugin_id: str
    name: str
    version: str
    status: str


class LegacyPlugin(Struct, frozen=True, kw_only=True):
    """A plugin that is listed."""

    id: str
    name: str
    version: str
    category: str


class LegacyListing(Struct, frozen=True, kw_only=True):
    """All that are listed."""

    plugins: list[LegacyPlugin]
    total: int


class LegacyAnalytics(Struct, frozen=True, kw_only=True):
    """What was counted."""

    total_plugins: int
    active_installs: int
    downloads: int
    popular_categories: list[str]


class LegacyHealth(HealthController):
    """Whether the service runs."""

    service = "plugin-service"

    @get("/", opt=OPEN)
    async def root(self) -> Root:
        """What this is."""
        return Root(service="AITBC Plugin Service", version=this_build().version, status="operational")


class LegacyPlugins(Controller):
    """Names, listing and figures."""

    @post("/register", status_code=200, opt={"permission": "plugins:write"})
    async def register(self, plugins: Plugins, who: Who, once: Once, data: JSONBody[dict[str, Any]]) -> Registered:
        """Register a name in the namespace of the caller's account; nothing of it is listed before a version passed."""
        name = name_of(data.get("name", "unknown"), "/name")
        version = name_of(data.get("version", "1.0.0"), "/version")
        slug = _OTHER.sub("-", name.lower()).strip("-")[:38]
        slug = f"p-{slug}"[:38] if slug[:1].isdigit() else slug
        plugin = await plugins.plugin_releases.register(who, slug, once)
        return Registered(plugin_id=plugin, name=name, version=version, status="registered")

    @get("/marketplace/plugins", opt=READ)
    async def listing(self, plugins: Plugins) -> LegacyListing:
        """List what passed and was not revoked."""
        found = await plugins.plugin_catalogue.search(PluginSearch(sort="name"), None, LISTED_MAX)
        shown = [
            LegacyPlugin(id=one.id, name=one.summary, version=one.latest or "", category=one.category) for one in found
        ]
        return LegacyListing(plugins=shown, total=len(shown))

    @get("/analytics/plugins", opt=READ)
    async def analytics(self, plugins: Plugins) -> LegacyAnalytics:
        """What was counted of all that are listed."""
        totals = await plugins.plugin_figures.totals()
        return LegacyAnalytics(
            total_plugins=totals.plugins,
            active_installs=totals.active_installs,
            downloads=totals.downloads,
            popular_categories=list(totals.categories),
        )
