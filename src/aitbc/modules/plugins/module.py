"""The plugins module, as the app mounts it."""

from aitbc.kernel.module import Module, PeriodicTask
from aitbc.modules.governance.events import PluginRuled
from aitbc.modules.plugins.api import PluginsApi
from aitbc.modules.plugins.legacy.plugins import LegacyHealth, LegacyPlugins
from aitbc.modules.plugins.models.tables import Base
from aitbc.modules.plugins.routes.catalogue import PluginCatalogueController
from aitbc.modules.plugins.routes.installs import PluginInstallController, PluginRulingController
from aitbc.modules.plugins.routes.licences import PluginLicenceController
from aitbc.modules.plugins.routes.plugin_routes import PluginRouteController
from aitbc.modules.plugins.routes.publishing import PluginNamespaceController, PluginVersionController
from aitbc.modules.plugins.service import PluginsService
from aitbc.modules.plugins.service.catalogue import Catalogue
from aitbc.modules.plugins.service.figures import FETCHES_PARAMETER, Figures
from aitbc.modules.plugins.service.installs import Installs
from aitbc.modules.plugins.service.licences import Licences
from aitbc.modules.plugins.service.namespaces import Namespaces
from aitbc.modules.plugins.service.plugin_routes import PluginRoutes
from aitbc.modules.plugins.service.releases import Releases
from aitbc.modules.plugins.service.reviews import Reviews
from aitbc.modules.plugins.service.rulings import PLUGINS_PARAMETERS, Rulings
from aitbc.modules.trading.api import TradingApi

module = Module(
    name="plugins",
    api=PluginsApi,
    service=PluginsService,
    metadata=Base.metadata,
    routes=(
        PluginNamespaceController,
        PluginVersionController,
        PluginCatalogueController,
        PluginLicenceController,
        PluginInstallController,
        PluginRulingController,
        PluginRouteController,
    ),
    needs={"trading": TradingApi},
    handles={PluginRuled: PluginsService.on_plugins_ruled},
    parts={
        "plugin_namespaces": Namespaces,
        "plugin_releases": Releases,
        "plugin_catalogue": Catalogue,
        "plugin_reviews": Reviews,
        "plugin_licences": Licences,
        "plugin_installs": Installs,
        "plugin_figures": Figures,
        "plugin_rulings": Rulings,
        "plugin_routes": PluginRoutes,
    },
    scopes={"live": ("plugins:read", "plugins:write")},
    parameters=(*PLUGINS_PARAMETERS, FETCHES_PARAMETER),
    legacy=(LegacyHealth, LegacyPlugins),
    periodic_tasks=(
        PeriodicTask(run=PluginsService.look_at_versions, every_seconds=1.0),
        PeriodicTask(run=PluginsService.reconcile_licences, every_seconds=30.0),
        PeriodicTask(run=PluginsService.reconcile_installs, every_seconds=10.0),
        PeriodicTask(run=PluginsService.purge, every_seconds=3600.0),
    ),
)
