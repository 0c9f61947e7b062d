"""What can be done with plugins."""

from aitbc.modules.plugins.service.service import PluginsService

__all__ = ["PluginsService"]
