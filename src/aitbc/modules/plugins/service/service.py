"""The service of plugins: the parts that it is composed of, and what it delegates to them.

    Namespaces ◄── Releases ◄── Pipeline: rules and scan of what was handed in
    Catalogue ───► Figures      Reviews: by those who had a plugin
    Licences ────► trading: sets money aside, gives it back, pays publishers
    Installs ────► the kernel's extensions, which every process follows
        └────────► Rulings: what governance decided     PluginRoutes: what trusted packages answer

An arrow points from a part to what it asks.
"""

from collections.abc import Sequence

from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.platform import Platform
from aitbc.modules.governance.events import PluginRuled
from aitbc.modules.plugins.api import Plugin
from aitbc.modules.plugins.service.catalogue import Catalogue
from aitbc.modules.plugins.service.figures import Figures
from aitbc.modules.plugins.service.installs import Installs
from aitbc.modules.plugins.service.licences import Licences
from aitbc.modules.plugins.service.namespaces import Namespaces
from aitbc.modules.plugins.service.pipeline import Pipeline
from aitbc.modules.plugins.service.plugin_routes import PluginRoutes
from aitbc.modules.plugins.service.releases import Releases
from aitbc.modules.plugins.service.reviews import Reviews
from aitbc.modules.plugins.service.rulings import Rulings
from aitbc.modules.trading.api import TradingApi


class PluginsService:
    """The parts, and the face and the periodic tasks that are delegated to them."""

    def __init__(self, db: Database, trading: TradingApi, platform: Platform) -> None:
        assert platform.extensions is not None, "plugins are installed where something follows them"
        self.db = db
        self.plugin_namespaces = Namespaces(db)
        self.plugin_figures = Figures(db, platform.extensions, platform.secret, platform.parameters)
        self.plugin_releases = Releases(db, platform.extensions)
        self.pipeline = Pipeline(db, platform.hooks)
        self.plugin_catalogue = Catalogue(db, self.plugin_figures)
        self.plugin_reviews = Reviews(db)
        self.plugin_licences = Licences(db, trading)
        self.plugin_routes = PluginRoutes(platform.hooks)
        self.plugin_rulings = Rulings(db, platform.parameters)
        self.plugin_installs = Installs(db, platform.extensions, platform.hooks, self.plugin_rulings)

    # The face

    async def plugin(self, plugin: str) -> Plugin:
        """One plugin of the registry, whoever published it."""
        return await self.plugin_catalogue.one(plugin)

    # Event handlers

    async def on_plugins_ruled(self, uow: UnitOfWork, events: Sequence[PluginRuled]) -> None:
        """Keep what governance decided about plugins; what it does not let run is turned off soon."""
        await self.plugin_rulings.apply(uow, events)

    # Periodic tasks

    async def look_at_versions(self) -> None:
        """Look at the versions that were handed in."""
        await self.pipeline.run()

    async def reconcile_licences(self) -> None:
        """Pay, refund and refuse the licences that are due."""
        await self.plugin_licences.reconcile()

    async def reconcile_installs(self) -> None:
        """Turn off what was revoked, may not run or has no licence any more."""
        await self.plugin_installs.reconcile()

    async def purge(self) -> None:
        """Forget who fetched what."""
        await self.plugin_figures.purge()
