"""The plugins module, as the app mounts it."""

from aitbc.kernel.module import Module, PeriodicTask
from aitbc.modules.plugins.api import PluginsApi
from aitbc.modules.plugins.legacy.plugins import LegacyHealth, LegacyPlugins
from aitbc.modules.plugins.models.tables import Base
from aitbc.modules.plugins.routes.catalogue import PluginCatalogueController
from aitbc.modules.plugins.routes.installs import PluginInstallController
from aitbc.modules.plugins.routes.licences import PluginLicenceController
from aitbc.modules.plugins.routes.publishing import PluginNamespaceController, PluginVersionController
from aitbc.modules.plugins.service import PluginsService
from aitbc.modules.plugins.service.catalogue import Catalogue
from aitbc.modules.plugins.service.figures import Figures
from aitbc.modules.plugins.service.installs import Installs
from aitbc.modules.plugins.service.licences import Licences
from aitbc.modules.plugins.service.namespaces import Namespaces
from aitbc.modules.plugins.service.releases import Releases
from aitbc.modules.plugins.service.reviews import Reviews
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
    ),
    needs={"trading": TradingApi},
    parts={
        "plugin_namespaces": Namespaces,
        "plugin_releases": Releases,
        "plugin_catalogue": Catalogue,
        "plugin_reviews": Reviews,
        "plugin_licences": Licences,
        "plugin_installs": Installs,
        "plugin_figures": Figures,
    },
    scopes={"live": ("plugins:read", "plugins:write")},
    legacy=(LegacyHealth, LegacyPlugins),
    periodic_tasks=(
        PeriodicTask(run=PluginsService.look_at_versions, every_seconds=1.0),
        PeriodicTask(run=PluginsService.reconcile_licences, every_seconds=30.0),
        PeriodicTask(run=PluginsService.reconcile_installs, every_seconds=10.0),
        PeriodicTask(run=PluginsService.purge, every_seconds=3600.0),
    ),
)
